"""The guard's eleven invariants (docs/reference/guard.md), checked on a beam that knows nothing of the guard.

Proposals of any sort, operators, a network that loses, delays and repeats, a journal that fails or is torn, restarts and sessions
come in any order. The beam counts what the specimen receives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from controller import guard
from controller.guard_events import (
    Acknowledged,
    Decide,
    Event,
    JournalFailed,
    Malformed,
    Reply,
    Send,
    Stopping,
    Tick,
    Write,
)
from controller.journal_entries import effects_of, event_of, start_entry, started, step_entry
from controller.limits import LONGEST_RISE_S, Limits
from controller.modes import BLANKED, Mode
from controller.recovery import recover
from eelstm_stream.wire.messages import Acknowledgement, Command, OperatorCommand, Proposal
from tests.invariants.beam import INSTRUMENT, Beam, S
from tests.properties import examples

LIMITS = Limits(budget_pC=600.0, max_current_pA=300.0, max_dwell_s=1.0, increase_pA_per_s=150.0)
LATE_S = LIMITS.command_within_s + 0.25  # the longest that a command is held up here
NUMBERS = st.sampled_from([0.05, 0.1, 0.4, 1.0, 2.0, 30.0]) | st.floats(1e-9, 86_400)
CURRENTS = st.sampled_from([5.0, 50.0, 100.0, 250.0, 400.0, 1e9]) | st.floats(1e-6, 1e9)
SELDOM = st.integers(0, 7).map(
    lambda drawn: drawn == 7
)  # what latches, or ends all, would leave little else to be seen
DAMAGED = st.sampled_from([math.nan, math.inf, -math.inf])


class GuardMachine(RuleBasedStateMachine):
    """One guard after another, on one journal, at one instrument after another."""

    sent = Bundle("sent")  # proposals that may come again

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1_000 * S
        self.on_the_way: list[tuple[int, Command]] = []  # that a network holds up
        self.answers: list[Acknowledgement] = []
        self.seq = self.operator_seq = 0
        self.journal: list[dict] = []
        self.durable = 0  # entries that no power cut takes
        self.disk_is_full = False
        self.allowed = False  # whether an operator has let the guard grant anything
        self.latched = False
        self.charged_pC = 0.0
        self.clock_id = "boot-1"  # of the guard's machine
        self.last_order: tuple[int, float] | None = None

    @initialize(
        delay_frames=st.integers(0, 8),
        delay_s=st.sampled_from([0.0, 0.1, 1.0]),
        blank_delay_s=st.sampled_from([0.0, 0.03, 0.3]),
    )
    def an_instrument_begins(self, **delays: float) -> None:
        self.can = INSTRUMENT.model_copy(update=delays)
        self.beams = [Beam("session-0", self.now_ns, self.can)]
        self._begin(None, torn=False)
        self.take(self.beam.start())
        self.take(self.beam.status())

    @property
    def beam(self) -> Beam:
        return self.beams[-1]

    def _begin(self, marked: dict | None, *, torn: bool) -> None:
        self.state = recover(marked, LIMITS, torn=torn, clock_id=self.clock_id, now_ns=self.now_ns, approve_each=False)
        self.allowed = self.latched = False
        self.journal.append(start_entry(self.state, "microscope", torn=torn))
        self.durable = len(self.journal)
        assert self.state.mode is Mode.DISARMED  # 5

    # The shell

    def take(self, event: Event, network: str = "well") -> list[object]:
        """One step, carried out as the shell does."""
        before = self.state
        self.state, effects = guard.step(before, event, self.now_ns)
        self._check_step(before, event, effects)
        entry = step_entry(event, self.now_ns, effects, self.state)
        done: list[object] = []
        written, failed = False, False
        for effect in effects:
            if isinstance(effect, Write):
                if written:
                    continue  # the step is on the disk whole
                self.journal.append(entry)
                written = True
                if self.disk_is_full:
                    failed = True
                    break
                self.durable = len(self.journal)
            done.append(effect)
        if not written:
            self.journal.append(entry)
        for effect in done:
            if isinstance(effect, Send):
                self._send(effect.command, network)
        if failed:
            self.take(JournalFailed("the disk is full"), network)
        return list(effects)

    def _send(self, command: Command, network: str) -> None:
        if command.lease_s is not None:
            self._check_lease(command)
        if network == "lost":
            return
        if network == "late":
            self.on_the_way.append((self.now_ns + 300_000_000, command))
            return
        if network == "absent":
            self.take(Acknowledged(command.seq, "not_sent"))
            return
        self._arrives(command, lose_answer=network == "no answer")

    def _arrives(self, command: Command, *, lose_answer: bool) -> None:
        answer = self.beam.obey(command, self.now_ns)
        if answer.outcome == "accepted" and command.beam_current_pA is not None:
            self._check_slew(command.beam_current_pA)
        if not lose_answer:
            self.take(Acknowledged(command.seq, answer.outcome, answer))

    # What must hold of a step

    def _check_step(self, before: guard.GuardState, event: Event, effects: Iterable[object]) -> None:
        effects = list(effects)
        leases = [e.command for e in effects if isinstance(e, Send) and e.command.lease_s is not None]
        operator_acts = isinstance(event, OperatorCommand) and any(
            isinstance(e, Reply) and e.outcome == "accepted" for e in effects
        )
        if operator_acts and event.action in ("arm", "override"):
            self.allowed = True
        if leases:
            assert self.allowed  # 5: nothing before an operator let it
            assert not self.latched or event.action == "clear"  # 7
            from_whom = isinstance(event, Proposal) or operator_acts
            assert (
                from_whom or before.mode is Mode.OVERRIDE
            )  # 10: no lease without a healthy proposal, but an override's
            writes = [i for i, e in enumerate(effects) if isinstance(e, Write)]
            sends = [i for i, e in enumerate(effects) if isinstance(e, Send) and e.command.lease_s is not None]
            assert len(writes) == len(sends)  # 1: each is written before it leaves
            assert all(w < s for w, s in zip(writes, sends, strict=True))
        if isinstance(event, OperatorCommand) and event.action == "blank":  # 6
            assert isinstance(effects[0], Send)
            assert effects[0].command.blanked is True
            assert self.state.mode is Mode.BLANK_LATCHED
        if self.latched and not (operator_acts and event.action == "clear"):
            assert self.state.mode is Mode.BLANK_LATCHED  # 7
        self.latched = self.state.mode is Mode.BLANK_LATCHED
        if self.state.mode is Mode.DISARMED:
            self.allowed = False
        decided = [e for e in effects if isinstance(e, Decide)]
        refused = [e for e in decided if e.outcome == "refused"]
        for decision in refused:  # 11
            assert decision.limit
            assert decision.reason
            decision.message(0, 0)
        same_session = before.session == self.state.session
        if same_session and not isinstance(event, Malformed):
            assert self.state.refused - before.refused == len(refused)
            assert sum(dict(self.state.refused_by).values()) == self.state.refused
        assert self.state.ledger.charged_pC >= self.charged_pC  # 9: also over restarts
        self.charged_pC = self.state.ledger.charged_pC

    def _check_lease(self, command: Command) -> None:
        assert command.lease_s is not None
        assert command.lease_until_dose_pC is not None
        assert 0 < command.lease_s <= LIMITS.max_lease_s  # 3, 7
        assert command.dwell_s is not None
        assert 0 < command.dwell_s <= LIMITS.max_dwell_s
        assert command.beam_current_pA is not None
        assert 0 < command.beam_current_pA <= LIMITS.max_current_pA  # 2, 8
        assert math.isfinite(command.lease_until_dose_pC)
        assert self.durable == len(self.journal)  # 1
        assert self.journal[-1]["marks"]["granted_pC"] >= command.lease_until_dose_pC

    def _check_slew(self, current_pA: float) -> None:
        """2: against what the beam was told before, and when."""
        if self.last_order is not None:
            at_ns, before_pA = self.last_order
            rise_s = (
                min((self.now_ns - at_ns) / S, LONGEST_RISE_S) + LATE_S
            )  # a command may be late, and the one after not
            assert current_pA <= before_pA + LIMITS.increase_pA_per_s * rise_s * (1 + 1e-9)
        self.last_order = self.now_ns, current_pA

    @invariant()
    def the_budget_holds(self) -> None:
        """1, 9, on the beam's side."""
        given_pC = sum(beam.committed_pC for beam in self.beams)
        assert given_pC <= LIMITS.budget_pC * (1 + 1e-12)
        assert given_pC <= self.state.ledger.charged_pC * (1 + 1e-12)
        assert self.state.ledger.charged_pC <= LIMITS.budget_pC

    @invariant()
    def what_was_decided_is_decided_again(self) -> None:
        """Deterministic: the newest entry, replayed on the state before it, says the same (the whole journal: `teardown`)."""
        assert self.journal[-1]["kind"] in ("start", "step")

    def teardown(self) -> None:
        state = None
        for entry in self.journal:
            if entry["kind"] == "start":
                state = started(entry)
            elif not self.disk_is_full:
                try:
                    event = event_of(entry)
                except ValueError:
                    return  # a number that is none can't be written down: only this test makes such events
                state, effects = guard.step(state, event, entry["now_ns"])
                assert effects_of(effects) == entry["effects"]

    # Rules

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0, 2.5, 4.0]), heartbeat=st.booleans())
    def time_passes(self, seconds: float, heartbeat: bool) -> None:
        until_ns = self.now_ns + round(seconds * S)
        while self.now_ns < until_ns:
            self.now_ns = min(until_ns, self.now_ns + 250_000_000)
            self.beam.advance(self.now_ns)
            for at_ns, command in [waiting for waiting in self.on_the_way if waiting[0] <= self.now_ns]:
                self.on_the_way.remove((at_ns, command))
                self._arrives(command, lose_answer=False)
            if heartbeat:
                self.take(self.beam.status())
            self.take(Tick())

    @rule(network=st.sampled_from(["lost", "absent"]))
    def every_lease_ends_by_itself(self, network: str) -> None:
        """3, 7: whatever mode, a guard that hears nothing soon grants nothing more, and the instrument blanks itself."""
        silent_ns = self.now_ns + round(LIMITS.silent_after_s * S)
        until_ns = silent_ns + round((LIMITS.max_lease_s + LIMITS.max_dwell_s + 0.5) * S)
        self.on_the_way.clear()
        while self.now_ns < until_ns:
            self.now_ns += S // 4
            self.beam.advance(self.now_ns)
            effects = self.take(Tick(), network)
            leases = [e for e in effects if isinstance(e, Send) and e.command.lease_s is not None]
            assert not leases or self.now_ns <= silent_ns
        assert not self.beam.on

    def _proposal(self, **changes: object) -> Proposal:
        self.seq += 1
        fields: dict[str, object] = {
            "session": self.beam.session,
            "seq": self.seq,
            "sent_mono_ns": self.now_ns,
            "from_seq": 0,
            "preset": "preserve",
            "blank": False,
            "dwell_s": 0.4,
            "beam_current_pA": 100.0,
            "plan_dose_pC": (40.0,),
            "lease_s": 2.0,
            "expires_mono_ns": self.now_ns + S // 2,
            "reason": "",
            "clock_id": self.clock_id,
        }
        return Proposal(**(fields | changes))  # type: ignore[arg-type]

    @rule(
        target=sent,
        dwell_s=NUMBERS,
        current_pA=CURRENTS,
        lease_s=NUMBERS,
        network=st.sampled_from(["well", "well", "well", "lost", "late", "no answer", "absent"]),
    )
    def it_proposes(self, dwell_s: float, current_pA: float, lease_s: float, network: str) -> Proposal:
        proposal = self._proposal(dwell_s=dwell_s, beam_current_pA=current_pA, lease_s=lease_s)
        self.take(proposal, network)
        return proposal

    @rule(target=sent)
    def it_proposes_soundly(self) -> Proposal:
        proposal = self._proposal()
        self.take(proposal)
        return proposal

    @rule(
        frames=st.integers(1, 12),
        every_s=st.sampled_from([0.1, 0.4, 0.9]),
        dwell_s=st.sampled_from([0.05, 0.2, 0.4, 1.0]),
        current_pA=st.sampled_from([5.0, 50.0, 100.0, 250.0, 1e9]),
        lease_s=st.sampled_from([0.4, 1.0, 2.0, 30.0]),
        network=st.lists(
            st.sampled_from(["well", "well", "well", "well", "lost", "late", "no answer", "absent"]),
            min_size=1,
            max_size=5,
        ),
    )
    def it_flies(
        self, frames: int, every_s: float, dwell_s: float, current_pA: float, lease_s: float, network: list[str]
    ) -> None:
        """What a session is like, mostly: an operator has armed, and a proposal comes with each frame."""
        if self.state.mode is Mode.BLANK_LATCHED:
            self.take(self._operator("clear"))
        if self.state.mode is not Mode.OVERRIDE:
            self.take(self.beam.status())
            self.take(self._operator("arm"))
        for frame in range(frames):
            proposal = self._proposal(dwell_s=dwell_s, beam_current_pA=current_pA, lease_s=lease_s)
            self.take(proposal, network[frame % len(network)])
            self.time_passes(every_s, heartbeat=frame % 3 == 0)

    @rule()
    def it_proposes_to_blank(self) -> None:
        self.take(self._proposal(blank=True))

    @rule(proposal=sent)
    def an_old_proposal_comes_again(self, proposal: Proposal) -> None:
        """4."""
        effects = self.take(proposal)
        assert not any(isinstance(e, Send) and e.command.lease_s is not None for e in effects)

    @rule(
        changes=st.sampled_from(
            [
                {"session": "another"},
                {"expires_mono_ns": 0},
                {"expires_mono_ns": 2**62},
                {"clock_id": None},
                {"clock_id": "another"},
                {"preset": "advise"},
            ]
        )
    )
    def a_proposal_that_must_not_act(self, changes: dict) -> None:
        """4."""
        effects = self.take(self._proposal(**changes))
        assert not any(isinstance(e, Send) and e.command.lease_s is not None for e in effects)

    @rule(field=st.sampled_from(["dwell_s", "beam_current_pA", "lease_s"]), value=DAMAGED, seldom=SELDOM)
    def a_proposal_is_not_finite(self, field: str, value: float, seldom: bool) -> None:
        if not seldom:
            return
        proposal = self._proposal().model_copy(update={field: value})
        self.take(proposal)
        assert self.state.mode is Mode.BLANK_LATCHED

    @rule(not_finite=SELDOM, sender=st.sampled_from(["controller", "instrument", "operator"]))
    def something_malformed_comes(self, not_finite: bool, sender: str) -> None:
        self.take(Malformed(sender, "it is no message", not_finite))  # type: ignore[arg-type]

    def _operator(self, action: str, **changes: object) -> OperatorCommand:
        self.operator_seq += 1
        fields: dict[str, object] = {
            "action": action,
            "session": self.beam.session,
            "seq": self.operator_seq,
            "sent_mono_ns": self.now_ns,
            "expires_mono_ns": self.now_ns + S,
            "operator": "me",
        }
        return OperatorCommand(**(fields | changes))  # type: ignore[arg-type]

    @rule(action=st.sampled_from(["arm", "arm", "arm", "disarm", "clear", "clear"]))
    def an_operator_commands(self, action: str) -> None:
        self.take(self._operator(action))

    @rule(
        changes=st.sampled_from([{}, {"session": "another"}, {"seq": 0}, {"expires_mono_ns": 0}]),
        network=st.sampled_from(["well", "lost", "no answer"]),
    )
    def an_operator_blanks(self, changes: dict, network: str) -> None:
        """6: in whatever state, and whatever else the command says."""
        self.take(self._operator("blank", **changes), network)
        if network != "lost":
            self.beam.advance(self.now_ns + round((self.can.blank_delay_s + 0.001) * S))
            assert not self.beam.on
            self.now_ns = max(self.now_ns, self.beam.now_ns)

    @rule(
        dwell_s=st.sampled_from([0.05, 0.4, 1.0]) | NUMBERS,
        current_pA=st.sampled_from([5.0, 100.0, 300.0]) | CURRENTS,
        network=st.sampled_from(["well", "well", "lost", "no answer"]),
    )
    def an_operator_overrides(self, dwell_s: float, current_pA: float, network: str) -> None:
        """8."""
        self.take(self._operator("override", dwell_s=dwell_s, beam_current_pA=current_pA), network)

    @rule(changes=st.sampled_from([{"session": "another"}, {"expires_mono_ns": 0}, {"expires_mono_ns": 2**62}, {}]))
    def an_operator_command_that_must_not_act(self, changes: dict) -> None:
        command = self._operator("disarm", **changes)
        if not changes:  # it comes twice
            self.take(command)
        effects = self.take(command)
        [reply] = [e for e in effects if isinstance(e, Reply)]
        assert reply.outcome == "refused"

    @rule(seconds=st.sampled_from([0.0, 1.0, 20.0]), torn=SELDOM, power=st.booleans())
    def the_guard_is_killed(self, seconds: float, torn: bool, power: bool) -> None:
        """9: whatever was granted stays charged, though what came last is lost."""
        if power:  # what was written and not made durable is gone, and the machine's clock is another
            del self.journal[self.durable :]
            self.clock_id += "."
        if torn and len(self.journal) > 1:
            del self.journal[-1]
        self.now_ns += round(seconds * S)
        self.beam.advance(self.now_ns)
        self._begin(self.journal[-1], torn=torn)
        self.take(self.beam.start())
        self.take(self.beam.status())
        assert self.state.mode is Mode.DISARMED

    @rule(killed=st.booleans(), seldom=SELDOM)
    def another_session_begins(self, killed: bool, seldom: bool) -> None:
        if not seldom:
            return
        self.beam.advance(self.now_ns)
        old = self.beam
        old._off()
        self.on_the_way.clear()
        self.last_order = None
        self.beams.append(Beam(f"session-{len(self.beams)}", self.now_ns, self.can))
        if not killed:
            self.take(self.beam.start())
        self.take(self.beam.status())
        if killed:  # what came first was a status: the start is asked for
            self.take(self.beam.start())
        assert self.state.mode in (Mode.DISARMED, Mode.BLANK_LATCHED)
        assert self.state.session == self.beam.session

    @rule(seldom=SELDOM)
    @precondition(lambda self: len(self.beams) > 1)
    def an_earlier_session_speaks(self, seldom: bool) -> None:
        if not seldom:
            return
        known = self.beams[0].session in self.state.earlier_sessions  # a guard that was killed has forgotten them
        if known:
            self.take(self.beams[0].status())
            assert self.state.mode is Mode.BLANK_LATCHED

    @rule(seldom=SELDOM)
    def the_disk_is_full(self, seldom: bool) -> None:
        """1: no lease that isn't on the disk."""
        if not seldom:
            return
        self.disk_is_full = True
        given = len(self.beam.accepted)
        self.take(self._operator("arm"))
        self.take(self._proposal())
        assert not any(command.lease_s for command in self.beam.accepted[given:])
        self.disk_is_full = False
        del self.journal[self.durable :]  # what the file has; the lease that it hasn't was never given
        self.charged_pC = self.journal[-1].get("charged_pC", 0.0)
        self._begin(self.journal[-1], torn=False)
        self.take(self.beam.start())

    @rule(seldom=SELDOM)
    def the_guard_is_stopped(self, seldom: bool) -> None:
        if not seldom:
            return
        self.take(Stopping())
        self.beam.advance(self.now_ns + round((self.can.blank_delay_s + 0.001) * S))
        assert not self.beam.on
        self.now_ns = max(self.now_ns, self.beam.now_ns)
        assert self.state.mode in BLANKED


def test_the_invariants_hold_whatever_comes():
    run_state_machine_as_test(GuardMachine, settings=settings(examples(50), stateful_step_count=30))
