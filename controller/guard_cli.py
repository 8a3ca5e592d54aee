"""`eelstm guard` and `eelstm journal` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="TOML file; this program reads its table `guard`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]
JournalFile = Annotated[Path, typer.Argument(help="The guard's journal.")]

journal = typer.Typer(help="The guard's journal: check it, replay it, read it.", no_args_is_help=True)


def guard(
    budget: Annotated[
        float | None,
        typer.Option(
            help="Dose that the specimen may receive in all, pC.  Must be given, here or in the configuration."
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="Where every decision is written; a budget goes with it, so give each specimen its own."),
    ] = None,
    approve: Annotated[
        str | None, typer.Option(help="none, or each: every proposal waits for `eelstm operator approve`.")
    ] = None,
    max_current: Annotated[float | None, typer.Option(help="Highest beam current, pA.", show_default="500")] = None,
    instrument: Annotated[str | None, typer.Option(help="Whose beam to guard.", show_default="microscope")] = None,
    spectra: Annotated[
        str | None, typer.Option(help="Where the instrument publishes.", show_default="tcp://127.0.0.1:17810")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(help="Where the instrument answers late joiners.", show_default="tcp://127.0.0.1:17811"),
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="Where the instrument takes commands.", show_default="tcp://127.0.0.1:17813")
    ] = None,
    proposals: Annotated[
        str | None, typer.Option(help="Where the controller publishes.", show_default="tcp://127.0.0.1:17814")
    ] = None,
    publish: Annotated[
        str | None, typer.Option(help="Where to publish decisions and status.", show_default="tcp://127.0.0.1:17815")
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Where to take an operator's commands.", show_default="tcp://127.0.0.1:17816")
    ] = None,
    config: Config = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say on stdout, as one JSON object, when and where it is ready.")
    ] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Stand between controller and beam: grant leases within a dose budget, and blank."""
    from controller.guardd import Guard, GuardSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415
    from eelstm_stream.io.stopping import Stop  # noqa: PLC0415

    settings = load_settings(
        GuardSettings,
        config,
        budget_pC=budget,
        journal=journal,
        approve=approve,
        max_current_pA=max_current,
        instrument=instrument,
        spectra=spectra,
        snapshot=snapshot,
        command=command,
        proposals=proposals,
        publish=publish,
        operator=operator,
    )
    with Stop(with_parent=with_parent) as stop:
        Guard(settings, as_json=as_json).run(stop)


@journal.command()
def verify(file: JournalFile, as_json: Json = False) -> None:
    """Check that no entry was changed, left out or moved."""
    from controller.journal_reading import verify_journal  # noqa: PLC0415

    verify_journal(file, as_json=as_json)


@journal.command()
def replay(file: JournalFile, as_json: Json = False) -> int:
    """Give the guard's rules all that they were given then, and see whether they decide the same.

    Exits with 1 where they don't.
    """
    from controller.journal_reading import replay_journal  # noqa: PLC0415

    return replay_journal(file, as_json=as_json)


@journal.command()
def export(
    file: JournalFile,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; by default stdout.")] = None,
) -> None:
    """Write every decision as a row of CSV."""
    from controller.journal_reading import export_decisions  # noqa: PLC0415

    export_decisions(file, output)
