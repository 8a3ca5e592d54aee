"""Runs of the simulated microscope for tests of what is done to counts: the paper's camera, dwell and current."""

from __future__ import annotations

from typing import Any

import numpy as np

from acquisition_sim.microscope import Exposures, Microscope
from acquisition_sim.presets import load_preset

DWELL_S, CURRENT_PA = 0.4, 230.0
AXIS = load_preset("srtio3-300kV").energy_axis


def exposures(frames: int, seed: int, preset: str = "srtio3-300kV", **high_tension: Any) -> Exposures:
    """Consecutive frames; high_tension: what is to differ from the preset's."""
    loaded = load_preset(preset)
    tension = loaded.high_tension.model_copy(update=high_tension)
    microscope = Microscope(loaded.model_copy(update={"high_tension": tension}))
    return microscope.expose_many(microscope.start(seed), np.full(frames, DWELL_S), CURRENT_PA)[1]
