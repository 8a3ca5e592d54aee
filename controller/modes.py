"""The guard's modes. Everything that moves it from one to another is in this file, in one table.

    DISARMED       nothing is granted, the beam is blanked: so it starts, and so each session starts
    AUTO           proposals are granted leases
    HOLD           armed, but no proposal was admitted in time: the last rate goes on until its lease ends, which is not renewed
    OVERRIDE       a fixed rate that an operator set, under leases that the guard renews
    BLANK          armed, and blanked: the next proposal that is admitted lets the beam on again
    BLANK_LATCHED  blanked until an operator clears it, which leads to DISARMED

Priority: BLANK_LATCHED > BLANK > OVERRIDE > HOLD > AUTO. What the guard sees by itself never leads to a mode of lower priority:
only a proposal admitted (out of HOLD or BLANK) and an operator do. Only an operator leads out of DISARMED and OVERRIDE into
AUTO, and only `clear` out of BLANK_LATCHED.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Mode(StrEnum):
    """As on the wire, lowest priority first; DISARMED stands apart: nothing is armed."""

    DISARMED = "disarmed"
    AUTO = "auto"
    HOLD = "hold"
    OVERRIDE = "override"
    BLANK = "blank"
    BLANK_LATCHED = "blank_latched"


class ModeEvent(StrEnum):
    """What can move the guard."""

    ADMITTED = "admitted"  # a proposal was granted a lease
    STALE = "stale"  # no proposal was admitted for too long
    LEASE_ENDED = "lease_ended"  # and was not renewed
    BUDGET_SPENT = "budget_spent"  # no whole frame is left
    CONTROLLER_BLANK = "controller_blank"  # a proposal asks for the beam to be blanked
    SOURCE_SILENT = "source_silent"  # the instrument says nothing; its return does not re-arm
    NEW_SESSION = "new_session"  # or the end of one
    LATCH = "latch"  # something that a person must look at
    OPERATOR_ARM = "arm"
    OPERATOR_DISARM = "disarm"
    OPERATOR_BLANK = "blank"
    OPERATOR_CLEAR = "clear"
    OPERATOR_OVERRIDE = "override"


D, A, H, O, B, L = Mode  # noqa: E741 - so that the table below is one to read

_COLUMNS = (D, A, H, O, B, L)
_TABLE: Mapping[ModeEvent, tuple[Mode, ...]] = {
    #                            from D  A  H  O  B  L
    ModeEvent.ADMITTED: (D, A, A, O, A, L),
    ModeEvent.STALE: (D, H, H, O, B, L),
    ModeEvent.LEASE_ENDED: (D, B, B, D, B, L),
    ModeEvent.BUDGET_SPENT: (D, H, H, D, B, L),
    ModeEvent.CONTROLLER_BLANK: (D, B, B, O, B, L),
    ModeEvent.SOURCE_SILENT: (D, H, H, D, D, L),
    ModeEvent.NEW_SESSION: (D, D, D, D, D, L),
    ModeEvent.LATCH: (L, L, L, L, L, L),
    ModeEvent.OPERATOR_ARM: (A, A, H, A, B, L),
    ModeEvent.OPERATOR_DISARM: (D, D, D, D, D, L),
    ModeEvent.OPERATOR_BLANK: (L, L, L, L, L, L),
    ModeEvent.OPERATOR_CLEAR: (D, A, H, O, B, D),
    ModeEvent.OPERATOR_OVERRIDE: (O, O, O, O, O, L),
}
TRANSITIONS: Mapping[tuple[Mode, ModeEvent], Mode] = {
    (mode, event): following for event, row in _TABLE.items() for mode, following in zip(_COLUMNS, row, strict=True)
}

BLANKED = frozenset((D, B, L))  # no beam belongs to these: where one is on, it is blanked
TAKES_PROPOSALS = frozenset((A, H, B))  # armed


def after(mode: Mode, event: ModeEvent) -> Mode:
    """The mode that follows."""
    return TRANSITIONS[mode, event]
