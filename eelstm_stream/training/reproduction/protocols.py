"""How runs are split, which step is aimed at and what is fitted on what: the honest way, the notebook's, and each trap alone.

The notebook published with the paper steps into three traps. What each is worth is seen by stepping into it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import UnusableInputError
from eelstm_stream.training.dataset import BLOCK_VALIDATION, Segment

TEST = 2  # of the three runs, the one that is tested on; and the file that the notebook's way calls reference
TEST_SHARE = 0.2  # of shuffled windows
VALIDATION_SHARE = 0.2  # of those that are left


@dataclass(frozen=True, slots=True)
class Protocol:
    """Traps that are stepped into; none of them is the honest way."""

    title: str
    meaning: str
    shuffled: bool = False  # overlapping windows of all runs are shuffled before they are split
    one_step_late: bool = False  # what is called horizon 8 is the ninth spectrum after the window
    fitted_on_test: bool = (
        False  # scaling and alignment reference come from one file, frames that are tested on included
    )


HONEST, NOTEBOOK = "honest", "notebook"

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        HONEST: Protocol("honest", "trained on two runs, tested on the third; the horizon counted right"),
        NOTEBOOK: Protocol(
            "notebook's", "all three traps at once", shuffled=True, one_step_late=True, fitted_on_test=True
        ),
        "shuffled": Protocol(
            "shuffled windows",
            "overlapping windows of all three runs shuffled before the split, so that frames that are tested on are trained on",
            shuffled=True,
        ),
        "one step late": Protocol(
            "horizon off by one", "the ninth spectrum after the window is called horizon 8", one_step_late=True
        ),
        "fitted on the test run": Protocol(
            "fitted on the test run",
            "scaling and alignment reference from the run that is tested on",
            fitted_on_test=True,
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Split:
    """Segments, within each of which every window lies, its target included. Those of a shuffled split overlap."""

    training: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    test: tuple[Segment, ...]


def aimed_at(horizon: int, protocol: Protocol) -> int:
    """Steps from the last spectrum of the window to the one that is really forecast."""
    return horizon + 1 if protocol.one_step_late else horizon


def fitted_on(protocol: Protocol) -> tuple[int, ...]:
    """Numbers of the runs that scaling and alignment reference come from."""
    return (TEST,) if protocol.fitted_on_test else tuple(run for run in range(TEST + 1) if run != TEST)


def split(lengths: Sequence[int], length: int, protocol: Protocol, seed: int, apart: int = 0) -> Split:
    """Training, validation and test segments of three runs.

    lengths: frames of each run. length: frames from the first of a window to what it aims at. seed: of the shuffling.
    apart: frames left out between training and validation, where neighbouring ones share what they are made of.
    Raises UnusableInputError where the runs are too short for that.
    """
    return _shuffled(lengths, length, seed) if protocol.shuffled else _by_run(lengths, length, apart)


def _by_run(lengths: Sequence[int], length: int, apart: int) -> Split:
    """The third run for the test, and of each of the others a block in the middle for validation.

    Runs too short for a block and a window on either side of it, as binned ones may be, are given to the one use or the other:
    the longest is trained on, the others are for validation.
    """
    training, validation = [], []
    others = [run for run in range(len(lengths)) if run != TEST]
    _require(lengths, length)
    if min(lengths[run] for run in others) < 3 * length + 2 * apart:
        longest = max(others, key=lambda run: lengths[run])
        training = [Segment(longest, 0, lengths[longest])]
        validation = [Segment(run, 0, lengths[run]) for run in others if run != longest]
    else:
        for run in others:
            block = max(length + 2 * apart, round(BLOCK_VALIDATION * lengths[run]))
            first = (lengths[run] - block) // 2
            training += [Segment(run, 0, first), Segment(run, first + block, lengths[run])]
            validation.append(Segment(run, first + apart, first + block - apart))
    return Split(tuple(training), tuple(validation), (Segment(TEST, 0, lengths[TEST]),))


def _shuffled(lengths: Sequence[int], length: int, seed: int) -> Split:
    """Every window a segment of its own, dealt out at random."""
    _require(lengths, length)
    windows = [
        Segment(run, first, first + length)
        for run, frames in enumerate(lengths)
        for first in range(frames - length + 1)
    ]
    order = np.random.default_rng(seed).permutation(len(windows))
    tested = max(1, round(TEST_SHARE * len(windows)))
    validated = max(1, round(VALIDATION_SHARE * (len(windows) - tested)))

    def dealt(chosen: NDArray[np.integer]) -> tuple[Segment, ...]:
        return tuple(windows[number] for number in sorted(chosen))

    return Split(
        training=dealt(order[tested + validated :]),
        validation=dealt(order[tested : tested + validated]),
        test=dealt(order[:tested]),
    )


def _require(lengths: Sequence[int], length: int) -> None:
    short = min(lengths)
    if short < length:
        raise UnusableInputError(
            f"a run has {short} spectra after preprocessing, and a window with what it aims at takes {length}: give longer runs."
        )
