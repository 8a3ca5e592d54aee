"""What an entry of the guard's journal says: events as they came, effects as they were decided, and what a restart must know."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from controller.guard_events import (
    Acknowledged,
    Decide,
    Effect,
    Event,
    JournalFailed,
    Malformed,
    Reply,
    Say,
    Send,
    Stopping,
    Tick,
    Write,
)
from controller.guard_readback import MOST_DOSE_PC
from controller.guard_state import GuardState, start
from controller.ledger import Ledger
from controller.limits import Limits
from eelstm_stream.wire.messages import InstrumentStatus, OperatorCommand, Proposal, SessionEnd, SessionStart

_EVENTS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (
        SessionStart, SessionEnd, InstrumentStatus, Proposal, OperatorCommand,
        Acknowledged, Tick, JournalFailed, Malformed, Stopping,
    )
}  # fmt: skip
_EFFECTS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in (Write, Send, Decide, Reply, Say)}


@dataclass(frozen=True, slots=True)
class Marks:
    """What a guard that starts anew must know of the one before."""

    closed_pC: float
    session: str | None
    granted_pC: float
    reported_pC: float
    proposal_seq: int | None
    operator_seq: int | None
    next_lease_pC: float = 0.0  # the most that one more lease can charge: should its entry be lost


def marks(state: GuardState) -> Marks:
    """Of a state."""
    ledger = state.ledger
    return Marks(
        ledger.closed_pC,
        ledger.session,
        ledger.granted_pC,
        ledger.reported_pC,
        state.proposal_seq,
        state.operator_seq,
        _next_lease_pC(state),
    )


def _next_lease_pC(state: GuardState) -> float:
    """At the highest current that the guard allows or the instrument may have, for the longest lease, and until the blanker has moved."""
    limits, bounds = state.limits, state.bounds
    worst_pA, delay_s = limits.max_current_pA, 0.0
    if bounds is not None:
        worst_pA, delay_s = max(worst_pA, bounds.instrument_pA), bounds.blank_delay_s
    if state.beam is not None:
        worst_pA = max(worst_pA, state.beam.readback.beam_current_pA, state.beam.ordered.beam_current_pA)
    return min(MOST_DOSE_PC, worst_pA * (limits.max_lease_s + limits.command_within_s + delay_s))


def marks_of(state: GuardState) -> dict[str, Any]:
    """As an entry has them, to compare."""
    return asdict(marks(state))


def start_entry(state: GuardState, instrument: str, *, torn: bool) -> dict[str, Any]:
    """The entry with which a guard begins: all that its decisions rest on. torn: an entry of the guard before was lost."""
    return {
        "kind": "start",
        "instrument": instrument,
        "torn": torn,
        "limits": asdict(state.limits),
        "clock_id": state.clock_id,
        "approve_each": state.approve_each,
        "now_ns": state.admitted_ns,
        "marks": asdict(marks(state)),
    }


def started(entry: dict[str, Any]) -> GuardState:
    """The state that such an entry begins with. Raises ValueError, KeyError or TypeError where it is none."""
    return start(
        Limits(**entry["limits"]),
        ledger_of(Marks(**entry["marks"]), entry["limits"]["budget_pC"]),
        clock_id=entry["clock_id"],
        now_ns=entry["now_ns"],
        approve_each=entry["approve_each"],
        proposal_seq=entry["marks"]["proposal_seq"],
        operator_seq=entry["marks"]["operator_seq"],
    )


def ledger_of(marked: Marks, budget_pC: float) -> Ledger:
    """The ledger as it was left, under a budget that may have become another one."""
    return Ledger(budget_pC, marked.closed_pC, marked.session, marked.granted_pC, marked.reported_pC)


def step_entry(event: Event, now_ns: int, effects: tuple[Effect, ...], state: GuardState) -> dict[str, Any]:
    """One step: the event as it came, what was decided, and the state's marks after it."""
    return {
        "kind": "step",
        "now_ns": now_ns,
        "event": _written(_EVENTS, event),
        "effects": [_written(_EFFECTS, effect) for effect in effects],
        "mode": state.mode.value,
        "charged_pC": state.ledger.charged_pC,
        "marks": asdict(marks(state)),
    }


def event_of(entry: dict[str, Any]) -> Event:
    """The event of a step's entry. Raises ValueError (pydantic's is one) or KeyError."""
    written = entry["event"]
    event: Event = _EVENTS[written["type"]].validate_json(_json(written["what"]))
    return event


def effects_of(effects: tuple[Effect, ...]) -> list[dict[str, Any]]:
    """Effects as an entry has them, to compare."""
    return [_written(_EFFECTS, effect) for effect in effects]


def _written(adapters: dict[str, TypeAdapter[Any]], thing: object) -> dict[str, Any]:
    name = type(thing).__name__
    return {"type": name, "what": adapters[name].dump_python(thing, mode="json", by_alias=True, exclude_none=True)}


def _json(what: Any) -> bytes:
    return TypeAdapter(Any).dump_json(what)
