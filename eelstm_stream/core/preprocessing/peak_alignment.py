"""Energy drift taken out of each spectrum: its features laid over those of a reference spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Alignment, Shift
from eelstm_stream.core.preprocessing.step import Counts, Stateless, as_spectrum, training_frames
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis

FIRST_FRAMES = 8  # of a training run, which the reference is the mean of: still pristine, and little noise


@dataclass(frozen=True, slots=True, eq=False)
class PeakAlignment(Stateless):
    """Finds each spectrum's shift by cross-correlation (`core.alignment`) and takes it out.

    A spectrum in which the reference's features are not found stands as it came. Counts between channels are interpolated
    linearly, which keeps their sum, and evens out some noise where a shift is not a whole number of channels. Beyond an
    end of the axis its outermost channel goes on: so align first, and crop to what is left.
    """

    reference: Counts  # (channel,) counts on `axis`
    axis: EnergyAxis
    range_eV: tuple[float, float]  # what is compared: hold whole lines, since a line cut in two pulls towards no shift
    max_shift_eV: float
    alignment: Alignment = field(init=False)

    def __post_init__(self) -> None:
        """Raise UsageError for a range without room, and UnusableInputError for a reference that is flat there."""
        reference = as_spectrum(self.reference, self.axis)
        object.__setattr__(self, "reference", reference)
        try:
            alignment = Alignment(reference, self.axis, self.range_eV, self.max_shift_eV)
        except ValueError as error:
            raise UsageError(f"{error}.") from None
        if not np.ptp(reference[alignment.channels]) > 0:
            low_eV, high_eV = self.range_eV
            raise UnusableInputError(
                f"the reference has the same counts all along {low_eV:g} to {high_eV:g} eV: there is nothing to align on."
            )
        object.__setattr__(self, "alignment", alignment)

    @property
    def source_axis(self) -> EnergyAxis:
        """The reference's."""
        return self.axis

    def shift_of(self, spectrum: NDArray[Any]) -> Shift:
        """How much higher the features of a spectrum, `(channel,)`, lie than the reference's."""
        return self.alignment.shift_of(as_spectrum(spectrum, self.axis)[self.alignment.channels])

    def of(self, counts: NDArray[Any]) -> Counts:
        """`(…, channel)` counts, each spectrum shifted by what was found on it."""
        as_float = np.asarray(counts, dtype=np.float64)
        if as_float.ndim == 1:
            return shifted(as_float, -self.shift_of(as_float).shift_eV / self.axis.dispersion_eV)
        return np.stack([self.of(spectrum) for spectrum in as_float]) if len(as_float) else as_float


def shifted(counts: NDArray[Any], by_channels: float) -> Counts:
    """A spectrum, `(channel,)`, moved up by a number of channels that need not be whole; linear between channels."""
    below = math.floor(-by_channels)
    part = -by_channels - below
    channels = np.arange(below, below + len(counts))
    lower = counts.take(channels, mode="clip")
    return np.asarray(lower if part == 0 else lower * (1 - part) + counts.take(channels + 1, mode="clip") * part)


def fit_alignment(
    runs: Iterable[NDArray[Any]],
    axis: EnergyAxis,
    range_eV: tuple[float, float],
    max_shift_eV: float,
    first_frames: int = FIRST_FRAMES,
) -> PeakAlignment:
    """Alignment to the mean of the first frames of training runs, each `(frame, channel)` counts on `axis` at one dose.

    Each run's mean is laid over the first run's before they are averaged, lest their calibrations blur the lines.
    Raises UsageError or UnusableInputError as `PeakAlignment` and `training_frames` do, and where one run's first frames
    are not to be laid over the first run's.
    """
    firsts = [run[:first_frames].mean(axis=0) for run in training_frames(runs, axis)]
    onto_first = PeakAlignment(firsts[0], axis, range_eV, max_shift_eV)
    for number, first in enumerate(firsts[1:], start=1):
        found = onto_first.shift_of(first)
        if not found.trusted:
            raise UnusableInputError(
                f"training run {number} can't be laid over run 0 between {range_eV[0]:g} and {range_eV[1]:g} eV: "
                f"their correlation is {found.correlation:.2f}."
            )
    return PeakAlignment(np.mean([onto_first.of(first) for first in firsts], axis=0), axis, range_eV, max_shift_eV)
