"""The part of the spectrum between two energies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range, covers
from eelstm_stream.core.preprocessing.step import Counts, Stateless
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis


@dataclass(frozen=True, slots=True)
class Crop(Stateless):
    """Channels whose centres lie from low_eV up to, but not at, high_eV: 435 to 625 eV at 0.1 eV are 1900 channels."""

    axis: EnergyAxis
    low_eV: float
    high_eV: float
    channels: slice = field(init=False)

    def __post_init__(self) -> None:
        """Raise UsageError for an empty range, and UnusableInputError for one that the axis does not cover."""
        if not self.low_eV < self.high_eV:
            raise UsageError(f"a crop from {self.low_eV:g} to {self.high_eV:g} eV is empty: give the low end first.")
        dispersion_eV = self.axis.dispersion_eV
        size = max(1, round((self.high_eV - self.low_eV) / dispersion_eV))
        wanted = EnergyAxis(offset_eV=self.low_eV, dispersion_eV=dispersion_eV, size=size)
        if not covers(self.axis, wanted):
            raise UnusableInputError(f"the crop from {self.low_eV:g} to {self.high_eV:g} eV is not inside {self.axis}.")
        inside = channel_range(self.axis, self.low_eV, self.high_eV - 2e-3 * dispersion_eV)
        if inside.stop <= inside.start:
            raise UsageError(f"a crop from {self.low_eV:g} to {self.high_eV:g} eV holds no channel of {self.axis}.")
        object.__setattr__(self, "channels", inside)

    @property
    def source_axis(self) -> EnergyAxis:
        """The one given."""
        return self.axis

    @property
    def target_axis(self) -> EnergyAxis:
        """What is left of it."""
        return EnergyAxis(
            offset_eV=self.axis.offset_eV + self.channels.start * self.axis.dispersion_eV,
            dispersion_eV=self.axis.dispersion_eV,
            size=self.channels.stop - self.channels.start,
        )

    def of(self, counts: NDArray[Any]) -> Counts:
        """`(…, channel)`, the channels inside."""
        return np.asarray(counts, dtype=np.float64)[..., self.channels]
