"""X rays that hit the sensor, taken out: single channels that stand out in energy and in time.

Goals: a stream can do it, so only the spectrum before is known, not the one after; lines that stay are left alone, however
narrow; a spectrum without a spike comes out as it went in, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.preprocessing.step import Counts, as_run, kept_spectrum, training_frames
from eelstm_stream.errors import UnusableInputError, UsageError

NEIGHBOURS = 4  # of a channel, that it is judged by
THRESHOLD = 6.0  # standard deviations: by chance alone, one channel in some 10⁷ stands out so far
DEVIATIONS_PER_MEDIAN = 1.4826  # σ over the median of |x|, for a normal x of mean 0


@dataclass(frozen=True, slots=True)
class SpikeRemoval:
    """Gives a channel that stands out in energy and in time the median of it and its four neighbours.

    It stands out where its counts exceed both that median and its own counts in the spectrum before by `threshold`
    standard deviations of its noise.
    The first spectrum has none before it, and is judged by its neighbours alone. Two spiked channels side by side are found,
    three are not. Normalise dose before, or a longer dwell looks like spikes; align after, since part of a channel's shift
    spreads a spike over two.
    """

    # Of single channels: variance = variance_over_mean × counts. Counts that were normalised from a k times lower dose have
    # k times the factor, so where doses vary give that of the lowest.
    variance_over_mean: float
    threshold: float = THRESHOLD

    source_axis = None
    target_axis = None

    def __post_init__(self) -> None:
        """Raise UsageError for parameters that are not positive."""
        for name, number in (("noise factor", self.variance_over_mean), ("threshold", self.threshold)):
            if not (math.isfinite(number) and number > 0):
                raise UsageError(f"spikes: the {name} is {number:g}, and it must be above zero.")

    def start(self) -> Counts | None:
        """No spectrum before."""
        return None

    def step(self, state: Counts | None, spectrum: NDArray[Any]) -> tuple[Counts, Counts]:
        """One spectrum, `(channel,)`. The state is the spectrum before, spikes and all: what stays is not a spike."""
        counts = kept_spectrum(spectrum, state)
        return counts, self._cleaned(counts, state)

    def whole(self, run: NDArray[Any]) -> Counts:
        """A run, `(frame, channel)`."""
        counts = as_run(run)
        return np.concatenate([self._cleaned(counts[:1], None), self._cleaned(counts[1:], counts[:-1])])

    def _cleaned(self, counts: Counts, before: Counts | None) -> Counts:
        """`(…, channel)`, each with the spectrum before it if there is one."""
        expected = _median_of_five(counts)
        # A channel that expects less than one electron has the noise of one: an electron gives variance/mean counts.
        variance = self.variance_over_mean * np.maximum(expected, self.variance_over_mean)
        most = self.threshold * np.sqrt(variance)
        stands_out = counts - expected > most
        if before is not None:
            stands_out &= counts - before > most
        return np.asarray(np.where(stands_out, expected, counts))


def fit_spike_removal(runs: Iterable[NDArray[Any]], threshold: float = THRESHOLD) -> SpikeRemoval:
    """Spike removal with the noise of training runs, each `(frame, channel)` of three frames or more.

    The noise of single channels is measured on second differences of three consecutive frames, as in `core.noise`, but by
    medians, which the spikes themselves don't move. Raises UnusableInputError where there are too few frames, or no noise.
    """
    ratios = []
    for run in training_frames(runs):
        if len(run) < 3:
            raise UnusableInputError(f"{len(run)} frames are too few to measure noise on: 3 at least.")
        second = run[:-2] - 2 * run[1:-1] + run[2:]
        variance = (DEVIATIONS_PER_MEDIAN * np.median(np.abs(second), axis=0)) ** 2 / 6
        mean = np.median(run, axis=0)
        ratios.append(variance[mean > 0] / mean[mean > 0])
    every = np.concatenate(ratios)
    ratio = float(np.median(every)) if every.size else 0.0
    if not ratio > 0:
        raise UnusableInputError(
            "the training runs show no noise, so a spike can't be told: give real or noisy counts."
        )
    return SpikeRemoval(ratio, threshold)


def _median_of_five(counts: Counts) -> Counts:
    """Median of each channel and its two neighbours on either side, `(…, channel)`; at the ends, of the five outermost."""
    size = counts.shape[-1]
    if size < NEIGHBOURS + 1:
        raise UnusableInputError(f"spikes are told by their neighbours, and there are {size} channels only.")
    a, b, c, d, e = (counts[..., first : first + size - NEIGHBOURS] for first in range(NEIGHBOURS + 1))
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))  # the lowest and the highest of four are gone,
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    middle = np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), e))  # so: the median of the three left
    return np.concatenate([middle[..., :1]] * 2 + [middle] + [middle[..., -1:]] * 2, axis=-1)
