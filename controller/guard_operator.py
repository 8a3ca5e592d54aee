"""What the guard does for its operator. Pure.

`blank` is looked at before anything else, and nothing is asked of it. All other commands must be of this session, new and in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from controller.guard_events import Reply
from controller.guard_proposals import Proposing
from controller.guard_step import LONGEST_REASON, expiry_fault
from controller.limits import Broken, Rate, admitted, not_finite
from controller.modes import Mode, ModeEvent
from eelstm_stream.wire.messages import OperatorCommand

_DONE: Mapping[str, str] = {
    "arm": "armed: the next proposal that is admitted lets the beam on.",
    "disarm": "disarmed; the beam is blanked.",
    "clear": "the latch is cleared, and the guard disarmed: arm to go on.",
    "approve": "approved; the instrument is commanded.",
    "override": "the rate is fixed, under leases that the guard renews, until arm, disarm or blank.",
}


class Operating(Proposing):
    """Takes operator's commands in."""

    def operator_blank(self, command: OperatorCommand) -> None:
        """From every state, by the shortest way, whatever the command says of session, number and time."""
        self.send_blank()
        who = command.operator or "an operator"
        why = f"{who} blanked the beam" + (f": {command.reason}" if command.reason else "")
        self.move(ModeEvent.OPERATOR_BLANK, why)
        self.change(latched_by=self.state.latched_by or why, awaiting=None)
        if command.session == self.state.session:
            self.change(operator_seq=max(command.seq, self.state.operator_seq or 0))
        sent = "the instrument is told to blank, and stays blanked until `eelstm operator clear`."
        if self.state.session is None:
            sent = "NO INSTRUMENT SESSION IS KNOWN, so nobody was told to blank: blank by hand. The guard grants nothing until `clear`."
        self._answer(command, None, sent)

    def operator(self, command: OperatorCommand) -> None:
        """Any command but `blank`."""
        refused = self._operator_admissible(command)
        if refused is None:
            refused = self._obey(command)
        self._answer(command, refused, _DONE.get(command.action, ""))

    def _operator_admissible(self, command: OperatorCommand) -> Broken | None:
        state = self.state
        if state.session is None:
            return Broken("session", "no instrument session is known: is the instrument running?")
        if command.session != state.session:
            return Broken("session", f"the command is for session {command.session}, and this is {state.session}.")
        if state.operator_seq is not None and not command.seq > state.operator_seq:
            return Broken(
                "seq", f"command {command.seq} comes after {state.operator_seq}: numbers rise, and none acts twice."
            )
        self.change(operator_seq=command.seq)
        return expiry_fault(command.expires_mono_ns, self.now_ns, "command")

    def _obey(self, command: OperatorCommand) -> Broken | None:
        match command.action:
            case "arm":
                return self._arm()
            case "disarm":
                return self._disarm()
            case "clear":
                return self._clear()
            case "approve":
                return self._approve(command.proposal_seq)
            case "override":
                return self._override(command.dwell_s, command.beam_current_pA)
        return Broken("action", f"{command.action} is no command that the guard knows here.")

    def _latched(self) -> Broken | None:
        if self.state.mode is not Mode.BLANK_LATCHED:
            return None
        return Broken("latched", f"the guard is latched ({self.state.latched_by}): clear it first.")

    def _arm(self) -> Broken | None:
        latched = self._latched()
        if latched is not None:
            return latched
        if self.state.unfit is not None:
            return self.state.unfit
        heard_ns = self.state.heard_ns
        if heard_ns is None or not (self.now_ns - heard_ns) / 1e9 <= self.state.limits.silent_after_s:
            return Broken("instrument_silent", "the instrument says nothing: see whether it runs.")
        self.change(source_lost=False, admitted_ns=self.now_ns)
        self.move(ModeEvent.OPERATOR_ARM, "an operator armed")
        return None

    def _disarm(self) -> Broken | None:
        latched = self._latched()
        if latched is not None:
            return latched
        self.move(ModeEvent.OPERATOR_DISARM, "an operator disarmed")
        return None

    def _clear(self) -> Broken | None:
        if self.state.mode is not Mode.BLANK_LATCHED:
            return Broken("not_latched", "nothing is latched.")
        self.move(ModeEvent.OPERATOR_CLEAR, "an operator cleared the latch")
        return None

    def _approve(self, seq: int | None) -> Broken | None:
        awaiting = self.state.awaiting
        if awaiting is None:
            return Broken("approval", "no proposal waits for approval.")
        if seq != awaiting.seq:
            return Broken("approval", f"proposal {awaiting.seq} waits for approval, and not {seq}.")
        self.change(awaiting=None)
        refused = self.too_old(awaiting)
        if refused is not None:
            self.refuse(refused, awaiting)
            return refused
        return self.admit(awaiting)

    def _override(self, dwell_s: float | None, current_pA: float | None) -> Broken | None:
        latched = self._latched()
        if latched is not None:
            return latched
        if self.state.unfit is not None:
            return self.state.unfit
        if dwell_s is None or current_pA is None or self.state.bounds is None:
            return Broken("override", "an override needs a dwell, a current and a session.")
        refused = not_finite({"dwell_s": dwell_s, "beam_current_pA": current_pA})
        if refused is not None:
            return refused
        lease_s, wanted = self.longest_lease_s(), Rate(dwell_s, current_pA)
        fit = admitted(self.state.bounds, wanted, lease_s, highest_pA=float("inf"))
        if isinstance(fit, Broken):
            return fit
        if (
            fit.clamped is not None
        ):  # a person who asks for what isn't allowed should know, rather than get something else
            return Broken(fit.clamped.limit, fit.clamped.reason.replace(", and was cut to that", ""))
        refused = self.grant(wanted, lease_s, "operator", None)
        if refused is not None:
            return refused
        self.move(ModeEvent.OPERATOR_OVERRIDE, "an operator set a fixed rate")
        self.change(override=wanted)
        return None

    def _answer(self, command: OperatorCommand, refused: Broken | None, done: str) -> None:
        outcome: Literal["accepted", "refused"] = "accepted" if refused is None else "refused"
        reason = done if refused is None else refused.reason
        limit = None if refused is None else refused.limit
        self.effects.append(
            Reply(
                command.seq,
                self.state.session,
                outcome,
                reason[:LONGEST_REASON],
                self.state.mode.value,
                limit,
                self.state.operator_seq,
            )
        )
        said = Broken(limit or "", f"{command.action}: {reason}")
        if limit is not None:
            self.count_refusal(limit)
        self.decide(outcome, said, None, "operator", decided_mono_ns=self.now_ns)

    def stopping(self) -> None:
        """The guard's program ends, and the beam with it."""
        self.move(ModeEvent.OPERATOR_DISARM, "the guard ends")
        self.send_blank()
