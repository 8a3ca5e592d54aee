"""The beam obeys orders within its limits, after its delays, and refuses the others whole."""

from __future__ import annotations

import math

import pytest

from acquisition_sim import beam
from acquisition_sim.beam import BeamParameters, BeamState, Order, Refused, due, order

PARAMETERS = BeamParameters(
    energy_keV=300.0,
    current_pA=100.0,
    dwell_s=0.4,
    min_current_pA=1.0,
    max_current_pA=200.0,
    min_dwell_s=0.01,
    max_dwell_s=2.0,
)
SECOND = 1_000_000_000


def with_delays(**delays: float) -> BeamParameters:
    return PARAMETERS.model_copy(update=delays)


def accepted(state: BeamState, command: Order, parameters: BeamParameters = PARAMETERS, **at: int) -> BeamState:
    answer = order(state, command, parameters, **at)
    assert isinstance(answer, BeamState)
    return answer


def test_it_starts_blanked_with_no_current_on_the_specimen():
    state = beam.start(PARAMETERS)
    assert state.blanked
    assert state.probe_current_pA == 0
    shining = due(accepted(state, Order(blanked=False), frame=0, now_ns=0), frame=0, now_ns=0)
    assert shining.probe_current_pA == 100


def test_an_order_changes_what_it_names_and_nothing_else():
    state = BeamState(100.0, 0.4, blanked=False)
    changed = due(accepted(state, Order(dwell_s=0.1), frame=3, now_ns=0), frame=3, now_ns=0)
    assert changed == BeamState(100.0, 0.1, blanked=False)


def test_a_delay_in_frames_lets_that_many_frames_begin_as_before():
    parameters = with_delays(delay_frames=2)
    state = accepted(BeamState(100.0, 0.4), Order(current_pA=50.0), parameters, frame=7, now_ns=0)
    currents = []
    for frame in range(7, 11):
        state = due(state, frame=frame, now_ns=frame * SECOND)
        currents.append(state.current_pA)
    assert currents == [100, 100, 50, 50]
    assert state.pending == ()


def test_a_delay_in_seconds_holds_whatever_the_frames_do():
    parameters = with_delays(delay_s=0.5, delay_frames=1)
    state = accepted(BeamState(100.0, 0.4), Order(current_pA=50.0), parameters, frame=0, now_ns=SECOND)
    assert due(state, frame=90, now_ns=SECOND + SECOND // 2 - 1).current_pA == 100
    assert due(state, frame=90, now_ns=SECOND + SECOND // 2).current_pA == 50


def test_the_blanker_overtakes_a_slow_lens():
    parameters = with_delays(delay_s=10.0, blank_delay_s=0.1)
    state = accepted(BeamState(100.0, 0.4, False), Order(current_pA=50.0, blanked=True), parameters, frame=0, now_ns=0)
    soon = due(state, frame=1, now_ns=SECOND)
    assert (soon.blanked, soon.current_pA) == (True, 100)
    assert due(soon, frame=2, now_ns=10 * SECOND).current_pA == 50


def test_letting_the_beam_on_does_not():
    parameters = with_delays(delay_s=10.0, delay_frames=2, blank_delay_s=0.1)
    state = accepted(BeamState(200.0, 0.4), Order(current_pA=50.0, blanked=False), parameters, frame=0, now_ns=0)
    assert due(state, frame=1, now_ns=10 * SECOND).blanked
    assert due(state, frame=2, now_ns=10 * SECOND - 1).blanked
    assert due(state, frame=2, now_ns=10 * SECOND).probe_current_pA == 50
    assert (
        due(state, frame=None, now_ns=10 * SECOND).probe_current_pA == 50
    )  # under a blanked beam, no frame is in the way


def test_of_two_orders_the_later_one_holds_in_the_end():
    state = BeamState(100.0, 0.4)
    for current_pA in (150.0, 20.0):
        state = accepted(state, Order(current_pA=current_pA), frame=0, now_ns=0)
    assert due(state, frame=0, now_ns=0).current_pA == 20


@pytest.mark.parametrize(
    ("command", "limit", "says"),
    [
        (Order(current_pA=200.1), "max_current_pA", "above the limit of 200 pA"),
        (Order(current_pA=0.5), "min_current_pA", "below the limit of 1 pA"),
        (Order(current_pA=-5.0), "min_current_pA", "-5 pA"),
        (Order(dwell_s=2.5), "max_dwell_s", "2.5 s"),
        (Order(dwell_s=0.0), "min_dwell_s", "0 s"),
        (Order(current_pA=math.nan), "finite", "nan"),
        (Order(dwell_s=math.inf), "finite", "inf"),
        (Order(), "empty", "nothing"),
    ],
)
def test_what_breaks_a_limit_is_refused_by_its_name(command, limit, says):
    refused = order(BeamState(100.0, 0.4), command, PARAMETERS, frame=0, now_ns=0)
    assert isinstance(refused, Refused)
    assert refused.limit == limit
    assert says in refused.reason


def test_an_order_that_is_partly_impossible_is_refused_whole():
    assert isinstance(
        order(BeamState(100.0, 0.4), Order(dwell_s=0.1, current_pA=900.0), PARAMETERS, frame=0, now_ns=0), Refused
    )


def test_the_limits_themselves_are_allowed():
    for command in (Order(current_pA=1.0, dwell_s=2.0), Order(current_pA=200.0, dwell_s=0.01)):
        state = due(accepted(BeamState(100.0, 0.4), command, frame=0, now_ns=0), frame=0, now_ns=0)
        assert (state.current_pA, state.dwell_s) == (command.current_pA, command.dwell_s)
