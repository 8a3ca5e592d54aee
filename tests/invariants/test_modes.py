"""The table of modes, against the rules that it was made from."""

from __future__ import annotations

from itertools import product

import pytest

from controller.modes import BLANKED, TAKES_PROPOSALS, TRANSITIONS, Mode, ModeEvent, after

PRIORITY = [Mode.AUTO, Mode.HOLD, Mode.OVERRIDE, Mode.BLANK, Mode.BLANK_LATCHED]  # lowest first
OPERATOR = {event for event in ModeEvent if event.name.startswith("OPERATOR_")}
ALL = list(product(Mode, ModeEvent))


def test_every_mode_and_event_has_a_row():
    assert set(TRANSITIONS) == set(ALL)


def test_only_clear_leads_out_of_the_latch_and_it_leads_to_disarmed():
    for event in ModeEvent:
        expected = Mode.DISARMED if event is ModeEvent.OPERATOR_CLEAR else Mode.BLANK_LATCHED
        assert after(Mode.BLANK_LATCHED, event) is expected


def test_only_an_operator_leads_out_of_disarmed_but_a_latch_may_be_set():
    out = {event for event in ModeEvent if after(Mode.DISARMED, event) is not Mode.DISARMED}
    assert out == {
        ModeEvent.OPERATOR_ARM,
        ModeEvent.OPERATOR_OVERRIDE,
        ModeEvent.OPERATOR_BLANK,
        ModeEvent.LATCH,
    }


@pytest.mark.parametrize("event", [ModeEvent.OPERATOR_BLANK, ModeEvent.LATCH])
def test_a_latch_is_set_from_everywhere(event):
    assert {after(mode, event) for mode in Mode} == {Mode.BLANK_LATCHED}


def test_a_new_session_disarms_everything_but_a_latch():
    assert {after(mode, ModeEvent.NEW_SESSION) for mode in set(Mode) - {Mode.BLANK_LATCHED}} == {Mode.DISARMED}


def test_what_the_guard_sees_by_itself_never_leads_to_a_lower_priority():
    for mode, event in product(PRIORITY, set(ModeEvent) - OPERATOR - {ModeEvent.ADMITTED}):
        following = after(mode, event)
        if following is not Mode.DISARMED:
            assert PRIORITY.index(following) >= PRIORITY.index(mode), (mode, event)


def test_a_proposal_leads_to_auto_from_what_is_armed_and_from_nothing_else():
    for mode in Mode:
        expected = Mode.AUTO if mode in TAKES_PROPOSALS else mode
        assert after(mode, ModeEvent.ADMITTED) is expected
    assert {Mode.AUTO, Mode.HOLD, Mode.BLANK} == TAKES_PROPOSALS


def test_an_override_never_becomes_auto_but_by_arming():
    for event in set(ModeEvent) - {ModeEvent.OPERATOR_ARM}:
        assert after(Mode.OVERRIDE, event) is not Mode.AUTO
        assert after(after(Mode.OVERRIDE, event), ModeEvent.ADMITTED) is not Mode.AUTO
    assert after(Mode.OVERRIDE, ModeEvent.OPERATOR_ARM) is Mode.AUTO


def test_hold_ends_with_its_lease():
    assert after(Mode.HOLD, ModeEvent.LEASE_ENDED) is Mode.BLANK


def test_a_silent_source_is_not_armed_by_its_return():
    mode = Mode.AUTO
    for event in (ModeEvent.SOURCE_SILENT, ModeEvent.LEASE_ENDED, ModeEvent.SOURCE_SILENT, ModeEvent.ADMITTED):
        mode = after(mode, event)
    assert mode is Mode.DISARMED


def test_the_ends_of_a_beam_leave_no_beam():
    for mode, event in product(
        set(Mode) - {Mode.OVERRIDE}, (ModeEvent.LEASE_ENDED, ModeEvent.CONTROLLER_BLANK, ModeEvent.OPERATOR_DISARM)
    ):
        assert after(mode, event) in BLANKED
    assert {Mode.DISARMED, Mode.BLANK, Mode.BLANK_LATCHED} == BLANKED


def test_arming_lets_no_held_rate_go_on():
    assert after(Mode.HOLD, ModeEvent.OPERATOR_ARM) is Mode.HOLD
    assert after(Mode.BLANK, ModeEvent.OPERATOR_ARM) is Mode.BLANK
    assert after(Mode.AUTO, ModeEvent.OPERATOR_ARM) is Mode.AUTO


def test_stale_proposals_and_a_spent_budget_hold():
    for event in (ModeEvent.STALE, ModeEvent.BUDGET_SPENT):
        assert after(Mode.AUTO, event) is Mode.HOLD
        assert after(Mode.HOLD, event) is Mode.HOLD
        assert after(Mode.BLANK, event) is Mode.BLANK
    assert after(Mode.OVERRIDE, ModeEvent.STALE) is Mode.OVERRIDE
    assert after(Mode.OVERRIDE, ModeEvent.BUDGET_SPENT) is Mode.DISARMED
    assert after(Mode.OVERRIDE, ModeEvent.LEASE_ENDED) is Mode.DISARMED
    assert after(Mode.OVERRIDE, ModeEvent.SOURCE_SILENT) is Mode.DISARMED
    assert after(Mode.OVERRIDE, ModeEvent.CONTROLLER_BLANK) is Mode.OVERRIDE


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.BLANK_LATCHED])
def test_clear_leads_out_of_the_latch_and_out_of_nothing_else(mode):
    assert after(mode, ModeEvent.OPERATOR_CLEAR) is mode
