"""Flies an instrument on the wire: time and commands go in, spectra and acknowledgements come out. A shell.

All decisions are in `instrument.py`. Here the clock is read and multiplied by the speed, frames that have ended are exposed in
blocks, since those are faster, and what has waited for too long is said to be lost. Of the faults by script, the restart and
the commands that are obeyed otherwise than ordered are done here; the others are on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from acquisition_sim import instrument
from acquisition_sim.beam import lets_on
from acquisition_sim.beam_report import report
from acquisition_sim.instrument import (
    Blanked,
    Event,
    Frame,
    InstrumentParameters,
    InstrumentState,
    Rested,
    Taken,
    Unread,
)
from acquisition_sim.pacing import MAX_LAG_S
from acquisition_sim.simd import HELD_UP, Player
from acquisition_sim.under_the_beam import UnderTheBeam
from eelstm_stream.core.command_gate import Refused
from eelstm_stream.io import clock
from eelstm_stream.io.announce import say
from eelstm_stream.io.instrument_server import Received
from eelstm_stream.wire.messages import Acknowledgement, CommandLimits

BLOCK = 32  # events acted on together: as many frames as the microscope works on at once


@dataclass(frozen=True, slots=True)
class Flight:
    """One session: an instrument, what is under its beam, and what the session's start says of the two."""

    parameters: InstrumentParameters
    under_the_beam: UnderTheBeam
    context: Mapping[str, Any]


class Live(Player[Flight]):
    """An instrument with a specimen, or a recording, under its beam."""

    _flight: Flight
    _ahead: InstrumentParameters  # of what is left of the session
    _parameters: InstrumentParameters  # the same, up to the next restart, if the script of faults has one
    _state: InstrumentState

    def _play_session(self, played: Flight) -> None:
        self._flight = played
        frames, left = played.parameters.frames, self._spectra_left()
        short = left is not None and (frames is None or left < frames)
        self._ahead = replace(played.parameters, frames=left if short else frames)
        self._notes: tuple[str, ...] = ()  # that were said on the terminal
        self._lost: tuple[int, int] | None = None  # first and last frame of those that nobody was told of yet
        self._begin_session(frames, clock.monotonic_ns())
        while not self._is_over():
            if self._restarts_now:
                self._restart()
            elif self._state.over:
                break
            self._server.wait(self._wakes_ns())
            if self._stop.requested:
                break
            changed = self._advance()
            changed = self._obey() or changed
            if changed or clock.monotonic_ns() >= self._status_due_ns:
                self._say_status()
        self._say_lost()
        cut_short = short and self._spectra_left() == 0
        self._end(finished=self._state.over and not cut_short, spectra=self._published)

    def _begin_session(self, expected: int | None, now_ns: int) -> None:
        """The instrument is switched on, at a time by the monotonic clock."""
        restart = self._faults.restart_frame
        self._parameters = self._ahead if restart is None else replace(self._ahead, frames=restart)
        self._begin(**self._flight.context, expected_spectra=expected, commands=self._limits())
        self._started_ns = now_ns
        self._published = 0
        self._state = instrument.start(self._parameters, self._session)

    @property
    def _restarts_now(self) -> bool:
        frame, at_ns, state = self._faults.restart_frame, self._restart_ns, self._state
        is_frame = frame is not None and state.over and state.next_seq >= frame
        return is_frame or (at_ns is not None and not state.over and state.now_ns >= at_ns)

    @property
    def _restart_ns(self) -> int | None:
        at_s = self._faults.restart_s
        return None if at_s is None else round(at_s * 1e9)

    def _restart(self) -> None:
        """Switched off and on again, by the script of faults: a frame in progress is lost, and the specimen stays as it is."""
        self._say_lost()
        state, frame = self._state, self._state.frame
        current_pA = state.beam.probe_current_pA if frame is None else frame.current_pA
        since_s = (state.now_ns - state.since_ns) / 1e9
        self._flight.under_the_beam.pass_over(since_s, current_pA)
        taken = state.next_seq if frame is None else frame.seq
        self._ahead = replace(
            self._ahead,
            frames=None if self._ahead.frames is None else self._ahead.frames - taken,
            dose_pC=self._ahead.dose_pC - state.dose_pC - since_s * current_pA,
        )
        self._faults.restarted(taken, state.now_ns / 1e9)
        self._begin_session(self._ahead.frames, self._mono_ns(state.now_ns) or clock.monotonic_ns())

    def _spectra_left(self) -> int | None:
        return None if self._settings.spectra is None else self._settings.spectra - self._sent_spectra

    def _limits(self) -> CommandLimits | None:
        beam = self._parameters.beam
        if not self._parameters.obeys:
            return None
        current_is_known = self._parameters.current_is_known
        return CommandLimits(
            min_dwell_s=beam.min_dwell_s,
            max_dwell_s=beam.max_dwell_s,
            min_current_pA=beam.min_current_pA if current_is_known else None,
            max_current_pA=beam.max_current_pA if current_is_known else None,
            max_lease_s=beam.max_lease_s,
            delay_frames=beam.delay_frames,
            delay_s=beam.delay_s,
            blank_delay_s=beam.blank_delay_s,
        )

    # Time

    def _mono_ns(self, at_ns: int) -> int | None:
        """The instrument's time by the monotonic clock; None where there's no clock."""
        speed = self._settings.speed
        return None if speed is None else self._started_ns + round(at_ns / speed)

    def _wakes_ns(self) -> int | None:
        """When to look at the instrument next, by the monotonic clock; None: at once."""
        if self._settings.speed is None:
            return None
        times = [self._status_due_ns, self._ends_ns]
        times += [
            self._mono_ns(at_ns) for at_ns in (instrument.next_ns(self._state), self._restart_ns) if at_ns is not None
        ]
        return min(time for time in times if time is not None)

    def _advance(self) -> bool:
        """Bring the instrument towards the present, and send what it has taken. Whether the beam went on or off.

        A block of frames at most: one that can't keep up must still hear what it is told.
        """
        to_ns, speed = instrument.FOREVER.ends_ns, self._settings.speed
        if speed is not None:
            to_ns = round((clock.monotonic_ns() - self._started_ns) * speed)
        if self._restart_ns is not None:
            to_ns = min(to_ns, self._restart_ns)
        self._state, events = instrument.advance(self._state, self._parameters, to_ns, BLOCK)
        self._act_on(events, to_ns)
        self._session_s = self._state.now_ns / 1e9
        if len(events) < BLOCK:
            self._say_lost()
        return not all(isinstance(event, Taken) for event in events)

    def _act_on(self, events: list[Event], now_ns: int) -> None:
        """Expose and publish what has been, in its order."""
        frames: list[Frame] = []
        under = self._flight.under_the_beam
        for event in events:
            if isinstance(event, Taken):
                frames.append(event.frame)
                continue
            self._publish_taken(frames, now_ns)
            frames = []
            match event:
                case Unread(began_ns, ended_ns, current_pA, lost_seq):
                    under.pass_over((ended_ns - began_ns) / 1e9, current_pA)
                    if lost_seq is not None:
                        self._say_lost()
                        self._publish_gap(lost_seq, lost_seq, "the beam was blanked during this frame")
                case Rested(began_ns, ended_ns):
                    under.pass_over((ended_ns - began_ns) / 1e9, 0.0)
                case Blanked():
                    pass
        self._publish_taken(frames, now_ns)

    def _publish_taken(self, frames: list[Frame], now_ns: int) -> None:
        """Expose frames and publish their spectra, but for those that have waited for too long."""
        late = 0 if self._settings.speed is None else sum(self._is_late(frame, now_ns) for frame in frames)
        for current_pA, passed in groupby(frames[:late], key=lambda frame: frame.current_pA):
            self._flight.under_the_beam.pass_over(sum(frame.dwell_s for frame in passed), current_pA)
        if late:
            first_seq = frames[0].seq if self._lost is None else self._lost[0]
            self._lost = first_seq, frames[late - 1].seq
        if not (frames := frames[late:]):
            return
        self._say_lost()
        counts = self._flight.under_the_beam.expose([f.dwell_s for f in frames], [f.current_pA for f in frames])
        current_is_known = self._parameters.current_is_known
        with self._server.together():
            for frame, spectrum in zip(frames, counts, strict=True):
                self._publish_spectrum(
                    frame.seq,
                    spectrum,
                    began_s=frame.began_ns / 1e9,
                    dwell_s=frame.dwell_s,
                    current_pA=frame.current_pA if current_is_known else None,
                    dose_before_pC=frame.dose_before_pC if current_is_known else None,
                )
        self._published += len(frames)

    def _is_late(self, frame: Frame, now_ns: int) -> bool:
        assert self._settings.speed is not None  # noqa: S101 - without a clock, nothing is late
        return now_ns - frame.ends_ns > MAX_LAG_S * 1e9 * self._settings.speed

    def _say_lost(self) -> None:
        if self._lost is not None:
            self._publish_gap(*self._lost, HELD_UP)
            self._lost = None

    # Commands

    def _obey(self) -> bool:
        """Take the commands that have come, and answer each. Whether one was accepted."""
        accepted = False
        for received in self._server.commands():
            refused = self._take(received)
            accepted = accepted or refused is None
            self._server.acknowledge(received, self._acknowledgement(received, refused))
        return accepted

    def _take(self, received: Received) -> Refused | None:
        if received.command is None:
            refused: Refused | None = Refused("malformed", received.malformed)
        else:
            heard = self._faults.misheard(received.command, self._state.next_seq, self._session_s)
            self._state, refused = instrument.command(
                self._state, self._parameters, heard, mono_ns=clock.monotonic_ns()
            )
        self._accepted += refused is None
        self._refused += refused is not None
        return refused

    def _acknowledgement(self, received: Received, refused: Refused | None) -> Acknowledgement:
        return Acknowledgement(
            session=received.session,
            seq=received.seq,
            running_session=self._session,
            sent_mono_ns=clock.monotonic_ns(),
            clock_id=clock.clock_id(),
            outcome="accepted" if refused is None else "refused",
            limit=None if refused is None else refused.limit,
            reason="" if refused is None else refused.reason,
            beam=report(self._state, self._parameters, ends_mono_ns=self._lease_ends_mono_ns()),
        )

    def _lease_ends_mono_ns(self) -> int | None:
        return None if self._state.lease is None else self._mono_ns(self._state.lease.ends_ns)

    def _say_status(self) -> None:
        notes = self._flight.under_the_beam.notes
        for note in notes[len(self._notes) :]:
            say("sim", note)
        self._notes = notes
        beam = self._state.beam
        said = f"the beam is on: {beam.dwell_s:g} s a frame"
        if beam.blanked:
            said = f"the beam is blanked: {self._state.why_blanked}"
        if beam.blanked and lets_on(beam):
            said = "the beam is blanked, and will be on once all that was ordered holds"
        shown = report(self._state, self._parameters, ends_mono_ns=self._lease_ends_mono_ns())
        self._publish_status(said, shown, notes)
