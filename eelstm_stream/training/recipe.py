"""What a kind of model is made of, before it has seen any data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eelstm_stream.wire.messages import EnergyAxis

MODEL_AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Network and preprocessing. Defaults: the paper's (Table II for the network, its section on preprocessing).

    Source: Lewis et al., Forecasting of In Situ Electron Energy Loss Spectroscopy (2022).
    """

    energy_axis: EnergyAxis = MODEL_AXIS
    alignment_range_eV: tuple[float, float] = (
        439.0,
        464.0,
    )  # channels 150 to 400 of its camera: what precedes Ti L3, and L3
    alignment_max_shift_eV: float = 3.0
    window: int = 8
    # The paper aims at the eighth spectrum, and by an index one off predicts the ninth. Here horizon 8 is the eighth.
    horizons: tuple[int, ...] = (8,)
    lstm_layers: int = 3
    lstm_units: int = 256
    dropout: float = 0.2
    learning_rate: float = 1e-4
    batch: int = 40
    # Not the paper's: the weights that are validated and kept are a running average over the last 1 / (1 − this) steps.
    # From epoch to epoch the weights themselves jump by 5 % in validation error, so the best of them is the luckiest.
    # 0 keeps them as they are.
    weight_average: float = 0.99

    @property
    def frames_needed(self) -> int:
        """Frames of the shortest run that holds one window and what it forecasts."""
        return self.window + max(self.horizons)


RECIPES: Mapping[str, Recipe] = MappingProxyType({"paper": Recipe()})
