"""Specimens of the benchmark of control: others than the model was trained on, and known exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition_sim.closed_loop.specimens import MOST_SPECIMENS, reported_specimens, tuning_specimens
from acquisition_sim.microscope import Microscope
from tests.properties import examples


def test_no_specimen_is_tuned_on_and_reported_or_trained_on() -> None:
    def seeds(seed: int) -> tuple[set[int], set[int]]:
        return {s.seed for s in reported_specimens(3, seed)}, {s.seed for s in tuning_specimens(3, seed)}

    (reported, tuned_on), (others, _) = seeds(0), seeds(1)
    last_reported = max(reported) + MOST_SPECIMENS - len(reported)
    assert last_reported < min(tuned_on)
    assert max(tuned_on) + MOST_SPECIMENS - len(tuned_on) < min(others)
    assert min(reported) > 10_000  # training and evaluation runs lie below


def test_its_phase_is_the_microscopes_own() -> None:
    (specimen,) = reported_specimens(1, 0)
    microscope = Microscope(specimen.preset)
    state = microscope.start(specimen.seed)
    for current_pA in (230.0, 20.0, 100.0):
        middle_pC = state.specimen.dose_pC + 0.2 * current_pA
        state, exposure = microscope.expose(state, 0.4, current_pA)
        assert exposure.phase == pytest.approx(float(specimen.phase_at(middle_pC)), abs=1e-9)


@examples(30)
@given(phase=st.floats(0.001, 0.99))
def test_the_dose_of_a_phase_brings_that_phase(phase: float) -> None:
    (specimen,) = reported_specimens(1, 3)
    assert float(specimen.phase_at(specimen.dose_at(phase))) == pytest.approx(phase, abs=1e-9)
