"""A live view on the terminal, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live


@contextmanager
def live_view(quiet: bool) -> Iterator[Live | None]:
    """To be updated by hand; None where the output is for a program or a file."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False) as live:
        yield live
