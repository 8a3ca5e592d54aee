"""How far a training has come, on stderr: stage, epochs, validation error, time left; in a log, a line an epoch."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eelstm_stream.core.model_contract import TrainingEpoch


class TrainingProgress:
    """A progress bar while it is entered. Also remembers the best epoch and the course of the errors, for card and report."""

    def __init__(self, epochs: int) -> None:
        self.epochs_done = 0
        self.best_epoch = 0
        self.best_rmse = float("inf")
        self.curve: list[TrainingEpoch] = []
        self._epochs = epochs
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[course]}"),
            TimeElapsedColumn(),
            TextColumn("left at most"),  # early stopping ends it sooner
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None, course="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, description: str) -> None:
        """A stage of unknown length begins."""
        self._progress.update(self._task, description=description)
        if not self._console.is_terminal:
            self._console.print(description, soft_wrap=True, markup=False, highlight=False)

    def epoch(self, epoch: int, training_rmse: float, validation_rmse: float) -> None:
        """An epoch is done; errors in counts."""
        self.epochs_done = epoch
        if math.isfinite(training_rmse) and math.isfinite(
            validation_rmse
        ):  # a training that ran away has no curve there
            self.curve.append(TrainingEpoch(epoch=epoch, training_rmse=training_rmse, validation_rmse=validation_rmse))
        if validation_rmse < self.best_rmse:
            self.best_rmse, self.best_epoch = validation_rmse, epoch
        course = (
            f"epoch {epoch}/{self._epochs}, rmse {training_rmse:.1f}, validation {validation_rmse:.1f} "
            f"(best {self.best_rmse:.1f} in epoch {self.best_epoch})"
        )
        self._progress.update(self._task, description="training", total=self._epochs, completed=epoch, course=course)
        if not self._console.is_terminal:
            self._console.print(course, soft_wrap=True, markup=False, highlight=False)
