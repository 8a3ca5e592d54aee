"""What every part of a step of the controller does: change the state, say something, propose. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller import planning
from controller.control_events import ControllerStateName, Output, Propose, Say
from controller.control_state import MOST_TEXT, ControlState, Session
from controller.in_flight import Ahead, Rate
from controller.mpc import Plan
from controller.problem import Problem
from eelstm_stream.wire.messages import MAX_HORIZONS

Solve = Callable[[Problem, Plan | None], Plan]

EXPIRES_S = 0.5  # a proposal that took longer to the guard is out of date


class Step:
    """One step while it is taken: the state so far, and what comes out so far."""

    def __init__(self, state: ControlState, now_ns: int, solve: Solve) -> None:
        self.state = state
        self.now_ns = now_ns
        self.solve = solve
        self.out: list[Output] = []

    def change(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self.state = replace(self.state, **changes)

    def change_session(self, **changes: Any) -> Session:
        """Replace fields of the session, and return it."""
        assert self.state.session is not None  # noqa: S101 - whoever changes it has one
        session = replace(self.state.session, **changes)
        self.change(session=session)
        return session

    def say(self, name: ControllerStateName, text: str) -> None:
        """How it stands now; on the terminal, where the state is another."""
        if name != self.state.state:
            self.out.append(Say(f"{name}: {text}"))
        if (name, text) != (self.state.state, self.state.text):
            self.change(state=name, text=text)

    def since_s(self, then_ns: int) -> float:
        """Time since then, s."""
        return (self.now_ns - then_ns) / 1e9

    # Proposals

    def propose_plan(self, ahead: Ahead, plan: Plan, text: str, name: ControllerStateName) -> None:
        """Propose the first frame of a plan."""
        rate = Rate(float(plan.dwell_s[0]), float(plan.current_pA[0]))
        self.propose(rate, ahead, text, "advising" if self.state.advises and name == "controlling" else name, plan)

    def propose(
        self, rate: Rate, ahead: Ahead | None, text: str, name: ControllerStateName, plan: Plan | None = None
    ) -> None:
        """Propose a rate, under a lease that lasts for a few frames of it."""
        session = self.change_session()
        rate = planning.within(rate, session.limits)
        self.say(name, text)
        self.send(session, rate, text, self.lease_s(session, rate, ahead), plan=plan)

    def lease_s(self, session: Session, rate: Rate, ahead: Ahead | None) -> float:
        """What to ask for with a rate."""
        return planning.lease_s(session.limits, rate, ahead, session.pause_s, self.state.aim.lease_slack_s)

    def finish(self, session: Session, why: str) -> None:
        """Nothing but blanking is proposed from now on in this session."""
        self.propose_blank(self.change_session(done=why))

    def propose_blank(self, session: Session) -> None:
        """Propose that the beam be blanked, for the reason that the session has."""
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
        """Let a proposal out."""
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


def _numbers(column: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in column[:MAX_HORIZONS])
