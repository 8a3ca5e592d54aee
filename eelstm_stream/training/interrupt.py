"""Ctrl-C that is not lost: raised where it comes, and once more at the next epoch, if a library swallowed it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """While it is entered, remembers Ctrl-C. What runs in a thread other than the main one gets no signals, and none here."""

    def __init__(self) -> None:
        self._requested = False
        self._before: object = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._come)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def _come(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.default_int_handler(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt where Ctrl-C has come: in a callback of TensorFlow's it is printed and forgotten."""
        if self._requested:
            raise KeyboardInterrupt
