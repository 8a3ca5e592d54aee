"""What reaches the controller beside the wire's messages, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from eelstm_stream.wire.messages import (
    Decision,
    Gap,
    GuardStatus,
    InstrumentStatus,
    PresetName,
    Proposal,
    SessionEnd,
    SessionStart,
    Status,
    Summary,
)

ControllerStateName = Literal[
    "waiting", "learning", "controlling", "advising", "fallback", "blanking", "refused", "ended"
]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something came that could not be read: a forecast with a NaN in it, among others."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Forecasts that came while the controller was busy, and that a newer one followed."""

    forecasts: int


Event = (
    SessionStart
    | SessionEnd
    | Gap
    | InstrumentStatus
    | GuardStatus
    | Decision
    | Status
    | Summary
    | Malformed
    | Skipped
    | Tick
)


@dataclass(frozen=True, slots=True)
class Propose:
    """A proposal, but for its number and the time at which it's sent. Fields as in `Proposal`."""

    session: str
    from_seq: int
    preset: PresetName
    blank: bool
    dwell_s: float
    beam_current_pA: float
    lease_s: float
    expires_mono_ns: int
    clock_id: str
    reason: str
    spectrum_sent_mono_ns: int | None = None
    plan_dose_pC: tuple[float, ...] = ()
    plan_dwell_s: tuple[float, ...] = ()
    plan_phase: tuple[float, ...] = ()

    def message(self, seq: int, sent_mono_ns: int) -> Proposal:
        """As it's published."""
        said: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return Proposal(seq=seq, sent_mono_ns=sent_mono_ns, **said)


@dataclass(frozen=True, slots=True)
class AskForSession:
    """A session is spoken of whose start wasn't heard: ask the instrument for it."""


@dataclass(frozen=True, slots=True)
class Say:
    """One line for a person, on the controller's terminal."""

    text: str


Output = Propose | AskForSession | Say
