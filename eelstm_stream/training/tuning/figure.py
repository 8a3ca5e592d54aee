"""The picture of a search: what mattered, and how each hyperparameter's values came out."""

from __future__ import annotations

import io
from typing import Any

from eelstm_stream.training.tuning.report import Outcome, TrialRow
from eelstm_stream.training.tuning.space import Range, Space

UNITS = {
    "learning_rate": "learning rate",
    "units": "units a layer",
    "window": "window (spectra)",
    "batch": "batch (windows)",
}
COLUMNS = 3
BEST, OTHERS, PRUNED = "#c03028", "#3878b0", "0.7"


def draw(outcome: Outcome, space: Space, title: str) -> bytes:
    """The picture, PNG: importance of each hyperparameter, and the validation rmse of every trial against each."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = sorted(space, key=lambda name: -outcome.importance.get(name, 0.0))
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(10, 2.2 + 2.2 * rows), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(2.2, 2.2 * rows))
    above, below = halves
    _draw_importance(above.subplots(), names, outcome)
    grid = below.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    complete = [row for row in outcome.rows if not row.pruned]
    limit = _limit(complete)
    for number, name in enumerate(names):
        axes = grid[number // COLUMNS][number % COLUMNS]
        _draw_slice(axes, name, outcome, limit)
        _set_range(axes, space[name])
        if space[name].whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if number % COLUMNS == 0:
            axes.set_ylabel("rmse (counts)")
    for number in range(len(names), rows * COLUMNS):
        grid[number // COLUMNS][number % COLUMNS].set_visible(False)
    handles, labels = grid[0][0].get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    edge = "" if limit is None else f"; at the upper edge of the small ones: {limit:.0f} counts or more"
    figure.suptitle(f"{title}: what mattered, and validation rmse against each{edge}", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    return content.getvalue()


def _draw_importance(axes: Any, names: list[str], outcome: Outcome) -> None:
    shares = [outcome.importance.get(name, 0.0) for name in names]
    labels = [UNITS.get(name, name) for name in names]
    axes.barh(labels[::-1], shares[::-1], color=OTHERS)
    axes.set_xlim(0, 1)
    said = (
        "importance: share in what tells the better quarter of trials from the whole space (PED-ANOVA)"
        if outcome.importance
        else "importance: too few trials to tell"
    )
    axes.set_xlabel(said)


def _set_range(axes: Any, searched: Range) -> None:
    """The whole of what is searched, so that what was left out can be seen."""
    low, high = searched.low, searched.high
    if searched.by_magnitude:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * 1.5)
    else:
        margin = 0.05 * (high - low) or 0.5
        axes.set_xlim(low - margin, high + margin)


def _limit(complete: list[TrialRow]) -> float | None:
    """Where the axis of errors ends: a training that went nowhere would press all others flat."""
    values = sorted(row.validation_rmse for row in complete if row.validation_rmse is not None)
    if len(values) < 2:
        return None
    return values[0] + 1.3 * (values[int(0.75 * (len(values) - 1))] - values[0]) or None


def _draw_slice(axes: Any, name: str, outcome: Outcome, limit: float | None) -> None:
    groups = (
        ("pruned", [r for r in outcome.rows if r.pruned], PRUNED, "x"),
        ("trained to the end", [r for r in outcome.rows if not r.pruned][1:], OTHERS, "o"),
        ("best", [outcome.best] if outcome.best else [], BEST, "*"),
    )
    for label, rows, colour, marker in groups:
        shown = [r for r in rows if r.validation_rmse is not None]
        at = [r.parameters[name] for r in shown]
        # What lies above the axis is drawn at its edge.
        errors = [min(r.validation_rmse or 0.0, limit) if limit else r.validation_rmse for r in shown]
        axes.scatter(
            at,
            errors,
            c=colour,
            marker=marker,
            s=90 if marker == "*" else 18,
            label=label,
            zorder=3 if marker == "*" else 2,
        )
    axes.set_xlabel(UNITS.get(name, name))
