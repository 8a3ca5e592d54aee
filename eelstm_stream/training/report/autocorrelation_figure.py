"""The paper's Figure 6: how long a spectrum remembers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range
from eelstm_stream.core.metrics import EDGES_eV
from eelstm_stream.training.report.shown_run import ShownRun
from eelstm_stream.training.report.style import BLUE, FLOOR, FORECAST, GREEN, figure_of, grid, legend_below

LONGEST_LAG = 40
BAND = 0.4  # the paper's measure of "no longer related"

CAPTION = (
    "Autocorrelation: Pearson's r between the counts of a channel and those of the same channel so many steps later, averaged over "
    "the channels named. Dashed: the 95 % band of white noise, ±1.96/√(n − lag). Shaded: the paper's band of ±0.4. Left: counts as "
    "they are, where a trend over the whole run keeps r up and the noise of single channels keeps it down. Right: with the straight "
    "line of each channel taken out, so what is left is what departs from a steady change."
)


def pearson_autocorrelation(frames: NDArray[np.floating], longest_lag: int) -> NDArray[np.float64]:
    """Pearson's r of each channel with itself at lags 1 to the longest: `(lag, channel)`; NaN where a channel stands still.

    frames: `(frame, channel)`.
    """
    y = np.asarray(frames, dtype=np.float64)
    found = np.empty((longest_lag, y.shape[1]))
    for lag in range(1, longest_lag + 1):
        before, after = y[:-lag] - y[:-lag].mean(axis=0), y[lag:] - y[lag:].mean(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[lag - 1] = (before * after).sum(axis=0) / np.sqrt((before**2).sum(axis=0) * (after**2).sum(axis=0))
    return found


def without_line(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Frames `(frame, channel)` less the least-squares line of each channel."""
    t = np.arange(len(frames)) - (len(frames) - 1) / 2
    y = np.asarray(frames, dtype=np.float64)
    y = y - y.mean(axis=0)
    return np.asarray(y - np.outer(t, t @ y / (t @ t)))


def draw_autocorrelation(shown: ShownRun) -> Figure:
    """Two panels: counts as they are, and without each channel's straight line."""
    frames = shown.run.prepared.counts
    with figure_of(shown.assessment, [shown.run], 3.9) as figure:
        places = grid(figure, 1, 2, legend_rows=1)
        left, right = (figure.add_subplot(places[0, column]) for column in (0, 1))
        _draw(left, frames, shown, "counts as they are")
        _draw(right, without_line(frames), shown, "without each channel's straight line")
        legend_below(figure, left, 5)
    return figure


def _draw(axes: Axes, frames: NDArray[np.floating], shown: ShownRun, title: str) -> None:
    axis, ahead = shown.assessment.metadata.energy_axis, shown.assessment.metadata.horizons[-1]
    lags = np.arange(1, max(2, min(LONGEST_LAG, len(frames) // 2)) + 1)
    found = pearson_autocorrelation(frames, len(lags))
    axes.axhspan(-BAND, BAND, color="0.92", zorder=0, label=f"±{BAND:g}")
    white = 1.96 / np.sqrt(len(frames) - lags)
    axes.plot(lags, white, color=FLOOR, ls="--", lw=1, label="95 % band of white noise")
    axes.plot(lags, -white, color=FLOOR, ls="--", lw=1)
    regions = {"all channels": slice(None)} | {n: channel_range(axis, *e) for n, e in EDGES_eV.items()}
    for (name, channels), colour, marker in zip(regions.items(), (BLUE, FORECAST, GREEN), "osD", strict=True):
        part = found[:, channels]
        part = part[:, np.isfinite(part).all(axis=0)]
        if part.shape[1]:
            axes.plot(lags, part.mean(axis=1), color=colour, marker=marker, ms=3, lw=1.2, label=name)
    axes.axvline(ahead, color="0.6", lw=0.8)
    axes.annotate(
        f"horizon {ahead}", (ahead, 1.0), xytext=(3, 0), textcoords="offset points", fontsize=8, color="0.4", va="top"
    )
    axes.axhline(0, color="0.5", lw=0.5)
    axes.set(xlabel="lag (steps)", ylabel="autocorrelation (Pearson)", title=title)
    axes.set(ylim=(-0.5, 1.05), xlim=(0.5, lags[-1] + 0.5))
