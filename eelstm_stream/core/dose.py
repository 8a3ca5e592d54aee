"""Dose of a frame, and counts normalised to a reference dose."""

from __future__ import annotations

ELECTRONS_PER_PC = 6.2415e6  # 1 pC / e


def frame_dose_pC(beam_current_pA: float, dwell_s: float) -> float:
    """Charge that reaches the specimen in one frame: pA × s = pC."""
    return beam_current_pA * dwell_s


def fluence_e_per_A2(dose_pC: float, probe_area_A2: float) -> float:
    """Electrons per Å² for a dose over an illuminated area."""
    return dose_pC * ELECTRONS_PER_PC / probe_area_A2


def normalisation(
    dwell_s: float, beam_current_pA: float | None, reference_dwell_s: float, reference_dose_pC: float
) -> float:
    """Factor that brings a frame's counts to the reference dose.

    Where the current is unknown it is taken to be the one of the reference, so that only the dwell is normalised.
    """
    if beam_current_pA is None:
        return reference_dwell_s / dwell_s
    return reference_dose_pC / frame_dose_pC(beam_current_pA, dwell_s)
