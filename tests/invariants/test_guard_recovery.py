"""A guard that starts anew: what was charged stays charged, and what was lost is charged at its worst."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.guard_state import GuardState
from controller.journal_entries import step_entry
from controller.ledger import Ledger
from controller.limits import Limits
from controller.modes import Mode
from controller.recovery import recover
from tests.invariants.logbook import LIMITS, Flight


def recovered(
    marked: dict | None, limits: Limits = LIMITS, *, torn: bool = False, approve_each: bool = False
) -> GuardState:
    return recover(marked, limits, torn=torn, clock_id="boot-2", now_ns=7, approve_each=approve_each)


def entry(ledger: Ledger) -> dict:
    """The last of a guard that ended with this ledger."""
    f = Flight(ledger=ledger, proposal_seq=4, operator_seq=5)
    return step_entry(f.proposal(), f.now_ns, (), f.state)


def test_without_a_journal_nothing_is_charged():
    state = recovered(None)
    assert state.ledger == Ledger(LIMITS.budget_pC)
    assert (state.mode, state.proposal_seq, state.operator_seq) == (Mode.DISARMED, None, None)
    assert (state.clock_id, state.ordered_ns, state.admitted_ns, state.limits) == ("boot-2", 7, 7, LIMITS)


@pytest.mark.parametrize("approve_each", [False, True])
def test_what_was_charged_stays_charged_and_used_numbers_stay_used(approve_each):
    ledger = Ledger(LIMITS.budget_pC, 100.0, "session-a", 200.0, 50.0)
    state = recovered(entry(ledger), approve_each=approve_each)
    assert state.ledger == ledger
    assert state.mode is Mode.DISARMED
    assert (state.proposal_seq, state.operator_seq) == (4, 5)
    assert state.approve_each is approve_each


def test_a_budget_may_be_another_one_after_a_restart():
    state = recovered(entry(Ledger(900.0, 100.0, "session-a", 200.0, 50.0)), replace(LIMITS, budget_pC=350.0))
    assert (state.ledger.budget_pC, state.ledger.charged_pC, state.ledger.left_pC) == (350.0, 300.0, 50.0)


def test_a_lost_entry_is_charged_as_the_longest_lease_at_the_highest_current():
    limits = replace(LIMITS, budget_pC=5000.0, max_current_pA=300.0, max_lease_s=2.0, command_within_s=0.5)
    state = recovered(entry(Ledger(5000.0, 100.0, "session-a", 200.0, 50.0)), limits, torn=True)
    assert state.ledger == Ledger(5000.0, 100.0, "session-a", 200.0 + 300.0 * 2.5, 50.0)


def test_a_lost_entry_is_charged_by_limits_that_are_wider_than_before():
    limits = replace(LIMITS, budget_pC=5000.0, max_current_pA=300.0, max_lease_s=4.0, command_within_s=1.0)
    state = recovered(entry(Ledger(5000.0, 100.0, "session-a", 200.0, 50.0)), limits, torn=True)
    assert state.ledger.granted_pC == 200.0 + 300.0 * 5.0


def test_a_lost_entry_is_charged_by_the_limits_it_was_decided_with_and_at_the_instruments_current():
    """Which may be another guard's than those of this one; and the beam may have a current that no guard would order."""
    wide, narrow = (
        replace(LIMITS, budget_pC=5000.0, max_lease_s=4.0),
        replace(LIMITS, budget_pC=5000.0, max_current_pA=20.0),
    )
    for limits, started, worst_pC in (
        (wide, {}, 300.0 * (4.0 + 0.5 + 0.02)),
        (narrow, {}, 250.0 * 2.52),
        (narrow, {"ordered_pA": 260.0}, 260.0 * 2.52),
        (narrow, {"current_pA": 270.0}, 270.0 * 2.52),
    ):
        f = Flight(limits)
        f.start()
        f.status(**started)
        marked = step_entry(f.proposal(), f.now_ns, (), f.state)
        assert recovered(marked, narrow, torn=True).ledger.charged_pC == pytest.approx(worst_pC)


def test_a_journal_of_before_is_charged_by_the_limits_of_now():
    marked = entry(Ledger(LIMITS.budget_pC))
    del marked["marks"]["next_lease_pC"]
    assert recovered(marked, torn=True).ledger.charged_pC == 300.0 * 2.5


def test_a_lost_entry_spends_no_more_than_the_budget():
    state = recovered(
        entry(Ledger(1000.0, 100.0, "session-a", 200.0, 50.0)), replace(LIMITS, budget_pC=600.0), torn=True
    )
    assert (state.ledger.charged_pC, state.ledger.left_pC) == (600.0, 0.0)
