"""What every live instrument of the simulator shares: its settings, its sockets, and sessions one after the other. A shell.

`replaying.py` plays recordings as they are, `live.py` flies an instrument that has a specimen, or a recording, under its beam.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from acquisition_sim.faults.script import NO_FAULTS, FaultScript
from acquisition_sim.faults.stream import FaultyStream
from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.io import clock
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.instrument_server import InstrumentServer
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    INSTRUMENT_COMMAND,
    INSTRUMENT_PUBLISH,
    INSTRUMENT_SNAPSHOT,
    Endpoint,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.messages import (
    MAX_TEXT,
    Acknowledgement,
    BeamReport,
    Gap,
    InstrumentName,
    InstrumentStatus,
    Message,
    Payload,
    SessionEnd,
    SessionStart,
    Spectrum,
)

STATUS_EVERY_S = 1.0
HELD_UP = "the simulator was held up, and the instrument's time went on"


def sendable(text: str) -> str:
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
    command: Endpoint = Field(INSTRUMENT_COMMAND, description="where to take commands, if it takes any")
    # Bounds that keep deadlines within the clock's nanoseconds.
    speed: Annotated[Annotated[PositiveFloat, Field(ge=1e-6, le=1e6)] | None, BeforeValidator(_speed)] = Field(
        1.0, description="times real time, or max"
    )
    wait_readers: int = Field(0, ge=0, le=100, description="start once this many readers have subscribed to spectra")
    spectra: PositiveInt | None = Field(None, description="end after this many spectra")
    faults: Path | None = Field(None, description="script of faults, TOML")
    seconds: Annotated[PositiveFloat, Field(le=1e8)] | None = Field(None, description="end after this time, s")


T = TypeVar("T")  # what a session plays


class Player(ABC, Generic[T]):
    """An instrument on the wire, whose sessions follow each other. Each is a clean start: no window may span two."""

    def __init__(
        self,
        settings: SimSettings,
        stop: Stop,
        *,
        as_json: bool = False,
        obeys: bool = False,
        faults: FaultScript = NO_FAULTS,
    ) -> None:
        """Bind. faults: of every session, fitted to it. Raises EelstmError where a port is taken; nothing is left bound then."""
        self._settings = settings
        self._stop = stop
        self._as_json = as_json
        self._obeys = obeys
        self._server = InstrumentServer(
            settings.instrument,
            stop,
            publish=settings.publish,
            snapshot=settings.snapshot,
            command=settings.command if obeys else None,
            wait_for_readers=settings.speed is None,
        )
        self._script = faults
        self._faults = FaultyStream(faults)
        if faults.faults:
            self._server.on_the_way = self._through_faults
        self._session = ""
        self._session_s = 0.0  # the instrument's time, s since the session began
        self._started_at = clock.utc_now()
        self._sent = {"session": 0, "status": 0}  # messages of these kinds in this session: their seq
        self._sent_spectra = 0  # over all sessions
        self._ends_ns: int | None = None
        self._status_due_ns = 0
        self._accepted = self._refused = 0

    def play(self, sessions: Iterable[T]) -> int:
        """Play sessions until they or the limits of the settings end.

        Returns the number of spectra published. Sockets are closed at the end, with the last messages sent.
        """
        try:
            ready("sim", self._as_json, **self._server.endpoints)
            while self._server.readers.of("spectrum") < self._settings.wait_readers and not self._stop.requested:
                self._server.look(1000)
                self._refuse_without_session()
            if self._settings.seconds is not None:
                self._ends_ns = clock.monotonic_ns() + round(self._settings.seconds * 1e9)
            for session in sessions:
                if self._is_over():
                    break
                self._faults = FaultyStream(self._script)
                self._play_session(session)
            say("sim", f"ended after {self._sent_spectra} spectra")
            return self._sent_spectra
        finally:
            self._server.close()

    @abstractmethod
    def _play_session(self, played: T) -> None:
        """One session, from its start to its end."""

    def _is_over(self) -> bool:
        enough = self._settings.spectra is not None and self._sent_spectra >= self._settings.spectra
        late = self._ends_ns is not None and clock.monotonic_ns() >= self._ends_ns
        return enough or late or self._stop.requested

    # Messages

    def _through_faults(self, message: Message, frames: list[bytes]) -> list[tuple[Message | None, list[bytes]]]:
        sent = self._faults.take(message, frames, self._session_s)
        for line in self._faults.begun():
            say("sim", line)
        return [(one.message if one.remembered else None, one.frames) for one in sent]

    def _envelope(self, kind: str) -> dict[str, Any]:
        """Session, number and time of a message that is not a spectrum."""
        seq = self._sent[kind]
        self._sent[kind] += 1
        return {"session": self._session, "seq": seq, "sent_mono_ns": clock.monotonic_ns()}

    def _begin(self, **context: Any) -> None:
        """Publish the start of a session. context: what its message says beyond what every session says."""
        self._session = uuid.uuid4().hex[:16]
        self._session_s = 0.0
        self._started_at = clock.utc_now()
        self._sent = {"session": 0, "status": 0}
        self._status_due_ns = 0
        self._server.publish(
            SessionStart(
                **self._envelope("session"),
                instrument=self._settings.instrument,
                started_at=self._started_at,
                clock_id=clock.clock_id(),
                **context,
            )
        )

    def _publish_spectrum(
        self,
        seq: int,
        counts: Payload,
        *,
        began_s: float,
        dwell_s: float,
        current_pA: float | None,
        dose_before_pC: float | None = None,
    ) -> None:
        """began_s: start of exposure, by the instrument's time, s since the start of the session."""
        self._session_s = began_s + dwell_s
        acquired_at = self._started_at + timedelta(seconds=began_s)
        spectrum = Spectrum(
            session=self._session,
            seq=seq,
            sent_mono_ns=clock.monotonic_ns(),
            dtype="<f4",
            shape=(len(counts),),
            dwell_s=dwell_s,
            beam_current_pA=current_pA,
            dose_pC=None if current_pA is None else frame_dose_pC(current_pA, dwell_s),
            dose_before_pC=dose_before_pC,
            acquired_at=acquired_at,
            acquired_until=acquired_at + timedelta(seconds=dwell_s),
        )
        self._server.publish(spectrum, counts)
        self._sent_spectra += 1

    def _publish_gap(self, first_seq: int, last_seq: int, reason: str) -> None:
        gap = Gap(**self._envelope("session"), first_seq=first_seq, last_seq=last_seq, reason=reason)
        self._server.publish(gap)

    def _publish_status(self, text: str, beam: BeamReport | None = None, notes: tuple[str, ...] = ()) -> None:
        self._status_due_ns = clock.monotonic_ns() + round(STATUS_EVERY_S * 1e9)
        self._server.publish(
            InstrumentStatus(
                **self._envelope("status"),
                sender="simulator",
                state="blanked" if beam is not None and beam.readback.blanked else "exposing",
                text=sendable(text),
                clock_id=clock.clock_id(),
                obeys=self._obeys,
                beam=beam,
                accepted=self._accepted,
                refused=self._refused,
                notes=(*notes, sendable(f"FAULTS BY SCRIPT: {self._script.name}")) if self._script.faults else notes,
            )
        )

    def _end(self, *, finished: bool, spectra: int) -> None:
        end = SessionEnd(**self._envelope("session"), reason="finished" if finished else "stopped", spectra=spectra)
        self._server.publish(end)

    def _refuse_without_session(self) -> None:
        for received in self._server.commands():
            self._refused += 1
            refusal = Acknowledgement(
                session=received.session,
                seq=received.seq,
                sent_mono_ns=clock.monotonic_ns(),
                clock_id=clock.clock_id(),
                outcome="refused",
                limit="session" if received.command else "malformed",
                reason=received.malformed or "no session is running.",
            )
            self._server.acknowledge(received, refusal)
