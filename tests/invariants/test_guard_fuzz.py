"""Whatever the wire lets through, the guard takes: it raises nothing, and all that it says can be sent and written down."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller import guard
from controller.guard_events import Acknowledged, Decide, Event, JournalFailed, Malformed, Reply, Send, Stopping, Tick
from controller.guard_report import status
from controller.guard_state import start
from controller.journal_entries import event_of, step_entry
from controller.ledger import Ledger
from controller.modes import Mode
from eelstm_stream.wire.codec import encode, encode_command, encode_operator_reply
from tests.invariants.beam import CLOCK, S
from tests.invariants.flown import LIMITS, in_mode
from tests.properties import examples
from tests.wire import strategies

SESSIONS = ("session-a", "session-b")
OF_A_SESSION = (
    strategies.session_starts
    | strategies.session_ends
    | strategies.instrument_statuses
    | strategies.proposals
    | strategies.operator_commands
)
LATE = 2**63 - 1


@st.composite
def events(draw: st.DrawFn, now_ns: int) -> Event:
    """Any event: of a session that it knows, as a rule, and in time, often enough to be looked at."""
    kind = draw(st.sampled_from(["message"] * 6 + ["answer", "tick", "malformed", "journal", "stopping"]))
    match kind:
        case "message":
            message: Any = draw(OF_A_SESSION)
            changes: dict[str, Any] = {"session": draw(st.sampled_from([*SESSIONS, message.session]))}
            if hasattr(message, "expires_mono_ns") and draw(st.booleans()):
                changes["expires_mono_ns"] = now_ns + S
            if hasattr(message, "from_seq"):
                changes["clock_id"] = draw(st.sampled_from([CLOCK, None]))
            return message.model_copy(update=changes)
        case "answer":
            answer = draw(strategies.acknowledgements)
            session = draw(st.sampled_from(SESSIONS))
            answer = answer.model_copy(update={"session": session, "running_session": session})
            seq = draw(st.integers(0, 5))
            result = draw(st.sampled_from(["accepted", "refused", "not_sent", "unknown"]))
            return Acknowledged(seq, result, draw(st.none() | st.just(answer)))
        case "malformed":
            return Malformed(
                draw(st.sampled_from(["controller", "instrument", "operator"])),
                draw(strategies.texts),
                draw(st.booleans()),
            )
        case "journal":
            return JournalFailed(draw(strategies.texts))
        case "stopping":
            return Stopping()
    return Tick()


def say(state: guard.GuardState, effects: tuple[object, ...], now_ns: int) -> None:
    """All that follows, in the bytes in which it is sent."""
    for effect in effects:
        match effect:
            case Send(command):
                encode_command(command)
            case Decide():
                encode("microscope", effect.message(0, now_ns))
            case Reply():
                encode_operator_reply(effect.message(now_ns, CLOCK))
    encode("microscope", status(state, 0, now_ns))


@examples(60)
@given(st.data(), st.sampled_from(list(Mode)), st.booleans())
def test_whatever_comes_nothing_is_raised_and_the_budget_holds(data, mode, fresh):
    flown = in_mode(mode)
    state, now_ns = flown.state, flown.now_ns
    if fresh:
        state = start(LIMITS, Ledger(LIMITS.budget_pC), clock_id=CLOCK, now_ns=now_ns)
    for _ in range(data.draw(st.integers(1, 12))):
        now_ns += data.draw(st.sampled_from([0, 1, S // 10, S, 10 * S]))
        event = data.draw(events(now_ns))
        before = state
        state, effects = guard.step(state, event, now_ns)
        say(state, effects, now_ns)
        entry = step_entry(event, now_ns, effects, state)
        assert event_of(json.loads(json.dumps(entry, allow_nan=False))) == event
        assert state.ledger.charged_pC >= before.ledger.charged_pC
        granted = any(isinstance(effect, Send) and effect.command.lease_s is not None for effect in effects)
        if granted:
            assert state.ledger.charged_pC <= LIMITS.budget_pC
