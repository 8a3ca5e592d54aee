"""Forecasts that need no network: what a model must beat to be worth having.

Each takes windows `(…, window, channel)` counts, oldest first, and a horizon in steps (1 is the next spectrum), and returns
`(…, channel)`. Against noisy targets persistence is a low bar, since the mean of a window already halves its own noise;
the bar is `LinearTrendInComponents`.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        basis = vectors[:, -components:].T @ centred
        basis = np.linalg.qr(basis.T)[0].T
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        basis = vectors[:, -components:].T
    return LinearTrendInComponents(mean, np.ascontiguousarray(basis))


def baselines_for(trend: LinearTrendInComponents) -> Mapping[str, Baseline]:
    """Every baseline by the name that reports give it."""
    return MappingProxyType(
        {
            "persistence": persistence,
            "window_mean": window_mean,
            "linear_extrapolation": linear_extrapolation,
            "pca_linear_trend": trend,
        }
    )
