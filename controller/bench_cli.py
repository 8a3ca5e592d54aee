"""Benchmarks of control on the command line: what the entry-point group `eelstm.bench` names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def loop(
    seconds: Annotated[float, typer.Option(min=2, help="How long to measure, s.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1, max=200, help="Spectra per second.")] = 20.0,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the guard's journal, whose disk matters.", show_default="the user's state folder"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """From a spectrum's publication until the command that follows from it is acknowledged, through all processes."""
    from controller.loop_bench import print_loop_benchmark  # noqa: PLC0415

    print_loop_benchmark(seconds, rate, journal, as_json=as_json)
