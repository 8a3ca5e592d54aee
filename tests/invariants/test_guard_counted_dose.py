"""The instrument's sum of dose against its own frames, at the edges of what is believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.ledger import Ledger
from controller.modes import Mode
from tests.invariants.logbook import LIMITS, Flight

ROUNDED = 1 - 1e-9


@pytest.mark.parametrize(
    ("dose_pC", "is_believed"), [((400.0 - 150.0) * ROUNDED, True), (249.0, False), (200.0, False)]
)
def test_a_dose_may_have_fallen_by_one_longest_frame_while_nobody_guarded(dose_pC, is_believed):
    ledger = Ledger(1000.0, 0.0, "session-a", 500.0, 400.0)
    f = Flight(replace(LIMITS, max_current_pA=300.0, max_dwell_s=0.5), ledger=ledger)
    f.start()
    f.status(dose_pC=dose_pC)
    assert (f.state.mode is Mode.DISARMED) is is_believed


def test_a_frame_may_be_cut_by_a_blanking_that_was_under_way_at_the_first_word():
    f = Flight()
    f.start()
    f.status(blanked=False, will_blank=True, next=2, dose_pC=80.0)
    f.later(0.1).status(blanked=True, next=2, dose_pC=50.0)
    assert f.state.mode is Mode.DISARMED


def test_a_frame_may_be_cut_that_began_and_ended_between_two_words_of_a_beam_at_rest():
    f = Flight(ledger=Ledger(1000.0, 0.0, "session-a", 200.0, 0.0))
    f.start()
    f.status()
    f.later(0.1).status(next=2, dose_pC=50.0)
    assert f.state.mode is Mode.DISARMED


@pytest.mark.parametrize(("frames", "dose_pC", "is_believed"), [(1, 78.0, True), (1, 60.0, False), (2, 60.0, False)])
def test_a_frame_adds_what_was_ordered_but_for_the_readbacks_tolerance(frames, dose_pC, is_believed):
    f = Flight().flying()
    f.later(0.1).status(dose_pC=40.0, next=1)
    f.later(0.4).status(dose_pC=dose_pC, next=1 + frames)
    assert (f.state.mode is Mode.AUTO) is is_believed


def test_a_cut_takes_one_frame_at_most():
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    f.propose(blank=True)
    f.answer(dose_pC=80.0 * ROUNDED - (1 + LIMITS.readback_tolerance) * 40.0)
    assert f.state.mode is Mode.BLANK


def test_a_dose_that_stands_still_is_charged_at_the_highest_current_that_may_hold():
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    charged_pC = f.state.ledger.in_session_pC
    f.later(0.1).status(dose_pC=80.0, next=3, current_pA=104.0)
    assert f.state.ledger.in_session_pC == pytest.approx(charged_pC + 104.0 * (1.0 + 0.02))


def test_a_lease_that_nobody_granted_is_another_programs():
    f = Flight().flying()
    lease = f.lease(1.0).model_copy(update={"until_dose_pC": 500.0})
    f.later(0.1).status(dose_pC=5.0, lease=lease)
    assert f.state.mode is Mode.BLANK_LATCHED
    assert "commander" in dict(f.state.refused_by)
