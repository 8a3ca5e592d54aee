"""Counts brought to one dose, so that frames of another dwell or current can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.preprocessing.step import Counts, as_run, as_spectrum
from eelstm_stream.errors import UnusableInputError, UsageError


class Exposed(NamedTuple):
    """Counts with what they were taken at: one spectrum, or a run of them."""

    counts: NDArray[Any]  # (channel,), or (frame, channel)
    dwell_s: Any  # float, or (frame,)
    beam_current_pA: Any = None  # float, or (frame,); None where it is unknown

    def frames(self) -> Iterator[Exposed]:
        """The spectra of a run."""
        dwells, currents = self._by_frame()
        for counts, dwell_s, current_pA in zip(self.counts, dwells, currents, strict=True):
            yield Exposed(counts, dwell_s, current_pA)

    def _by_frame(self) -> tuple[list[float], list[float | None]]:
        count = len(self.counts)
        dwells = np.broadcast_to(np.asarray(self.dwell_s, dtype=np.float64), (count,))
        if self.beam_current_pA is None:
            return dwells.tolist(), [None] * count
        return dwells.tolist(), np.broadcast_to(np.asarray(self.beam_current_pA, dtype=np.float64), (count,)).tolist()


@dataclass(frozen=True, slots=True)
class DoseNormalisation:
    """Counts × reference dose / dose of the frame. Where the current is unknown it counts as the reference's.

    Unlike all other steps it takes `Exposed`, since counts alone don't say at what dose they were taken.
    Noise grows with it: counts at a fifth of the dose, times 5, have √5 times the noise of the reference dose.
    """

    reference_dwell_s: float
    reference_dose_pC: float

    def __post_init__(self) -> None:
        """Raise UsageError for a reference that is not positive."""
        for name, reference in (("dwell", self.reference_dwell_s), ("dose", self.reference_dose_pC)):
            if not (math.isfinite(reference) and reference > 0):
                raise UsageError(f"the reference {name} is {reference:g}, and it must be above zero.")

    source_axis = None
    target_axis = None

    def start(self) -> None:
        """Nothing is remembered."""
        return

    def step(self, state: None, spectrum: Exposed) -> tuple[None, Counts]:
        """One spectrum, `(channel,)`, with its dwell and current."""
        scale = self._scale("this spectrum", spectrum.dwell_s, spectrum.beam_current_pA)
        return None, as_spectrum(spectrum.counts) * scale

    def whole(self, run: Exposed) -> Counts:
        """A run, `(frame, channel)`, with the dwell and current of each frame."""
        counts = as_run(run.counts)
        scales = [
            self._scale(f"frame {number}", frame.dwell_s, frame.beam_current_pA)
            for number, frame in enumerate(run.frames())
        ]
        return np.asarray(counts * np.array(scales)[:, np.newaxis])

    def _scale(self, frame: str, dwell_s: float, current_pA: float | None) -> float:
        if not (math.isfinite(dwell_s) and dwell_s > 0):
            raise UnusableInputError(f"{frame} has a dwell of {dwell_s:g} s, and it must be above zero.")
        if current_pA is not None and not (math.isfinite(current_pA) and current_pA > 0):
            raise UnusableInputError(f"{frame} has a beam current of {current_pA:g} pA, and it must be above zero.")
        return normalisation(dwell_s, current_pA, self.reference_dwell_s, self.reference_dose_pC)
