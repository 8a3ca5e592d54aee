"""Energies of an axis, and counts carried from one axis to another with their sum kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.wire.messages import EnergyAxis

_BEYOND = 1e4  # source channels that the outermost one is taken to go on for: more than any shift


def energies_eV(axis: EnergyAxis) -> NDArray[np.float64]:
    """Energy loss at the centre of each channel: `(channel,)` float64, eV."""
    return axis.offset_eV + axis.dispersion_eV * np.arange(axis.size, dtype=np.float64)


def edges_eV(axis: EnergyAxis) -> NDArray[np.float64]:
    """Boundaries of the channels: `(channel + 1,)` float64, eV."""
    return axis.first_eV + axis.dispersion_eV * np.arange(axis.size + 1, dtype=np.float64)


def covers(outer: EnergyAxis, inner: EnergyAxis) -> bool:
    """Whether every channel centre of `inner` lies inside `outer`, to a thousandth of a channel.

    Half a channel may stick out at either end: axes are quoted by centres, and 435 to 625 eV is meant to cover 435 to 625 eV.
    """
    tolerance_eV = inner.dispersion_eV * 1e-3
    last_inner_eV = inner.last_eV - inner.dispersion_eV / 2
    return outer.first_eV <= inner.offset_eV + tolerance_eV and outer.last_eV >= last_inner_eV - tolerance_eV


def channel_range(axis: EnergyAxis, low_eV: float, high_eV: float) -> slice:
    """Channels whose centres lie in [low_eV, high_eV], cut to the axis."""
    first = np.ceil((low_eV - axis.offset_eV) / axis.dispersion_eV - 1e-6)
    stop = np.floor((high_eV - axis.offset_eV) / axis.dispersion_eV + 1e-6) + 1
    return slice(int(min(max(first, 0), axis.size)), int(min(max(stop, 0), axis.size)))


def cumulative_counts(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Counts up to each channel boundary, `(channel + 3,)` float64, with the outermost channels going on at both ends.

    counts: `(channel,)`, any real dtype.
    """
    cumulative = np.empty(counts.size + 3, dtype=np.float64)
    cumulative[1] = 0.0
    np.cumsum(counts, dtype=np.float64, out=cumulative[2:-1])
    cumulative[0] = -_BEYOND * float(counts[0])
    cumulative[-1] = cumulative[-2] + _BEYOND * float(counts[-1])
    return cumulative


class Rebinning:
    """Carries counts from one axis to another, conserving them.

    Counts are taken as spread evenly over their channel, so a target channel gets the share of each source channel that it
    overlaps: its counts are the difference of the cumulative counts at its two edges. Over a range that both axes cover,
    sums agree to rounding. Beyond the source its outermost channel goes on, which is needed only for the half channel that
    `covers` allows and for the shift asked for.
    """

    def __init__(self, source: EnergyAxis, target: EnergyAxis) -> None:
        self.source = source
        self.target = target
        self.is_identity = source == target
        # In units of source channels, so that the cumulative sum is indexed directly.
        self._edges = (edges_eV(target) - source.first_eV) / source.dispersion_eV
        self._source_edges = np.concatenate([[-_BEYOND], np.arange(source.size + 1.0), [source.size + _BEYOND]])

    def __call__(self, counts: NDArray[np.floating], shift_eV: float = 0.0) -> NDArray[np.float32]:
        """Counts on the target axis, read `shift_eV` higher up on the source axis.

        counts: `(channel,)` on the source axis. Returns `(channel,)` float32 on the target axis.
        A feature at E on the source axis lands at E − shift_eV.
        """
        if self.is_identity and shift_eV == 0.0:
            return np.asarray(counts, dtype=np.float32)
        return self.from_cumulative(cumulative_counts(counts), shift_eV)

    def from_cumulative(self, cumulative: NDArray[np.float64], shift_eV: float = 0.0) -> NDArray[np.float32]:
        """The same from `cumulative_counts`, for when one spectrum goes to several axes."""
        edges = self._edges + shift_eV / self.source.dispersion_eV
        at_edges = np.interp(edges, self._source_edges, cumulative)
        return (at_edges[1:] - at_edges[:-1]).astype(np.float32)
