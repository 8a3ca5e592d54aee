"""The ledger: what is charged never falls, never passes the budget by a grant, and counts nothing twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ledger import ROUNDING, Ledger
from tests.properties import examples

doses = st.floats(0, 2000) | st.sampled_from([0.0, 1000.0, math.inf])
damaged = doses | st.just(math.nan)


def opened(budget_pC: float = 1000.0, **fields: float) -> Ledger:
    return Ledger(budget_pC, session="a", **fields)


def test_a_lease_is_charged_whole_with_what_it_may_run_over():
    ledger = opened().grant(460.0, 1.15)
    assert ledger is not None
    assert ledger.charged_pC == pytest.approx(461.15, rel=1e-8)
    assert ledger.charged_pC >= 460.0 * (1 + ROUNDING) + 1.15
    assert ledger.left_pC == 1000.0 - ledger.charged_pC


def test_a_lease_up_to_the_same_dose_costs_nothing_more():
    once = opened().grant(460.0, 1.0)
    assert once is not None
    assert once.grant(460.0, 1.0) == once
    assert once.grant(200.0, 1.0) == once


def test_what_the_instrument_reports_within_a_lease_is_charged_already_and_beyond_it_is_charged_too():
    ledger = opened(granted_pC=460.0)
    assert ledger.report(300.0).charged_pC == 460.0
    assert ledger.report(500.0).charged_pC == 500.0
    assert ledger.report(1500.0).charged_pC == 1500.0
    assert ledger.report(1500.0).left_pC == 0.0
    assert ledger.report(300.0).report(200.0).reported_pC == 300.0


def test_what_may_have_been_given_is_what_was_granted_or_told():
    ledger = opened(granted_pC=460.0, reported_pC=100.0)
    assert ledger.allows(460.0)
    assert not ledger.allows(460.1)
    assert not ledger.allows(math.nan)
    assert opened(reported_pC=700.0).allows(700.0)


def test_another_session_closes_the_one_before_as_charged():
    ledger = opened(granted_pC=460.0, reported_pC=100.0, closed_pC=50.0)
    assert ledger.open_session("a") is ledger
    following = ledger.open_session("b")
    assert (following.session, following.closed_pC, following.charged_pC) == ("b", 510.0, 510.0)
    assert (following.granted_pC, following.reported_pC) == (0.0, 0.0)
    assert following.budget_pC == 1000.0
    assert ledger.given_pC == 150.0


def test_the_budget_is_what_all_sessions_share():
    ledger = opened(closed_pC=900.0)
    until_pC = ledger.lease_until(460.0, 10.0)
    assert until_pC == pytest.approx(90.0, rel=1e-6)
    assert until_pC < 90.0
    assert ledger.lease_until(50.0, 10.0) == 50.0
    assert ledger.grant(until_pC, 10.0) is not None
    assert ledger.grant(90.0, 10.0) is None
    assert ledger.grant(100.5, 0.0) is None
    assert opened(reported_pC=1000.5).grant(10.0, 0.0) is None


def test_what_cant_be_ruled_out_is_charged_up_to_the_budget():
    ledger = opened(closed_pC=100.0, granted_pC=200.0)
    assert ledger.charge(300.0).charged_pC == 400.0
    assert ledger.charge(100.0).charged_pC == 300.0
    assert ledger.charge(5000.0).charged_pC == 1000.0
    assert ledger.charge(math.nan).charged_pC == 1000.0
    assert opened(reported_pC=1200.0).charge(5000.0).charged_pC == 1200.0


@pytest.mark.parametrize("until_pC", [math.nan, math.inf])
def test_a_lease_to_nowhere_is_not_granted(until_pC):
    assert opened().grant(until_pC, 0.0) is None
    assert opened().grant(10.0, until_pC) is None
    assert math.isfinite(opened().lease_until(until_pC, 0.0))


@examples(200)
@given(st.lists(st.tuples(st.sampled_from(["grant", "report", "charge", "session"]), damaged, st.floats(0, 50))))
def test_whatever_comes_it_never_falls_and_grants_never_pass_the_budget(operations):
    ledger, told_pC = opened(), 0.0
    for name, dose_pC, overrun_pC in operations:
        before = ledger
        match name:
            case "grant":
                ledger = ledger.grant(ledger.lease_until(dose_pC, overrun_pC), overrun_pC) or ledger
            case "report":
                ledger = ledger if math.isinf(dose_pC) else ledger.report(dose_pC)
                told_pC = max(told_pC, ledger.charged_pC)
            case "charge":
                ledger = ledger.charge(dose_pC)
            case "session":
                ledger = ledger.open_session(f"{ledger.session}.")
        assert ledger.charged_pC >= before.charged_pC
        assert ledger.charged_pC <= max(ledger.budget_pC, told_pC)
        assert ledger.left_pC >= 0
