"""What an adapter brings to a `LeasedInstrument`: a microscope that exposes, blanks, sets, and says what holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from eelstm_stream.wire.messages import CommandLimits, Payload, Readback


class Microscope(Protocol):
    """Any of these may raise: the beam is blanked then, and the session ends as failed with what was raised."""

    limits: CommandLimits  # blank_delay_s > 0: of the blanker, and of a busy computer until it moves it
    readout_s: float  # what a frame usually takes beyond its dwell
    notes: tuple[str, ...]  # what a reader should know of these spectra

    def context(self) -> Mapping[str, Any]:
        """What the session's start says of source, energy axis, beam energy and specimen."""

    def readback(self) -> Readback:
        """What holds now, as the microscope says it: never what was ordered."""

    def set(self, dwell_s: float, current_pA: float) -> None:
        """Set dwell and current. The beam is blanked, and no frame is in progress."""

    def blank(self, blanked: bool) -> None:
        """Move the blanker, also during a frame; returns once it has moved."""

    def expose(self) -> Payload:
        """Take one frame, `(channel,)` counts; returns when it's read out. Called in a thread of its own."""

    def cut(self) -> None:
        """Let `expose` return soon, with whatever: its frame is thrown away."""

    def close(self) -> None:
        """Leave the microscope, blanked."""
