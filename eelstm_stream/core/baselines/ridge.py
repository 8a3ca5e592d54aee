"""PCA + ridge: a linear map from a window to the spectrum to come, learnt from the training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.components import LinearTrendInComponents
from eelstm_stream.core.baselines.protocol import Counts


@dataclass(frozen=True, slots=True, eq=False)
class RidgeInComponents:
    """For each horizon, a linear map from the window's principal components to those of the spectrum to come."""

    mean: NDArray[np.float64]  # (channel,)
    components: NDArray[np.float64]  # (component, channel), orthonormal
    offset: NDArray[np.float64]  # (window × component,), mean scores of the training windows
    maps: Mapping[
        int, tuple[NDArray[np.float64], NDArray[np.float64]]
    ]  # horizon: (window × component, component), (component,)

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts. Raises KeyError for a horizon that it was not fitted to."""
        weights, at_offset = self.maps[horizon]
        scores = (windows - self.mean) @ self.components.T
        ahead = (scores.reshape(*scores.shape[:-2], -1) - self.offset) @ weights + at_offset
        return np.asarray(self.mean + ahead @ self.components)


def fit_ridge(
    trend: LinearTrendInComponents,
    runs: Sequence[Counts],
    window: int,
    horizons: Sequence[int],
    noise: NDArray[np.float64] | None = None,
) -> RidgeInComponents:
    """Ridge regression on every window of training runs, each `(frame, channel)` and of consecutive frames.

    The components are those of `trend`. The penalty is the noise that the windows' scores carry, summed over windows: in
    a regression on noisy inputs that is what keeps the weights from following it. noise: covariance of the scores of one
    spectrum, `(component, component)` counts², for runs that have no noise themselves; without it, the variance of a channel
    outside the components. Raises ValueError where no window fits.
    """
    length, components = window + max(horizons), len(trend.components)
    used = [run for run in runs if len(run) >= length]
    if not used:
        raise ValueError(f"no run has the {length} frames of a window and its horizon")
    scores = [trend.scores(run) for run in used]
    starts = [np.arange(len(s) - length + 1) for s in scores]
    inputs = np.concatenate(
        [s[i[:, np.newaxis] + np.arange(window)].reshape(len(i), -1) for s, i in zip(scores, starts, strict=True)]
    )
    offset = inputs.mean(axis=0)
    if noise is None:
        outside = sum(
            float(np.sum((run - trend.mean) ** 2) - np.sum(s**2)) for run, s in zip(used, scores, strict=True)
        )
        noise = outside / (sum(map(len, used)) * (len(trend.mean) - components)) * np.eye(components)
    gram = (inputs - offset).T @ (inputs - offset) + len(inputs) * np.kron(np.eye(window), noise)
    maps = {}
    for horizon in horizons:
        targets = np.concatenate([s[i + window - 1 + horizon] for s, i in zip(scores, starts, strict=True)])
        centre = targets.mean(axis=0)
        maps[horizon] = (np.linalg.solve(gram, (inputs - offset).T @ (targets - centre)), centre)
    return RidgeInComponents(trend.mean, trend.components, offset, MappingProxyType(maps))
