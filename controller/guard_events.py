"""What reaches the guard beside the wire's messages, and what the guard has its shell do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eelstm_stream.wire.messages import (
    Acknowledgement,
    Command,
    Decision,
    GuardMode,
    InstrumentStatus,
    OperatorCommand,
    OperatorReply,
    Proposal,
    Readback,
    Seq,
    SessionEnd,
    SessionStart,
)

NO_SESSION = "none"  # on the wire, where no session is known

Action = Literal["proposal", "operator", "guard"]  # what is decided on
Sender = Literal["controller", "instrument", "operator"]
Outcome = Literal["accepted", "clamped", "refused"]

# Events


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of a command. `not_sent` certainly did nothing, `unknown` may have done all that it says."""

    seq: int
    result: Literal["accepted", "refused", "not_sent", "unknown"]
    acknowledgement: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """An entry could not be made durable, and what was to follow it was not done. reason: one sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something came that could not be read. not_finite: because of a NaN or an infinity in it. count: of them, this one the last."""

    sender: Sender
    reason: str
    not_finite: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Stopping:
    """The guard's program ends."""


Event = (
    SessionStart
    | SessionEnd
    | InstrumentStatus
    | Proposal
    | OperatorCommand
    | Acknowledged
    | Tick
    | JournalFailed
    | Malformed
    | Stopping
)

# Effects, to be carried out in their order


@dataclass(frozen=True, slots=True)
class Write:
    """Make this step durable before the next effect. Where that fails: none of the next, and `JournalFailed` comes back."""

    session: str
    lease_until_dose_pC: float
    charged_pC: float


@dataclass(frozen=True, slots=True)
class Send:
    """Command the instrument, once."""

    command: Command


@dataclass(frozen=True, slots=True)
class Decide:
    """Publish a decision. Fields as in `Decision`."""

    session: str | None
    outcome: Outcome
    reason: str
    mode: GuardMode
    spent_dose_pC: float
    budget_dose_pC: float
    action: Action = "proposal"
    limit: str | None = None
    proposal_seq: int | None = None
    dwell_s: float | None = None
    beam_current_pA: float | None = None
    lease_dose_pC: float = 0.0
    lease_s: float = 0.0
    until_dose_pC: float | None = None
    command_seq: int | None = None
    readback: Readback | None = None
    proposal_sent_mono_ns: int | None = None
    decided_mono_ns: int | None = None
    acknowledged_mono_ns: int | None = None

    def message(self, seq: Seq, sent_mono_ns: int) -> Decision:
        """As it's published."""
        said = {name: getattr(self, name) for name in self.__slots__ if name not in ("session", "mode")}
        return Decision(
            session=self.session or NO_SESSION, seq=seq, sent_mono_ns=sent_mono_ns, mode=_mode(self.mode), **said
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the operator whose command this step took in."""

    seq: int | None
    session: str | None
    outcome: Literal["accepted", "refused"]
    reason: str
    mode: GuardMode
    limit: str | None = None
    taken_operator_seq: int | None = None

    def message(self, sent_mono_ns: int, clock_id: str) -> OperatorReply:
        """As it's sent."""
        said = {name: getattr(self, name) for name in self.__slots__ if name != "mode"}
        return OperatorReply(sent_mono_ns=sent_mono_ns, clock_id=clock_id, mode=_mode(self.mode), **said)


@dataclass(frozen=True, slots=True)
class Say:
    """One line for a person, on the guard's terminal."""

    text: str


Effect = Write | Send | Decide | Reply | Say


def _mode(mode: GuardMode) -> GuardMode:
    """A plain string, since the wire's strict models take no subclass of one for a literal."""
    plain: GuardMode = str.__str__(mode)  # type: ignore[assignment]
    return plain
