"""One step of the guard while it is taken: the state so far, what follows from it so far, and how refusals are said. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controller import modes
from controller.guard_events import Action, Decide, Effect, Outcome, Say
from controller.guard_state import GuardState
from controller.limits import Broken
from controller.modes import Mode, ModeEvent
from eelstm_stream.wire.messages import Proposal

LONGEST_EXPIRY_NS = 10_000_000_000  # whoever gives a message longer than this to arrive has read another clock
MOST_LIMITS = 48  # names that refusals are counted under
LONGEST_REASON = 1000


class Step:
    """The state so far, and the effects so far."""

    def __init__(self, state: GuardState, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []

    def in_order(self) -> tuple[Effect, ...]:
        """All effects; what is said to a person comes last, so that no terminal is in the way of a command."""
        return tuple(sorted(self.effects, key=lambda effect: isinstance(effect, Say)))

    def change(self, **changes: Any) -> None:
        """Other values of some fields of the state."""
        self.state = replace(self.state, **changes)

    def move(self, event: ModeEvent, why: str) -> None:
        """To the mode that the table says. Entering one without beam blanks at the end of the step."""
        before = self.state.mode
        following = modes.after(before, event)
        if following is before:
            return
        self.change(mode=following)
        if following is not Mode.OVERRIDE:
            self.change(override=None)
        if following in modes.BLANKED and before not in modes.BLANKED:
            self.change(blank_sent_ns=None)
        if following is not Mode.BLANK_LATCHED:
            self.change(latched_by=None)
        self.effects.append(Say(f"{word(before)} → {word(following)}: {why}"))

    def latch(self, limit: str, reason: str) -> None:
        """Blank, until a person has looked."""
        self.move(ModeEvent.LATCH, reason)
        if self.state.latched_by is None:
            self.change(latched_by=reason)
        self.refuse(Broken(limit, reason), None, "guard")

    def refuse(
        self,
        refused: Broken,
        proposal: Proposal | None,
        action: Action = "proposal",
    ) -> None:
        """Count and publish."""
        self.count_refusal(refused.limit)
        self.decide("refused", refused, proposal, action, decided_mono_ns=self.now_ns)

    def count_refusal(self, limit: str, count: int = 1) -> None:
        """Under the name of its limit."""
        by = dict(self.state.refused_by)
        name = limit if limit in by or len(by) < MOST_LIMITS else "others"
        by[name] = by.get(name, 0) + count
        self.change(refused=self.state.refused + count, refused_by=tuple(by.items()))

    def decide(
        self,
        outcome: Outcome,
        said: Broken,
        proposal: Proposal | None,
        action: Action = "proposal",
        **fields: Any,
    ) -> None:
        """Publish what was decided. fields: more of `Decide`."""
        self.effects.append(
            Decide(
                session=self.state.session,
                outcome=outcome,
                reason=said.reason[:LONGEST_REASON],
                mode=self.state.mode.value,
                spent_dose_pC=self.state.ledger.charged_pC,
                budget_dose_pC=self.state.ledger.budget_pC,
                action=action,
                limit=said.limit or None,
                proposal_seq=None if proposal is None else proposal.seq,
                proposal_sent_mono_ns=None if proposal is None else proposal.sent_mono_ns,
                **fields,
            )
        )


def word(mode: Mode) -> str:
    """A mode, for a person."""
    return mode.value.replace("_", " ")


def expiry_fault(expires_ns: int, now_ns: int, what: str) -> Broken | None:
    """Whether a message came too late, or will for too long not be. Both times are by the guard's clock."""
    left_ns = expires_ns - now_ns
    if not left_ns >= 0:
        return Broken("expired", f"the {what} expired {-left_ns / 1e9:.3f} s ago.")
    if not left_ns <= LONGEST_EXPIRY_NS:
        return Broken(
            "expires_mono_ns",
            f"the {what} expires in {left_ns / 1e9:.0f} s, and {LONGEST_EXPIRY_NS / 1e9:g} s are the most.",
        )
    return None
