"""A simulated specimen under a programme of dwell and current, frame by frame, with what each frame would show without noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.bench.settings import NOMINAL_CURRENT_PA, Setting
from acquisition_sim.microscope import Microscope, MicroscopeState
from acquisition_sim.presets import Preset

BLOCK = 32  # frames exposed at once
FINEST = (
    0.5  # reference dose: of longer frames the truth is wanted in parts, since the specimen changes while they last
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a flight."""

    dwell_s: float
    current_pA: float
    dose_before_pC: float
    counts: NDArray[np.float32]  # (channel,)
    clean_parts: tuple[
        NDArray[np.float32], ...
    ]  # (channel,) each: expected counts of equal parts of the frame, in order


def fly(preset: Preset, seed: int, setting: Setting, doses: float, reference_dose_pC: float) -> Iterator[Frame]:
    """The frames of one specimen until it has received so many reference doses. The preset is the run's own."""
    microscope = Microscope(preset)
    state = microscope.start(seed)
    own = preset.beam.current_pA / NOMINAL_CURRENT_PA
    until_pC = received_pC = 0.0
    for part in setting.of_run(seed):
        current_pA = part.current_pA * own
        last = received_pC >= doses * reference_dose_pC
        until_pC = min(received_pC + (part.doses or doses) * reference_dose_pC, doses * reference_dose_pC)
        while received_pC < until_pC - 1e-9:
            wanted = math.ceil((until_pC - received_pC) / (part.dwell_s * current_pA) - 1e-9)
            for frame in _exposed(microscope, state, part.dwell_s, current_pA, min(BLOCK, wanted), reference_dose_pC):
                state = frame[0]
                yield replace(frame[1], dose_before_pC=received_pC)
                received_pC += part.dwell_s * current_pA
        if last or received_pC >= doses * reference_dose_pC - 1e-9:
            return


def _exposed(
    microscope: Microscope, state: MicroscopeState, dwell_s: float, current_pA: float, frames: int, dose_pC: float
) -> Iterator[tuple[MicroscopeState, Frame]]:
    """Frames at one setting, each with the state after it."""
    parts = max(1, math.ceil(dwell_s * current_pA / dose_pC / FINEST))
    if parts == 1:
        after, taken = microscope.expose_many(state, [dwell_s] * frames, current_pA)
        for frame in range(frames):
            yield after, Frame(dwell_s, current_pA, 0.0, taken.counts[frame], (taken.clean_counts[frame],))
        return
    for _ in range(frames):
        before = part = state
        clean = []
        for _ in range(parts):
            # A frame's own number and axis with a part's dose: its random numbers, so also its shift, are the frame's.
            part = replace(part, frame=before.frame, high_tension=before.high_tension)
            part, exposure = microscope.expose(part, dwell_s / parts, current_pA)
            clean.append(exposure.clean_counts)
        state, exposure = microscope.expose(before, dwell_s, current_pA)
        yield state, Frame(dwell_s, current_pA, 0.0, exposure.counts, tuple(clean))
