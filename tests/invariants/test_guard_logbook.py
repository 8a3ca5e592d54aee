"""Flights of the guard, held against the logbook: every effect and every change of what it remembers, to the last digit.

The tests beside this one say what must hold of any flight; here it is seen that nothing else happens either, and that every limit acts
where it says: a nanosecond earlier it doesn't. `EELSTM_WRITE_LOGBOOK=1 pytest …` writes the logbook anew; read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan, nextafter
from pathlib import Path

import pytest

from controller.guard_events import Acknowledged, Tick
from controller.guard_state import GuardState
from controller.ledger import Ledger
from controller.limits import Broken, Rate
from controller.modes import Mode
from tests.invariants.logbook import BEHIND_NS, INSTRUMENT, LIMITS, Flight, S, text

LOGBOOK = Path(__file__).with_name("logbook")
NS = 1e-9

FLIGHTS: dict[str, Callable[[], Flight]] = {}


def flight(fly: Callable[[], Flight]) -> Callable[[], Flight]:
    FLIGHTS[fly.__name__] = fly
    return fly


# What a session is like


@flight
def a_session_in_auto() -> Flight:
    f = Flight()
    f.propose()  # before any session
    f.start()
    f.start()  # told again
    f.propose()  # before anything was said of the beam
    f.status()
    f.propose()  # before anybody armed
    f.operate("arm")
    f.later(0.2).propose(dwell_s=0.2, beam_current_pA=90.0)
    f.later(0.01).answer(holds_from=1)
    f.later(0.2).status(next=1, dose_pC=18.0)
    f.later(0.2).propose(dwell_s=0.3, beam_current_pA=110.0)  # faster than the current may rise? no: within the slew
    f.later(0.01).answer(holds_from=3, next=2, dose_pC=36.0)
    f.later(0.4).status(next=4, dose_pC=84.0)
    f.later(0.1).propose(beam_current_pA=400.0, dwell_s=2.0, lease_s=9.0)  # clamped
    f.later(0.01).answer(holds_from=6, next=4)
    f.later(0.3).propose(blank=True)
    f.later(0.01).answer()
    f.later(0.1).status(dose_pC=90.0)
    f.later(0.1).propose()  # lets the beam on again
    f.later(0.01).answer(next=5, holds_from=6, dose_pC=130.0)
    f.later(0.1).operate("disarm")
    f.later(0.01).answer()
    f.end("session-of-another")
    f.end()
    f.status()
    f.propose()
    f.operate("arm")
    f.start()
    f.later(1.0).start("session-b")
    f.status(dose_pC=0.0, taken=None)
    f.propose()
    return f


@flight
def a_session_that_is_known_by_its_status_first() -> Flight:
    f = Flight()
    f.status(dose_pC=40.0)  # others began it
    f.operate("arm")
    f.start()
    f.operate("arm")
    f.later(0.5).propose()
    return f


@flight
def answers_of_all_sorts() -> Flight:
    f = Flight().flying()
    f.later(0.1).propose(beam_current_pA=150.0)
    f.later(0.01).answer("refused", limit="max_current_pA")
    f.later(0.1).propose(beam_current_pA=120.0)
    f.later(0.01).answer("not_sent")
    f.later(0.1).propose(beam_current_pA=120.0)
    f.later(0.01).answer("unknown")
    f.later(0.1).propose(beam_current_pA=90.0)  # charged at what may hold
    f.later(0.01).answer(silent=True)
    f.later(0.1).propose(beam_current_pA=400.0)
    f.later(0.01).answer("refused", silent=True)
    f.later(0.1).propose(beam_current_pA=95.0)
    f.later(0.01).answer(beamless=True)
    f.later(0.1).propose(beam_current_pA=95.0)
    f.later(0.01).answer(running_session="session-x")
    f.later(0.1).propose(beam_current_pA=95.0)
    f.later(0.01).answer(session="session-x")
    f.later(0.1).propose(beam_current_pA=95.0)
    f.later(0.01).answer(session="session-x", running_session="session-y")
    f.later(0.1).propose(beam_current_pA=95.0)
    f.propose(beam_current_pA=94.0)
    f.later(0.01).answer(which=0)
    f.later(0.01).answer()
    return f


@flight
def blanking_that_fails() -> Flight:
    f = Flight().flying()
    f.operate("blank", reason="too bright")
    f.later(0.01).answer("refused", limit="seq")
    f.later(0.01).answer("refused", limit="session")
    f.wait(0.2)
    f.wait(0.05)
    f.answer("unknown")
    f.wait(0.25 - NS)
    f.wait(NS)
    f.answer("not_sent")
    f.wait(0.25)
    f.answer()
    f.wait(1.0)
    f.status()
    f.operate("clear")
    f.operate("blank", operator="", session="session-of-another")
    return f


@flight
def commands_without_an_answer() -> Flight:
    f = Flight().flying()
    f.later(0.1).propose(beam_current_pA=101.0)
    f.wait(0.5)
    f.wait(NS)
    for _ in range(9):
        f.later(0.01).propose(beam_current_pA=90.0)
    f.wait(0.3)
    f.status(taken=None)
    f.later(1.0).status(taken=4)
    f.later(0.2).status(taken=99)
    return f


# Limits, where they act


@flight
def no_proposal_for_too_long() -> Flight:
    f = Flight(replace(LIMITS, healthy_within_s=0.75, max_lease_s=1.0)).flying()
    f.wait(0.75)
    f.wait(NS)
    f.later(0.01).propose()  # back to auto
    f.answer()
    f.wait(0.8)
    f.wait(0.7 - NS)
    f.wait(NS)
    f.answer("unknown")
    f.wait(0.1)
    return f


@flight
def armed_and_nothing_follows() -> Flight:
    f = Flight().armed()
    f.later(1.0).status()
    f.later(1.0).status()
    f.wait(NS)
    f.propose()
    return f


@flight
def an_instrument_that_goes_silent() -> Flight:
    f = Flight().flying()
    f.wait(0.9)
    f.wait(2.1)
    f.wait(NS)
    f.wait(0.1)
    f.operate("arm")
    f.status(blanked=True, will_blank=True, lease=None)
    f.propose()
    f.later(3.0).operate("arm")
    f.later(0.1).propose()
    f.status()
    f.later(3.0 + NS).operate("arm")
    return f


@flight
def a_lease_as_the_instrument_tells_it() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(lease=f.lease(0.4))
    f.later(0.1).status(lease=f.lease(0.5, by_clock=False))
    f.later(0.1).status(lease=f.lease(0.4).model_copy(update={"ends_mono_ns": 1}))
    f.later(0.1).propose()
    f.later(0.1).answer(lease=f.lease(1e9, by_clock=False))
    f.later(0.1).status(lease=None)
    f.later(0.1).status(blanked=True, will_blank=True)
    f.later(0.1).status(lease=f.lease(0.4), will_blank=False, blanked=False)
    return f


@flight
def numbers_clocks_and_times() -> Flight:
    f = Flight().armed()
    f.later(0.5)
    f.propose(seq=5, expires_mono_ns=f.now_ns)
    f.answer()
    f.propose(seq=5)
    f.propose(seq=4)
    f.propose(seq=6, expires_mono_ns=f.now_ns - 1)
    f.propose(seq=7, expires_mono_ns=f.now_ns + 10 * S)
    f.answer()
    f.propose(seq=8, expires_mono_ns=f.now_ns + 10 * S + 1)
    f.propose(seq=9, clock_id="scope-1")
    f.propose(seq=10, clock_id=None)
    f.propose(seq=11, preset="advise")
    f.propose(seq=12, session="session-b")
    f.operate("arm", seq=9, expires_mono_ns=f.now_ns)
    f.operate("arm", seq=9)
    f.operate("arm", seq=10, expires_mono_ns=f.now_ns - 1)
    f.operate("arm", seq=11, expires_mono_ns=f.now_ns + 10 * S)
    f.operate("arm", seq=12, expires_mono_ns=f.now_ns + 10 * S + 1)
    f.operate("arm", seq=13, session="session-b")
    f.operate("blank", seq=2, expires_mono_ns=0)
    f.operate("blank", seq=20, session="session-b")
    f.operate("blank", seq=21)
    return f


@flight
def numbers_that_are_none() -> Flight:
    f = Flight().armed()
    f.later(0.5).propose(plan_dose_pC=(1.0, nan))
    f.operate("clear")
    f.operate("arm")
    f.propose(lease_s=inf)
    f.operate("clear")
    f.malformed("controller", not_finite=True)
    f.operate("clear")
    f.malformed("instrument", not_finite=True)
    f.operate("arm")
    f.operate("override", dwell_s=nan)
    f.damaged_status(nan)
    f.operate("clear")
    f.damaged_status(inf)
    f.damaged_status(1e15)
    f.damaged_status(nextafter(1e15, inf))
    return f


@flight
def a_flood_that_cant_be_read() -> Flight:
    f = Flight().armed()
    for i in range(9):
        f.malformed("controller" if i % 2 else "operator")
    f.malformed("operator", count=6)
    f.malformed("operator", count=1)
    f.malformed("operator", count=100)
    return f


@flight
def refusals_of_very_many_sorts() -> Flight:
    f = Flight()
    f.start()
    f.state = replace(f.state, refused=50, refused_by=tuple((f"limit-{i}", 1) for i in range(46)))
    f.propose()
    f.malformed("operator")
    f.operate("clear", session="session-" + "b" * 80)
    f.propose(session="session-b")
    f.operate("approve", proposal_seq=1)
    f.malformed("operator")
    f.operate("clear")
    f.malformed("operator")
    return f


@flight
def very_long_reasons() -> Flight:
    f = Flight().flying()
    f.failed("x" * 3000)
    f.propose()
    f.operate("arm")
    return f


# The budget


@flight
def a_budget_that_ends() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=160.0)).flying()
    f.later(0.4).status(dose_pC=40.0, next=1)
    f.later(0.1).propose()  # cut to the budget
    f.later(0.01).answer()
    f.later(0.3).status(dose_pC=120.0, next=3)
    f.later(0.1).propose()
    f.wait(1.0)
    return f


@flight
def a_budget_for_one_frame() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=42.1)).armed()
    f.later(0.5).propose(beam_current_pA=100.0, dwell_s=0.4)
    f.answer("refused")
    f.later(0.5).propose(beam_current_pA=101.0, dwell_s=0.4)
    return f


@flight
def a_budget_for_no_frame() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=40.0)).armed()
    f.later(0.5).propose()
    f.operate("override")
    f.later(0.5).propose(dwell_s=0.2)
    return f


@flight
def a_clamped_lease_that_is_refused_spends_the_budget() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=100.0)).armed()
    f.later(0.5).propose()
    f.answer("refused")
    return f


@flight
def a_clamped_lease_of_another_limit_that_is_refused() -> Flight:
    f = Flight().armed()
    f.later(0.5).propose(lease_s=9.0)
    f.answer("not_sent")
    return f


@flight
def ten_sessions_on_one_ledger() -> Flight:
    f = Flight(ledger=Ledger(1000.0, 100.0, "session-z", 50.0, 20.0), proposal_seq=7, operator_seq=8)
    f.start("session-z")
    f.status(dose_pC=60.0, taken=3)
    f.operator_seq, f.seq = 8, 7
    f.operate("arm")
    f.later(0.5).propose()
    f.answer()
    for i in range(34):
        f.start(f"session-{i}")
        f.status(taken=None, dose_pC=1.0, blanked=True, will_blank=True, lease=None)
    f.status(session="session-1")  # is forgotten
    f.status(session="session-2")
    f.operate("clear")
    f.start("session-5")
    return f


@flight
def another_session_with_all_that_was_before() -> Flight:
    """Nothing of the old session counts but its dose."""
    f = Flight(approve_each=True, proposal_seq=3, operator_seq=4)
    f.operator_seq, f.seq = 4, 3
    f.armed()
    f.later(0.5).propose()
    f.operate("approve", proposal_seq=f.seq)
    f.later(0.01).answer(holds_from=1)
    f.later(0.1).propose(beam_current_pA=110.0)
    f.operate("approve", proposal_seq=f.seq)
    f.answer("unknown")
    f.later(0.1).propose(beam_current_pA=400.0)
    f.operate("approve", proposal_seq=f.seq)
    f.answer()
    f.later(0.1).propose(beam_current_pA=105.0)
    f.operate("approve", proposal_seq=f.seq)
    f.later(0.1).propose(beam_current_pA=115.0)
    f.propose()
    f.wait(0.1)
    f.start("session-b")
    f.status(dose_pC=0.0, taken=None, lease=None, blanked=True, will_blank=True)
    f.wait(0.3)
    f.operate("arm")
    return f


@flight
def another_session_after_silence() -> Flight:
    f = Flight().flying()
    f.wait(3.1)
    f.start("session-b")
    f.wait(0.1)
    f.status(dose_pC=0.0, taken=None, lease=None, blanked=True, will_blank=True)
    f.operate("arm")
    f.later(0.5).propose()
    return f


# Sessions that can't be controlled


@flight
def an_instrument_that_takes_no_commands() -> Flight:
    f = Flight()
    f.start(commands=None)
    f.status(beamless=True)
    f.operate("arm")
    f.operate("override")
    f.start(commands=None)
    f.propose()
    f.operate("blank")
    return f


@flight
def an_instrument_whose_current_is_what_it_is() -> Flight:
    fixed = INSTRUMENT.model_copy(update={"max_current_pA": None, "min_current_pA": None})
    f = Flight()
    f.start(commands=fixed)
    f.status()
    f.operate("arm")
    f.later(0.5).propose(beam_current_pA=1.0)
    f.answer()
    f.later(0.5).status(dose_pC=40.0, next=1, holds_from=0)
    return f


@flight
def an_instrument_that_doesnt_know_its_dose() -> Flight:
    f = Flight().armed(dose_pC=None)
    f.propose()
    f.status(beamless=True)
    f.later(0.1).propose()
    return f


@flight
def an_override_without_bounds() -> Flight:
    f = Flight()
    f.operate("blank")
    f.operate("arm")
    f.start()
    f.operate("clear")
    f.operate("override")  # nothing heard of the beam yet
    f.status()
    f.operate("override", dwell_s=2.0)
    f.operate("override", dwell_s=0.01)
    f.operate("override", beam_current_pA=1.0)
    f.operate("override", beam_current_pA=251.0)
    f.operate("override", beam_current_pA=None)
    f.operate("override", dwell_s=None)
    return f


# Operators


@flight
def an_override() -> Flight:
    f = Flight().flying()
    f.later(0.1).operate("override", beam_current_pA=90.0)
    f.later(0.01).answer()
    f.propose()
    f.later(0.75 - NS).status()
    f.wait(NS)  # half of the lease is left
    f.wait(0.01)
    f.answer()
    f.later(0.1).status(dose_pC=90.0, lease=f.lease(0.75 + NS))
    f.status(lease=f.lease(0.75))
    f.later(0.01).answer("refused", limit="max_dwell_s")
    f.wait(0.01)
    f.wait(1.3)
    f.later(0.01).answer("unknown")
    f.later(0.3).operate("override", beam_current_pA=80.0, dwell_s=0.3)
    f.answer()
    f.operate("arm")
    f.propose(beam_current_pA=80.0)
    f.answer()
    f.operate("override")
    f.answer()
    f.operate("blank")
    f.operate("override")
    return f


@flight
def an_override_that_spends_the_budget() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=165.0)).armed()
    f.later(0.5).operate("override")
    f.answer()
    f.later(0.9).status(dose_pC=90.0, next=2)
    f.answer()
    f.later(0.5).status(dose_pC=150.0, next=3, lease=f.lease(0.1))
    f.wait(0.3)
    return f


@flight
def an_override_that_loses_its_instrument() -> Flight:
    f = Flight().armed()
    f.later(0.5).operate("override")
    f.answer()
    f.later(0.9).status(dose_pC=None, lease=f.lease(0.1))
    f.wait(0.3)
    return f


@flight
def approval_of_each() -> Flight:
    f = Flight(approve_each=True).armed()
    f.operate("approve", proposal_seq=1)
    f.later(0.5).propose()
    f.propose()
    f.operate("approve", proposal_seq=2)
    f.operate("approve", proposal_seq=1)
    f.answer()
    f.later(0.1).propose(beam_current_pA=95.0)
    f.operate("blank")
    f.answer()
    f.wait(0.1)
    f.operate("clear")
    f.operate("arm")
    f.propose(dwell_s=0.3)
    f.later(15.0).status()
    f.later(15.0).status()
    f.wait(NS)
    f.operate("arm")
    f.propose(beam_current_pA=1.0)
    f.operate("approve", proposal_seq=f.seq)
    f.propose()
    f.operate("disarm")
    f.propose(blank=True)
    return f


@flight
def operators_at_the_wrong_time() -> Flight:
    f = Flight()
    f.operate("arm")
    f.start()
    f.operate("arm")
    f.status()
    f.operate("clear")
    f.operate("disarm")
    f.operate("blank", reason="to see")
    f.operate("blank")
    f.operate("arm")
    f.operate("disarm")
    f.operate("override")
    f.operate("clear")
    f.operate("clear")
    f.stop()
    return f


@flight
def stopped_in_flight() -> Flight:
    f = Flight().flying()
    f.stop()
    return f


@flight
def a_journal_that_fails() -> Flight:
    f = Flight().flying()
    f.later(0.1).propose()
    f.failed()
    f.failed("again")
    f.answer()
    f.wait(0.3)
    f.answer()
    return f


# What the instrument says


@flight
def a_readback_that_differs() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(next=0, current_pA=120.0, dose_pC=10.0)  # doesn't hold yet
    f.later(0.1).status(next=1, current_pA=105.0, dose_pC=52.0)  # no difference
    f.later(0.1).status(next=1, current_pA=120.0, dose_pC=52.0, sent_s_ago=0.2)  # old
    f.later(0.1).status(next=1, current_pA=120.0, dose_pC=52.0)
    f.status(next=2, dose_pC=100.0)
    return f


@flight
def a_dwell_that_differs() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(next=1, dwell_s=0.379, current_pA=90.0 + 5.0, dose_pC=36.0)
    return f


@flight
def an_order_that_differs() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(ordered_s=0.6, dose_pC=20.0)
    f.wait(0.3)
    return f


@flight
def a_lower_current_is_charged_at_the_higher() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(next=1, current_pA=50.0, dose_pC=20.0)
    return f


@flight
def a_blanked_readback_is_no_difference() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(next=1, current_pA=50.0, blanked=True, dose_pC=20.0)
    return f


@flight
def a_status_that_overtakes_an_answer() -> Flight:
    f = Flight().flying()
    f.later(0.1).propose(beam_current_pA=90.0)
    f.later(0.01).status(taken=1, ordered_pA=90.0, dose_pC=5.0)
    f.later(0.01).answer()
    return f


@flight
def a_status_from_before_a_command() -> Flight:
    f = Flight().flying()
    f.operate("blank")
    f.later(0.5).status(dose_pC=5.0, lease=f.lease(0.7))
    f.later(NS).status(dose_pC=6.0)
    return f


@flight
def more_dose_than_was_granted() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=102.0)
    f.later(0.1).status(dose_pC=102.0 + 1e-6)
    f.later(0.1).status(dose_pC=2000.0)
    f.operate("clear")
    f.operate("arm")
    f.later(0.1).propose()
    return f


@flight
def a_dose_that_falls() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=60.0, next=1)
    f.later(0.1).status(dose_pC=60.0 * (1 - 2e-9), next=1)
    f.later(0.1).operate("clear")
    f.operate("arm")
    f.start()
    f.start("session-b")
    f.status(dose_pC=0.0, next=0, taken=None, blanked=True, will_blank=True, lease=None)
    f.operate("clear")
    f.operate("arm")
    return f


@flight
def a_dose_that_stands_still() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=40.0, next=1)
    f.later(0.4).status(dose_pC=79.0, next=2)  # within what a readback may differ
    f.later(0.4).status(dose_pC=79.0, next=3)
    return f


@flight
def frames_that_are_counted_anew() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    f.operate("blank")
    f.answer()
    f.later(0.1).status(dose_pC=80.0, next=1)
    return f


@flight
def a_frame_that_is_cut() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    f.operate("blank")
    f.answer(blanked=False)
    f.later(0.1).status(dose_pC=50.0, next=2, blanked=True)
    f.later(0.1).status(dose_pC=50.0, next=2)
    f.later(0.1).status(dose_pC=49.0, next=2)  # nothing is left to be cut
    return f


@flight
def a_frame_that_is_cut_by_more_than_all_of_it() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    f.operate("blank")
    f.answer(dose_pC=80.0 - 42.1)
    return f


@flight
def a_frame_that_is_cut_while_the_beam_is_let_on_again() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(dose_pC=80.0, next=2)
    f.propose(blank=True)
    f.answer(blanked=False)
    f.propose()
    f.answer()
    f.later(0.1).status(dose_pC=77.0, next=3)  # the second was cut, and the third goes on
    f.later(0.1).status(dose_pC=70.0, next=3)
    return f


@flight
def a_dose_that_fell_while_nobody_guarded() -> Flight:
    f = Flight(ledger=Ledger(1000.0, 0.0, "session-a", 500.0, 400.0))
    f.start()
    f.status(dose_pC=100.0)  # a frame of the longest dwell at the highest current may have been cut
    g = Flight(ledger=Ledger(1000.0, 0.0, "session-a", 500.0, 400.0))
    g.start()
    g.status(dose_pC=99.0)
    f.lines += g.lines
    return f


@flight
def others_commanded_before_and_the_beam_is_on() -> Flight:
    """What they ordered may hold: the first lease is reckoned at the highest current that the instrument has."""
    f = Flight(replace(LIMITS, max_current_pA=120.0)).armed(taken=3, blanked=False, will_blank=False)
    f.answer("unknown")
    f.propose()
    f.later(0.01).answer(holds_from=1)
    f.later(0.1).status(next=5, dose_pC=1.0, holds_from=0)
    return f


@flight
def orders_that_wait_their_turn() -> Flight:
    f = Flight().flying(beam_current_pA=200.0)
    f.later(0.1).status(next=1, dose_pC=80.0)
    f.later(0.1).propose(beam_current_pA=250.0)
    f.answer(holds_from=4, current_pA=200.0)
    f.later(0.1).propose(beam_current_pA=10.0)
    f.answer(holds_from=6, current_pA=200.0)
    f.later(0.1).propose(beam_current_pA=10.0)  # at 250 pA, which hold in between
    f.answer(holds_from=7, current_pA=200.0)
    f.later(0.1).status(next=5, current_pA=240.0, dose_pC=300.0)
    f.later(0.1).status(next=7, current_pA=10.0, dose_pC=310.0)
    f.propose(beam_current_pA=10.0)
    return f


@flight
def a_readback_that_differs_while_orders_go_on() -> Flight:
    f = Flight().flying(beam_current_pA=100.0)
    f.later(0.1).propose(beam_current_pA=110.0)
    f.answer(holds_from=2, next=1, dose_pC=40.0, current_pA=100.0)
    f.later(0.1).propose(beam_current_pA=100.0)
    f.answer(holds_from=3, next=2, dose_pC=80.0, current_pA=150.0)
    return f


@flight
def a_late_answer_of_an_order_in_doubt() -> Flight:
    f = Flight().flying(beam_current_pA=100.0)
    f.later(0.1).propose(beam_current_pA=110.0)
    late = f.state.pending
    f.answer("unknown")
    f.later(0.1).propose(beam_current_pA=90.0)
    f.answer(holds_from=4, current_pA=100.0)
    known, f.state = f.state, replace(f.state, pending=late)
    f.lines.append("now the answers to it, of which another session's is none")
    for session in ("session-of-before", None):
        answer = f.acknowledgement("accepted", holds_from=2, ordered_pA=90.0, current_pA=100.0, session=session)
        f.state = known
        f.take(Acknowledged(1, "accepted", answer))
        known = f.state
        f.state = replace(f.state, pending=late)
    f.state = known
    f.take(Acknowledged(1, "accepted", answer.model_copy(update={"beam": None})))
    f.take(Acknowledged(1, "refused", answer))
    f.take(Acknowledged(99, "accepted", answer))
    return f


@flight
def an_instrument_whose_frames_dont_go_on() -> Flight:
    f = Flight().flying()
    f.lines.append("so 63 times more")
    kept = f.lines
    for _ in range(63):
        f.lines = []
        f.later(0.01).propose(beam_current_pA=90.0)
        f.answer(holds_from=9)
    f.lines = kept
    f.propose(beam_current_pA=90.0)
    return f


@flight
def an_answer_to_another_sessions_command() -> Flight:
    f = Flight().armed()
    f.later(0.5).propose()
    f.answer("refused", session="session-of-before", limit="session")
    f.answer()
    return f


@flight
def another_program_commands() -> Flight:
    f = Flight().flying()
    f.later(0.1).status(taken=1)
    return f


@flight
def proposals_on_old_spectra() -> Flight:
    f = Flight(replace(LIMITS, max_lease_s=5.0, spectrum_within_s=1.0, healthy_within_s=9.0))
    f.start(commands=INSTRUMENT.model_copy(update={"max_lease_s": 5.0}))
    f.status()
    f.operate("arm")
    long_ago = f.now_ns - BEHIND_NS
    f.later(2.0).propose(spectrum_sent_mono_ns=long_ago, lease_s=5.0)  # the beam was off
    f.answer()
    f.later(0.9).status(dose_pC=10.0)
    f.later(0.1).propose(spectrum_sent_mono_ns=long_ago, lease_s=5.0)
    f.answer()
    f.later(NS).propose(spectrum_sent_mono_ns=long_ago)
    f.propose(spectrum_sent_mono_ns=f.now_ns - BEHIND_NS - S)
    f.propose(spectrum_sent_mono_ns=f.now_ns - BEHIND_NS - S - 1)
    f.propose(spectrum_sent_mono_ns=f.now_ns - BEHIND_NS + 50 * S)
    f.propose(spectrum_sent_mono_ns=long_ago, blank=True)
    return f


@flight
def a_status_that_is_older_than_the_last() -> Flight:
    f = Flight().flying()
    f.later(0.5).status(dose_pC=10.0)
    f.later(0.1).status(dose_pC=12.0, current_pA=1.0, sent_s_ago=0.1)
    f.later(0.1).status(dose_pC=11.0, sent_s_ago=0.3)
    f.later(0.1).propose()
    return f


@flight
def a_guard_that_starts_on_a_beam_that_is_on() -> Flight:
    f = Flight(ledger=Ledger(1000.0, 0.0, "session-a", 200.0, 50.0), proposal_seq=2, operator_seq=3)
    f.start()
    f.wait(0.2)
    f.answer("unknown")
    f.status(dose_pC=60.0, taken=7, blanked=False, will_blank=False, lease=f.lease(1.0))
    f.wait(0.05)
    f.answer()
    return f


# What is seldom, and what no flight leads to


@flight
def a_guard_as_it_begins() -> Flight:
    f = Flight()
    f.lines.append(text(GuardState(LIMITS, "boot-1", Ledger(1.0))))
    f.lines.append(text(f.state))
    return f


@flight
def an_override_whose_instrument_has_a_faster_clock() -> Flight:
    """The lease is told to be short while its renewal is under way: no second renewal."""
    f = Flight().armed()
    f.later(0.5).operate("override")
    f.answer()
    f.wait(0.75)
    f.later(0.05).status(sent_s_ago=-1.0, lease=f.lease(1.1))
    f.wait(0.01)
    f.answer()
    return f


@flight
def an_approval_that_comes_too_late() -> Flight:
    f = Flight(replace(LIMITS, approve_within_s=0.75), approve_each=True)
    f.propose()
    f.propose(blank=True)
    f.armed()
    f.later(0.5).propose()
    f.wait(0.75)
    f.wait(NS)
    f.operate("approve", proposal_seq=f.seq)
    return f


@flight
def a_start_that_says_something_else_the_second_time() -> Flight:
    f = Flight()
    f.start()
    f.start(commands=None)
    f.start(commands=INSTRUMENT.model_copy(update={"max_current_pA": 6.0}))
    return f


@flight
def a_session_that_ends_in_flight() -> Flight:
    f = Flight().flying()
    f.end()
    f.wait(2.0)
    return f


@flight
def a_session_whose_start_is_missed() -> Flight:
    f = Flight().flying()
    f.status(session="session-b", dose_pC=0.0, taken=None, lease=None, blanked=True, will_blank=True)
    f.operate("arm", session="session-b")
    return f


@flight
def a_budget_that_ends_though_another_limit_cut_first() -> Flight:
    f = Flight(replace(LIMITS, budget_pC=100.0)).armed()
    f.later(0.5).propose(lease_s=9.0)
    f.answer()
    return f


@flight
def a_lease_of_exactly_one_frame() -> Flight:
    f = Flight().armed()
    f.later(0.5).propose(lease_s=0.4)
    f.answer()
    return f


@flight
def a_blank_before_all_else() -> Flight:
    f = Flight()
    f.start()
    f.operate("blank", seq=0)
    f.status(taken=None)
    f.operate("blank", seq=1)
    return f


@flight
def a_beam_that_is_on_before_anybody_let_it() -> Flight:
    f = Flight()
    f.start()
    f.status(taken=None, blanked=False, will_blank=False, lease=f.lease(1.0))
    f.wait(0.1)
    return f


@flight
def a_command_that_nobody_knows() -> Flight:
    f = Flight().flying()
    f.take(f.told("arm").model_copy(update={"action": "dance"}))
    f.take(Acknowledged(99, "unknown"))
    return f


@flight
def states_that_no_flight_leads_to() -> Flight:
    """Checks that others make needless, for the day when those are forgotten."""
    f = Flight().flying()
    sound = f.state
    for changes in ({"unfit": Broken("session", "it is unfit.")}, {"bounds": None}):
        f.state = replace(sound, **changes)
        f.propose()
        f.state = replace(sound, **changes)
        f.operate("override")
    fixed = replace(sound, mode=Mode.OVERRIDE, override=Rate(0.4, 100.0), lease_ends_ns=f.now_ns + 1, ordered_ns=0)
    for changes in ({"bounds": None}, {"session": None}, {"unfit": Broken("session", "it is unfit.")}):
        f.state = replace(fixed, **changes)
        f.take(Tick())
    f.state = replace(sound, bounds=None)
    f.later(0.1).status(next=1, current_pA=120.0, dose_pC=48.0)
    return f


def _compared(name: str, lines: list[str]) -> None:
    file = LOGBOOK / f"{name}.txt"
    written = "\n".join(lines) + "\n"
    if os.environ.get("EELSTM_WRITE_LOGBOOK"):
        LOGBOOK.mkdir(exist_ok=True)
        file.write_text(written)
    assert written.splitlines() == file.read_text().splitlines(), (
        "where that is meant: EELSTM_WRITE_LOGBOOK=1, and read the difference"
    )


@pytest.mark.parametrize("name", FLIGHTS)
def test_a_flight_goes_as_the_logbook_says(name):
    _compared(name, FLIGHTS[name]().lines)


def test_the_logbook_has_no_other_flights():
    assert {file.stem for file in LOGBOOK.iterdir()} == set(FLIGHTS)
