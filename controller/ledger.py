"""The dose ledger: what was granted and what was given, charged against a budget. Pure.

Operations: `open_session`, `lease_until` (how far a lease may reach), `grant` a lease, take a `report`, `charge` a worst case.

Goals. What is charged never falls, and never passes the budget by anything that the guard does. Nothing needs to be refunded, and
nothing is counted twice: everything is a dose of the instrument's session, counted from its start, so that a lease granted
anew up to the same dose costs nothing, and one whose answer was lost costs no more than it allowed.

    charged = closed (earlier sessions, whole) + max(granted: the highest dose that any lease of this session reaches,
                                                     reported: the highest dose that the instrument told)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# An instrument's sum of frames may pass a lease's end by rounding (`core.lease.TOLERANCE`), and it is charged too.
ROUNDING = 1e-9
ROUNDING_BELOW = 2e-9  # taken off a lease that ends at the budget, so that with its own rounding it stays within


@dataclass(frozen=True, slots=True)
class Ledger:
    """pC. `session` is None until the instrument has named one."""

    budget_pC: float
    closed_pC: float = 0.0
    session: str | None = None
    granted_pC: float = 0.0
    reported_pC: float = 0.0

    @property
    def in_session_pC(self) -> float:
        """Charged in the present session."""
        return max(self.granted_pC, self.reported_pC)

    @property
    def charged_pC(self) -> float:
        """What counts against the budget. Never falls."""
        return self.closed_pC + self.in_session_pC

    @property
    def left_pC(self) -> float:
        """What is not charged; never below zero, also where an instrument gave more than it was allowed."""
        return max(0.0, self.budget_pC - self.charged_pC)

    @property
    def given_pC(self) -> float:
        """All that instruments told, and earlier sessions as charged."""
        return self.closed_pC + self.reported_pC

    def open_session(self, session: str) -> Ledger:
        """Another session begins, and the one before is closed as charged. The same one goes on."""
        if session == self.session:
            return self
        return Ledger(self.budget_pC, closed_pC=self.charged_pC, session=session)

    def lease_until(self, wanted_until_pC: float, overrun_pC: float) -> float:
        """The dose of the session that a lease may reach: as wanted, or as the budget allows.

        overrun_pC: what the beam may give beyond its lease while the blanker moves.
        """
        in_budget_pC = (self.budget_pC - self.closed_pC - overrun_pC) * (1 - ROUNDING_BELOW)
        if not wanted_until_pC <= in_budget_pC:
            return in_budget_pC
        return wanted_until_pC

    def grant(self, until_pC: float, overrun_pC: float) -> Ledger | None:
        """The ledger with a lease up to this dose of the session charged whole; None where the budget doesn't hold it."""
        reaches_pC = until_pC * (1 + ROUNDING) + overrun_pC
        if not self.closed_pC + reaches_pC <= self.budget_pC:
            return None
        if not self.charged_pC <= self.budget_pC:  # an instrument gave more than it was allowed
            return None
        return replace(self, granted_pC=max(self.granted_pC, reaches_pC))

    def allows(self, dose_pC: float) -> bool:
        """Whether the instrument may have given this much in the session."""
        return dose_pC <= max(self.granted_pC, self.reported_pC)

    def report(self, dose_pC: float) -> Ledger:
        """The instrument told its dose of the session. What it told before is not taken back."""
        if not dose_pC > self.reported_pC:
            return self
        return replace(self, reported_pC=dose_pC)

    def charge(self, until_pC: float) -> Ledger:
        """Charge up to this dose of the session since it can't be ruled out; at most what is left, which is all that matters."""
        most_pC = max(self.in_session_pC, self.budget_pC - self.closed_pC)
        if not until_pC <= most_pC:
            until_pC = most_pC
        return replace(self, granted_pC=max(self.granted_pC, until_pC))
