"""The clocks. The monotonic one orders and times everything; the wall clock only dates things for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def monotonic_ns() -> int:
    """Monotonic clock, ns. On Linux it is one for all processes of a host since its boot."""
    return time.monotonic_ns()


def utc_now() -> datetime:
    """Wall clock, UTC."""
    return datetime.now(UTC)


def clock_id() -> str:
    """A name that two processes share exactly when their monotonic clocks compare: the boot of this host.

    Where the system does not tell, the name is this process's own start, so that nothing compares.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"process-{time.time_ns()}"
