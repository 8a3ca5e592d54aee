"""Limits: contradictions are found before anything starts, and what passes is finite and within them, whatever was wanted."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.guardd import GuardSettings
from controller.limits import (
    Admitted,
    Bounds,
    Broken,
    Limits,
    Rate,
    admitted,
    bounds_for,
    contradiction,
    differs,
    highest_current_pA,
    not_finite,
)
from eelstm_stream.wire.messages import MIN_PA, SessionStart
from tests.invariants.beam import INSTRUMENT, Beam
from tests.properties import examples

LIMITS = Limits(budget_pC=1000.0, max_current_pA=300.0)
BOUNDS = Bounds(5.0, 300.0, 0.05, 1.0, 2.0, orders_current=True, blank_delay_s=0.03, instrument_pA=400.0)
numbers = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0])
START = Beam("a", 0).start()


def start(**changes: object) -> SessionStart:
    return START.model_copy(update=changes)


def test_sound_limits_contradict_nothing():
    assert contradiction(LIMITS) is None


def test_what_a_person_leaves_out_is_what_the_settings_say():
    assert Limits(budget_pC=1000.0, max_current_pA=500.0) == GuardSettings(budget_pC=1000.0).limits


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_is_finite_and_above_zero(name, value):
    broken = contradiction(replace(LIMITS, **{name: value}))
    assert broken is not None
    assert broken.limit == name
    assert name in broken.reason


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"min_dwell_s": 0.5, "max_dwell_s": 0.4}, "min_dwell_s"),
        ({"max_dwell_s": 2.1}, "max_dwell_s"),
        ({"budget_pC": 0.29, "min_dwell_s": 0.001}, "budget_pC"),
        ({"readback_tolerance": 1.0}, "readback_tolerance"),
    ],
)
def test_limits_that_contradict_each_other_are_named(changes, limit):
    broken = contradiction(replace(LIMITS, **changes))
    assert broken is not None
    assert broken.limit == limit


@pytest.mark.parametrize("changes", [{"min_dwell_s": 1.0}, {"max_dwell_s": 2.0}, {"budget_pC": 0.3}])
def test_limits_that_just_agree_are_none(changes):
    assert contradiction(replace(LIMITS, **changes)) is None


def test_in_a_session_the_narrower_limit_holds():
    bounds = bounds_for(LIMITS, start())
    assert bounds == Bounds(5.0, 300.0, 0.05, 1.0, 2.0, orders_current=True, blank_delay_s=0.03, instrument_pA=400.0)
    wide = Limits(budget_pC=1e6, max_current_pA=1000.0, min_dwell_s=0.2, max_dwell_s=9.0, max_lease_s=9.0)
    assert bounds_for(wide, start()) == Bounds(
        5.0, 400.0, 0.2, 2.0, 5.0, orders_current=True, blank_delay_s=0.03, instrument_pA=400.0
    )


def test_a_current_that_cant_be_ordered_is_what_it_is():
    fixed = INSTRUMENT.model_copy(update={"min_current_pA": None, "max_current_pA": None})
    bounds = bounds_for(LIMITS, start(commands=fixed, beam_current_pA=120.0))
    assert isinstance(bounds, Bounds)
    assert (bounds.min_current_pA, bounds.max_current_pA, bounds.orders_current) == (120.0, 120.0, False)
    passed = admitted(bounds, Rate(0.4, 10.0), 2.0, highest_pA=1e9)
    assert isinstance(passed, Admitted)
    assert passed.rate.current_pA == 120.0
    assert bounds_for(LIMITS, start(commands=fixed, beam_current_pA=301.0)) == bounds_broken("max_current_pA")


class bounds_broken:  # noqa: N801 - reads as a value
    """Equal to whatever breaks this limit."""

    def __init__(self, limit: str) -> None:
        self.limit = limit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Broken) and other.limit == self.limit and bool(other.reason)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"commands": None}, "commands"),
        ({"dose_is_relative": True}, "dose_is_relative"),
        ({"beam_current_pA": None}, "dose_is_relative"),
        ({"commands": INSTRUMENT.model_copy(update={"min_current_pA": 301.0})}, "max_current_pA"),
        ({"commands": INSTRUMENT.model_copy(update={"min_dwell_s": 1.5})}, "max_dwell_s"),
        ({"commands": INSTRUMENT.model_copy(update={"max_lease_s": 0.04})}, "max_lease_s"),
    ],
)
def test_a_session_that_cant_be_guarded_is_refused(changes, limit):
    assert bounds_for(LIMITS, start(**changes)) == bounds_broken(limit)


def test_an_instrument_without_a_lowest_current_goes_down_to_none():
    bounds = bounds_for(LIMITS, start(commands=INSTRUMENT.model_copy(update={"min_current_pA": None})))
    assert isinstance(bounds, Bounds)
    assert bounds.min_current_pA == MIN_PA
    assert admitted(bounds, Rate(0.4, 0.0), 2.0, 1e9) == bounds_broken("min_current_pA")


@pytest.mark.parametrize(
    ("wanted", "lease_s", "highest_pA", "given", "limit"),
    [
        (Rate(0.4, 100.0), 2.0, 300.0, Admitted(Rate(0.4, 100.0), 2.0, None), None),
        (Rate(0.4, 300.0), 2.0, 300.0, Admitted(Rate(0.4, 300.0), 2.0, None), None),
        (Rate(0.4, 900.0), 2.0, 400.0, Rate(0.4, 300.0), "max_current_pA"),
        (Rate(0.4, 900.0), 2.0, 300.0, Rate(0.4, 300.0), "max_current_pA"),
        (Rate(0.4, 900.0), 2.0, 150.0, Rate(0.4, 150.0), "increase_pA_per_s"),
        (Rate(0.4, 100.0), 2.0, 50.0, Rate(0.4, 50.0), "increase_pA_per_s"),
        (Rate(0.01, 100.0), 2.0, 300.0, Rate(0.05, 100.0), "min_dwell_s"),
        (Rate(1.5, 100.0), 2.0, 300.0, Rate(1.0, 100.0), "max_dwell_s"),
        (Rate(0.05, 5.0), 2.0, 300.0, Rate(0.05, 5.0), None),
        (Rate(1.0, 100.0), 1.0, 300.0, Rate(1.0, 100.0), None),
        (Rate(0.4, 100.0), 9.0, 300.0, Rate(0.4, 100.0), "max_lease_s"),
    ],
)
def test_what_can_be_had_by_giving_less_is_cut(wanted, lease_s, highest_pA, given, limit):
    passed = admitted(BOUNDS, wanted, lease_s, highest_pA)
    assert isinstance(passed, Admitted)
    assert passed.rate == (given.rate if isinstance(given, Admitted) else given)
    assert passed.lease_s == min(lease_s, 2.0)
    assert (None if passed.clamped is None else passed.clamped.limit) == limit


@pytest.mark.parametrize(
    ("wanted", "lease_s", "highest_pA", "limit"),
    [
        (Rate(0.4, 4.9), 2.0, 300.0, "min_current_pA"),
        (Rate(0.4, 100.0), 2.0, 4.9, "min_current_pA"),
        (Rate(0.4, 100.0), 0.39, 300.0, "lease_s"),
    ],
)
def test_what_cant_is_refused(wanted, lease_s, highest_pA, limit):
    assert admitted(BOUNDS, wanted, lease_s, highest_pA) == bounds_broken(limit)


@examples(300)
@given(numbers, numbers, numbers, numbers)
def test_whatever_is_wanted_what_passes_is_within_all_limits(dwell_s, current_pA, lease_s, highest_pA):
    passed = admitted(BOUNDS, Rate(dwell_s, current_pA), lease_s, highest_pA)
    if isinstance(passed, Broken):
        return
    assert 5.0 <= passed.rate.current_pA <= 300.0
    assert passed.rate.current_pA <= highest_pA
    assert not current_pA < passed.rate.current_pA
    assert 0.05 <= passed.rate.dwell_s <= 1.0
    assert passed.rate.dwell_s <= passed.lease_s <= 2.0


def test_the_current_rises_with_time_and_a_pause_saves_up_no_jump():
    assert highest_current_pA(LIMITS, 50.0, 0.5) == 50.0 + 100.0 * 0.5
    assert highest_current_pA(LIMITS, 50.0, 60.0) == 150.0
    assert highest_current_pA(LIMITS, 50.0, -1.0) == 50.0


def test_numbers_that_are_none_are_named():
    assert not_finite({"dwell_s": 0.4, "lease_s": 2.0}) is None
    for value in (math.nan, math.inf, -math.inf):
        broken = not_finite({"dwell_s": 0.4, "lease_s": value})
        assert broken is not None
        assert broken.limit == "finite"
        assert "lease_s" in broken.reason


@pytest.mark.parametrize(
    ("ordered", "read", "is_another"),
    [
        (100.0, 100.0, False),
        (100.0, 105.0, False),
        (100.0, 95.0, False),
        (100.0, 105.1, True),
        (100.0, 94.9, True),
        (-100.0, -105.0, False),
    ],
)
def test_a_readback_within_the_tolerance_is_what_was_ordered(ordered, read, is_another):
    assert differs(ordered, read, 0.05) is is_another


def test_a_readback_that_is_no_number_differs():
    assert differs(100.0, math.nan, 0.05)
