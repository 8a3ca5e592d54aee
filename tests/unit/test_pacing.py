"""Spectra of a replay are due when the instrument would have had them, and lateness does not add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition_sim.pacing import MAX_LAG_S, Pacing
from tests.properties import examples

START_NS = 7_000_000_000
dwells = st.lists(st.floats(1e-3, 2), min_size=1, max_size=200).map(np.array)
speeds = st.floats(0.1, 100)


def at(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def test_a_spectrum_is_due_at_the_end_of_its_exposure():
    pacing = Pacing(START_NS, np.array([0.4, 0.1, 0.1]), speed=1.0)
    assert [pacing.begins_s(frame) for frame in range(3)] == pytest.approx([0.0, 0.4, 0.5])
    assert [pacing.deadline_ns(frame) for frame in range(3)] == [at(0.4), at(0.5), at(0.6)]


def test_speed_divides_the_time_and_not_the_exposures():
    pacing = Pacing(START_NS, np.full(160, 0.4), speed=50.0)
    assert pacing.deadline_ns(159) == at(160 * 0.4 / 50)
    assert pacing.begins_s(159) == pytest.approx(159 * 0.4)


def test_at_full_speed_nothing_is_ever_due_or_late():
    pacing = Pacing(START_NS, np.full(3, 0.4), speed=None)
    assert pacing.deadline_ns(2) is None
    assert pacing.first_frame_in_time(1, at(1e6)) == 1


@examples(100)
@given(dwells, speeds)
def test_deadlines_are_counted_from_the_start(dwell_s, speed):
    pacing = Pacing(START_NS, dwell_s, speed)
    last = len(dwell_s) - 1
    assert pacing.deadline_ns(last) - START_NS == pytest.approx(dwell_s.sum() / speed * 1e9, rel=1e-9, abs=1)
    deadlines = [pacing.deadline_ns(frame) for frame in range(len(dwell_s))]
    assert deadlines == sorted(deadlines)


def test_a_frame_that_is_a_little_late_is_still_published():
    pacing = Pacing(START_NS, np.full(100, 0.1), speed=1.0)
    assert pacing.first_frame_in_time(10, at(0.5)) == 10  # early
    assert pacing.first_frame_in_time(10, at(1.1 + MAX_LAG_S)) == 10


def test_after_a_long_absence_the_camera_has_moved_on():
    pacing = Pacing(START_NS, np.full(100, 0.1), speed=1.0)
    assert pacing.first_frame_in_time(10, at(1.1 + MAX_LAG_S) + 1) == 21
    assert pacing.first_frame_in_time(10, at(5.05)) == 50
    assert pacing.first_frame_in_time(10, at(9.95)) == 99


def test_a_frame_that_is_due_just_now_is_not_skipped():
    pacing = Pacing(START_NS, np.full(100, 0.125), speed=1.0)  # exact in binary
    assert pacing.deadline_ns(31) == at(4.0)
    assert pacing.first_frame_in_time(10, at(4.0)) == 31


def test_the_session_may_have_ended_meanwhile():
    pacing = Pacing(START_NS, np.full(100, 0.1), speed=1.0)
    assert pacing.first_frame_in_time(10, at(60.0)) == 100


@examples(200)
@given(dwells, speeds, st.data())
def test_what_is_published_next_is_never_before_what_was_asked_nor_late_itself(dwell_s, speed, choice):
    pacing = Pacing(START_NS, dwell_s, speed)
    frame = choice.draw(st.integers(0, len(dwell_s) - 1))
    now_ns = at(choice.draw(st.floats(0, 1.2)) * dwell_s.sum() / speed + choice.draw(st.sampled_from([0.0, 2.0])))
    following = pacing.first_frame_in_time(frame, now_ns)
    assert frame <= following <= len(dwell_s)
    if following > frame:  # skipped: every one of them is past, and the next is still being exposed
        assert now_ns > pacing.deadline_ns(frame) + MAX_LAG_S * 1e9
        assert pacing.deadline_ns(following - 1) <= now_ns + 1
        assert following == len(dwell_s) or pacing.deadline_ns(following) >= now_ns - 1
