"""How far a training has come, on stderr: stage, epochs, validation error, time left; in a log, a line an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eelstm_stream.core.model_contract import TrainingEpoch


class TrainingProgress:
    """A progress bar while it is entered."""

    def __init__(self, epochs: int) -> None:
        self._best_epoch = 0
        self._best_rmse = float("inf")
        self._epochs = epochs
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[course]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None, course="", left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, description: str) -> None:
        """A stage of unknown length begins."""
        self._progress.update(self._task, description=description, total=None, completed=0, course="", left="")
        if not self._console.is_terminal:
            self.say(description)

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    def train(self, done: Sequence[TrainingEpoch]) -> None:
        """The training begins, or goes on after these epochs."""
        self.stage("training")
        if done:
            best = min(done, key=lambda epoch: epoch.validation_rmse)
            self._best_epoch, self._best_rmse = best.epoch, best.validation_rmse
            self.say(f"going on after epoch {done[-1].epoch}")
        # From here the time left is reckoned: epochs of another process took none of this one's. It may stop early.
        self._progress.reset(self._task, total=self._epochs, completed=len(done), course="", left="left at most")

    def epoch(self, epoch: int, training_rmse: float, validation_rmse: float) -> None:
        """An epoch is done; errors in counts."""
        if validation_rmse < self._best_rmse:
            self._best_rmse, self._best_epoch = validation_rmse, epoch
        course = (
            f"epoch {epoch}/{self._epochs}, rmse {training_rmse:.1f}, validation {validation_rmse:.1f} "
            f"(best {self._best_rmse:.1f} in epoch {self._best_epoch})"
        )
        self._progress.update(self._task, completed=epoch, course=course)
        if not self._console.is_terminal:
            self.say(course)
