"""Whether a spectrum can be used at all: by the contract of the wire, by the model's dose, and as a measurement. Pure."""

from __future__ import annotations

import numpy as np

from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.wire.messages import MAX_COUNTS, Payload, SessionStart, Spectrum

MAX_SCALE = 1e4  # between a frame's dose and the reference dose; no experiment spans more, and products stay finite


def scale_of(model: ModelMetadata, spectrum: Spectrum) -> float:
    """Factor that brings a spectrum's counts to the model's reference dose."""
    current_pA = None if model.dose_is_relative else spectrum.beam_current_pA
    return normalisation(spectrum.dwell_s, current_pA, model.reference_dwell_s, model.reference_dose_pC)


def contract_fault(start: SessionStart, spectrum: Spectrum, counts: Payload) -> str | None:
    """What makes a spectrum one that should never have been sent."""
    size = start.energy_axis.size
    if counts.shape != (size,):
        return f"spectrum {spectrum.seq} has {counts.shape[0]} channels, and its session {size}"
    lowest, highest = int(np.argmin(counts)), int(np.argmax(counts))  # a NaN counts as the lowest and as the highest
    if counts[lowest] >= 0 and counts[highest] <= MAX_COUNTS:
        return None
    if not np.isfinite(counts).all():
        return f"spectrum {spectrum.seq} holds numbers that are not finite"
    if counts[lowest] < 0:
        return f"spectrum {spectrum.seq} has negative counts ({counts[lowest]:.1f} in channel {lowest})"
    return f"spectrum {spectrum.seq} has {counts[highest]:.3g} counts in channel {highest}, more than any camera's"


def scale_fault(model: ModelMetadata, spectrum: Spectrum, scale: float) -> str | None:
    """What makes a spectrum one of another experiment than the model's. scale: `scale_of` it."""
    if 1 / MAX_SCALE <= scale <= MAX_SCALE:
        return None
    return (
        f"spectrum {spectrum.seq}: its dose is {1 / scale:.3g} times the model's {model.reference_dose_pC:g} pC, "
        f"too far from it to be normalised"
    )


def measurement_fault(start: SessionStart, counts: Payload, previous: Payload | None) -> str | None:
    """What makes a well-formed spectrum no measurement. previous: the one before, to tell a frozen camera."""
    highest = float(counts.max())
    if highest <= 0:
        return "no counts in any channel: the beam is off or the camera is not read"
    limit = start.saturation_counts
    if counts.dtype.kind == "u":
        full = float(2 ** (8 * counts.dtype.itemsize) - 1)
        limit = full if limit is None else min(limit, full)
    if limit is not None and highest >= limit:
        return f"saturated: {int((counts >= limit).sum())} channels at {limit:g} counts"
    if previous is not None and np.array_equal(counts, previous):
        return "the same counts in every channel as the spectrum before: the camera is frozen"
    return None
