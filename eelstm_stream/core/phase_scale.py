"""From a measured phase to the transformed fraction, with all that is not known of a specimen in the interval.

A model's phase is 0 and 1 on the mean pristine and transformed spectrum, which leaves two things open. Between them it need
not be in proportion to what is transformed: white lines that move make it run ahead, alike in all specimens. And each specimen
has an offset of its own, since its lines and its background are not the mean ones; the more of it is transformed, the less of
the offset is left. Both are read off training runs whose transformed fraction is known, which only simulated ones have. Of
others, the line from 0 to 1 is the best guess, and for a mixture of two spectra it is exact: phase = fraction + (1 − fraction)
× offset. Then fraction means what it means on that line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eelstm_stream.wire.messages import Finite, NonNegativeFinite

Values = NDArray[np.float64]


class ScaleKnot(BaseModel):
    """What phases are measured at one transformed fraction."""

    model_config = ConfigDict(frozen=True)

    fraction: Finite = Field(ge=0, le=1, description="transformed fraction")
    phase: Finite = Field(description="mean phase over specimens")
    start_share: Finite = Field(ge=0, le=1, description="share of a specimen's offset at the start that is still there")
    scatter: NonNegativeFinite = Field(description="standard deviation of phase between specimens, that offset aside")


class PhaseScale(BaseModel):
    """How phase and transformed fraction go together, and how far specimens differ in that."""

    model_config = ConfigDict(frozen=True)

    knots: tuple[ScaleKnot, ...] = Field(min_length=2, max_length=64, description="fraction and phase rise")
    start_scatter: NonNegativeFinite = Field(description="standard deviation of pristine specimens' phases")
    from_truth: bool = Field(
        description="whether the fractions are known ones, of simulated runs; else a straight line"
    )

    @model_validator(mode="after")
    def _rising(self) -> PhaseScale:
        if not (self.knots[0].fraction == 0 and _rise(self.column("fraction")) and _rise(self.column("phase"))):
            raise ValueError("a phase scale begins at the fraction 0, and fraction and phase rise from knot to knot")
        return self

    def column(self, name: str) -> Values:
        """One field of all knots, `(knot,)`."""
        return np.array([getattr(knot, name) for knot in self.knots], dtype=np.float64)

    def of_session(
        self, phases: ArrayLike = (), deviations: ArrayLike = (), fractions: ArrayLike = 0.0
    ) -> SessionScale:
        """The scale of one session, from the phases measured first in it; without any, of no specimen in particular.

        phases, deviations: `(frame,)`, as `PhaseFunctional.measure` gives them. fractions: what is taken to be transformed in
        these frames, nothing unless it is said. Noise and the scatter of pristine specimens are weighed by their variances
        (normal prior and noise), so that one noisy frame moves little. Raises ValueError where a phase is not finite or a
        deviation not above 0.
        """
        measured, sd = np.asarray(phases, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
        if measured.shape != sd.shape or not np.isfinite(measured).all() or not (np.isfinite(sd) & (sd > 0)).all():
            raise ValueError("each phase needs to be finite and to have a finite deviation above 0")
        prior = self.start_scatter**2
        weight = float(np.sum(1 / sd**2))
        expected = np.interp(np.asarray(fractions), self.column("fraction"), self.column("phase"))
        found = float(np.sum((measured - expected) / sd**2))
        return SessionScale(self, prior * found / (1 + prior * weight), math.sqrt(prior / (1 + prior * weight)))


@dataclass(frozen=True, slots=True)
class SessionScale:
    """A phase scale with one specimen's offset in it."""

    scale: PhaseScale
    offset: float  # of this specimen's phase from the mean, when it was pristine
    offset_deviation: float

    def fraction(self, phase: ArrayLike, deviation: ArrayLike = 0.0) -> tuple[Values, Values]:
        """Transformed fraction and its standard deviation, both of the shape of phase; beyond the knots on straight lines.

        deviation: of the phases from noise. To it come what is not known of the offset and the scatter between specimens,
        which are the same for all phases of a session: averaging over frames does not make them smaller.
        """
        knots = self.scale
        fractions, shares, scatters = knots.column("fraction"), knots.column("start_share"), knots.column("scatter")
        phases = _risen(knots.column("phase") + shares * self.offset)
        g = np.asarray(phase, dtype=np.float64)
        left = np.clip(np.searchsorted(phases, g, side="right") - 1, 0, len(phases) - 2)
        slope = (phases[left + 1] - phases[left]) / (fractions[left + 1] - fractions[left])
        x = fractions[left] + (g - phases[left]) / slope
        variance = (
            np.square(np.asarray(deviation, dtype=np.float64))
            + np.interp(x, fractions, scatters) ** 2
            + (np.interp(x, fractions, shares) * self.offset_deviation) ** 2
        )
        return np.asarray(x), np.asarray(np.sqrt(variance) / slope)


def straight_scale(start_scatter: float, end_scatter: float) -> PhaseScale:
    """Fraction = phase for the mean specimen, and others' as mixtures of their own two spectra."""
    return PhaseScale(
        knots=(
            ScaleKnot(fraction=0, phase=0, start_share=1, scatter=0),
            ScaleKnot(fraction=1, phase=1, start_share=0, scatter=end_scatter),
        ),
        start_scatter=start_scatter,
        from_truth=False,
    )


def _rise(values: Values) -> bool:
    return bool((np.diff(values) > 0).all())


def _risen(phases: Values) -> Values:
    """Phases that an offset has brought out of order, at least a thousandth apart again."""
    return np.asarray(np.maximum.accumulate(phases - 1e-3 * np.arange(len(phases))) + 1e-3 * np.arange(len(phases)))


UNKNOWN_SCALE = straight_scale(0.1, 0.1)  # what a phase fitted on a run or two scatters by, on simulated specimens
