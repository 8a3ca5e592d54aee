"""The dose programme of a run: the dwell and the current of each of its frames. Pure.

Constant, as in the paper; or changed at random every few frames, within limits, for models and controllers that must bear
it. A programme follows from its seed, and its beginning does not depend on how long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, Strict, model_validator

OF_THE_PROGRAMME = 0xD05E  # beside the seed: keeps this stream apart from any other that is made from a seed

AList = Strict(False)  # TOML knows lists only
Seconds = Annotated[float, Field(gt=0, le=3600)]
Picoamperes = Annotated[float, Field(gt=0, le=1e6)]
Frames = Annotated[int, Field(ge=1, le=100_000)]


class ProgrammeLimits(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """Between what a varied programme moves. Each pair is [lowest, highest]."""

    dwell_s: Annotated[tuple[Seconds, Seconds], AList]
    current_pA: Annotated[tuple[Picoamperes, Picoamperes], AList]
    frames: Annotated[tuple[Frames, Frames], AList] = Field(description="from one change to the next")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("dwell_s", "current_pA", "frames"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [lowest, highest], and it is [{low:g}, {high:g}]")
        return self


@dataclass(frozen=True, slots=True)
class Step:
    """What holds from one frame on, until the next step."""

    from_frame: int
    dwell_s: float
    current_pA: float


def constant(dwell_s: float, current_pA: float) -> tuple[Step, ...]:
    """One dwell and one current for all frames."""
    return (Step(0, dwell_s, current_pA),)


def changing(limits: ProgrammeLimits, frames: int, seed: int, *, first: Step) -> tuple[Step, ...]:
    """Steps for so many frames, after a first one that is given. Dwells and currents are as likely in any octave."""
    random = np.random.Generator(np.random.PCG64DXSM([OF_THE_PROGRAMME, seed]))
    steps = [first]
    while True:
        next_frame = steps[-1].from_frame + int(random.integers(*limits.frames, endpoint=True))
        dwell_s, current_pA = _between(limits.dwell_s, random), _between(limits.current_pA, random)
        if next_frame >= frames:
            return tuple(steps)
        steps.append(Step(next_frame, dwell_s, current_pA))


def by_frame(steps: tuple[Step, ...], frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dwell, s, and current, pA, of each frame: `(frame,)` both."""
    lengths = np.diff([*(step.from_frame for step in steps), frames])
    dwell_s = np.repeat([step.dwell_s for step in steps], lengths)
    return dwell_s, np.repeat([step.current_pA for step in steps], lengths)


def _between(limits: tuple[float, float], random: np.random.Generator) -> float:
    low, high = limits
    # Four digits, within the limits: the same on every machine, and readable in a manifest.
    value = float(f"{low * (high / low) ** random.random():.4g}")
    return min(max(value, low), high)
