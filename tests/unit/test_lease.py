"""A lease covers whole frames, in time and in dose."""

from __future__ import annotations

import pytest

from eelstm_stream.core.lease import Lease

LEASE = Lease(ends_ns=2_000_000_000, until_dose_pC=920.0)


@pytest.mark.parametrize(
    ("until_ns", "dose_pC", "covered"),
    [
        (2_000_000_000, 920.0, True),
        (2_000_000_001, 920.0, False),
        (2_000_000_000, 920.001, False),
        (0, 0.0, True),
    ],
)
def test_it_covers_what_ends_by_its_end_and_its_dose(until_ns, dose_pC, covered):
    assert LEASE.covers(until_ns=until_ns, dose_pC=dose_pC) is covered


def test_without_a_dose_only_time_counts():
    assert Lease(10).covers(until_ns=10, dose_pC=1e30)


def test_frames_that_end_exactly_at_its_dose_are_all_covered():
    given_pC = 0.0
    for _ in range(10):
        given_pC += 0.1 * 23.0  # ten of them go beyond 23 by a last bit
    assert given_pC > 23.0
    assert Lease(1, 23.0).covers(until_ns=0, dose_pC=given_pC)
