"""Faults of an instrument and of its wire, a class each: what goes out in place of the spectra that they fall on. Pure.

A fault falls on a frame and those after it. It sees every spectrum of the session pass, and answers with what goes out in
its stead: nothing, the same, another, or several. What it holds back goes out with a later spectrum, never by a clock, so
that the same stream gives the same faults at any speed. `faulty_stream.py` leads a session's messages through all faults
of a script.

Spectra are `(channel,)` float32, as the simulator makes them. Nothing here checks that a fault makes sense in a session:
`fault_script.py` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator, model_validator

from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import MAX_CHANNELS, EnergyAxis, Gap, Message, SessionStart, Spectrum
from eelstm_stream.wire.topics import split_topic, topic

Frames = Annotated[int, Field(ge=1, le=1_000_000)]
MOST_HELD = 10_000  # spectra kept back at once: 80 MB at 2048 channels
Held = Annotated[int, Field(ge=1, le=MOST_HELD)]
AtLeastTwo = Annotated[int, Field(ge=2, le=MOST_HELD)]
MOST_COPIES = 1000
FULL_SCALE = 65_535  # of a 16-bit camera, where the session doesn't say at how many counts its own saturates
STRANGERS_SHARE = 0.9  # of our counts that a second publisher sends as its own: plausible, and not ours


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on its way out."""

    frames: list[bytes]
    message: Message | None = None  # what the frames say; None where they say nothing that can be read
    frame: int | None = None  # number of the instrument's own spectrum, over all restarts
    remembered: bool = True  # whether the instrument tells it to late joiners
    added: bool = False  # one more in the instrument's session: it takes a number of its own, and what follows moves up


@dataclass(slots=True)
class Memory:
    """What a fault knows of the session so far."""

    start: SessionStart | None = None
    now_s: float = 0.0  # by the instrument's time
    began_s: float | None = None  # when it fell on its first frame
    before: Sent | None = None  # last spectrum before that one
    held: list[Sent] = field(default_factory=list)
    is_silent: bool = False
    stranger: tuple[SessionStart, int] | None = (
        None  # a second publisher's session, and our number at its first spectrum
    )


class Fault(BaseModel, frozen=True, strict=True, extra="forbid", allow_inf_nan=False):
    """Where a fault falls: on a frame, or on the first that ends at or after a time of the session."""

    KIND: ClassVar[str]

    frame: Annotated[int, Field(ge=0, le=2**53)] | None = None
    at_s: Annotated[float, Field(ge=0, le=1e9)] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.frame is None) == (self.at_s is None):
            raise ValueError("give frame or at_s, one of the two")
        return self

    @property
    def reach(self) -> int:
        """Frames, from the first on, on which no other fault may fall."""
        return 1

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """What goes out in place of a spectrum. place: 0 for the first that it falls on; none comes before that."""
        return [spectrum]

    def on_other(self, sent: Sent, memory: Memory) -> list[Sent]:
        """What goes out in place of a message that is no spectrum of the instrument's."""
        return [sent]


class Lasting(Fault):
    """A fault of so many frames in a row, each by itself."""

    frames: Frames = 1

    @property
    def reach(self) -> int:
        """Its own frames."""
        return self.frames

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Its deed on its own frames; those after them pass."""
        return self.act(spectrum, memory, random) if place < self.frames else [spectrum]

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """What goes out in place of one of its own frames."""
        raise NotImplementedError


# Bytes


class RandomBytes(Lasting):
    """Random bytes come on the topics of spectra and sessions, before each of its frames, which pass."""

    KIND = "random_bytes"

    messages: Annotated[int, Field(ge=1, le=10_000, description="before each frame")] = 10

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """Messages of a topic and up to four frames of up to 300 bytes."""
        instrument, _ = split_topic(spectrum.frames[0])
        topics = topic(instrument, "spectrum"), topic(instrument, "session")
        garbage = [
            [topics[int(random.integers(2))], *(random.bytes(int(random.integers(300))) for _ in range(rest))]
            for rest in random.integers(5, size=self.messages)
        ]
        return [*map(Sent, garbage), spectrum]


class Truncated(Lasting):
    """The spectrum is cut off, somewhere in its counts or in its header."""

    KIND = "truncated"

    part: Literal["payload", "header"] = "payload"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """The message without the rest of the part."""
        cut = list(spectrum.frames)
        number = 2 if self.part == "payload" else 1
        cut[number] = cut[number][: int(random.integers(len(cut[number])))]
        return [Sent(cut, frame=spectrum.frame)]


class WrongDtype(Lasting):
    """The header says another type than the counts have, which stay float32."""

    KIND = "wrong_dtype"

    dtype: Literal["<f8", ">f4", "<i4", "<u2", "<u4"] = "<f8"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """The same counts under another header."""
        topic_frame, header, payload = spectrum.frames
        said = json.dumps(json.loads(header) | {"dtype": self.dtype}, separators=(",", ":")).encode()
        return [Sent([topic_frame, said, payload], frame=spectrum.frame)]


class WrongShape(Lasting):
    """The spectrum has another number of channels than its session: it's cut off, or goes on with zeros. Header and counts agree."""

    KIND = "wrong_shape"

    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum of so many channels."""
        counts = _counts(spectrum)[: self.channels]
        return [_with_counts(spectrum, np.pad(counts, (0, self.channels - len(counts))))]


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
        if memory.start is None or place not in (0, self.frames):
            return [spectrum]
        axis = self.energy_axis if place == 0 else memory.start.energy_axis
        again = memory.start.model_copy(update={"energy_axis": axis})
        return [Sent([], again, remembered=False, added=True), spectrum]


# Counts


class BadCounts(Lasting):
    """Some channels, by lot, hold what is no count: NaN, infinity, or the counts below zero."""

    KIND = "bad_counts"

    value: Literal["nan", "inf", "-inf", "negative"] = "nan"
    in_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """A spectrum whose header is right."""
        counts = _counts(spectrum).copy()
        hit = random.choice(len(counts), size=min(self.in_channels, len(counts)), replace=False)
        if self.value == "negative":
            counts[hit] = -1 - counts[hit]
            return [_with_counts(spectrum, counts)]
        counts[hit] = float(self.value)  # nothing that our own codec would send
        return [Sent([*spectrum.frames[:2], counts.tobytes()], frame=spectrum.frame)]


class Saturated(Lasting):
    """Every channel is at its limit: what the session says, or 65 535 of a 16-bit camera where it says nothing."""

    KIND = "saturated"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum, float32 or uint16."""
        limit = None if memory.start is None else memory.start.saturation_counts
        counts = _counts(spectrum)
        if limit is None:
            return [_with_counts(spectrum, np.full(counts.shape, FULL_SCALE, "<u2"))]
        return [_with_counts(spectrum, np.full_like(counts, limit))]


class Zero(Lasting):
    """No channel has any counts."""

    KIND = "zero"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum of zeros."""
        return [_with_counts(spectrum, np.zeros_like(_counts(spectrum)))]


class Frozen(Lasting):
    """Numbers and times go on, and the counts are those of the spectrum before its first frame."""

    KIND = "frozen"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """The old counts under the new header."""
        return [spectrum if memory.before is None else _with_counts(spectrum, _counts(memory.before))]


# Order


class Duplicated(Lasting):
    """The same message comes again, at once."""

    KIND = "duplicated"

    copies: Annotated[int, Field(ge=1, le=MOST_COPIES, description="beyond the first")] = 1

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """The message and its copies."""
        return [spectrum] * (1 + self.copies)


class Dropped(Lasting):
    """The spectrum doesn't come; with `said`, a gap message comes in its place."""

    KIND = "dropped"

    said: bool = False

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
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
    """Its frames come all at once, with the last of them, in their order."""

    KIND = "burst"

    frames: AtLeastTwo

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """Holds its frames up to the last."""
        if place >= self.frames:
            return [*_released(memory), spectrum]  # the last one itself was lost
        memory.held.append(spectrum)
        return [] if place < self.frames - 1 else _released(memory)


# The source


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
        memory.is_silent = place < self.frames if self.frames is not None else self._lasts(memory)
        return [] if memory.is_silent else [spectrum]

    def on_other(self, sent: Sent, memory: Memory) -> list[Sent]:
        """Nothing, from its first frame on."""
        if memory.is_silent and self.for_s is not None:
            memory.is_silent = self._lasts(memory)
        return [] if memory.is_silent else [sent]

    def _lasts(self, memory: Memory) -> bool:
        assert self.for_s is not None  # noqa: S101 - without frames, there is a time
        return memory.began_s is None or memory.now_s < memory.began_s + self.for_s


class SecondPublisher(Lasting):
    """Somebody else publishes under the same name: a session of its own, begun with its first frame, one spectrum after each of ours."""

    KIND = "second_publisher"

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
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
        counts = np.rint(_counts(spectrum) * np.float32(STRANGERS_SHARE))
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

    def act(self, spectrum: Sent, memory: Memory, random: Generator) -> list[Sent]:
        """The spectra say what was done."""
        return [spectrum]


KINDS: Mapping[str, type[Fault]] = {
    fault.KIND: fault
    for fault in (
        *(RandomBytes, Truncated, WrongDtype, WrongShape, WrongAxis, BadCounts, Saturated, Zero, Frozen, Duplicated),
        *(Dropped, Late, Reordered, Burst, Silence, SecondPublisher, Restart, OtherThanOrdered),
    )
}


def _counts(spectrum: Sent) -> NDArray[np.float32]:
    """`(channel,)` counts, read-only."""
    return np.frombuffer(spectrum.frames[2], dtype="<f4")


def _with_counts(spectrum: Sent, counts: NDArray[np.float32] | NDArray[np.uint16]) -> Sent:
    """A spectrum with other counts, and a header that fits them."""
    assert isinstance(spectrum.message, Spectrum)  # noqa: S101 - faults are shown spectra that can be read
    dtype = counts.dtype.newbyteorder("<").str
    header = spectrum.message.model_copy(update={"dtype": dtype, "shape": counts.shape})
    return replace(spectrum, frames=encode(split_topic(spectrum.frames[0])[0], header, counts), message=header)


def _released(memory: Memory) -> list[Sent]:
    held, memory.held = memory.held, []
    return held
