"""How far a reproduction has come, on stderr: how long it will take after the first training, then a bar with the time left."""

from __future__ import annotations

import statistics
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from eelstm_stream.training.reproduction.cells import Cell
from eelstm_stream.training.reproduction.train_cell import Result


class ReproductionProgress:
    """A progress bar while it is entered; in a log, a line a training."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[course]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("reading", total=None, left="", course="")
        self._total = self._done = 0
        self._workers = 1
        self._seconds: list[float] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt) and self._total:
            self.say(
                f"stopped after {self._done} of {self._total} trainings; the same command goes on where this one was"
            )

    def stage(self, description: str) -> None:
        """Something of unknown length begins."""
        self._progress.update(self._task, description=description)
        if not self._console.is_terminal:
            self.say(description)

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    def train(self, done: int, total: int, workers: int) -> None:
        """The training begins, so many cells being there already."""
        self._done, self._total, self._workers = done, total, workers
        self._progress.reset(self._task, total=total, completed=done, description="training")
        if done < total:
            there = f", {done} of them done before" if done else ""
            processes = "one process" if workers == 1 else f"{workers} processes"
            self.say(f"{total} trainings{there}, in {processes}: how long that takes is known after the first")

    def epoch(self, cell: Cell, epoch: int) -> None:
        """An epoch of a cell is done."""
        self._progress.update(self._task, course=f"{cell}: epoch {epoch}")

    def cell(self, cell: Cell, result: Result) -> None:
        """A cell is done."""
        self._done += 1
        self._seconds.append(result.seconds)
        left = _duration(statistics.fmean(self._seconds) * (self._total - self._done) / self._workers)
        if len(self._seconds) == 1 and self._done < self._total:
            self.say(
                f"about {left} to go on this machine, by the first training, which took {_duration(result.seconds)}"
            )
        self._progress.update(self._task, completed=self._done, left=f"about {left} left")
        if not self._console.is_terminal:
            self.say(
                f"{self._done}/{self._total} {cell}: rmse {result.rmse:.1f}, noise floor {result.noise_floor:.1f}, "
                f"{result.epochs} epochs, {result.seconds:.0f} s; about {left} left"
            )


def _duration(seconds: float) -> str:
    """In words, to two figures."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
