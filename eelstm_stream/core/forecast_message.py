"""What a forecast says on the wire, from what it was made of. Pure, so that a loop without sockets says the same."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.core.pipeline import Accepted
from eelstm_stream.core.session_phase import interval


def forecast_fields(
    model: ModelMetadata, functional: PhaseFunctional, accepted: Accepted, phase: NDArray[np.floating]
) -> dict[str, Any]:
    """Fields of a Summary that follow from a spectrum and the model's forecast of it.

    functional: the model's, since making it takes longer than using it. phase: `(horizon,)`, what the model put out. Left to
    the caller: the envelope, the model's hash, what has come true, and latencies.
    """
    spectrum, start = accepted.spectrum, accepted.session
    now, deviation = functional.measure(accepted.newest, accepted.variance_over_mean)
    known_now = math.isfinite(now) and math.isfinite(deviation)
    ahead = [(float(p), v.phase_rmse) for p, v in zip(phase, model.validation, strict=True)]
    fields: dict[str, Any] = {
        "from_seq": spectrum.seq,
        "spectrum_sent_mono_ns": spectrum.sent_mono_ns,
        "clock_id": start.clock_id,
        "model_name": model.name,
        "window": model.window,
        "horizons": model.horizons,
        "valid_at": tuple(spectrum.acquired_at + timedelta(seconds=accepted.starts_after_s(h)) for h in model.horizons),
        "window_domain": accepted.domain,
        "reference_dose_pC": model.reference_dose_pC,
        "reference_dwell_s": model.reference_dwell_s,
        "at_dose_pC": at_dose_pC(accepted),
        "simulated": start.source == "simulation",
        "trained_on": model.trained_on,
        "phase_now": interval(now, deviation) if known_now else None,
        "phase": tuple(interval(*one) for one in ahead),
        "quality": accepted.quality,
    }
    if accepted.phase is not None and known_now:
        fields["fraction_now"], fields["fraction_scatter"] = accepted.phase.fraction(now, deviation)
        fields["fraction"], _ = accepted.phase.fractions(*zip(*ahead, strict=True))
    return fields


def at_dose_pC(accepted: Accepted) -> float | None:
    """All that the specimen received in the session by the end of the newest spectrum; None where nobody counts it."""
    spectrum = accepted.spectrum
    if spectrum.dose_before_pC is None or spectrum.dose_pC is None:
        return None
    return spectrum.dose_before_pC + spectrum.dose_pC
