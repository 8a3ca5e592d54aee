"""The run that a report draws spectrum by spectrum: the first of those given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.metrics import mean_square
from eelstm_stream.training.assessment import AssessedRun, Assessment
from eelstm_stream.training.cases import MODEL, Cases
from eelstm_stream.training.evaluation import Windows, forecasts_of, windows_of


@dataclass(frozen=True, slots=True, eq=False)
class ShownRun:
    """One run with the model's forecasts of it, at the longest horizon."""

    assessment: Assessment
    run: AssessedRun
    windows: Windows
    counts: NDArray[np.floating]  # (case, channel)
    phase: NDArray[np.floating]  # (case,)
    time_s: NDArray[np.float64]  # (frame,) from the session's start to that of the frame

    @property
    def name(self) -> str:
        """Of the recording."""
        return self.run.recording.name

    @property
    def cases(self) -> Cases:
        """Errors at the longest horizon."""
        return self.assessment.evaluation.runs[0][1][-1]

    @property
    def targets(self) -> NDArray[np.int64]:
        """(case,) frames aimed at."""
        return self.windows.targets[:, -1]

    @property
    def best_baseline(self) -> str:
        """On this run, at the longest horizon."""
        errors = self.cases.errors
        return min((n for n in errors if n != MODEL), key=lambda n: errors[n].square.mean())

    def cases_at(self, times_s: Sequence[float], else_shares: Sequence[float]) -> list[int]:
        """The cases that aim at these times, or where the run does not hold them all, at shares of all cases."""
        times = self.time_s[self.targets]
        if times[0] <= min(times_s) and max(times_s) <= times[-1]:
            return [int(np.argmin(np.abs(times - time_s))) for time_s in times_s]
        return [int(share * (len(times) - 1)) for share in else_shares]

    def rmse(self, case: int) -> float:
        """Of one forecast, counts."""
        return float(np.sqrt(mean_square(self.counts[case], self.run.prepared.counts[self.targets[case]])))


def first_run(assessment: Assessment) -> ShownRun:
    """Forecast the first run once more, and keep the forecasts this time."""
    run = assessment.runs[0]
    windows = windows_of(run.prepared, assessment.metadata)
    counts, phase = forecasts_of(assessment.model.forecast, windows)
    dwell_s = run.recording.dwell_s
    return ShownRun(assessment, run, windows, counts[:, -1], phase[:, -1], np.cumsum(dwell_s) - dwell_s)
