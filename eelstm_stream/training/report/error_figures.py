"""Errors by horizon, by stage of the transition and along the run, beside the baselines and the noise floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eelstm_stream.core.metrics import STAGE_LIMITS, STAGES
from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.cases import MODEL, joined, scores
from eelstm_stream.training.report.horizon_scan import Scanned, scan_horizons
from eelstm_stream.training.report.shown_run import ShownRun
from eelstm_stream.training.report.style import CAME, FLOOR, figure_of, grid, legend_below, line_of

# These carry the noise of single spectra on, and would press all others together at the bottom of a picture.
LEFT_OUT_ABOVE = ("persistence", "linear_extrapolation")
MOST_RUNS = 4  # that the baselines are scanned on: more would take longer than all other figures together

NEIGHBOURS = 8  # windows averaged over along a run

BY_HORIZON = (
    "Error by horizon, against the spectra that came, whose noise is the floor; and beside it, where the truth is known, against the "
    "noise-free spectra. Lines that leave the picture at the top are worse than what is drawn."
)
BY_STAGE = (
    "Error by stage of the transition, over the noise floor of that stage, and along the run that is shown, beside its best baseline. Stages are by measured "
    f"phase of the spectrum aimed at: early below {STAGE_LIMITS[0]:g}, late from {STAGE_LIMITS[1]:g} on."
)


def draw_by_horizon(assessment: Assessment) -> Figure:
    """One panel, or two where the truth is known."""
    metadata = assessment.metadata
    every = _horizons(metadata.horizons[-1])
    of = _by_horizon(assessment, every)
    floor = assessment.evaluation.cases[-1].noise_floor
    with figure_of(assessment, assessment.runs[:MOST_RUNS], 4.4) as figure:
        known = of[MODEL].rmse_clean is not None
        places = grid(figure, 1, 1 + known, legend_rows=3)
        panels = [figure.add_subplot(places[0, column]) for column in range(1 + known)]
        for axes, clean in zip(panels, (False, True), strict=False):
            highest = 0.0
            for name, scanned in of.items():
                errors = scanned.rmse_clean if clean and scanned.rmse_clean else scanned.rmse
                axes.plot(metadata.horizons if name == MODEL else every, errors, **line_of(name))
                if name not in LEFT_OUT_ABOVE:
                    highest = max(highest, *errors)
            low = 0.0 if clean else 0.95 * floor
            axes.set_ylim(low, low + 1.08 * (highest - low))
            axes.set_xticks(every if len(every) <= 16 else every[:: len(every) // 8])
            axes.set(
                xlabel="horizon (steps)",
                ylabel="RMSE (counts)",
                title="against the noise-free truth" if clean else "against the spectra that came",
            )
        panels[0].axhline(floor, color=FLOOR, ls=(0, (6, 3)), lw=1.2, label="noise floor")
        legend_below(figure, panels[0], 4)
    return figure


def _by_horizon(assessment: Assessment, every: Sequence[int]) -> dict[str, Scanned]:
    """Every baseline at every horizon, and the model at its own: on the first runs, where there are many.

    What the evaluation has is taken from there; the rest is scanned.
    """
    metadata, first = assessment.metadata, assessment.runs[:MOST_RUNS]
    rest = [horizon for horizon in every if horizon not in metadata.horizons]
    runs = [run.prepared for run in first]
    scanned = scan_horizons(runs, metadata.baselines, metadata.window, [*rest, every[-1]]) if rest else {}
    own = {
        metadata.horizons[number]: scores(
            joined([cases[number] for _, cases in assessment.evaluation.runs[:MOST_RUNS]])
        )
        for number in range(len(metadata.horizons))
    }
    found = {}
    for name in (MODEL, *metadata.baselines):
        at = {horizon: (of[name].rmse, of[name].rmse_clean) for horizon, of in own.items()}
        if name != MODEL and rest:
            clean = scanned[name].rmse_clean or [None] * (len(rest) + 1)
            at |= dict(zip(rest, zip(scanned[name].rmse, clean, strict=True), strict=False))
        noisy, against_truth = zip(*(at[horizon] for horizon in every if horizon in at), strict=True)
        found[name] = Scanned(noisy, against_truth if None not in against_truth else None)
    return found


def _horizons(longest: int) -> list[int]:
    """All up to the longest; of many, some."""
    return sorted({*range(1, longest + 1, max(1, longest // 16)), longest})


def draw_by_stage(shown: ShownRun) -> Figure:
    """Left: stages, all runs. Right: the shown run, window by window."""
    assessment = shown.assessment
    with figure_of(assessment, assessment.runs, 4.2) as figure:
        places = grid(figure, 1, 2, legend_rows=3, width_ratios=(1, 1.25))
        left, right = (figure.add_subplot(places[0, column]) for column in (0, 1))
        _stages(left, assessment)
        _along(right, shown)
        legend_below(figure, left, 4)
    return figure


def _stages(axes: Axes, assessment: Assessment) -> None:
    parts = {name: part for name, part in assessment.evaluation.stages.items() if len(part)}
    of = {stage: scores(part) for stage, part in parts.items()}
    names = list(assessment.evaluation.cases[-1].errors)
    lowest, highest = 1.0, 1.0
    for number, name in enumerate(names):
        over = [of[stage][name].rmse / parts[stage].noise_floor for stage in parts]
        places = np.arange(len(parts)) + 0.07 * (number - (len(names) - 1) / 2)
        axes.plot(places, over, **line_of(name) | {"ls": "none", "ms": 7 if name == MODEL else 5})
        if name not in LEFT_OUT_ABOVE:
            lowest, highest = min(lowest, *over), max(highest, *over)
    axes.axhline(1.0, color=FLOOR, ls=(0, (6, 3)), lw=1.2, label="noise floor")
    room = 0.1 * (highest - lowest)
    axes.set_ylim(lowest - room, highest + room)
    axes.set_xticks(range(len(parts)), [f"{stage}\n{len(part)} windows" for stage, part in parts.items()])
    axes.set(ylabel="RMSE / noise floor", title="by stage, all runs")


def _along(axes: Axes, shown: ShownRun) -> None:
    """Window by window: against the truth where it is known, else averaged over neighbours, since noise hides the rest."""
    times, errors = shown.time_s[shown.targets], shown.cases.errors
    for name in (shown.best_baseline, MODEL):
        clean = errors[name].clean_square
        rmse = np.sqrt(_running_mean(errors[name].square) if clean is None else clean)
        said = "this model" if name == MODEL else f"best baseline here: {line_of(name)['label']}"
        axes.plot(times, rmse, **line_of(name) | {"marker": None, "lw": 1.2, "ls": "-", "label": said})
    known = errors[MODEL].clean_square is not None
    if not known:
        axes.plot(
            times, np.sqrt(_running_mean(shown.cases.noise_square)), color=CAME, lw=0.8, label="noise of the spectra"
        )
    for limit, name in zip(STAGE_LIMITS, STAGES[1:], strict=True):
        passed = np.flatnonzero(_running_mean(shown.cases.phase) >= limit)
        if 0 < passed.size < len(times):
            axes.axvline(times[passed[0]], color="0.75", lw=0.8, ls=":")
            axes.annotate(
                name, (times[passed[0]], 0.78), xycoords=("data", "axes fraction"), xytext=(3, 0),
                textcoords="offset points", fontsize=8, color="0.4",
            )  # fmt: skip
    low, high = axes.get_ylim()
    low = 0.0 if known else low
    axes.set_ylim(low, low + 1.4 * (high - low))
    axes.set(xlabel="time of the spectrum aimed at (s)", title=f"along {shown.name}")
    axes.set_ylabel("RMSE against the truth (counts)" if known else f"RMSE (counts), mean over {NEIGHBOURS} windows")
    axes.legend(loc="upper left")


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over NEIGHBOURS windows; of fewer at either end."""
    kernel = np.ones(min(NEIGHBOURS, len(values)))
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))
