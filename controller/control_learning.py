"""What the controller does while no usable forecast comes: nothing, mostly, and says why. Pure.

Frames are needed to make a forecast from. So a start rate is proposed where the beam is off and the forecaster is there: for as
long as its window fills, up to a share of the budget, and a few times only. A forecast that can't be believed is no reason
to try again, until an operator has disarmed and armed, and so has looked.
"""

from __future__ import annotations

from controller import planning
from controller.control_events import Say
from controller.control_following import SPEAKS_WITHIN_S, Following
from controller.control_state import MOST_TEXT, Session
from controller.forecast_checks import Discarded

HEALTHY_PERIODS, HEALTHY_AT_LEAST_S = 5.0, 1.0  # without a usable forecast, before that is said
BLANK_AGAIN_S = 1.0  # a beam that should be off and isn't
# How often a start rate is proposed: a share of the lease, whose time may run faster than ours.
RENEW_LEAST_S, RENEW_SHARE = 0.1, 0.125
LEARN_SHARE = 0.5  # of the budget that may go without one usable forecast
ATTEMPTS = 3  # at that, before a person must look
NO_FAULT_OF_ITS_OWN = ("stale", "order", "session")  # reasons to discard that say nothing against the next forecast


class Learning(Following):
    """Lets time pass."""

    def discard(self, session: Session, discarded: Discarded, which: str) -> None:
        """Count a forecast that isn't used, and say why."""
        by = session.discarded | {discarded.by: session.discarded.get(discarded.by, 0) + 1}
        why = f"{which} {discarded.reason}"[:MOST_TEXT]
        if discarded.by not in session.discarded:
            self.out.append(Say(f"discarded: {why}"))
        starving = session.starving + (discarded.by not in NO_FAULT_OF_ITS_OWN)
        self.change_session(discarded=by, discarded_why=why, starving=starving)
        self.time_passes()

    def skipped(self, forecasts: int) -> None:
        """Count forecasts that newer ones overtook."""
        if (session := self.state.session) is not None:
            by = session.discarded | {"skipped": session.discarded.get("skipped", 0) + forecasts}
            self.change_session(discarded=by)

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
        """What is known of it, in one sentence."""
        forecaster = self.state.forecaster
        said = "nothing is heard from the forecaster"
        if forecaster is not None and self.since_s(self.state.forecaster_ns) <= SPEAKS_WITHIN_S:
            said = f"the forecaster is {forecaster.state}: {forecaster.text}"
        if session.starving:
            said = session.discarded_why
        if session.newest is None:
            return f"no usable forecast yet; {said}"
        return f"no usable forecast since spectrum {session.newest.from_seq}; {said}"
