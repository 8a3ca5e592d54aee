"""What a kind of model is made of, before it has seen any data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eelstm_stream.wire.messages import EnergyAxis

MODEL_AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)
TRAJECTORY = tuple(range(1, 9))
# Both white lines of Ti L whole, and 8 eV before them. The paper's range ends between them: on five simulated triples, what the
# alignment itself then leaves makes the same forecast's error against the noise-free truth 43 counts, and 37 with this one.
WHITE_LINES_eV = (448.0, 475.0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A family, and the numbers that it is made with. Defaults: the paper's (Table II, and its section on preprocessing).

    Every family has an axis, an alignment, a window and horizons. Which of the other numbers it uses, `USED` says.
    Source: Lewis et al., Forecasting of In Situ Electron Energy Loss Spectroscopy (2022).
    """

    family: str = "paper"
    energy_axis: EnergyAxis = MODEL_AXIS
    alignment_range_eV: tuple[float, float] = (
        439.0,
        464.0,
    )  # channels 150 to 400 of its camera: what precedes Ti L3, and L3
    alignment_max_shift_eV: float = 3.0
    window: int = 8
    # The paper aims at the eighth spectrum, and by an index one off predicts the ninth. Here horizon 8 is the eighth.
    horizons: tuple[int, ...] = (8,)
    components: int = 6  # principal components that a forecast in components lies in
    layers: int = 3  # recurrent ones, each followed by dropout
    units: int = 256  # of each layer
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


_OF_NETWORKS = ("layers", "units", "dropout", "learning_rate", "batch", "weight_average")

# Numbers that every family uses, and that a model may be made with others of.
COMMON = ("window", "horizons")

# Family to the numbers that it uses beside those that every family does.
USED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "paper": _OF_NETWORKS,
        "gru": _OF_NETWORKS,
        "linear": ("components",),
        "corrected": ("components", *_OF_NETWORKS),
    }
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "paper": Recipe(),
        "gru": Recipe(family="gru"),
        "linear": Recipe(family="linear", alignment_range_eV=WHITE_LINES_eV, horizons=TRAJECTORY),
        "corrected": Recipe(
            family="corrected",
            alignment_range_eV=WHITE_LINES_eV,
            horizons=TRAJECTORY,
            components=8,
            layers=1,
            units=32,
            dropout=0.3,
            learning_rate=1e-3,
            batch=128,
        ),
    }
)
