"""What all faults have in common: where they fall, what they see, and what they remember. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import Message, SessionStart, Spectrum
from eelstm_stream.wire.topics import split_topic

Frames = Annotated[int, Field(ge=1, le=1_000_000)]
SAME_TIME = 1 - 1e-9  # times of frames are sums of dwells, and rounded


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
    holds: bool = False  # whether it is in force between two spectra
    stranger: tuple[SessionStart, int] | None = None  # a second publisher's session, and our number when it began


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
        """What goes out in place of a spectrum.

        place: 0 for the first that it falls on. It's asked within its reach, and beyond as long as it holds something.
        """
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


def counts_of(spectrum: Sent) -> NDArray[np.float32]:
    """`(channel,)` counts, read-only."""
    return np.frombuffer(spectrum.frames[2], dtype="<f4")


def with_counts(spectrum: Sent, counts: NDArray[np.float32] | NDArray[np.uint16]) -> Sent:
    """A spectrum with other counts, and a header that fits them."""
    assert isinstance(spectrum.message, Spectrum)  # noqa: S101 - faults are shown spectra that can be read
    dtype = counts.dtype.newbyteorder("<").str
    header = spectrum.message.model_copy(update={"dtype": dtype, "shape": counts.shape})
    return replace(spectrum, frames=encode(split_topic(spectrum.frames[0])[0], header, counts), message=header)
