"""The tables of a reproduction for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eelstm_stream.training.labels import label
from eelstm_stream.training.reproduction.notes import NOTES, origin, scope, trap_sentence
from eelstm_stream.training.reproduction.summary import FamilyTable, Measured, Summary

WIDTH = 132  # where stdout is no terminal
BOTH = ("honest", "floor", "best baseline", "notebook's", "floor", "best baseline", "change")


def print_summary(summary: Summary) -> None:
    """Everything, on stdout."""
    out = Console()
    if not out.is_terminal:
        out = Console(width=WIDTH)
    _say(out, origin(summary), style="bold")
    _say(out, scope(summary))
    for table in (_table_i(summary), _scenarios(summary), _figure_4(summary), _traps(summary)):
        out.print(table)
    _say(out, trap_sentence(summary))
    for family in summary.worth.families:
        out.print(_family(summary, family))
        for sentence in family.verdict:
            _say(out, sentence, style="bold")
    for note in NOTES:
        _say(out, note, style="dim")


def _table_i(summary: Summary) -> Table:
    table = _table(
        summary,
        "Table I: RMSE, counts, of the paper's network by preprocessing",
        ("preprocessing", "paper", *BOTH),
    )
    for row in summary.table_i:
        paper = f"{row.paper_rmse:.1f}" + ("" if row.paper_rmse_sd is None else f" ± {row.paper_rmse_sd:.1f}")
        table.add_row(row.row, paper, *_both(row.honest, row.notebook))
    return table


def _scenarios(summary: Summary) -> Table:
    table = _table(
        summary,
        "Figure 3: horizon scenarios, RMSE, counts",
        ("window, horizon", "paper", *BOTH),
    )
    for row in summary.scenarios:
        table.add_row(f"{row.window}, {row.horizon}", f"“{row.paper}”", *_both(row.honest, row.notebook))
    return table


def _figure_4(summary: Summary) -> Table:
    table = _table(
        summary, "Figure 4: forecasts early and late, RMSE, counts", ("forecast", "paper", "honest", "notebook's")
    )
    for row in summary.figure_4:
        table.add_row(f"{row.when}, at {row.time_s:.1f} s", f"{row.paper_rmse:.1f}", str(row.honest), str(row.notebook))
    return table


def _traps(summary: Summary) -> Table:
    table = _table(
        summary,
        "What each trap is worth, with alignment, window 8, horizon 8",
        ("trap", "rmse, counts", "against honest", "floor", "best baseline", ""),
    )
    for number, row in enumerate(summary.traps):
        change = f"{row.change_percent:+.1f} %" if number else ""
        table.add_row(row.trap, str(row.measured.rmse), change, *_beside(row.measured))
    return table


def _family(summary: Summary, family: FamilyTable) -> Table:
    seeds = summary.worth.seeds
    table = _table(
        summary,
        f"Is the LSTM worth it: {family.family}, {seeds} {'seed' if seeds == 1 else 'seeds'}, among all baselines",
        ("forecaster", "rmse, counts", "over the floor", "against the truth"),
    )
    for line in family.forecasters:
        table.add_row(
            escape(label(line.name)),
            str(line.rmse),
            f"{line.over_noise_floor:.3f}",
            "unknown" if line.rmse_clean is None else str(line.rmse_clean),
            style="bold" if line.kind == "family" else None,
        )
    table.add_section()
    known = family.forecasters[0].rmse_clean is not None
    table.add_row("noise floor", f"{family.noise_floor:.1f}", "1", "0" if known else "unknown")
    return table


def _both(honest: Measured, notebook: Measured) -> tuple[str, ...]:
    change = 100 * (notebook.rmse.mean / honest.rmse.mean - 1)
    return (*_plain(honest), *_plain(notebook), f"{change:+.0f} %")


def _plain(measured: Measured) -> tuple[str, str, str]:
    return str(measured.rmse), f"{measured.noise_floor:.1f}", f"{measured.best_baseline_rmse:.1f}"


def _beside(measured: Measured) -> tuple[str, str, str]:
    return f"{measured.noise_floor:.1f}", f"{measured.best_baseline_rmse:.1f}", label(measured.best_baseline)


def _table(summary: Summary, title: str, columns: tuple[str, ...]) -> Table:
    said = f"SIMULATED: {title}" if summary.simulated else title
    table = Table(title=said, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for number, name in enumerate(columns):
        left = number == 0 or (name == "" and number == len(columns) - 1)
        table.add_column(name, justify="left" if left else "right")
    return table


def _say(out: Console, sentence: str, style: str | None = None) -> None:
    out.print(sentence, style=style, markup=False, highlight=False)
