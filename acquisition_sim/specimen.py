"""SrTiO3 under the beam: how far dose has changed it, and the spectrum that it then gives. Pure, and without noise.

The change is one number, the phase x: 0 for the pristine crystal, 1 for the amorphous and reduced oxide. Every line and every
step of the spectrum has a place, a width and a height at x = 0 and at x = 1, and moves from the one to the other in
proportion to x. So the crystal-field pairs of Ti L2,3 close up and shift down together, where a mixture of two fixed spectra
would only exchange them. A mixture is a straight line in the space of spectra, which one principal component describes and
any linear forecast extrapolates; which of the two SrTiO3 does, no series that we have can tell, so the harder one is simulated.

Of the edges of SrTiO3 only Ti L2,3 and O K are drawn. Sr M4,5 (133 eV), M3 (269 eV), M2 (280 eV) and M1 (358 eV) begin
below the axes in use, and their tails are part of the background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, Strict

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.wire.messages import EnergyAxis

BACKGROUND_AT_eV = 435.0  # where the background is given, and heights are compared with it
CONTINUUM_EXPONENT = 2.0  # decay of an edge's tail with energy; by eye, within the 2 to 6 of Egerton, 3.6
LINE_REACH = 5  # half widths at half maximum, at which a Gaussian has fallen to 2⁻²⁵: most of an axis is further away
PLURAL_STEP_eV = 0.5  # grid on which edges meet the plasmon: half the narrowest line, a thirtieth of the plasmon
PLASMON_RANGE_eV = 90.0

Energy = Annotated[float, Field(gt=100, lt=3000)]
Width = Annotated[float, Field(gt=0.05, lt=200)]
Height = Annotated[float, Field(ge=0, lt=100)]
Pair = tuple[float, float]  # at phase 0 and at phase 1
AList = Strict(False)  # TOML knows lists only
Energies = Annotated[tuple[Energy, Energy], AList]
Widths = Annotated[tuple[Width, Width], AList]
Heights = Annotated[tuple[Height, Height], AList]
# Infinity is a fair answer to "after which dose, which time?": never. NaN is not above zero, so it's refused all the same.
OrNever = Annotated[float, Field(gt=0, allow_inf_nan=True)]


class Line(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """A white line or a peak of the fine structure, Gaussian. Each pair is for phase 0 and phase 1."""

    at_eV: Energies
    fwhm_eV: Widths
    height: Heights = Field(description="over the background at 435 eV, before edge_strength")


class Continuum(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """The step of an edge and its tail. Each pair is for phase 0 and phase 1."""

    onset_eV: Energies
    width_eV: Widths
    height: Heights = Field(description="over the background at 435 eV, before edge_strength")


class SpectrumShape(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """The spectrum of the specimen in both of its states."""

    reference_dose_pC: float = Field(gt=0, le=1e9)
    background_counts_per_eV: float = Field(gt=0, le=1e9, description="at 435 eV, for the reference dose")
    background_exponent: float = Field(gt=0.5, lt=8)
    edge_strength: float = Field(ge=0, le=10, description="of all edges over the background")
    thickness_mfp: float = Field(gt=0, le=3, description="thickness at the start, mean free paths")
    plasmon_eV: float = Field(gt=5, lt=60)
    plasmon_fwhm_eV: float = Field(gt=1, lt=60)
    lines: dict[str, Line]
    continua: dict[str, Continuum]


class Kinetics(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """How the beam changes the specimen. Infinity means never."""

    critical_dose_pC: OrNever = Field(description="dose at which 1 − 1/e is transformed")
    jmak_exponent: float = Field(gt=0.1, le=6)
    dose_rate_exponent: float = Field(0.0, ge=-1, le=2, description="0: dose alone counts")
    reference_current_pA: float = Field(gt=0, le=1e6, description="current at which the dose rate makes no difference")
    recovery_time_s: OrNever = Field(math.inf, description="time constant of the recovery")
    mass_loss_dose_pC: OrNever = Field(description="dose at which 1 − 1/e of the thickness is gone")


@dataclass(frozen=True, slots=True)
class SpecimenState:
    """What the beam has done to the specimen so far."""

    dose_pC: float = 0.0  # all that it received: mass does not come back
    effective_dose_pC: float = 0.0  # what still counts towards the change: weighted by dose rate, reduced by recovery


def step(state: SpecimenState, kinetics: Kinetics, dose_pC: float, duration_s: float) -> SpecimenState:
    """The specimen after a dose, given evenly over a time; a dose of zero is time without beam.

    dose_pC ≥ 0; duration_s > 0. Two halves give the same as the whole.

    With the current I = dose / duration, the effective dose D follows dD/dt = I (I/I_ref)^p − D/τ, solved exactly for
    constant I. So the specimen heals whenever the beam is off, and under a weak beam comes to rest short of the end. This
    first-order law is ours, the simplest that heals; no measured recovery of SrTiO3 stands behind it.
    """
    rate_pA = 0.0
    if dose_pC > 0:
        current_pA = dose_pC / duration_s
        rate_pA = current_pA * (current_pA / kinetics.reference_current_pA) ** kinetics.dose_rate_exponent
    if math.isinf(kinetics.recovery_time_s):
        effective_dose_pC = state.effective_dose_pC + rate_pA * duration_s
    else:
        lost = -math.expm1(-duration_s / kinetics.recovery_time_s)
        rests_at_pC = rate_pA * kinetics.recovery_time_s
        effective_dose_pC = state.effective_dose_pC + lost * (rests_at_pC - state.effective_dose_pC)
    return SpecimenState(state.dose_pC + dose_pC, effective_dose_pC)


def jmak_phase(dose_pC: float, critical_dose_pC: float, exponent: float) -> float:
    """Transformed fraction x = 1 − exp(−(D/Dc)^m), in [0, 1]: Johnson–Mehl–Avrami–Kolmogorov kinetics with dose for time.

    dose_pC: ≥ 0, pC; critical_dose_pC and exponent above 0. An infinite critical dose gives 0.
    Source: Avrami, J. Chem. Phys. 7, 1103 (1939).
    """
    return -math.expm1(-((dose_pC / critical_dose_pC) ** exponent))


def jmak_dose(phase: float, critical_dose_pC: float, exponent: float) -> float:
    """Dose at which `jmak_phase` reaches a phase in [0, 1), pC."""
    return float(critical_dose_pC * (-math.log1p(-phase)) ** (1 / exponent))


def follows_from_dose(kinetics: Kinetics) -> bool:
    """Whether the phase follows from the dose alone, however that was given."""
    return kinetics.dose_rate_exponent == 0 and math.isinf(kinetics.recovery_time_s)


def phase(state: SpecimenState, kinetics: Kinetics) -> float:
    """Phase x in [0, 1]. Rounded to 1e-12, so that it's the same on machines whose exponentials differ in the last bit."""
    return round(jmak_phase(state.effective_dose_pC, kinetics.critical_dose_pC, kinetics.jmak_exponent), 12)


def remaining_thickness(state: SpecimenState, kinetics: Kinetics) -> float:
    """Share of the thickness that is left, exp(−D/D_m): each atom is lost with the same chance per dose.

    Source: Egerton, Li and Malac, Micron 35, 399 (2004), on radiation damage, where mass loss often is exponential in dose.
    """
    return math.exp(-state.dose_pC / kinetics.mass_loss_dose_pC)


def intensity(thickness_mfp: float) -> float:
    """What a thickness t (in mean free paths) gives in single core losses, t·exp(−t): up to a constant.

    Source: Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope (3rd ed.), 4.5: the signal is the atoms in
    the path times the electrons that lost no energy otherwise. The background below the edges is taken to follow it too.
    """
    return thickness_mfp * math.exp(-thickness_mfp)


def edges(energies: NDArray[np.float64], shape: SpectrumShape, phase: float) -> NDArray[np.float64]:
    """Single-scattering edges over the background at 435 eV, `(channel,)`, before `edge_strength`.

    energies: `(channel,)`, eV, ascending. For each edge an arctan step (X-ray absorption's lifetime-broadened one,
    Richtmyer, Barnes and Ramberg, Phys. Rev. 46, 843 (1934)) that decays with a power of the energy, and Gaussian lines
    for the transitions to bound states: t2g and eg of Ti 3d for each of L3 and L2 (Leapman, Grunes and Fejes, Phys. Rev. B
    26, 614 (1982)), and O 2p mixed with Ti 3d, Sr 4d and Ti 4sp (de Groot et al., Phys. Rev. B 40, 5715 (1989)).
    """

    def at(pair: Pair) -> float:
        return pair[0] + phase * (pair[1] - pair[0])

    total = np.zeros_like(energies)
    for continuum in shape.continua.values():
        onset_eV = at(continuum.onset_eV)
        rise = 0.5 + np.arctan((energies - onset_eV) / (at(continuum.width_eV) / 2)) / np.pi
        total += at(continuum.height) * rise * (onset_eV / energies) ** CONTINUUM_EXPONENT
    for line in shape.lines.values():
        at_eV, half_width_eV = at(line.at_eV), at(line.fwhm_eV) / 2
        reach_eV = LINE_REACH * half_width_eV
        near = slice(*np.searchsorted(energies, (at_eV - reach_eV, at_eV + reach_eV)))
        total[near] += at(line.height) * np.exp(-math.log(2) * ((energies[near] - at_eV) / half_width_eV) ** 2)
    return total


def once_more_scattered(energies: NDArray[np.float64], shape: SpectrumShape, phase: float) -> NDArray[np.float64]:
    """The edges after one plasmon more, `(channel,)`: their convolution with its normalised loss function.

    Plural scattering is Poissonian in t/λ, so this adds t/λ times itself to the edges; two plasmons and more are left out
    (Egerton, 3.4 and 4.1.2). Loss function of the Drude model, E_p² Γ E / ((E² − E_p²)² + (Γ E)²) (Egerton, 3.3.1). That
    SrTiO3's is one such peak is a simplification by eye: only the smooth hump some 30 eV above each edge is wanted.
    """
    grid = np.arange(energies.min() - PLASMON_RANGE_eV, energies.max() + PLURAL_STEP_eV, PLURAL_STEP_eV)
    loss = np.arange(PLURAL_STEP_eV, PLASMON_RANGE_eV, PLURAL_STEP_eV)
    plasmon = loss / ((loss**2 - shape.plasmon_eV**2) ** 2 + (shape.plasmon_fwhm_eV * loss) ** 2)
    kernel = np.concatenate([[0.0], plasmon / plasmon.sum()])
    return np.asarray(np.interp(energies, grid, np.convolve(edges(grid, shape, phase), kernel)[: grid.size]))


def relative_spectra(
    energies: NDArray[np.float64], shape: SpectrumShape, phase: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spectrum over the background at 435 eV: what is scattered once, and what each t/λ adds to it; both `(channel,)`.

    Power law A·E^−r for the background (Egerton, 4.4.1), with the edges above it.
    """
    background = (energies / BACKGROUND_AT_eV) ** -shape.background_exponent
    single = background + shape.edge_strength * edges(energies, shape, phase)
    return single, shape.edge_strength * once_more_scattered(energies, shape, phase)


def counts_per_eV(shape: SpectrumShape, dose_pC: float, thickness_mfp: float) -> float:
    """Counts per eV at 435 eV for a dose: in proportion to it, and to what the thickness gives."""
    dose = dose_pC / shape.reference_dose_pC
    return shape.background_counts_per_eV * dose * intensity(thickness_mfp) / intensity(shape.thickness_mfp)


def clean_counts(
    axis: EnergyAxis, shape: SpectrumShape, dose_pC: float, phase: float, remaining_thickness: float = 1.0
) -> NDArray[np.float64]:
    """Expected counts of one frame at a phase, `(channel,)` float64, before any detector.

    A channel gets the spectrum at its centre times its width, so lines should be three channels wide or more.
    """
    thickness_mfp = shape.thickness_mfp * remaining_thickness
    single, plural = relative_spectra(energies_eV(axis), shape, phase)
    scale = counts_per_eV(shape, dose_pC, thickness_mfp) * axis.dispersion_eV
    return np.asarray(scale * (single + thickness_mfp * plural))
