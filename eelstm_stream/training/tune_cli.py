"""`eelstm tune`."""

from __future__ import annotations


def tune() -> None:
    """Not there yet."""
    raise NotImplementedError
