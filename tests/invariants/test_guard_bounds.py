"""Limits at their edges, and with numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from controller.guard_events import Acknowledged, Decide
from controller.ledger import Ledger
from controller.limits import Admitted, Bounds, Broken, Rate, admitted, bounds_for
from controller.modes import Mode
from eelstm_stream.wire.messages import MAX_SEQ
from tests.invariants.logbook import BEHIND_NS, INSTRUMENT, LIMITS, Flight, S

BOUNDS = Bounds(
    min_current_pA=0.0, max_current_pA=250.0, min_dwell_s=0.05, max_dwell_s=0.8, max_lease_s=1.5, orders_current=True,
    blank_delay_s=0.02, instrument_pA=250.0,
)  # fmt: skip


def test_a_lease_may_be_as_short_as_the_shortest_frame():
    f = Flight()
    f.start(commands=INSTRUMENT.model_copy(update={"max_lease_s": 0.05}))
    assert f.state.bounds is not None
    assert f.state.bounds.max_lease_s == f.state.bounds.min_dwell_s == 0.05
    f.start("session-b", commands=INSTRUMENT.model_copy(update={"max_lease_s": 0.049}))
    assert f.state.unfit is not None
    assert f.state.unfit.limit == "max_lease_s"


def test_a_nan_never_passes():
    fit = admitted(BOUNDS, Rate(nan, 100.0), 1.0, 250.0)
    assert isinstance(fit, Admitted)
    assert (fit.rate.dwell_s, fit.clamped and fit.clamped.limit) == (0.05, "min_dwell_s")
    fit = admitted(BOUNDS, Rate(0.4, 100.0), nan, 250.0)
    assert isinstance(fit, Admitted)
    assert (fit.lease_s, fit.clamped and fit.clamped.limit) == (1.5, "max_lease_s")
    refused = admitted(BOUNDS, Rate(0.4, 100.0), 1.0, nan)
    assert isinstance(refused, Broken)
    assert "is below the 0 pA" in refused.reason


def test_no_current_is_no_beam_also_where_the_instrument_goes_down_to_none():
    refused = admitted(BOUNDS, Rate(0.4, 0.0), 1.0, 250.0)
    assert isinstance(refused, Broken)
    assert refused.limit == "min_current_pA"


def test_the_dose_of_a_frame_is_its_dwell_times_its_current():
    assert Rate(0.4, 250.0).dose_pC == 100.0


def test_limits_that_are_all_at_their_narrowest_leave_one_rate():
    limits = replace(LIMITS, min_dwell_s=0.8, max_current_pA=5.0)
    f = Flight(limits)
    f.start()
    bounds = bounds_for(limits, f.started())
    assert isinstance(bounds, Bounds)
    assert (bounds.min_dwell_s, bounds.max_dwell_s, bounds.min_current_pA, bounds.max_current_pA) == (
        0.8,
        0.8,
        5.0,
        5.0,
    )


def test_a_lease_may_take_the_budget_to_its_very_end():
    assert Ledger(100.0, session="a").grant(0.0, 100.0) is not None
    assert Ledger(100.0, session="a", reported_pC=100.0).grant(50.0, 0.0) is not None


def test_what_cant_be_ruled_out_is_charged_as_it_is_also_beyond_the_budget():
    ledger = Ledger(100.0, session="a", reported_pC=150.0).charge(140.0)
    assert (ledger.granted_pC, ledger.charged_pC) == (140.0, 150.0)


def test_a_command_expires_at_the_latest_when_the_clock_ends():
    f = Flight().armed()
    f.state = replace(f.state, instrument_ns=2**63 - 1, instrument_heard_ns=f.now_ns)
    f.operate("blank")
    assert [command.expires_mono_ns for command in f.commands] == [2**63 - 1]


def test_an_override_is_renewed_every_50_ms_at_most_whatever_is_said_of_its_lease():
    f = Flight().armed()
    f.later(0.5).operate("override")
    f.answer()
    f.later(0.05 - 1e-9).status(lease=f.lease(0.02))
    assert f.commands == []
    f.wait(1e-9)
    assert len(f.commands) == 1


def test_a_small_lease_is_told_as_small_as_it_is():
    f = Flight().armed(current_pA=5.0, ordered_pA=5.0)
    f.later(0.5).propose(dwell_s=0.05, beam_current_pA=5.0, lease_s=0.1)
    f.answer()
    [decided] = [effect for effect in f.effects if isinstance(effect, Decide)]
    assert decided.lease_dose_pC == pytest.approx(5.0 * (0.1 + INSTRUMENT.blank_delay_s))


def test_the_length_of_a_lease_is_whole_nanoseconds():
    f = Flight().armed()
    f.later(0.5).propose(lease_s=0.5000000004)
    assert isinstance(f.state.lease_lasts_ns, int)
    assert f.state.lease_lasts_ns == 500_000_000


def test_a_lease_leaves_room_for_the_instruments_rounding_and_no_more():
    ledger = Ledger(100.0, session="a")
    assert ledger.lease_until(200.0, 0.0) == pytest.approx(100.0 - 2e-7, abs=1e-12)
    granted = ledger.grant(50.0, 0.0)
    assert granted is not None
    assert granted.granted_pC == pytest.approx(50.0 + 5e-8, abs=1e-12)


def test_an_instrument_without_numbers_left_gets_no_lease():
    f = Flight().armed()
    f.state = replace(f.state, command_seq=MAX_SEQ)
    f.later(0.5).propose()
    [decided] = [effect for effect in f.effects if isinstance(effect, Decide)]
    assert (decided.outcome, decided.limit) == ("refused", "seq")
    assert f.commands == []


def test_a_current_above_what_the_instrument_says_it_can_do_is_reckoned_with():
    f = Flight().armed(taken=3, blanked=False, will_blank=False, current_pA=260.0)
    f.answer("unknown")
    f.propose(lease_s=1.0)
    assert [command.lease_until_dose_pC for command in f.commands] == [pytest.approx(260.0)]


def test_a_lease_begins_at_no_more_than_what_was_granted():
    f = Flight().flying()
    granted_pC = f.state.ledger.in_session_pC
    f.later(1.4).propose(lease_s=1.0)
    assert f.commands[-1].lease_until_dose_pC == pytest.approx(granted_pC + 100.0)


def test_word_of_an_answer_without_the_answer_changes_no_order():
    f = Flight().flying()
    orders = f.state.orders
    f.take(Acknowledged(99, "accepted"))
    assert f.state.orders == orders != ()


def test_a_lease_that_the_instrument_doesnt_speak_of_lasts_as_granted():
    f = Flight().armed()
    f.later(0.5).propose(lease_s=1.0)
    f.answer(lease=None)
    assert f.state.lease_lasts_ns == S


def test_a_lease_that_has_ended_as_its_answer_comes_has_no_length_to_be_told():
    f = Flight().armed()
    f.later(0.5).propose(lease_s=1.0)
    f.answer(blanked=True, will_blank=True, lease=f.lease(1.0))
    assert (f.state.lease_ends_ns, f.state.lease_lasts_ns) == (None, S)


def test_the_dose_of_an_older_status_counts_and_a_status_without_one_counts_nothing():
    f = Flight().flying()
    f.later(0.1).status(dose_pC=10.0)
    f.status(sent_s_ago=0.05, dose_pC=12.0)
    assert f.state.ledger.reported_pC == 12.0
    f.status(sent_s_ago=0.05, dose_pC=None)
    assert f.state.ledger.reported_pC == 12.0


def test_a_dose_that_nobody_granted_latches_also_in_an_older_status():
    f = Flight().armed()
    f.status(sent_s_ago=0.05, dose_pC=5.0)
    assert f.state.mode is Mode.BLANK_LATCHED


def test_an_instrument_is_believed_from_the_first_nanosecond_of_its_clock():
    f = Flight()
    f.start()
    f.now_ns = BEHIND_NS
    f.status()
    assert f.state.beam_is_off


def test_a_first_command_was_anothers_too():
    f = Flight()
    f.start()
    f.status(taken=0, blanked=False)
    assert f.state.others_ordered


def test_what_cant_be_read_is_not_told_anew_where_its_count_has_no_name_left():
    f = Flight()
    f.start()
    f.state = replace(f.state, refused_by=tuple((f"limit-{i}", 1) for i in range(48)))
    f.malformed("operator")
    assert f.effects == ()
