"""Errors of a model on runs that it was not trained on, beside the baselines and the noise floor.

Beating persistence on noisy targets shows only that noise was taken out, so three further measures stand beside it: the noise
floor, which no forecast of noisy counts goes below; the best baseline; and, where the truth is known, the noise-free spectrum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import Baseline
from eelstm_stream.core.history import running_means
from eelstm_stream.core.metrics import (
    cosine_similarity,
    edge_weights,
    mean_square,
    weighted_mean_square,
)
from eelstm_stream.core.model_contract import HorizonError
from eelstm_stream.core.noise import noise_floor, noise_variances
from eelstm_stream.core.peaks import WhiteLine, fit_line, lines_on
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.training.cases import MODEL, CaseErrors, Cases, by_stage, horizon_error, joined
from eelstm_stream.training.dataset import PreparedRun, target_frames, window_starts
from eelstm_stream.training.framing import Framed
from eelstm_stream.wire.messages import EnergyAxis

BATCH = 64  # windows given to a forecaster at once

# (case, window, channel) and (case, channel) float32 counts → (case, horizon, channel) counts and (case, horizon) phase
Forecaster = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.floating], NDArray[np.floating]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors by run, and of all runs together."""

    runs: tuple[tuple[str, tuple[Cases, ...]], ...]  # name of a run, and an entry a horizon

    @property
    def cases(self) -> tuple[Cases, ...]:
        """All windows of all runs, an entry a horizon."""
        return tuple(joined(at_horizon) for at_horizon in zip(*(cases for _, cases in self.runs), strict=True))

    @property
    def stages(self) -> dict[str, Cases]:
        """All windows of all runs at the longest horizon, by stage of the transition; a stage may have none."""
        return by_stage([cases[-1] for _, cases in self.runs])

    @property
    def pooled(self) -> tuple[HorizonError, ...]:
        """An entry a horizon, over all windows of all runs."""
        return tuple(horizon_error(cases) for cases in self.cases)

    @property
    def by_run(self) -> tuple[tuple[str, tuple[HorizonError, ...]], ...]:
        """Name of a run, and an entry a horizon."""
        return tuple((name, tuple(map(horizon_error, cases))) for name, cases in self.runs)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Every window of a run whose horizons all lie in it, and what is known when each is forecast."""

    starts: NDArray[np.int64]  # (case,) first frame
    counts: NDArray[np.float32]  # (case, window, channel)
    histories: NDArray[np.float32]  # (case, channel)
    targets: NDArray[np.int64]  # (case, horizon) frames aimed at


def windows_of(run: PreparedRun, framed: Framed) -> Windows:
    """Cut a whole run, from the session's first spectrum on."""
    starts = window_starts(len(run.counts), framed)
    return Windows(
        starts,
        run.counts[starts[:, np.newaxis] + np.arange(framed.window)],
        running_means(run.counts)[starts + framed.window - 1],
        target_frames(starts, framed),
    )


def forecasts_of(forecaster: Forecaster, windows: Windows) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Counts `(case, horizon, channel)` and phase `(case, horizon)` of every window, a batch at a time."""
    parts = [
        forecaster(windows.counts[i : i + BATCH], windows.histories[i : i + BATCH])
        for i in range(0, len(windows.counts), BATCH)
    ]
    counts, phase = (np.concatenate(part) for part in zip(*parts, strict=True))
    return counts, phase


def evaluate(
    forecaster: Forecaster,
    baselines: Mapping[str, Baseline],
    phase: PhaseFunctional,
    runs: Sequence[PreparedRun],
    framed: Framed,
) -> Evaluation:
    """Forecast every window of every run.

    Phases are held against the functional's of the spectrum that came. White lines are fitted at the longest horizon only, since
    that takes longer than all else together. Each run must be long enough for a window and its horizons.
    """
    return Evaluation(tuple((run.name, tuple(_cases_of(forecaster, baselines, phase, run, framed))) for run in runs))


@dataclass(frozen=True, slots=True, eq=False)
class _Aim:
    """What came, for all windows of a run at one horizon, and how a forecast is held against it."""

    axis: EnergyAxis
    counts: NDArray[np.float32]  # (case, channel)
    clean_counts: NDArray[np.float32] | None  # (case, channel)
    phase: NDArray[np.float64]  # (case,) measured
    lines: Mapping[WhiteLine, NDArray[np.float64]]  # (case, 3) as fitted on the counts

    def errors_of(self, forecast: NDArray[np.floating], phase: NDArray[np.floating]) -> CaseErrors:
        """forecast: `(case, channel)` counts; phase: `(case,)`."""
        return CaseErrors(
            square=mean_square(forecast, self.counts),
            weighted_square=weighted_mean_square(forecast, self.counts, edge_weights(self.axis)),
            cosine=cosine_similarity(forecast, self.counts),
            phase=np.asarray(phase - self.phase, dtype=np.float64),
            clean_square=None if self.clean_counts is None else mean_square(forecast, self.clean_counts),
            peaks={line.name: fit_line(forecast, self.axis, line) - found for line, found in self.lines.items()},
        )


def _cases_of(
    forecaster: Forecaster,
    baselines: Mapping[str, Baseline],
    phase: PhaseFunctional,
    run: PreparedRun,
    framed: Framed,
) -> list[Cases]:
    axis = framed.energy_axis
    windows = windows_of(run, framed)
    from_model, phase_from_model = forecasts_of(forecaster, windows)
    floor, noise, measured = noise_floor(run.counts) ** 2, noise_variances(run.counts), phase(run.counts)
    lines = {line: fit_line(run.counts, axis, line) for line in lines_on(axis)}
    at_horizons = []
    for row, horizon in enumerate(framed.horizons):
        at = windows.targets[:, row]
        is_longest = horizon == max(framed.horizons)
        aim = _Aim(
            axis,
            run.counts[at],
            None if run.clean_counts is None else run.clean_counts[at],
            measured[at],
            {line: found[at] for line, found in lines.items()} if is_longest else {},
        )
        errors = {MODEL: aim.errors_of(from_model[:, row], phase_from_model[:, row])}
        for name, baseline in baselines.items():
            forecast = baseline(windows.counts, windows.histories, horizon)
            errors[name] = aim.errors_of(forecast, phase(forecast))
        at_horizons.append(Cases(horizon, at, aim.phase, np.full(len(at), floor), noise[at], errors))
    return at_horizons
