"""Ending a program: Ctrl-C, SIGTERM, or the death of the program that started it, all seen as one readable descriptor."""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType, TracebackType
from typing import Protocol

import zmq


class HasFileno(Protocol):
    """A file, a pipe or a socket."""

    def fileno(self) -> int:
        """Its descriptor."""


class Stop:
    """Becomes readable, and `requested`, when this program should end. A loop polls it beside its sockets.

    With `with_parent`, standard input is a pipe whose other end the starting program holds: when that program dies, for
    whatever reason, the pipe closes and this one ends too.
    """

    def __init__(self, *, with_parent: bool = False) -> None:
        self.requested = False
        self._with_parent = with_parent
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before: dict[signal.Signals, signal.Handlers | None] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request()

    def request(self) -> None:
        """Ask for the end from inside the program."""
        if not self.requested:
            self.requested = True
            os.write(self._write, b".")

    def register(self, poller: zmq.Poller) -> None:
        """Let a poller wake up when the end is asked for."""
        poller.register(self._read, zmq.POLLIN)
        if self._with_parent:
            poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def wait(self, seconds: float, *readable: HasFileno) -> bool:
        """Sleep to the microsecond, or until one of `readable` is, or the end is asked for; whether it was."""
        if seconds > 0:
            awaited: list[int | HasFileno] = [self._read, *readable]
            select.select(awaited, [], [], seconds)
        return self.requested

    def check(self, ready: dict[object, int]) -> bool:
        """Whether the end was asked for, given what a poll returned."""
        if self._with_parent and sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            self.requested = True
        return self.requested
