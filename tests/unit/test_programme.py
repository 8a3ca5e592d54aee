"""Dose programmes keep to their limits, and begin alike however long they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from acquisition_sim.programme import ProgrammeLimits, Step, by_frame, changing

LIMITS = ProgrammeLimits(dwell_s=(0.08, 0.8), current_pA=(23.0, 230.0), frames=(10, 40))
FIRST = Step(0, 0.4, 231.0)


@given(seed=st.integers(0, 2**64 - 1), frames=st.integers(1, 300))
def test_a_changing_programme_keeps_to_its_limits(seed, frames):
    steps = changing(LIMITS, frames, seed, first=FIRST)
    assert steps[0] == FIRST
    lengths = np.diff([step.from_frame for step in steps])
    assert ((lengths >= 10) & (lengths <= 40)).all()
    assert steps[-1].from_frame < frames <= steps[-1].from_frame + 40
    for step in steps[1:]:
        assert 0.08 <= step.dwell_s <= 0.8
        assert 23 <= step.current_pA <= 230
    dwell_s, current_pA = by_frame(steps, frames)
    assert dwell_s.shape == current_pA.shape == (frames,)
    for step in steps:
        assert (dwell_s[step.from_frame], current_pA[step.from_frame]) == (step.dwell_s, step.current_pA)


def test_a_longer_programme_begins_as_a_shorter_one():
    long, short = (changing(LIMITS, frames, 4, first=FIRST) for frames in (400, 130))
    assert len(long) > len(short) > 2
    assert long[: len(short)] == short


def test_every_octave_is_as_likely():
    steps = changing(LIMITS, 40_000, 0, first=FIRST)[1:]
    for values, (low, high) in (
        ([step.dwell_s for step in steps], LIMITS.dwell_s),
        ([step.current_pA for step in steps], LIMITS.current_pA),
    ):
        share = np.log(np.array(values) / low) / np.log(high / low)
        np.testing.assert_allclose(np.histogram(share, 4, (0, 1))[0] / len(steps), 0.25, atol=0.04)


def test_seeds_differ():
    assert changing(LIMITS, 160, 1, first=FIRST) != changing(LIMITS, 160, 2, first=FIRST)


def test_limits_that_may_not_move_do_not():
    still = ProgrammeLimits(dwell_s=(0.1, 0.1), current_pA=(50.0, 50.0), frames=(5, 5))
    steps = changing(still, 16, 3, first=FIRST)
    assert steps == (FIRST, Step(5, 0.1, 50.0), Step(10, 0.1, 50.0), Step(15, 0.1, 50.0))


@pytest.mark.parametrize(
    "wrong",
    [{"dwell_s": (0.8, 0.08)}, {"dwell_s": (0.0, 0.8)}, {"frames": (0, 4)}, {"current_pA": (1.0, float("nan"))}],
)
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValidationError):
        ProgrammeLimits.model_validate(LIMITS.model_dump() | wrong)
