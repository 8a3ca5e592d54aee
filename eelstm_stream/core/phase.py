"""Damage coordinate of a spectrum: 0 pristine, 1 fully transformed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SEPARATION = 5.0  # standard errors between the first and the last frames, below which their difference may be noise
AVERAGED_FRAMES = (
    15  # over which a reader of phases averages noise, while scatter between specimens stays; 5 or 200 do as well
)
LEAST_NOISE_OVER_MEAN = (
    1e-12  # of spectra of unit sum: real ones have 1e-7 or more, noise-free ones must not divide by zero
)

Runs = Sequence[NDArray[np.float64]]  # (frame, channel) each


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


def fit_phase(pristine: Sequence[NDArray[np.floating]], transformed: Sequence[NDArray[np.floating]]) -> PhaseFunctional:
    """The ratio of functionals that is 0 on pristine spectra and 1 on transformed ones, and blind to what else differs.

    pristine, transformed: the first and the last frames of each training run, `(frame, channel)` counts, two or more a run.
    The denominator is the total intensity. With mean spectra scaled to unit sum (p, t), the numerator is that of Fisher's
    discriminant, u = W⁻¹ (t − p), shifted by a multiple of the denominator to give 0 on p and scaled to give 1 on t. W is
    the covariance of what should not be seen: counting noise, whose variance is in proportion to the mean and of which
    frames rid each other, and the scatter of the runs' own p and t about the mean ones (heights of lines, background,
    alignment), of which they don't. A single run has no scatter, and its phase takes the next specimen's for change.

    u contains the noise of the frames that it is made from, so on these same frames it separates too well, and other
    pristine spectra would come out above 0 (by 0.07 for 8 + 8 frames of the paper's noise). So each half of the frames
    gives a u that is shifted and scaled on the other half, and the result is the mean of the two.
    Raises ValueError where the two groups differ by no more than noise, or have no counts.
    Source: Fisher, Annals of Eugenics 7, 179 (1936).
    """
    if not pristine or not transformed or min(len(frames) for frames in (*pristine, *transformed)) < 2:
        raise ValueError("a phase is fitted on two first and two last frames at least, of each run")
    p, t = ([_unit_sums(frames) for frames in runs] for runs in (pristine, transformed))
    unseen = _unseen(p, t)
    halves = [(np.concatenate([f[i::2] for f in p]), np.concatenate([f[i::2] for f in t])) for i in (0, 1)]
    numerators = [_levelled(unseen.direction(*halves[i]), *halves[1 - i]) for i in (0, 1)]
    numerator = np.mean(numerators, axis=0).astype(np.float32)
    return PhaseFunctional(numerator, np.ones_like(numerator))


def _unit_sums(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    s = np.asarray(frames, dtype=np.float64)
    sums = s.sum(axis=1, keepdims=True)
    if not (sums > 0).all():
        raise ValueError("a spectrum without counts has no phase")
    return np.asarray(s / sums)


@dataclass(frozen=True, slots=True, eq=False)
class _Unseen:
    """Covariance W of what a phase should not see. In channels made white by `whitening` it is 1 + Σ strength v vᵀ.

    There are as few v as there are runs, so that no matrix of channel × channel is needed.
    """

    whitening: NDArray[np.float64]  # (channel,)
    v: NDArray[np.float64]  # (direction, channel), orthonormal
    strength: NDArray[np.float64]  # (direction,)

    def direction(self, p: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
        """W⁻¹ (t − p), `(channel,)`, of two groups of frames of unit sum."""
        difference = (t.mean(axis=0) - p.mean(axis=0)) * self.whitening
        seen = self.v @ difference
        return np.asarray((difference - (self.strength / (1 + self.strength) * seen) @ self.v) * self.whitening)


def _unseen(p: Runs, t: Runs) -> _Unseen:
    """What should not be seen, from the pristine and the transformed frames of each run, of unit sum."""
    groups = [np.array([frames.mean(axis=0) for frames in runs]) for runs in (p, t)]
    squares = sum(float(((frames - frames.mean(axis=0)) ** 2).sum()) for frames in (*p, *t))
    noise_over_mean = squares / sum(len(frames) - 1 for frames in (*p, *t))
    variance = max(noise_over_mean, LEAST_NOISE_OVER_MEAN) * (groups[0].mean(axis=0) + groups[1].mean(axis=0)) / 2
    whitening = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    others = [max(1, len(means) - 1) for means in groups]
    beside = [(m - m.mean(axis=0)) * whitening / math.sqrt(n) for m, n in zip(groups, others, strict=True)]
    _, roots, v = np.linalg.svd(np.concatenate(beside), full_matrices=False)
    # The largest that noise alone would give: two matrices of (run − 1) × channel, of means of so many frames.
    of_noise = (math.sqrt(2) + math.sqrt(len(variance) / min(others))) ** 2 / min(len(frames) for frames in (*p, *t))
    return _Unseen(whitening, v, AVERAGED_FRAMES * np.maximum(roots**2 - of_noise, 0.0))


def _levelled(u: NDArray[np.float64], p: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction shifted to give 0 on these pristine frames of unit sum, and scaled to give 1 on these transformed ones."""
    on_p, on_t = p @ u, t @ u
    separation = float(on_t.mean() - on_p.mean())
    uncertainty = float(np.sqrt(np.var(on_p) / len(on_p) + np.var(on_t) / len(on_t)))
    if separation <= MIN_SEPARATION * uncertainty or separation < 1e-9:
        raise ValueError("the first and the last frames differ by no more than noise, so there is no phase to fit")
    return np.asarray((u - on_p.mean()) / separation)
