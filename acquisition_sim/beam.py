"""The beam: probe current, dwell time and blanker, which obey commands after a delay, within limits. Pure.

Operations: `order` a command, and ask what is `due` at the start of a frame. A frame in progress is never changed. What is
ordered first takes effect first, unless the blanker overtakes: it has a delay of its own, and usually a shorter one.

A command that asks for more than the limits allow is refused whole, with the limit's name, and nothing of it happens. It is
never cut down to the limit: who ordered 500 pA and got 250 pA would go on reckoning with the wrong dose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Self

from pydantic import BaseModel, Field, model_validator


class BeamParameters(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """Limits and delays of an instrument, and what it starts with."""

    energy_keV: float = Field(gt=10, le=3000)
    current_pA: float = Field(gt=0, le=1e6, description="at the start")
    dwell_s: float = Field(gt=0, le=3600, description="at the start")
    min_current_pA: float = Field(gt=0, le=1e6)
    max_current_pA: float = Field(gt=0, le=1e6)
    min_dwell_s: float = Field(gt=0, le=3600)
    max_dwell_s: float = Field(gt=0, le=3600)
    delay_frames: int = Field(0, ge=0, le=1000, description="frames that still begin with the old current and dwell")
    delay_s: float = Field(0.0, ge=0, le=60, description="time until a new current or dwell holds, if that is longer")
    blank_delay_s: float = Field(0.0, ge=0, le=60, description="time until the blanker has moved")

    @model_validator(mode="after")
    def _starts_within_limits(self) -> Self:
        if not self.min_current_pA <= self.current_pA <= self.max_current_pA:
            raise ValueError("current_pA must lie between min_current_pA and max_current_pA")
        if not self.min_dwell_s <= self.dwell_s <= self.max_dwell_s:
            raise ValueError("dwell_s must lie between min_dwell_s and max_dwell_s")
        return self


@dataclass(frozen=True, slots=True)
class Order:
    """A command: what it leaves None stays as it is."""

    current_pA: float | None = None
    dwell_s: float | None = None
    blanked: bool | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An order that was not taken."""

    limit: str  # the parameter that it broke, such as max_current_pA; "finite" for what is no number; "empty"
    reason: str  # one sentence


@dataclass(frozen=True, slots=True)
class _Pending:
    order: Order
    from_frame: int
    from_ns: int


@dataclass(frozen=True, slots=True)
class BeamState:
    """What holds now, and what was ordered and does not hold yet."""

    current_pA: float
    dwell_s: float
    blanked: bool = True
    pending: tuple[_Pending, ...] = ()

    @property
    def probe_current_pA(self) -> float:
        """Current that reaches the specimen."""
        return 0.0 if self.blanked else self.current_pA


def start(parameters: BeamParameters) -> BeamState:
    """An instrument that was switched on: blanked."""
    return BeamState(parameters.current_pA, parameters.dwell_s)


def refusal(order: Order, parameters: BeamParameters) -> Refused | None:
    """Why an order can't be taken, or None where it can."""
    if order == Order():
        return Refused("empty", "the order changes nothing: give a current, a dwell or the blanker.")
    currents = ("current", "pA", order.current_pA, parameters.min_current_pA, parameters.max_current_pA)
    dwells = ("dwell", "s", order.dwell_s, parameters.min_dwell_s, parameters.max_dwell_s)
    for name, unit, ordered, lowest, highest in (currents, dwells):
        if ordered is None:
            continue
        if not isfinite(ordered):
            return Refused("finite", f"the {name} ordered is {ordered}, and it must be a finite number of {unit}.")
        said = f"the {name} ordered, {ordered:g} {unit}, is"
        if ordered < lowest:
            return Refused(f"min_{name}_{unit}", f"{said} below the limit of {lowest:g} {unit}.")
        if ordered > highest:
            return Refused(f"max_{name}_{unit}", f"{said} above the limit of {highest:g} {unit}.")
    return None


def order(
    state: BeamState, command: Order, parameters: BeamParameters, *, frame: int, now_ns: int
) -> BeamState | Refused:
    """Take a command in.

    frame: number of the next frame to begin; now_ns: monotonic, by the same clock as in `due`.
    Returns the state with the command pending, or why it is refused; then the old state goes on.
    """
    refused = refusal(command, parameters)
    if refused is not None:
        return refused
    pending = list(state.pending)
    if command.blanked is not None:
        blank_ns = now_ns + round(parameters.blank_delay_s * 1e9)
        pending.append(_Pending(Order(blanked=command.blanked), frame, blank_ns))
    if command.current_pA is not None or command.dwell_s is not None:
        from_ns = now_ns + round(parameters.delay_s * 1e9)
        pending.append(_Pending(replace(command, blanked=None), frame + parameters.delay_frames, from_ns))
    return replace(state, pending=tuple(pending))


def due(state: BeamState, *, frame: int, now_ns: int) -> BeamState:
    """What holds for a frame that is about to begin: all that was ordered for it or before, in the order of ordering."""
    current_pA, dwell_s, blanked = state.current_pA, state.dwell_s, state.blanked
    still: list[_Pending] = []
    for pending in state.pending:
        if frame < pending.from_frame or now_ns < pending.from_ns:
            still.append(pending)
            continue
        change = pending.order
        current_pA = current_pA if change.current_pA is None else change.current_pA
        dwell_s = dwell_s if change.dwell_s is None else change.dwell_s
        blanked = blanked if change.blanked is None else change.blanked
    return BeamState(current_pA, dwell_s, blanked, tuple(still))
