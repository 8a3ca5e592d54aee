"""`eelstm fetch`: published recordings into the user's cache."""

from __future__ import annotations

import typer

fetch = typer.Typer(help="Fetch published recordings.", no_args_is_help=True)
