"""What the guard remembers. Immutable: each step makes another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from controller.guard_orders import Orders
from controller.ledger import Ledger
from controller.limits import Bounds, Broken, Limits, Rate
from controller.modes import Mode
from eelstm_stream.wire.messages import BeamReport, Command, Proposal

SESSIONS_REMEMBERED = 32  # that were followed before: one that speaks again is another instrument of the same name


@dataclass(frozen=True, slots=True)
class Pending:
    """A command that has left, or is about to, and has no answer yet."""

    command: Command
    sent_ns: int
    current_before_pA: float  # from which the slew is counted, should this one not have acted
    rate: Rate | None = None  # None: it blanks
    action: Literal["proposal", "operator", "guard"] = "guard"
    proposal: Proposal | None = None
    clamped: Broken | None = None
    lease_dose_pC: float = 0.0


@dataclass(frozen=True, slots=True)
class GuardState:
    """Times are ns by the guard's monotonic clock, but for those that say `instrument`."""

    limits: Limits
    clock_id: str  # names the guard's clock, by which proposals and operator's commands expire
    ledger: Ledger
    approve_each: bool = False
    mode: Mode = Mode.DISARMED
    latched_by: str | None = None

    # The instrument's session
    session: str | None = None
    bounds: Bounds | None = None
    unfit: Broken | None = None  # why the session can't be controlled
    earlier_sessions: tuple[str, ...] = ()
    heard_ns: int | None = None  # when something of this session came last
    instrument_ns: int | None = None  # newest time of the instrument's clock that was heard, at `instrument_heard_ns`
    instrument_heard_ns: int = 0
    source_lost: bool = False  # it has been silent, and an operator has not armed since

    # Its beam
    beam: BeamReport | None = None
    beam_instrument_ns: int = 0
    beam_heard_ns: int = 0
    beam_ended: bool = False  # with its session
    may_be_on: bool = False
    let_on_instrument_ns: int = 0
    beam_is_off: bool = False  # the instrument has said so since it was commanded last
    may_be_cut: bool = False  # a frame, by a blanking that was ordered: the dose falls then, by what it would have got
    orders: Orders = ()  # that may hold
    others_ordered: bool = False  # rates before this guard spoke, of which it knows nothing, may hold
    lease_ends_ns: int | None = None  # at the latest
    lease_s: float = 0.0
    lease_lasts_ns: int = 0  # all of it, by the guard's clock: the instrument's time may run faster

    # What was commanded
    command_seq: int = -1
    command_expires_instrument_ns: int = 0  # latest
    pending: tuple[Pending, ...] = ()
    current_pA: float | None = None  # ordered last, from which the slew is counted
    ordered_ns: int = 0
    blank_sent_ns: int | None = None
    override: Rate | None = None

    # Who has spoken
    proposal_seq: int | None = None
    operator_seq: int | None = None
    admitted_ns: int = 0  # when a proposal was admitted last, or an operator armed
    awaiting: Proposal | None = None
    awaiting_since_ns: int = 0

    # Counts of this session
    accepted: int = 0
    clamped: int = 0
    refused: int = 0
    refused_by: tuple[tuple[str, int], ...] = field(default=())


def start(
    limits: Limits,
    ledger: Ledger,
    *,
    clock_id: str,
    now_ns: int,
    approve_each: bool = False,
    proposal_seq: int | None = None,
    operator_seq: int | None = None,
) -> GuardState:
    """A guard that begins, disarmed. The numbers are those that were used before in the ledger's session."""
    return GuardState(
        limits,
        clock_id,
        ledger,
        approve_each=approve_each,
        proposal_seq=proposal_seq,
        operator_seq=operator_seq,
        ordered_ns=now_ns,
        admitted_ns=now_ns,
    )
