"""`eelstm reproduce`: the paper's tables and figures again, and what each of its traps is worth."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


def reproduce(
    directory: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the paper's files, or of any three recordings.",
            show_default="where `eelstm fetch figshare` puts them; else three simulated runs",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for results, page and JSON; goes on with what is there.")
    ] = Path("reproduction"),
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings of each number.", show_default="3, and 5 against the baselines"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="At most, of each training.", show_default="150, or 20 with --quick")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs and one seed: for a look, not for the figures.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainings at once.", show_default="one a core")] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin anew, whatever results are there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Train the paper's network as its notebook did and as it should be, and hold both against the paper and the baselines."""
    from eelstm_stream.training.reproduction.run import QUICK_EPOCHS, Options, reproduce_paper  # noqa: PLC0415
    from eelstm_stream.training.reproduction.terminal import print_summary  # noqa: PLC0415
    from eelstm_stream.training.reproduction.train_cell import TrainingSettings  # noqa: PLC0415
    from eelstm_stream.training.reproduction.written import require_drawing, write_summary  # noqa: PLC0415

    require_drawing()
    settings = TrainingSettings()
    if epochs is not None or quick:
        settings = replace(settings, epochs=epochs or QUICK_EPOCHS)
    summary = reproduce_paper(Options(directory, output, seeds, quick, workers, force), settings)
    figures = write_summary(summary, output)
    if as_json:
        sys.stdout.write(json.dumps(figures, allow_nan=False) + "\n")
        return
    print_summary(summary)
    sys.stdout.write(f"\n{figures['page']} written\n")
