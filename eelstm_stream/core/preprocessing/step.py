"""What a step of preprocessing is: one thing done to a run, or to one spectrum of it at a time, with the same result.

Operations: `start` gives the state before the first spectrum, `step` takes one spectrum in, `whole` takes a run. A step never
changes: what is fitted is a step that a `fit_…` function made from training runs, so that nothing can be learnt from what is
transformed. A state is never changed either, only replaced, so a spectrum that is refused leaves the stream as it was.

Goals: `whole` is fast, `step` is what a live stream needs, and both give the same spectra (tests hold every step and every
chain to that). Counts are float64 throughout, whatever comes in: whoever needs float32 rounds once, at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis

Counts = NDArray[np.float64]
Taken = TypeVar("Taken", contravariant=True)  # noqa: PLC0105 - what a step takes: counts, or counts with their exposure
State = TypeVar("State")


class Step(Protocol[Taken, State]):
    """One thing done to spectra."""

    @property
    def source_axis(self) -> EnergyAxis | None:
        """Axis of the spectra that it takes; None where any will do."""

    @property
    def target_axis(self) -> EnergyAxis | None:
        """Axis of the spectra that it gives; None where it is that of what it takes."""

    def start(self) -> State:
        """State before the first spectrum of a run."""

    def step(self, state: State, spectrum: Taken) -> tuple[State, Counts | None]:
        """Take one spectrum, `(channel,)`. Gives `(channel,)`, or None where more of them are needed first."""

    def whole(self, run: Taken) -> Counts:
        """Take all spectra of a run, `(frame, channel)`: what `step` gives for each that is not None, stacked."""


class Stateless(ABC):
    """A step that treats every spectrum by itself: all that it is made of is `of`."""

    @property
    def source_axis(self) -> EnergyAxis | None:
        """Any."""
        return None

    @property
    def target_axis(self) -> EnergyAxis | None:
        """As it came."""
        return None

    @abstractmethod
    def of(self, counts: NDArray[Any]) -> Counts:
        """`(…, channel)` to `(…, channel)`, along the last axis."""

    def start(self) -> None:
        """Nothing is remembered."""
        return

    def step(self, state: None, spectrum: NDArray[Any]) -> tuple[None, Counts]:
        """One spectrum, `(channel,)`."""
        return None, self.of(as_spectrum(spectrum, self.source_axis))

    def whole(self, run: NDArray[Any]) -> Counts:
        """A run, `(frame, channel)`."""
        return self.of(as_run(run, self.source_axis))


def one_by_one(step: Step[Taken, State], spectra: Iterable[Taken]) -> list[Counts]:
    """Put a run through a step as a stream would: slower than `whole`, and the same."""
    state, given = step.start(), []
    for spectrum in spectra:
        state, out = step.step(state, spectrum)
        if out is not None:
            given.append(out)
    return given


def as_run(counts: NDArray[Any], axis: EnergyAxis | None = None) -> Counts:
    """Counts of a run, `(frame, channel)`, as float64. Raises UnusableInputError for another shape."""
    return _shaped(counts, axis, 2, "a run is (frame, channel)")


def as_spectrum(counts: NDArray[Any], axis: EnergyAxis | None = None) -> Counts:
    """Counts of a spectrum, `(channel,)`, as float64. Raises UnusableInputError for another shape."""
    return _shaped(counts, axis, 1, "a spectrum is (channel,)")


def kept_spectrum(counts: NDArray[Any], before: Counts | None) -> Counts:
    """A copy of a spectrum, `(channel,)`, that a state can keep: the caller may use the array again.

    before: one that the state holds. Raises UnusableInputError where the two differ in size.
    """
    copy = as_spectrum(counts).copy()
    if before is not None and before.shape != copy.shape:
        raise UnusableInputError(f"this spectrum has {copy.size} channels, and the one before it {before.size}.")
    return copy


def training_frames(runs: Iterable[NDArray[Any]], axis: EnergyAxis | None = None) -> list[Counts]:
    """Runs that a step is about to be fitted on, each `(frame, channel)`, as float64.

    Raises UnusableInputError where there are none, one has no frames or numbers that are not finite, or they differ in size.
    """
    frames = [as_run(run, axis) for run in runs]
    if not frames:
        raise UnusableInputError("there is no run to fit on: give at least one.")
    for number, run in enumerate(frames):
        if not len(run):
            raise UnusableInputError(f"training run {number} has no frames.")
        if run.shape[1] != frames[0].shape[1]:
            raise UnusableInputError(
                f"training run {number} has {run.shape[1]} channels, and run 0 has {frames[0].shape[1]}."
            )
        if not np.isfinite(run).all():
            frame = int(np.argmin(np.isfinite(run).all(axis=1)))
            raise UnusableInputError(f"training run {number} holds numbers that are not finite, in frame {frame}.")
    return frames


def _shaped(counts: NDArray[Any], axis: EnergyAxis | None, dimensions: int, wanted: str) -> Counts:
    as_float = np.asarray(counts, dtype=np.float64)
    if as_float.ndim != dimensions:
        raise UnusableInputError(f"{wanted}, and this is {as_float.shape}.")
    if axis is not None and as_float.shape[-1] != axis.size:
        raise UnusableInputError(f"these spectra have {as_float.shape[-1]} channels, and {axis} has {axis.size}.")
    return as_float
