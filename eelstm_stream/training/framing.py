"""What decides how a run is prepared and cut into windows: a recipe says it, and so does a model's metadata."""

from __future__ import annotations

from typing import Protocol

from eelstm_stream.wire.messages import EnergyAxis


class Framed(Protocol):
    """Axis, alignment, window and horizons; what each is stands in `Recipe`."""

    @property
    def energy_axis(self) -> EnergyAxis:
        """Of the model."""

    @property
    def alignment_range_eV(self) -> tuple[float, float]:
        """What is compared with the reference."""

    @property
    def alignment_max_shift_eV(self) -> float:
        """The largest that is looked for."""

    @property
    def window(self) -> int:
        """Number of spectra."""

    @property
    def horizons(self) -> tuple[int, ...]:
        """Steps ahead, rising; 1 is the next spectrum."""
