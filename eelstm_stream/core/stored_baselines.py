"""Fitted baselines as a model file carries them, so that whoever has the model has the bars to hold it against."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eelstm_stream.core.baselines import DynamicModes, FittedBaselines, Holt, LinearTrendInComponents, RidgeInComponents
from eelstm_stream.core.vectors import Vector

MAX_COMPONENTS = 64
_ORTHONORMAL = 1e-3  # how far rounded components may be from it; farther, and projections are not what they are named

Share = Annotated[float, Field(ge=0, le=1)]


class StoredBaselines(BaseModel):
    """Arrays flattened in C order, float32: about 80 kB as base64 for six components of 1900 channels."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)

    mean: Vector = Field(description="(channel,) mean of the training frames, counts")
    components: Vector = Field(description="(component, channel), orthonormal")
    ridge_offset: Vector = Field(description="(window × component,) mean scores of the training windows")
    ridge_maps: Vector = Field(description="(horizon, window × component, component), horizons 1, 2, … to the longest")
    ridge_centres: Vector = Field(description="(horizon, component) mean scores of the targets")
    holt: tuple[Share, Share] = Field(description="constants of level and trend")
    delay_modes: Vector = Field(description="(window × component, rank) of the dynamic mode decomposition, orthonormal")
    delay_operator: Vector = Field(description="(rank, rank), of row vectors")

    def fitted(self, window: int, horizons: tuple[int, ...], channels: int) -> FittedBaselines:
        """The baselines, for a model of this window, these horizons and so many channels.

        Raises ValueError where an array has another size than they give it, or components that are not orthonormal.
        """
        if self.mean.size != channels:
            raise ValueError(f"mean has {self.mean.size} channels, the axis {channels}")
        count = self.components.size // channels
        if not 1 <= count <= MAX_COMPONENTS:
            raise ValueError(f"there are {count} components, and 1 to {MAX_COMPONENTS} can be")
        delays = window * count
        rank = self.delay_modes.size // delays
        components = _shaped("components", self.components, (count, channels))
        modes = _shaped("delay_modes", self.delay_modes, (delays, rank))
        for name, rows in (("components", components), ("delay_modes", modes.T)):
            if not len(rows) or np.abs(rows @ rows.T - np.eye(len(rows))).max() > _ORTHONORMAL:
                raise ValueError(f"{name} are not orthonormal")
        mean = self.mean.astype(np.float64)
        maps = _shaped("ridge_maps", self.ridge_maps, (max(horizons), delays, count))
        centres = _shaped("ridge_centres", self.ridge_centres, (max(horizons), count))
        trend = LinearTrendInComponents(mean, components)
        return FittedBaselines(
            window=window,
            trend=trend,
            ridge=RidgeInComponents(
                mean,
                components,
                _shaped("ridge_offset", self.ridge_offset, (delays,)),
                MappingProxyType({h: (maps[h - 1], centres[h - 1]) for h in range(1, max(horizons) + 1)}),
            ),
            holt=Holt(*self.holt),
            modes=DynamicModes(trend, modes, _shaped("delay_operator", self.delay_operator, (rank, rank))),
        )


def stored(baselines: FittedBaselines) -> StoredBaselines:
    """The same baselines, as they go into a file."""
    ridge = baselines.ridge
    maps = [ridge.maps[horizon] for horizon in sorted(ridge.maps)]
    return StoredBaselines(
        mean=_flat(ridge.mean),
        components=_flat(ridge.components),
        ridge_offset=_flat(ridge.offset),
        ridge_maps=_flat(np.stack([weights for weights, _ in maps])),
        ridge_centres=_flat(np.stack([centre for _, centre in maps])),
        holt=(baselines.holt.level_constant, baselines.holt.trend_constant),
        delay_modes=_flat(baselines.modes.delay_modes),
        delay_operator=_flat(baselines.modes.operator),
    )


def _flat(array: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(array, dtype=np.float32).ravel()


def _shaped(name: str, flat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if flat.size != np.prod(shape):
        raise ValueError(f"{name} has {flat.size} numbers, and {shape} are {np.prod(shape)}")
    return flat.reshape(shape).astype(np.float64)
