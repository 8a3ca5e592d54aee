"""What the guard says of itself: its `status` message, with one sentence that tells a person what to do next. Pure."""

from __future__ import annotations

from controller.guard_events import NO_SESSION
from controller.guard_state import GuardState
from controller.modes import Mode
from eelstm_stream.wire.messages import GuardStatus, LedgerReport, Seq

MAX_TEXT = 2000
NOTHING_LEFT = 1e-6  # of a budget: rounding


def sentence(state: GuardState) -> str:
    """The state in one sentence, with what to do next."""
    left = _left(state)
    match state.mode:
        case Mode.AUTO:
            return f"armed: proposals are granted leases; {left}"
        case Mode.HOLD:
            return "armed, but no proposal was admitted in time: the last rate goes on until its lease ends, then the beam is blanked"
        case Mode.OVERRIDE if state.override is not None:
            rate = f"{state.override.dwell_s:g} s at {state.override.current_pA:g} pA"
            return f"an operator has fixed the rate, {rate}; {left}; `eelstm operator arm`, `disarm` or `blank` ends it"
        case Mode.BLANK:
            return f"armed, and blanked until the next proposal is admitted; {left}"
        case Mode.BLANK_LATCHED:
            return f"BLANKED AND LATCHED: {state.latched_by}; when that is seen to, `eelstm operator clear`"
    if state.session is None:
        return "disarmed: no session of an instrument is known"
    if state.unfit is not None:
        return f"disarmed, and this session can't be controlled: {state.unfit.reason}"
    if state.source_lost:
        return "disarmed: the instrument has been silent; when it's back, `eelstm operator arm`"
    return f"disarmed, the beam is blanked; {left}; `eelstm operator arm` lets the controller act"


def _left(state: GuardState) -> str:
    ledger, bounds = state.ledger, state.bounds
    least_pC = 0.0 if bounds is None else bounds.min_current_pA * bounds.min_dwell_s
    if ledger.left_pC <= max(least_pC, ledger.budget_pC * NOTHING_LEFT):
        return f"THE BUDGET of {ledger.budget_pC:g} pC IS SPENT: another specimen takes another journal"
    return f"{ledger.left_pC:.1f} of {ledger.budget_pC:g} pC are left"


def status(state: GuardState, seq: Seq, sent_mono_ns: int) -> GuardStatus:
    """The guard's status message."""
    ledger = state.ledger
    return GuardStatus(
        session=state.session or NO_SESSION,
        seq=seq,
        sent_mono_ns=sent_mono_ns,
        clock_id=state.clock_id,
        mode=state.mode.value,
        text=sentence(state)[:MAX_TEXT],
        latched_by=None if state.latched_by is None else state.latched_by[:MAX_TEXT],
        ledger=LedgerReport(
            budget_pC=ledger.budget_pC,
            charged_pC=ledger.charged_pC,
            reported_pC=ledger.given_pC,
            left_pC=ledger.left_pC,
        ),
        approval="each" if state.approve_each else "none",
        awaiting_approval=None if state.awaiting is None else state.awaiting.seq,
        taken_operator_seq=state.operator_seq,
        taken_proposal_seq=state.proposal_seq,
        accepted=state.accepted,
        clamped=state.clamped,
        refused=state.refused,
        refused_by=dict(state.refused_by),
        readback=None if state.beam is None else state.beam.readback,
        beam_is_off=state.beam_is_off,
    )
