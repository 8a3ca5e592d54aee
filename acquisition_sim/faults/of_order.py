"""Faults of the order in which spectra come: too often, not at all, too late, or all at once. Pure."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.random import Generator
from pydantic import Field

from acquisition_sim.faults.fault import Frames, Lasting, Memory, Sent
from eelstm_stream.wire.messages import Gap

MOST_HELD = 10_000  # spectra kept back at once: 80 MB at 2048 channels
Held = Annotated[int, Field(ge=1, le=MOST_HELD)]
AtLeastTwo = Annotated[int, Field(ge=2, le=MOST_HELD)]


class Duplicated(Lasting):
    """The same message comes again, at once."""

    KIND = "duplicated"

    copies: Annotated[int, Field(ge=1, le=1000, description="beyond the first")] = 1

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """The message and its copies."""
        return [spectrum] * (1 + self.copies)


class Dropped(Lasting):
    """The spectrum doesn't come; with `said`, a gap message comes in its place."""

    KIND = "dropped"

    said: bool = False

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Nothing, or the gap."""
        if not self.said or spectrum.message is None:
            return []
        lost = spectrum.message
        gap = Gap(
            session=lost.session,
            seq=0,  # it gets its number on the way out
            sent_mono_ns=lost.sent_mono_ns,
            first_seq=lost.seq,
            last_seq=lost.seq,
            reason="lost by the script of faults",
        )
        return [Sent([], gap, added=True)]


class Late(Lasting):
    """Its frames come late, right after another one that was taken some frames after the last of them."""

    KIND = "late"

    frames: Held = 1
    by_frames: Frames = 1

    @property
    def reach(self) -> int:
        """Its own frames, and those that overtake them."""
        return self.frames + self.by_frames

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Holds its frames, and lets them go after the one that comes in time."""
        if place < self.frames:
            memory.held.append(spectrum)
            return []
        if place < self.reach - 1:
            return [spectrum]
        return [spectrum, *_released(memory)]


class Reordered(Lasting):
    """Its frames come together, in an order drawn by lot that is not theirs."""

    KIND = "reordered"

    frames: AtLeastTwo

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Holds its frames up to the last."""
        if place >= self.frames:
            return [*_released(memory), spectrum]  # the last one itself was lost
        memory.held.append(spectrum)
        if place < self.frames - 1:
            return []
        waiting = _released(memory)
        order = random.permutation(len(waiting))
        while len(waiting) > 1 and (np.diff(order) == 1).all():
            order = random.permutation(len(waiting))
        return [waiting[number] for number in order]


class Burst(Lasting):
    """Its frames come all at once, with the last of them, in their order; and with them whatever else was to be said meanwhile."""

    KIND = "burst"

    frames: AtLeastTwo

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Holds its frames up to the last."""
        if place >= self.frames:
            return [*_released(memory), spectrum]  # the last one itself was lost
        memory.held.append(spectrum)
        return [] if place < self.frames - 1 else _released(memory)

    def on_other(self, sent: Sent, memory: Memory) -> list[Sent]:
        """Waits with the spectra: a gap that was told before them would say that they are lost."""
        if not memory.held:
            return [sent]
        memory.held.append(sent)
        return []


def _released(memory: Memory) -> list[Sent]:
    held, memory.held = memory.held, []
    return held
