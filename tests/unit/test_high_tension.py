"""The energy axis drifts, wanders and jitters as far as its parameters say, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition_sim import high_tension
from acquisition_sim.high_tension import HighTensionParameters, reach_eV, shift_eV, start, step


def test_an_axis_can_stand_still():
    parameters = HighTensionParameters(offset_eV=0.3)
    state = start(parameters)
    for normal in (-3.0, 2.0):
        state = step(state, parameters, 10.0, normal)
    assert shift_eV(state, parameters, 2.0) == 0.3


def test_a_steady_drift_is_in_proportion_to_time():
    parameters = HighTensionParameters(drift_eV_per_s=-0.02)
    state = step(start(parameters), parameters, 29.0, 1.0)
    assert shift_eV(state, parameters, 1.0) == pytest.approx(-0.58)


def test_a_walk_grows_with_the_root_of_time_however_it_is_cut_into_frames():
    parameters = HighTensionParameters(walk_eV_per_root_s=0.02, limit_eV=20.0)
    normals = np.random.default_rng(0).standard_normal((2000, 100))

    def spread(frames: int, dwell_s: float) -> float:
        ends = []
        for run in normals[:, :frames]:
            state = start(parameters)
            for normal in run:
                state = step(state, parameters, dwell_s, normal)
            ends.append(state.shift_eV)
        return float(np.std(ends))

    assert spread(100, 0.1) == pytest.approx(0.02 * 10**0.5, rel=0.06)
    assert spread(10, 1.0) == pytest.approx(0.02 * 10**0.5, rel=0.06)


def test_jitter_is_forgotten_by_the_next_frame():
    parameters = HighTensionParameters(jitter_eV=0.1)
    state = start(parameters)
    assert shift_eV(state, parameters, 2.0) == pytest.approx(0.2)
    assert shift_eV(step(state, parameters, 1.0, 2.0), parameters, 0.0) == 0


def test_no_frame_is_shifted_further_than_the_reach():
    parameters = HighTensionParameters(drift_eV_per_s=0.3, walk_eV_per_root_s=1.0, jitter_eV=0.5, limit_eV=0.7)
    state, shifts = start(parameters), []
    for walk, jitter in np.random.default_rng(1).standard_normal((2000, 2)) * 3:
        state = step(state, parameters, 1.0, walk)
        assert abs(state.shift_eV) <= 0.7
        shifts.append(shift_eV(state, parameters, jitter))
    assert 0.7 < np.abs(shifts).max() <= reach_eV(parameters) == pytest.approx(0.7 + 2.5)


def test_at_its_limit_the_axis_turns_back():
    parameters = HighTensionParameters(drift_eV_per_s=1.0, limit_eV=1.0)
    path = [step(start(parameters), parameters, seconds, 0.0).shift_eV for seconds in (0.9, 1.1, 2.0, 3.0, 4.0, 4.5)]
    assert path == pytest.approx([0.9, 0.9, 0.0, -1.0, 0.0, 0.5])


def test_it_starts_within_its_limit():
    assert abs(high_tension.start(HighTensionParameters(offset_eV=5.0, limit_eV=2.0)).shift_eV) <= 2
