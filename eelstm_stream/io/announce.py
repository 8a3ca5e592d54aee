"""What a daemon says of itself: one line for a person on stderr, or one JSON object on stdout for a program.

Saying never holds a daemon up, nor ends it. A terminal that was stopped (Ctrl-S), a pager or a collector of logs that doesn't read,
a pipe whose reader has gone: what they don't take at once is dropped, and counted for the next line that goes through.
"""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from contextlib import suppress

LONGEST_BYTES = 4000  # below the 4096 that a pipe takes whole or not at all


def printable(text: str) -> str:
    """Text from elsewhere without control characters, which could write over a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


class _Lines:
    """Lines to a file descriptor, by a way of our own that doesn't block: the one given may be shared with other programs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        with suppress(OSError):
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
        self._dropped = 0

    def write(self, line: str) -> None:
        """Write it, or drop it."""
        told = f"({self._dropped} lines were not said, since nobody read)\n{line}" if self._dropped else line
        encoded = told.encode("utf-8", "backslashreplace")
        if len(encoded) > LONGEST_BYTES:
            encoded = encoded[: LONGEST_BYTES - 4].decode("utf-8", "ignore").encode() + b"...\n"
        try:
            if select.select((), (self._descriptor,), (), 0)[1]:
                os.write(self._descriptor, encoded)
                self._dropped = 0
                return
        except (OSError, ValueError):  # whoever read has gone, or doesn't take it now
            pass
        self._dropped += 1


_stderr: _Lines | None = None


def say(program: str, sentence: str) -> None:
    """One line for a person."""
    global _stderr  # noqa: PLW0603 - a program has one
    line = f"eelstm {program}: {printable(sentence)}\n"
    if sys.stderr is not sys.__stderr__:  # somebody listens within the program
        sys.stderr.write(line)
        return
    if _stderr is None:
        _stderr = _Lines(2)
    _stderr.write(line)


def ready(program: str, as_json: bool, **endpoints: str) -> None:
    """A daemon is up, its sockets bound where `endpoints` say."""
    if as_json:
        sys.stdout.write(json.dumps({"ready": program, **endpoints}) + "\n")
        sys.stdout.flush()
    say(program, "ready; " + ", ".join(f"{name} on {endpoint}" for name, endpoint in endpoints.items()))
