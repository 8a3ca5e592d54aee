"""How the guard commands: a lease is charged before the command that carries it, and an answer never undoes a charge. Pure."""

from __future__ import annotations

from controller.guard_events import Acknowledged, Action, Outcome, Say, Send, Write
from controller.guard_orders import MOST_ORDERS, Ordered, accepted, in_doubt
from controller.guard_readback import Hearing
from controller.guard_state import Pending
from controller.limits import Bounds, Broken, Rate, admitted, highest_current_pA
from controller.modes import ModeEvent
from eelstm_stream.wire.messages import MAX_SEQ, Acknowledgement, BeamReport, Command, Proposal

MAX_NS = 2**63 - 1
MOST_PENDING = 8  # commands without an answer; an instrument that is so far behind gets no more leases


class Commanding(Hearing):
    """Grants leases, blanks, and takes answers."""

    def grant(self, wanted: Rate, lease_s: float, action: Action, proposal: Proposal | None) -> Broken | None:
        """Charge a lease and command the rate under it, cut to the limits; or say what it breaks."""
        state = self.state
        if state.unfit is not None:
            return state.unfit
        if state.bounds is None or state.session is None:
            return Broken("session", "no session is known.")
        if state.beam is None:
            return Broken("instrument_unheard", "the instrument hasn't said yet what its beam does.")
        refused = self._not_to_be_commanded(state.beam)
        if refused is not None:
            return refused
        before_pA = state.current_pA
        if before_pA is None:
            before_pA = min(state.beam.ordered.beam_current_pA, state.bounds.max_current_pA)
        highest_pA = highest_current_pA(state.limits, before_pA, (self.now_ns - state.ordered_ns) / 1e9)
        fit = admitted(state.bounds, wanted, lease_s, highest_pA)
        if isinstance(fit, Broken):
            return fit
        worst_pA = max(fit.rate.current_pA, self._may_hold_pA(state.beam, state.bounds))
        overrun_pC = worst_pA * state.bounds.blank_delay_s
        reached_pC = self._reached_pC(worst_pA)
        wanted_pC = reached_pC + worst_pA * fit.lease_s
        until_pC = state.ledger.lease_until(wanted_pC, overrun_pC)
        clamped = fit.clamped
        if until_pC < wanted_pC:
            clamped = clamped or Broken(
                "budget_pC", f"the lease ends at {until_pC:g} pC of this session, where the budget does."
            )
        if not until_pC - reached_pC >= fit.rate.dose_pC:
            left_pC = max(0.0, until_pC - reached_pC)
            return Broken(
                "budget_pC", f"{left_pC:g} pC of the budget are left, and a frame takes {fit.rate.dose_pC:g} pC."
            )
        ledger = state.ledger.grant(until_pC, overrun_pC)
        if ledger is None:
            return Broken("budget_pC", "the budget doesn't hold the lease.")
        command = Command(
            session=state.session,
            seq=state.command_seq + 1,
            sent_mono_ns=self.now_ns,
            expires_mono_ns=self._expires_instrument_ns(),
            dwell_s=fit.rate.dwell_s,
            beam_current_pA=fit.rate.current_pA if state.bounds.orders_current else None,
            blanked=None if state.may_be_on else False,
            lease_s=fit.lease_s,
            lease_until_dose_pC=until_pC,
        )
        lasts_ns = round((fit.lease_s + state.limits.command_within_s) * 1e9)
        lease_dose_pC = max(0.0, ledger.in_session_pC - state.ledger.reported_pC)
        self.effects.append(Write(state.session, until_pC, ledger.charged_pC))
        self.change(
            ledger=ledger,
            current_pA=fit.rate.current_pA,
            ordered_ns=self.now_ns,
            let_on_instrument_ns=state.let_on_instrument_ns if state.may_be_on else self.instrument_now_ns(),
            may_be_on=True,
            lease_ends_ns=max(state.lease_ends_ns or 0, self.now_ns + lasts_ns),
            lease_s=fit.lease_s,
            lease_lasts_ns=round(fit.lease_s * 1e9),
        )
        self._send(
            Pending(command, self.now_ns, before_pA, fit.rate, action, proposal, clamped, lease_dose_pC=lease_dose_pC)
        )
        return None

    def _not_to_be_commanded(self, beam: BeamReport) -> Broken | None:
        """Why an instrument that has spoken gets no lease, whatever is wanted."""
        state = self.state
        if state.source_lost:
            return Broken("instrument_silent", "the instrument has been silent: an operator must arm again.")
        if beam.dose_pC is None:
            return Broken("dose_pC", "the instrument doesn't say what dose the specimen has received.")
        if not state.command_seq < MAX_SEQ:
            return Broken("seq", "the instrument's session has no numbers left for commands.")
        if not len(state.pending) < MOST_PENDING:
            return Broken("pending", f"{len(state.pending)} commands have no answer yet.")
        if not len(state.orders) < MOST_ORDERS:
            return Broken("pending", f"{len(state.orders)} orders wait for their turn at the instrument.")
        return None

    def _may_hold_pA(self, beam: BeamReport, bounds: Bounds) -> float:
        """Highest current that may hold until the next order does, or if it is lost."""
        worst_pA = max(rate.current_pA for rate in self.may_hold(beam))
        return max(worst_pA, bounds.instrument_pA) if self.state.others_ordered else worst_pA

    def _reached_pC(self, worst_pA: float) -> float:
        """Dose of the session that may have been reached by now: no more than was granted."""
        ledger = self.state.ledger
        if not self.state.may_be_on:
            return ledger.reported_pC
        since_s = (self.now_ns - self.state.beam_heard_ns) / 1e9 * self._instrument_s_per_s()
        return min(ledger.in_session_pC, ledger.reported_pC + worst_pA * since_s)

    def _instrument_s_per_s(self) -> float:
        """How much of the instrument's time, in which leases count, passes in a second of the guard's: more, simulated in a hurry."""
        if not self.state.lease_lasts_ns > 0:
            return 1.0
        return max(1.0, self.state.lease_s * 1e9 / self.state.lease_lasts_ns)

    def instrument_now_ns(self) -> int:
        """The instrument's clock now, as far as it was heard; before that, a clock that it may share."""
        if self.state.instrument_ns is None:
            return self.now_ns
        return self.state.instrument_ns + self.now_ns - self.state.instrument_heard_ns

    def _expires_instrument_ns(self) -> int:
        expires_ns = self.instrument_now_ns() + round(self.state.limits.command_within_s * 1e9)
        return min(max(0, expires_ns), MAX_NS)

    def longest_lease_s(self) -> float:
        """That may be granted in this session, s."""
        return self.state.limits.max_lease_s if self.state.bounds is None else self.state.bounds.max_lease_s

    def send_blank(self) -> None:
        """Blank, at once. It needs no lease, so nothing is written before."""
        if self.state.session is None:
            return
        command = Command(
            session=self.state.session,
            seq=min(self.state.command_seq + 1, MAX_SEQ),
            sent_mono_ns=self.now_ns,
            expires_mono_ns=self._expires_instrument_ns(),
            blanked=True,
        )
        self.change(blank_sent_ns=self.now_ns)
        self._send(Pending(command, self.now_ns, self.state.current_pA or 0.0))

    def _send(self, pending: Pending) -> None:
        expires_ns = max(self.state.command_expires_instrument_ns, pending.command.expires_mono_ns)
        self.change(
            beam_is_off=False,
            command_seq=pending.command.seq,
            command_expires_instrument_ns=expires_ns,
            pending=(*self.state.pending, pending),
        )
        self.effects.append(Send(pending.command))

    def acknowledged(self, event: Acknowledged) -> None:
        """An answer, or that there is none. What was charged stays charged."""
        answer = event.acknowledgement
        pending = next((p for p in self.state.pending if _is_answered(p.command, event)), None)
        if pending is not None:
            self.change(pending=tuple(p for p in self.state.pending if p is not pending))
        if pending is not None and pending.rate is not None:
            if event.result == "accepted" and answer is not None and answer.beam is not None:
                order = Ordered(pending.command.seq, pending.rate, answer.beam.holds_from_seq)
                self.change(orders=accepted(self.state.orders, order))
            else:
                self._not_known_to_act(pending, pending.rate, event.result)
        if pending is None and event.result == "accepted" and answer is not None:
            self._late_answer(answer)
        if answer is not None and self.state.session in (answer.session, answer.running_session):
            self.hear(answer.sent_mono_ns)
            if answer.beam is not None and answer.running_session == self.state.session:
                self.hear_beam(answer.beam, answer.sent_mono_ns)
        if pending is None:
            return
        if pending.rate is None:
            if event.result != "accepted":
                self._blank_failed(event)
            return
        if event.result == "accepted" and answer is not None and answer.beam is not None:
            self._take_time_of_lease(answer.beam)
        if event.result == "refused" and answer is not None and answer.limit == "seq":
            self.latch(
                "commander",
                f"command {event.seq} was used before this guard sent it: another program commands the beam.",
            )
        self._publish_outcome(pending, pending.rate, event)

    def _late_answer(self, answer: Acknowledgement) -> None:
        """An order that was in doubt has been taken after all."""
        for order in self.state.orders:
            if (answer.session, answer.seq) == (self.state.session, order.seq) and answer.beam is not None:
                known = Ordered(order.seq, order.rate, answer.beam.holds_from_seq)
                self.change(orders=accepted(self.state.orders, known))

    def _take_time_of_lease(self, beam: BeamReport) -> None:
        """How long a lease lasts by the guard's clock, now that the instrument has said when it ends."""
        if beam.lease is not None and self.state.lease_ends_ns is not None:
            self.change(lease_lasts_ns=self.state.lease_ends_ns - self.now_ns)

    def _not_known_to_act(self, pending: Pending, rate: Rate, result: str) -> None:
        """The slew is counted from the lower of the two currents, and the dose from the higher."""
        current_pA = min(pending.current_before_pA, self.state.current_pA or pending.current_before_pA)
        self.change(current_pA=current_pA)
        if result not in ("refused", "not_sent"):
            self.change(orders=in_doubt(self.state.orders, pending.command.seq, rate))

    def _blank_failed(self, event: Acknowledged) -> None:
        answer = event.acknowledgement
        said = "" if answer is None else f" ({answer.limit}: {answer.reason})"
        self.effects.append(
            Say(f"blanking by command {event.seq} was {event.result}{said}; while the beam may be on, it is sent again")
        )
        if answer is not None and answer.limit == "seq":
            self.change(blank_sent_ns=None)  # now that the numbers are known

    def _publish_outcome(self, pending: Pending, rate: Rate, event: Acknowledged) -> None:
        answer, clamped = event.acknowledgement, pending.clamped
        outcome: Outcome = "accepted" if clamped is None else "clamped"
        limit = None if clamped is None else clamped.limit
        reason = "within all limits." if clamped is None else clamped.reason
        if event.result == "refused":
            outcome, limit = "refused", "instrument"
            told = "" if answer is None else f" ({answer.limit}): {answer.reason}"
            reason = f"the instrument refused the command{told}"
        elif event.result == "not_sent":
            outcome, limit = "refused", "instrument_absent"
            reason = "no instrument is connected, so the command was not sent; its lease stays charged."
        elif event.result == "unknown":
            reason = f"the instrument didn't answer, so it may act or not; its lease stays charged. It was {reason}"
        if outcome == "refused":
            self.count_refusal(limit or "instrument")
        elif outcome == "clamped":
            self.change(clamped=self.state.clamped + 1)
        else:
            self.change(accepted=self.state.accepted + 1)
        if outcome == "refused" and clamped is not None and clamped.limit == "budget_pC":
            self.move(ModeEvent.BUDGET_SPENT, "no whole frame is left in the budget")
        if pending.action != "proposal" and outcome == "accepted":
            return  # an override that goes on is no news
        self.decide(
            outcome,
            Broken(limit or "", reason),
            pending.proposal,
            pending.action,
            dwell_s=rate.dwell_s,
            beam_current_pA=rate.current_pA,
            lease_dose_pC=pending.lease_dose_pC,
            lease_s=pending.command.lease_s or 0.0,
            until_dose_pC=pending.command.lease_until_dose_pC,
            command_seq=pending.command.seq,
            readback=None if answer is None or answer.beam is None else answer.beam.readback,
            decided_mono_ns=pending.sent_ns,
            acknowledged_mono_ns=None if answer is None else self.now_ns,
        )


def _is_answered(command: Command, event: Acknowledged) -> bool:
    """Whether it is this command that the event is about. Numbers begin anew with each session, so a late answer may have the same."""
    answer = event.acknowledgement
    return command.seq == event.seq and (answer is None or answer.session == command.session)
