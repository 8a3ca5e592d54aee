"""Faults of the source: what it says of itself, whether it speaks at all, and whether it does what it is told. Pure."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.random import Generator
from pydantic import Field, field_validator, model_validator

from acquisition_sim.faults.fault import SAME_TIME, Fault, Frames, Lasting, Memory, Sent, counts_of
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import EnergyAxis, Spectrum
from eelstm_stream.wire.topics import split_topic

STRANGERS_SHARE = 0.9  # of our counts that a second publisher sends as its own: plausible, and not ours


class WrongAxis(Lasting):
    """The session is announced again with another energy axis before its first frame, and as it was after its last."""

    KIND = "wrong_axis"

    energy_axis: EnergyAxis

    @field_validator("energy_axis", mode="before")
    @classmethod
    def _known_keys(cls, axis: object) -> object:
        """On the wire an axis may have keys from a newer sender; here they're misspelt."""
        if isinstance(axis, dict) and (unknown := sorted(set(axis) - set(EnergyAxis.model_fields))):
            raise ValueError(f"{unknown[0]} is no key of an energy axis")
        return axis

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """The spectra pass as they are: what they mean is in doubt."""
        is_other = place < self.frames
        if memory.start is None or memory.holds == is_other:
            return [spectrum]
        memory.holds = is_other
        axis = self.energy_axis if is_other else memory.start.energy_axis
        again = memory.start.model_copy(update={"energy_axis": axis})
        return [Sent([], again, remembered=False, added=True), spectrum]


class Silence(Fault):
    """Nothing is published, for so many frames or so long; what would have been is lost. Commands are still answered."""

    KIND = "silence"

    frames: Frames | None = None
    for_s: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _for_so_long(self) -> Self:
        if (self.frames is None) == (self.for_s is None):
            raise ValueError("give frames or for_s, one of the two")
        return self

    @property
    def reach(self) -> int:
        """Its frames, where they are known."""
        return 1 if self.frames is None else self.frames

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Nothing until it's over, which a spectrum or the time tells."""
        memory.holds = place < self.frames if self.frames is not None else self._lasts(memory)
        return [] if memory.holds else [spectrum]

    def on_other(self, sent: Sent, memory: Memory) -> list[Sent]:
        """Nothing, from its first frame on."""
        if memory.holds and self.for_s is not None:
            memory.holds = self._lasts(memory)
        return [] if memory.holds else [sent]

    def _lasts(self, memory: Memory) -> bool:
        assert self.for_s is not None  # noqa: S101 - without frames, there is a time
        return memory.began_s is None or memory.now_s < (memory.began_s + self.for_s) * SAME_TIME


class SecondPublisher(Lasting):
    """Somebody else publishes under the same name: a session of its own, begun with its first frame, one spectrum after each of ours."""

    KIND = "second_publisher"

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Ours, and the other one's."""
        if memory.start is None or not isinstance(spectrum.message, Spectrum):
            return [spectrum]
        instrument, _ = split_topic(spectrum.frames[0])
        theirs: list[Sent] = []
        if memory.stranger is None:
            session = {"session": f"second-{random.bytes(6).hex()}", "seq": 0, "source_name": "a second publisher"}
            begun = memory.start.model_copy(update=session)
            memory.stranger = begun, spectrum.message.seq
            theirs.append(Sent(encode(instrument, begun), begun, remembered=False))
        begun, first_seq = memory.stranger
        numbered = {"session": begun.session, "seq": spectrum.message.seq - first_seq}
        header = spectrum.message.model_copy(update=numbered)
        counts = np.rint(counts_of(spectrum) * np.float32(STRANGERS_SHARE))
        theirs.append(Sent(encode(instrument, header, counts), header, remembered=False))
        return [spectrum, *theirs]


class Restart(Fault):
    """The instrument is started again before its frame: a new session without an end of the old one, numbers from 0.

    The specimen stays as it was. An instrument that obeys is blanked, and knows no command of before.
    """

    KIND = "restart"


class OtherThanOrdered(Lasting):
    """Commands taken during its frames are obeyed with another dwell or current than they order, and answered so."""

    KIND = "other_than_ordered"

    dwell_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0
    current_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @model_validator(mode="after")
    def _other(self) -> Self:
        if self.dwell_factor == self.current_factor == 1:
            raise ValueError("give dwell_factor or current_factor, and not 1: nothing would be wrong")
        return self
