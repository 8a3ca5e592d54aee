"""Limits at their edges, and with numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from math import nan

from controller.ledger import Ledger
from controller.limits import Admitted, Bounds, Broken, Rate, admitted, bounds_for
from tests.invariants.logbook import INSTRUMENT, LIMITS, Flight

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
