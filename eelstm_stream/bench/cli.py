"""`eelstm bench`: the benchmarks on the command line."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(
    help="Measure the real pipeline on this machine: processes, sockets, the served model.", no_args_is_help=True
)

# Entry-point group: each names a function that is a subcommand of `eelstm bench`. This is how benchmarks that fly simulated
# specimens, or the controller, get here: nothing in the service may import those. Such a module is imported at every start of
# `eelstm`, so it imports nothing heavy before its function is called.
BENCHMARKS = "eelstm.bench"

ModelFile = Annotated[Path | None, typer.Option(help="Model file, ONNX.", show_default="the paper's network")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@bench.command()
def latency(
    rate: Annotated[float, typer.Option(min=0.1, help="Spectra per second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure, s.")] = 20.0,
    model: ModelFile = None,
    as_json: Json = False,
) -> None:
    """Time from a spectrum's publication to its forecast's arrival, beside onnxruntime alone in the same run."""
    from eelstm_stream.bench.latency import measure_latency  # noqa: PLC0415

    _print(measure_latency(rate, seconds, model), as_json)


@bench.command()
def throughput(
    rate: Annotated[str, typer.Option(help="Spectra per second, or `max`.")] = "max",
    spectra: Annotated[int, typer.Option(min=100, help="How many spectra to play.")] = 20_000,
    model: ModelFile = None,
    as_json: Json = False,
) -> None:
    """Spectra forecast per second, beside onnxruntime alone at the same batch size in the same run; and memory."""
    from eelstm_stream.bench.throughput import measure_throughput  # noqa: PLC0415

    _print(measure_throughput(rate, spectra, model), as_json)


@bench.command()
def preparation(
    spectra: Annotated[int, typer.Option(min=10, help="How many spectra to prepare.")] = 2000,
    model: ModelFile = None,
    as_json: Json = False,
) -> None:
    """Time to prepare one spectrum of 2048 channels as the service does, and of each step of preprocessing alone."""
    from eelstm_stream.bench.preparation import measure_preparation  # noqa: PLC0415

    _print(measure_preparation(spectra, model), as_json)


@bench.command()
def startup(
    runs: Annotated[int, typer.Option(min=1, max=100, help="How often to start each program.")] = 5,
    model: ModelFile = None,
    as_json: Json = False,
) -> None:
    """Time until `eelstm --help` has answered, and until `eelstm serve` is ready."""
    from eelstm_stream.bench.startup import measure_startup  # noqa: PLC0415

    _print(measure_startup(runs, model), as_json)


@bench.command()
def instrument(
    seconds: Annotated[float, typer.Option(min=2, help="How long to play at full speed, and at the rate, s.")] = 20.0,
    timing_seconds: Annotated[float, typer.Option(min=1, help="How long to play in real time, s.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Spectra per second.")] = 3000.0,
    as_json: Json = False,
) -> None:
    """The simulated instrument alone: spectra per second at full speed, losses at a rate, lateness in real time."""
    from eelstm_stream.bench.instrument import measure_instrument  # noqa: PLC0415

    _print(measure_instrument(seconds, timing_seconds, rate), as_json)


def _print(figures: dict[str, float | int], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    width = max(map(len, figures))
    for name, figure in figures.items():
        sys.stdout.write(f"{name.ljust(width)}  {figure:,}\n")


for _entry in sorted(entry_points(group=BENCHMARKS), key=lambda e: e.name):
    bench.command(_entry.name)(_entry.load())
