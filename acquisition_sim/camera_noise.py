"""The noise of a recording, measured on the recording itself, for those who must make more of the same kind. Pure.

From second differences of three consecutive spectra: a change that is steady over the three cancels, noise of variance σ²
leaves 6 σ². What is left of slow changes is taken out as a straight line over each window of channels, and what that takes
from the noise is reckoned with. Windows in which an edge moves, and spectra that an X ray hit, look noisier than the rest and
are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST_FRAMES = 3
WINDOW = 64  # channels: more than neighbours correlate over, fewer than a background bends in
LAGS = 8  # channels apart, beyond which no camera correlates by much
SPIKE = 4.0  # times the median of its window: the spectra in which something else happened
EXCESS = 1.25  # times the fit: the windows in which something moves
REACH = 16  # channels to either side over which the filter goes


@dataclass(frozen=True, slots=True, eq=False)
class CameraNoise:
    """Variance of a channel = variance_over_mean × its mean + read_noise_counts²; neighbours correlate."""

    variance_over_mean: float
    read_noise_counts: float
    correlation: Array  # (lag,), of channels 0, 1, … apart: the first is 1

    def filter(self) -> Array:
        """`(2 REACH + 1,)`, with unit sum of squares: white noise that went through it correlates as the camera's does.

        The root of the power spectrum, so its own spectrum is real and it is symmetric (Wiener–Khinchin).
        """
        lags = np.zeros(8 * REACH)
        lags[: len(self.correlation)] = self.correlation
        lags[len(lags) - len(self.correlation) + 1 :] = self.correlation[:0:-1]
        amplitude = np.sqrt(np.maximum(np.fft.rfft(lags).real, 0))
        kernel = np.roll(np.fft.irfft(amplitude), REACH)[: 2 * REACH + 1]
        return np.asarray(kernel / np.sqrt(kernel @ kernel))


def measured_noise(counts: NDArray[np.floating]) -> CameraNoise:
    """The noise of consecutive spectra, `(frame, channel)`.

    Raises ValueError where there are fewer than FEWEST_FRAMES, or none with counts.
    """
    if len(counts) < FEWEST_FRAMES:
        raise ValueError(f"noise is measured on {FEWEST_FRAMES} spectra or more, and these are {len(counts)}")
    spectra = np.asarray(counts, dtype=np.float64)
    differences = spectra[:-2] - 2 * spectra[1:-1] + spectra[2:]
    width = min(WINDOW, spectra.shape[1])
    windows = spectra.shape[1] // width
    lags = min(LAGS, max(0, width // 4 - 1))
    means = spectra[:, : windows * width].mean(axis=0).reshape(windows, width).mean(axis=1)
    lit = means > 0
    if not lit.any():
        raise ValueError("these spectra have no counts, so no noise either")
    straightened = _straightened(differences[:, : windows * width].reshape(-1, windows, width))
    products = np.stack(  # (lag, frame, window)
        [(straightened[..., lag:] * straightened[..., : width - lag]).sum(axis=-1) for lag in range(lags + 1)]
    )
    usual = products[0] <= SPIKE * np.median(products[0], axis=0)
    frames = usual.sum(axis=0)
    summed = np.where(usual, products, 0).sum(axis=1) / np.maximum(frames, 1)
    variances = np.linalg.solve(_taken_out(width, lags), summed) / 6  # (lag, window)
    kept = lit & (variances[0] > 0)
    if not kept.any():
        return CameraNoise(0.0, 0.0, np.ones(1))
    quiet = EXCESS + 4 / np.sqrt(max(1, len(differences)) * width / 4)
    for _ in range(3):
        slope, offset = _line(means[kept], variances[0][kept])
        kept &= variances[0] <= quiet * (slope * means + offset)
    slope, offset = _line(means[kept], variances[0][kept])
    correlation = variances[:, kept].sum(axis=1) / variances[0][kept].sum()
    return CameraNoise(slope, float(np.sqrt(offset)), np.asarray(correlation))


def _straightened(differences: Array) -> Array:
    """Less a straight line over the last axis."""
    line = _line_basis(differences.shape[-1])
    return np.asarray(differences - (differences @ line) @ line.T)


@cache
def _line_basis(width: int) -> Array:
    """Orthonormal constant and slope, `(width, 2)`; `(width, 0)` where there are too few channels for a line to be taken out."""
    channel = np.arange(width, dtype=np.float64)
    basis, _ = np.linalg.qr(np.stack([np.ones(width), channel], axis=1)[:, : 2 if width >= 8 else 0])
    return np.asarray(basis)


@cache
def _taken_out(width: int, lags: int) -> Array:
    """What sums of products, lag by lag, become for an autocovariance of 1 at one lag, once a line is taken out."""
    basis = _line_basis(width)
    rest = np.eye(width) - basis @ basis.T
    matrix = np.empty((lags + 1, lags + 1))
    for lag in range(lags + 1):
        covariance = np.eye(width) if lag == 0 else np.eye(width, k=lag) + np.eye(width, k=-lag)
        left = rest @ covariance @ rest
        matrix[:, lag] = [np.trace(left, offset=apart) for apart in range(lags + 1)]
    return matrix


def _line(means: Array, variances: Array) -> tuple[float, float]:
    """Slope and offset, both ≥ 0, of variance against mean; relative errors are taken to be alike.

    An offset that can't be told from none, at two standard errors, is none: a few spectra give any.
    """
    ratios = variances / means
    design = np.stack([np.ones_like(means), 1 / means], axis=1)
    if len(means) > 2 and np.linalg.matrix_rank(design) == 2:
        (slope, offset), *_ = np.linalg.lstsq(design, ratios, rcond=None)
        scatter = np.sum((ratios - design @ [slope, offset]) ** 2) / (len(means) - 2)
        error = np.sqrt(scatter * np.linalg.inv(design.T @ design)[1, 1])
        if slope > 0 and offset > 2 * error:
            return float(slope), float(offset)
    return float(np.mean(ratios)), 0.0
