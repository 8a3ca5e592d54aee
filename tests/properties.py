"""How property tests run here: the same examples every time, and no verdict on how long one takes.

To look for new counterexamples, turn `derandomize` off and `max_examples` up for a while.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Decorator for a property test that is tried on so many examples."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
