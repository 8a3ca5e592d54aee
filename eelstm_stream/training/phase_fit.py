"""The phase of the training runs: its functional, and its scale, which is read off runs that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.noise import noise_of_series
from eelstm_stream.core.phase import PhaseFunctional, fit_phase
from eelstm_stream.core.phase_scale import UNKNOWN_SCALE, PhaseScale, ScaleKnot, straight_scale

Values = NDArray[np.float64]

END_FRAMES = 8  # of a run, taken to be pristine; as many at its end to be transformed
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # at which phase is looked up
MIN_RUNS = 4  # to tell specimens' scatter from noise at all
MIN_FRAMES = 2.0  # of a run about a knot, to say where that run stands there
FOLDS = 6  # parts of the runs, each measured by a phase that was fitted on the others


def phase_of_ends(runs: Sequence[NDArray[np.float32]]) -> PhaseFunctional:
    """The phase that is 0 on the first and 1 on the last frames of these runs, `(frame, channel)` counts each."""
    return fit_phase([run[:END_FRAMES] for run in runs], [run[-END_FRAMES:] for run in runs])


def cross_fitted_scale(runs: Sequence[NDArray[np.float32]], fractions: Sequence[Values | None]) -> PhaseScale:
    """The scale of a phase that is fitted on such runs, from each run's phases by a functional fitted without it.

    On its own runs a phase scatters less than on others: it is blind to what is theirs. Otherwise as `fit_phase_scale`, which
    see; fractions: `(frame,)` each, where known. Where only all runs together show a change, the scale is the unknown one.
    """
    if len(runs) < MIN_RUNS:
        return UNKNOWN_SCALE
    folds = min(FOLDS, len(runs))
    try:
        fitted = [phase_of_ends([run for i, run in enumerate(runs) if i % folds != fold]) for fold in range(folds)]
    except ValueError:
        return UNKNOWN_SCALE
    return fit_phase_scale([fitted[i % folds](run) for i, run in enumerate(runs)], fractions)


def fit_phase_scale(phases: Sequence[Values], fractions: Sequence[Values | None]) -> PhaseScale:
    """The scale of a phase from runs that it was not fitted on.

    phases: `(frame,)` of each run, noise and all. fractions: the transformed fractions of the same frames, where known. With
    fewer than four runs nothing can be said of scatter, and `UNKNOWN_SCALE` is returned; with fewer than four of known
    fractions, the straight scale, with the scatter of the runs' first and last frames.
    """
    if len(phases) < MIN_RUNS:
        return UNKNOWN_SCALE
    known = [(g, x) for g, x in zip(phases, fractions, strict=True) if x is not None]
    return (_curved_scale(known) if len(known) >= MIN_RUNS else None) or _scale_of_ends(phases)


def _scale_of_ends(phases: Sequence[Values]) -> PhaseScale:
    noise = noise_of_series(phases) ** 2 / END_FRAMES
    ends = np.array([[g[:END_FRAMES].mean(), g[-END_FRAMES:].mean()] for g in phases])
    start, end = np.sqrt(np.maximum(ends.var(axis=0, ddof=1) - noise, 0)).tolist()
    return straight_scale(start, end)


def _curved_scale(runs: Sequence[tuple[Values, Values]]) -> PhaseScale | None:
    """Means, shares and scatters at the knots that half of the runs come by; None where these are too few."""
    hats = [_hats(x) for _, x in runs]
    weights = np.array([h.sum(axis=0) for h in hats])  # (run, knot): frames about it
    used = _leading((weights >= MIN_FRAMES).mean(axis=0) >= 0.5)
    if used < 2:
        return None
    within = [x <= FRACTIONS[used - 1] for _, x in runs]
    means = np.linalg.lstsq(
        np.concatenate([h[inside, :used] for h, inside in zip(hats, within, strict=True)]),
        np.concatenate([g[inside] for (g, _), inside in zip(runs, within, strict=True)]),
        rcond=None,
    )[0]
    used = 1 + _leading(np.diff(means) > 0)
    if used < 2:
        return None
    # Where each run stands beside the mean at each knot, and the variance of that from noise.
    own, noise = (np.full((len(runs), used), np.nan) for _ in range(2))
    for run, ((g, x), h) in enumerate(zip(runs, hats, strict=True)):
        there = weights[run, :used] >= MIN_FRAMES
        share = h[:, :used] / np.maximum(weights[run, :used], MIN_FRAMES)
        beside = g - np.interp(x, FRACTIONS[:used], means[:used])
        own[run, there] = (beside @ share)[there]
        noise[run, there] = noise_of_series([g]) ** 2 * (share * share).sum(axis=0)[there]
    start = max(0.0, float(np.nanmean(own[:, 0] ** 2 - noise[:, 0])))
    together = np.nanmean(own * own[:, :1], axis=0)
    shares = np.clip(together / start, 0, 1) if start > 0 else np.zeros(used)
    # What scatter is left has little to be measured by, so it has one number: it grows as a random walk, from none at the start.
    left = np.nanmean(own**2 - noise, axis=0) - shares**2 * start
    scatters = np.sqrt(max(0.0, float(left.sum() / sum(FRACTIONS[:used]))) * np.array(FRACTIONS[:used]))
    return PhaseScale(
        knots=tuple(
            ScaleKnot(fraction=x, phase=float(g), start_share=float(share), scatter=float(scatter))
            for x, g, share, scatter in zip(FRACTIONS[:used], means[:used], shares, scatters, strict=True)
        ),
        start_scatter=math.sqrt(start),
        from_truth=True,
    )


def _hats(fractions: Values) -> Values:
    """How much each frame counts at each knot, `(frame, knot)`, as in linear interpolation: each row sums to 1."""
    return np.stack([np.interp(fractions, FRACTIONS, row) for row in np.eye(len(FRACTIONS))], axis=1)


def _leading(true: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return int(np.argmin(np.append(true, False)))
