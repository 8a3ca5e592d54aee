"""One run of the simulated microscope, as a recording with its noise-free truth. Pure.

A run is named by its seed, which draws the specimen and the instrument from the preset's variation, the dose programme where
that varies, and all the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from acquisition_sim import programme
from acquisition_sim.beam import Order, refusal
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import DEFAULT_PRESET, PRESETS, Preset, load_preset
from acquisition_sim.programme import Step
from acquisition_sim.variation import NONE, require_possible, varied
from eelstm_stream.errors import UsageError
from eelstm_stream.io.recordings import Recording


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """A run, and what it was made with."""

    recording: Recording
    preset: Preset  # this run's own, as drawn
    steps: tuple[Step, ...]  # of its dose programme

    @property
    def final_phase(self) -> float:
        """True phase of the last frame."""
        return math.nan if self.recording.phase is None else float(self.recording.phase[-1])


def preset_for_runs(
    name: str = DEFAULT_PRESET,
    *,
    path: Path = PRESETS,
    dwell_s: float | None = None,
    current_pA: float | None = None,
    fixed: bool = False,
) -> Preset:
    """A preset from which runs are drawn: with another dwell or current where one is given, and alike all if `fixed`.

    Raises UsageError where there is no such preset, or where its limits, or those of the variation about it, are passed.
    """
    preset = load_preset(name, path)
    order = Order(
        current_pA=preset.beam.current_pA if current_pA is None else current_pA,
        dwell_s=preset.beam.dwell_s if dwell_s is None else dwell_s,
    )
    if refused := refusal(order, preset.beam):
        raise UsageError(refused.reason)
    beam = preset.beam.model_copy(update={"current_pA": order.current_pA, "dwell_s": order.dwell_s})
    preset = preset.model_copy(update={"beam": beam, "variation": NONE if fixed else preset.variation})
    try:
        require_possible(preset)
    except ValueError as error:
        raise UsageError(f"some runs would be impossible: {error}; choose another value, or --fixed.") from None
    return preset


def simulate_run(preset: Preset, frames: int, seed: int, *, changing_dose: bool = False) -> SimulatedRun:
    """The run of a seed, drawn from the preset's variation. frames ≥ 1; seed from 0 to 2⁶⁴ − 1, or ValueError is raised."""
    if frames < 1:
        raise ValueError(f"a run has at least one frame, and this one {frames}")
    own = varied(preset, seed)
    first = Step(0, own.beam.dwell_s, own.beam.current_pA)
    steps = programme.changing(preset.programme, frames, seed, first=first) if changing_dose else (first,)
    dwell_s, current_pA = programme.by_frame(steps, frames)
    return SimulatedRun(exposed(own, seed, dwell_s, current_pA), own, steps)


def exposed(preset: Preset, seed: int, dwell_s: ArrayLike, current_pA: ArrayLike) -> Recording:
    """Frames under these conditions, by exactly this preset. dwell_s, s: `(frame,)`; current_pA, pA: `(frame,)` or one for all."""
    microscope = Microscope(preset)
    _, taken = microscope.expose_many(microscope.start(seed), dwell_s, current_pA)
    dwells = np.array(dwell_s, dtype=np.float64)
    return Recording(
        counts=taken.counts,
        energy_axis=preset.energy_axis,
        dwell_s=dwells,
        beam_current_pA=np.broadcast_to(np.asarray(current_pA, dtype=np.float64), dwells.shape).copy(),
        beam_energy_keV=preset.beam.energy_keV,
        convergence_mrad=None,
        collection_mrad=None,
        specimen=f"{preset.specimen.name} (simulated)",
        name=f"simulated {preset.specimen.name}, seed {seed}",
        simulated=True,
        clean_counts=taken.clean_counts,
        phase=taken.phase,
    )
