"""What a listener makes of a flight: when it's over, what it was worth, and how it's drawn."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.flight_log import FlightLog
from eelstm_stream.flight_report import FlightReport
from eelstm_stream.flight_screen import ledger_bar, phase_bar
from eelstm_stream.io.truth import Truth
from eelstm_stream.wire.messages import (
    BeamReport,
    ControllerStatus,
    Decision,
    EnergyAxis,
    GuardStatus,
    InstrumentStatus,
    Interval,
    LedgerReport,
    Proposal,
    Readback,
    SessionStart,
    Spectrum,
)

SESSION = "flown"
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SECOND = 1_000_000_000


def envelope(at_s: float = 0.0, seq: int = 0, session: str = SESSION) -> dict[str, Any]:
    return {"session": session, "seq": seq, "sent_mono_ns": round(at_s * SECOND)}


def start() -> SessionStart:
    return SessionStart(
        **envelope(), instrument="microscope", source="simulation", source_name="a test", dwell_s=0.4, started_at=AT,
        energy_axis=EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048), dose_is_relative=False,
        beam_current_pA=250.0, clock_id="one",
    )  # fmt: skip


def beam(*, blanked: bool, at_s: float = 1.0, dose_pC: float = 0.0, session: str = SESSION) -> InstrumentStatus:
    read = Readback(dwell_s=0.4, beam_current_pA=250.0, blanked=blanked)
    report = BeamReport(readback=read, ordered=read, holds_from_seq=0, next_seq=0, dose_pC=dose_pC)
    state = "blanked" if blanked else "exposing"
    return InstrumentStatus(
        **envelope(at_s, session=session), sender="sim", state=state, text="", clock_id="one", obeys=True, beam=report
    )


def guard(mode: Any) -> GuardStatus:
    return GuardStatus(**envelope(1.0), clock_id="one", mode=mode, text=f"it is {mode}")


def controller(state: Any, ceiling: float | None = 0.3) -> ControllerStatus:
    return ControllerStatus(
        **envelope(2.0), clock_id="one", state=state, text=f"the controller is {state}", preset="preserve",
        phase=Interval(value=0.28, low=0.26, high=0.30), phase_ceiling=ceiling,
    )  # fmt: skip


def frame(seq: int, dwell_s: float = 0.4, before_pC: float | None = None) -> Spectrum:
    until = AT + dt.timedelta(seconds=seq + dwell_s)
    return Spectrum(
        **envelope(seq, seq), dtype="<f4", shape=(2048,), dwell_s=dwell_s, beam_current_pA=250.0,
        acquired_at=until - dt.timedelta(seconds=dwell_s), acquired_until=until, dose_before_pC=before_pC,
    )  # fmt: skip


def heard(*messages: Any, speed: float = 1.0) -> FlightLog:
    log = FlightLog(speed)
    for message in (start(), *messages):
        log.take(message)
    return log


def test_it_goes_on_while_the_beam_is_on_and_before_it_ever_was() -> None:
    assert heard(beam(blanked=True), guard("disarmed"), controller("waiting")).over(99 * SECOND, 15.0) is None
    flying = heard(beam(blanked=True), beam(blanked=False), guard("auto"), controller("blanking"))
    assert flying.over(99 * SECOND, 15.0) is None


@pytest.mark.parametrize(
    ("mode", "state", "said"),
    [
        ("blank", "blanking", "the controller is blanking"),
        ("blank_latched", "controlling", "it is blank_latched"),
        ("disarmed", "controlling", "it is disarmed"),
    ],
)
def test_it_is_over_once_the_beam_is_blanked_and_stays_so(mode: str, state: str, said: str) -> None:
    log = heard(beam(blanked=False), guard("auto"), controller(state), guard(mode), beam(blanked=True))
    assert log.over(SECOND, 15.0) == said


def test_a_beam_that_is_off_for_want_of_a_proposal_may_come_back_for_a_while() -> None:
    log = heard(
        beam(blanked=False), guard("auto"), controller("controlling"), guard("blank"), beam(blanked=True, at_s=10)
    )
    assert log.over(20 * SECOND, 15.0) is None
    assert log.over(26 * SECOND, 15.0) == "the beam has been off for 15 s: it is blank"
    log.take(controller("waiting"))  # then it's the controller that knows for what
    assert log.over(26 * SECOND, 15.0) == "the beam has been off for 15 s: the controller is waiting"
    log.take(beam(blanked=False, at_s=27))
    assert log.over(99 * SECOND, 15.0) is None


def test_another_sessions_messages_are_passed_over() -> None:
    assert heard(beam(blanked=False, session="another")).beam is None


def test_a_command_is_as_late_as_its_acknowledgement_is_after_the_spectrum_behind_it() -> None:
    proposal = Proposal(
        **envelope(seq=7), from_seq=3, preset="preserve", blank=False, dwell_s=0.4, beam_current_pA=1.0, plan_dose_pC=(),
        lease_s=1.0, expires_mono_ns=9 * SECOND, reason="", spectrum_sent_mono_ns=SECOND,
    )  # fmt: skip
    decision = Decision(
        **envelope(), proposal_seq=7, outcome="accepted", reason="", mode="auto", spent_dose_pC=0.0, budget_dose_pC=1.0,
        acknowledged_mono_ns=SECOND + 20_000_000,
    )  # fmt: skip
    assert heard(proposal, decision).latency_percentile_ms(50) == pytest.approx(20.0)
    assert heard(decision).latency_percentile_ms(50) is None


def test_times_are_those_of_the_instrument_which_may_run_faster() -> None:
    log = heard(guard("auto"), controller("controlling"), frame(0), speed=10.0)
    assert log.modes == [(10.0, "auto")]
    assert log.estimates[0][0] == 20.0
    assert log.frames[0].ended_s == 0.4  # by its own stamps, which are in that time already


TRUTH = Truth(phase=0.25, dose_pC=250.0, phases=np.array([0.0, 0.5]), at_dose_pC=np.array([0.0, 500.0]))
BEYOND = Truth(phase=0.35, dose_pC=350.0, phases=TRUTH.phases, at_dose_pC=TRUTH.at_dose_pC)


def report(truth: Truth | None, *, ceiling: float | None = 0.3, preset: str = "preserve") -> FlightReport:
    frames = [frame(n, before_pC=100.0 * n) for n in range(3)]
    return FlightReport(heard(*frames, controller("blanking", ceiling)), preset, True, "it was enough", truth)


def test_below_the_ceiling_utilisation_is_the_share_of_the_dose_that_this_specimen_could_take() -> None:
    below = report(TRUTH)
    assert (below.overshoot, below.utilisation) == (0.0, pytest.approx(250 / 300))
    assert "true phase of 0.250, below the ceiling of 0.3: 83 %" in below.lines()[0]


def test_dose_beyond_the_ceiling_is_of_no_use_and_is_said_aloud() -> None:
    beyond = report(BEYOND)
    assert (beyond.overshoot, beyond.utilisation) == (pytest.approx(0.05), 1.0)
    assert "0.050 ABOVE the ceiling of 0.3" in beyond.lines()[0]
    assert "%" not in beyond.lines()[0]


def test_without_the_truth_nothing_is_claimed_about_it() -> None:
    unknown = report(None)
    assert (unknown.overshoot, unknown.utilisation, unknown.figures()["phase"]) == (None, None, None)
    assert "as forecast" in unknown.lines()[0]


def test_a_phase_that_does_not_follow_from_dose_alone_has_no_dose_of_its_ceiling() -> None:
    healing = report(Truth(0.25, 250.0, np.empty(0), np.empty(0)))
    assert (healing.utilisation, healing.overshoot) == (None, 0.0)
    assert healing.phase_steps == []


def test_forecasts_that_were_not_used_are_told_but_not_those_that_were_overtaken() -> None:
    told = {"alignment_uncertain": 8, "skipped": 2}
    discarding = controller("waiting").model_copy(update={"discarded": 10, "discarded_by": told})
    dropped = FlightReport(heard(discarding, frame(0)), "preserve", True, "over", None)
    assert "The controller did not use 8 of the forecasts: alignment_uncertain 8." in dropped.lines()
    assert (dropped.figures()["discarded"], dropped.figures()["discarded_by"]) == (10, told)
    overtaken = discarding.model_copy(update={"discarded_by": {"skipped": 2}})
    lines = FlightReport(heard(overtaken, frame(0)), "preserve", True, "over", None).lines()
    assert not any("did not use" in line for line in lines)


def test_the_change_of_each_frame_in_the_transition_is_counted() -> None:
    resolved = report(TRUTH, ceiling=None, preset="resolve")
    assert resolved.phase_steps == pytest.approx([0.1, 0.1, 0.1])
    assert resolved.figures()["frames_within_step"] == 0.0
    assert any("0 of the 3 frames" in line for line in resolved.lines())


def test_the_phase_bar_marks_interval_and_ceiling_on_one_scale() -> None:
    bar = phase_bar(Interval(value=0.25, low=0.2, high=0.3), 0.4, 0.5, 50)
    assert bar.plain == "█" * 20 + "▒" * 10 + " " * 10 + "┃" + " " * 9
    assert phase_bar(Interval(value=0.0, low=-0.3, high=2.0), None, 1.0, 10).plain == "▒" * 10
    assert phase_bar(None, 0.5, 0.5, 10).plain == " " * 9 + "┃"


def test_the_ledger_bar_shows_what_is_leased_apart_from_what_is_spent() -> None:
    ledger = LedgerReport(budget_pC=100.0, charged_pC=50.0, reported_pC=30.0, left_pC=50.0)
    assert ledger_bar(ledger, 10).plain == "███▒▒·····"
