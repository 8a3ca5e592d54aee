"""Forecasts from a window alone, with nothing fitted: low bars, which a model must not even come near."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.protocol import Baseline, Counts


def trend_weights(window: int, horizon: int) -> NDArray[np.float64]:
    """Weights `(window,)` whose sum with equally spaced values is their least-squares line, `horizon` steps after the last.

    The line through (t, y) at t* is ȳ + (t* − t̄) Σ (t − t̄) y / Σ (t − t̄)², which is linear in y. They add up to 1.
    """
    if window < 2:
        raise ValueError("a line needs two spectra")
    t = np.arange(window) - (window - 1) / 2
    reach = (window - 1) / 2 + horizon
    return np.asarray(1 / window + reach * t / float(t @ t), dtype=np.float64)


def persistence(windows: Counts, history: Counts, horizon: int) -> Counts:
    """The newest spectrum stays."""
    return windows[..., -1, :]


def window_mean(windows: Counts, history: Counts, horizon: int) -> Counts:
    """The mean of the window: less noise than persistence, and a lag of half a window more."""
    return np.asarray(windows.mean(axis=-2))


def linear_extrapolation(windows: Counts, history: Counts, horizon: int) -> Counts:
    """The least-squares line of each channel, carried on: no lag, and the noise of every channel several times over."""
    return weighted(windows, trend_weights(windows.shape[-2], horizon))


def weighted(windows: Counts, weights: NDArray[np.floating]) -> Counts:
    """Sum of the spectra of `(…, window, channel)` with weights `(window,)`: `(…, channel)`."""
    return np.asarray(np.einsum("t,...tc->...c", weights, windows))


def baselines_without_fit(window: int) -> Mapping[str, Baseline]:
    """By the names that reports give them, those that a window of so many spectra allows."""
    named: dict[str, Baseline] = {"persistence": persistence, "window_mean": window_mean}
    if window > 1:
        named["linear_extrapolation"] = linear_extrapolation
    return MappingProxyType(named)
