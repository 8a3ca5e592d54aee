"""Min-max scaling: training counts to the range from 0 to 1, over all channels at once or for each channel.

The limits come from training runs by `fit_global_scaling` or `fit_per_channel_scaling`; counts of other runs may go beyond 0 and 1.
Over all channels, the noise keeps its weight in every channel. For each channel, a channel that hardly changes weighs as
much as a white line, and most of what it shows is noise. The paper's scaler was one for each channel (scikit-learn's
`MinMaxScaler`); the model files of this project scale over all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.preprocessing.step import Counts, Stateless, training_frames
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis

NAMED = 5  # dead channels that an error lists


@dataclass(frozen=True, slots=True, eq=False)
class MinMaxScaling(Stateless):
    """(counts − low) / (high − low)."""

    low: float | Counts  # counts; or (channel,)
    high: float | Counts  # counts; or (channel,)
    axis: EnergyAxis | None = None  # of limits that differ by channel

    @property
    def source_axis(self) -> EnergyAxis | None:
        """Any, where the limits are the same for all channels."""
        return self.axis

    def of(self, counts: NDArray[Any]) -> Counts:
        """`(…, channel)` counts, scaled."""
        return np.asarray((np.asarray(counts, dtype=np.float64) - self.low) / (self.high - self.low))

    def inverse(self, scaled: NDArray[Any]) -> Counts:
        """`(…, channel)` back to counts: spectra, windows or forecasts."""
        return np.asarray(np.asarray(scaled, dtype=np.float64) * (self.high - self.low) + self.low)


def fit_global_scaling(runs: Iterable[NDArray[Any]]) -> MinMaxScaling:
    """Limits over all channels and frames of training runs, each `(frame, channel)`.

    Raises UnusableInputError where all frames are the same.
    """
    low, high = _limits(training_frames(runs))
    return MinMaxScaling(float(low.min()), float(high.max()))


def fit_per_channel_scaling(runs: Iterable[NDArray[Any]], axis: EnergyAxis) -> MinMaxScaling:
    """Limits of each channel over all frames of training runs, each `(frame, channel)` on `axis`.

    Raises UnusableInputError where all frames are the same, or a channel is: it is dead, and named by its energy.
    """
    low, high = _limits(training_frames(runs, axis))
    dead = energies_eV(axis)[high == low]
    if dead.size:
        named = ", ".join(f"{energy:.6g}" for energy in dead[:NAMED]) + (", …" if dead.size > NAMED else "")
        raise UnusableInputError(
            f"{dead.size} of {axis.size} channels never change in the training runs, at {named} eV: "
            "crop them off, or scale over all channels."
        )
    return MinMaxScaling(low, high, axis)


def _limits(runs: list[Counts]) -> tuple[Counts, Counts]:
    """Lowest and highest counts of each channel, `(channel,)`."""
    low = np.min([run.min(axis=0) for run in runs], axis=0)
    high = np.max([run.max(axis=0) for run in runs], axis=0)
    if (low == high).all():
        frames = sum(map(len, runs))
        raise UnusableInputError(f"all {frames} training frames are the same: there is no range to scale.")
    return low, high
