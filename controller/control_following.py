"""What the controller makes of the instrument's and the guard's own word: which session, what the beam does, what was ordered. Pure."""

from __future__ import annotations

from controller import planning
from controller.aim import limits_for
from controller.control_events import AskForSession
from controller.control_state import Session
from controller.control_step import Step
from controller.in_flight import Rate
from eelstm_stream.wire.messages import (
    CommandLimits,
    Decision,
    GuardStatus,
    InstrumentStatus,
    SessionEnd,
    SessionStart,
)

SPEAKS_WITHIN_S = 3.0  # forecaster and guard say something once a second
SESSIONS_KEPT = 16
ARMED = ("auto", "hold", "blank")  # modes of a guard that takes proposals
NO_LIMITS = CommandLimits(min_dwell_s=1.0, max_dwell_s=1.0, max_lease_s=1.0)  # of a session where nothing is proposed


class Following(Step):
    """Remembers what instrument and guard tell."""

    # The instrument

    def session_start(self, start: SessionStart) -> None:
        """A session begins: a clean start. What is known already is told again to late joiners."""
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
        """Nothing of it counts any more."""
        self.change(session=None, conflict="", earlier=(*self.state.earlier, session.start.session)[-SESSIONS_KEPT:])

    def session_end(self, end: SessionEnd) -> None:
        """The session has ended."""
        session = self.state.session
        if session is None or session.start.session != end.session:
            return
        done = f" ({session.done})" if session.done else ""
        self.leave(session)
        self.say("ended", f"session {end.reason} after {end.spectra} spectra{done}; waiting for the next")

    def two_instruments(self, session: str) -> None:
        """A session that was over speaks again: nothing is proposed until another one begins."""
        if self.state.session is None or self.state.conflict:
            return
        now = self.state.session.start.session
        self.change(conflict=f"session {session}, which was over, speaks beside {now}: two instruments have one name")
        self.say("refused", self.state.conflict)

    def instrument_status(self, told: InstrumentStatus) -> None:
        """What the beam does, and what will hold."""
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
        """Whether the guard takes proposals, and what its ledger has left."""
        self.change(guard=told, guard_ns=self.now_ns)
        session = self.state.session
        if session is None or told.session != session.start.session:
            return
        if told.mode in ("disarmed", "blank_latched"):  # who arms it again has looked
            session = self.change_session(given_up="", starving=0, failures=0, attempts=0, learning=False)
        if told.ledger is not None and session.allowed_pC is None:
            self.change_session(allowed_pC=session.dose_pC + told.ledger.left_pC)

    def decision(self, told: Decision) -> None:
        """What was ordered, and up to which dose the budget reaches."""
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
