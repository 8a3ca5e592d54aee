"""What a flight was worth: how much of the dose that the specimen could bear was used, and how far beyond its ceiling it went. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.closed_loop.specimens import Specimen

OVERSHOOT = 0.01  # of phase, that a run may go beyond the ceiling
SHARE_WITHIN = 0.95  # of runs that must keep to it
TUNED_SHARE = 0.96  # of the runs tuned on: a little more, so that it holds for others more often than not


@dataclass(frozen=True, slots=True)
class Score:
    """Of runs on specimens, each `(run,)`."""

    utilisation: NDArray[np.float64]
    overshoot: NDArray[np.float64]
    time_s: NDArray[np.float64]

    @property
    def share_within(self) -> float:
        """Of runs whose overshoot is within OVERSHOOT."""
        return float((self.overshoot <= OVERSHOOT).mean())

    @property
    def overshoot_p95(self) -> float:
        """The overshoot that SHARE_WITHIN of the runs keep to: one of the runs' own, the next higher where none is exactly there."""
        return float(np.quantile(self.overshoot, SHARE_WITHIN, method="higher"))


def scored(specimens: Sequence[Specimen], dose_pC: Sequence[float], time_s: Sequence[float], ceiling: float) -> Score:
    """Score runs by the dose that each specimen received in all. Utilisation: what of it was spent below the ceiling, over the dose of the ceiling."""
    at_ceiling_pC = np.array([specimen.dose_at(ceiling) for specimen in specimens])
    doses = np.array(dose_pC, dtype=np.float64)
    phases = np.array([float(specimen.phase_at(dose)) for specimen, dose in zip(specimens, doses, strict=True)])
    return Score(
        utilisation=np.minimum(doses, at_ceiling_pC) / at_ceiling_pC,
        overshoot=np.maximum(phases - ceiling, 0.0),
        time_s=np.array(time_s, dtype=np.float64),
    )
