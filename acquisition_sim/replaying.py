"""Plays recordings as if they were being acquired: with their own timing, faster, or as fast as the slowest reader. A shell."""

from __future__ import annotations

from typing import Any

import numpy as np

from acquisition_sim.faults.script import SessionPlan
from acquisition_sim.pacing import Pacing
from acquisition_sim.simd import HELD_UP, Player, SimSettings, sendable
from eelstm_stream.io import clock
from eelstm_stream.io.recordings import Recording

LOOK_UP_EVERY = 16  # spectra sent at full speed between two looks at the other sockets


def replay_plan(recording: Recording, settings: SimSettings) -> SessionPlan:
    """What a script of faults may reckon with."""
    ends_s = np.cumsum(recording.dwell_s)[: settings.spectra].tolist()
    return SessionPlan(recording.energy_axis, len(ends_s), ends_s)


class Replay(Player[Recording]):
    """An instrument that plays recordings, each as a session."""

    def _play_session(self, played: Recording) -> None:
        frames = len(played.counts)
        currents = played.beam_current_pA
        context: dict[str, Any] = {
            "source": "simulation" if played.simulated else "replay",
            "source_name": sendable(played.name),
            "specimen": sendable(played.specimen),
            "energy_axis": played.energy_axis,
            "dwell_s": float(played.dwell_s[0]),
            "beam_energy_keV": played.beam_energy_keV,
            "beam_current_pA": None if currents is None else float(currents[0]),
            "convergence_mrad": played.convergence_mrad,
            "collection_mrad": played.collection_mrad,
            "dose_is_relative": currents is None,
        }
        self._begin(**context, expected_spectra=frames)
        first, began_s = 0, 0.0  # frame and time at which the session began: the faults may restart it
        pacing = Pacing(clock.monotonic_ns(), played.dwell_s, self._settings.speed)
        frame = published = 0
        while frame < frames and not self._is_over():
            self._wait_for(pacing.deadline_ns(frame), frame)
            if self._is_over():
                break
            in_time = min(pacing.first_frame_in_time(frame, clock.monotonic_ns()), frames)
            if in_time > frame:
                self._publish_gap(frame - first, in_time - 1 - first, HELD_UP)
                frame = in_time
                continue
            restart = self._faults.restart_frame
            if restart is not None and frame - first >= restart:
                self._faults.restarted(frame - first, pacing.begins_s(frame) - began_s)
                first, began_s, published = frame, pacing.begins_s(frame), 0
                self._begin(**context, expected_spectra=frames - first)
            self._publish_spectrum(
                frame - first,
                played.counts[frame],
                began_s=pacing.begins_s(frame) - began_s,
                dwell_s=float(played.dwell_s[frame]),
                current_pA=None if currents is None else float(currents[frame]),
            )
            frame += 1
            published += 1
        self._end(finished=frame >= frames, spectra=published)

    def _wait_for(self, deadline_ns: int | None, frame: int) -> None:
        """Serve the sockets until the deadline, or the end if that is sooner; at full speed only now and then."""
        if deadline_ns is None:
            if frame % LOOK_UP_EVERY == 0:
                self._server.wait(None)
                self._publish_status_if_due(clock.monotonic_ns())
            return
        until_ns = deadline_ns if self._ends_ns is None else min(deadline_ns, self._ends_ns)
        while not self._stop.requested and (now_ns := clock.monotonic_ns()) < until_ns:
            self._publish_status_if_due(now_ns)
            self._server.wait(min(until_ns, self._status_due_ns))

    def _publish_status_if_due(self, now_ns: int) -> None:
        if now_ns >= self._status_due_ns:
            self._publish_status("plays a recording")
