"""Forecasts that need no network: what a model must beat to be worth having.

Each takes windows `(…, window, channel)` counts, oldest first, and a horizon in steps (1 is the next spectrum), and returns
`(…, channel)`. Against noisy targets persistence is a low bar, since the mean of a window already halves its own noise;
the bar is `LinearTrendInComponents`, and above it `RidgeInComponents`, which has training data to learn from as a network has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.floating]

COMPONENTS = 6  # enough for intensity, background, phase and two of residual drift; more of them carry noise


class Baseline(Protocol):
    """A forecast from a window alone."""

    def __call__(self, windows: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts, `horizon` steps after the newest."""


def trend_weights(window: int, horizon: int) -> NDArray[np.float64]:
    """Weights `(window,)` whose sum with equally spaced values is their least-squares line, `horizon` steps after the last.

    The line through (t, y) at t* is ȳ + (t* − t̄) Σ (t − t̄) y / Σ (t − t̄)², which is linear in y. They add up to 1.
    """
    if window < 2:
        raise ValueError("a line needs two spectra")
    t = np.arange(window) - (window - 1) / 2
    reach = (window - 1) / 2 + horizon
    return np.asarray(1 / window + reach * t / float(t @ t), dtype=np.float64)


def persistence(windows: Counts, horizon: int) -> Counts:
    """The newest spectrum stays."""
    return windows[..., -1, :]


def window_mean(windows: Counts, horizon: int) -> Counts:
    """The mean of the window: less noise than persistence, and a lag of half a window more."""
    return np.asarray(windows.mean(axis=-2))


def linear_extrapolation(windows: Counts, horizon: int) -> Counts:
    """The least-squares line of each channel, carried on: no lag, and the noise of every channel several times over."""
    return np.asarray(np.einsum("t,...tc->...c", trend_weights(windows.shape[-2], horizon), windows))


@dataclass(frozen=True, slots=True)
class LinearTrendInComponents:
    """The least-squares line carried on in a few principal components: no lag, and little noise."""

    mean: NDArray[np.float64]  # (channel,)
    components: NDArray[np.float64]  # (component, channel), orthonormal

    def __call__(self, windows: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts."""
        ahead = linear_extrapolation(windows, horizon) - self.mean
        return np.asarray(self.mean + (ahead @ self.components.T) @ self.components)


def fit_linear_trend(frames: Counts, components: int = COMPONENTS) -> LinearTrendInComponents:
    """Principal components of training frames `(frame, channel)`, aligned counts at the reference dose.

    Raises ValueError where there are fewer frames than components.
    """
    if len(frames) <= components:
        raise ValueError(f"{len(frames)} frames do not span {components} components")
    mean = frames.mean(axis=0, dtype=np.float64)
    centred = np.asarray(frames, dtype=np.float64) - mean
    # The smaller of the two Gram matrices: frames by frames, or channels by channels.
    if len(frames) < frames.shape[1]:
        _, vectors = np.linalg.eigh(centred @ centred.T)
        basis = np.linalg.qr((vectors[:, -components:].T @ centred).T)[0].T
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        basis = vectors[:, -components:].T
    return LinearTrendInComponents(mean, np.ascontiguousarray(basis))


@dataclass(frozen=True, slots=True)
class RidgeInComponents:
    """For each horizon, a linear map from the window's principal components to those of the spectrum to come."""

    mean: NDArray[np.float64]  # (channel,)
    components: NDArray[np.float64]  # (component, channel), orthonormal
    offset: NDArray[np.float64]  # (window × component,), mean scores of the training windows
    maps: Mapping[
        int, tuple[NDArray[np.float64], NDArray[np.float64]]
    ]  # horizon: (window × component, component), (component,)

    def __call__(self, windows: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts. Raises KeyError for a horizon that it was not fitted to."""
        weights, at_offset = self.maps[horizon]
        scores = (windows - self.mean) @ self.components.T
        ahead = (scores.reshape(*scores.shape[:-2], -1) - self.offset) @ weights + at_offset
        return np.asarray(self.mean + ahead @ self.components)


def fit_ridge(
    trend: LinearTrendInComponents, runs: Sequence[Counts], window: int, horizons: Sequence[int]
) -> RidgeInComponents:
    """Ridge regression on every window of training runs, each `(frame, channel)` and of consecutive frames.

    The components are those of `trend`. The penalty is the noise that the windows' scores carry, summed over windows: in
    a regression on noisy inputs that is what keeps the weights from following it. Raises ValueError where no window fits.
    """
    length, components = window + max(horizons), len(trend.components)
    used = [run for run in runs if len(run) >= length]
    if not used:
        raise ValueError(f"no run has the {length} frames of a window and its horizon")
    scores = [(run - trend.mean) @ trend.components.T for run in used]
    starts = [np.arange(len(s) - length + 1) for s in scores]
    inputs = np.concatenate(
        [s[i[:, np.newaxis] + np.arange(window)].reshape(len(i), -1) for s, i in zip(scores, starts, strict=True)]
    )
    offset = inputs.mean(axis=0)
    outside = sum(float(np.sum((run - trend.mean) ** 2) - np.sum(s**2)) for run, s in zip(used, scores, strict=True))
    noise_variance = outside / (sum(map(len, used)) * (len(trend.mean) - components))
    gram = (inputs - offset).T @ (inputs - offset) + len(inputs) * noise_variance * np.eye(window * components)
    maps = {}
    for horizon in horizons:
        targets = np.concatenate([s[i + window - 1 + horizon] for s, i in zip(scores, starts, strict=True)])
        centre = targets.mean(axis=0)
        maps[horizon] = (np.linalg.solve(gram, (inputs - offset).T @ (targets - centre)), centre)
    return RidgeInComponents(trend.mean, trend.components, offset, MappingProxyType(maps))


def baselines_for(trend: LinearTrendInComponents, ridge: RidgeInComponents) -> Mapping[str, Baseline]:
    """Every baseline by the name that reports give it."""
    return MappingProxyType(
        {
            "persistence": persistence,
            "window_mean": window_mean,
            "linear_extrapolation": linear_extrapolation,
            "pca_linear_trend": trend,
            "pca_ridge": ridge,
        }
    )
