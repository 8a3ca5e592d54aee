"""The beam: probe current, dwell time and blanker, which obey commands after a delay, within limits. Pure.

Operations: `order` a command, and ask what is `due` at the start of a frame. The dwell and the current of a frame in progress
are never changed. What is ordered first takes effect first, with one exception: blanking overtakes, and cancels what would
have let the beam on later. Letting the beam on overtakes nothing: it waits until all that was ordered before it, or with it,
holds, so that no frame is exposed with a current that was to be lowered first.

A command that asks for more than the limits allow is refused whole, with the limit's name, and nothing of it happens. It is
never cut down to the limit: who ordered 500 pA and got 250 pA would go on reckoning with the wrong dose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Self

from pydantic import BaseModel, Field, model_validator

from eelstm_stream.core.command_gate import Refused

MOST_PENDING = 100  # orders that wait for their time; a client that sends more is out of order itself


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
    max_lease_s: float = Field(60.0, gt=0, le=86_400, description="longest time that the beam may be on unattended")

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
class Pending:
    """An order that waits for its time."""

    order: Order
    from_frame: int
    from_ns: int


@dataclass(frozen=True, slots=True)
class BeamState:
    """What holds now, and what was ordered and does not hold yet."""

    current_pA: float
    dwell_s: float
    blanked: bool = True
    pending: tuple[Pending, ...] = ()

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
    if len(state.pending) >= MOST_PENDING and command.blanked is not True:
        return Refused("pending", f"{len(state.pending)} orders wait for their time already, and these are the most.")
    pending = list(state.pending)
    if command.blanked is True:
        pending = [waiting for waiting in pending if waiting.order.blanked is not False]
        if not any(waiting.order.blanked for waiting in pending):  # one that was ordered before comes sooner
            pending.append(Pending(Order(blanked=True), frame, now_ns + round(parameters.blank_delay_s * 1e9)))
    if command.current_pA is not None or command.dwell_s is not None:
        from_ns = now_ns + round(parameters.delay_s * 1e9)
        pending.append(Pending(replace(command, blanked=None), frame + parameters.delay_frames, from_ns))
    if command.blanked is False:
        from_frame = max((waiting.from_frame for waiting in pending), default=frame)
        from_ns = max((waiting.from_ns + bool(waiting.order.blanked) for waiting in pending), default=now_ns)
        from_ns = max(from_ns, now_ns + round(parameters.blank_delay_s * 1e9))
        pending.append(Pending(Order(blanked=False), max(frame, from_frame), from_ns))
    return replace(state, pending=tuple(pending))


def due(state: BeamState, *, frame: int | None, now_ns: int) -> BeamState:
    """What holds for a frame that is about to begin: all that was ordered for it or before, in the order of ordering.

    frame: its number; None while the beam is blanked, when no frame is in the way of what was ordered.
    """
    current_pA, dwell_s, blanked = state.current_pA, state.dwell_s, state.blanked
    still: list[Pending] = []
    for pending in state.pending:
        if (frame is not None and frame < pending.from_frame) or now_ns < pending.from_ns:
            still.append(pending)
            continue
        change = pending.order
        current_pA = current_pA if change.current_pA is None else change.current_pA
        dwell_s = dwell_s if change.dwell_s is None else change.dwell_s
        blanked = blanked if change.blanked is None else change.blanked
    return BeamState(current_pA, dwell_s, blanked, tuple(still))


def lets_on(state: BeamState) -> bool:
    """Whether something pending will let the beam on."""
    return any(pending.order.blanked is False for pending in state.pending)


def kept_blanked(state: BeamState) -> BeamState:
    """The beam blanked, and nothing pending that would let it on."""
    return replace(state, blanked=True, pending=tuple(p for p in state.pending if p.order.blanked is not False))


def blanks_ns(state: BeamState) -> int | None:
    """When a blanker that was ordered will have moved; None where none was."""
    return next((pending.from_ns for pending in state.pending if pending.order.blanked), None)


def changes_ns(state: BeamState) -> int | None:
    """When the first of what is pending holds, under a blanked beam; None where nothing is."""
    return min((pending.from_ns for pending in state.pending), default=None)


def in_the_end(state: BeamState) -> BeamState:
    """What will hold once everything that is pending does."""
    last_ns = max((pending.from_ns for pending in state.pending), default=0)
    return due(state, frame=None, now_ns=last_ns)
