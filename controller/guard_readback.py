"""What the guard makes of the instrument's own word: charged to the ledger, and held against what was ordered. Pure."""

from __future__ import annotations

from controller.guard_orders import from_frame, surely_holds
from controller.guard_step import Step
from controller.limits import Broken, Rate, differs
from controller.modes import ModeEvent
from eelstm_stream.wire.messages import BeamReport, Readback

MOST_DOSE_PC = 1e15  # a thousand coulombs: no specimen's dose
SUM_ROUNDING = 1e-9  # of a sum of frames


class Hearing(Step):
    """Takes in reports of the beam."""

    def hear(self, instrument_ns: int) -> None:
        """The instrument spoke. instrument_ns: by its clock."""
        self.change(heard_ns=self.now_ns)
        if self.state.instrument_ns is None or instrument_ns >= self.state.instrument_ns:
            self.change(instrument_ns=instrument_ns, instrument_heard_ns=self.now_ns)

    def hear_beam(self, beam: BeamReport, instrument_ns: int) -> None:
        """What the instrument says of its beam: charged, and held against what was ordered."""
        before = self.state.beam
        if before is not None and instrument_ns < self.state.beam_instrument_ns:
            if beam.dose_pC is not None:
                self._hear_dose(beam.dose_pC, is_first=False)
            return  # older than what is known
        at_rest = beam.readback.blanked and beam.ordered.blanked
        taken_seq = -1 if beam.taken_seq is None else beam.taken_seq
        if before is None:
            self.change(command_seq=max(self.state.command_seq, taken_seq), others_ordered=taken_seq >= 0)
        if beam.dose_pC is not None:
            self._hear_dose(beam.dose_pC, is_first=before is None)
            self._check_counter(before, beam, beam.dose_pC)
        self.change(beam=beam, beam_instrument_ns=instrument_ns, beam_heard_ns=self.now_ns)
        if taken_seq > self.state.command_seq:
            self.change(command_seq=taken_seq)
            self.latch(
                "commander",
                f"the instrument took command {taken_seq}, which this guard didn't send: another program commands it.",
            )
        self.change(orders=from_frame(self.state.orders, beam.next_seq - 1))
        told_all = taken_seq >= self.state.command_seq
        if not told_all and not instrument_ns > self.state.command_expires_instrument_ns:
            return  # a command is under way, and may act yet
        self.change(may_be_on=not beam.ordered.blanked, beam_is_off=at_rest and not self.state.source_lost)
        if beam.ordered.blanked and self.state.lease_ends_ns is not None:
            self.lease_ended("the instrument has blanked the beam")
        elif beam.lease is not None and self.state.lease_ends_ns is not None:
            left_s = beam.lease.left_s
            if beam.lease.ends_mono_ns is not None:  # its time may run otherwise than ours
                left_s = (beam.lease.ends_mono_ns - instrument_ns) / 1e9
            self.change(lease_ends_ns=self.now_ns + max(0, round(min(left_s, 1e6) * 1e9)))
        if beam.lease is not None and beam.lease.until_dose_pC is not None and not self.state.others_ordered:
            self._check_lease(beam.lease.until_dose_pC)
        answered = not any(pending.command.seq <= taken_seq for pending in self.state.pending)
        if answered:  # a status may overtake the answer to the command that it shows already
            self._check_readback(beam)
        if at_rest:  # what was ordered by now holds before the beam is let on again
            self.change(orders=(), others_ordered=False)

    def may_hold(self, *reports: BeamReport) -> list[Rate]:
        """Every rate that may hold now: as these reports say, and as ordered and not yet known to be over."""
        said = [_rate(read) for report in reports for read in (report.readback, report.ordered)]
        pending = [waiting.rate for waiting in self.state.pending if waiting.rate is not None]
        return said + [order.rate for order in self.state.orders] + pending

    def _hear_dose(self, dose_pC: float, *, is_first: bool) -> None:
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

    def _check_counter(self, before: BeamReport | None, beam: BeamReport, dose_pC: float) -> None:
        """The instrument's own frames, against its own sum of dose: leases end at that sum, so one that stands still ends none.

        It counts the frame in progress whole, and falls only where that frame is cut.
        """
        limits = self.state.limits
        if not dose_pC <= MOST_DOSE_PC:
            return  # no dose at all, and said already
        if before is None or before.dose_pC is None:
            cut_pC = limits.max_current_pA * limits.max_dwell_s  # in progress when a guard before this one heard of it
            if not dose_pC >= (self.state.ledger.reported_pC - cut_pC) * (1 - SUM_ROUNDING):
                self._distrust(dose_pC, self.state.ledger.reported_pC, 0, limits.max_current_pA)
            return
        frames = beam.next_seq - before.next_seq
        rested = before.readback.blanked and before.ordered.blanked and frames == 0
        at_rest = beam.readback.blanked and beam.ordered.blanked
        may_be_cut = self.state.may_be_cut or (not rested and (beam.readback.blanked or beam.ordered.blanked))
        self.change(may_be_cut=may_be_cut and not at_rest)
        if self.state.others_ordered:
            return  # nobody knows what a frame has got
        rates = self.may_hold(before, beam)
        least_pC = (1 - limits.readback_tolerance) * min(rate.dose_pC for rate in rates)
        cut_pC = (1 + limits.readback_tolerance) * max(rate.dose_pC for rate in rates)
        due_pC = (before.dose_pC + frames * least_pC) * (1 - SUM_ROUNDING)
        if frames >= 0 and dose_pC >= due_pC:
            return
        self.change(may_be_cut=False)
        if not (frames >= 0 and may_be_cut and dose_pC >= due_pC - cut_pC):
            self._distrust(dose_pC, before.dose_pC, frames, max(rate.current_pA for rate in rates))

    def _distrust(self, dose_pC: float, before_pC: float, frames: int, current_pA: float) -> None:
        """Nothing more in this session, since its leases end at a dose that isn't counted. What was granted may be given anew."""
        reason = f"the instrument counts {dose_pC:g} pC, {frames} frame(s) after {before_pC:g} pC: its dose is not to be believed."
        self._charge_a_lease(self.state.ledger.in_session_pC, current_pA)
        self.change(unfit=Broken("dose_pC", f"{reason} Begin another session."))
        self.latch("dose_pC", reason)

    def _check_lease(self, until_pC: float) -> None:
        """Whether the lease that the instrument enforces is one that was granted."""
        if not until_pC <= self.state.ledger.in_session_pC:
            self.change(ledger=self.state.ledger.charge(until_pC))
            self.latch(
                "commander",
                f"the instrument has a lease until {until_pC:g} pC, which this guard didn't grant: another program commands it.",
            )

    def _check_readback(self, beam: BeamReport) -> None:
        """An instrument that does otherwise than ordered: the larger is charged, and the beam stays blanked."""
        orders = self.state.orders
        if not orders:
            return
        if orders[-1].holds_from_seq is not None:
            self._compare("says that it was ordered", beam.ordered, [orders[-1].rate])
        if surely_holds(orders[0], beam.next_seq - 1) and not beam.readback.blanked:
            self._compare("reads back", beam.readback, [order.rate for order in orders])

    def _compare(self, how: str, read: Readback, ordered: list[Rate]) -> None:
        """Against each rate that may be it; said of the first, which is it unless a later one holds early."""
        faults = [self._fault(read, rate) for rate in ordered]
        if None in faults or not self.state.orders:
            return
        larger_pA = max(read.beam_current_pA, *(rate.current_pA for rate in ordered))
        self._charge_a_lease(self.state.ledger.reported_pC, larger_pA)
        self.change(orders=())  # said once
        value, order, unit = next(fault for fault in faults if fault is not None)
        self.latch("readback", f"{order:g} {unit} was ordered, and the instrument {how} {value:g} {unit}.")

    def _fault(self, read: Readback, rate: Rate) -> tuple[float, float, str] | None:
        """What was read, what was ordered, and its unit, where they differ."""
        for value, order, unit in ((read.beam_current_pA, rate.current_pA, "pA"), (read.dwell_s, rate.dwell_s, "s")):
            if differs(order, value, self.state.limits.readback_tolerance):
                return value, order, unit
        return None

    def _charge_a_lease(self, from_pC: float, current_pA: float) -> None:
        delay_s = 0.0 if self.state.bounds is None else self.state.bounds.blank_delay_s
        until_pC = from_pC + current_pA * (self.state.lease_s + delay_s)
        self.change(ledger=self.state.ledger.charge(until_pC))

    def lease_ended(self, why: str) -> None:
        """By itself, or so the guard must reckon."""
        self.change(lease_ends_ns=None)
        self.move(ModeEvent.LEASE_ENDED, why)


def _rate(read: Readback) -> Rate:
    return Rate(read.dwell_s, read.beam_current_pA)
