"""Damage coordinate of a spectrum: 0 pristine, 1 fully transformed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PhaseFunctional:
    """Phase as a ratio of two linear functionals of the spectrum, (s·w)/(s·v).

    A ratio, so that thickness and beam current cancel. numerator w and denominator v: `(channel,)` float32.
    """

    numerator: NDArray[np.float32]
    denominator: NDArray[np.float32]

    def __call__(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Phase of counts `(…, channel)`: `(…)` float64. NaN where the denominator vanishes."""
        s = np.asarray(counts, dtype=np.float64)
        below = s @ self.denominator.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(below == 0, np.nan, (s @ self.numerator.astype(np.float64)) / below))

    def standard_deviation(self, counts: NDArray[np.floating], variance_over_mean: float) -> float:
        """Standard deviation of the phase of one measured spectrum, `(channel,)`, from its counting noise.

        First-order propagation of var(s_i) = variance_over_mean × s_i through the ratio; channels taken as independent.
        """
        s = np.asarray(counts, dtype=np.float64)
        below = float(s @ self.denominator)
        if below == 0.0:
            return float("nan")
        phase = float(s @ self.numerator) / below
        slope = (self.numerator - phase * self.denominator) / below
        return float(np.sqrt(variance_over_mean * np.sum(slope.astype(np.float64) ** 2 * np.maximum(s, 0.0))))


def fit_phase(pristine: NDArray[np.floating], transformed: NDArray[np.floating]) -> PhaseFunctional:
    """The ratio of functionals that is 0 on one mean spectrum, 1 on another, with the least counting noise between them.

    pristine, transformed: `(channel,)` mean counts of the first and the last frames of training runs.
    The denominator is the total intensity. With both spectra scaled to unit sum (p, t), the numerator is that of Fisher's
    discriminant for noise whose variance is proportional to the mean: u = (t − p) / (t + p), then shifted by a multiple
    of the denominator to give 0 on p and scaled to give 1 on t.
    Raises ValueError where the two spectra are alike or empty.
    """
    p = np.asarray(pristine, dtype=np.float64)
    t = np.asarray(transformed, dtype=np.float64)
    if p.sum() <= 0 or t.sum() <= 0:
        raise ValueError("a mean spectrum without counts has no phase")
    p, t = p / p.sum(), t / t.sum()
    u = np.divide(t - p, t + p, out=np.zeros_like(p), where=(t + p) > 0)
    at_p, at_t = float(u @ p), float(u @ t)
    if at_t - at_p < 1e-9:
        raise ValueError("the first and the last frames have the same spectrum: no phase to fit")
    numerator = (u - at_p) / (at_t - at_p)
    return PhaseFunctional(numerator.astype(np.float32), np.ones_like(numerator, dtype=np.float32))
