"""A live instrument on the wire: plays recordings as if they were being acquired. The shell of the simulator.

Publishes session start, spectra, gaps and session end, and answers late joiners with the session and its newest spectra.
Each pass over a recording is a session of its own: a loop's seam is no measurement, so no window may span it.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, ClassVar

import zmq
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from acquisition_sim.pacing import Pacing
from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.io import clock
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.recordings import Recording
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    INSTRUMENT_PUBLISH,
    INSTRUMENT_SNAPSHOT,
    LINGER_MS,
    Endpoint,
    Readers,
    bound_endpoint,
    publisher,
    snapshot_server,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import WireError, decode_snapshot_request, encode, encode_snapshot
from eelstm_stream.wire.messages import (
    MAX_SNAPSHOT_SPECTRA,
    MAX_TEXT,
    Gap,
    InstrumentName,
    Message,
    Payload,
    SessionEnd,
    SessionStart,
    Spectrum,
)

PATIENT_LINGER_MS = 60_000
LOOK_UP_EVERY = 16  # spectra sent at full speed between two looks at the other sockets


def _sendable(text: str) -> str:
    """A file's name, or what it says of its specimen, as a header takes it: no lone surrogates, and not too long."""
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]


def _speed(value: object) -> object:
    return None if value == "max" else value


class SimSettings(Settings):
    """Settings of `eelstm sim run` and `eelstm sim replay`, table `[sim]`."""

    TABLE: ClassVar[str] = "sim"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="name in every topic")
    publish: Endpoint = Field(INSTRUMENT_PUBLISH, description="where to publish")
    snapshot: Endpoint = Field(INSTRUMENT_SNAPSHOT, description="where to answer late joiners")
    # Bounds that keep deadlines within the clock's nanoseconds.
    speed: Annotated[Annotated[PositiveFloat, Field(ge=1e-6, le=1e6)] | None, BeforeValidator(_speed)] = Field(
        1.0, description="times real time, or max"
    )
    wait_readers: int = Field(0, ge=0, le=100, description="start once this many readers have subscribed to spectra")
    spectra: PositiveInt | None = Field(None, description="end after this many spectra")
    seconds: Annotated[PositiveFloat, Field(le=1e8)] | None = Field(None, description="end after this time, s")


class LiveInstrument:
    """An instrument that plays recordings."""

    def __init__(self, settings: SimSettings, stop: Stop, *, as_json: bool = False) -> None:
        """Bind. Raises EelstmError where a port is taken; nothing is left bound then."""
        self._settings = settings
        self._stop = stop
        self._as_json = as_json
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._out = publisher(self._context, settings.publish, wait_for_readers=settings.speed is None)
            self._snapshots = snapshot_server(self._context, settings.snapshot)
        except Exception:
            self._context.destroy(linger=0)
            raise
        self._poller = zmq.Poller()
        for socket in (self._out, self._snapshots):
            self._poller.register(socket, zmq.POLLIN)
        stop.register(self._poller)
        self._readers = Readers(settings.instrument)
        self._session_start: list[bytes] | None = None  # encoded, for late joiners, while a session lasts
        self._newest: deque[list[bytes]] = deque(maxlen=MAX_SNAPSHOT_SPECTRA)
        self._sent_spectra = 0
        self._ends_ns: int | None = None

    def play(self, recordings: Iterable[Recording]) -> int:
        """Play recordings one after the other, each as a session, until they or the limits of the settings end.

        Returns the number of spectra published. Sockets are closed at the end, with the last messages sent.
        """
        try:
            ready("sim", self._as_json, publish=bound_endpoint(self._out), snapshot=bound_endpoint(self._snapshots))
            self._wait_for_readers()
            if self._settings.seconds is not None:
                self._ends_ns = clock.monotonic_ns() + round(self._settings.seconds * 1e9)
            for recording in recordings:
                if self._is_over():
                    break
                self._play_session(recording)
            say("sim", f"ended after {self._sent_spectra} spectra")
            return self._sent_spectra
        finally:
            # A replay that waits for its readers lets them take what is queued, unless it was told to stop.
            patient = self._settings.speed is None and not self._stop.requested
            self._context.destroy(linger=PATIENT_LINGER_MS if patient else LINGER_MS)

    def _is_over(self) -> bool:
        enough = self._settings.spectra is not None and self._sent_spectra >= self._settings.spectra
        late = self._ends_ns is not None and clock.monotonic_ns() >= self._ends_ns
        return enough or late or self._stop.requested

    def _play_session(self, recording: Recording) -> None:
        session = uuid.uuid4().hex[:16]
        started_at = clock.utc_now()
        frames = len(recording.counts)
        period_s = float(recording.dwell_s[0])
        self._newest.clear()
        start = SessionStart(
            session=session,
            seq=0,
            sent_mono_ns=clock.monotonic_ns(),
            instrument=self._settings.instrument,
            source="simulation" if recording.simulated else "replay",
            source_name=_sendable(recording.name),
            specimen=_sendable(recording.specimen),
            energy_axis=recording.energy_axis,
            dwell_s=period_s,
            beam_energy_keV=recording.beam_energy_keV,
            beam_current_pA=None if recording.beam_current_pA is None else float(recording.beam_current_pA[0]),
            convergence_mrad=recording.convergence_mrad,
            collection_mrad=recording.collection_mrad,
            dose_is_relative=recording.beam_current_pA is None,
            expected_spectra=frames,
            started_at=started_at,
            clock_id=clock.clock_id(),
        )
        self._session_start = encode(self._settings.instrument, start)
        self._send(self._session_start)

        pacing = Pacing(clock.monotonic_ns(), recording.dwell_s, self._settings.speed)
        frame = published = 0
        announcements = 1
        while frame < frames and not self._is_over():
            self._wait_for(pacing.deadline_ns(frame), frame)
            if self._is_over():
                break
            in_time = min(pacing.first_frame_in_time(frame, clock.monotonic_ns()), frames)
            if in_time > frame:
                reason = "the simulator was held up, and the instrument's time went on"
                gap = Gap(
                    session=session,
                    seq=announcements,
                    sent_mono_ns=clock.monotonic_ns(),
                    first_seq=frame,
                    last_seq=in_time - 1,
                    reason=reason,
                )
                self._publish(gap)
                announcements += 1
                frame = in_time
                continue
            self._publish_spectrum(recording, session, frame, started_at + timedelta(seconds=pacing.begins_s(frame)))
            frame += 1
            published += 1
        self._session_start = None
        self._publish(
            SessionEnd(
                session=session,
                seq=announcements,
                sent_mono_ns=clock.monotonic_ns(),
                reason="finished" if frame >= frames else "stopped",
                spectra=published,
            )
        )

    def _publish_spectrum(self, recording: Recording, session: str, frame: int, acquired_at: datetime) -> None:
        dwell_s = float(recording.dwell_s[frame])
        current_pA = None if recording.beam_current_pA is None else float(recording.beam_current_pA[frame])
        spectrum = Spectrum(
            session=session,
            seq=frame,
            sent_mono_ns=clock.monotonic_ns(),
            dtype="<f4",
            shape=(recording.energy_axis.size,),
            dwell_s=dwell_s,
            beam_current_pA=current_pA,
            dose_pC=None if current_pA is None else frame_dose_pC(current_pA, dwell_s),
            acquired_at=acquired_at,
            acquired_until=acquired_at + timedelta(seconds=dwell_s),
        )
        self._newest.append(self._publish(spectrum, recording.counts[frame]))
        self._sent_spectra += 1

    # Time and sockets

    def _wait_for_readers(self) -> None:
        while self._readers.of("spectrum") < self._settings.wait_readers and not self._stop.requested:
            self._look_up(1000)

    def _wait_for(self, deadline_ns: int | None, frame: int) -> None:
        """Serve the other sockets until the deadline, or the end if that is sooner; at full speed only now and then."""
        if deadline_ns is None:
            if frame % LOOK_UP_EVERY == 0:
                self._look_up(0)
            return
        if self._ends_ns is not None:
            deadline_ns = min(deadline_ns, self._ends_ns)
        while not self._stop.requested:
            remaining_ns = deadline_ns - clock.monotonic_ns()
            if remaining_ns < 2_000_000:
                self._look_up(0)
                self._stop.wait((deadline_ns - clock.monotonic_ns()) / 1e9)  # zmq polls to the millisecond only
                return
            self._look_up(remaining_ns // 1_000_000 - 1)

    def _look_up(self, timeout_ms: int) -> None:
        arrived = dict(self._poller.poll(timeout_ms))
        if self._stop.check(arrived):
            return
        if self._out in arrived:
            self._readers.count(self._out.recv())
        if self._snapshots in arrived:
            self._answer_late_joiner(self._snapshots.recv_multipart())

    def _answer_late_joiner(self, frames: list[bytes]) -> None:
        identity, *request = frames
        try:
            wanted = decode_snapshot_request(request).spectra
            known = [] if self._session_start is None else [self._session_start]
            newest = list(self._newest)[-wanted:] if known and wanted else []
            answer = encode_snapshot([*known, *newest])
        except WireError as error:
            answer = encode_snapshot([], refused=str(error))
        try:
            self._snapshots.send_multipart([identity, *answer])
        except zmq.ZMQError:
            return  # the asker has gone, or does not read: its loss

    def _publish(self, message: Message, payload: Payload | None = None) -> list[bytes]:
        frames = encode(self._settings.instrument, message, payload)
        self._send(frames)
        return frames

    def _send(self, frames: list[bytes]) -> None:
        """Send; at full speed, wait for the slowest reader, yet still end when asked to."""
        while True:
            try:
                self._out.send_multipart(frames)
            except zmq.Again:
                self._look_up(0)
                if self._stop.requested:
                    return
            else:
                return
