"""The phase is 0 and 1 where it was fitted, blind to thickness, and as uncertain as it says."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.noise import variance_over_mean
from eelstm_stream.core.phase import fit_phase
from tests.simulated_runs import simulated


@pytest.fixture(scope="module")
def run():
    return simulated(160, seed=3, steady_axis=True)


@pytest.fixture(scope="module")
def phase(run):
    return fit_phase(run.counts[:8], run.counts[-8:])


def test_it_is_nought_on_the_first_and_one_on_the_last_frames(run, phase):
    # Of the truth behind the frames that it was fitted on, whose own noise it must not have learnt.
    assert phase(run.clean_counts[:8].mean(axis=0)) == pytest.approx(0, abs=0.03)
    assert phase(run.clean_counts[-8:].mean(axis=0)) == pytest.approx(1, abs=0.03)


def test_thickness_and_current_cancel(run, phase):
    np.testing.assert_allclose(phase(run.counts * 3.7), phase(run.counts), atol=1e-6)


def test_it_follows_the_transformed_fraction_in_another_run(phase):
    other = simulated(160, seed=8, steady_axis=True)
    clean = simulated(160, seed=3, steady_axis=True)
    low, high = clean.phase[:8].mean(), clean.phase[-8:].mean()
    found = low + (high - low) * phase(other.clean_counts)
    assert np.abs(found - other.phase).max() < 0.12  # a single run's phase carries its own thickness and background


def test_its_standard_deviation_is_what_repeats_scatter_by(run, phase):
    noise_model = variance_over_mean(run.counts)
    # Of the frames that it was not fitted on: it has learnt the noise of the others.
    scatter = np.std(phase(run.counts[8:-8]) - phase(run.clean_counts[8:-8]))
    said = np.mean([phase.measure(c, noise_model)[1] for c in run.counts])
    assert said == pytest.approx(scatter, rel=0.15)


def test_shapes_of_any_rank(run, phase):
    assert phase(run.counts[:6].reshape(2, 3, -1)).shape == (2, 3)
    assert phase(run.counts[0]).shape == ()


def test_no_counts_no_phase(run, phase):
    nothing = np.zeros(2048, np.float32)
    assert np.isnan(phase(nothing))
    assert np.isnan(phase.measure(nothing, 4.6)[1])
    with pytest.raises(ValueError, match="without counts"):
        fit_phase(np.zeros((4, 2048)), run.counts[:4])


def test_spectra_that_differ_by_noise_alone_have_no_phase(run):
    with pytest.raises(ValueError, match="no more than noise"):
        fit_phase(run.counts[0:8:2], run.counts[1:8:2])
    with pytest.raises(ValueError, match="no more than noise"):
        fit_phase(np.ones((4, 50)), np.ones((4, 50)))
    with pytest.raises(ValueError, match="two first and two last"):
        fit_phase(run.counts[:1], run.counts[-8:])
