"""What the guard makes of the instrument's own word: charged to the ledger, and held against what was ordered. Pure."""

from __future__ import annotations

from controller.guard_step import Step
from controller.limits import differs
from controller.modes import ModeEvent
from eelstm_stream.wire.messages import BeamReport

MOST_DOSE_PC = 1e15  # a thousand coulombs: no specimen's dose


class Hearing(Step):
    """Takes in reports of the beam."""

    def hear(self, instrument_ns: int) -> None:
        """The instrument spoke. instrument_ns: by its clock."""
        self.change(heard_ns=self.now_ns)
        if self.state.instrument_ns is None or instrument_ns >= self.state.instrument_ns:
            self.change(instrument_ns=instrument_ns, instrument_heard_ns=self.now_ns)

    def hear_beam(self, beam: BeamReport, instrument_ns: int) -> None:
        """What the instrument says of its beam: charged, and held against what was ordered."""
        is_first = self.state.beam is None
        if beam.dose_pC is not None:
            self._hear_dose(beam.dose_pC, is_first)
        if not is_first and instrument_ns < self.state.beam_instrument_ns:
            return  # older than what is known
        self.change(beam=beam, beam_instrument_ns=instrument_ns, beam_heard_ns=self.now_ns)
        taken_seq = -1 if beam.taken_seq is None else beam.taken_seq
        if is_first:
            self.change(command_seq=max(self.state.command_seq, taken_seq))
        if taken_seq > self.state.command_seq:
            self.change(command_seq=taken_seq)
            self.latch(
                "commander",
                f"the instrument took command {taken_seq}, which this guard didn't send: another program commands it.",
            )
        told_all = taken_seq >= self.state.command_seq
        if not told_all and not instrument_ns > self.state.command_expires_instrument_ns:
            return  # a command is under way, and may act yet
        self.change(unsure_pA=0.0, may_be_on=not beam.ordered.blanked)
        if beam.ordered.blanked and self.state.lease_ends_ns is not None:
            self.lease_ended("the instrument has blanked the beam")
        elif beam.lease is not None and self.state.lease_ends_ns is not None:
            left_s = beam.lease.left_s
            if beam.lease.ends_mono_ns is not None:  # its time may run otherwise than ours
                left_s = (beam.lease.ends_mono_ns - instrument_ns) / 1e9
            self.change(lease_ends_ns=self.now_ns + max(0, round(min(left_s, 1e6) * 1e9)))
        answered = not any(pending.command.seq <= taken_seq for pending in self.state.pending)
        if answered:  # a status may overtake the answer to the command that it shows already
            self._check_readback(beam)

    def _hear_dose(self, dose_pC: float, is_first: bool) -> None:
        ledger = self.state.ledger
        if not dose_pC <= MOST_DOSE_PC:
            self.latch("dose_pC", f"the instrument reports a dose of {dose_pC} pC.")
            return
        found = is_first and ledger.in_session_pC == 0  # a session that others began
        if not found and not ledger.allows(dose_pC):
            self.latch(
                "dose_pC",
                f"the instrument reports {dose_pC:g} pC in this session, more than the {ledger.in_session_pC:g} pC that were granted.",
            )
        self.change(ledger=self.state.ledger.report(dose_pC))

    def _check_readback(self, beam: BeamReport) -> None:
        """An instrument that does otherwise than ordered: the larger is charged, and the beam stays blanked."""
        ordered = self.state.ordered
        if ordered is None:
            return
        said = [("says that it was ordered", beam.ordered)]
        if beam.next_seq > ordered.holds_from_seq and not beam.readback.blanked:
            said.append(("reads back", beam.readback))
        for how, read in said:
            for value, order, unit in (
                (read.beam_current_pA, ordered.rate.current_pA, "pA"),
                (read.dwell_s, ordered.rate.dwell_s, "s"),
            ):
                if not differs(order, value, self.state.limits.readback_tolerance):
                    continue
                larger_pA = max(read.beam_current_pA, ordered.rate.current_pA)
                self._charge_a_lease(larger_pA)
                self.change(ordered=None)  # said once
                self.latch("readback", f"{order:g} {unit} was ordered, and the instrument {how} {value:g} {unit}.")
                return

    def _charge_a_lease(self, current_pA: float) -> None:
        delay_s = 0.0 if self.state.bounds is None else self.state.bounds.blank_delay_s
        until_pC = self.state.ledger.reported_pC + current_pA * (self.state.lease_s + delay_s)
        self.change(ledger=self.state.ledger.charge(until_pC))

    def lease_ended(self, why: str) -> None:
        """By itself, or so the guard must reckon."""
        self.change(lease_ends_ns=None)
        self.move(ModeEvent.LEASE_ENDED, why)
