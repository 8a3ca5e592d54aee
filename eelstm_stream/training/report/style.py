"""How every figure of a report looks, and what every one of them says of its origin."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from eelstm_stream.training.assessment import AssessedRun, Assessment
from eelstm_stream.training.cases import MODEL
from eelstm_stream.training.labels import label

WIDTH_IN = 11.0

# Colours that the colour-blind tell apart: Okabe and Ito, Color Universal Design (2008). Families share one, and differ by dash.
FORECAST, BLUE, GREEN, SKY, PINK, ORANGE = "#D55E00", "#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#E69F00"
CAME, TRUTH, FLOOR, FAINT = "0.55", "black", "0.35", "0.8"

_LINES: Mapping[str, dict[str, Any]] = {
    MODEL: {"color": FORECAST, "lw": 3.0, "marker": "o", "ms": 8, "zorder": 1.5},  # below, lest it hides its equals
    "persistence": {"color": "0.5", "ls": ":", "marker": "v"},
    "window_mean": {"color": "0.5", "ls": "--", "marker": "s"},
    "linear_extrapolation": {"color": "0.5", "ls": "-.", "marker": "^"},
    "holt": {"color": SKY, "ls": "-", "marker": "D"},
    "pca_linear_trend": {"color": BLUE, "ls": "--", "marker": "<"},
    "pca_linear_trend_carried": {"color": BLUE, "ls": "-", "marker": ">"},
    "pca_ridge": {"color": GREEN, "ls": "--", "marker": "p"},
    "pca_ridge_carried": {"color": GREEN, "ls": "-", "marker": "h"},
    "dmd": {"color": PINK, "ls": "-", "marker": "X"},
}

_RC = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the page must look alike where the font is not there
    "svg.hashsalt": "eelstm-stream",  # the same figure, the same bytes
}


def line_of(name: str) -> dict[str, Any]:
    """How the line of a forecaster is drawn, its label included."""
    drawn = {"lw": 1.3, "ms": 4, "color": ORANGE} | _LINES.get(name, {})
    return drawn | {"label": "this model" if name == MODEL else label(name)}


@contextmanager
def figure_headed(said: str, height_in: float) -> Iterator[Figure]:
    """A figure to draw in, with a line at its head."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(WIDTH_IN, height_in))
        said = said.replace("$", r"\$")
        figure.text(0.01, 1 - 0.06 / height_in, said, fontsize=9, color="0.3", ha="left", va="top")
        yield figure


@contextmanager
def figure_of(assessment: Assessment, runs: Sequence[AssessedRun], height_in: float) -> Iterator[Figure]:
    """A figure headed by the runs that it shows, if any, and by where they and the model come from."""
    stamps = [f"model {assessment.metadata.name}"]
    if runs:
        stamps.insert(0, _named(runs))
    simulated = [run.recording.simulated for run in runs]
    if any(simulated):
        stamps.insert(0, "SIMULATED data" if all(simulated) else "partly SIMULATED data")
    elif assessment.metadata.simulated:
        stamps.append("trained on SIMULATED spectra")
    if runs and not assessment.is_test:
        stamps.insert(0, "ON THE MODEL'S OWN TRAINING DATA")
    with figure_headed(" · ".join(stamps), height_in) as figure:
        yield figure


def _named(runs: Sequence[AssessedRun]) -> str:
    names = [run.recording.name for run in runs]
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} and {len(names) - 1} more runs"


def grid(
    figure: Figure,
    rows: int,
    columns: int,
    *,
    legend_rows: int = 0,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
    between_in: tuple[float, float] = (0.8, 0.75),
) -> GridSpec:
    """Places for panels, with room for labels of five digits, and below for rows of a legend.

    between_in: from panel to panel across and down, inches. Set by hand, since to have matplotlib find out takes as long as
    drawing it all.
    """
    width, height = figure.get_size_inches()
    bottom = 0.48 + 0.17 * legend_rows + (0.08 if legend_rows else 0)
    inside_in = width - 0.85 - 0.15, height - 0.52 - bottom

    def share(count: int, across_in: float, total_in: float) -> float:
        """The gap over the mean size of a panel, as matplotlib wants it."""
        return across_in / ((total_in - (count - 1) * across_in) / count)

    return figure.add_gridspec(
        rows,
        columns,
        left=0.85 / width,
        right=1 - 0.15 / width,
        top=1 - 0.52 / height,
        bottom=bottom / height,
        wspace=share(columns, between_in[0], inside_in[0]),
        hspace=share(rows, between_in[1], inside_in[1]),
        width_ratios=width_ratios,
        height_ratios=height_ratios,
    )


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The names of a panel's lines, under all panels: three rows of four need `legend_rows=3` of the grid."""
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=columns, borderaxespad=0.2)


def as_svg(figure: Figure) -> str:
    """The figure as a data URI: an image that brings no scripts and no names into the page."""
    buffer = io.BytesIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
