"""The pictures of a reproduction: the paper's numbers, the honest ones and the notebook's side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.training.labels import label
from eelstm_stream.training.recipe import MODEL_AXIS
from eelstm_stream.training.report.style import BLUE, CAME, FLOOR, FORECAST, GREEN, figure_headed, grid
from eelstm_stream.training.reproduction.protocols import HONEST, NOTEBOOK
from eelstm_stream.training.reproduction.summary import FamilyTable, Measured, Spread, Summary

PAPER, LEAKY = "0.65", "#E69F00"
ROOM = 1.25  # above the highest bar, for the legend


@contextmanager
def _figure(summary: Summary, height_in: float) -> Iterator[Figure]:
    runs = ", ".join(summary.runs)
    with figure_headed(f"SIMULATED data · {runs}" if summary.simulated else runs, height_in) as figure:
        yield figure


def draw_table_i(summary: Summary) -> Figure:
    """Bars in threes, with the floor and the best baseline of the honest column; raw counts have a panel of their own scale."""
    with _figure(summary, 4.6) as figure:
        places = grid(figure, 1, 2, width_ratios=(1, len(summary.table_i) - 1))
        for panel, rows in enumerate((summary.table_i[:1], summary.table_i[1:])):
            axes = figure.add_subplot(places[0, panel])
            paper = [Spread(mean=row.paper_rmse, sd=row.paper_rmse_sd, trainings=1) for row in rows]
            _bars(axes, -0.27, paper, PAPER, "paper")
            _bars(axes, 0.0, [row.honest.rmse for row in rows], BLUE, "honest")
            _bars(axes, 0.27, [row.notebook.rmse for row in rows], LEAKY, "notebook's way")
            _marks(axes, 0.0, [row.honest for row in rows])
            _finish(axes, [row.row for row in rows], "RMSE (counts)", legend=panel == 1)
    return figure


def draw_scenarios_and_traps(summary: Summary) -> Figure:
    """Left: Figure 3. Right: each trap alone."""
    with _figure(summary, 4.4) as figure:
        places = grid(figure, 1, 2, width_ratios=(1, 1.5))
        left, right = figure.add_subplot(places[0, 0]), figure.add_subplot(places[0, 1])
        _bars(left, -0.2, [row.honest.rmse for row in summary.scenarios], BLUE, "honest", width=0.38)
        _bars(left, 0.2, [row.notebook.rmse for row in summary.scenarios], LEAKY, "notebook's way", width=0.38)
        _marks(left, -0.2, [row.honest for row in summary.scenarios], width=0.38)
        _finish(left, [f"window {row.window}\nhorizon {row.horizon}" for row in summary.scenarios], "RMSE (counts)")
        for place, row in enumerate(summary.traps):
            colour = BLUE if place == 0 else LEAKY
            _bars(right, place, [row.measured.rmse], colour, None, width=0.6)
        _marks(right, 0.0, [row.measured for row in summary.traps], width=0.6)
        _finish(right, [row.trap.replace(" ", "\n", 1) for row in summary.traps], "RMSE (counts)")
        right.axhline(summary.traps[0].measured.rmse.mean, color=BLUE, lw=0.8, ls=":")
    return figure


def draw_moments(summary: Summary) -> Figure:
    """Figure 4: forecast and what came, early and late, honest above and the notebook's way below."""
    with _figure(summary, 6.4) as figure:
        places = grid(figure, 2, 2)
        for row, (protocol, colour) in enumerate(((HONEST, BLUE), (NOTEBOOK, LEAKY))):
            for column, (when, moment) in enumerate(summary.shown[protocol].items()):
                axes = figure.add_subplot(places[row, column])
                came, forecast = moment.came or [], moment.forecast or []
                energies_known = len(came) == MODEL_AXIS.size
                along = energies_eV(MODEL_AXIS) if energies_known else np.arange(len(came), dtype=np.float64)
                axes.plot(along, came, color=CAME, lw=0.5, label="came")
                axes.plot(along, forecast, color=colour, lw=1.0, label="forecast")
                printed = next(r.paper_rmse for r in summary.figure_4 if r.when == when)
                way = "honest" if protocol == HONEST else "notebook's way"
                axes.set_title(f"{when}, {moment.time_s:.1f} s, {way}: RMSE {moment.rmse:.0f} (paper {printed:.0f})")
                axes.set(xlabel="energy loss (eV)" if energies_known else "channel", ylabel="counts")
                axes.legend(loc="upper right")
    return figure


def draw_worth(summary: Summary) -> Figure:
    """Errors against the spectra that came, and against the truth where it is known; a dot a seed."""
    families = summary.worth.families
    known = all(line.rmse_clean is not None for table in families for line in table.forecasters)
    with _figure(summary, 2.9 * len(families) + 0.6) as figure:
        places = grid(figure, len(families), 1 + known, between_in=(0.3, 0.85))
        places.update(left=0.21)  # for the names
        for row, table in enumerate(families):
            left = figure.add_subplot(places[row, 0])
            _dots(left, table, clean=False)
            if known:
                right = figure.add_subplot(places[row, 1], sharey=left)
                _dots(right, table, clean=True)
                right.tick_params(labelleft=False)
    return figure


def _dots(axes: Axes, table: FamilyTable, *, clean: bool) -> None:
    # Raw linear extrapolation would press all others together.
    lines = [line for line in reversed(table.forecasters) if line.name != "linear_extrapolation"]
    for place, line in enumerate(lines):
        values = (line.rmse_clean_by_seed or []) if clean else line.rmse_by_seed
        mean = sum(values) / len(values)
        colour = FORECAST if line.kind == "family" else GREEN
        axes.plot(values, [place] * len(values), "o", color=colour, ms=4, alpha=0.5)
        axes.plot([mean], [place], "|", color=colour, ms=15, mew=2.2)
    axes.set_yticks(range(len(lines)), [label(line.name) for line in lines], fontsize=8)
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if line.kind == "family" else "normal")
    if not clean:
        axes.axvline(table.noise_floor, color=FLOOR, ls=(0, (6, 3)), lw=1.2)
    against = "the noise-free truth" if clean else "the spectra that came (dashed: noise floor)"
    axes.set(xlabel="RMSE (counts)", title=f"{table.family}: against {against}")
    axes.grid(axis="x", color="0.9", lw=0.6)


def _bars(
    axes: Axes, offset: float, spreads: Sequence[Spread], colour: str, name: str | None, width: float = 0.26
) -> None:
    for place, found in enumerate(spreads):
        axes.bar(
            place + offset,
            found.mean,
            width,
            color=colour,
            yerr=found.sd or None,
            capsize=2,
            label=name if place == 0 else None,
        )
        axes.annotate(
            f"{found.mean:.0f}",
            (place + offset, found.mean + (found.sd or 0.0)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
        )


def _marks(axes: Axes, offset: float, measured: Sequence[Measured], width: float = 0.26) -> None:
    """The floor, and the best baseline, drawn over the bars."""
    for place, found in enumerate(measured):
        ends = (place + offset - width / 2, place + offset + width / 2)
        first = place == 0
        axes.plot(
            ends, [found.noise_floor] * 2, color=FLOOR, lw=1.6, ls=(0, (3, 1.5)), label="noise floor" if first else None
        )
        axes.plot(ends, [found.best_baseline_rmse] * 2, color=GREEN, lw=2.0, label="best baseline" if first else None)


def _finish(axes: Axes, names: Sequence[str], what: str, *, legend: bool = True) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel(what)
    axes.set_ylim(0, ROOM * axes.get_ylim()[1])
    if legend:
        axes.legend(loc="upper right", ncols=3)
