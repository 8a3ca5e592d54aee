"""Section 13 of the design in flight: real processes, a fault, and what becomes of the beam. The rows are numbered as there."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eelstm_stream.wire.messages import (
    ControllerStatus,
    Decision,
    GuardStatus,
    InstrumentStatus,
    Proposal,
    SessionStart,
    Status,
    Summary,
)
from tests.flying import Flying, granted_pC
from tests.programs import let_pass

LONG_S = 60  # of the instrument's time: several leases
STALE_S = 2.5  # longer than a spectrum of 0.4 s and a proposal are good for


@pytest.fixture(scope="module")
def flying() -> Iterator[Flying]:
    with tempfile.TemporaryDirectory(prefix="fly") as folder, Flying(Path(folder)) as flying:
        yield flying


@pytest.fixture(autouse=True)
def all_programs_run(flying: Flying) -> Iterator[None]:
    flying.heard.clear()
    yield
    for name in ("serve", "control", "guard"):
        assert flying.programs[name].is_running, f"{name} has ended: {flying.programs[name].last_words()}"


def ends_blanked_by_its_lease(flying: Flying, session: str) -> InstrumentStatus:
    """The instrument blanks because its lease has ended, and the specimen got no more than was leased."""
    told = flying.until(
        InstrumentStatus, lambda m: m.session == session and m.state == "blanked" and "the lease" in m.text
    )
    assert told.beam is not None
    assert told.beam.lease is None
    granted = granted_pC(flying, session)
    assert told.beam.dose_pC is not None
    assert 0 < told.beam.dose_pC <= granted * (1 + 1e-9)
    return told


def nothing_more_is_granted(flying: Flying, session: str) -> None:
    """From here through a few of everybody's statuses, no command lets the beam on."""
    for _ in range(2):
        flying.until(GuardStatus, lambda m: m.session == session)
        told = flying.until(InstrumentStatus, lambda m: m.session == session)
        assert told.beam is not None
        assert told.beam.readback.blanked


def test_row_11_a_new_session_is_a_clean_start_and_disarmed(flying: Flying) -> None:
    with flying.instrument("[[fault]]\nkind='restart'\nframe=30"):
        first = flying.take_off()
        start = flying.until(SessionStart, lambda m: m.session != first)
        guard = flying.until(GuardStatus, lambda m: m.session == start.session)
        assert guard.mode == "disarmed"
        assert (guard.accepted, guard.refused) == (0, 0)
        told = flying.until(ControllerStatus, lambda m: m.session == start.session and "must arm it" in m.text)
        assert (told.proposals, told.phase) == (0, None)
        assert set(told.discarded_by) <= {"session"}  # a forecast of the old one may have been on its way
        nothing_more_is_granted(flying, start.session)
        assert not [m for m in flying.of(Decision, start.session) if m.outcome != "refused"]
        flying.session = start.session
        assert flying.take_off() == start.session  # and it flies again once a person has armed it


def test_row_12_two_publishers_with_one_name_latch(flying: Flying) -> None:
    with flying.instrument("[[fault]]\nkind='second_publisher'\nframe=25\nframes=100"):
        session = flying.take_off()
        guard = flying.mode("blank_latched")
        assert guard.latched_by is not None
        assert "two instruments" in guard.latched_by
        flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
        assert flying.controller("refused").text.endswith("two instruments have one name")
        status = flying.until(GuardStatus)  # and stays so
        assert status.mode == "blank_latched"
        assert flying.tell("arm", status.session).limit == "latched"


def test_row_13_a_silent_source_ends_blanked_and_its_return_does_not_arm(flying: Flying) -> None:
    with flying.instrument(f"[[fault]]\nkind='silence'\nframe=25\nfor_s={LONG_S}"):
        session = flying.take_off()
        flying.mode("hold", session=session)
        flying.mode("blank", "disarmed", session=session)
        assert flying.controller("waiting", "no usable forecast since spectrum").session == session
        told = flying.until(InstrumentStatus, lambda m: m.session == session)  # it's back
        assert told.state == "blanked"
        assert flying.mode("disarmed", session=session).readback is not None
        nothing_more_is_granted(flying, session)


def test_row_14_frozen_spectra_are_no_spectra(flying: Flying) -> None:
    with flying.instrument("[[fault]]\nkind='frozen'\nframe=25\nframes=2000"):
        session = flying.take_off()
        flying.until(Status, lambda m: m.session == session and "the camera is frozen" in m.text)
        flying.mode("hold", session=session)
        ends_blanked_by_its_lease(flying, session)
        assert flying.mode("blank", session=session).latched_by is None
        newest = max(m.from_seq for m in flying.of(Summary, session))
        assert newest <= 25  # no forecast came from what was frozen


def test_row_18_without_forecaster_or_controller_the_lease_ends(flying: Flying) -> None:
    with flying.instrument():
        session = flying.take_off()
        for name in ("control", "serve"):
            flying.kill(name)
            try:
                ends_blanked_by_its_lease(flying, session)
                assert flying.mode("blank", session=session).latched_by is None
                nothing_more_is_granted(flying, session)
            finally:
                flying.start(name)
            # The guard is armed still: back again, it learns and flies on in the same session.
            flying.until(ControllerStatus, lambda m: m.session == session and m.state == "learning")
            flying.until(ControllerStatus, lambda m: m.session == session and m.state == "controlling")
            flying.beam(blanked=False)


def test_row_17_what_stood_still_acts_on_nothing_old(flying: Flying) -> None:
    with flying.instrument():
        session = flying.take_off()
        for name in ("control", "serve"):
            with flying.standing_still(name):
                ends_blanked_by_its_lease(flying, session)
                let_pass(STALE_S)
            told = flying.until(ControllerStatus, lambda m: m.session == session and m.discarded_by.get("stale", 0) > 0)
            assert "is stale: its spectrum is" in told.discarded_why
            flying.until(ControllerStatus, lambda m: m.session == session and m.state == "controlling")
            flying.beam(blanked=False)
        with flying.standing_still("guard"):
            ends_blanked_by_its_lease(flying, session)
            let_pass(STALE_S)
            before = len(flying.heard)
        refused = flying.until(Decision, lambda m: m.session == session and m.limit == "expired")
        assert refused.command_seq is None
        expires = {m.seq: m.expires_mono_ns for m in flying.of(Proposal, session)}
        taken = [m for m in flying.heard[before:] if isinstance(m, Decision) and m.outcome != "refused"]
        assert all((m.decided_mono_ns or 0) <= expires[m.proposal_seq] for m in taken if m.proposal_seq in expires)


def test_row_19_without_its_guard_the_instrument_blanks_and_the_lease_stays_charged(flying: Flying) -> None:
    with flying.instrument():
        session = flying.take_off()
        flying.kill("guard")
        try:
            ends_blanked_by_its_lease(flying, session)
            granted = granted_pC(flying, session)
            told = flying.until(ControllerStatus, lambda m: m.session == session and m.state == "waiting")
        finally:
            flying.start("guard")
        guard = flying.until(GuardStatus, lambda m: m.session == session and m.readback is not None)
        assert told.session == session
        assert guard.mode == "disarmed"
        assert guard.ledger is not None
        assert guard.ledger.charged_pC >= granted  # earlier flights of this journal come on top
        nothing_more_is_granted(flying, session)


def test_a_killed_instrument_takes_its_beam_along_and_the_guard_goes_on(flying: Flying) -> None:
    with flying.instrument() as simulator:
        session = flying.take_off()
        simulator.process.send_signal(signal.SIGKILL)
        simulator.process.wait()
        flying.mode("hold", session=session)
        flying.mode("disarmed", session=session)


def test_row_26_who_does_other_than_ordered_is_charged_and_latched(flying: Flying) -> None:
    with flying.instrument("[[fault]]\nkind='other_than_ordered'\nframe=20\nframes=1000\ncurrent_factor=1.5"):
        session = flying.take_off()
        guard = flying.mode("blank_latched", session=session)
        assert guard.latched_by is not None
        assert "was ordered, and the instrument" in guard.latched_by
        assert guard.ledger is not None
        told = flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
        assert told.beam is not None
        assert told.beam.dose_pC is not None
        earlier = next(m for m in flying.of(GuardStatus, session) if m.ledger is not None).ledger
        assert earlier is not None
        assert guard.ledger.charged_pC - earlier.charged_pC >= told.beam.dose_pC
        decided = flying.of(Decision, session)
        assert [m.limit for m in decided if m.action == "guard"][-1] == "readback"


def test_a_ceiling_below_the_present_phase_blanks_and_says_so(flying: Flying) -> None:
    with flying.instrument(preset="fast"):  # transformed before there is a forecast
        session = flying.arm()
        told = flying.until(ControllerStatus, lambda m: m.session == session and m.state == "blanking")
        assert "the ceiling of 0.3 lies below the present phase" in told.text
        asked = flying.of(Proposal, session)[-1]
        assert asked.blank
        assert asked.reason == told.text
        blanked = flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
        assert "commanded" in blanked.text
        assert flying.mode("blank", session=session).latched_by is None
