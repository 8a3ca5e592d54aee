"""The controller's step by itself: what it makes of messages, with no process and no clock."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.aim import Aim, contradiction, limits_for
from controller.control import step
from controller.control_events import AskForSession, Event, Propose, Tick
from controller.control_learning import ATTEMPTS
from controller.control_state import ControlState, status
from controller.in_flight import COMMAND_S, From, Orders, Rate, ahead_of
from controller.mpc import Plan
from controller.problem import HORIZON, Problem, ProblemError
from eelstm_stream.wire.messages import (
    BeamReport,
    CommandLimits,
    ControllerStatus,
    Decision,
    EnergyAxis,
    GuardStatus,
    InstrumentStatus,
    Interval,
    LedgerReport,
    Message,
    QualityFlag,
    Readback,
    SessionStart,
    StageLatency,
    Status,
    Summary,
)
from tests.properties import examples

SECOND = 1_000_000_000
DWELL_S, CURRENT_PA, DOSE_PC = 0.4, 230.0, 92.0
LIMITS = CommandLimits(
    min_dwell_s=0.005,
    max_dwell_s=10.0,
    min_current_pA=1.0,
    max_current_pA=500.0,
    max_lease_s=60.0,
    delay_frames=1,
    delay_s=0.1,
)
CLOCK = "this-boot"
BUDGET_PC = 20_000.0


def phase(dose_pC: float) -> float:
    return 1 - math.exp(-((dose_pC / 7500) ** 1.9))


class Flown:
    """A controller with what surrounds it, played frame by frame: an instrument at a fixed rate, a forecaster, an armed guard."""

    def __init__(self, aim: Aim | None = None, **start: Any) -> None:
        self.state = ControlState(aim or Aim(), CLOCK)
        self.now_ns = SECOND
        self.seq = -1
        self.dose_pC = 0.0
        self.proposed: list[Propose] = []
        self.solve: Any = None
        self.take(self.start(**start))

    def take(self, event: Event) -> list[Propose]:
        solve = {} if self.solve is None else {"solve": self.solve}
        self.state, outputs = step(self.state, event, self.now_ns, **solve)
        self.asked = any(isinstance(output, AskForSession) for output in outputs)
        proposed = [output for output in outputs if isinstance(output, Propose)]
        for propose in proposed:
            propose.message(0, self.now_ns)  # as it's published
        self.proposed += proposed
        return proposed

    @property
    def envelope(self) -> dict[str, Any]:
        return {"session": "s", "seq": 0, "sent_mono_ns": self.now_ns}

    def start(self, **changes: Any) -> SessionStart:
        fields: dict[str, Any] = {
            **self.envelope,
            "instrument": "microscope",
            "source": "simulation",
            "energy_axis": EnergyAxis(offset_eV=400, dispersion_eV=0.1, size=10),
            "dwell_s": DWELL_S,
            "beam_current_pA": CURRENT_PA,
            "dose_is_relative": False,
            "commands": LIMITS,
            "started_at": datetime(2026, 1, 1, tzinfo=UTC),
            "clock_id": CLOCK,
        }
        return SessionStart(**(fields | changes))

    def beam(self, *, blanked: bool, session: str = "s") -> list[Propose]:
        read = Readback(dwell_s=DWELL_S, beam_current_pA=CURRENT_PA, blanked=blanked)
        next_seq = self.seq + 1 if blanked else self.seq + 2
        beam = BeamReport(readback=read, ordered=read, holds_from_seq=next_seq, next_seq=next_seq, dose_pC=self.dose_pC)
        fields = self.envelope | {"session": session}
        return self.take(InstrumentStatus(**fields, state="blanked", text="", clock_id=CLOCK, obeys=True, beam=beam))

    def guard(self, mode: Any = "auto", **changes: Any) -> list[Propose]:
        left_pC = BUDGET_PC - self.dose_pC
        ledger = LedgerReport(budget_pC=BUDGET_PC, charged_pC=self.dose_pC, reported_pC=self.dose_pC, left_pC=left_pC)
        return self.take(GuardStatus(**(self.envelope | changes), clock_id=CLOCK, mode=mode, text="", ledger=ledger))

    def forecaster(self, state: Any = "filling") -> list[Propose]:
        return self.take(Status(**self.envelope, sender="forecaster", state=state, text="", needed=3))

    def expose(self, seconds: float = DWELL_S) -> None:
        """A frame ends."""
        self.now_ns += round(seconds * SECOND)
        self.seq += 1
        self.dose_pC += DOSE_PC

    def summary(self, **changes: Any) -> Summary:
        def interval(value: float) -> Interval:
            return Interval(value=value, low=value - 0.03, high=value + 0.03)

        fields: dict[str, Any] = {
            **self.envelope,
            "from_seq": self.seq,
            "spectrum_sent_mono_ns": self.now_ns,
            "clock_id": CLOCK,
            "model_name": "m",
            "model_sha256": "0" * 64,
            "window": 8,
            "horizons": tuple(range(1, 9)),
            "valid_at": (datetime(2026, 1, 1, tzinfo=UTC),) * 8,
            "window_domain": "dose",
            "reference_dose_pC": DOSE_PC,
            "reference_dwell_s": DWELL_S,
            "simulated": True,
            "at_dose_pC": self.dose_pC,
            "phase_now": interval(phase(self.dose_pC)),
            "phase": tuple(interval(phase(self.dose_pC + h * DOSE_PC)) for h in range(1, 9)),
            "latency": StageLatency(queued_ns=0, prepared_ns=0, inferred_ns=0, batch=1),
        }
        return Summary(**(fields | changes))

    def forecast(self, **changes: Any) -> list[Propose]:
        """A frame ends, and its forecast comes."""
        self.expose()
        self.guard()
        return self.take(self.summary(**changes))

    def take_off(self, frames: int = 8) -> Flown:
        """Up to a first plan."""
        self.beam(blanked=True)
        self.guard()
        assert self.forecaster()
        for _ in range(frames):
            self.expose()
        self.beam(blanked=False)
        assert self.forecast()[0].plan_dose_pC
        return self

    @property
    def said(self) -> dict[str, Any]:
        """As it's published."""
        message = ControllerStatus(**self.envelope, clock_id=CLOCK, **status(self.state))
        return message.model_dump()


def failing(problem: Problem, previous: Plan | None) -> Plan:
    raise ProblemError("it fails, says the test")


def test_a_flight_learns_controls_and_ends_at_its_ceiling():
    flown = Flown().take_off()
    assert flown.state.state == "controlling"
    while not flown.proposed[-1].blank:
        flown.forecast()
    assert flown.state.state == "blanking"
    assert "ceiling reached" in flown.said["text"]
    # At a rate that nobody slows down here, it's blanked in time all the same: before the frame that would lead beyond.
    assert phase(flown.dose_pC) < 0.3
    assert flown.dose_pC > 0.6 * 4359
    assert all(propose.blank for propose in [*flown.forecast(), *flown.forecast()])


@pytest.mark.parametrize("mode", ["disarmed", "override", "blank_latched"])
def test_nothing_is_proposed_to_a_guard_that_takes_nothing(mode: str):
    flown = Flown().take_off()
    flown.expose()
    flown.guard(mode)
    assert flown.take(flown.summary()) == []
    assert flown.state.state == "waiting"
    assert flown.state.session is not None
    assert flown.state.session.newest is not None
    assert flown.state.session.newest.from_seq == flown.seq  # but what it says of the specimen is remembered


def test_nothing_is_proposed_to_a_guard_of_another_session_nor_to_a_silent_one():
    flown = Flown().take_off()
    flown.expose()
    flown.guard(session="another")
    assert flown.take(flown.summary()) == []
    flown.forecast()
    flown.now_ns += 4 * SECOND
    flown.expose()
    assert flown.take(flown.summary()) == []
    assert "nothing is heard from the guard" in flown.said["text"]


def test_without_an_armed_guard_there_is_no_start_rate():
    flown = Flown()
    flown.beam(blanked=True)
    flown.guard("disarmed")
    assert flown.forecaster() == []
    assert "must arm it" in flown.said["text"]


def test_advice_needs_no_guard_and_never_lets_the_beam_on():
    flown = Flown(Aim(preset="advise"), commands=None)
    assert flown.forecaster() == []
    flown.state = replace(
        flown.state, session=replace(flown.state.session, orders=Orders((From(0, Rate(DWELL_S, CURRENT_PA)),)))
    )
    for _ in range(8):
        flown.expose()
    (propose,) = flown.take(flown.summary())
    assert propose.preset == "advise"
    assert flown.state.state == "advising"


def test_forecasts_that_stop_end_the_proposals():
    flown = Flown().take_off()
    for _ in range(40):
        flown.now_ns += SECOND // 10
        flown.beam(blanked=False)
        flown.guard()
        assert flown.forecaster("silent") == []
        assert flown.take(Tick()) == []
    assert flown.state.state == "waiting"
    assert "no usable forecast since spectrum 8" in flown.said["text"]


def test_it_tries_a_few_times_to_get_forecasts_and_then_leaves_it_to_a_person():
    flown = Flown().take_off()
    attempts = 0
    for _ in range(3 * ATTEMPTS):
        flown.now_ns += 2 * SECOND
        flown.beam(blanked=True)
        flown.guard()
        attempts += bool(flown.forecaster("silent"))
        flown.forecaster("invalid")
        flown.beam(blanked=False)
    assert attempts == ATTEMPTS
    flown.beam(blanked=True)
    flown.forecaster("silent")
    assert "disarm and arm" in flown.said["text"]
    flown.guard("disarmed")
    flown.beam(blanked=True)
    flown.guard()
    assert flown.forecaster("silent")


def test_what_goes_without_a_forecast_is_bounded():
    flown = Flown(Aim(learn_pC=500.0))
    flown.beam(blanked=True)
    flown.guard()
    frames = 0
    while flown.forecaster() and frames < 100:
        frames += 1
        flown.expose()
        flown.beam(blanked=False)
        flown.guard()
    assert frames == 6  # 552 pC
    assert "552 pC have gone without one usable forecast, and 500 pC may" in flown.said["text"]


def test_a_failing_solver_leaves_the_plan_before_until_its_end():
    flown = Flown().take_off()
    good = flown.proposed[-1]
    flown.solve = failing
    shifted = []
    while (propose := flown.forecast()[0]).blank is False:
        assert flown.state.state == "fallback"
        shifted.append(propose)
    assert 1 <= len(shifted) < HORIZON
    for frames, propose in enumerate(shifted, start=1):
        assert propose.plan_dose_pC == good.plan_dose_pC[frames:]
        assert propose.dwell_s == pytest.approx(good.plan_dwell_s[frames])
    assert flown.said["fallbacks"] == len(shifted) + 1
    assert "no plan could be made" in flown.said["text"]
    flown.solve = None
    assert flown.forecast()[0].blank  # it stays so, until somebody has looked
    flown.guard("disarmed")
    assert not flown.forecast()[0].blank


def test_a_session_without_a_current_is_refused_and_says_why():
    flown = Flown(beam_current_pA=None, dose_is_relative=True)
    assert flown.state.state == "refused"
    assert "current of this session is unknown" in flown.said["text"]
    assert flown.forecast() == []


def test_an_instrument_that_takes_no_commands_is_refused():
    flown = Flown(commands=None)
    assert flown.state.state == "refused"
    assert "takes no commands" in flown.said["text"]


def test_a_new_session_starts_clean_and_the_old_one_speaking_again_stops_everything():
    flown = Flown().take_off()
    flown.now_ns += SECOND
    flown.take(flown.start(session="t"))
    assert flown.state.session is not None
    assert flown.state.session.newest is None
    assert (flown.said["proposals"], flown.said["phase"]) == (0, None)
    flown.now_ns += SECOND
    flown.beam(blanked=False)
    assert flown.state.state == "refused"
    assert "two instruments have one name" in flown.said["text"]
    flown.expose()
    assert flown.take(flown.summary(session="t")) == []


def test_a_session_that_was_over_can_not_begin_again():
    flown = Flown()
    flown.take(flown.start(session="t"))
    flown.take(flown.start(session="s"))
    assert flown.state.state == "refused"
    assert flown.state.session is not None
    assert flown.state.session.start.session == "t"


def test_what_is_done_stays_done_though_later_forecasts_say_otherwise():
    flown = Flown().take_off()
    flown.state = replace(flown.state, session=replace(flown.state.session, done="done, says the test"))
    assert [propose.blank for propose in flown.forecast()] == [True]
    assert flown.said["text"] == "done, says the test"
    flown.guard("disarmed")
    assert [propose.blank for propose in flown.forecast()] == [True]


def test_a_forecast_from_an_old_spectrum_is_stale():
    flown = Flown().take_off()
    flown.expose()
    late = flown.summary()
    flown.now_ns += 2 * SECOND
    flown.guard()
    assert flown.take(late) == []
    assert flown.said["discarded_by"] == {"stale": 1}
    assert "its spectrum is 2.00 s old" in flown.said["discarded_why"]


UNALIGNED = QualityFlag(flag="alignment_uncertain", reason="not aligned: correlation with the reference -0.28")
OUTSIDE = QualityFlag(flag="outside_training_range", reason="15% of the channels are outside")


@pytest.mark.parametrize("flag", [UNALIGNED, OUTSIDE], ids=lambda flag: flag.flag)
def test_a_single_flagged_forecast_is_not_acted_on_and_does_not_end_the_flight(flag: QualityFlag):
    flown = Flown().take_off()
    assert flown.forecast(quality=(flag,)) == []
    assert flown.said["discarded_by"] == {flag.flag: 1}
    assert f"is flagged {flag.flag} ({flag.reason})" in flown.said["discarded_why"]
    assert flown.state.session is not None
    assert flown.state.session.newest is not None
    assert flown.state.session.newest.from_seq == flown.seq - 1  # nothing of it is remembered
    assert flown.forecast()[0].plan_dose_pC
    assert flown.state.state == "controlling"


def test_a_forecast_with_both_flags_is_counted_once_and_says_both():
    flown = Flown().take_off()
    flown.forecast(quality=(OUTSIDE, UNALIGNED))
    assert flown.said["discarded"] == 1
    assert "15% of the channels" in flown.said["discarded_why"]
    assert "correlation with the reference -0.28" in flown.said["discarded_why"]


def test_other_flags_are_no_reason_not_to_act():
    flown = Flown().take_off()
    assert flown.forecast(quality=(QualityFlag(flag="resampled", reason="from 0.25 eV"),))[0].plan_dose_pC
    assert flown.said["discarded"] == 0


def test_whoever_accepts_flagged_forecasts_has_them_acted_on():
    flown = Flown(Aim(accept_flagged=True)).take_off()
    assert flown.forecast(quality=(UNALIGNED, OUTSIDE))[0].plan_dose_pC
    assert flown.said["discarded"] == 0
    assert (
        flown.forecast(phase_now=Interval(value=7.0, low=6.9, high=7.1), quality=(UNALIGNED,)) == []
    )  # still no phase
    assert flown.said["discarded_by"] == {"absurd": 1}


def learnt(forecasts: int) -> Flown:
    """At the start rate until its first forecasts come, all of them flagged."""
    flown = Flown()
    flown.beam(blanked=True)
    flown.guard()
    assert flown.forecaster()
    for _ in range(8):
        flown.expose()
    flown.beam(blanked=False)
    for _ in range(forecasts):
        assert flown.forecast(quality=(UNALIGNED,)) == []
    return flown


def test_where_every_forecast_is_flagged_the_start_rate_does_not_go_on_for_ever():
    flown = learnt(3)
    for blanked, state in ((False, "forecasting"), (False, "filling"), (True, "silent"), (True, "filling")):
        flown.now_ns += SECOND
        flown.beam(blanked=blanked)
        flown.guard()
        assert flown.forecaster(state) == []
        assert flown.take(Tick()) == []
    assert flown.state.state == "waiting"
    assert "3 forecasts in a row were of no use" in flown.said["text"]
    for words in ("alignment_uncertain", "may not know this specimen", "train one on recordings", "--accept-flagged"):
        assert words in flown.said["text"]


def test_a_first_forecast_that_is_flagged_does_not_end_a_flight_whose_next_one_is_not():
    flown = learnt(1)
    assert flown.forecast()[0].plan_dose_pC
    assert flown.state.state == "controlling"


def test_the_start_of_an_unknown_session_is_asked_for():
    flown = Flown()
    flown.beam(blanked=True, session="unheard")
    assert flown.asked


def test_a_forecast_on_another_clock_is_stale_by_its_number():
    flown = Flown(clock_id="another").take_off()
    late = flown.summary(clock_id="another", spectrum_sent_mono_ns=1)
    for _ in range(7):
        flown.expose()
    flown.beam(blanked=False)
    late = late.model_copy(update={"from_seq": late.from_seq + 1, "at_dose_pC": (late.at_dose_pC or 0) + DOSE_PC})
    flown.take(late)
    assert flown.said["discarded_by"] == {"stale": 1}


def test_a_decision_says_what_was_ordered_and_how_far_the_budget_reaches():
    flown = Flown().take_off()
    flown.take(
        Decision(
            **flown.envelope,
            outcome="clamped",
            reason="",
            mode="auto",
            dwell_s=0.2,
            beam_current_pA=100.0,
            spent_dose_pC=5000.0,
            budget_dose_pC=8000.0,
            until_dose_pC=1500.0,
            acknowledged_mono_ns=flown.now_ns,
        )
    )
    session = flown.state.session
    assert session is not None
    assert session.orders.newest == Rate(0.2, 100.0)
    assert session.allowed_pC == 1500.0 + 3000.0


def ahead(orders: Orders, limits: CommandLimits = LIMITS, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "from_seq": 10,
        "at_pC": 1000.0,
        "age_s": 0.01,
        "pause_s": 0.0,
        "is_blanked": False,
        "committed_pC": 0.0,
    }
    return ahead_of(orders, limits, **(fields | changes))


def test_a_plan_begins_behind_the_frame_in_progress_and_the_delay():
    orders = Orders((From(0, Rate(0.4, 230.0)), From(12, Rate(0.2, 100.0))))
    found = ahead(orders)
    # 11 is in progress and has the old rate; 12 is the next to begin, and with one frame's delay the order holds from 13 on.
    assert found.frames_pC == (92.0, 20.0)
    assert (found.first_seq, found.begins_pC) == (13, 1112.0)
    assert found.begins_s == pytest.approx(0.6)
    assert found.if_blanked_pC == pytest.approx(1000 + 230 * (0.01 + COMMAND_S))
    assert found.if_blanked_next_pC == pytest.approx(1092 + 100 * (0.01 + COMMAND_S))


def test_a_delay_in_seconds_counts_where_it_is_the_longer_one():
    found = ahead(Orders((From(0, Rate(0.02, 100.0)),)))
    assert len(found.frames_pC) == 6  # 0.12 s: the first start that is 0.1 s and what the command takes from now


def test_under_a_blanked_beam_nothing_is_in_flight():
    found = ahead(Orders((From(0, Rate(0.4, 230.0)),)), is_blanked=True, committed_pC=1200.0)
    assert (found.frames_pC, found.begins_pC) == ((), 1200.0)


@given(
    st.floats(0.005, 2.0),
    st.floats(1.0, 500.0),
    st.integers(0, 40),
    st.floats(0.0, 2.0),
    st.floats(0.0, 0.3),
    st.floats(0.0, 0.5),
)
@examples(100)
def test_blanking_now_never_costs_more_than_blanking_later(
    dwell_s: float, current_pA: float, delay_frames: int, delay_s: float, blank_delay_s: float, age_s: float
):
    limits = LIMITS.model_copy(
        update={"delay_frames": delay_frames, "delay_s": delay_s, "blank_delay_s": blank_delay_s}
    )
    found = ahead(Orders((From(0, Rate(dwell_s, current_pA)),)), limits, age_s=age_s)
    assert 1000 <= found.if_blanked_pC <= found.if_blanked_next_pC * (1 + 1e-12)
    assert found.if_blanked_next_pC - found.if_blanked_pC <= current_pA * dwell_s * (1 + 1e-9) + 1e-6
    assert found.begins_pC == pytest.approx(1000 + sum(found.frames_pC))
    assert len(found.frames_pC) > delay_frames


def test_aims_that_contradict_themselves():
    assert contradiction(Aim()) is None
    for aim, words in (
        (Aim(phase_ceiling=math.nan), "above 0 and at most at 1"),
        (Aim(phase_ceiling=0.0), "above 0 and at most at 1"),
        (Aim(preset="track"), "needs a trajectory"),
        (Aim(track=((0.0, 0.1),)), "is for preset track"),
        (Aim(preset="track", track=((0.0, 0.2), (1.0, 0.1))), "don't fall"),
        (Aim(preset="track", track=((0.0, math.nan),)), "from 0 to 1"),
        (Aim(min_dose_pC=math.inf), "min_dose_pC must be a finite number"),
        (Aim(min_dwell_s=2.0, max_dwell_s=1.0), "is above max_dwell_s"),
    ):
        assert words in (contradiction(aim) or "")


def test_limits_that_leave_nothing_are_told():
    start = Flown().start()
    assert "leave none of that" in str(limits_for(Aim(min_dwell_s=20.0, max_dwell_s=30.0), start))
    assert "can't go below 1 pA" in str(limits_for(Aim(max_current_pA=0.5), start))
    limits = limits_for(Aim(max_current_pA=100.0, max_dwell_s=1.0), start)
    assert isinstance(limits, CommandLimits)
    assert (limits.max_current_pA, limits.max_dwell_s, limits.max_lease_s) == (100.0, 1.0, 2.0)


def test_messages_of_no_concern_change_nothing():
    flown = Flown().take_off()
    before = flown.state
    message: Message = Status(**flown.envelope, sender="simulator", state="waiting", text="")
    assert isinstance(message, Status)
    assert flown.take(message) == []
    assert flown.state == before
