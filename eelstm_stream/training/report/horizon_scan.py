"""Errors of the baselines at windows and horizons that the model itself does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eelstm_stream.core.baselines import Baseline
from eelstm_stream.core.history import running_means
from eelstm_stream.core.metrics import mean_square
from eelstm_stream.training.cases import root_mean
from eelstm_stream.training.dataset import PreparedRun


@dataclass(frozen=True, slots=True)
class Scanned:
    """Root mean square errors over all windows of all runs, counts, an entry a horizon."""

    rmse: tuple[float, ...]
    rmse_clean: tuple[float, ...] | None  # None where the truth is not known of all runs


def scan_horizons(
    runs: Sequence[PreparedRun], baselines: Mapping[str, Baseline], window: int, horizons: Sequence[int]
) -> dict[str, Scanned]:
    """Every baseline at every horizon, on the windows that have them all. Runs too short for one are left out."""
    length = window + max(horizons)
    used = [run for run in runs if len(run.counts) >= length]
    truth_known = all(run.clean_counts is not None for run in used)
    squares = {name: np.zeros((2, len(horizons))) for name in baselines}
    cases = 0
    for run in used:
        starts = np.arange(len(run.counts) - length + 1)
        windows = run.counts[starts[:, np.newaxis] + np.arange(window)]
        histories = running_means(run.counts)[starts + window - 1]
        cases += len(starts)
        for column, horizon in enumerate(horizons):
            target = starts + window - 1 + horizon
            for name, baseline in baselines.items():
                forecast = baseline(windows, histories, horizon)
                squares[name][0, column] += mean_square(forecast, run.counts[target]).sum()
                if truth_known and run.clean_counts is not None:
                    squares[name][1, column] += mean_square(forecast, run.clean_counts[target]).sum()
    if not cases:
        return {}
    roots = {name: [[root_mean(np.array([s / cases])) for s in row] for row in both] for name, both in squares.items()}
    return {name: Scanned(tuple(n), tuple(c) if truth_known else None) for name, (n, c) in roots.items()}
