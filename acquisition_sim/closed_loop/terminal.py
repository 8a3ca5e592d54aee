"""The benchmark of control on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from acquisition_sim.closed_loop.control_benchmark import ControlBenchmark, Programme
from acquisition_sim.closed_loop.results import Results
from acquisition_sim.closed_loop.scoring import OVERSHOOT
from acquisition_sim.closed_loop.workers import crew
from eelstm_stream.io.model_file import open_model

T = TypeVar("T")


def run_control_benchmark(
    programme: Programme, model_file: Path, *, jobs: int, figure: Path | None, as_json: bool
) -> None:
    """Measure, draw and print."""
    name = open_model(model_file).metadata.name
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as bars,
        crew(model_file, jobs) as flying,
    ):

        def progress(what: str, number: int, flights: Iterator[T]) -> Iterator[T]:
            bar = bars.add_task(what, total=number)
            for flight in flights:
                bars.advance(bar)
                yield flight

        results = ControlBenchmark(programme, flying, name, progress).measure()
    if figure is not None:
        from acquisition_sim.closed_loop.figure import draw  # noqa: PLC0415 - matplotlib takes a second

        draw(results, figure)
    if as_json:
        sys.stdout.write(json.dumps(results.as_json()) + "\n")
        return
    Console().print(tables(results))


def tables(results: Results) -> Group:
    """All figures, for a person."""
    shown: list[Table | str] = [_by_latency(results)]
    if results.resolve:
        shown.append(_resolve(results))
    shown.append(_counts(results))
    return Group(*shown)


def _by_latency(results: Results) -> Table:
    table = Table(
        title=f"{results.specimens} simulated specimens, phase ceiling {results.phase_ceiling:g}",
        caption=f"used: dose spent below the ceiling, over the dose that reaches it; loss: what mpc loses against the oracle, "
        f"over what reactive loses; within: share of runs that overshoot by {OVERSHOOT:g} at most; "
        f"each strategy tuned on {results.tuning_specimens} other specimens",
    )
    table.add_column("late", justify="right")
    table.add_column("strategy", no_wrap=True)
    for name in ("used", "loss", "overshoot\np95", "within", "time\ns"):
        table.add_column(name, justify="right")
    table.add_column("tuned to")
    latencies = sorted({row.latency_steps for row in results.rows})
    for latency in latencies:
        rows = [row for row in results.rows if row.latency_steps == latency]
        for number, row in enumerate(rows):
            table.add_row(
                str(latency) if number == 0 else "",
                row.strategy,
                f"{row.utilisation:.3f}",
                _of_reactive(results, row.strategy, latency),
                f"{row.overshoot_p95:.4f}",
                f"{row.share_within:.3f}",
                f"{row.time_s:.0f}",
                row.tuned,
                style="bold" if row.strategy == "mpc" else "",
                end_section=number == len(rows) - 1,
            )
    return table


def _of_reactive(results: Results, strategy: str, latency: int) -> str:
    mpc, reactive, oracle = (results.row(name, latency) for name in ("mpc", "reactive", "oracle"))
    if strategy != "mpc" or mpc is None or reactive is None or oracle is None:
        return ""
    lost = oracle.utilisation - reactive.utilisation
    return f"{(oracle.utilisation - mpc.utilisation) / lost:.2f}" if lost > 0 else ""


def _resolve(results: Results) -> Table:
    table = Table(
        title=f"resolve: frames that change the phase by {results.delta:g} at most",
        caption="of the frames between phases 0.05 and 0.95; fixed dwell: the same dose in as many frames; largest: change of the "
        "phase in one frame of a specimen",
    )
    table.add_column("")
    for name in ("within\ndelta", "below\nfloor", "largest\np95", "frames", "time\ns"):
        table.add_column(name, justify="right")
    for row in results.resolve:
        table.add_row(
            row.strategy,
            f"{row.share_within_delta:.1%}",
            f"{row.share_below_floor:.1%}",
            f"{row.largest_change_p95:.4f}",
            f"{row.frames:.0f}",
            f"{row.time_s:.0f}",
        )
    return table


def _counts(results: Results) -> str:
    said = f"{results.flights} flights under control in {results.seconds:.0f} s, {results.budget_violations} beyond their budget"
    if results.tight_budget is not None:
        tight = results.tight_budget
        said += f" ({tight.flights} of them with half the dose of the ceiling as budget: {tight.used:.1%} of it used)"
    return (
        f"{said}.\n{results.solves} plans solved: half of them in {results.solve_p50_ms:g} ms, 99 of 100 in "
        f"{results.solve_p99_ms:g} ms; {results.fallbacks} fell back to the plan before; the guard refused {results.refused}."
    )
