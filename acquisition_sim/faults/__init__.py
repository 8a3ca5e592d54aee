"""Faults of an instrument and of its wire, a class each: what goes out in place of the spectra that they fall on. Pure.

A fault falls on a frame and those after it. It sees every spectrum of the session pass, and answers with what goes out in
its stead: nothing, the same, another, or several. What it holds back goes out with a later spectrum, never by a clock, so
that the same stream gives the same faults at any speed.

`script.py` reads faults from a file and refuses what makes no sense in a session; `stream.py` leads a session's messages
through them.
"""

from __future__ import annotations

from collections.abc import Mapping

from acquisition_sim.faults.fault import Fault
from acquisition_sim.faults.of_order import Burst, Dropped, Duplicated, Late, Reordered
from acquisition_sim.faults.of_source import OtherThanOrdered, Restart, SecondPublisher, Silence, WrongAxis
from acquisition_sim.faults.of_spectra import (
    BadCounts,
    Frozen,
    RandomBytes,
    Saturated,
    Truncated,
    WrongDtype,
    WrongShape,
    Zero,
)

KINDS: Mapping[str, type[Fault]] = {
    fault.KIND: fault
    for fault in (
        *(RandomBytes, Truncated, WrongDtype, WrongShape, WrongAxis, BadCounts, Saturated, Zero, Frozen, Duplicated),
        *(Dropped, Late, Reordered, Burst, Silence, SecondPublisher, Restart, OtherThanOrdered),
    )
}

__all__ = [
    "KINDS", "BadCounts", "Burst", "Dropped", "Duplicated", "Fault", "Frozen", "Late", "OtherThanOrdered", "RandomBytes",
    "Reordered", "Restart", "Saturated", "SecondPublisher", "Silence", "Truncated", "WrongAxis", "WrongDtype", "WrongShape",
    "Zero",
]  # fmt: skip
