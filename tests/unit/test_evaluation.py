"""Errors are counted on the right frames, and stand beside the floor that none can go below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.training.dataset import windows_and_targets
from eelstm_stream.training.evaluation import evaluate
from eelstm_stream.training.material import Material, gather
from eelstm_stream.training.recipe import Recipe
from tests.simulated_runs import simulated

RECIPE = Recipe(horizons=(1, 8))
QUICK_pC = 1_500.0


@pytest.fixture(scope="module")
def material() -> Material:
    recordings = [simulated(48, seed, critical_dose_pC=QUICK_pC) for seed in range(6)]
    return gather(recordings[:4], recordings[4:], RECIPE)


@pytest.fixture(scope="module")
def baselines(material):
    runs = [run.counts for run in material.runs[:3]]
    return fit_baselines(runs, RECIPE.window, RECIPE.horizons).by_name()


def with_phase(counts_only, phase):
    """A forecaster whose phase is that of its counts."""

    def forecaster(windows, histories):
        forecast = counts_only(windows, histories)
        return forecast, phase(forecast)

    return forecaster


def persist(windows, histories):
    return np.repeat(windows[:, -1:], 2, axis=1)


def test_a_forecaster_that_knows_the_truth_is_left_with_the_noise(material, baselines):
    future = iter([windows_and_targets(run.clean_counts, RECIPE)[1] for run in material.test])
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(lambda w, h: next(future), phase), baselines, phase, material.test, RECIPE)
    for errors in evaluation.pooled:
        assert errors.rmse_clean == 0
        assert errors.rmse == pytest.approx(errors.noise_floor, rel=0.05)
        assert all(errors.rmse < baseline for baseline in errors.baselines.values())


def test_a_model_that_is_a_baseline_has_its_errors(material, baselines):
    name = "pca_ridge_carried"  # which needs the history

    def as_baseline(windows, histories):
        return np.stack([baselines[name](windows, histories, h) for h in RECIPE.horizons], axis=1)

    phase = material.fitted.phase
    evaluation = evaluate(with_phase(as_baseline, phase), baselines, phase, material.test, RECIPE)
    for errors in evaluation.pooled:
        assert errors.rmse == pytest.approx(errors.baselines[name])
        assert errors.rmse_clean == pytest.approx(errors.baselines_clean[name])
        assert errors.phase_rmse == pytest.approx(errors.phase_baselines[name])
    near, far = evaluation.pooled
    assert near.horizon == 1
    assert near.baselines["persistence"] < far.baselines["persistence"]


def test_runs_are_reported_apart_and_pooled_by_their_windows(material, baselines):
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(persist, phase), baselines, phase, material.test, RECIPE)
    assert [name for name, _ in evaluation.by_run] == [run.name for run in material.test]
    squares = [errors[1].rmse ** 2 for _, errors in evaluation.by_run]
    assert evaluation.pooled[1].rmse ** 2 == pytest.approx(np.mean(squares))


def test_without_a_known_truth_none_is_reported(material, baselines):
    blind = [replace(run, clean_counts=None) for run in material.test]
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(persist, phase), baselines, phase, blind, RECIPE)
    assert evaluation.pooled[0].rmse_clean is None
    assert evaluation.pooled[0].baselines_clean == {}
