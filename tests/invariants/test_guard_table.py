"""Every mode × event, through the guard's step: where it leads, and whether it lets the beam on or blanks it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest

from controller import guard
from controller.guard_events import (
    Acknowledged,
    Decide,
    JournalFailed,
    Malformed,
    Reply,
    Send,
    Stopping,
    Tick,
    Write,
)
from controller.guard_report import status
from controller.ledger import Ledger
from controller.modes import BLANKED, Mode
from eelstm_stream.wire.messages import LeaseReport, SessionEnd
from tests.invariants.beam import INSTRUMENT, Beam, S
from tests.invariants.flown import LIMITS, Flown, all_of, in_mode

D, A, H, O, B, L = Mode  # noqa: E741 - as in the table
MODES = (D, A, H, O, B, L)


def another_session(flown: Flown) -> Any:
    return flown.take(Beam("session-b", flown.now_ns).start())


def status_of_another_session(flown: Flown) -> Any:
    return flown.take(Beam("session-b", flown.now_ns).status())


def session_ends(flown: Flown) -> Any:
    return flown.take(SessionEnd(session="session-a", seq=1, sent_mono_ns=flown.now_ns, reason="finished", spectra=0))


def silence(flown: Flown) -> Any:
    flown.wait(3.1, heartbeat=False)
    return flown.take(Tick())


def too_much_dose(flown: Flown) -> Any:
    flown.beam.dose_pC = flown.state.ledger.in_session_pC + 1.0
    return flown.take(flown.beam.status())


def another_commander(flown: Flown) -> Any:
    flown.beam.taken_seq = flown.state.command_seq + 1
    return flown.take(flown.beam.status())


def dose_that_is_none(flown: Flown) -> Any:
    told = flown.beam.status()
    assert told.beam is not None
    return flown.take(told.model_copy(update={"beam": told.beam.model_copy(update={"dose_pC": math.nan})}))


# What happens, and the modes that follow it, from D A H O B L
TABLE: dict[str, tuple[Callable[[Flown], Any], tuple[Mode, ...]]] = {
    "a sound proposal": (lambda f: f.propose(), (D, A, A, O, A, L)),
    "a proposal to blank": (lambda f: f.propose(blank=True), (D, B, B, O, B, L)),
    "a proposal that is not finite": (
        lambda f: f.take(f.proposed().model_copy(update={"dwell_s": math.nan})),
        (L, L, L, L, L, L),
    ),
    "a plan that is not finite": (
        lambda f: f.take(f.proposed().model_copy(update={"plan_dose_pC": (1.0, math.inf)})),
        (L, L, L, L, L, L),
    ),
    "another session's proposal": (lambda f: f.propose(session="session-b"), MODES),
    "a replayed proposal": (lambda f: f.propose(seq=0), MODES),
    "an expired proposal": (lambda f: f.propose(expires_mono_ns=f.now_ns - 1), MODES),
    "one that hardly expires": (lambda f: f.propose(expires_mono_ns=f.now_ns + 11 * S), MODES),
    "a proposal by another clock": (lambda f: f.propose(clock_id="another"), MODES),
    "a proposal by no clock": (lambda f: f.propose(clock_id=None), MODES),
    "advice": (lambda f: f.propose(preset="advise"), MODES),
    "a proposal below the lowest current": (lambda f: f.propose(beam_current_pA=1.0), MODES),
    "a proposal of no whole frame": (lambda f: f.propose(lease_s=0.1), MODES),
    "arm": (lambda f: f.tell("arm"), (A, A, H, A, B, L)),
    "disarm": (lambda f: f.tell("disarm"), (D, D, D, D, D, L)),
    "blank": (lambda f: f.tell("blank"), (L, L, L, L, L, L)),
    "another session's blank": (lambda f: f.tell("blank", session="session-b"), (L, L, L, L, L, L)),
    "an old blank": (lambda f: f.tell("blank", seq=0, expires_mono_ns=0), (L, L, L, L, L, L)),
    "clear": (lambda f: f.tell("clear"), (D, A, H, O, B, D)),
    "approve, where nothing waits": (lambda f: f.tell("approve", proposal_seq=1), MODES),
    "override": (lambda f: f.tell("override", dwell_s=0.2, beam_current_pA=50.0), (O, O, O, O, O, L)),
    "override beyond a limit": (lambda f: f.tell("override", dwell_s=0.2, beam_current_pA=301.0), MODES),
    "another session's arm": (lambda f: f.tell("arm", session="session-b"), MODES),
    "an expired arm": (lambda f: f.tell("arm", expires_mono_ns=f.now_ns - 1), MODES),
    "an arm that hardly expires": (lambda f: f.tell("arm", expires_mono_ns=f.now_ns + 11 * S), MODES),
    "a little time": (lambda f: f.wait(0.1), MODES),
    "no proposal for too long": (lambda f: f.wait(1.1), (D, H, B, O, B, L)),
    "the end of a lease": (lambda f: f.wait(2.1), (D, B, B, D, B, L)),
    "silence": (silence, (D, D, D, D, D, L)),
    "another session": (another_session, (D, D, D, D, D, L)),
    "another session's status": (status_of_another_session, (D, D, D, D, D, L)),
    "the end of the session": (session_ends, (D, D, D, D, D, L)),
    "more dose than was granted": (too_much_dose, (L, L, L, L, L, L)),
    "a dose that is no number": (dose_that_is_none, (L, L, L, L, L, L)),
    "another commander": (another_commander, (L, L, L, L, L, L)),
    "a journal that fails": (lambda f: f.take(JournalFailed("full")), (L, L, L, L, L, L)),
    "a malformed proposal": (lambda f: f.take(Malformed("controller", "no JSON")), MODES),
    "a malformed proposal with a NaN": (
        lambda f: f.take(Malformed("controller", "NaN", not_finite=True)),
        (L, L, L, L, L, L),
    ),
    "a malformed status with a NaN": (lambda f: f.take(Malformed("instrument", "NaN", not_finite=True)), MODES),
    "the guard's end": (lambda f: f.take(Stopping()), (D, D, D, D, D, L)),
    "an answer to nothing": (lambda f: f.take(Acknowledged(999, "unknown")), MODES),
}


@pytest.mark.parametrize(
    ("name", "column"), list(product(TABLE, range(6))), ids=lambda v: v if isinstance(v, str) else MODES[v]
)
def test_where_it_leads(name: str, column: int):
    happens, following = TABLE[name]
    flown = in_mode(MODES[column])
    happens(flown)
    assert flown.mode is following[column]
    flown.wait(0.3)  # once the blanker has moved
    if flown.mode in BLANKED and flown.state.session == "session-a":
        assert not flown.beam.on
    status(flown.state, 0, flown.now_ns)  # can be said, whatever came


# One by one, where the table doesn't say enough


def refusal(effects: Any) -> Decide:
    [decision] = [d for d in all_of(effects, Decide) if d.outcome == "refused"]
    return decision


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"session": "session-b"}, "session"),
        ({"seq": 1}, "seq"),
        ({"clock_id": "another"}, "clock_id"),
        ({"clock_id": None}, "clock_id"),
        ({"expires_mono_ns": 0}, "expired"),
        ({"expires_mono_ns": 2**62}, "expires_mono_ns"),
        ({"preset": "advise"}, "advise"),
        ({"beam_current_pA": 1.0}, "min_current_pA"),
        ({"lease_s": 0.3}, "lease_s"),
    ],
)
def test_a_refusal_names_its_limit_counts_and_grants_nothing(changes, limit):
    flown = in_mode(Mode.AUTO)
    granted = len(flown.granted())
    decision = refusal(flown.propose(**changes))
    assert (decision.limit, decision.action) == (limit, "proposal")
    assert decision.reason
    assert dict(flown.state.refused_by) == {limit: 1}
    assert flown.state.refused == 1
    assert len(flown.granted()) == granted


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.OVERRIDE, Mode.BLANK_LATCHED])
def test_where_proposals_dont_count_they_are_refused_by_the_mode(mode):
    flown = in_mode(mode)
    granted = len(flown.granted())
    assert refusal(flown.propose()).limit == mode.value
    assert len(flown.granted()) == granted


def test_a_lease_is_charged_whole_and_written_before_it_leaves():
    flown = in_mode(Mode.DISARMED)
    flown.tell("arm")
    flown.answers = False
    effects = flown.propose()
    write, send = effects[0], effects[1]
    assert isinstance(write, Write)
    assert isinstance(send, Send)
    command = send.command
    assert command.lease_until_dose_pC == write.lease_until_dose_pC == 200.0
    assert write.charged_pC == flown.state.ledger.charged_pC
    assert flown.state.ledger.charged_pC == pytest.approx(200.0 + 100.0 * 0.03)
    assert (command.blanked, command.dwell_s, command.beam_current_pA, command.lease_s) == (False, 0.4, 100.0, 2.0)
    assert command.expires_mono_ns == flown.now_ns + S // 2


def test_the_worst_of_both_rates_is_charged_while_one_may_still_hold():
    flown = in_mode(Mode.AUTO)  # at 100 pA
    flown.answers = False
    before_pC = flown.state.ledger.reported_pC
    flown.propose(beam_current_pA=50.0)
    assert flown.granted()[-1].beam_current_pA == 50.0
    assert flown.granted()[-1].lease_until_dose_pC >= before_pC + 100.0 * 2.0
    assert flown.state.ledger.charged_pC >= before_pC + 100.0 * 2.03


def test_a_renewal_lets_nothing_on_by_itself():
    flown = in_mode(Mode.AUTO)
    flown.propose()
    assert [command.blanked for command in flown.granted()] == [False, None]


def test_increases_are_slewed_and_decreases_are_not():
    flown = in_mode(Mode.AUTO)
    flown.wait(0.3)
    flown.propose(beam_current_pA=300.0)
    assert flown.granted()[-1].beam_current_pA == pytest.approx(100.0 + 100.0 * 0.5)
    flown.propose(beam_current_pA=5.0)
    assert flown.granted()[-1].beam_current_pA == 5.0
    flown.wait(0.5)
    flown.propose(beam_current_pA=300.0)
    assert flown.granted()[-1].beam_current_pA == pytest.approx(55.0)


def test_the_slew_is_counted_from_the_lower_where_nobody_knows_which_holds():
    flown = in_mode(Mode.AUTO)
    flown.answers = False
    flown.wait(0.3)
    flown.propose(beam_current_pA=300.0)
    flown.wait(0.6, heartbeat=False)  # no answer
    flown.propose(beam_current_pA=300.0)
    assert flown.granted()[-1].beam_current_pA == pytest.approx(100.0 + 100.0 * 0.6)


def test_a_command_that_was_not_sent_stays_charged_and_its_decision_says_so():
    flown = in_mode(Mode.DISARMED)
    flown.tell("arm")
    flown.state, effects = guard.step(flown.state, flown.proposed(), flown.now_ns)
    charged_pC = flown.state.ledger.charged_pC
    [send] = all_of(effects, Send)
    decision = refusal(flown.take(Acknowledged(send.command.seq, "not_sent")))
    assert decision.limit == "instrument_absent"
    assert flown.state.ledger.charged_pC == charged_pC > 0


def test_a_command_without_answer_stays_charged_and_is_not_sent_again():
    flown = in_mode(Mode.DISARMED)
    flown.tell("arm")
    flown.state, _ = guard.step(flown.state, flown.proposed(), flown.now_ns)
    charged_pC = flown.state.ledger.charged_pC
    flown.now_ns += round(0.6 * S)
    effects = flown.take(Tick())
    [decision] = all_of(effects, Decide)
    assert "didn't answer" in decision.reason
    assert decision.acknowledged_mono_ns is None
    assert not all_of(effects, Send)
    assert flown.state.ledger.charged_pC == charged_pC
    assert flown.state.pending == ()


def test_no_more_leases_for_an_instrument_that_answers_none():
    flown = in_mode(Mode.AUTO)
    flown.answers = False
    for _ in range(8):
        flown.propose()
    assert refusal(flown.propose()).limit == "pending"


def test_the_last_lease_ends_at_the_budget_and_then_no_frame_is_left():
    flown = in_mode(Mode.DISARMED, limits=replace(LIMITS, budget_pC=250.0))
    flown.tell("arm")
    flown.propose()
    flown.wait(1.0)
    flown.propose()
    last = flown.granted()[-1]
    assert last.lease_until_dose_pC == pytest.approx(250.0 - 3.0, rel=1e-6)
    decided = flown.state
    assert decided.clamped == 1
    assert decided.ledger.charged_pC <= 250.0
    for _ in range(5):
        flown.wait(0.4)
        flown.propose()
    assert flown.mode in (Mode.HOLD, Mode.BLANK)
    assert dict(flown.state.refused_by)["budget_pC"] > 0
    flown.wait(2.5)
    assert not flown.beam.on
    assert flown.beam.dose_pC <= 250.0


def test_what_was_charged_in_earlier_sessions_is_not_there_to_spend():
    flown = in_mode(Mode.DISARMED, ledger=Ledger(5000.0, closed_pC=4990.0))
    flown.tell("arm")
    assert refusal(flown.propose()).limit == "budget_pC"


def test_an_instrument_that_gives_more_than_ordered_is_charged_for_the_larger_and_latched():
    flown = in_mode(Mode.AUTO)
    flown.beam.readback_factor = 1.2
    charged_pC = flown.state.ledger.charged_pC
    flown.wait(1.2)
    assert flown.mode is Mode.BLANK_LATCHED
    assert "reads back 120 pA" in (flown.state.latched_by or "")
    assert flown.state.ledger.charged_pC >= flown.state.ledger.reported_pC + 120.0 * 2.0 > charged_pC
    assert dict(flown.state.refused_by) == {"readback": 1}


def test_an_instrument_that_answers_with_another_order_is_latched():
    flown = in_mode(Mode.AUTO)
    flown.answers = False
    flown.propose(dwell_s=0.2)
    answer = flown.beam.obey(flown.sent[-1].model_copy(update={"seq": 99, "dwell_s": 0.3}), flown.now_ns)
    answer = answer.model_copy(update={"seq": flown.sent[-1].seq})
    flown.answers = True
    flown.state = replace(flown.state, command_seq=99)
    flown.take(Acknowledged(flown.sent[-1].seq, "accepted", answer))
    assert flown.mode is Mode.BLANK_LATCHED
    assert "says that it was ordered 0.3 s" in (flown.state.latched_by or "")


def test_an_earlier_session_that_speaks_again_is_another_instrument():
    flown = in_mode(Mode.DISARMED)
    flown.take(Beam("session-b", flown.now_ns).start())
    flown.take(flown.beam.status())
    assert flown.mode is Mode.BLANK_LATCHED
    assert dict(flown.state.refused_by) == {"two_instruments": 1}
    again = in_mode(Mode.DISARMED)
    again.take(Beam("session-b", again.now_ns).start())
    again.take(again.beam.start())
    assert again.mode is Mode.BLANK_LATCHED


def test_a_silent_instrument_that_returns_is_not_armed():
    flown = in_mode(Mode.AUTO)
    flown.wait(3.1, heartbeat=False)
    flown.wait(0.1)  # it's back
    assert flown.mode is Mode.DISARMED
    assert refusal(flown.propose()).limit == "disarmed"
    flown.tell("arm")
    flown.propose()
    assert flown.mode is Mode.AUTO


def test_silence_that_ends_before_the_lease_does_is_no_health():
    flown = in_mode(Mode.DISARMED, limits=replace(LIMITS, silent_after_s=0.5, max_lease_s=2.0))
    flown.tell("arm")
    flown.propose()
    flown.wait(0.6, heartbeat=False)
    assert flown.mode is Mode.HOLD
    flown.wait(0.1)
    assert refusal(flown.propose()).limit == "instrument_silent"
    flown.wait(2.0)
    assert flown.mode is Mode.DISARMED


def test_arming_needs_an_instrument_that_speaks():
    flown = in_mode(Mode.DISARMED)
    flown.wait(3.1, heartbeat=False)
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "instrument_silent")
    fresh = Flown()
    [reply] = all_of(fresh.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "session")


def test_a_session_that_cant_be_guarded_is_refused_and_not_armed():
    flown = Flown()
    flown.take(flown.beam.start(commands=None))
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "commands")
    [reply] = all_of(flown.tell("override", dwell_s=0.4, beam_current_pA=100.0), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "commands")


def test_no_lease_before_the_instrument_has_said_what_its_beam_does():
    flown = Flown()
    flown.take(flown.beam.start())
    flown.tell("arm")
    assert refusal(flown.propose()).limit == "instrument_unheard"
    told = flown.beam.status()
    flown.take(told.model_copy(update={"beam": told.beam.model_copy(update={"dose_pC": None})}))
    assert refusal(flown.propose()).limit == "dose_pC"


def test_a_status_of_an_unknown_session_waits_for_its_start():
    flown = Flown()
    flown.take(flown.beam.status())
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "session")
    flown.take(flown.beam.start())
    flown.tell("arm")
    assert flown.mode is Mode.AUTO


def test_a_session_that_has_ended_is_not_armed_though_it_was_told_again():
    flown = in_mode(Mode.AUTO)
    session_ends(flown)
    flown.take(flown.beam.start())
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "session")


def test_a_beam_that_was_found_on_is_blanked_and_its_dose_charged():
    flown = Flown()
    flown.beam.on, flown.beam.lease_ends_ns, flown.beam.until_pC = True, flown.now_ns + 60 * S, 1e9
    flown.beam.dose_pC = 70.0
    flown.follow()
    assert flown.mode in BLANKED
    assert [command.blanked for command in flown.sent] == [True]
    assert flown.state.ledger.charged_pC >= 70.0


def test_blanking_goes_on_until_the_instrument_says_that_it_is():
    flown = in_mode(Mode.AUTO)
    flown.answers = False
    before = len(flown.sent)
    state = flown.state
    state, effects = guard.step(state, flown.told("disarm"), flown.now_ns)
    assert len(all_of(effects, Send)) == 1
    now_ns = flown.now_ns
    sent = 0
    for _ in range(20):
        now_ns += S // 10
        state, effects = guard.step(state, Tick(), now_ns)
        sent += len(all_of(effects, Send))
    assert 6 <= sent <= 8  # each quarter of a second
    assert len(flown.sent) == before


@pytest.mark.parametrize("changes", [{}, {"session": "session-b"}, {"seq": 0}, {"expires_mono_ns": 0}])
@pytest.mark.parametrize("mode", MODES)
def test_an_operators_blank_is_the_first_thing_done(mode, changes):
    flown = in_mode(mode)
    effects = flown.tell("blank", **changes)
    assert isinstance(effects[0], Send)
    assert effects[0].command.blanked is True
    [reply] = all_of(effects, Reply)
    assert reply.outcome == "accepted"


def test_a_blank_without_a_session_latches_and_says_that_nobody_was_told():
    flown = Flown()
    effects = flown.tell("blank")
    assert flown.mode is Mode.BLANK_LATCHED
    assert not all_of(effects, Send)
    [reply] = all_of(effects, Reply)
    assert "blank by hand" in reply.reason
    assert reply.session is None


def test_an_operators_command_acts_once():
    flown = in_mode(Mode.DISARMED)
    arm = flown.told("arm")
    flown.take(arm)
    flown.tell("disarm")
    [reply] = all_of(flown.take(arm), Reply)
    assert (reply.outcome, reply.limit, flown.mode) == ("refused", "seq", Mode.DISARMED)


def test_a_latch_says_what_it_was_and_keeps_the_first_cause():
    flown = in_mode(Mode.AUTO)
    flown.take(JournalFailed("the disk is full"))
    flown.tell("blank")
    assert "the disk is full" in (flown.state.latched_by or "")
    assert status(flown.state, 0, 0).latched_by == flown.state.latched_by
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "latched")
    [reply] = all_of(flown.tell("disarm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "latched")
    flown.tell("clear")
    assert flown.state.latched_by is None


def test_hold_keeps_the_rate_until_its_lease_ends_and_a_proposal_leads_back():
    flown = in_mode(Mode.HOLD)
    assert flown.beam.on
    assert len(flown.granted()) == 1
    flown.propose()
    assert flown.mode is Mode.AUTO
    held = in_mode(Mode.HOLD)
    held.wait(1.0)
    assert held.mode is Mode.BLANK
    assert not held.beam.on
    held.propose()
    assert held.mode is Mode.AUTO
    held.wait(0.3)
    assert held.beam.on


def test_an_override_renews_its_leases_obeys_the_budget_and_ends_disarmed():
    flown = in_mode(Mode.DISARMED, limits=replace(LIMITS, budget_pC=400.0))
    flown.tell("override", dwell_s=0.2, beam_current_pA=100.0)
    for _ in range(60):
        flown.wait(0.1)
    assert len(flown.granted()) > 2
    assert flown.mode is Mode.DISARMED
    assert not flown.beam.on
    assert 340.0 < flown.beam.dose_pC <= 400.0


def test_an_override_at_an_instrument_whose_time_runs_fast_is_renewed_by_its_clock_and_not_without_pause():
    flown = in_mode(Mode.DISARMED)
    flown.answers = False
    for _ in range(40):
        pending = len(flown.state.pending)
        if flown.mode is Mode.DISARMED:
            flown.tell("override", dwell_s=0.2, beam_current_pA=100.0)
        if pending:
            command = flown.sent[-1]
            answer = flown.beam.obey(command.model_copy(update={"seq": 10_000 + command.seq}), flown.now_ns)
            report = flown.beam.report().model_copy(
                update={
                    "taken_seq": command.seq,
                    "lease": LeaseReport(left_s=2.0, ends_mono_ns=flown.now_ns + round(0.4 * S)),  # five times as fast
                }
            )
            answer = answer.model_copy(update={"outcome": "accepted", "seq": command.seq, "beam": report})
            flown.take(Acknowledged(command.seq, "accepted", answer))
        flown.now_ns += round(0.05 * S)
        flown.beam.advance(flown.now_ns)
        flown.take(Tick())
    assert flown.mode is Mode.OVERRIDE
    assert 7 <= len(flown.granted()) <= 12  # each 0.2 s, of 2 s


def test_what_may_have_been_given_since_is_reckoned_in_the_instruments_time():
    flown = in_mode(Mode.DISARMED)
    flown.tell("override", dwell_s=0.2, beam_current_pA=100.0)
    lasts_ns = round(0.4 * S)  # of 2 s: the instrument's time runs five times as fast
    flown.state = replace(flown.state, lease_lasts_ns=lasts_ns, lease_ends_ns=flown.now_ns + lasts_ns)
    before_pC = flown.state.ledger.reported_pC
    flown.now_ns += round(0.3 * S)
    flown.take(Tick())
    renewed = flown.granted()[-1]
    assert renewed.lease_until_dose_pC == pytest.approx(before_pC + 100.0 * 0.3 * 5 + 100.0 * 2.0)


def test_an_override_is_slewed_on_its_way():
    flown = in_mode(Mode.OVERRIDE)
    flown.tell("override", dwell_s=0.2, beam_current_pA=300.0)
    for _ in range(60):
        flown.wait(0.1)
    currents = [command.beam_current_pA for command in flown.granted()]
    assert currents[1] == 100.0
    assert currents[-1] == 300.0
    assert currents == sorted(currents)
    assert all(after - before <= 100.0 + 1e-9 for before, after in pairwise(currents))


def test_an_old_spectrum_is_no_ground_for_a_lease_while_newer_ones_must_be_there():
    flown = in_mode(Mode.AUTO, limits=replace(LIMITS, spectrum_within_s=1.5, max_lease_s=5.0, healthy_within_s=60.0))
    flown.propose(lease_s=5.0, spectrum_sent_mono_ns=0)  # the beam wasn't on before
    flown.wait(1.4)
    assert refusal(flown.propose(spectrum_sent_mono_ns=0)).limit == "spectrum_within_s"
    assert not [
        d for d in all_of(flown.propose(spectrum_sent_mono_ns=flown.now_ns - S), Decide) if d.outcome == "refused"
    ]
    flown.propose(blank=True, spectrum_sent_mono_ns=0)
    assert flown.mode is Mode.BLANK


# Approval


def test_a_proposal_waits_for_its_approval_and_acts_once():
    flown = in_mode(Mode.DISARMED, approve_each=True)
    flown.tell("arm")
    flown.propose()
    assert flown.granted() == []
    assert flown.state.awaiting is not None
    assert refusal(flown.propose()).limit == "approval"
    [reply] = all_of(flown.tell("approve", proposal_seq=2), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "approval")
    flown.tell("approve", proposal_seq=1)
    assert len(flown.granted()) == 1
    [reply] = all_of(flown.tell("approve", proposal_seq=1), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "approval")


def test_an_approval_that_comes_too_late_finds_nothing():
    flown = in_mode(Mode.DISARMED, approve_each=True)
    flown.tell("arm")
    flown.propose()
    for _ in range(30):
        flown.wait(1.0)
        assert flown.state.awaiting is not None
    flown.wait(0.1)
    assert flown.state.awaiting is None
    assert dict(flown.state.refused_by) == {"approval": 1}
    [reply] = all_of(flown.tell("approve", proposal_seq=1), Reply)
    assert reply.outcome == "refused"
    assert flown.granted() == []


def test_what_waits_for_approval_waits_no_more_once_disarmed():
    flown = in_mode(Mode.DISARMED, approve_each=True)
    flown.tell("arm")
    flown.propose()
    flown.tell("disarm")
    assert flown.state.awaiting is None


def test_a_proposal_to_blank_waits_for_nobody():
    flown = in_mode(Mode.DISARMED, approve_each=True)
    flown.tell("arm")
    flown.propose(blank=True)
    assert flown.mode is Mode.BLANK


# What it says of itself


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (D, "`eelstm operator arm`"),
        (A, "armed: proposals are granted leases"),
        (H, "until its lease ends"),
        (O, "an operator has fixed the rate, 0.4 s at 100 pA"),
        (B, "armed, and blanked until the next proposal"),
        (L, "Ada blanked the beam: before; when that is seen to, `eelstm operator clear`"),
    ],
)
def test_each_mode_says_what_to_do_next(mode, words):
    said = status(in_mode(mode).state, 3, 4)
    assert words in said.text
    assert (said.seq, said.sent_mono_ns, said.mode) == (3, 4, mode.value)


def test_a_disarmed_guard_says_why_it_cant_be_armed():
    assert "no session of an instrument is known" in status(Flown().state, 0, 0).text
    unfit = Flown()
    unfit.take(unfit.beam.start(commands=None))
    assert "takes no commands" in status(unfit.state, 0, 0).text
    silent = in_mode(A)
    silence(silent)
    assert "has been silent" in status(silent.state, 0, 0).text
    spent = in_mode(D, ledger=Ledger(5000.0, closed_pC=4999.9))
    assert "THE BUDGET of 5000 pC IS SPENT" in status(spent.state, 0, 0).text


def test_the_status_shows_ledger_counts_and_readback():
    flown = in_mode(A)
    flown.propose(preset="advise")
    said = status(flown.state, 0, 0)
    assert said.ledger is not None
    assert said.ledger.charged_pC == flown.state.ledger.charged_pC
    assert said.ledger.left_pC == 5000.0 - said.ledger.charged_pC
    assert (said.accepted, said.clamped, said.refused, said.refused_by) == (1, 0, 1, {"advise": 1})
    assert (said.taken_proposal_seq, said.taken_operator_seq) == (2, 1)
    assert said.readback is not None
    assert not said.readback.blanked


def test_an_approval_of_a_proposal_on_old_spectra_is_refused():
    limits = replace(LIMITS, spectrum_within_s=1.0, healthy_within_s=60.0)
    flown = in_mode(Mode.DISARMED, limits=limits, approve_each=True)
    flown.tell("override", dwell_s=0.4, beam_current_pA=100.0)
    flown.wait(0.4)
    flown.tell("arm")
    flown.propose(spectrum_sent_mono_ns=flown.now_ns)
    flown.wait(1.1)
    assert flown.state.may_be_on
    granted = len(flown.granted())
    effects = flown.tell("approve", proposal_seq=flown.seq)
    [reply] = all_of(effects, Reply)
    assert (reply.outcome, reply.limit) == ("refused", "spectrum_within_s")
    assert {d.limit for d in all_of(effects, Decide)} == {"spectrum_within_s"}
    assert len(flown.granted()) == granted


# An instrument that can't be believed, or is commanded by another


def test_another_program_that_takes_the_next_number_latches():
    flown = in_mode(Mode.AUTO)
    flown.beam.obey(flown.sent[-1].model_copy(update={"seq": flown.state.command_seq + 1}), flown.now_ns)
    flown.propose()
    assert flown.mode is Mode.BLANK_LATCHED
    assert "another program commands the beam" in (flown.state.latched_by or "")


def test_a_lease_that_this_guard_did_not_grant_latches_and_is_charged():
    flown = in_mode(Mode.AUTO)
    granted_pC = flown.state.ledger.in_session_pC
    flown.beam.until_pC = granted_pC
    flown.take(flown.beam.status())
    assert flown.mode is Mode.AUTO
    flown.beam.until_pC = granted_pC + 1.0
    flown.take(flown.beam.status())
    assert flown.mode is Mode.BLANK_LATCHED
    assert flown.state.ledger.charged_pC == granted_pC + 1.0
    assert "which this guard didn't grant" in (flown.state.latched_by or "")


@pytest.mark.parametrize("lie", [lambda pC: min(pC, 40.0), lambda pC: pC % 100.0])
def test_a_dose_that_stands_still_or_falls_ends_the_session(lie):
    """Leases end at that dose: the specimen would get them again and again."""
    flown = in_mode(Mode.DISARMED, limits=replace(LIMITS, budget_pC=400.0))
    honest = flown.beam.report
    flown.beam.report = lambda: honest().model_copy(update={"dose_pC": lie(honest().dose_pC)})  # type: ignore[method-assign, operator]
    flown.tell("arm")
    for _ in range(20):
        flown.propose()
        flown.wait(0.4)
        assert flown.beam.committed_pC <= flown.state.ledger.charged_pC
    assert flown.mode is Mode.BLANK_LATCHED
    assert "not to be believed" in (flown.state.latched_by or "")
    assert not flown.beam.on
    flown.tell("clear")
    [reply] = all_of(flown.tell("arm"), Reply)
    assert (reply.outcome, reply.limit) == ("refused", "dose_pC")


@pytest.mark.parametrize(("delay_frames", "every_s"), [(0, 0.4), (1, 0.4), (8, 0.4), (8, 1.2)])
def test_a_readback_is_compared_while_proposals_go_on(delay_frames, every_s):
    flown = Flown(LIMITS, can=INSTRUMENT.model_copy(update={"delay_frames": delay_frames, "delay_s": 0.0})).follow()
    flown.beam.readback_factor = 1.5
    flown.tell("arm")
    for i in range(20):
        flown.propose(beam_current_pA=100.0 + i % 2)
        flown.wait(every_s)
    assert flown.mode is Mode.BLANK_LATCHED
    assert "reads back 15" in (flown.state.latched_by or "")
    assert flown.beam.frames < 16


def test_an_order_that_waits_its_turn_is_reckoned_with():
    flown = Flown(LIMITS, can=INSTRUMENT.model_copy(update={"delay_frames": 8, "delay_s": 0.0})).follow()
    flown.tell("arm")
    flown.propose(beam_current_pA=100.0)
    flown.wait(1.0)
    flown.propose(beam_current_pA=200.0)
    for _ in range(2):
        flown.propose(beam_current_pA=10.0)
        reached_pC = flown.beam.committed_pC
        assert flown.granted()[-1].lease_until_dose_pC == pytest.approx(reached_pC + 200.0 * 2.0)
        flown.wait(0.1)


def test_an_answer_to_another_sessions_command_is_none_to_this_one():
    flown = in_mode(Mode.DISARMED)
    flown.tell("arm")
    flown.answers = False
    flown.propose()
    [waiting] = flown.state.pending
    answer = flown.beam.obey(flown.sent[-1].model_copy(update={"session": "session-old"}), flown.now_ns)
    flown.take(Acknowledged(waiting.command.seq, "refused", answer))
    assert flown.state.pending == (waiting,)
