"""A simple simulated beam-damage series: SrTiO3 under a parked probe, as the paper's camera would record it.

Small on purpose: enough to train on, and to stream where there is no recorded series. It counts as the paper's spectra do
(12 000 at 435 eV falling to 7 000 at 625 eV, white lines some 5 000 above, variance 4.6 × mean). Positions and shapes of the
lines are drawn by eye after published Ti4+ and Ti3+ spectra, not fitted to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.io.recordings import Recording
from eelstm_stream.wire.messages import MAX_PA, MAX_S, MIN_PA, MIN_S, EnergyAxis

CAMERA_AXIS = EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048)

# Lines on the continuum: centre eV, full width at half maximum eV, height counts.
# Ti L2,3: two crystal-field pairs (t2g, eg) that close up some 0.8 eV lower as Ti4+ becomes Ti3+, after Leapman, Grunes and
# Fejes, Phys. Rev. B 26, 614 (1982), and Ohtomo et al., Nature 419, 378 (2002). O K: Ti 3d, Sr 4d and Ti 4sp structure, which
# the amorphous oxide loses.
PRISTINE_LINES = (
    (457.0, 1.0, 3500.0),  # L3 t2g
    (459.3, 1.3, 4900.0),  # L3 eg
    (462.4, 1.5, 2900.0),  # L2 t2g
    (464.7, 1.7, 3500.0),  # L2 eg
    (531.6, 1.2, 2000.0),  # O K, Ti 3d t2g
    (534.2, 1.8, 1200.0),  # O K, Ti 3d eg
    (537.8, 2.4, 1900.0),  # O K, Sr 4d
    (544.4, 4.0, 1300.0),  # O K, Ti 4sp
)
TRANSFORMED_LINES = (
    (457.1, 1.9, 3100.0),
    (458.3, 2.1, 3400.0),
    (462.3, 2.3, 2300.0),
    (463.7, 2.5, 2500.0),
    (532.2, 2.8, 600.0),
    (535.4, 4.0, 900.0),
    (538.6, 5.5, 1400.0),
    (544.0, 9.0, 700.0),
)
CONTINUA = ((457.5, 1200.0), (533.0, 1900.0))  # above Ti L and O K: onset eV, height counts at the onset
CONTINUUM_EXPONENT = 2.0
ONSET_WIDTH_eV = 1.0
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True, slots=True)
class SeriesParameters:
    """What series have in common. Counts are of a frame at `reference_dose_pC`; a `_spread` is a standard deviation over runs."""

    reference_dose_pC: float = 92.0  # 230 pA × 0.4 s
    background_at_435_eV: float = 12_000.0
    background_exponent: float = 2.55
    background_exponent_spread: float = 0.04
    intensity_spread: float = 0.08  # relative: thickness and current
    edge_spread: float = 0.06  # relative: edges over background, as the thickness sets it
    critical_dose_pC: float = 7_500.0
    critical_dose_spread: float = 0.15  # relative
    jmak_exponent: float = 1.9
    jmak_exponent_spread: float = 0.2
    mass_loss_dose_pC: float = 100_000.0  # dose after which the intensity has fallen to 1/e
    calibration_spread_eV: float = 0.2
    drift_eV_per_root_s: float = 0.02  # random walk of the high tension
    jitter_eV: float = 0.04  # from frame to frame
    variance_over_mean: float = 4.6
    crosstalk: float = 0.1  # share of a channel's counts that each of its neighbours receives


def jmak_phase(dose_pC: ArrayLike, critical_dose_pC: float, exponent: float) -> NDArray[np.float64]:
    """Transformed fraction x = 1 − exp(−(D/Dc)^m): Johnson–Mehl–Avrami–Kolmogorov kinetics with dose for time.

    dose_pC: accumulated dose, ≥ 0, any shape; returned in that shape, in [0, 1].
    Raises ValueError where critical_dose_pC or exponent is not positive.
    Source: Avrami, J. Chem. Phys. 7, 1103 (1939).
    """
    if not (critical_dose_pC > 0 and exponent > 0):
        raise ValueError("critical dose and exponent must be positive")
    return np.asarray(-np.expm1(-((np.asarray(dose_pC, dtype=np.float64) / critical_dose_pC) ** exponent)))


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame."""

    counts: NDArray[np.float32]  # (channel,), ≥ 0
    clean_counts: NDArray[np.float32]  # (channel,): their expectation
    phase: float  # transformed fraction at the middle of the exposure


class BeamDamageSeries:
    """One specimen under the beam, exposed frame by frame. The same seed and exposures give the same counts."""

    def __init__(self, seed: int, parameters: SeriesParameters | None = None) -> None:
        """Draw this run's specimen and instrument from the spreads, cut at 2.5 σ: stranger runs are not kept."""
        self._parameters = p = parameters or SeriesParameters()
        self._rng = np.random.default_rng(seed)
        z = np.clip(self._rng.standard_normal(6), -2.5, 2.5)
        self.critical_dose_pC = p.critical_dose_pC * np.exp(p.critical_dose_spread * z[0])
        self.jmak_exponent = p.jmak_exponent + p.jmak_exponent_spread * z[1]
        self._intensity = 1 + p.intensity_spread * z[2]
        self._edges = 1 + p.edge_spread * z[3]
        self._background_exponent = p.background_exponent + p.background_exponent_spread * z[4]
        self._walk_eV = p.calibration_spread_eV * z[5]
        self._dose_pC = 0.0
        # One channel more at either end, so that the outermost ones have neighbours to receive counts from.
        self._energies_eV = np.pad(energies_eV(CAMERA_AXIS), 1, mode="reflect", reflect_type="odd")

    def expose(self, dwell_s: float, beam_current_pA: float) -> Exposure:
        """Take the next frame: counts in proportion to its dose, at the phase that the dose so far has brought."""
        p, rng = self._parameters, self._rng
        dose_pC = frame_dose_pC(beam_current_pA, dwell_s)
        halfway_pC = self._dose_pC + dose_pC / 2
        self._dose_pC += dose_pC
        phase = float(jmak_phase(halfway_pC, self.critical_dose_pC, self.jmak_exponent))
        self._walk_eV += p.drift_eV_per_root_s * np.sqrt(dwell_s) * rng.standard_normal()
        shift_eV = self._walk_eV + p.jitter_eV * rng.standard_normal()
        expected = self._spectrum(self._energies_eV - shift_eV, phase)
        expected *= self._intensity * np.exp(-halfway_pC / p.mass_loss_dose_pC) * dose_pC / p.reference_dose_pC
        # A camera counts electrons, of which each gives `gain` counts, some of them in the neighbouring channels. Sharing
        # evens the noise out, so the gain is raised until a channel's variance is variance_over_mean × its mean.
        kernel = np.array([p.crosstalk, 1 - 2 * p.crosstalk, p.crosstalk])
        gain = p.variance_over_mean / float(kernel @ kernel)
        counts = np.convolve(gain * rng.poisson(expected / gain), kernel, mode="valid")
        clean = np.convolve(expected, kernel, mode="valid")
        return Exposure(counts.astype(np.float32), clean.astype(np.float32), phase)

    def _spectrum(self, energies: NDArray[np.float64], phase: float) -> NDArray[np.float64]:
        """Expected counts `(channel,)` per channel at the reference dose, without thickness and mass loss.

        Power law A·E^−r for the background (Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 4.4),
        for each edge an arctan step that decays with a power of E, and Gaussian lines. JMAK's x is a volume fraction, so
        the lines of the two phases add in the proportion (1 − x) : x.
        """
        p = self._parameters
        counts = p.background_at_435_eV * (energies / 435.0) ** -self._background_exponent
        for onset_eV, height in CONTINUA:
            step = 0.5 + np.arctan((energies - onset_eV) / (ONSET_WIDTH_eV / 2)) / np.pi
            counts += self._edges * height * step * (energies / onset_eV) ** -CONTINUUM_EXPONENT
        for fraction, lines in ((1 - phase, PRISTINE_LINES), (phase, TRANSFORMED_LINES)):
            for centre_eV, fwhm_eV, height in lines:
                sigma_eV = fwhm_eV * SIGMA_PER_FWHM
                counts += fraction * self._edges * height * np.exp(-0.5 * ((energies - centre_eV) / sigma_eV) ** 2)
        return np.asarray(counts)


def simulate_series(
    frames: int,
    *,
    seed: int,
    dwell_s: ArrayLike = 0.4,
    beam_current_pA: ArrayLike = 230.0,
    parameters: SeriesParameters | None = None,
) -> Recording:
    """A whole series as a recording, with its noise-free counts and its phase beside it.

    dwell_s, beam_current_pA: one for all frames, or `(frame,)`. Counts are `(frame, 2048)` float32, 424.0 eV + 0.1 eV.
    Raises ValueError where frames, a dwell or a current is not positive and finite.
    """
    if frames < 1:
        raise ValueError("a series has at least one frame")
    dwells_s = np.broadcast_to(np.asarray(dwell_s, dtype=np.float64), (frames,)).copy()
    currents_pA = np.broadcast_to(np.asarray(beam_current_pA, dtype=np.float64), (frames,)).copy()
    for what, values, low, high in (("dwell", dwells_s, MIN_S, MAX_S), ("beam current", currents_pA, MIN_PA, MAX_PA)):
        if not ((values >= low) & (values <= high)).all():
            raise ValueError(f"{what} must be positive and finite, from {low:g} to {high:g}")
    series = BeamDamageSeries(seed, parameters)
    exposures = [series.expose(float(d), float(c)) for d, c in zip(dwells_s, currents_pA, strict=True)]
    return Recording(
        counts=np.stack([e.counts for e in exposures]),
        energy_axis=CAMERA_AXIS,
        dwell_s=dwells_s,
        beam_current_pA=currents_pA,
        beam_energy_keV=300.0,
        convergence_mrad=None,
        collection_mrad=None,
        specimen="SrTiO3 (simulated)",
        name=f"simulated SrTiO3, seed {seed}",
        simulated=True,
        clean_counts=np.stack([e.clean_counts for e in exposures]),
        phase=np.array([e.phase for e in exposures]),
    )
