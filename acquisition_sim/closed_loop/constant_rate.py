"""One specimen exposed at the session's own rate, without anybody commanding: what is measured then, and when. Pure.

One such flight serves every strategy that only decides when to stop, at every threshold and latency: until it stops, nothing
that it does changes what comes after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.closed_loop.forecasting import Forecasting
from acquisition_sim.closed_loop.session import beam_of, session_start, spectrum_of
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.instrument import Frame
from acquisition_sim.microscope import Microscope
from eelstm_stream.io.model_file import Model

BEYOND = (
    1.25  # doses up to this many times that of the ceiling are flown: whoever hasn't stopped by then has failed anyway
)


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """A flight at constant rate."""

    specimen: Specimen
    phase: NDArray[np.float64]  # (frame,): of the newest spectrum, as the controller gets it; NaN before the first


def fly_at_constant_rate(specimen: Specimen, model: Model, ceiling: float) -> ConstantRate:
    """Expose a specimen at its session's own dwell and current, to well beyond the dose of the ceiling."""
    beam = beam_of(specimen, 0)
    start = session_start(specimen, beam)
    forecasting = Forecasting(model, start)
    microscope = Microscope(specimen.preset)
    dose_pC, dwell_ns = specimen.frame_dose_pC, round(specimen.dwell_s * 1e9)
    frames = math.ceil(BEYOND * specimen.dose_at(ceiling) / dose_pC)
    _, taken = microscope.expose_many(
        microscope.start(specimen.seed), np.full(frames, specimen.dwell_s), specimen.current_pA
    )
    phase = np.full(frames, np.nan)
    for seq in range(frames):
        frame = Frame(seq, seq * dwell_ns, (seq + 1) * dwell_ns, specimen.dwell_s, specimen.current_pA, seq * dose_pC)
        spectrum = spectrum_of(start.session, frame, taken.counts[seq])
        summary = forecasting.take(spectrum, taken.counts[seq], frame.ends_ns)
        now = None if summary is None else summary.fraction_now or summary.phase_now
        if now is not None:
            phase[seq] = now.value
    return ConstantRate(specimen, phase)
