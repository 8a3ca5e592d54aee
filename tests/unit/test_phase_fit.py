"""The scale of a phase is what specimens do that the phase was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.phase_scale import UNKNOWN_SCALE
from eelstm_stream.training.phase_fit import cross_fitted_scale, fit_phase_scale, phase_of_ends
from tests.simulated_runs import simulated

START, OWN, NOISE = 0.05, 0.03, 0.03


def phases_of(runs: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Phases that run ahead of the fraction, of specimens with an offset that fades and a part of their own that grows."""
    random = np.random.default_rng(seed)
    phases, fractions = [], []
    for _ in range(runs):
        x = 1 - np.exp(-((np.arange(120) / random.uniform(40, 70)) ** 2))
        offset, own = random.normal(0, START), random.normal(0, OWN)
        mean = x * (2 - x)
        phases.append(mean + (1 - x) * offset + np.sqrt(x) * own + random.normal(0, NOISE, len(x)))
        fractions.append(x)
    return phases, fractions


def test_the_curve_the_fading_offset_and_the_scatter_are_found():
    scale = fit_phase_scale(*phases_of(200))
    assert scale.from_truth
    x = scale.column("fraction")
    inner = (x > 0) & (x < 0.95)
    np.testing.assert_allclose(scale.column("phase"), x * (2 - x), atol=0.03)
    np.testing.assert_allclose(scale.column("start_share")[inner], 1 - x[inner], atol=0.15)
    np.testing.assert_allclose(scale.column("scatter")[inner], OWN * np.sqrt(x[inner]), atol=0.008)
    assert scale.start_scatter == pytest.approx(START, rel=0.15)


def test_noise_is_not_taken_for_scatter():
    phases, fractions = phases_of(200)
    random = np.random.default_rng(9)
    scale = fit_phase_scale([g + random.normal(0, 0.15, len(g)) for g in phases], fractions)
    assert scale.start_scatter == pytest.approx(START, rel=0.2)
    assert scale.knots[6].scatter == pytest.approx(OWN * np.sqrt(0.5), abs=0.012)


def test_without_known_fractions_it_is_a_straight_line_with_the_scatter_of_the_ends():
    phases, fractions = phases_of(60)
    scale = fit_phase_scale(phases, [None] * 60)
    assert not scale.from_truth
    assert scale.column("phase").tolist() == [0, 1]
    assert scale.start_scatter == pytest.approx(START, rel=0.3)
    assert scale.column("scatter")[-1] == pytest.approx(OWN, rel=0.3)
    assert fit_phase_scale(phases, [*fractions[:3], *[None] * 57]) == scale  # three known ones are too few


def test_from_a_run_or_two_no_scatter_is_claimed():
    phases, fractions = phases_of(3)
    assert fit_phase_scale(phases, fractions) == UNKNOWN_SCALE


def test_runs_that_end_early_have_a_scale_as_far_as_they_go():
    phases, fractions = phases_of(20)
    scale = fit_phase_scale([g[:40] for g in phases], [x[:40] for x in fractions])
    assert 0.1 <= scale.knots[-1].fraction <= 0.6


@pytest.fixture(scope="module")
def specimens():
    return [simulated(60, seed, critical_dose_pC=2500.0, steady_axis=True) for seed in range(24)]


def test_on_simulated_specimens_the_fraction_of_others_is_found(specimens):
    train, unseen = specimens[:16], specimens[16:]
    phase = phase_of_ends([run.counts for run in train])
    scale = cross_fitted_scale([run.counts for run in train], [run.phase for run in train])
    errors, ahead = [], []
    for run in unseen:
        here = scale.of_session(phase(run.counts[:5]), [0.04] * 5, run.phase[:5])
        near = np.abs(run.phase - 0.3) < 0.1
        clean = phase(run.clean_counts[near])
        errors.append(np.mean(here.fraction(clean)[0] - run.phase[near]))
        ahead.append(np.mean(clean - run.phase[near]))
    assert np.sqrt(np.mean(np.square(errors))) < 0.02
    assert np.mean(ahead) > 0.05  # the phase itself is no fraction


def test_the_scatter_said_is_that_of_runs_that_the_phase_was_not_fitted_on(specimens):
    train = [run.counts for run in specimens[:16]]
    phase = phase_of_ends(train)
    said = cross_fitted_scale(train, [None] * 16).start_scatter
    on_its_own = fit_phase_scale([phase(run) for run in train], [None] * 16).start_scatter
    on_others = float(np.std([phase(run.clean_counts[:8]).mean() for run in specimens[16:]], ddof=1))
    assert on_its_own < 0.5 * said
    assert 0.5 < said / on_others < 2
