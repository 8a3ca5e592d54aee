"""How much of what a run has of its own goes on: a kernel over channels, fitted on runs that the components did not know.

Outside the components there is what no other run had: part of it stays (background, thickness, lines of this grain), part is noise
of the mean so far, and part a camera's pattern that moves along the axis with the calibration. The least squares of what a
spectrum will have there, over what the run's mean has had at and around each channel, weighs these as they are: with few training
runs nearly all is carried on, smoothed over some two channels; with many, which leave little outside, a quarter to a third.

To be of use on a run that is not known, it is fitted on such: runs are left out in turn, and components made of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import LinearTrendInComponents, fit_linear_trend
from eelstm_stream.core.baselines.carried import smoothing_kernel
from eelstm_stream.core.history import running_means
from eelstm_stream.training.dataset import target_frames, window_starts
from eelstm_stream.training.recipe import Recipe

REACH_CHANNELS = 12  # on either side; beyond, the weights are of no account
FOLDS = 4  # with more runs than that, several are left out at a time
EVERY = 3  # windows used: neighbours are nearly the same
FRAMES = 1500  # that components of a fold are made of, at most
ONE_RUN_CHANNELS = 2.0  # where there is one run only, which no other can vouch for: all goes on, under such a Gaussian
PENALTY = 1e-6  # of the mean square: for channels that all have the same

Parts = Sequence[NDArray[np.float32]]


def fit_carrying(groups: Sequence[Parts], smooth: Sequence[Parts], recipe: Recipe) -> NDArray[np.float64]:
    """Weights of a channel and its neighbours on either side, `(2 · reach + 1,)`, symmetric.

    groups: for each run its segments as recorded, `(frame, channel)` each; smooth: for each run what components are made of,
    its segments without noise. Raises ValueError where no components can be made.
    """
    if len(groups) < 2:
        return smoothing_kernel(ONE_RUN_CHANNELS)
    reach = min(REACH_CHANNELS, recipe.energy_axis.size // 4)
    gram, product = np.zeros((reach + 1, reach + 1)), np.zeros(reach + 1)
    for fold in range(min(FOLDS, len(groups))):
        left_out = range(fold, len(groups), FOLDS)
        others = [part for run, parts in enumerate(smooth) if run not in left_out for part in parts]
        frames = np.concatenate(others)
        components = fit_linear_trend(frames[:: len(frames) // FRAMES + 1], recipe.components)
        for run in left_out:
            for part in groups[run]:
                before, after = _outside(components, part, recipe)
                shifted = _with_neighbours(before, reach)
                gram += np.einsum("inc,jnc->ij", shifted, shifted, optimize=True)
                product += np.einsum("inc,nc->i", shifted, after, optimize=True)
    scale = np.trace(gram) / len(gram)
    if scale == 0:
        return smoothing_kernel(ONE_RUN_CHANNELS)
    half = np.linalg.solve(gram + PENALTY * scale * np.eye(len(gram)), product)
    return np.concatenate([half[:0:-1], half])


def _outside(
    components: LinearTrendInComponents, part: NDArray[np.float32], recipe: Recipe
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the mean so far, and the last spectrum aimed at, have outside the components: `(case, channel)` each."""
    starts = window_starts(len(part), recipe)[::EVERY]
    before = running_means(part)[starts + recipe.window - 1]
    after = part[target_frames(starts, recipe)[:, -1]]
    return tuple(s - components.spectra(components.scores(s)) for s in (before, after))  # type: ignore[return-value]


def _with_neighbours(spectra: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Each channel, then for each distance the sum of its two neighbours there: `(reach + 1, case, channel)`."""
    channels = spectra.shape[1]
    padded = np.pad(spectra, [(0, 0), (reach, reach)], mode="edge")

    def moved(by: int) -> NDArray[np.float64]:
        return padded[:, reach + by : reach + by + channels]

    return np.stack([spectra, *(moved(-d) + moved(d) for d in range(1, reach + 1))])
