"""Holt's exponential smoothing with a trend, each channel for itself, run over the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eelstm_stream.core.baselines.protocol import Counts
from eelstm_stream.core.baselines.without_fit import weighted

GRID = 51  # values tried of each constant, twice: over [0, 1], and between the neighbours of the best


@dataclass(frozen=True, slots=True)
class Holt:
    """Level and trend, each following the newest spectrum by a constant share."""

    level_constant: float
    trend_constant: float

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts."""
        return weighted(windows, holt_weights(windows.shape[-2], horizon, self.level_constant, self.trend_constant))


def holt_weights(
    window: int, horizon: int, level_constant: ArrayLike, trend_constant: ArrayLike
) -> NDArray[np.float64]:
    """Weights `(…, window)` of the window's spectra in Holt's forecast; constants `(…)` in [0, 1]. They add up to 1.

    With level l and trend b: l ← α y + (1 − α)(l + b), b ← β (l − l before) + (1 − β) b, forecast l + horizon × b. It begins at
    the first spectrum with no trend: the difference of the first two would carry their noise through a window as short as
    these. Source: Holt (1957), reprinted in Int. J. Forecasting 20, 5 (2004).
    """
    share, trend_share = (np.asarray(c, dtype=np.float64)[..., np.newaxis] for c in (level_constant, trend_constant))
    spectra = np.eye(window)
    level = np.broadcast_to(spectra[0], (*np.broadcast_shapes(share.shape, trend_share.shape)[:-1], window))
    trend = np.zeros_like(level)
    for spectrum in spectra[1:]:
        before, level = level, share * spectrum + (1 - share) * (level + trend)
        trend = trend_share * (level - before) + (1 - trend_share) * trend
    return np.asarray(level + horizon * trend)


def fit_holt(runs: Sequence[Counts], window: int, horizons: Sequence[int]) -> Holt:
    """The two constants with the least squared error over all windows, channels and horizons of training runs.

    runs: each `(frame, channel)`, of consecutive frames. Raises ValueError where no window fits.
    """
    moments = [_second_moments(runs, window, horizon) for horizon in horizons]

    def best_of(levels: NDArray[np.float64], trends: NDArray[np.float64]) -> tuple[float, float]:
        squares = np.zeros((len(levels), len(trends)))
        for horizon, moment in zip(horizons, moments, strict=True):
            weights = holt_weights(window, horizon, levels[:, np.newaxis], trends[np.newaxis])
            error = np.concatenate([weights, np.full((*weights.shape[:-1], 1), -1.0)], axis=-1)
            squares += np.einsum("...i,ij,...j->...", error, moment, error)
        level, trend = np.unravel_index(np.argmin(squares), squares.shape)
        return float(levels[level]), float(trends[trend])

    step = 1 / (GRID - 1)
    coarse = best_of(np.linspace(0, 1, GRID), np.linspace(0, 1, GRID))
    fine = (np.clip(np.linspace(constant - step, constant + step, GRID), 0, 1) for constant in coarse)
    return Holt(*best_of(*fine))


def _second_moments(runs: Sequence[Counts], window: int, horizon: int) -> NDArray[np.float64]:
    """Mean products of a window's spectra and its target, two by two: `(window + 1, window + 1)`, the target last.

    Of each channel's mean over its run nothing is left: a forecast whose weights add up to 1 carries it on without error.
    """
    length = window + horizon
    places = np.append(np.arange(window), length - 1)
    total, windows = np.zeros((window + 1, window + 1)), 0
    for run in runs:
        cases = len(run) - length + 1
        if cases < 1:
            continue
        frames = np.asarray(run, dtype=np.float64) - run.mean(axis=0, dtype=np.float64)
        # Products of frames this far apart, once for all the windows that hold both.
        products = {lag: np.einsum("tc,tc->t", frames[: len(run) - lag], frames[lag:]) for lag in range(length)}
        for i, first in enumerate(places):
            for j, second in enumerate(places[i:], start=i):
                total[i, j] += products[second - first][first : first + cases].sum()
        windows += cases
    if not windows:
        raise ValueError(f"no run has the {length} frames of a window and its horizon")
    return np.asarray((total + np.triu(total, 1).T) / windows)
