"""What an adapter's beam was ordered to do, and how long it may. Pure: for instruments whose frames are real, not reckoned.

Operations: `take` a command; before each frame ask what of it is `not_covered`; while the beam is on, know when it must be `off_by_ns`;
`report` what holds.

Goals. A command is obeyed whole or refused whole, with the name of what it broke. No frame begins unless the lease covers it,
with the time that the camera takes to read it out, and that it takes to get the beam off. And since a camera may take longer than
it should, a beam that is on has a time at which it's blanked whatever the camera does: so long before its lease ends, or before the
dose that it may give is given, that it's off by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from eelstm_stream.core.command_gate import CommandGate, Refused
from eelstm_stream.core.lease import Lease
from eelstm_stream.wire.messages import BeamReport, Command, CommandLimits, LeaseReport, Readback


@dataclass(frozen=True, slots=True)
class Orders:
    """What was ordered, and holds from the next frame on."""

    gate: CommandGate
    dwell_s: float
    current_pA: float
    let_on: bool = False
    lease: Lease | None = None
    why_blanked: str = "nothing was commanded yet"

    def blanked(self, why: str) -> Orders:
        """The beam blanked, and the lease gone. why: one clause, for a person."""
        return replace(self, let_on=False, lease=None, why_blanked=why)


def blanks(orders: Orders, commands: Iterable[Command], limits: CommandLimits, *, now_ns: int) -> bool:
    """Whether one of these commands, taken one after the other, blanks the beam: that must wait for none of the others."""
    gate = orders.gate
    for command in commands:
        gate, refused = gate.admit(command, now_ns)
        if command.blanked is True and refused is None and _beyond(limits, command) is None:
            return True
    return False


def take(
    orders: Orders,
    command: Command,
    limits: CommandLimits,
    *,
    now_ns: int,
    dose_pC: float,
    after_dwell_s: float,
    measured: Readback | None = None,
) -> tuple[Orders, Refused | None]:
    """Take a command; a refused one changes nothing but uses its number.

    now_ns: by the monotonic clock of the instrument's messages. dose_pC: of the session, the frame in progress counted whole.
    after_dwell_s: what a frame takes beyond its dwell, until the beam is off. measured: with the dwell and the current of these
    orders; None: not yet.
    """
    gate, refused = orders.gate.admit(command, now_ns)
    orders = replace(orders, gate=gate)
    refused = refused or _beyond(limits, command)
    if refused is not None:
        return orders, refused
    ordered = replace(
        orders,
        dwell_s=orders.dwell_s if command.dwell_s is None else command.dwell_s,
        current_pA=orders.current_pA if command.beam_current_pA is None else command.beam_current_pA,
    )
    if command.blanked is True:
        return ordered.blanked("it was commanded"), None
    if command.lease_s is None:
        return ordered, None
    until_dose_pC = math.inf if command.lease_until_dose_pC is None else command.lease_until_dose_pC
    lease = Lease(now_ns + round(command.lease_s * 1e9), until_dose_pC)
    ordered = replace(ordered, lease=lease, let_on=ordered.let_on or command.blanked is False)
    as_before = (ordered.dwell_s, ordered.current_pA) == (orders.dwell_s, orders.current_pA)
    frame = ordered if measured is None or not as_before else at_least(ordered, measured)
    refused = not_covered(frame, lease, now_ns=now_ns, dose_pC=dose_pC, after_dwell_s=after_dwell_s)
    if refused is None:
        return ordered, None
    return orders, Refused(refused.limit, f"no frame is covered: {refused.reason}.")


def undone(orders: Orders, command: Command, before: Orders) -> Orders:
    """Without the dwell and the current of a command that turned out not to be possible. before: the orders until it came."""
    return replace(
        orders,
        dwell_s=before.dwell_s if orders.dwell_s == command.dwell_s else orders.dwell_s,
        current_pA=before.current_pA if orders.current_pA == command.beam_current_pA else orders.current_pA,
    )


def at_least(orders: Orders, measured: Readback) -> Orders:
    """With dwell and current as they were ordered or as they are measured, whichever is more."""
    return replace(
        orders,
        dwell_s=max(orders.dwell_s, measured.dwell_s),
        current_pA=max(orders.current_pA, measured.beam_current_pA),
    )


def not_covered(orders: Orders, lease: Lease, *, now_ns: int, dose_pC: float, after_dwell_s: float) -> Refused | None:
    """What of the next frame, begun now, the lease would not cover, in one clause; None where it covers all of it."""
    takes_s = orders.dwell_s + after_dwell_s
    after_pC = dose_pC + orders.current_pA * takes_s
    until_ns = now_ns + round(takes_s * 1e9)
    if lease.covers(until_ns=until_ns, dose_pC=after_pC):
        return None
    if until_ns > lease.ends_ns:
        left_s = max(0, lease.ends_ns - now_ns) / 1e9
        return Refused(
            "lease_s", f"the lease has {left_s:.3f} s left, and a frame takes {takes_s:g} s until the beam is off"
        )
    reason = (
        f"the lease ends at {lease.until_dose_pC:g} pC, and a frame, until the beam is off, would bring the session from "
        f"{dose_pC:g} to {after_pC:g} pC"
    )
    return Refused("lease_until_dose_pC", reason)


def off_by_ns(lease: Lease, *, now_ns: int, dose_pC: float, current_pA: float, takes_s: float) -> int:
    """When to begin to blank a beam that is on, so that it's off where its lease ends.

    dose_pC: of the session now; current_pA: that it has; takes_s: to blank it, with the time until that is noticed to be due.
    """
    takes_ns = round(takes_s * 1e9)
    ends_ns = lease.ends_ns - takes_ns
    if current_pA <= 0:
        return ends_ns
    left_ns = (lease.until_dose_pC - dose_pC) / current_pA * 1e9 - takes_ns
    return ends_ns if now_ns + left_ns >= ends_ns else now_ns + max(0, math.floor(left_ns))


def report(orders: Orders, read: Readback, *, next_seq: int, dose_pC: float, now_ns: int) -> BeamReport:
    """What the instrument says of its beam. read: what it says that holds; dose_pC: the frame in progress counted whole."""
    lease = orders.lease
    shown = None
    if lease is not None:
        shown = LeaseReport(
            left_s=max(0, lease.ends_ns - now_ns) / 1e9,
            ends_mono_ns=lease.ends_ns,
            until_dose_pC=None if math.isinf(lease.until_dose_pC) else lease.until_dose_pC,
        )
    return BeamReport(
        readback=read,
        ordered=Readback(dwell_s=orders.dwell_s, beam_current_pA=orders.current_pA, blanked=not orders.let_on),
        holds_from_seq=next_seq,
        next_seq=next_seq,
        taken_seq=orders.gate.taken_seq,
        dose_pC=dose_pC,
        lease=shown,
    )


def _beyond(limits: CommandLimits, command: Command) -> Refused | None:
    """The limit that a command breaks. Comparisons are such that a NaN would break it."""
    if command.beam_current_pA is not None and limits.max_current_pA is None:
        return Refused("max_current_pA", "no current can be ordered here.")
    for name, unit, ordered, lowest, highest in (
        ("dwell", "s", command.dwell_s, limits.min_dwell_s, limits.max_dwell_s),
        ("current", "pA", command.beam_current_pA, limits.min_current_pA, limits.max_current_pA),
        ("lease", "s", command.lease_s, None, limits.max_lease_s),
    ):
        if ordered is None:
            continue
        said = f"the {name} ordered, {ordered:g} {unit}, is"
        if lowest is not None and not ordered >= lowest:
            return Refused(f"min_{name}_{unit}", f"{said} below the limit of {lowest:g} {unit}.")
        if highest is not None and not ordered <= highest:
            return Refused(f"max_{name}_{unit}", f"{said} above the limit of {highest:g} {unit}.")
    return None
