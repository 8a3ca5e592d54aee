"""The controller: forecasts in, proposals out. It commands nothing, and the guard need not follow it. Pure.

Operation: `step` takes a state, a message and the time, and gives a state and what comes out.

Goals. No proposal rests on a forecast that can't be believed: such a one is dropped whole, counted, and the reason said. With no
usable forecast there is no proposal, so that the guard holds and then blanks by itself. A plan begins where what was ordered
ends. Blanking is proposed while it still comes in time, and once proposed for the ceiling it stays so for the session.

Plan. Whatever comes is remembered first: which session, what the beam does, what was ordered, what is left of the budget.
Only a summary leads to a plan, and only where the guard is armed. Before the first one, and after a rest, frames are needed to
make a forecast from, so a start rate is proposed: for as long as the forecaster says that its window fills, up to a share
of the budget, and only a few times. That is in `control_learning.py`, and what is asked
of the planner in `planning.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from controller import mpc, planning
from controller.control_events import AskForSession, Event, Malformed, Output, Skipped, Tick
from controller.control_learning import Learning
from controller.control_state import ControlState, Session, phase_now
from controller.control_step import Solve
from controller.forecast_checks import Discarded, fault, flagged
from controller.in_flight import COMMAND_S, Ahead, Rate
from controller.mpc import Plan
from controller.plant import UnusableSummaryError
from controller.problem import Problem, ProblemError, end_dose_pC
from eelstm_stream.wire.messages import (
    Decision,
    GuardStatus,
    InstrumentStatus,
    SessionEnd,
    SessionStart,
    Status,
    Summary,
)

STALE_PERIODS, STALE_AT_LEAST_S = 4.0, 0.3  # frame periods after which a spectrum is too old to plan from


def step(
    state: ControlState, event: Event, now_ns: int, solve: Solve = mpc.solve
) -> tuple[ControlState, tuple[Output, ...]]:
    """Take one message in. now_ns: the controller's monotonic clock. solve: the planner, which may raise ProblemError."""
    taken = _Step(state, now_ns, solve)
    taken.take(event)
    return taken.state, tuple(taken.out)


class _Step(Learning):
    """One step: what comes, and what follows."""

    def take(self, event: Event) -> None:
        match event:
            case SessionStart():
                self.session_start(event)
            case SessionEnd():
                self.session_end(event)
            case InstrumentStatus():
                self.instrument_status(event)
            case GuardStatus():
                self.guard_status(event)
            case Decision():
                self.decision(event)
            case Status() if event.sender == "forecaster":
                self.change(forecaster=event, forecaster_ns=self.now_ns)
                self.time_passes()
            case Summary():
                self.summary(event)
            case Malformed(reason):
                if self.state.session is not None:
                    self.discard(self.state.session, Discarded("malformed", f"can't be read: {reason}"), "a message")
            case Skipped(forecasts):
                self.skipped(forecasts)
            case Tick():
                self.time_passes()
            case _:
                pass  # a gap shows in the forecasts

    # Forecasts

    def summary(self, summary: Summary) -> None:
        session = self.state.session
        if session is None:
            self.out.append(AskForSession())
            return
        if session.refused or self.state.conflict:
            return
        which = f"the forecast from spectrum {summary.from_seq}"
        discarded = self.unusable(session, summary)
        if discarded is not None:
            self.discard(session, discarded, which)
            return
        try:
            estimate = session.estimate.with_summary(summary)
        except UnusableSummaryError as error:
            self.discard(session, Discarded("plant", f"is of no use: {error}"), which)
            return
        before, rate = session.newest, session.orders.at(summary.from_seq)
        dwell_s = session.start.dwell_s if rate is None else rate.dwell_s
        session = self.change_session(
            estimate=estimate,
            newest=summary,
            used_ns=self.now_ns,
            exposed_s=0.0 if before is None else session.exposed_s + (summary.from_seq - before.from_seq) * dwell_s,
            orders=session.orders.since(summary.from_seq - summary.window),
            learn_from_pC=estimate.dose_pC,
            learning=False,
            attempts=0,
            starving=0,
        )
        self.plan(session)

    def unusable(self, session: Session, summary: Summary) -> Discarded | None:
        """Why a forecast isn't used, or None."""
        if summary.session != session.start.session:
            return Discarded("session", f"is of session {summary.session}, and this is {session.start.session}")
        if session.newest is not None and summary.from_seq <= session.newest.from_seq:
            return Discarded("order", f"comes after that from {session.newest.from_seq}")
        late = self.late(session, summary)
        if late is not None:
            return Discarded("stale", late)
        if summary.window_domain == "frame":
            flags = {flag.flag for flag in summary.quality}
            differs = flags & {"dwell_differs_from_training", "dose_differs_from_training"}
            if differs or session.orders.changes_within(summary.from_seq - summary.window + 1, summary.from_seq):
                reason = "counts its steps in frames, and their dwell or current is not what the model was trained at"
                return Discarded("window_domain", reason)
        unknown = None if self.state.aim.accept_flagged else flagged(summary)
        return unknown or fault(summary, session.newest)

    def late(self, session: Session, summary: Summary) -> str | None:
        """What makes a forecast stale: its spectrum's age where clocks compare, else how many spectra have come since."""
        longest_s = max(STALE_PERIODS * session.period_s, STALE_AT_LEAST_S)
        if summary.clock_id == self.state.clock_id:
            age_s = self.since_s(summary.spectrum_sent_mono_ns)
            return None if age_s <= longest_s else f"is stale: its spectrum is {age_s:.2f} s old"
        if session.beam is None or session.is_blanked:
            return None
        behind = session.beam.next_seq - 2 - summary.from_seq
        if behind * session.period_s <= longest_s:
            return None
        return f"is stale: {behind} spectra have been taken since its own"

    # Plans

    def plan(self, session: Session) -> None:
        """Propose what follows from all forecasts so far."""
        if not self.state.advises and not self.guard_listens(session):
            return
        if session.done or session.given_up:
            self.propose_blank(session)
            return
        ahead = planning.ahead(self.state, session, self.now_ns)
        if ahead is None:
            self.say("waiting", "the instrument has not said yet what its beam does")
            return
        age_s = max(0.0, self.since_s(session.newest.spectrum_sent_mono_ns)) if session.newest else 0.0
        stop_s = min(age_s, STALE_AT_LEAST_S) + COMMAND_S + session.limits.blank_delay_s
        problem = planning.problem(self.state.aim, session, ahead, stop_s)
        numbers = self.state.aim.numbers
        ends_pC = end_dose_pC(problem)
        to_ceiling_pC = planning.to_ceiling(problem.curve, numbers.phase_ceiling)
        session = self.change_session(ends_pC=ends_pC, to_ceiling_pC=to_ceiling_pC)
        if ahead.if_blanked_next_pC > ends_pC:
            self.finish(session, self.ceiling_reached(session))
            return
        previous = session.plan
        if previous is not None:
            previous = previous.shifted(max(0, ahead.first_seq - session.plan_from_seq))
        try:
            plan = self.solve(problem, previous)
        except ProblemError as error:
            plan = _after_failure(str(error), previous)
        self.change_session(plan=plan, plan_from_seq=ahead.first_seq)
        self.follow(ahead, problem, plan)

    def follow(self, ahead: Ahead, problem: Problem, plan: Plan) -> None:
        session = self.change_session()
        allowed_pC = session.allowed_pC
        if plan.status in ("fallback", "failed"):
            failures = session.failures + 1
            session = self.change_session(failures=failures, fallbacks=session.fallbacks + 1)
            if plan.blank:
                why = f"no plan could be made ({plan.reason}): blanking is proposed until an operator disarms and arms again"
                self.propose_blank(self.change_session(given_up=why))
                return
            self.propose_plan(
                ahead, plan, f"{failures} solves in a row have failed, and the plan before goes on", "fallback"
            )
            return
        session = self.change_session(failures=0)
        if not plan.blank:
            self.propose_plan(ahead, plan, _outlook(plan, session), "controlling")
            return
        if (allowed_pC is not None and ahead.if_blanked_next_pC > allowed_pC) or not ahead.is_worth(
            problem.min_dose_pC
        ):
            ends_pC = problem.phase_ceiling is not None and plan.end_dose_pC < (allowed_pC or math.inf)
            self.finish(session, self.ceiling_reached(session) if ends_pC else f"the budget is used up: {plan.reason}")
            return
        # Nothing more can be ordered, and what is ordered is on its way: it's flown to its end in the least frames.
        rate = planning.least_rate(session.limits, session.orders.newest or Rate(0.0, 0.0))
        self.propose(rate, ahead, f"what was ordered is flown to its end: {plan.reason}", "controlling")

    def ceiling_reached(self, session: Session) -> str:
        ceiling, phase = self.state.aim.numbers.phase_ceiling, phase_now(session)
        said = f"{phase.value:.3f} (95 %: {phase.low:.3f} to {phase.high:.3f}) at {session.estimate.dose_pC:.4g} pC"
        if ceiling is not None and phase.value > ceiling and session.plan is None:
            return f"the ceiling of {ceiling:g} lies below the present phase, {said}"
        return f"ceiling reached: phase is {said}, and must not pass {ceiling:g}"


def _after_failure(reason: str, previous: Plan | None) -> Plan:
    """The plan before, shifted to now; where nothing is left of it, none."""
    if previous is None or previous.blank:
        return replace(mpc.blanking(reason), status="failed")
    return replace(previous, status="fallback", reason=reason)


def _outlook(plan: Plan, session: Session) -> str:
    """One sentence on what comes next."""
    following = f"{plan.dwell_s[0]:.3g} s at {plan.current_pA[0]:.3g} pA next"
    if session.to_ceiling_pC is None:
        return following
    return f"{following}; {session.to_ceiling_pC.value:.3g} pC to the ceiling"
