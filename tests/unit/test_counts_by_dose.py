"""Any part of a stream can be asked for, and gives what the frames in it counted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.counts_by_dose import FINEST, CountsByDose
from tests.properties import examples

CHANNELS = 3
pieces = st.lists(
    st.tuples(st.floats(0.02, 3.0), st.integers(0, 1000), st.sampled_from([0.0, 0.0, 0.0, 0.3, 1.7])),
    min_size=1,
    max_size=12,
)  # steps of a frame, its counts, and the hole before it


def taken(frames: list[tuple[float, int, float]]) -> CountsByDose:
    record = CountsByDose.empty(CHANNELS)
    for steps, counts, hole in frames:
        record = record.with_hole(hole).with_frame(steps, np.full(CHANNELS, counts, np.float64))
    return record


def plainly(frames: list[tuple[float, int, float]], low: float, high: float) -> tuple[float, float, float]:
    """Counts, measured dose and variance share between two marks, frame by frame."""
    total = measured = variance = end = 0.0
    for steps, counts, hole in frames:
        begin, end = end + hole, end + hole + steps
        inside = max(0.0, min(high, end) - max(low, begin))
        total += counts * inside / steps
        measured += inside
        variance += inside**2 / steps
    return total, measured, variance


@examples(200)
@given(pieces, st.floats(0, 1), st.floats(0, 1))
def test_a_part_holds_what_its_frames_counted_in_proportion(frames, one, other):
    record = taken(frames)
    low, high = sorted((one * record.newest, other * record.newest))
    counts, measured, _ = plainly(frames, low, high)
    np.testing.assert_allclose(record.between(low, high), counts, atol=0.2)  # marks within 1e-6 are one
    assert record.measured_between(low, high) == pytest.approx(measured, abs=1e-5)


@examples(100)
@given(pieces, st.floats(0, 1))
def test_a_frame_cut_in_proportion_brings_the_square_of_its_share_in_variance(frames, share):
    record = taken(frames)
    low = share * record.newest
    assert record.variance_share(low) == pytest.approx(plainly(frames, low, record.newest)[2], abs=1e-4)


@examples(50)
@given(pieces, st.floats(0, 1))
def test_what_is_let_go_changes_nothing_after_it(frames, share):
    record = taken(frames)
    low = share * record.newest
    kept = record.kept_from(low)
    assert len(kept.marks) <= len(record.marks)
    np.testing.assert_array_equal(kept.between(low, record.newest), record.between(low, record.newest))
    assert kept.measured_between(low, record.newest) == record.measured_between(low, record.newest)


def test_parts_are_differences_of_neighbouring_marks():
    record = taken([(0.7, 100, 0.0), (0.9, 50, 0.4), (2.0, 10, 0.0)])
    marks = [0.1, 0.7, 0.9, 2.5, 4.0]
    counts, measured = record.parts(marks)
    for part, (low, high) in enumerate(pairwise(marks)):
        np.testing.assert_allclose(counts[part], record.between(low, high))
        assert measured[part] == pytest.approx(record.measured_between(low, high))


def test_however_short_the_frames_what_is_kept_is_bounded():
    record = CountsByDose.empty(CHANNELS)
    for number in range(5000):
        record = record.with_frame(1e-3, np.full(CHANNELS, number)).kept_from(record.newest - 1)
        assert len(record.marks) <= 1 / FINEST + 3
    counts = record.between(record.newest - 0.5, record.newest)
    np.testing.assert_allclose(counts, sum(range(4500, 5000)), rtol=0.01)


def test_a_hole_is_not_added_to_by_a_short_frame():
    record = CountsByDose.empty(CHANNELS).with_frame(1.0, np.ones(CHANNELS)).with_hole(0.01)
    record = record.with_frame(0.005, np.ones(CHANNELS))
    assert record.measured_between(1.0, record.newest) == pytest.approx(0.005)


def test_what_is_not_kept_is_not_made_up():
    record = taken([(1.0, 10, 0.0)] * 5).kept_from(3.0)
    for mark in (2.5, 5.5):
        with pytest.raises(ValueError, match="is not within 3 to 5 steps"):
            record.up_to(mark)
