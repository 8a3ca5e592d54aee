"""The paper's Figure 3: what window and horizon do to the error."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eelstm_stream.core.baselines import Baseline, window_mean
from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.report.error_figures import MOST_RUNS
from eelstm_stream.training.report.horizon_scan import Scanned, scan_horizons
from eelstm_stream.training.report.style import BLUE, FLOOR, FORECAST, GREEN, ORANGE, PINK, SKY, figure_of, grid

WINDOWS = (3, 5, 8, 12)
SCENARIOS = ((8, 1), (3, 8), (8, 8))  # window, horizon, as in the paper
HORIZONS = range(1, 9)

CAPTION = (
    "Horizon scenarios. A forecast of the next spectrum always looks good, and a short window has little to go on; the paper chose "
    "window 8 and horizon 8. Left: the error of one and the same forecast, {forecast}, at other windows and horizons, with the "
    "model where it stands. Right: the paper's three scenarios{truth}."
)


def caption(assessment: Assessment) -> str:
    """Names the forecast that was scanned."""
    name, _ = _forecast(assessment)
    known = all(run.prepared.clean_counts is not None for run in assessment.runs[:MOST_RUNS])
    truth = ", against the spectra that came and against the noise-free truth" if known else ""
    return CAPTION.format(forecast=name, truth=truth)


def _forecast(assessment: Assessment) -> tuple[str, Baseline]:
    """The strongest one that works with any window."""
    fitted = assessment.metadata.baselines.get("pca_linear_trend")
    return ("mean of the window", window_mean) if fitted is None else ("PCA + linear trend", fitted)


def draw_scenarios(assessment: Assessment) -> Figure:
    """Two panels."""
    metadata = assessment.metadata
    runs = [run.prepared for run in assessment.runs[:MOST_RUNS]]
    name, forecast = _forecast(assessment)
    scanned: dict[int, Scanned] = {}
    for window in sorted({*WINDOWS, metadata.window}):
        found = scan_horizons(runs, {name: forecast}, window, HORIZONS)
        if found:
            scanned[window] = found[name]
    pooled = assessment.evaluation.pooled
    with figure_of(assessment, assessment.runs[:MOST_RUNS], 3.8) as figure:
        places = grid(figure, 1, 2, width_ratios=(1.2, 1))
        left, right = (figure.add_subplot(places[0, column]) for column in (0, 1))
        for (window, of), colour in zip(scanned.items(), (SKY, BLUE, GREEN, PINK, ORANGE), strict=False):
            left.plot(HORIZONS, of.rmse, color=colour, marker="o", ms=3.5, lw=1.3, label=f"{name}, window {window}")
        left.plot(
            metadata.horizons,
            [e.rmse for e in pooled],
            color=FORECAST,
            marker="o",
            ms=6,
            lw=2.4,
            label=f"this model, window {metadata.window}",
        )
        left.axhline(pooled[-1].noise_floor, color=FLOOR, ls=(0, (6, 3)), lw=1.2, label="noise floor")
        left.set(xlabel="horizon (steps)", ylabel="RMSE (counts)", title=f"{name} at other windows")
        low, high = left.get_ylim()
        left.set_ylim(low - 0.05 * (high - low), high + 0.5 * (high - low))  # room for the names
        left.legend(ncols=2, loc="upper left")

        bars = np.arange(len(SCENARIOS), dtype=np.float64)
        _bars(right, bars - 0.2, [_at(scanned, w, h, clean=False) for w, h in SCENARIOS], BLUE, "spectra that came")
        _bars(right, bars + 0.2, [_at(scanned, w, h, clean=True) for w, h in SCENARIOS], GREEN, "noise-free truth")
        own = {(metadata.window, e.horizon): e for e in pooled}
        for place, scenario in zip(bars, SCENARIOS, strict=True):
            if scenario in own:
                for offset, error in ((-0.2, own[scenario].rmse), (0.2, own[scenario].rmse_clean)):
                    if error is not None:
                        _model_on_bar(right, place + offset, error)
        right.plot([], [], color=FORECAST, lw=2.4, label="this model")
        right.axhline(pooled[-1].noise_floor, color=FLOOR, ls=(0, (6, 3)), lw=1.2, zorder=0)
        right.set_xticks(bars, [f"window {w}\nhorizon {h}" for w, h in SCENARIOS])
        right.set(ylabel="RMSE (counts)", title=f"{name} in the paper's scenarios")
        right.set_ylim(top=1.3 * right.get_ylim()[1])
        right.legend(loc="upper left", ncols=2)
    return figure


def _at(scanned: dict[int, Scanned], window: int, horizon: int, *, clean: bool) -> float | None:
    """Error of one scenario; None where the runs are too short for it, or the truth isn't known."""
    of = scanned.get(window)
    errors = None if of is None else of.rmse_clean if clean else of.rmse
    return None if errors is None else errors[HORIZONS.index(horizon)]


def _bars(axes: Axes, places: NDArray[np.float64], heights: list[float | None], colour: str, against: str) -> None:
    drawn = [(place, height) for place, height in zip(places, heights, strict=True) if height is not None]
    if drawn:
        at, tall = zip(*drawn, strict=True)
        axes.bar(at, tall, 0.38, color=colour, label=f"against the {against}")
        for place, height in drawn:
            axes.annotate(f"{height:.0f}", (place, height), ha="center", va="bottom", fontsize=8)


def _model_on_bar(axes: Axes, place: float, error: float) -> None:
    axes.plot([place - 0.19, place + 0.19], [error, error], color=FORECAST, lw=2.4)
    axes.annotate(
        f"{error:.0f}",
        (place, error),
        xytext=(0, -4),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        color="white",
    )
