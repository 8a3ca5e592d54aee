"""Material that trains in seconds: few frames, few channels, few units."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.material import Material, gather
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.wire.messages import EnergyAxis
from tests.simulated_runs import simulated

FEW_CHANNELS = EnergyAxis(offset_eV=430.0, dispersion_eV=1.0, size=120)
FRAMES = 40


def tiny_recipe(family: str = "paper", **changes: Any) -> Recipe:
    """A family at 120 channels and a few units."""
    numbers: dict[str, Any] = {"energy_axis": FEW_CHANNELS, "alignment_range_eV": (445.0, 475.0), "batch": 64}
    if family != "linear":
        numbers |= {"layers": 1, "units": 5}
    return replace(RECIPES[family], **(numbers | changes))


@cache
def tiny_recordings() -> tuple[Recording, ...]:
    """Four runs, transformed within their 40 frames: three to train on, of which the last is validated on, and one to test."""
    return tuple(replace(simulated(FRAMES, seed, critical_dose_pC=1_500), name=f"run-{seed}.hspy") for seed in range(4))


def tiny_material(recipe: Recipe) -> Material:
    """Those runs, prepared."""
    *runs, test = tiny_recordings()
    return gather(runs, [test], recipe, resample=True)
