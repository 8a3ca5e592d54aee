"""What the guard lets pass: the person's limits, narrowed to what the instrument of the session can do. Pure.

Operations: `contradiction` says what is wrong with limits before anything starts; `bounds_for` narrows them to a session;
`admitted` cuts a wanted rate and lease to them, or says what they break.

Every comparison is written so that a NaN fails it: `if not value <= limit`, never `if value > limit`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Literal

from eelstm_stream.wire.messages import MIN_PA, SessionStart

# A pause must not save up a jump: the current rises by at most this much time's worth of its slew at once.
LONGEST_RISE_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a person allows the guard to allow. All finite; `contradiction` checks them."""

    budget_pC: float  # that may be charged in all
    max_current_pA: float  # highest dose rate, pC/s
    min_dwell_s: float = 0.001
    max_dwell_s: float = 1.0
    max_lease_s: float = 2.0  # how long the beam may be on without another decision, s
    increase_pA_per_s: float = 100.0  # slew of the current upwards; downwards there is none
    healthy_within_s: float = 2.0  # without an admitted proposal for so long, the guard holds
    silent_after_s: float = 3.0  # an instrument that said nothing for so long is silent
    spectrum_within_s: float = 10.0  # a proposal that rests on an older spectrum, under a beam that is on, is refused
    command_within_s: float = 0.5  # a command expires after this, and its answer is unknown
    approve_within_s: float = 30.0  # a proposal that waits for approval expires after this
    readback_tolerance: float = 0.05  # relative difference between order and readback that is no difference


@dataclass(frozen=True, slots=True)
class Broken:
    """A limit that something breaks, by its name, and one sentence on it."""

    limit: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rate:
    """What a frame is exposed with."""

    dwell_s: float
    current_pA: float

    @property
    def dose_pC(self) -> float:
        """Of one frame."""
        return self.dwell_s * self.current_pA


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits in a session: those of the person and of the instrument, whichever is narrower."""

    min_current_pA: float
    max_current_pA: float
    min_dwell_s: float
    max_dwell_s: float
    max_lease_s: float
    orders_current: bool  # false: the instrument's current is what it is, and between the two above
    blank_delay_s: float
    instrument_pA: float  # the highest current that the instrument can do, whatever the guard allows


@dataclass(frozen=True, slots=True)
class Admitted:
    """A rate and a lease within the limits."""

    rate: Rate
    lease_s: float
    clamped: Broken | None  # the first limit that it was cut to


def contradiction(limits: Limits) -> Broken | None:
    """What is wrong with these limits by themselves, or None."""
    for field in fields(limits):
        value = getattr(limits, field.name)
        if not isfinite(value):
            return Broken(field.name, f"{field.name} is {value}, and it must be a finite number.")
        if not value > 0:
            return Broken(field.name, f"{field.name} is {value:g}, and it must be above 0.")
    if not limits.min_dwell_s <= limits.max_dwell_s:
        reason = f"min_dwell_s, {limits.min_dwell_s:g} s, is above max_dwell_s, {limits.max_dwell_s:g} s."
        return Broken("min_dwell_s", reason)
    if not limits.max_dwell_s <= limits.max_lease_s:
        reason = f"max_dwell_s, {limits.max_dwell_s:g} s, is above max_lease_s, {limits.max_lease_s:g} s: no lease would cover a frame."
        return Broken("max_dwell_s", reason)
    if not limits.max_current_pA * limits.min_dwell_s <= limits.budget_pC:
        reason = (
            f"budget_pC, {limits.budget_pC:g} pC, is less than the shortest frame at max_current_pA, "
            f"{limits.max_current_pA * limits.min_dwell_s:g} pC."
        )
        return Broken("budget_pC", reason)
    if not limits.readback_tolerance < 1:
        return Broken(
            "readback_tolerance", f"readback_tolerance is {limits.readback_tolerance:g}, and it must be below 1."
        )
    return None


def bounds_for(limits: Limits, session: SessionStart) -> Bounds | Broken:
    """The limits in this session, or why it can't be controlled."""
    instrument = session.commands
    if instrument is None:
        return Broken("commands", f"session {session.session} takes no commands, so there is nothing to guard.")
    current_pA = session.beam_current_pA
    if session.dose_is_relative or current_pA is None:
        reason = f"session {session.session} doesn't know its beam current, so no dose in pC can be guarded: give the instrument its current."
        return Broken("dose_is_relative", reason)
    min_current_pA, max_current_pA = instrument.min_current_pA, instrument.max_current_pA
    orders_current = max_current_pA is not None
    lowest_pA = current_pA if max_current_pA is None else (min_current_pA or MIN_PA)
    highest_pA = current_pA if max_current_pA is None else max_current_pA
    bounds = Bounds(
        min_current_pA=lowest_pA,
        max_current_pA=min(limits.max_current_pA, highest_pA),
        min_dwell_s=max(limits.min_dwell_s, instrument.min_dwell_s),
        max_dwell_s=min(limits.max_dwell_s, instrument.max_dwell_s),
        max_lease_s=min(limits.max_lease_s, instrument.max_lease_s),
        orders_current=orders_current,
        blank_delay_s=instrument.blank_delay_s,
        instrument_pA=highest_pA,
    )
    if not lowest_pA <= bounds.max_current_pA:
        reason = (
            f"the guard's max_current_pA, {limits.max_current_pA:g} pA, is below what the instrument can go down to, "
            f"{lowest_pA:g} pA."
        )
        return Broken("max_current_pA", reason)
    if not bounds.min_dwell_s <= bounds.max_dwell_s:
        reason = (
            f"the guard allows dwells of {limits.min_dwell_s:g} to {limits.max_dwell_s:g} s, and the instrument can do "
            f"{instrument.min_dwell_s:g} to {instrument.max_dwell_s:g} s: none is both."
        )
        return Broken("max_dwell_s", reason)
    if not bounds.min_dwell_s <= bounds.max_lease_s:
        reason = (
            f"a lease lasts at most {bounds.max_lease_s:g} s, and the shortest frame {bounds.min_dwell_s:g} s: "
            f"no lease would cover a frame."
        )
        return Broken("max_lease_s", reason)
    return bounds


def not_finite(numbers: dict[str, float]) -> Broken | None:
    """The first of these that is no finite number."""
    for name, value in numbers.items():
        if not isfinite(value):
            return Broken("finite", f"{name} is {value}, and no number to act on.")
    return None


def highest_current_pA(limits: Limits, current_pA: float, since_s: float) -> float:
    """How high the current may be ordered now. current_pA: the last order; since_s: time since then."""
    rise_s = max(0.0, min(since_s, LONGEST_RISE_S))
    return current_pA + limits.increase_pA_per_s * rise_s


def admitted(bounds: Bounds, wanted: Rate, lease_s: float, highest_pA: float) -> Admitted | Broken:
    """A rate and a lease cut to the limits, or what they break: what can't be had by giving less.

    highest_pA: by the slew. Where no current can be ordered, the one wanted is not looked at.
    """
    clamps: list[Broken] = []
    current_pA = wanted.current_pA if bounds.orders_current else bounds.min_current_pA
    highest, limit = bounds.max_current_pA, "max_current_pA"
    if not highest <= highest_pA:
        highest, limit = highest_pA, "increase_pA_per_s"
    if not current_pA <= highest:
        clamps.append(_cut(limit, "current", "pA", current_pA, highest))
        current_pA = highest
    if not current_pA >= bounds.min_current_pA:
        reason = f"a current of {current_pA:g} pA is below the {bounds.min_current_pA:g} pA that the instrument can do: blank instead."
        return Broken("min_current_pA", reason)
    if not current_pA > 0:
        return Broken("min_current_pA", f"a current of {current_pA:g} pA is no beam: blank instead.")
    dwell_s = wanted.dwell_s
    if not dwell_s >= bounds.min_dwell_s:
        clamps.append(_cut("min_dwell_s", "dwell", "s", dwell_s, bounds.min_dwell_s, "below"))
        dwell_s = bounds.min_dwell_s
    if not dwell_s <= bounds.max_dwell_s:
        clamps.append(_cut("max_dwell_s", "dwell", "s", dwell_s, bounds.max_dwell_s))
        dwell_s = bounds.max_dwell_s
    if not lease_s <= bounds.max_lease_s:
        clamps.append(_cut("max_lease_s", "lease", "s", lease_s, bounds.max_lease_s))
        lease_s = bounds.max_lease_s
    if not lease_s >= dwell_s:
        return Broken("lease_s", f"a lease of {lease_s:g} s covers no frame of {dwell_s:g} s.")
    return Admitted(Rate(dwell_s, current_pA), lease_s, clamps[0] if clamps else None)


def differs(ordered: float, read: float, tolerance: float) -> bool:
    """Whether a readback is another value than what was ordered."""
    return not abs(read - ordered) <= tolerance * abs(ordered)


def _cut(
    limit: str, what: str, unit: str, wanted: float, allowed: float, side: Literal["above", "below"] = "above"
) -> Broken:
    reason = f"the {what} wanted, {wanted:g} {unit}, is {side} the {allowed:g} {unit} allowed now, and was cut to that."
    return Broken(limit, reason)
