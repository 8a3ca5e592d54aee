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
    return fit_phase([run.counts[:8]], [run.counts[-8:]])


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
        fit_phase([np.zeros((4, 2048))], [run.counts[:4]])


def test_spectra_that_differ_by_noise_alone_have_no_phase(run):
    with pytest.raises(ValueError, match="no more than noise"):
        fit_phase([run.counts[0:8:2]], [run.counts[1:8:2]])
    with pytest.raises(ValueError, match="no more than noise"):
        fit_phase([np.ones((4, 50))], [np.ones((4, 50))])
    with pytest.raises(ValueError, match="two first and two last"):
        fit_phase([run.counts[:1]], [run.counts[-8:]])
    with pytest.raises(ValueError, match="two first and two last"):
        fit_phase([], [])
    with pytest.raises(ValueError, match="two first and two last"):
        fit_phase([run.counts[:8], run.counts[:1]], [run.counts[-8:], run.counts[-8:]])


# --- specimens that differ ------------------------------------------------------------------------------------------

CHANNELS = 400
ENERGY = np.arange(CHANNELS, dtype=np.float64)


def line(at: float, width: float = 12.0) -> np.ndarray:
    return np.exp(-(((ENERGY - at) / width) ** 2))


PRISTINE, TRANSFORMED = 1000 + 800 * line(150) + 500 * line(250), 1000 + 800 * line(165) + 300 * line(250)
NUISANCE = line(150)  # the height of a line that also says how much is transformed


def specimen(random: np.random.Generator, spectrum: np.ndarray, frames: int, height: float) -> np.ndarray:
    """(frame, channel) counts with Poisson noise, of a specimen whose line at 150 is higher by this much."""
    counts: np.ndarray = random.poisson(np.tile(spectrum + height * NUISANCE, (frames, 1))).astype(np.float64)
    return counts


def ends_of(runs: int, spread: float, seed: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    heights = random.uniform(-spread, spread, (2, runs))
    first, last = (
        [specimen(random, s, 8, h) for h in hs] for s, hs in zip((PRISTINE, TRANSFORMED), heights, strict=True)
    )
    return first, last


def test_it_is_blind_to_what_differs_between_runs():
    phase, of_one = fit_phase(*ends_of(12, 100)), fit_phase(*ends_of(1, 0))
    for spectrum, value in ((PRISTINE, 0), (TRANSFORMED, 1)):
        assert phase(spectrum) == pytest.approx(value, abs=0.02)
        blind, seeing = (abs(float(f(spectrum + 100 * NUISANCE) - f(spectrum))) for f in (phase, of_one))
        assert blind < 0.01
        assert seeing > 0.05  # what it is blind to is not small
    assert phase(3 * TRANSFORMED) == pytest.approx(phase(TRANSFORMED), abs=1e-9)


def test_blindness_is_not_bought_with_noise_where_nothing_differs():
    alike, of_one = fit_phase(*ends_of(40, 0)), fit_phase(*ends_of(1, 0))
    assert alike.measure(PRISTINE, 1.0)[1] < 1.05 * of_one.measure(PRISTINE, 1.0)[1]


def test_its_standard_deviation_holds_for_a_blind_one_too():
    phase = fit_phase(*ends_of(12, 100))
    measured = phase(specimen(np.random.default_rng(5), PRISTINE, 2000, 0))
    assert phase.measure(PRISTINE, 1.0)[1] == pytest.approx(np.std(measured), rel=0.1)


def test_runs_without_noise_can_be_fitted_too():
    phase = fit_phase([np.tile(PRISTINE, (2, 1))] * 2, [np.tile(TRANSFORMED, (2, 1))] * 2)
    np.testing.assert_allclose(phase(np.stack([PRISTINE, TRANSFORMED])), [0, 1], atol=1e-5)


def test_a_channel_that_counts_nothing_takes_no_part():
    first, last = ends_of(4, 50)
    for frames in (*first, *last):
        frames[:, 7] = 0
    phase = fit_phase(first, last)
    assert np.isfinite(phase.numerator).all()
