"""A flight of the guard that is written down: what came, what it did, and what it remembered, as text that a person can check.

The instrument here says what it is told to say, also what no instrument should: its clock is 5 s behind the guard's.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from controller import guard
from controller.guard_events import Acknowledged, Event, JournalFailed, Malformed, Send, Stopping, Tick
from controller.guard_state import GuardState
from controller.guard_state import start as guard_start
from controller.ledger import Ledger
from controller.limits import Limits
from eelstm_stream.wire.messages import (
    Acknowledgement,
    BeamReport,
    Command,
    CommandLimits,
    EnergyAxis,
    InstrumentStatus,
    LeaseReport,
    OperatorCommand,
    Proposal,
    Readback,
    SessionEnd,
    SessionStart,
)
from tests.wire.goldens import STARTED

S = 1_000_000_000
BEGIN_NS = 1_000 * S
BEHIND_NS = 5 * S  # the instrument's clock
LIMITS = Limits(budget_pC=1000.0, max_current_pA=300.0, increase_pA_per_s=200.0)
INSTRUMENT = CommandLimits(
    min_dwell_s=0.05, max_dwell_s=0.8, min_current_pA=5.0, max_current_pA=250.0, max_lease_s=1.5,
    delay_frames=1, delay_s=0.1, blank_delay_s=0.02,
)  # fmt: skip


class Flight:
    """Events in; `lines` says what followed."""

    def __init__(self, limits: Limits = LIMITS, ledger: Ledger | None = None, **given: Any) -> None:
        self.now_ns = BEGIN_NS
        self.session = "session-a"
        self.state: GuardState = guard_start(
            limits, ledger or Ledger(limits.budget_pC), clock_id="boot-1", now_ns=BEGIN_NS, **given
        )
        self.effects: tuple[object, ...] = ()
        self.lines: list[str] = []
        self.seq = self.operator_seq = self.statuses = 0
        self.beam: dict[str, Any] = {
            "current_pA": 100.0, "dwell_s": 0.4, "blanked": True, "ordered_pA": 100.0, "ordered_s": 0.4, "will_blank": True,
            "holds_from": 0, "next": 0, "taken": None, "dose_pC": 0.0, "lease": None,
        }  # fmt: skip

    # What comes

    def take(self, event: Event, **shown: Any) -> tuple[object, ...]:
        before = self.state
        self.state, self.effects = guard.step(before, event, self.now_ns)
        said = {"": shown} if shown else event
        self.lines.append(
            f"{(self.now_ns - BEGIN_NS) / S:g} s  {type(event).__name__} {text(said) if shown else _told(event)}"
        )
        for f in fields(before):
            now = getattr(self.state, f.name)
            if now != getattr(before, f.name):
                self.lines.append(f"    {f.name} = {text(now)}")
        self.lines += [f"  > {text(effect)}" for effect in self.effects]
        return self.effects

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        self.take(Tick())

    def later(self, seconds: float) -> Flight:
        """Time passes, and nothing looks."""
        self.now_ns += round(seconds * S)
        return self

    def start(self, session: str | None = None, **changes: Any) -> None:
        self.session = session or self.session
        self.take(self.started(**changes))

    def started(self, **changes: Any) -> SessionStart:
        """The start of the session that the instrument is in."""
        given: dict[str, Any] = {
            "session": self.session, "seq": 0, "sent_mono_ns": self.now_ns - BEHIND_NS, "instrument": "microscope",
            "source": "simulation", "energy_axis": EnergyAxis(offset_eV=0.0, dispersion_eV=1.0, size=4), "dwell_s": 0.4,
            "beam_current_pA": 100.0, "dose_is_relative": False, "commands": INSTRUMENT, "started_at": STARTED,
            "clock_id": "scope-1",
        }  # fmt: skip
        return SessionStart(**(given | changes))

    def end(self, session: str | None = None) -> None:
        self.take(SessionEnd(session=session or self.session, seq=1, sent_mono_ns=self.now_ns - BEHIND_NS, reason="finished", spectra=0))  # fmt: skip

    def report(self, **changes: Any) -> BeamReport:
        self.beam |= changes
        b = self.beam
        return BeamReport(
            readback=Readback(dwell_s=b["dwell_s"], beam_current_pA=b["current_pA"], blanked=b["blanked"]),
            ordered=Readback(dwell_s=b["ordered_s"], beam_current_pA=b["ordered_pA"], blanked=b["will_blank"]),
            holds_from_seq=b["holds_from"], next_seq=b["next"], taken_seq=b["taken"], dose_pC=b["dose_pC"], lease=b["lease"],
        )  # fmt: skip

    def status(
        self, *, session: str | None = None, sent_s_ago: float = 0.0, beamless: bool = False, **beam: Any
    ) -> None:
        self.statuses += 1
        report = self.report(**beam)
        self.take(
            InstrumentStatus(
                session=session or self.session, seq=self.statuses, sent_mono_ns=self.now_ns - BEHIND_NS - round(sent_s_ago * S),
                state="blanked" if self.beam["blanked"] else "exposing", text="", clock_id="scope-1", obeys=True,
                beam=None if beamless else report,
            )
        )  # fmt: skip

    def damaged_status(self, dose_pC: float) -> None:
        """With a dose that no message can have."""
        beam = self.report().model_copy(update={"dose_pC": dose_pC})
        self.statuses += 1
        whole = InstrumentStatus(session=self.session, seq=self.statuses, sent_mono_ns=self.now_ns - BEHIND_NS, state="exposing", text="",
                                 clock_id="scope-1", obeys=True)  # fmt: skip
        self.take(whole.model_copy(update={"beam": beam}))

    def proposal(self, **changes: Any) -> Proposal:
        """A sound one, but for these changes. Its numbers may be ones that no message can have."""
        self.seq += 1
        given: dict[str, Any] = {
            "session": self.session, "seq": self.seq, "sent_mono_ns": self.now_ns, "from_seq": 0, "preset": "preserve",
            "blank": False, "dwell_s": 0.4, "beam_current_pA": 100.0, "plan_dose_pC": (40.0,), "lease_s": 1.0,
            "expires_mono_ns": self.now_ns + S, "reason": "to see", "clock_id": "boot-1",
        }  # fmt: skip
        names = ("dwell_s", "beam_current_pA", "lease_s", "plan_dose_pC")
        damaged = {name: changes.pop(name) for name in names if name in changes}
        return Proposal(**(given | changes)).model_copy(update=damaged)

    def propose(self, **changes: Any) -> tuple[object, ...]:
        return self.take(self.proposal(**changes))

    def operate(self, action: str, **changes: Any) -> tuple[object, ...]:
        return self.take(self.told(action, **changes))

    def told(self, action: str, **changes: Any) -> OperatorCommand:
        """An operator's command. Its numbers may be ones that no message can have."""
        self.operator_seq += 1
        given: dict[str, Any] = {
            "action": action, "session": self.session, "seq": self.operator_seq, "sent_mono_ns": self.now_ns,
            "expires_mono_ns": self.now_ns + S, "operator": "me",
        }  # fmt: skip
        damaged = {name: changes.pop(name) for name in ("dwell_s", "beam_current_pA") if name in changes}
        if action == "override":
            given |= {"dwell_s": 0.4, "beam_current_pA": 100.0}
        return OperatorCommand(**(given | changes)).model_copy(update=damaged)

    def answer(self, result: str = "accepted", which: int = -1, *, silent: bool = False, **beam: Any) -> None:
        """To the newest command that waits, or to another one; with what the instrument then says of its beam."""
        command = self.state.pending[which].command
        answer = self.acknowledgement(result, which, **beam)
        self.take(Acknowledged(command.seq, result, None if silent or result in ("unknown", "not_sent") else answer))  # type: ignore[arg-type]

    def acknowledgement(self, result: str, which: int = -1, **beam: Any) -> Acknowledgement:
        """The instrument's answer to it, not yet taken."""
        command = self.state.pending[which].command
        if result == "accepted":
            self._obey(command)
        limit = beam.pop("limit", "max_dwell_s") if result == "refused" else None
        given: dict[str, Any] = {
            "session": command.session, "seq": command.seq, "running_session": self.session, "sent_mono_ns": self.now_ns - BEHIND_NS,
            "clock_id": "scope-1", "outcome": result if result == "refused" else "accepted", "limit": limit, "reason": "so it is" if limit else "",
        }  # fmt: skip
        said = {name: beam.pop(name) for name in ("session", "running_session", "sent_mono_ns") if name in beam}
        given |= {name: value for name, value in said.items() if value is not None}
        beamless = beam.pop("beamless", False)
        return Acknowledgement(**given, beam=None if beamless else self.report(**beam))

    def _obey(self, command: Command) -> None:
        self.beam["taken"] = command.seq
        if command.blanked is True:
            self.beam |= {"will_blank": True, "blanked": True, "lease": None}
        else:
            self.beam |= {"will_blank": False, "blanked": False, "lease": self.lease(command.lease_s or 0.0)}
            self.beam["ordered_s"] = command.dwell_s
            self.beam["ordered_pA"] = command.beam_current_pA or self.beam["ordered_pA"]
            self.beam |= {"current_pA": self.beam["ordered_pA"], "dwell_s": command.dwell_s}

    def lease(self, left_s: float, *, by_clock: bool = True) -> LeaseReport:
        ends_ns = self.now_ns - BEHIND_NS + round(left_s * S) if by_clock else None
        return LeaseReport(left_s=left_s, ends_mono_ns=ends_ns)

    def failed(self, reason: str = "the disk is full") -> None:
        self.take(JournalFailed(reason))

    def malformed(self, sender: str, *, not_finite: bool = False, count: int = 1) -> None:
        self.take(Malformed(sender, "it is no message", not_finite, count))  # type: ignore[arg-type]

    def stop(self) -> None:
        self.take(Stopping())

    # Shortcuts

    def armed(self, **beam: Any) -> Flight:
        self.start()
        self.status(**beam)
        self.operate("arm")
        return self

    def flying(self, **proposal: Any) -> Flight:
        """Armed, one proposal granted, and accepted by the instrument."""
        self.armed()
        self.later(0.5).propose(**proposal)
        self.answer()
        return self

    @property
    def commands(self) -> list[Command]:
        """Of the step that was taken last."""
        return [effect.command for effect in self.effects if isinstance(effect, Send)]


def _told(event: object) -> str:
    """An event in short: what differs from the usual is in what follows from it."""
    if isinstance(event, Proposal):
        asks = (
            "blank" if event.blank else f"{event.dwell_s:g} s at {event.beam_current_pA:g} pA for {event.lease_s:g} s"
        )
        return f"{event.seq} of {event.session}: {asks}"
    if isinstance(event, OperatorCommand):
        return f"{event.seq} of {event.session}: {event.action}"
    if isinstance(event, SessionStart | SessionEnd | InstrumentStatus):
        return event.session
    if isinstance(event, Acknowledged):
        return f"{event.seq}: {event.result}"
    return text(event)


def text(thing: Any) -> str:
    """Something in one line: fields at their defaults are left out."""
    if isinstance(thing, BaseModel):
        shown = {name: getattr(thing, name) for name in thing.model_fields_set if name not in ("schema_", "started_at")}
        return f"{type(thing).__name__}({', '.join(f'{n}={text(shown[n])}' for n in type(thing).model_fields if n in shown)})"
    if is_dataclass(thing) and not isinstance(thing, type):
        shown = {f.name: getattr(thing, f.name) for f in fields(thing)}
        return f"{type(thing).__name__}({', '.join(f'{n}={text(v)}' for n, v in shown.items() if v is not None)})"
    if isinstance(thing, tuple | list):
        return f"({', '.join(text(part) for part in thing)})"
    return repr(thing) if not isinstance(thing, float) else f"{thing:.12g}"
