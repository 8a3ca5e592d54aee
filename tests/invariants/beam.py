"""A beam of the tests' own, that knows commands, leases and delays, and nothing of the guard.

It is as bad as the instrument protocol lets it be: a new rate holds late, the blanker moves late, also where a lease ends, and the
specimen receives what comes meanwhile. It counts that dose itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eelstm_stream.wire.messages import (
    Acknowledgement,
    BeamReport,
    Command,
    CommandLimits,
    EnergyAxis,
    InstrumentStatus,
    LeaseReport,
    Readback,
    SessionStart,
)
from tests.wire.goldens import STARTED

S = 1_000_000_000
CLOCK = "boot-1"
INSTRUMENT = CommandLimits(
    min_dwell_s=0.05,
    max_dwell_s=2.0,
    min_current_pA=5.0,
    max_current_pA=400.0,
    max_lease_s=5.0,
    delay_frames=1,
    delay_s=0.1,
    blank_delay_s=0.03,
)


@dataclass
class Change:
    """A rate that was ordered, and when it may hold."""

    at_ns: int
    from_frame: int
    current_pA: float
    dwell_s: float


@dataclass
class Beam:
    """One session of an instrument."""

    session: str
    now_ns: int
    can: CommandLimits = field(default_factory=lambda: INSTRUMENT)
    current_pA: float = 100.0
    dwell_s: float = 0.4
    dose_pC: float = 0.0  # of whole frames, and of what was cut
    frames: int = 0
    on: bool = False
    frame_began_ns: int | None = None
    lease_ends_ns: int | None = None
    until_pC: float = 0.0
    blanks_ns: int | None = None  # when a blanker that was commanded will have moved
    let_on: bool = False
    changes: list[Change] = field(default_factory=list)
    taken_seq: int | None = None
    statuses: int = 0
    # What the invariants are checked on
    accepted: list[Command] = field(default_factory=list)
    readback_factor: float = 1.0  # an instrument that gives more current than was ordered

    # Time

    def advance(self, to_ns: int) -> None:
        """Expose until then."""
        while self._once(to_ns):
            pass
        self.now_ns = max(self.now_ns, to_ns)

    def _once(self, to_ns: int) -> bool:
        """One thing that happens until then; whether one did."""
        if not self.on:
            return self._lets_on(to_ns)
        if self.frame_began_ns is None:
            self._hold_changes()
            if not self._covered():
                self._blank_late()
            else:
                self.frame_began_ns = self.now_ns
            return True
        ends_ns = self.frame_began_ns + round(self.dwell_s * S)
        if self.blanks_ns is not None and self.blanks_ns < ends_ns:
            if self.blanks_ns > to_ns:
                return False
            self.dose_pC += self.given_pA * (self.blanks_ns - self.frame_began_ns) / S
            self.frames += 1  # one that is cut keeps its number
            self.now_ns = self.blanks_ns
            self._off()
            return True
        if ends_ns > to_ns:
            return False
        self.dose_pC += self.given_pA * self.dwell_s
        self.frames += 1
        self.now_ns, self.frame_began_ns = ends_ns, None
        return True

    @property
    def given_pA(self) -> float:
        return self.current_pA * self.readback_factor

    def _hold_changes(self) -> None:
        while self.changes and self.changes[0].at_ns <= self.now_ns and self.changes[0].from_frame <= self.frames:
            change = self.changes.pop(0)
            self.current_pA, self.dwell_s = change.current_pA, change.dwell_s

    def _covered(self) -> bool:
        if self.lease_ends_ns is None:
            return False
        in_time = self.now_ns + round(self.dwell_s * S) <= self.lease_ends_ns
        return in_time and self.dose_pC + self.current_pA * self.dwell_s <= self.until_pC * (1 + 1e-9)

    def _blank_late(self) -> None:
        """The lease covers no frame more: the blanker moves, and takes its time."""
        late_ns = self.now_ns + round(self.can.blank_delay_s * S)
        if self.blanks_ns is not None:
            late_ns = min(late_ns, max(self.blanks_ns, self.now_ns))
        self.dose_pC += self.given_pA * (late_ns - self.now_ns) / S
        self.now_ns = late_ns
        self._off()

    def _off(self) -> None:
        self.on, self.frame_began_ns, self.lease_ends_ns, self.blanks_ns, self.let_on = False, None, None, None, False

    def _lets_on(self, to_ns: int) -> bool:
        if not self.let_on:
            return False
        at_ns = max([self.now_ns, *(change.at_ns for change in self.changes)])
        if self.lease_ends_ns is None or at_ns > self.lease_ends_ns:
            self.let_on = False
            return False
        if at_ns > to_ns:
            return False
        self.now_ns = at_ns
        for change in self.changes:
            self.current_pA, self.dwell_s = change.current_pA, change.dwell_s
        self.changes.clear()
        self.on, self.let_on = True, False
        return True

    # Commands

    def obey(self, command: Command, at_ns: int) -> Acknowledgement:
        """Take a command in, or refuse it whole."""
        self.advance(at_ns)
        limit = self._refusal(command)
        if limit is None:
            self.accepted.append(command)
            if command.blanked is True:
                self.let_on = False
                if self.on:
                    self.blanks_ns = self.blanks_ns or self.now_ns + round(self.can.blank_delay_s * S)
                else:
                    self.lease_ends_ns = None
            else:
                self._order(command)
        return Acknowledgement(
            session=command.session,
            seq=command.seq,
            running_session=self.session,
            sent_mono_ns=self.now_ns,
            clock_id=CLOCK,
            outcome="accepted" if limit is None else "refused",
            limit=limit,
            reason="" if limit is None else "it breaks a limit.",
            beam=self.report(),
        )

    def _order(self, command: Command) -> None:
        ordered = self.ordered
        self.changes.append(
            Change(
                self.now_ns + round(self.can.delay_s * S),
                self.frames + self.can.delay_frames + (self.frame_began_ns is not None),
                ordered.current_pA if command.beam_current_pA is None else command.beam_current_pA,
                ordered.dwell_s if command.dwell_s is None else command.dwell_s,
            )
        )
        assert command.lease_s is not None
        self.lease_ends_ns = self.now_ns + round(command.lease_s * S)
        self.until_pC = float("inf") if command.lease_until_dose_pC is None else command.lease_until_dose_pC
        if command.blanked is False and not self.on:
            self.let_on = True

    def _refusal(self, command: Command) -> str | None:
        if command.session != self.session:
            return "session"
        if self.taken_seq is not None and command.seq <= self.taken_seq:
            return "seq"
        self.taken_seq = command.seq
        if command.expires_mono_ns < self.now_ns:
            return "expired"
        if command.beam_current_pA is not None and not 5.0 <= command.beam_current_pA <= 400.0:
            return "max_current_pA"
        if command.dwell_s is not None and not 0.05 <= command.dwell_s <= 2.0:
            return "max_dwell_s"
        if command.lease_s is not None and not command.lease_s <= 5.0:
            return "max_lease_s"
        return None

    # Messages

    @property
    def ordered(self) -> Change:
        return self.changes[-1] if self.changes else Change(0, 0, self.current_pA, self.dwell_s)

    @property
    def committed_pC(self) -> float:
        """With the frame in progress, whole."""
        in_progress = 0.0 if self.frame_began_ns is None else self.given_pA * self.dwell_s
        return self.dose_pC + in_progress

    def report(self) -> BeamReport:
        last = self.ordered
        will_be_blanked = not (self.let_on or (self.on and self.blanks_ns is None))
        next_seq = self.frames + (self.frame_began_ns is not None)
        lease = None
        if self.lease_ends_ns is not None:
            lease = LeaseReport(
                left_s=max(0, self.lease_ends_ns - self.now_ns) / S,
                ends_mono_ns=max(0, self.lease_ends_ns),
                until_dose_pC=None if self.until_pC in (0.0, float("inf")) else self.until_pC,
            )
        return BeamReport(
            readback=Readback(dwell_s=self.dwell_s, beam_current_pA=self.given_pA, blanked=not self.on),
            ordered=Readback(dwell_s=last.dwell_s, beam_current_pA=last.current_pA, blanked=will_be_blanked),
            holds_from_seq=self._holds_from(next_seq) if self.on else next_seq,
            next_seq=next_seq,
            taken_seq=self.taken_seq,
            dose_pC=self.committed_pC,
            lease=lease,
        )

    def _holds_from(self, next_seq: int) -> int:
        """At the latest: as if all frames until then were as short as any of those ordered."""
        shortest_s = min([self.dwell_s, *(change.dwell_s for change in self.changes)])
        frames = [math.ceil((change.at_ns - self.now_ns) / S / shortest_s) + 1 for change in self.changes]
        return max([next_seq, *(change.from_frame for change in self.changes), *(next_seq + f for f in frames)])

    def status(self) -> InstrumentStatus:
        self.statuses += 1
        return InstrumentStatus(
            session=self.session,
            seq=self.statuses,
            sent_mono_ns=self.now_ns,
            state="exposing" if self.on else "blanked",
            text="",
            clock_id=CLOCK,
            obeys=True,
            beam=self.report(),
        )

    def start(self, **changes: object) -> SessionStart:
        fields: dict[str, object] = {
            "session": self.session,
            "seq": 0,
            "sent_mono_ns": self.now_ns,
            "instrument": "microscope",
            "source": "simulation",
            "energy_axis": EnergyAxis(offset_eV=0.0, dispersion_eV=1.0, size=4),
            "dwell_s": 0.4,
            "beam_current_pA": 100.0,
            "dose_is_relative": False,
            "commands": self.can,
            "started_at": STARTED,
            "clock_id": CLOCK,
        }
        return SessionStart(**(fields | changes))  # type: ignore[arg-type]
