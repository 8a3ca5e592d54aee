"""What happens to the counts of one spectrum before the graph: the same chain in training and in the service."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Alignment, Shift
from eelstm_stream.core.energy_axis import Rebinning, covers, cumulative_counts
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis

_ALIKE_CHANNELS = 0.01  # two axes closer than this, all along, are one axis written down with different rounding


@dataclass(frozen=True, slots=True)
class Prepared:
    """A spectrum as the model wants it."""

    counts: NDArray[np.float32]  # (channel,) on the model's axis, at the reference dose, aligned where it could be
    shift: Shift  # what was taken out
    compared: NDArray[
        np.float32
    ]  # (channel,) of the part that alignment searches, before dose and shift were taken out


class Preparation:
    """Normalise, resample to the model's axis, align to the model's reference.

    The shift is found on the part of the model's axis that the alignment compares, and then taken out in the one
    resampling of the whole spectrum: resampling what was already resampled would smooth twice.
    """

    def __init__(
        self, source_axis: EnergyAxis, model_axis: EnergyAxis, alignment: Alignment, *, origin: str = "the stream"
    ) -> None:
        """alignment: against a reference on `model_axis`. origin: what errors call the source of the spectra.

        Raises UnusableInputError where the source does not cover the model's axis.
        """
        if not covers(source_axis, model_axis):
            raise UnusableInputError(f"{origin} covers {source_axis}, and the model needs {model_axis}.")
        self._alignment = alignment
        self._to_search_axis = Rebinning(source_axis, alignment.search_axis)
        self._rebinning = Rebinning(source_axis, model_axis)

    @property
    def is_resampling(self) -> bool:
        """Whether the source's channels are not the model's: more than a crop."""
        source, target = self._rebinning.source, self._rebinning.target
        channels_apart = (target.offset_eV - source.offset_eV) / source.dispersion_eV
        same_width = abs(target.dispersion_eV / source.dispersion_eV - 1) * target.size < _ALIKE_CHANNELS
        return not (same_width and abs(channels_apart - round(channels_apart)) < _ALIKE_CHANNELS)

    @property
    def channels(self) -> int:
        """Channels of a prepared spectrum."""
        return self._rebinning.target.size

    @property
    def compared_channels(self) -> int:
        """Channels of the part that alignment searches."""
        return self._to_search_axis.target.size

    def __call__(
        self, counts: NDArray[np.generic], scale: float, compared_before: NDArray[np.floating] | None = None
    ) -> Prepared:
        """Prepare one spectrum.

        counts: `(channel,)` on the source axis, any real dtype. scale: factor to the reference dose (`dose.normalisation`).
        compared_before: `Prepared.compared` of frames before this one, summed, for one that is too short to be aligned alone.
        """
        cumulative = cumulative_counts(counts)
        compared = self._to_search_axis.from_cumulative(cumulative)
        shift = self._alignment.shift_of(compared if compared_before is None else compared + compared_before)
        prepared = self._rebinning.from_cumulative(cumulative, shift.shift_eV)
        return Prepared(prepared * np.float32(scale), shift, compared)
