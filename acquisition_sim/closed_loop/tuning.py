"""The controller's margin, tuned: its ceiling is moved until the specimens tuned on overshoot the true one by no more than they may. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acquisition_sim.closed_loop.scoring import OVERSHOOT, TUNED_SHARE

LOWEST_CEILING, HIGHEST_CEILING = 0.01, 0.99
SURE_WITHIN = 0.02  # a correction by more is tried out before it is used: one for one holds near the ceiling only


@dataclass(frozen=True, slots=True)
class TunedCeiling:
    """The ceiling that the controller is given, so that the true phase keeps to the one that is meant."""

    meant: float
    given: float
    correction: float = math.inf  # the newest

    @classmethod
    def begin(cls, ceiling: float) -> TunedCeiling:
        """Not tuned yet."""
        return cls(ceiling, ceiling)

    def corrected(self, final_phases: Sequence[float]) -> TunedCeiling:
        """After flights to the ceiling given: where they ended moves with it, one for one."""
        highest = sorted(final_phases)[max(0, math.ceil(TUNED_SHARE * len(final_phases)) - 1)]
        given = float(np.clip(self.given + self.meant + OVERSHOOT - highest, LOWEST_CEILING, HIGHEST_CEILING))
        return TunedCeiling(self.meant, given, given - self.given)

    @property
    def is_tuned(self) -> bool:
        """Whether no more flights are needed."""
        return abs(self.correction) <= SURE_WITHIN

    def __str__(self) -> str:
        return f"ceiling {self.given:.3f}"
