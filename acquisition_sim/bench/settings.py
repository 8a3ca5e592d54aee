"""The settings that a specimen is flown under: the training's own, others that stay, and some that change on the way. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NOMINAL_DWELL_S, NOMINAL_CURRENT_PA = 0.4, 230.0
OF_THE_SETTING = 0xF10  # beside the seed: keeps this stream apart from any other that is made from a seed


@dataclass(frozen=True, slots=True)
class Part:
    """What holds for a while."""

    doses: float  # reference doses, after which the next part begins; the last one goes on
    dwell_s: float
    current_pA: float  # of a probe that is nominally NOMINAL_CURRENT_PA; a run's own differs by some per cent


@dataclass(frozen=True, slots=True)
class Setting:
    """A programme of dwell and current. Where it has no parts, they are drawn anew for every run."""

    name: str
    parts: tuple[Part, ...] = ()

    def of_run(self, seed: int) -> Iterator[Part]:
        """Parts of one run, without end."""
        if self.parts:
            yield from self.parts[:-1]
            while True:
                yield self.parts[-1]
        random = np.random.Generator(np.random.PCG64DXSM([OF_THE_SETTING, seed]))
        while True:
            dwell_s = 0.08 * 10 ** float(random.uniform())  # to 0.8 s, as likely in any octave; so is the current
            current_pA = 23.0 * 10 ** float(random.uniform())
            yield Part(float(random.uniform(4, 24)), round(dwell_s, 4), round(current_pA, 2))


def _constant(dwell_s: float, current_pA: float) -> Setting:
    return Setting(f"{dwell_s:g} s, {current_pA:g} pA", (Part(0, dwell_s, current_pA),))


NOMINAL = _constant(NOMINAL_DWELL_S, NOMINAL_CURRENT_PA)
SETTINGS = (
    NOMINAL,
    _constant(0.08, 230),
    _constant(0.2, 230),
    _constant(0.8, 230),
    _constant(0.8, 115),
    _constant(0.4, 75),
    _constant(0.4, 23),
    _constant(0.8, 23),
    _constant(0.08, 23),
    _constant(0.08, 500),
    _constant(0.4, 500),
    Setting("0.4, 0.1, 0.8 s, 230 pA", (Part(40, 0.4, 230), Part(40, 0.1, 230), Part(0, 0.8, 230))),
    Setting("0.4 s, 230, 23, 230 pA", (Part(50, 0.4, 230), Part(20, 0.4, 23), Part(0, 0.4, 230))),
    Setting("0.8 s, 230; 0.08 s, 23 pA", (Part(60, 0.8, 230), Part(0, 0.08, 23))),
    Setting("any: 0.08-0.8 s, 23-230 pA"),
)
