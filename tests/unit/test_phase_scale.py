"""From phase to transformed fraction: what a session's start says counts, and what is not known is in the interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eelstm_stream.core.phase_scale import UNKNOWN_SCALE, PhaseScale, ScaleKnot, straight_scale

CURVED = PhaseScale(
    knots=(
        ScaleKnot(fraction=0.0, phase=0.0, start_share=1.0, scatter=0.0),
        ScaleKnot(fraction=0.3, phase=0.45, start_share=0.5, scatter=0.01),
        ScaleKnot(fraction=1.0, phase=1.0, start_share=0.0, scatter=0.02),
    ),
    start_scatter=0.03,
    from_truth=True,
)


def test_the_mean_specimens_phases_are_their_fractions():
    fraction, _ = CURVED.of_session().fraction(np.array([0.0, 0.225, 0.45, 1.0]))
    np.testing.assert_allclose(fraction, [0, 0.15, 0.3, 1], atol=1e-12)


def test_beyond_the_knots_it_goes_on_straight_so_that_noise_about_the_ends_averages_out():
    fraction, _ = CURVED.of_session().fraction(np.array([-0.15, 0.15, 1.11]))
    np.testing.assert_allclose(fraction, [-0.1, 0.1, 1.14], atol=1e-12)


def test_a_mixture_of_two_spectra_is_read_exactly_once_its_start_is_known():
    x, offset = np.linspace(0, 1, 11), 0.2
    here = straight_scale(start_scatter=1.0, end_scatter=0.0).of_session([offset] * 3, [1e-6] * 3)
    fraction, deviation = here.fraction(x + (1 - x) * offset)
    np.testing.assert_allclose(fraction, x, atol=1e-9)
    assert deviation.max() < 1e-5


def test_a_noisy_start_is_believed_as_far_as_specimens_differ():
    quiet, noisy = CURVED.of_session([0.06] * 8, [0.001] * 8), CURVED.of_session([0.06], [0.03])
    assert quiet.offset == pytest.approx(0.06, rel=0.01)
    assert noisy.offset == pytest.approx(0.03)  # noise as large as the scatter: half of it
    assert noisy.offset_deviation == pytest.approx(0.03 / np.sqrt(2))
    assert CURVED.of_session().offset_deviation == pytest.approx(0.03)


def test_frames_that_are_no_longer_pristine_can_be_taken_for_what_they_are():
    here = CURVED.of_session([0.15, 0.30], [1e-4, 1e-4], fractions=[0.1, 0.2])
    assert here.offset == pytest.approx(0, abs=1e-9)


def test_the_deviation_is_what_specimens_scatter_by():
    random = np.random.default_rng(3)
    sessions, noise, x = 4000, 0.04, 0.15
    offsets = random.normal(0, CURVED.start_scatter, sessions)
    own = random.normal(0, 0.005, sessions)
    starts = offsets[:, np.newaxis] + random.normal(0, noise, (sessions, 8))
    phases = 0.225 + 0.75 * offsets + own + random.normal(0, noise / 4, sessions)  # the mean of 16 frames
    found = [
        CURVED.of_session(start, [noise] * 8).fraction(phase, noise / 4)
        for start, phase in zip(starts, phases, strict=True)
    ]
    errors, said = np.array([f for f, _ in found]) - x, np.array([sd for _, sd in found])
    assert np.mean(said) == pytest.approx(np.std(errors), rel=0.1)
    assert abs(np.mean(errors)) < 0.002


@given(
    offsets=st.lists(st.floats(-2, 2), max_size=5),
    phases=st.lists(st.floats(-3, 3), min_size=2, max_size=20).map(sorted),
)
def test_a_higher_phase_is_a_higher_fraction_whatever_the_start(offsets, phases):
    here = CURVED.of_session(offsets, [0.01] * len(offsets))
    fraction, deviation = here.fraction(np.array(phases), 0.04)
    assert (np.diff(fraction) >= 0).all()
    assert np.isfinite(fraction).all()
    assert (deviation > 0).all()


@pytest.mark.parametrize(
    ("phases", "deviations"),
    [([np.nan], [0.1]), ([0.1], [0.0]), ([0.1], [np.inf]), ([0.1, 0.2], [0.1]), ([0.1], [-0.1])],
)
def test_a_start_that_cannot_be_weighed_is_refused(phases, deviations):
    with pytest.raises(ValueError, match="finite"):
        CURVED.of_session(phases, deviations)


def test_a_scale_that_does_not_rise_is_refused():
    with pytest.raises(ValidationError, match="rise"):
        PhaseScale(knots=CURVED.knots[::-1], start_scatter=0.1, from_truth=False)
    falling = CURVED.knots[1].model_copy(update={"phase": -0.1})
    with pytest.raises(ValidationError, match="rise"):
        PhaseScale(knots=(CURVED.knots[0], falling), start_scatter=0.1, from_truth=False)


def test_it_survives_json():
    assert PhaseScale.model_validate_json(CURVED.model_dump_json()) == CURVED
    assert not UNKNOWN_SCALE.from_truth
