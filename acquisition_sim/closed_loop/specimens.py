"""Specimens to fly: repeats of one experiment, each known exactly. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acquisition_sim.presets import Preset, load_preset
from acquisition_sim.variation import varied

PRESET = "srtio3-300kV"  # without healing and without a dose-rate effect, so the phase follows from the dose alone
FIRST_SEED = 50_000  # far from the runs that the shipped model was trained and tested on, all below 10 000
SEEDS_KEPT = 20_000  # for each `--seed` of the benchmark: the first half is reported, the second is tuned on
MOST_SPECIMENS = SEEDS_KEPT // 2


@dataclass(frozen=True, slots=True)
class Specimen:
    """One specimen under its own microscope, drawn by its seed, which also draws all noise."""

    seed: int
    preset: Preset

    @property
    def dwell_s(self) -> float:
        """The session's own: what it begins with."""
        return self.preset.beam.dwell_s

    @property
    def current_pA(self) -> float:
        """The session's own."""
        return self.preset.beam.current_pA

    @property
    def frame_dose_pC(self) -> float:
        """Of a frame at the session's own dwell and current."""
        return self.dwell_s * self.current_pA

    def phase_at(self, dose_pC: ArrayLike) -> NDArray[np.float64]:
        """True phase after a dose, of the shape of dose_pC; see `specimen.jmak_phase`."""
        kinetics = self.preset.specimen.kinetics
        share = np.asarray(dose_pC, dtype=np.float64) / kinetics.critical_dose_pC
        return np.asarray(-np.expm1(-(share**kinetics.jmak_exponent)))

    def dose_at(self, phase: float) -> float:
        """Dose at which the phase, in [0, 1), is reached, pC."""
        kinetics = self.preset.specimen.kinetics
        return float(kinetics.critical_dose_pC * (-math.log1p(-phase)) ** (1 / kinetics.jmak_exponent))


def nominal_specimen() -> Specimen:
    """The one that the preset describes, from which the others vary."""
    return Specimen(FIRST_SEED, load_preset(PRESET))


def reported_specimens(count: int, seed: int) -> list[Specimen]:
    """Those that a benchmark's figures are of. seed: the benchmark's."""
    return _specimens(FIRST_SEED + seed * SEEDS_KEPT, count)


def tuning_specimens(count: int, seed: int) -> list[Specimen]:
    """Others, on which each strategy is tuned beforehand."""
    return _specimens(FIRST_SEED + seed * SEEDS_KEPT + MOST_SPECIMENS, count)


def _specimens(first_seed: int, count: int) -> list[Specimen]:
    preset = load_preset(PRESET)
    return [Specimen(seed, varied(preset, seed)) for seed in range(first_seed, first_seed + count)]
