"""Noise of a series, measured on the series itself.

From second differences of three consecutive spectra: a change that is steady over the three cancels, noise of variance σ²
leaves 6 σ². The median over the series keeps jumps out. What it can't tell from noise is a change faster than three spectra.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 20  # channels summed: more than neighbours correlate over, fewer than lines are wide


def _second_difference_variances(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Noise variance of one channel, averaged over channels, at each inner frame: `(frame − 2,)`."""
    if len(frames) < 3:
        raise ValueError("noise is measured on three consecutive spectra or more")
    s = np.asarray(frames, dtype=np.float64)
    return np.asarray(np.mean((s[:-2] - 2 * s[1:-1] + s[2:]) ** 2, axis=1) / 6)


def noise_variances(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Noise variance of one channel at each frame of a run, `(frame,)`; the first and the last have their neighbour's."""
    return np.pad(_second_difference_variances(frames), 1, mode="edge")


def noise_floor(frames: NDArray[np.floating], among: NDArray[np.integer] | None = None) -> float:
    """Root mean square noise of one spectrum of a run, `(frame, channel)`: no forecast of noisy counts does better.

    among: numbers of the frames that it is asked of, where not of all.
    """
    variances = _second_difference_variances(frames) if among is None else noise_variances(frames)[among]
    return float(np.sqrt(np.median(variances)))


def variance_over_mean(frames: NDArray[np.floating]) -> float:
    """Factor of the noise model, variance = factor × mean, for sums over channels of a run `(frame, channel)`.

    Measured on blocks of channels, not on single ones: a camera's point spread and resampling by a fraction of a channel
    share counts between neighbours, which evens single channels out but leaves sums, and so phases, as noisy as before.
    Raises ValueError where there are fewer than three frames, or one without counts.
    """
    block = min(BLOCK, frames.shape[1])
    blocks = frames.shape[1] // block
    parts = np.asarray(frames[:, : blocks * block], dtype=np.float64).reshape(len(frames), blocks, block)
    sums = np.asarray(parts.sum(axis=2))
    variances = _second_difference_variances(sums)
    means = sums[1:-1].mean(axis=1)
    if not (means > 0).all():
        raise ValueError("a series without counts has no noise model")
    return float(np.median(variances / means))


def noise_of_series(series: Sequence[NDArray[np.floating]]) -> float:
    """Standard deviation of the noise of a number measured on each spectrum, over runs `(frame,)` of consecutive ones.

    From the median of the squared second differences, that of χ² with one degree of freedom being 0.455. Raises ValueError
    where no run has three.
    """
    differences = [s[:-2] - 2 * s[1:-1] + s[2:] for s in series if len(s) >= 3]
    if not differences:
        raise ValueError("noise is measured on three consecutive spectra or more")
    return float(np.sqrt(np.median(np.concatenate(differences) ** 2) / 0.4549 / 6))
