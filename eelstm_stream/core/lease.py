"""Leave to keep the beam on, for a time and up to a dose. Pure: for whatever has a beam, and must end it by itself.

Whole frames only: one begins if the lease covers all of it, so that a lease never ends in the middle of a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Doses are sums of products: a frame that ends exactly where its lease does should not miss it by a last bit.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Lease:
    """Ends at a time, by a monotonic clock, or at a dose of the session, whichever comes first."""

    ends_ns: int
    until_dose_pC: float = math.inf

    def covers(self, *, until_ns: int, dose_pC: float) -> bool:
        """Whether the beam may be on until then, if the session's dose will be this much then."""
        return until_ns <= self.ends_ns and dose_pC <= self.until_dose_pC * (1 + TOLERANCE)
