"""Phase of one session, calibrated to its own start: what the specimen reads when pristine is learnt from its first doses. Pure.

A specimen is taken to be pristine when its session begins; where the beginning was not seen, it's taken for any specimen, and
the scatter that is told with every fraction is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.phase_scale import SessionScale
from eelstm_stream.wire.messages import Interval, Spectrum

START_STEPS = (
    6.0  # reference doses: noise of their mean is a third of a step's, and hardly a hundredth is transformed by then
)
SEEN_FROM_STEPS = (
    1.0  # what a specimen may have received before the first spectrum that was heard, to count as its start
)
ROUNDED = 1e-6
Z_95 = 1.96  # two-sided 95 % of a normal distribution

Counts = NDArray[np.float32]


class SessionPhase(NamedTuple):
    """The phase scale of a session, which its first doses have set."""

    scale: SessionScale
    begun: bool = False  # whether a spectrum was taken in
    start_seen: bool = False

    @classmethod
    def new(cls, model: ModelMetadata) -> SessionPhase | None:
        """Of a session that begins; None where the model brings no scale."""
        return None if model.phase_scale is None else cls(model.phase_scale.of_session())

    def with_spectrum(
        self,
        model: ModelMetadata,
        spectrum: Spectrum,
        history: Counts,
        measured_steps: float,
        variance_over_mean: float,
    ) -> SessionPhase:
        """After a spectrum that was taken in.

        history: `(channel,)`, mean of the session so far at the reference dose, which measured_steps reference doses went
        into. variance_over_mean: of one such dose.
        """
        received_pC = 0.0 if spectrum.dose_before_pC is None else spectrum.dose_before_pC
        if not self.begun:
            seen = spectrum.seq == 0 or (
                spectrum.dose_before_pC is not None and received_pC <= SEEN_FROM_STEPS * model.reference_dose_pC
            )
            return self._replace(begun=True, start_seen=seen).with_spectrum(
                model, spectrum, history, measured_steps, variance_over_mean
            )
        if not self.start_seen or max(measured_steps, received_pC / model.reference_dose_pC) > START_STEPS + ROUNDED:
            return self
        phase, deviation = model.phase.measure(history, variance_over_mean / measured_steps)
        if not (math.isfinite(phase) and math.isfinite(deviation) and deviation > 0):
            return self
        return self._replace(scale=self.scale.scale.of_session([phase], [deviation]))

    def fraction(self, phase: float, deviation: float) -> tuple[Interval, float]:
        """Transformed fraction with the interval of noise alone, and the standard deviation of what is the same in all of them."""
        (fraction,), (common,) = self.fractions([phase], [deviation])
        return fraction, common

    def fractions(
        self, phases: Sequence[float], deviations: Sequence[float]
    ) -> tuple[tuple[Interval, ...], tuple[float, ...]]:
        """The same of several phases at once, which takes hardly longer than one."""
        values, both = self.scale.fraction(phases, deviations)
        _, common = self.scale.fraction(phases, 0.0)
        noise = np.sqrt(np.maximum(0.0, both * both - common * common))
        said = tuple(interval(value, sd) for value, sd in zip(values.tolist(), noise.tolist(), strict=True))
        return said, tuple(common.tolist())


def interval(value: float, deviation: float) -> Interval:
    """A value with its 95 % interval, the error being normal."""
    return Interval(value=value, low=value - Z_95 * deviation, high=value + Z_95 * deviation)
