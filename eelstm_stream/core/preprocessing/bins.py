"""Means over a few consecutive frames: less noise, less resolution in time.

A bin's counts are the mean of its frames, so they stay counts of one frame; its noise is that of a frame over √n. Where sums are
wanted, they are n times as large, and so are errors in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.preprocessing.step import Counts, as_run, kept_spectrum
from eelstm_stream.errors import UnusableInputError, UsageError

Waiting = tuple[Counts, ...]  # spectra that the next bin is made with, oldest first


@dataclass(frozen=True, slots=True)
class ExclusiveBins:
    """Mean of every n frames, each frame in one bin: a step of time is n frames long.

    Frames at the end that fill no bin are left out: a stream can't know that it has ended, either.
    """

    frames: int

    source_axis = None
    target_axis = None

    def __post_init__(self) -> None:
        """Raise UsageError for bins of less than a frame."""
        _check(self.frames)

    def start(self) -> Waiting:
        """An empty bin."""
        return ()

    def step(self, state: Waiting, spectrum: NDArray[Any]) -> tuple[Waiting, Counts | None]:
        """One spectrum, `(channel,)`; None until the bin is full."""
        state = (*state, kept_spectrum(spectrum, state[-1] if state else None))
        return ((), _mean(state)) if len(state) == self.frames else (state, None)

    def whole(self, run: NDArray[Any]) -> Counts:
        """`(frame, channel)` to `(frame // n, channel)`. Raises UnusableInputError where that is nothing."""
        counts = as_run(run)
        _check_length(counts, self.frames)
        full = len(counts) // self.frames * self.frames
        return _mean(tuple(counts[first : full : self.frames] for first in range(self.frames)))


@dataclass(frozen=True, slots=True)
class RollingBins:
    """Mean of the newest n frames, at every frame from the nth on.

    Consecutive bins share n − 1 frames, and so their noise. Two things follow. A forecast fewer than n steps ahead aims at
    counts of which the window has seen a part. And noise that is measured from bin to bin comes out too low: measure it
    on every nth bin.
    """

    frames: int

    source_axis = None
    target_axis = None

    def __post_init__(self) -> None:
        """Raise UsageError for bins of less than a frame."""
        _check(self.frames)

    def start(self) -> Waiting:
        """No frames yet."""
        return ()

    def step(self, state: Waiting, spectrum: NDArray[Any]) -> tuple[Waiting, Counts | None]:
        """One spectrum, `(channel,)`; None for the first n − 1."""
        newest = (*state, kept_spectrum(spectrum, state[-1] if state else None))
        if len(newest) < self.frames:
            return newest, None
        return newest[1:], _mean(newest)

    def whole(self, run: NDArray[Any]) -> Counts:
        """`(frame, channel)` to `(frame − n + 1, channel)`. Raises UnusableInputError where that is nothing."""
        counts = as_run(run)
        _check_length(counts, self.frames)
        bins = len(counts) - self.frames + 1
        return _mean(tuple(counts[first : first + bins] for first in range(self.frames)))


def _mean(frames: Waiting) -> Counts:
    """Mean of arrays of one shape, oldest first: in the same order, hence to the same last bit, for a bin and for a run."""
    total = np.array(frames[0])
    for frame in frames[1:]:
        total += frame
    return np.asarray(total / len(frames))


def _check(frames: int) -> None:
    if not isinstance(frames, int) or frames < 1:
        raise UsageError(f"a bin of {frames} frames can't be: give a whole number, 1 at least.")


def _check_length(counts: Counts, frames: int) -> None:
    if len(counts) < frames:
        raise UnusableInputError(f"{len(counts)} frames are too few for a bin of {frames}.")
