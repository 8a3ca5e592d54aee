"""Flights shared out among processes: each is one specimen's own, so they come out the same whoever flies them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from acquisition_sim.closed_loop.constant_rate import ConstantRate, fly_at_constant_rate
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.closed_loop.under_control import Flown, fly_under_control
from controller.aim import Aim
from eelstm_stream.errors import EelstmError
from eelstm_stream.io.model_file import Model, open_model


@dataclass(frozen=True, slots=True)
class AtConstantRate:
    """A flight for those that only decide when to stop."""

    specimen: Specimen
    ceiling: float

    def fly(self, model: Model) -> ConstantRate:
        """Fly it."""
        return fly_at_constant_rate(self.specimen, model, self.ceiling)


@dataclass(frozen=True, slots=True)
class UnderControl:
    """A flight by the controller."""

    specimen: Specimen
    aim: Aim
    latency_frames: int
    budget_pC: float
    until_phase: float = 1.0

    def fly(self, model: Model) -> Flown:
        """Fly it."""
        return fly_under_control(
            self.specimen,
            model,
            self.aim,
            latency_frames=self.latency_frames,
            budget_pC=self.budget_pC,
            until_phase=self.until_phase,
        )


class Crew(Protocol):
    """Whoever flies."""

    def constant(self, tasks: Sequence[AtConstantRate]) -> Iterator[ConstantRate]:
        """Their flights, in their order."""

    def controlled(self, tasks: Sequence[UnderControl]) -> Iterator[Flown]:
        """Their flights, in their order."""


class HereCrew:
    """The process itself."""

    def __init__(self, model_file: Path) -> None:
        self._model = open_model(model_file)

    def constant(self, tasks: Sequence[AtConstantRate]) -> Iterator[ConstantRate]:
        """As `Crew`."""
        return (task.fly(self._model) for task in tasks)

    def controlled(self, tasks: Sequence[UnderControl]) -> Iterator[Flown]:
        """As `Crew`."""
        return (task.fly(self._model) for task in tasks)


class ProcessCrew:
    """Other processes, of one thread each."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def constant(self, tasks: Sequence[AtConstantRate]) -> Iterator[ConstantRate]:
        """As `Crew`."""
        return self._executor.map(_fly_constant, tasks, chunksize=4)

    def controlled(self, tasks: Sequence[UnderControl]) -> Iterator[Flown]:
        """As `Crew`."""
        return self._executor.map(_fly_controlled, tasks, chunksize=2)


@contextmanager
def crew(model_file: Path, jobs: int) -> Iterator[Crew]:
    """So many processes, or this one alone. Raises what opening the model raises, and EelstmError where a process is killed."""
    if jobs == 1:
        yield HereCrew(model_file)
        return
    open_model(model_file)  # said here, once, where it can't be
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(model_file,))
        try:
            yield ProcessCrew(executor)
        except BrokenProcessPool:
            raise EelstmError("a process of the benchmark has ended unasked: is there enough memory?") from None
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Of numpy in the processes that are started meanwhile: for arrays this small, more threads only take time from each other."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_model: Model | None = None  # of a process that was started by `crew`


def _begin(model_file: Path) -> None:
    global _model  # noqa: PLW0603 - a process's own, set once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that started this one, which ends this one
    _model = open_model(model_file)


def _fly_constant(task: AtConstantRate) -> ConstantRate:
    assert _model is not None  # noqa: S101 - the process began with it
    return task.fly(_model)


def _fly_controlled(task: UnderControl) -> Flown:
    assert _model is not None  # noqa: S101 - the process began with it
    return task.fly(_model)
