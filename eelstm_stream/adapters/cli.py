"""`eelstm adapter`: instruments that we did not write, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

adapter = typer.Typer(help="Put an instrument of somebody else's on the wire.", no_args_is_help=True)


@adapter.callback()
def _adapter() -> None:
    """One command an instrument, also while there's only one."""


@adapter.command()
def usim(
    offset: Annotated[
        float | None, typer.Option(help="Energy loss of the first of 1024 channels, eV.", show_default="250")
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Name in every topic.", show_default="microscope")] = None,
    publish: Annotated[str | None, typer.Option(help="Where to publish.", show_default="tcp://127.0.0.1:17810")] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="Where to answer late joiners.", show_default="tcp://127.0.0.1:17811")
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="Where to take commands.", show_default="tcp://127.0.0.1:17813")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; this program reads its table `usim`.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say on stdout, as one JSON object, when and where it is ready.")
    ] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Nion Swift's simulated microscope. It begins blanked, and is commanded."""
    from eelstm_stream.adapters.program import run_adapter  # noqa: PLC0415
    from eelstm_stream.adapters.usim import Usim, UsimSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415

    settings = load_settings(
        UsimSettings,
        config,
        offset=offset,
        instrument=instrument,
        publish=publish,
        snapshot=snapshot,
        command=command,
    )
    run_adapter("usim", settings, lambda: Usim(settings.offset), as_json=as_json, with_parent=with_parent)
