"""Errors of a model on runs that it was not trained on, beside the baselines and the noise floor.

Beating persistence on noisy targets shows only that noise was taken out, so three further measures stand beside it: the noise
floor, which no forecast of noisy counts goes below; the best baseline; and, where the truth is known, the noise-free spectrum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import Baseline
from eelstm_stream.core.history import running_means
from eelstm_stream.core.model_contract import HorizonError
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.training.dataset import PreparedRun, target_frames, window_starts
from eelstm_stream.training.recipe import Recipe

MODEL = "model"

# (case, window, channel) and (case, channel) float32 counts → (case, horizon, channel) counts and (case, horizon) phase
Forecaster = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.floating], NDArray[np.floating]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors by run, and of all runs together."""

    by_run: tuple[tuple[str, tuple[HorizonError, ...]], ...]  # name of a run, and an entry a horizon
    pooled: tuple[HorizonError, ...]


@dataclass(frozen=True, slots=True)
class _Squares:
    """Mean squared errors of one run at one horizon, by forecaster, and how many windows they are over."""

    cases: int
    noise: float
    counts: Mapping[str, float]
    phase: Mapping[str, float]
    clean: Mapping[str, float]  # empty where the truth is not known


def evaluate(
    forecaster: Forecaster,
    baselines: Mapping[str, Baseline],
    phase: PhaseFunctional,
    runs: Sequence[PreparedRun],
    recipe: Recipe,
) -> Evaluation:
    """Forecast every window of every run. Phases are held against the functional's of the spectrum that came."""
    squares = [_squares_of(forecaster, baselines, phase, run, recipe) for run in runs]
    return Evaluation(
        by_run=tuple((run.name, _errors([of_run], recipe)) for run, of_run in zip(runs, squares, strict=True)),
        pooled=_errors(squares, recipe),
    )


def _squares_of(
    forecaster: Forecaster,
    baselines: Mapping[str, Baseline],
    phase: PhaseFunctional,
    run: PreparedRun,
    recipe: Recipe,
) -> list[_Squares]:
    starts = window_starts(len(run.counts), recipe)
    windows = run.counts[starts[:, np.newaxis] + np.arange(recipe.window)]
    histories = running_means(run.counts)[starts + recipe.window - 1]
    from_model, phase_from_model = forecaster(windows, histories)
    squares = []
    for row, (horizon, aim) in enumerate(zip(recipe.horizons, target_frames(starts, recipe).T, strict=True)):
        forecasts = {name: b(windows, histories, horizon) for name, b in baselines.items()}
        phases = {name: phase(f) for name, f in forecasts.items()} | {MODEL: phase_from_model[:, row]}
        forecasts[MODEL] = from_model[:, row]
        truth = None if run.clean_counts is None else run.clean_counts[aim]
        squares.append(
            _Squares(
                cases=len(starts),
                noise=noise_floor(run.counts) ** 2,
                counts={name: _mean_square(f - run.counts[aim]) for name, f in forecasts.items()},
                phase={name: _mean_square(p - phase(run.counts[aim])) for name, p in phases.items()},
                clean={} if truth is None else {name: _mean_square(f - truth) for name, f in forecasts.items()},
            )
        )
    return squares


def _errors(runs: Sequence[Sequence[_Squares]], recipe: Recipe) -> tuple[HorizonError, ...]:
    """Root mean squares at each horizon, over all windows of all runs."""
    errors = []
    for row, horizon in enumerate(recipe.horizons):
        at_horizon = [of_run[row] for of_run in runs]
        weights = [s.cases for s in at_horizon]
        counts = _pooled([s.counts for s in at_horizon], weights)
        phase = _pooled([s.phase for s in at_horizon], weights)
        clean = _pooled([s.clean for s in at_horizon], weights) if all(s.clean for s in at_horizon) else {}
        errors.append(
            HorizonError(
                horizon=horizon,
                rmse=counts.pop(MODEL),
                noise_floor=float(np.sqrt(np.average([s.noise for s in at_horizon], weights=weights))),
                baselines=counts,
                phase_rmse=phase.pop(MODEL),
                phase_baselines=phase,
                rmse_clean=clean.pop(MODEL, None),
                baselines_clean=clean,
            )
        )
    return tuple(errors)


def _pooled(by_run: Sequence[Mapping[str, float]], weights: Sequence[int]) -> dict[str, float]:
    names: Iterable[str] = by_run[0]
    return {name: float(np.sqrt(np.average([m[name] for m in by_run], weights=weights))) for name in names}


def _mean_square(difference: NDArray[np.floating]) -> float:
    return float(np.mean(np.square(difference, dtype=np.float64)))
