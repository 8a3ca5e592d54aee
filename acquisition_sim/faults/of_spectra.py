"""Faults of single spectra: of their bytes, and of their counts. Pure."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from pydantic import Field

from acquisition_sim.faults.fault import Lasting, Memory, Sent, counts_of, with_counts
from eelstm_stream.wire.messages import MAX_CHANNELS
from eelstm_stream.wire.topics import split_topic, topic

FULL_SCALE = 65_535  # of a 16-bit camera, where the session doesn't say at how many counts its own saturates


class RandomBytes(Lasting):
    """Random bytes come on the topics of spectra and sessions, before each of its frames, which pass."""

    KIND = "random_bytes"

    messages: Annotated[int, Field(ge=1, le=10_000, description="before each frame")] = 10

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
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

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """The message without the rest of the part."""
        cut = list(spectrum.frames)
        number = 2 if self.part == "payload" else 1
        cut[number] = cut[number][: int(random.integers(len(cut[number])))]
        return [Sent(cut, frame=spectrum.frame)]


class WrongDtype(Lasting):
    """The header says another type than the counts have, which stay float32."""

    KIND = "wrong_dtype"

    dtype: Literal["<f8", ">f4", "<i4", "<u2", "<u4"] = "<f8"

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """The same counts under another header."""
        topic_frame, header, payload = spectrum.frames
        said = json.dumps(json.loads(header) | {"dtype": self.dtype}, separators=(",", ":")).encode()
        return [Sent([topic_frame, said, payload], frame=spectrum.frame)]


class WrongShape(Lasting):
    """The spectrum has another number of channels than its session: it's cut off, or goes on with zeros. Header and counts agree."""

    KIND = "wrong_shape"

    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum of so many channels."""
        counts = counts_of(spectrum)[: self.channels]
        return [with_counts(spectrum, np.pad(counts, (0, self.channels - len(counts))))]


class BadCounts(Lasting):
    """Some channels, by lot, hold what is no count: NaN, infinity, or the counts below zero."""

    KIND = "bad_counts"

    value: Literal["nan", "inf", "-inf", "negative"] = "nan"
    in_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 1

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """A spectrum whose header is right."""
        counts = counts_of(spectrum).copy()
        hit = random.choice(len(counts), size=min(self.in_channels, len(counts)), replace=False)
        if self.value == "negative":
            counts[hit] = -1 - counts[hit]
            return [with_counts(spectrum, counts)]
        counts[hit] = float(self.value)  # nothing that our own codec would send
        return [Sent([*spectrum.frames[:2], counts.tobytes()], frame=spectrum.frame)]


class Saturated(Lasting):
    """Every channel is at its limit: what the session says, or 65 535 of a 16-bit camera where it says nothing."""

    KIND = "saturated"

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum, float32 or uint16."""
        limit = None if memory.start is None else memory.start.saturation_counts
        counts = counts_of(spectrum)
        if limit is None:
            return [with_counts(spectrum, np.full(counts.shape, FULL_SCALE, "<u2"))]
        return [with_counts(spectrum, np.full_like(counts, limit))]


class Zero(Lasting):
    """No channel has any counts."""

    KIND = "zero"

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """A well-formed spectrum of zeros."""
        return [with_counts(spectrum, np.zeros_like(counts_of(spectrum)))]


class Frozen(Lasting):
    """Numbers and times go on, and the counts are those of the spectrum before its first frame."""

    KIND = "frozen"

    def on(self, spectrum: Sent, place: int, memory: Memory, random: Generator) -> list[Sent]:
        """The old counts under the new header."""
        return [spectrum if memory.before is None else with_counts(spectrum, counts_of(memory.before))]
