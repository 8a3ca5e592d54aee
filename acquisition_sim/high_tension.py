"""The energy axis moves: the high tension and the spectrometer drift slowly and jitter from frame to frame. Pure.

The shift of a frame is a drift at a steady rate, plus a random walk, plus a jitter that the next frame does not remember.
The first two add up in the state, and are reflected at ±`limit_eV`: sooner or later an operator calibrates again. The
numbers that look random are the caller's, standard normal, so that nothing here depends on a generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, Field


class HighTensionParameters(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """How far the axis moves. Zero everywhere is an axis that stands still."""

    offset_eV: float = Field(0.0, ge=-20, le=20, description="shift at the start")
    drift_eV_per_s: float = Field(0.0, ge=-1, le=1)
    walk_eV_per_root_s: float = Field(0.0, ge=0, le=1, description="standard deviation of the walk after one second")
    jitter_eV: float = Field(0.0, ge=0, le=2, description="standard deviation from frame to frame")
    limit_eV: float = Field(2.0, gt=0, le=20, description="drift and walk turn back at this shift")


@dataclass(frozen=True, slots=True)
class HighTensionState:
    """Where drift and walk have brought the axis."""

    shift_eV: float


def start(parameters: HighTensionParameters) -> HighTensionState:
    """The axis as calibrated last: off by `offset_eV`."""
    return HighTensionState(_reflected(parameters.offset_eV, parameters.limit_eV))


def step(
    state: HighTensionState, parameters: HighTensionParameters, duration_s: float, normal: float
) -> HighTensionState:
    """The axis after a time, s ≥ 0. normal: standard normal, for this step of the walk alone."""
    drift_eV = parameters.drift_eV_per_s * duration_s
    walk_eV = parameters.walk_eV_per_root_s * math.sqrt(duration_s) * normal
    return HighTensionState(_reflected(state.shift_eV + drift_eV + walk_eV, parameters.limit_eV))


def shift_eV(state: HighTensionState, parameters: HighTensionParameters, normal: float) -> float:
    """Shift of one frame: a feature at E appears at E + shift. normal: standard normal, cut at ±5.

    The cut bounds how far any frame can shift, so that a spectrum need not be known further out than `reach_eV`.
    """
    return state.shift_eV + parameters.jitter_eV * min(max(normal, -5.0), 5.0)


def reach_eV(parameters: HighTensionParameters) -> float:
    """The largest shift that any frame can have."""
    return parameters.limit_eV + 5 * parameters.jitter_eV


def _reflected(shift: float, limit: float) -> float:
    """The shift mirrored at ±limit, as often as need be."""
    if abs(shift) <= limit:
        return shift
    period = 4 * limit
    return abs((shift - limit) % period - 2 * limit) - limit
