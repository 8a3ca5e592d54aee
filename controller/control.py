"""The controller: forecasts in, proposals out. It commands nothing, and the guard need not follow it. Pure.

Operation: `step` takes a state, a message and the time, and gives a state and what comes out.

Goals. No proposal rests on a forecast that can't be believed: such a one is dropped whole, counted, and the reason said. With no
usable forecast there is no proposal, so that the guard holds and then blanks by itself. A plan begins where what was ordered
ends. Blanking is proposed while it still comes in time, and once proposed for the ceiling it stays so for the session.

Plan. Whatever comes is remembered first: which session, what the beam does, what was ordered, what is left of the budget.
Only a summary leads to a plan, and only where the guard is armed. Before the first one, and after a rest, frames are needed to
make a forecast from, so a start rate is proposed: for as long as the forecaster says that its window fills, up to a share
of the budget, and only a few times. What is asked of the planner is in `planning.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller import mpc, planning
from controller.aim import limits_for
from controller.control_events import (
    AskForSession,
    ControllerStateName,
    Event,
    Malformed,
    Output,
    Propose,
    Say,
    Skipped,
    Tick,
)
from controller.control_state import MOST_TEXT, ControlState, Session, phase_now
from controller.forecast_checks import Discarded, fault
from controller.in_flight import COMMAND_S, Ahead, Rate
from controller.mpc import Plan
from controller.plant import UnusableSummaryError
from controller.problem import Problem, ProblemError, end_dose_pC
from eelstm_stream.wire.messages import (
    MAX_HORIZONS,
    CommandLimits,
    Decision,
    GuardStatus,
    InstrumentStatus,
    SessionEnd,
    SessionStart,
    Status,
    Summary,
)

Solve = Callable[[Problem, Plan | None], Plan]

STALE_PERIODS, STALE_AT_LEAST_S = 4.0, 0.3  # frame periods after which a spectrum is too old to plan from
HEALTHY_PERIODS, HEALTHY_AT_LEAST_S = 5.0, 1.0  # and without a usable forecast, before that is said
SPEAKS_WITHIN_S = 3.0  # forecaster and guard say something once a second
EXPIRES_S = 0.5  # a proposal that took longer to the guard is out of date
BLANK_AGAIN_S = 1.0  # a beam that should be off and isn't
RENEW_LEAST_S, RENEW_SHARE = (
    0.1,
    0.125,
)  # how often a start rate is proposed: of a lease, whose time may run faster than ours
LEARN_SHARE = 0.5  # of the budget that may go without one usable forecast
NO_LIMITS = CommandLimits(min_dwell_s=1.0, max_dwell_s=1.0, max_lease_s=1.0)  # of a session where nothing is proposed
ATTEMPTS = 3  # at that, before a person must look
SESSIONS_KEPT = 16
ARMED = ("auto", "hold", "blank")  # modes of a guard that takes proposals
NO_FAULT_OF_ITS_OWN = ("stale", "order", "session")  # reasons to discard that say nothing against the next forecast


def step(
    state: ControlState, event: Event, now_ns: int, solve: Solve = mpc.solve
) -> tuple[ControlState, tuple[Output, ...]]:
    """Take one message in. now_ns: the controller's monotonic clock. solve: the planner, which may raise ProblemError."""
    taken = _Step(state, now_ns, solve)
    taken.take(event)
    return taken.state, tuple(taken.out)


class _Step:
    """One step while it is taken: the state so far, and what comes out so far."""

    def __init__(self, state: ControlState, now_ns: int, solve: Solve) -> None:
        self.state = state
        self.now_ns = now_ns
        self.solve = solve
        self.out: list[Output] = []

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

    def change(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def change_session(self, **changes: Any) -> Session:
        assert self.state.session is not None  # noqa: S101 - whoever changes it has one
        session = replace(self.state.session, **changes)
        self.change(session=session)
        return session

    def say(self, name: ControllerStateName, text: str) -> None:
        if name != self.state.state:
            self.out.append(Say(f"{name}: {text}"))
        if (name, text) != (self.state.state, self.state.text):
            self.change(state=name, text=text)

    def since_s(self, then_ns: int) -> float:
        return (self.now_ns - then_ns) / 1e9

    # The instrument

    def session_start(self, start: SessionStart) -> None:
        session = self.state.session
        if session is not None and session.start.session == start.session:
            return  # told again
        if start.session in self.state.earlier:
            self.two_instruments(start.session)
            return
        if session is not None:
            self.leave(session)
        limits = limits_for(self.state.aim, start)
        if isinstance(limits, str):
            self.change(session=Session(start, NO_LIMITS, refused=True), conflict="")
            self.say("refused", f"session {start.session}: {limits}")
            return
        self.change(session=Session(start, limits), conflict="")
        self.say("waiting", f"session {start.session} has begun; waiting for its forecasts")

    def leave(self, session: Session) -> None:
        self.change(session=None, conflict="", earlier=(*self.state.earlier, session.start.session)[-SESSIONS_KEPT:])

    def session_end(self, end: SessionEnd) -> None:
        session = self.state.session
        if session is None or session.start.session != end.session:
            return
        done = f" ({session.done})" if session.done else ""
        self.leave(session)
        self.say("ended", f"session {end.reason} after {end.spectra} spectra{done}; waiting for the next")

    def two_instruments(self, session: str) -> None:
        if self.state.session is None or self.state.conflict:
            return
        now = self.state.session.start.session
        self.change(conflict=f"session {session}, which was over, speaks beside {now}: two instruments have one name")
        self.say("refused", self.state.conflict)

    def instrument_status(self, told: InstrumentStatus) -> None:
        session = self.state.session
        if session is None or session.start.session != told.session:
            if told.session not in self.state.earlier:
                self.out.append(AskForSession())
            elif session is not None and told.sent_mono_ns > session.start.sent_mono_ns:
                self.two_instruments(told.session)
            return
        if told.beam is None or told.sent_mono_ns < session.beam_sent_ns:
            return
        is_newest = told.sent_mono_ns > session.acknowledged_ns or told.clock_id != self.state.clock_id
        was_on = not session.is_blanked
        session = self.change_session(
            beam=told.beam,
            beam_sent_ns=told.sent_mono_ns,
            orders=session.orders.told(told.beam, is_newest=is_newest),
        )
        if was_on and session.is_blanked:
            session = self.change_session(blanked_ns=self.now_ns)
        if session.learn_from_pC is None:
            self.change_session(learn_from_pC=session.dose_pC)

    # The guard

    def guard_status(self, told: GuardStatus) -> None:
        self.change(guard=told, guard_ns=self.now_ns)
        session = self.state.session
        if session is None or told.session != session.start.session:
            return
        if told.mode in ("disarmed", "blank_latched"):  # who arms it again has looked
            session = self.change_session(given_up="", starving=0, failures=0, attempts=0, learning=False)
        if told.ledger is not None and session.allowed_pC is None:
            self.change_session(allowed_pC=session.dose_pC + told.ledger.left_pC)

    def decision(self, told: Decision) -> None:
        session = self.state.session
        if session is None or session.refused or told.session != session.start.session:
            return
        if told.until_dose_pC is not None:
            left_pC = max(0.0, told.budget_dose_pC - told.spent_dose_pC)
            session = self.change_session(allowed_pC=told.until_dose_pC + left_pC)
        if told.outcome == "refused" or told.dwell_s is None or not told.beam_current_pA:
            return
        acknowledged_ns = told.acknowledged_mono_ns or self.now_ns
        if acknowledged_ns < session.acknowledged_ns:
            return
        next_seq = 0 if session.beam is None else session.beam.next_seq
        rate = Rate(told.dwell_s, told.beam_current_pA)
        orders = session.orders.ordered(
            rate, next_seq, planning.ahead(self.state, session, self.now_ns), session.limits
        )
        self.change_session(orders=orders, acknowledged_ns=acknowledged_ns)

    def guard_listens(self, session: Session) -> bool:
        """Whether the guard is there, follows this session, and takes proposals. Otherwise says why not."""
        guard = self.state.guard
        if guard is None or self.since_s(self.state.guard_ns) > SPEAKS_WITHIN_S:
            self.say("waiting", "nothing is heard from the guard: see whether `eelstm guard` runs")
        elif guard.session != session.start.session:
            self.say("waiting", "the guard does not follow this session yet")
        elif guard.mode == "override":
            self.say("waiting", "an operator has set a fixed rate; nothing is proposed meanwhile")
        elif guard.mode not in ARMED:
            done = "clear and then arm it" if guard.mode == "blank_latched" else "arm it"
            self.say(
                "waiting", f"the guard is {guard.mode.replace('_', ' ')}: an operator must {done} (`eelstm operator`)"
            )
        else:
            return True
        return False

    # Forecasts

    def discard(self, session: Session, discarded: Discarded, which: str) -> None:
        by = session.discarded | {discarded.by: session.discarded.get(discarded.by, 0) + 1}
        why = f"{which} {discarded.reason}"[:MOST_TEXT]
        if discarded.by not in session.discarded:
            self.out.append(Say(f"discarded: {why}"))
        starving = session.starving + (discarded.by not in NO_FAULT_OF_ITS_OWN)
        self.change_session(discarded=by, discarded_why=why, starving=starving)
        self.time_passes()

    def skipped(self, forecasts: int) -> None:
        if (session := self.state.session) is not None:
            by = session.discarded | {"skipped": session.discarded.get("skipped", 0) + forecasts}
            self.change_session(discarded=by)

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
        return fault(summary, session.newest)

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

    def propose_plan(self, ahead: Ahead, plan: Plan, text: str, name: ControllerStateName) -> None:
        rate = Rate(float(plan.dwell_s[0]), float(plan.current_pA[0]))
        self.propose(rate, ahead, text, "advising" if self.state.advises and name == "controlling" else name, plan)

    def propose(
        self, rate: Rate, ahead: Ahead | None, text: str, name: ControllerStateName, plan: Plan | None = None
    ) -> None:
        session = self.change_session()
        rate = planning.within(rate, session.limits)
        self.say(name, text)
        self.send(session, rate, text, self.lease_s(session, rate, ahead), plan=plan)

    def lease_s(self, session: Session, rate: Rate, ahead: Ahead | None) -> float:
        return planning.lease_s(session.limits, rate, ahead, session.pause_s, self.state.aim.lease_slack_s)

    def finish(self, session: Session, why: str) -> None:
        """Nothing but blanking is proposed from now on in this session."""
        self.propose_blank(self.change_session(done=why))

    def propose_blank(self, session: Session) -> None:
        text = session.done or session.given_up
        self.say("blanking", text)
        rate = session.orders.newest or Rate(session.start.dwell_s, session.start.beam_current_pA or 1.0)
        self.send(session, rate, text, rate.dwell_s, blank=True)

    def send(
        self,
        session: Session,
        rate: Rate,
        reason: str,
        lease_s: float,
        *,
        blank: bool = False,
        plan: Plan | None = None,
    ) -> None:
        summary, beam = session.newest, session.beam
        from_seq = max(0, beam.next_seq - 1) if beam is not None else 0
        planned = plan is not None and not plan.blank
        self.out.append(
            Propose(
                session=session.start.session,
                from_seq=from_seq if summary is None else summary.from_seq,
                preset=self.state.aim.preset,
                blank=blank,
                dwell_s=rate.dwell_s,
                beam_current_pA=rate.current_pA,
                lease_s=lease_s,
                expires_mono_ns=self.now_ns + round(EXPIRES_S * 1e9),
                clock_id=self.state.clock_id,
                reason=reason[:MOST_TEXT],
                spectrum_sent_mono_ns=None if summary is None or session.learning else summary.spectrum_sent_mono_ns,
                plan_dose_pC=_numbers(plan.dose_pC) if plan is not None and planned else (),
                plan_dwell_s=_numbers(plan.dwell_s) if plan is not None and planned else (),
                plan_phase=_numbers(plan.phase) if plan is not None and planned else (),
            )
        )
        self.change_session(proposals=session.proposals + 1, proposed_ns=self.now_ns)

    def ceiling_reached(self, session: Session) -> str:
        ceiling, phase = self.state.aim.numbers.phase_ceiling, phase_now(session)
        said = f"{phase.value:.3f} (95 %: {phase.low:.3f} to {phase.high:.3f}) at {session.estimate.dose_pC:.4g} pC"
        if ceiling is not None and phase.value > ceiling and session.plan is None:
            return f"the ceiling of {ceiling:g} lies below the present phase, {said}"
        return f"ceiling reached: phase is {said}, and must not pass {ceiling:g}"

    # Without a forecast

    def time_passes(self) -> None:
        """What is to be done though no usable forecast has come."""
        session = self.state.session
        if session is None or session.refused or self.state.conflict:
            return
        if session.done or session.given_up:
            again = not session.is_blanked and self.since_s(session.proposed_ns) >= BLANK_AGAIN_S
            if again and (self.state.advises or self.guard_listens(session)):
                self.propose_blank(session)
            return
        healthy_s = max(HEALTHY_PERIODS * session.period_s, HEALTHY_AT_LEAST_S)
        if session.newest is not None and self.since_s(session.used_ns) <= healthy_s:
            return
        if self.state.advises:
            self.say("waiting", self.why_no_forecast(session))
            return
        if not self.guard_listens(session):
            return
        if (why := self.why_not_learn(session)) is not None:
            if session.learning:
                self.change_session(learning=False)
            self.say("waiting", why)
            return
        self.learn(session)

    def learn(self, session: Session) -> None:
        """Propose a start rate, so that there are spectra to make a forecast from."""
        rate = session.orders.newest if session.estimate.forecasts else None
        rate = rate or planning.start_rate(self.state.aim, session)
        renew_s = max(RENEW_LEAST_S, RENEW_SHARE * self.lease_s(session, rate, None))
        if session.learning and self.since_s(session.proposed_ns) < renew_s:
            return
        if not session.learning:
            session = self.change_session(learning=True, attempts=session.attempts + 1)
        needed = self.state.forecaster.needed if self.state.forecaster is not None else 0
        text = "frames at the start rate, until there is a forecast"
        self.propose(rate, None, f"{text}: its window needs {needed} more" if needed else text, "learning")

    def why_not_learn(self, session: Session) -> str | None:
        """Why no start rate is proposed, in one sentence; None where it is."""
        forecaster = self.state.forecaster
        spoke_ns = self.state.forecaster_ns
        if forecaster is None or self.since_s(spoke_ns) > SPEAKS_WITHIN_S:
            return "nothing is heard from the forecaster: see whether `eelstm serve` runs"
        if not session.learning and spoke_ns < session.blanked_ns:
            return "nothing was heard from the forecaster since the beam went off"
        if session.beam is None:
            return "the instrument has not said yet what its beam does"
        if session.starving:
            return f"{session.starving} forecasts in a row were of no use: {session.discarded_why}"
        follows = forecaster.session == session.start.session
        if not session.learning:
            if not session.is_blanked or (follows and forecaster.state in ("invalid", "refused")):
                return self.why_no_forecast(session)
            if session.attempts >= ATTEMPTS:
                return f"{ATTEMPTS} attempts to get forecasts have failed: disarm and arm the guard to try again"
        elif follows and forecaster.state not in ("filling", "waiting", "silent"):
            return self.why_no_forecast(session)
        given_pC = session.dose_pC - (session.learn_from_pC or 0.0)
        most_pC = self.state.aim.learn_pC or LEARN_SHARE * max(
            0.0, (session.allowed_pC or 0.0) - (session.learn_from_pC or 0.0)
        )
        if not given_pC <= most_pC:
            return f"{given_pC:.4g} pC have gone without one usable forecast, and {most_pC:.4g} pC may"
        if session.ends_pC is not None and not session.dose_pC < session.ends_pC:
            return f"by the forecasts so far, the ceiling is reached at {session.ends_pC:.4g} pC"
        return None

    def why_no_forecast(self, session: Session) -> str:
        forecaster = self.state.forecaster
        said = "nothing is heard from the forecaster"
        if forecaster is not None and self.since_s(self.state.forecaster_ns) <= SPEAKS_WITHIN_S:
            said = f"the forecaster is {forecaster.state}: {forecaster.text}"
        if session.starving:
            said = session.discarded_why
        if session.newest is None:
            return f"no usable forecast yet; {said}"
        return f"no usable forecast since spectrum {session.newest.from_seq}; {said}"


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


def _numbers(column: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in column[:MAX_HORIZONS])
