"""A guard in any of its modes, flown there by the means that lead there, at the tests' own beam."""

from __future__ import annotations

from typing import Any, TypeVar

from controller import guard
from controller.guard_events import Acknowledged, Effect, Event, Send, Tick
from controller.guard_state import GuardState, start
from controller.ledger import Ledger
from controller.limits import Limits
from controller.modes import Mode
from eelstm_stream.wire.messages import Command, CommandLimits, OperatorCommand, Proposal
from tests.invariants.beam import CLOCK, INSTRUMENT, Beam, S

LIMITS = Limits(budget_pC=5000.0, max_current_pA=300.0, healthy_within_s=1.0)
E = TypeVar("E")


class Flown:
    """A guard and a beam, and the time."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        *,
        ledger: Ledger | None = None,
        approve_each: bool = False,
        can: CommandLimits = INSTRUMENT,
    ) -> None:
        self.now_ns = 1000 * S
        self.beam = Beam("session-a", self.now_ns, can)
        self.state: GuardState = start(
            limits, ledger or Ledger(limits.budget_pC), clock_id=CLOCK, now_ns=self.now_ns, approve_each=approve_each
        )
        self.seq = self.operator_seq = 0
        self.answers = True  # whether the instrument's are heard
        self.sent: list[Command] = []

    @property
    def mode(self) -> Mode:
        return self.state.mode

    def follow(self) -> Flown:
        """It hears of the session, and of the beam."""
        self.take(self.beam.start())
        self.take(self.beam.status())
        return self

    def take(self, event: Event) -> tuple[Effect, ...]:
        """One step. Commands reach the beam at once, and its answers the guard."""
        self.state, effects = guard.step(self.state, event, self.now_ns)
        for command in all_of(effects, Send):
            self.sent.append(command.command)
            answer = self.beam.obey(command.command, self.now_ns)
            if self.answers:
                self.take(Acknowledged(command.command.seq, answer.outcome, answer))
        return effects

    def wait(self, seconds: float, *, heartbeat: bool = True) -> tuple[Effect, ...]:
        """Time passes, for the beam too; what the guard did in the end."""
        self.now_ns += round(seconds * S)
        self.beam.advance(self.now_ns)
        if heartbeat:
            self.take(self.beam.status())
        return self.take(Tick())

    def proposed(self, **changes: Any) -> Proposal:
        """A proposal under the next number, not yet taken."""
        self.seq += 1
        fields: dict[str, Any] = {
            "session": "session-a",
            "seq": self.seq,
            "sent_mono_ns": self.now_ns,
            "from_seq": 0,
            "preset": "preserve",
            "blank": False,
            "dwell_s": 0.4,
            "beam_current_pA": 100.0,
            "plan_dose_pC": (40.0,),
            "lease_s": 2.0,
            "expires_mono_ns": self.now_ns + S,
            "reason": "a test",
            "clock_id": CLOCK,
        }
        return Proposal(**(fields | changes))

    def propose(self, **changes: Any) -> tuple[Effect, ...]:
        return self.take(self.proposed(**changes))

    def told(self, action: str, **changes: Any) -> OperatorCommand:
        """An operator's command under the next number, not yet taken."""
        self.operator_seq += 1
        fields: dict[str, Any] = {
            "action": action,
            "session": "session-a",
            "seq": self.operator_seq,
            "sent_mono_ns": self.now_ns,
            "expires_mono_ns": self.now_ns + S,
            "operator": "Ada",
        }
        return OperatorCommand(**(fields | changes))

    def tell(self, action: str, **changes: Any) -> tuple[Effect, ...]:
        return self.take(self.told(action, **changes))

    def granted(self) -> list[Command]:
        """Commands with a lease, so far."""
        return [command for command in self.sent if command.lease_s is not None]


def all_of(effects: tuple[Effect, ...], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def in_mode(mode: Mode, **options: Any) -> Flown:
    """A guard in this mode."""
    flown = Flown(**options).follow()
    if mode is Mode.DISARMED:
        return flown
    if mode is Mode.OVERRIDE:
        flown.tell("override", dwell_s=0.4, beam_current_pA=100.0)
    elif mode is Mode.BLANK_LATCHED:
        flown.tell("blank", reason="before")
    else:
        flown.tell("arm")
        flown.propose()
        flown.wait(0.2)
    if mode is Mode.HOLD:
        flown.wait(1.1)
    if mode is Mode.BLANK:
        flown.propose(blank=True)
        flown.wait(0.1)
    assert flown.mode is mode
    return flown
