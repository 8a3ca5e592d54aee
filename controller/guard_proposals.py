"""What the guard does with the controller's proposals. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from controller import modes
from controller.guard_commands import Commanding
from controller.guard_events import Malformed, Say
from controller.guard_step import expiry_fault, word
from controller.limits import Broken, Rate, not_finite
from controller.modes import Mode, ModeEvent
from eelstm_stream.wire.messages import Proposal

_WAY_OUT: Mapping[Mode, str] = {
    Mode.DISARMED: "an operator must arm it",
    Mode.OVERRIDE: "an operator has fixed the rate",
    Mode.BLANK_LATCHED: "an operator must clear it",
}


class Proposing(Commanding):
    """Takes proposals in."""

    def proposal(self, proposal: Proposal) -> None:
        """Refuse it, blank as it asks, let it wait for approval, or grant it."""
        refused = self._admissible(proposal)
        if refused is not None:
            self.refuse(refused, proposal)
            if refused.limit == "finite":
                self.latch("finite", f"proposal {proposal.seq}: {refused.reason}")
            return
        if proposal.blank:
            self.move(ModeEvent.CONTROLLER_BLANK, f"the controller asks for it: {proposal.reason}")
            self.change(admitted_ns=self.now_ns, accepted=self.state.accepted + 1)
            self.decide(
                "accepted", Broken("", "the beam is blanked, as proposed."), proposal, decided_mono_ns=self.now_ns
            )
            return
        if self.state.approve_each:
            if self.state.awaiting is not None:
                self.refuse(
                    Broken("approval", f"proposal {self.state.awaiting.seq} waits for approval already."), proposal
                )
                return
            self.change(awaiting=proposal, awaiting_since_ns=self.now_ns)
            self.effects.append(Say(f"proposal {proposal.seq} waits for approval: {_shown(proposal)}"))
            return
        self.admit(proposal)

    def admit(self, proposal: Proposal) -> Broken | None:
        """Grant a proposal that nothing else stands against; why not, or None."""
        wanted = Rate(proposal.dwell_s, proposal.beam_current_pA)
        refused = self.grant(wanted, proposal.lease_s, "proposal", proposal)
        if refused is None:
            self.change(admitted_ns=self.now_ns)
            self.move(ModeEvent.ADMITTED, f"proposal {proposal.seq} was admitted")
            return None
        if refused.limit == "budget_pC":
            self.move(ModeEvent.BUDGET_SPENT, refused.reason)
        self.refuse(refused, proposal)
        return refused

    def _admissible(self, proposal: Proposal) -> Broken | None:
        """Why a proposal can't be acted on, whatever it wants."""
        state = self.state
        numbers = {
            "dwell_s": proposal.dwell_s,
            "beam_current_pA": proposal.beam_current_pA,
            "lease_s": proposal.lease_s,
        }
        refused = not_finite(numbers | {f"plan_dose_pC[{i}]": dose for i, dose in enumerate(proposal.plan_dose_pC)})
        if refused is not None:
            return refused
        if state.session is None:
            return Broken("session", "no session is known.")
        if proposal.session != state.session:
            return Broken("session", f"the proposal is for session {proposal.session}, and this is {state.session}.")
        if state.proposal_seq is not None and not proposal.seq > state.proposal_seq:
            return Broken(
                "seq", f"proposal {proposal.seq} comes after {state.proposal_seq}: numbers rise, and none acts twice."
            )
        self.change(proposal_seq=proposal.seq)
        if proposal.clock_id != state.clock_id:
            return Broken("clock_id", "the proposal expires by another clock than the guard's.")
        expired = expiry_fault(proposal.expires_mono_ns, self.now_ns, "proposal")
        if expired is not None:
            return expired
        if proposal.preset == "advise":
            return Broken("advise", "the preset `advise` commands nothing.")
        if state.mode not in modes.TAKES_PROPOSALS:
            return Broken(state.mode.value, f"the guard is {word(state.mode)}: {_WAY_OUT[state.mode]}.")
        return self.too_old(proposal)

    def too_old(self, proposal: Proposal) -> Broken | None:
        """A proposal that rests on old spectra, though the beam has been on for long enough to have newer ones."""
        sent_ns = proposal.spectrum_sent_mono_ns
        if proposal.blank or sent_ns is None or not self.state.may_be_on:
            return None
        age_s = (self.instrument_now_ns() - max(sent_ns, self.state.let_on_instrument_ns)) / 1e9
        if not age_s <= self.state.limits.spectrum_within_s:
            return Broken("spectrum_within_s", f"the proposal rests on a spectrum of {age_s:.1f} s ago.")
        return None

    def malformed(self, event: Malformed) -> None:
        """Counted; a number that is none latches, since whoever sends it is out of order."""
        if event.sender == "controller" and event.not_finite:
            self.latch("finite", f"a proposal is not finite: {event.reason}")
            return
        before = dict(self.state.refused_by).get("malformed", 0)
        self.count_refusal("malformed", event.count)
        count = dict(self.state.refused_by).get("malformed", 0)
        if count.bit_length() > before.bit_length():  # with the 1st, 2nd, 4th, 8th …: a flood must not fill the wire
            self.decide(
                "refused", Broken("malformed", f"message {count} that can't be read: {event.reason}"), None, "guard"
            )


def _shown(proposal: Proposal) -> str:
    return f"{proposal.dwell_s:g} s at {proposal.beam_current_pA:g} pA for {proposal.lease_s:g} s"
