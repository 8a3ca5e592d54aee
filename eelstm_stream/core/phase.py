"""Damage coordinate of a spectrum: 0 pristine, 1 fully transformed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SEPARATION = 5.0  # standard errors between the first and the last frames, below which their difference may be noise


@dataclass(frozen=True, slots=True)
class PhaseFunctional:
    """Phase as a ratio of two linear functionals of the spectrum, (s·w)/(s·v).

    A ratio, so that thickness and beam current cancel. numerator w and denominator v: `(channel,)`.
    """

    numerator: NDArray[np.floating]
    denominator: NDArray[np.floating]

    def __call__(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Phase of counts `(…, channel)`: `(…)` float64. NaN where the denominator vanishes."""
        s = np.asarray(counts, dtype=np.float64)
        below = s @ self.denominator
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(below == 0, np.nan, (s @ self.numerator) / below))

    def measure(self, counts: NDArray[np.floating], variance_over_mean: float) -> tuple[float, float]:
        """Phase of one measured spectrum, `(channel,)`, and its standard deviation from counting noise.

        First-order propagation of var(s_i) = variance_over_mean × s_i through the ratio. Channels are taken as independent,
        with a variance_over_mean that holds for sums over neighbours (`noise.variance_over_mean`), since the functionals
        are smooth over the few channels that share counts. Both are NaN where the denominator vanishes.
        """
        s = np.asarray(counts, dtype=np.float64)
        below = float(s @ self.denominator)
        if below == 0.0:
            return float("nan"), float("nan")
        phase = float(s @ self.numerator) / below
        slope = self.numerator - phase * self.denominator
        variance = variance_over_mean * float((slope * slope) @ np.maximum(s, 0.0))
        return phase, math.sqrt(variance) / abs(below)


def fit_phase(pristine: NDArray[np.floating], transformed: NDArray[np.floating]) -> PhaseFunctional:
    """The ratio of functionals that is 0 on pristine spectra and 1 on transformed ones, with little counting noise between.

    pristine, transformed: `(frame, channel)` counts, the first and the last frames of training runs, two at least of each.
    The denominator is the total intensity. With mean spectra scaled to unit sum (p, t), the numerator is that of Fisher's
    discriminant for noise whose variance is proportional to the mean: u = (t − p) / (t + p), then shifted by a multiple
    of the denominator to give 0 on p and scaled to give 1 on t.

    u contains the noise of the frames that it is made from, so on these same frames it separates too well, and other
    pristine spectra would come out above 0 (by 0.07 for 8 + 8 frames of the paper's noise). So each half of the frames
    gives a u that is shifted and scaled on the other half, and the result is the mean of the two.
    Raises ValueError where the two groups differ by no more than noise, or have no counts.
    """
    if min(len(pristine), len(transformed)) < 2:
        raise ValueError("a phase is fitted on two first and two last frames at least")
    p, t = _unit_sums(pristine), _unit_sums(transformed)
    numerators = [_numerator(p[i::2], t[i::2], p[1 - i :: 2], t[1 - i :: 2]) for i in (0, 1)]
    numerator = np.mean(numerators, axis=0).astype(np.float32)
    return PhaseFunctional(numerator, np.ones_like(numerator))


def _unit_sums(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    s = np.asarray(frames, dtype=np.float64)
    sums = s.sum(axis=1, keepdims=True)
    if not (sums > 0).all():
        raise ValueError("a spectrum without counts has no phase")
    return np.asarray(s / sums)


def _numerator(
    p: NDArray[np.float64], t: NDArray[np.float64], other_p: NDArray[np.float64], other_t: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Direction from two groups of spectra of unit sum `(frame, channel)`, shifted and scaled by two other groups."""
    difference, total = t.mean(axis=0) - p.mean(axis=0), t.mean(axis=0) + p.mean(axis=0)
    u = np.divide(difference, total, out=np.zeros_like(total), where=total > 0)
    on_p, on_t = other_p @ u, other_t @ u
    separation = float(on_t.mean() - on_p.mean())
    uncertainty = float(np.sqrt(np.var(on_p) / len(on_p) + np.var(on_t) / len(on_t)))
    if separation <= MIN_SEPARATION * uncertainty or separation < 1e-9:
        raise ValueError("the first and the last frames differ by no more than noise, so there is no phase to fit")
    return np.asarray((u - on_p.mean()) / separation)
