"""Runs of the simulated microscope, as tests want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acquisition_sim.high_tension import HighTensionParameters
from acquisition_sim.presets import Preset, load_preset
from acquisition_sim.simulated_run import exposed
from acquisition_sim.variation import varied
from eelstm_stream.io.recordings import Recording

USUAL = load_preset("srtio3-300kV")
CAMERA_AXIS = USUAL.energy_axis
DWELL_S, CURRENT_pA = 0.4, 230.0


def simulated(
    frames: int,
    seed: int = 0,
    *,
    critical_dose_pC: float | None = None,
    current_pA: float | Sequence[float] = CURRENT_pA,
    steady_axis: bool = False,
    fixed: bool = False,
) -> Recording:
    """A run of the usual preset on a grain of its own, at 0.4 s and the current given.

    critical_dose_pC: for runs that are transformed within fewer than the usual 160 frames. steady_axis: calibrated, without
    drift and jitter. fixed: specimen and camera just as the preset says.
    """
    preset: Preset = USUAL
    if critical_dose_pC is not None:
        kinetics = preset.specimen.kinetics.model_copy(update={"critical_dose_pC": critical_dose_pC})
        preset = preset.model_copy(update={"specimen": preset.specimen.model_copy(update={"kinetics": kinetics})})
    if not fixed:
        preset = varied(preset, seed)
    if steady_axis:
        preset = preset.model_copy(update={"high_tension": HighTensionParameters()})
    return exposed(preset, seed, np.full(frames, DWELL_S), np.asarray(current_pA))
