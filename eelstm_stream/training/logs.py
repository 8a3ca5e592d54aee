"""The course of a training for TensorBoard."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

LOSS = "loss/training"
TRAINING, VALIDATION, LEARNING_RATE = "rmse_counts/training", "rmse_counts/validation", "learning_rate"
EVENTS = "events.out.tfevents.*"  # as TensorBoard names its files


class Logs:
    """Scalars by epoch. Without a writer it keeps nothing."""

    def __init__(self, writer: Any, recipe: Recipe, span: float) -> None:
        self._writer = writer
        self._recipe = recipe
        self._span = span
        self._first = True

    def epoch(self, epoch: int, training_rmse: float, validation_rmse: float) -> None:
        """An epoch is done; errors in counts."""
        if self._writer is None:
            return
        event, summary = (
            importlib.import_module(f"tensorboard.compat.proto.{name}_pb2") for name in ("event", "summary")
        )
        if self._first:
            # What a killed process logged of epochs that are trained again is not to be drawn.
            self._writer.add_event(
                event.Event(
                    wall_time=time.time(), step=epoch, session_log=event.SessionLog(status=event.SessionLog.START)
                )
            )
            self._first = False
        scalars = {
            LOSS: (training_rmse / self._span) ** 2,
            TRAINING: training_rmse,
            VALIDATION: validation_rmse,
            LEARNING_RATE: self._recipe.learning_rate,
        }
        values = [summary.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._writer.add_event(event.Event(wall_time=time.time(), step=epoch, summary=summary.Summary(value=values)))
        self._writer.flush()


@contextmanager
def open_logs(folder: Path | None, recipe: Recipe, span: float, *, resume: bool, anew: bool) -> Iterator[Logs]:
    """Logs of one training in a folder, which is made where there is none; with None, logs that keep nothing.

    span: counts from the scaler's 0 to its 1, for the loss. resume: add to what is there; anew: remove it first. Raises
    UsageError where another training's logs are there and neither is asked for, EelstmError where the disk refuses.
    """
    if folder is None:
        yield Logs(None, recipe, span)
        return
    keras_and_tensorflow()  # TensorBoard would import it, with its chatter
    files = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(folder.glob(EVENTS))
        if there and not (resume or anew):
            raise UsageError(
                f"{folder} has logs of another training: choose another folder, or remove them with --force."
            )
        if anew and not resume:
            for file in there:
                file.unlink()
        writer = files.EventFileWriter(str(folder))
    except OSError as error:
        raise EelstmError(f"{folder} can't be written to: {error.strerror}.") from None
    try:
        yield Logs(writer, recipe, span)
    finally:
        writer.close()
