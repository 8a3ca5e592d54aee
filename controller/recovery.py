"""A guard that starts on the journal of the one before: what was charged stays charged, and what was lost is charged at its worst."""

from __future__ import annotations

from typing import Any

from controller.guard_state import GuardState, start
from controller.journal_entries import Marks, ledger_of
from controller.ledger import Ledger
from controller.limits import Limits

NOTHING = Marks(0.0, None, 0.0, 0.0, None, None)


def recover(
    marked: dict[str, Any] | None, limits: Limits, *, torn: bool, clock_id: str, now_ns: int, approve_each: bool
) -> GuardState:
    """A guard's first state: disarmed, with the ledger as the last entry left it. A lease that was granted is charged whole.

    marked: the newest entry of the journal that has marks. torn: an entry was lost, which may have granted one lease more.
    """
    left = NOTHING if marked is None else Marks(**marked["marks"])
    ledger = ledger_of(left, limits.budget_pC)
    if torn:
        ledger = _with_a_longest_lease(ledger, limits, left)
    return start(
        limits,
        ledger,
        clock_id=clock_id,
        now_ns=now_ns,
        approve_each=approve_each,
        proposal_seq=left.proposal_seq,
        operator_seq=left.operator_seq,
    )


def _with_a_longest_lease(ledger: Ledger, limits: Limits, left: Marks) -> Ledger:
    """By the limits of the guard that wrote it, or by those of this one, whichever is more."""
    ours_pC = limits.max_current_pA * (limits.max_lease_s + limits.command_within_s)
    return ledger.charge(ledger.in_session_pC + max(ours_pC, left.next_lease_pC))
