"""Dynamic mode decomposition: one linear step, learnt from the training runs, taken as often as the horizon says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.components import COMPONENTS, LinearTrendInComponents
from eelstm_stream.core.baselines.protocol import Counts

RANK = 2 * COMPONENTS  # of the step: a level and a slope for each component


@dataclass(frozen=True, slots=True, eq=False)
class DynamicModes:
    """One step of the delay vector, which is the scores of all spectra of a window one after the other."""

    trend: LinearTrendInComponents  # whose components these are
    delay_modes: NDArray[np.float64]  # (window × component, rank), orthonormal columns
    operator: NDArray[
        np.float64
    ]  # (rank, rank), of row vectors: from the coordinates of one window to those of the next

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts."""
        scores = self.trend.scores(windows)
        state = scores.reshape(*scores.shape[:-2], -1) @ self.delay_modes
        newest = self.delay_modes[-scores.shape[-1] :]
        ahead = state @ np.linalg.matrix_power(self.operator, horizon) @ newest.T
        return self.trend.spectra(ahead)


def fit_dynamic_modes(trend: LinearTrendInComponents, runs: Sequence[Counts], window: int) -> DynamicModes:
    """Least squares for the step between successive delay vectors of training runs, on their leading singular vectors.

    runs: each `(frame, channel)`, of consecutive frames. With delays, since the step from one noisy spectrum alone forgets
    the window and gives persistence or worse. Raises ValueError where no run has two windows.
    Source: Schmid, J. Fluid Mech. 656, 5 (2010); with delays as in Le Clainche and Vega, SIAM J. Appl. Dyn. Syst. 16, 882 (2017).
    """
    used = [run for run in runs if len(run) > window]
    if not used:
        raise ValueError(f"no run has the {window + 1} frames of two successive windows")
    delays = []
    for run in used:
        scores = trend.scores(run)
        starts = np.arange(len(scores) - window + 1)
        delays.append(scores[starts[:, np.newaxis] + np.arange(window)].reshape(len(starts), -1))
    before = np.concatenate([d[:-1] for d in delays])
    after = np.concatenate([d[1:] for d in delays])
    _, vectors = np.linalg.eigh(before.T @ before)
    modes = np.ascontiguousarray(vectors[:, -min(RANK, len(vectors), len(before)) :])
    operator = np.linalg.lstsq(before @ modes, after @ modes, rcond=None)[0]
    return DynamicModes(trend, modes, operator)
