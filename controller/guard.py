"""The guard: the only way to the beam. It knows nothing of models, optimises nothing, and says no. Pure.

Operation: `step` takes a state, an event and the time, and gives a state and what the shell must do, in order.

Goals. What the specimen can receive is charged to the ledger, durably, before the command that allows it leaves; so whatever
crashes, hangs or lies afterwards, the budget holds. What is uncertain is charged at its worst. Nobody but an operator arms it,
and an operator's `blank` waits for nothing. Every refusal has the name of a limit and a sentence.

Plan. Each step first lets time act (`watch`: silence, ends of leases, proposals that don't come), then takes the event in,
then looks again, so that a beam that should be off is blanked in the same step. Modes change by the table in `modes.py` only.
The eleven invariants are numbered in docs/reference/guard.md, with the tests that hold them.
"""

from __future__ import annotations

from controller import modes
from controller.guard_events import (
    Acknowledged,
    Effect,
    Event,
    JournalFailed,
    Malformed,
    Say,
    Stopping,
    Tick,
)
from controller.guard_operator import Operating
from controller.guard_state import SESSIONS_REMEMBERED, GuardState
from controller.guard_step import word
from controller.limits import Broken, bounds_for
from controller.modes import Mode, ModeEvent
from eelstm_stream.wire.messages import (
    InstrumentStatus,
    OperatorCommand,
    Proposal,
    SessionEnd,
    SessionStart,
)

RENEW_AT = 0.5  # an override's lease is renewed when this share of it is left
LEAST_RENEWAL_NS = 50_000_000  # between two renewals, whatever the instrument says of its lease
BLANK_AGAIN_NS = 250_000_000  # a beam that should be off and isn't known to be is blanked again after this


def step(state: GuardState, event: Event, now_ns: int) -> tuple[GuardState, tuple[Effect, ...]]:
    """Take one event in. now_ns: the guard's monotonic clock.

    Effects are carried out in their order; where a `Write` fails, none of those after it, and `JournalFailed` is the next event.
    """
    taken = _Step(state, now_ns)
    if isinstance(event, OperatorCommand) and event.action == "blank":
        taken.operator_blank(event)  # before anything else is looked at
        return taken.state, taken.in_order()
    taken.watch()
    match event:
        case SessionStart():
            taken.session_start(event)
        case SessionEnd():
            taken.session_end(event)
        case InstrumentStatus():
            taken.instrument_status(event)
        case Proposal():
            taken.proposal(event)
        case OperatorCommand():
            taken.operator(event)
        case Acknowledged():
            taken.acknowledged(event)
        case JournalFailed(reason):
            taken.latch(
                "journal", f"the journal can't be written ({reason}), so no lease can be charged before it is given."
            )
        case Malformed():
            taken.malformed(event)
        case Stopping():
            taken.stopping()
        case Tick():
            pass
    taken.watch()
    return taken.state, taken.in_order()


class _Step(Operating):
    """Lets time act, and follows the instrument's sessions."""

    def watch(self) -> None:
        """Whatever has come about by itself."""
        for pending in self.state.pending:
            if not self.now_ns - pending.sent_ns <= self.state.limits.command_within_s * 1e9:
                self.acknowledged(Acknowledged(pending.command.seq, "unknown"))
        self._watch_silence()
        self._watch_lease()
        if self.state.mode is Mode.AUTO:
            since_s = (self.now_ns - self.state.admitted_ns) / 1e9
            if not since_s <= self.state.limits.healthy_within_s:
                self.move(ModeEvent.STALE, f"no proposal was admitted for {since_s:.1f} s")
                self._watch_lease()
        self._watch_approval()
        if self.state.mode is Mode.OVERRIDE:
            self._renew_override()
        self._keep_blanked()

    def _watch_silence(self) -> None:
        heard_ns = self.state.heard_ns
        if self.state.session is None or heard_ns is None:
            return
        silent_s = (self.now_ns - heard_ns) / 1e9
        if not silent_s <= self.state.limits.silent_after_s and not self.state.source_lost:
            self.change(source_lost=True, beam_is_off=False)
            self.effects.append(Say(f"the instrument has said nothing for {silent_s:.1f} s"))
        if self.state.source_lost:
            self.move(ModeEvent.SOURCE_SILENT, "the instrument has been silent; its return does not re-arm")

    def _watch_lease(self) -> None:
        ends_ns = self.state.lease_ends_ns
        if ends_ns is not None and self.now_ns >= ends_ns:
            self.lease_ended("the lease has ended")
        elif ends_ns is None and self.state.mode is Mode.HOLD:
            self.lease_ended("there is no lease to hold on to")

    def _watch_approval(self) -> None:
        awaiting = self.state.awaiting
        if awaiting is None:
            return
        since_s = (self.now_ns - self.state.awaiting_since_ns) / 1e9
        if self.state.mode not in modes.TAKES_PROPOSALS:
            self.change(awaiting=None)
            self.refuse(
                Broken("approval", f"the guard is {word(self.state.mode)}, so nothing waits for approval."), awaiting
            )
        elif not since_s <= self.state.limits.approve_within_s:
            self.change(awaiting=None)
            self.refuse(
                Broken("approval", f"nobody approved it within {self.state.limits.approve_within_s:g} s."), awaiting
            )

    def _renew_override(self) -> None:
        override, ends_ns = self.state.override, self.state.lease_ends_ns
        if override is None or any(pending.rate is not None for pending in self.state.pending):
            return
        if ends_ns is not None and ends_ns - self.now_ns > RENEW_AT * self.state.lease_lasts_ns:
            return
        if self.now_ns - self.state.ordered_ns < LEAST_RENEWAL_NS:
            return
        refused = self.grant(override, self.longest_lease_s(), "operator", None)
        if refused is not None:
            self.move(ModeEvent.BUDGET_SPENT if refused.limit == "budget_pC" else ModeEvent.LEASE_ENDED, refused.reason)
            self.refuse(refused, None, "operator")

    def _keep_blanked(self) -> None:
        """No beam belongs to some modes: where one may be on, it's blanked, until the instrument says that it's off."""
        if self.state.mode not in modes.BLANKED or not self.state.may_be_on:
            return
        sent_ns = self.state.blank_sent_ns
        if sent_ns is None or self.now_ns - sent_ns >= BLANK_AGAIN_NS:
            self.send_blank()

    def session_start(self, start: SessionStart) -> None:
        if start.session in self.state.earlier_sessions:
            self._two_instruments(start.session)
            return
        if start.session != self.state.session:
            self._follow(start.session)
        elif self.state.bounds is not None or self.state.beam_ended:
            return  # told again
        bounds = bounds_for(self.state.limits, start)
        if isinstance(bounds, Broken):
            self.change(unfit=bounds)
            self.refuse(bounds, None, "guard")
            return
        self.change(bounds=bounds, unfit=None)

    def session_end(self, end: SessionEnd) -> None:
        if end.session != self.state.session:
            return
        self.move(ModeEvent.NEW_SESSION, f"session {end.session} has {end.reason}")
        if self.state.may_be_on:
            self.send_blank()  # it should be off with its session; told once, since it may answer for that one no more
        ended = Broken("session", f"session {end.session} has ended; another must begin first.")
        self.change(bounds=None, unfit=ended, beam_ended=True, may_be_on=False, beam_is_off=False, lease_ends_ns=None)

    def _follow(self, session: str) -> None:
        """Another session than before: nothing of the old one counts but its dose."""
        self.move(ModeEvent.NEW_SESSION, f"session {session} begins")
        for pending in self.state.pending:
            self.acknowledged(Acknowledged(pending.command.seq, "unknown"))
        earlier = self.state.earlier_sessions
        if self.state.session is not None:
            earlier = (*earlier, self.state.session)[-SESSIONS_REMEMBERED:]
        same_as_in_journal = session == self.state.ledger.session and self.state.session is None
        self.change(
            session=session,
            bounds=None,
            unfit=Broken("session", f"the start of session {session} isn't known yet."),
            earlier_sessions=earlier,
            ledger=self.state.ledger.open_session(session),
            heard_ns=self.now_ns,
            instrument_ns=None,
            source_lost=False,
            beam=None,
            beam_instrument_ns=0,
            beam_ended=False,
            may_be_on=same_as_in_journal,  # a lease that was given before the guard ended may last
            beam_is_off=False,
            may_be_cut=False,
            orders=(),
            others_ordered=False,
            lease_ends_ns=None,
            command_seq=-1,
            command_expires_instrument_ns=0,
            pending=(),
            current_pA=None,
            ordered_ns=self.now_ns,
            blank_sent_ns=None,
            proposal_seq=self.state.proposal_seq if same_as_in_journal else None,
            operator_seq=self.state.operator_seq if same_as_in_journal else None,
            awaiting=None,
            accepted=0,
            clamped=0,
            refused=0,
            refused_by=(),
        )

    def _two_instruments(self, session: str) -> None:
        reason = (
            f"session {session}, which was over, speaks again: two instruments have the same name, or one was replayed."
        )
        self.latch("two_instruments", reason)

    def instrument_status(self, status: InstrumentStatus) -> None:
        if status.session in self.state.earlier_sessions:
            self._two_instruments(status.session)
            return
        if status.session != self.state.session:
            self._follow(status.session)
        self.hear(status.sent_mono_ns)
        if status.beam is not None:
            self.hear_beam(status.beam, status.sent_mono_ns)
