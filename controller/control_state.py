"""What the controller remembers, and how it says how it stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.aim import Aim
from controller.control_events import ControllerStateName
from controller.in_flight import Orders
from controller.mpc import Plan
from controller.plant import PhaseEstimate
from eelstm_stream.wire.messages import (
    MAX_HORIZONS,
    BeamReport,
    CommandLimits,
    GuardStatus,
    Interval,
    SessionStart,
    Status,
    Summary,
)

Z_95 = 1.959964
MOST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of the instrument's session."""

    start: SessionStart
    limits: CommandLimits  # what may be proposed
    refused: bool = False  # this session can't be controlled
    estimate: PhaseEstimate = field(default_factory=PhaseEstimate)
    newest: Summary | None = None  # that was used
    used_ns: int = 0  # when
    exposed_s: float = 0.0  # of exposure, since the first forecast
    orders: Orders = field(default_factory=Orders)
    beam: BeamReport | None = None
    beam_sent_ns: int = 0
    blanked_ns: int = 0  # when the beam was heard to be off, after it had been on
    acknowledged_ns: int = 0  # when the newest order was, by the guard's clock
    allowed_pC: float | None = None  # dose of the session at which the budget ends
    learning: bool = False  # a start rate is proposed, so that there are spectra to make a forecast from
    attempts: int = 0  # at that, since the last usable forecast
    learn_from_pC: float | None = None  # dose of the session when that forecast was made
    plan: Plan | None = None
    plan_from_seq: int = 0  # its first frame
    ends_pC: float | None = None  # dose of the session at which phase with its margin meets the ceiling
    to_ceiling_pC: Interval | None = None  # dose from the newest spectrum until phase meets it
    failures: int = 0  # solves in a row
    done: str = ""  # why blanking is all that is proposed in this session
    given_up: str = ""  # the same, until an operator has disarmed
    starving: int = 0  # forecasts in a row that were no good
    proposed_ns: int = 0
    proposals: int = 0
    fallbacks: int = 0
    discarded: dict[str, int] = field(default_factory=dict)
    discarded_why: str = ""

    @property
    def period_s(self) -> float:
        """Start to start of frames, by the dwell that was ordered last."""
        rate = self.orders.newest
        return (self.start.dwell_s if rate is None else rate.dwell_s) + self.pause_s

    @property
    def pause_s(self) -> float:
        """From the end of a frame to the start of the next."""
        period_s = self.start.frame_period_s
        return 0.0 if period_s is None else max(0.0, period_s - self.start.dwell_s)

    @property
    def is_blanked(self) -> bool:
        """As far as the instrument told."""
        return self.beam is None or (self.beam.readback.blanked and self.beam.ordered.blanked)

    @property
    def dose_pC(self) -> float:
        """What the specimen received in this session, as far as anybody told."""
        told_pC = 0.0 if self.beam is None or self.beam.dose_pC is None else self.beam.dose_pC
        return max(told_pC, self.estimate.dose_pC)


@dataclass(frozen=True, slots=True)
class ControlState:
    """Of one controller. Begin with `ControlState(aim, clock_id)`."""

    aim: Aim
    clock_id: str  # of the controller's own monotonic clock
    session: Session | None = None
    earlier: tuple[str, ...] = ()  # sessions that are over
    conflict: str = ""  # two instruments under one name: nothing is proposed
    guard: GuardStatus | None = None
    guard_ns: int = 0
    forecaster: Status | None = None
    forecaster_ns: int = 0
    state: ControllerStateName = "waiting"
    text: str = "waiting for a session"

    @property
    def advises(self) -> bool:
        """Whether it only says what it would do."""
        return not self.aim.numbers.commands


def status(state: ControlState) -> dict[str, Any]:
    """Fields of a ControllerStatus, but for its envelope, its clock and the time of the newest solve."""
    session = state.session
    fields: dict[str, Any] = {
        "state": state.state,
        "text": state.text[:MOST_TEXT],
        "preset": state.aim.preset,
        "phase_ceiling": state.aim.numbers.phase_ceiling,
    }
    if session is None:
        return fields
    plan = session.plan
    if session.estimate.forecasts:
        fields["phase"] = phase_now(session)
        fields["dose_to_ceiling_pC"] = session.to_ceiling_pC
    if plan is not None and not plan.blank:
        fields["plan_dose_pC"] = tuple(max(0.0, float(dose)) for dose in plan.dose_pC[:MAX_HORIZONS])
        fields["plan_dwell_s"] = tuple(float(dwell) for dwell in plan.dwell_s[:MAX_HORIZONS])
    return fields | {
        "proposals": session.proposals,
        "fallbacks": session.fallbacks,
        "discarded": sum(session.discarded.values()),
        "discarded_by": session.discarded,
        "discarded_why": session.discarded_why,
    }


def phase_now(session: Session) -> Interval:
    """Phase at the newest spectrum, by all forecasts so far."""
    phase, deviation = session.estimate.phase_at(session.estimate.dose_pC)
    return Interval(value=phase, low=phase - Z_95 * deviation, high=phase + Z_95 * deviation)
