"""What an instrument exposes: a simulated specimen here, a recording in `responsive.py`. Pure but for its memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from acquisition_sim import specimen
from acquisition_sim.microscope import Exposures, Microscope
from eelstm_stream.io.recordings import Recording
from eelstm_stream.io.truth import Truth

MOST_KEPT = 20_000  # frames whose truth is kept: 330 MB at 2048 channels
PHASES_TOLD = tuple(n / 1000 for n in range(1000))  # of `outcome`: so close that what lies between is a straight line


class UnderTheBeam(Protocol):
    """What a session exposes, in the order of time."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of these spectra; more may come."""

    def expose(self, dwell_s: Sequence[float], current_pA: Sequence[float]) -> NDArray[np.float32]:
        """Take consecutive frames. dwell_s, current_pA: `(frame,)`. Returns `(frame, channel)` counts."""

    def pass_over(self, duration_s: float, current_pA: float) -> None:
        """Let time pass without a frame; current_pA: that the specimen receives meanwhile, 0 for none."""


class SimulatedSpecimen:
    """A fresh specimen in a simulated microscope."""

    notes: tuple[str, ...] = ()

    def __init__(self, microscope: Microscope, seed: int, *, keep_truth: bool = False) -> None:
        self._microscope = microscope
        self._state = microscope.start(seed)
        self._kept: list[tuple[Exposures, Sequence[float], Sequence[float]]] | None = [] if keep_truth else None
        self._kept_frames = 0

    def expose(self, dwell_s: Sequence[float], current_pA: Sequence[float]) -> NDArray[np.float32]:
        """Take consecutive frames, as `UnderTheBeam` has it."""
        keeps = self._kept is not None and self._kept_frames < MOST_KEPT
        self._state, exposures = self._microscope.expose_many(self._state, dwell_s, current_pA, clean=keeps)
        if self._kept is not None and keeps:
            self._kept.append((exposures, tuple(dwell_s), tuple(current_pA)))
            self._kept_frames += len(exposures)
        return exposures.counts

    def pass_over(self, duration_s: float, current_pA: float) -> None:
        """Let time pass, as `UnderTheBeam` has it."""
        if duration_s > 0:
            self._state, _ = self._microscope.expose(self._state, duration_s, current_pA, blanked=current_pA == 0)

    def outcome(self) -> Truth:
        """What has become of the specimen so far, and the dose that takes it to each phase."""
        state, kinetics = self._state.specimen, self._microscope.preset.specimen.kinetics
        phases = (
            PHASES_TOLD if specimen.follows_from_dose(kinetics) and math.isfinite(kinetics.critical_dose_pC) else ()
        )
        return Truth(
            phase=specimen.phase(state, kinetics),
            dose_pC=state.dose_pC,
            phases=np.array(phases),
            at_dose_pC=np.array(
                [specimen.jmak_dose(x, kinetics.critical_dose_pC, kinetics.jmak_exponent) for x in phases]
            ),
        )

    def truth(self, name: str) -> Recording | None:
        """The frames taken so far with what the wire doesn't tell: noise-free counts and phase. None before the first."""
        if not self._kept:
            return None
        preset = self._microscope.preset
        exposures = [kept for kept, _, _ in self._kept]
        return Recording(
            counts=np.concatenate([kept.counts for kept in exposures]),
            energy_axis=preset.energy_axis,
            dwell_s=np.concatenate([np.asarray(dwell_s) for _, dwell_s, _ in self._kept]),
            beam_current_pA=np.concatenate([np.asarray(current_pA) for _, _, current_pA in self._kept]),
            beam_energy_keV=preset.beam.energy_keV,
            convergence_mrad=None,
            collection_mrad=None,
            specimen=f"{preset.specimen.name} (simulated)",
            name=name,
            simulated=True,
            clean_counts=np.concatenate([kept.clean_counts for kept in exposures]),
            phase=np.concatenate([kept.phase for kept in exposures]),
        )
