"""Noise of a series, measured on the series itself.

From second differences of three consecutive spectra: a change that is steady over the three cancels, noise of variance σ²
leaves 6 σ². The median over the series keeps jumps out. What it can't tell from noise is a change faster than three spectra.
Preparation comes first: resampling by a fraction of a channel smooths, so the noise of raw counts is not that of aligned ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _variances(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Variance of one channel, averaged over channels, at each inner frame: `(frame − 2,)`."""
    if len(frames) < 3:
        raise ValueError("noise is measured on three consecutive spectra or more")
    s = np.asarray(frames, dtype=np.float64)
    return np.asarray(np.mean((s[:-2] - 2 * s[1:-1] + s[2:]) ** 2, axis=1) / 6)


def noise_floor(frames: NDArray[np.floating]) -> float:
    """Root mean square noise of one spectrum of a run, `(frame, channel)`: no forecast of noisy counts does better."""
    return float(np.sqrt(np.median(_variances(frames))))


def variance_over_mean(frames: NDArray[np.floating]) -> float:
    """Factor of the noise model, variance = factor × mean counts, of a run `(frame, channel)`.

    Raises ValueError where the mean counts are not positive.
    """
    means = np.mean(frames[1:-1], axis=1, dtype=np.float64)
    if not (means > 0).all():
        raise ValueError("a series without counts has no noise model")
    return float(np.median(_variances(frames) / means))
