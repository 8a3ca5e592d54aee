"""Benchmarks on simulated specimens, on the command line: what the entry-point group `eelstm.bench` names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelFile = Annotated[Path | None, typer.Option(help="Model file, ONNX.", show_default="the shipped one")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def window(
    runs: Annotated[int, typer.Option(min=1, max=100, help="Simulated specimens, the same for every setting.")] = 8,
    model: ModelFile = None,
    as_json: Json = False,
) -> None:
    """Errors of forecasts while dwell and current are others than in training: with the window on dose, and on frames."""
    from acquisition_sim.bench.window import print_window_benchmark  # noqa: PLC0415

    print_window_benchmark(runs, model, as_json=as_json)
