"""Puts a microscope on the wire and keeps its beam within its leases: what is the same for every adapter. A shell.

An adapter brings a `Microscope`. Which command is obeyed, and until when the beam may be on, is decided in `core/orders.py`.
Here are the clock, the sockets, and a thread that waits for the camera, so that neither a command nor the end of a lease has
to wait for an exposure.

    blanked ──let on──► frame ──its end──► frame │ blanked: no lease covers another
                          └─ commanded, or the lease is over before the camera is done: cut ──► blanked

Dose is current × the time that the beam was on, by the clock: the time between frames, and what was cut, are in it.

A lease ends with the beam off, not with the beginning of that: `blank_delay_s` of the adapter's limits, the blanker's time and this
program's together, is planned before the end. The guard keeps as much free beyond the lease. So a program that is late by less than
twice that gives no more than was charged. One that stands still for longer does: nobody is there to blank. What it gave is counted,
and told as soon as it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from eelstm_stream.adapters.microscope import Microscope
from eelstm_stream.core import orders
from eelstm_stream.core.command_gate import CommandGate, Refused
from eelstm_stream.core.lease import Lease
from eelstm_stream.core.orders import Orders
from eelstm_stream.errors import EelstmError
from eelstm_stream.io import clock
from eelstm_stream.io.announce import say
from eelstm_stream.io.instrument_server import InstrumentServer, Received
from eelstm_stream.io.instrument_session import InstrumentSession
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.messages import BeamReport, Command, Payload

GIVE_UP_AFTER_S = 10.0  # a camera that is this late will not come back
LEAVE_WITHIN_S = 2.0  # how long the end of the program waits for a frame that was cut


@dataclass(slots=True)
class _Exposure:
    """A frame in progress."""

    seq: int
    began_ns: int
    dwell_s: float
    current_pA: float
    dose_before_pC: float
    off_by_ns: int  # by the lease that it began with
    cut: bool = False
    ended_ns: int = 0
    counts: Payload | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class LeasedInstrument:
    """One session of a microscope, from a blanked beam to a blanked beam."""

    def __init__(self, name: str, microscope: Microscope, server: InstrumentServer, stop: Stop) -> None:
        """Blank the beam, and begin a session. name: of the program, in its messages. Who brings the server closes it."""
        self._name = name
        self._microscope = microscope
        self._blank_s = microscope.limits.blank_delay_s
        self._after_dwell_s = microscope.readout_s + self._blank_s
        self._server = server
        self._stop = stop
        self._exposure: _Exposure | None = None
        self._next_seq = 0
        self._dose_pC = 0.0  # of the session, until `_looked_ns`
        self._may_be_on = False  # the blanker was told to let it on, whatever is read back, if anything
        microscope.blank(True)
        if not self._blank_s > 0:
            raise EelstmError(
                "the limits of this adapter say blank_delay_s = 0, and no beam goes off in no time: let them say how long its "
                "blanker and this program need, such as 0.05 s."
            )
        self._looked_ns = clock.monotonic_ns()
        self._read = read = microscope.readback()  # what has held since then
        self._session = InstrumentSession(
            server,
            name,
            **microscope.context(),
            dwell_s=read.dwell_s,
            frame_period_s=read.dwell_s + microscope.readout_s,
            beam_current_pA=read.beam_current_pA,
            dose_is_relative=False,
            commands=microscope.limits,
        )
        self._orders = Orders(CommandGate(self._session.uid), read.dwell_s, read.beam_current_pA)
        self._set = (read.dwell_s, read.beam_current_pA)
        self._said = read  # in the newest status

    def fly(self) -> None:
        """Serve until told to stop. Raises EelstmError where the microscope fails. The beam is blanked in the end."""
        try:
            try:
                while not self._stop.requested:
                    self._turn()
            finally:
                self._blank("the program ends")
            if self._exposure is not None:
                self._exposure.done.wait(LEAVE_WITHIN_S)
                self._go_on()  # a frame that was whole is published
            self._say_status()
        except Exception as error:
            said = f"the microscope failed: {error if isinstance(error, EelstmError) else repr(error)}"
            self._session.end("failed", said[:1000])
            raise EelstmError(said) from error
        self._session.end("stopped", "the program was told to stop")
        say(self._name, f"ended with the beam blanked, after {self._next_seq} frames")

    def _turn(self) -> None:
        """Wait for what comes next, and do it."""
        due_ns = self._session.status_due_ns
        self._server.wait(due_ns if self._read.blanked else min(due_ns, self._off_by_ns()))
        batch = self._server.commands()
        accepted = bool(batch) and self._obey(batch)
        self._go_on()
        if accepted or self._read != self._said or clock.monotonic_ns() >= self._session.status_due_ns:
            self._say_status()

    # Commands

    def _obey(self, batch: Sequence[Received]) -> bool:
        """Take the commands that have come, and answer each. Whether one was accepted.

        Blanking comes first, and waits for nothing; to set and to let on, once for all of them, comes last.
        """
        now_ns, limits = clock.monotonic_ns(), self._microscope.limits
        commands = [received.command for received in batch if received.command is not None]
        if orders.blanks(self._orders, commands, limits, now_ns=now_ns):
            self._blank("it was commanded")
        self._look()
        answers: list[Refused | None] = []
        lets_on: tuple[int, Command, Orders] | None = None  # the newest that does: its place, and the orders before it
        for place, received in enumerate(batch):
            before = self._orders
            answers.append(self._take(received, now_ns))
            if received.command is not None and received.command.blanked is False and answers[place] is None:
                lets_on = place, received.command, before
        if not self._orders.let_on:
            self._blank(self._orders.why_blanked)
        if self._exposure is None and (uncovered := self._begin_or_blank()) and lets_on is not None:
            place, command, before = lets_on
            answers[place] = Refused(uncovered.limit, f"no frame is covered, as it was measured: {uncovered.reason}.")
            self._orders = orders.undone(self._orders, command, before)
            self._set_as_ordered()
        report = self._report()
        for received, refused in zip(batch, answers, strict=True):
            self._session.acknowledge(received, refused, report)
        return None in answers

    def _take(self, received: Received, now_ns: int) -> Refused | None:
        """Take a command into the orders; nothing moves yet."""
        if received.command is None:
            return Refused("malformed", received.malformed)
        is_set = (self._orders.dwell_s, self._orders.current_pA) == self._set
        self._orders, refused = orders.take(
            self._orders,
            received.command,
            self._microscope.limits,
            now_ns=now_ns,
            dose_pC=self._committed_pC(),
            after_dwell_s=self._after_dwell_s,
            measured=self._read if is_set else None,
        )
        return refused

    # Frames

    def _go_on(self) -> None:
        """What follows from the frame in progress, and from the time."""
        exposure = self._exposure
        if exposure is None:
            if not self._read.blanked:
                self._blank("somebody else let it on, and there is no lease")
            return
        if exposure.done.is_set():
            self._exposure = None
            if exposure.error is not None and not exposure.cut:
                raise exposure.error
            self._begin_or_blank()
            if not exposure.cut and exposure.counts is not None:
                self._session.publish_spectrum(
                    exposure.seq,
                    exposure.counts,
                    began_ns=exposure.began_ns,
                    ended_ns=exposure.ended_ns,
                    dwell_s=exposure.dwell_s,
                    current_pA=exposure.current_pA,
                    dose_before_pC=exposure.dose_before_pC,
                )
            return
        late_s = (clock.monotonic_ns() - exposure.began_ns) / 1e9 - exposure.dwell_s
        if not self._read.blanked and clock.monotonic_ns() >= self._off_by_ns():
            self._blank("the lease was over before the camera was done")
        if late_s > GIVE_UP_AFTER_S:
            raise EelstmError(f"the camera has not given back frame {exposure.seq}, {late_s:.0f} s after its end.")

    def _set_as_ordered(self) -> None:
        """No frame is in progress: set the dwell and the current that were ordered, under a blanked beam."""
        ordered = (self._orders.dwell_s, self._orders.current_pA)
        if ordered != self._set:
            self._move_blanker(True)
            self._microscope.set(*ordered)
            self._set = ordered
            self._look()

    def _begin_or_blank(self) -> Refused | None:
        """No frame is in progress: set what was ordered, and begin one if the lease covers it; what of it is not covered."""
        self._look()
        self._set_as_ordered()
        if not self._orders.let_on or self._orders.lease is None:
            self._blank(self._orders.why_blanked)
            return None
        uncovered = self._uncovered(self._orders.lease)
        if uncovered is None:
            self._move_blanker(False)
            uncovered = self._uncovered(self._orders.lease)  # the blanker took its time too
        if uncovered is not None:
            self._blank(uncovered.reason)
            return uncovered
        read, lease = self._read, self._orders.lease
        self._exposure = _Exposure(
            self._next_seq, self._looked_ns, read.dwell_s, read.beam_current_pA, self._dose_pC, self._off_by(lease)
        )
        self._next_seq += 1
        threading.Thread(target=self._expose, args=(self._exposure,), daemon=True).start()
        return None

    def _uncovered(self, lease: Lease) -> Refused | None:
        """What of a frame the lease does not cover, by what was ordered or by what is read, whichever is more."""
        return orders.not_covered(
            orders.at_least(self._orders, self._read),
            lease,
            now_ns=self._looked_ns,
            dose_pC=self._dose_pC,
            after_dwell_s=self._after_dwell_s,
        )

    def _expose(self, exposure: _Exposure) -> None:
        """Wait for the camera, in a thread of its own."""
        try:
            exposure.counts = self._microscope.expose()
        except Exception as error:  # noqa: BLE001 - it is raised again in the thread that can end the session
            exposure.error = error
        exposure.ended_ns = clock.monotonic_ns()
        exposure.done.set()
        self._server.wake()

    def _blank(self, why: str) -> None:
        """Blank the beam, at once. A frame that isn't done is lost."""
        self._orders = self._orders.blanked(why)
        if self._may_be_on or not self._read.blanked:
            self._move_blanker(True)
        self._look()
        if not self._read.blanked:  # somebody let it on by hand
            self._move_blanker(True)
        exposure = self._exposure
        if exposure is not None and not exposure.cut and not exposure.done.is_set():
            exposure.cut = True
            self._microscope.cut()
            self._session.publish_gap(exposure.seq, exposure.seq, f"the beam was blanked during this frame: {why}")

    # Beam and dose

    def _move_blanker(self, blanked: bool) -> None:
        if not blanked:
            self._look()
            self._may_be_on = True
        self._microscope.blank(blanked)  # blanking waits for no readback, which may be slow or fail
        self._look()
        if self._read.blanked != blanked:
            raise EelstmError(f"the blanker was told to {'blank' if blanked else 'let on'} the beam, and did not.")
        self._may_be_on = not blanked

    def _look(self) -> None:
        """Read the microscope back, and add up the dose until now. Where a reading differs, the larger dose counts."""
        read, now_ns = self._microscope.readback(), clock.monotonic_ns()
        current_pA = max(0.0 if r.blanked else r.beam_current_pA for r in (self._read, read))
        self._dose_pC += current_pA * (now_ns - self._looked_ns) / 1e9
        self._read, self._looked_ns = read, now_ns

    def _committed_pC(self) -> float:
        """Dose of the session, the frame in progress counted whole."""
        exposure = self._exposure
        if exposure is None or exposure.cut:
            return self._dose_pC
        return max(self._dose_pC, exposure.dose_before_pC + exposure.current_pA * exposure.dwell_s)

    def _off_by_ns(self) -> int:
        """When to blank a beam that is on: by the lease of its frame, or by a newer one that lasts longer."""
        by_ns, lease = 0 if self._exposure is None else self._exposure.off_by_ns, self._orders.lease
        if lease is None:
            return by_ns
        return max(by_ns, self._off_by(lease))

    def _off_by(self, lease: Lease) -> int:
        return orders.off_by_ns(
            lease,
            now_ns=self._looked_ns,
            dose_pC=self._dose_pC,
            current_pA=self._read.beam_current_pA,
            takes_s=self._blank_s,
        )

    def _report(self) -> BeamReport:
        self._look()
        return orders.report(
            self._orders,
            self._read,
            next_seq=self._next_seq,
            dose_pC=self._committed_pC(),
            now_ns=self._looked_ns,
        )

    def _say_status(self) -> None:
        report = self._report()
        said = f"the beam is on: {report.readback.dwell_s:g} s a frame"
        if report.readback.blanked:
            said = f"the beam is blanked: {self._orders.why_blanked}"
        self._session.publish_status(said, report, self._microscope.notes)
        self._said = report.readback
