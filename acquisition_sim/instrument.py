"""The instrument that obeys: which frames it takes, what it does with a command, and when it blanks itself. Pure.

Operations: `start`, `advance` to a time, and take a `command`. A shell brings the time and the commands, exposes what the
events say, and sends; a test brings both and needs no clock at all.

Goals. The beam is never on without a lease, so a frame begins only if the lease covers it whole, in time and in dose; where
it doesn't, the beam is blanked right then, and stays so until it is commanded on. A frame in progress keeps the lease that it
began under, and so does beam without a frame; a blanking that was commanded doesn't wait for a frame's end, but cuts it, and it
has no spectrum. Whatever the specimen received is counted, with or without a spectrum. Times are the instrument's own, so a lease of 2 s holds for 2 s of exposure
however fast the simulation runs.

Plan. Something always lasts: a frame; beam without a frame, while a blanker moves; or rest, with the beam blanked. `advance`
goes from the end of one to the end of the next, and an event says what each was.

    rest ──let on──► frame ──its end──► frame │ blanked: no lease covers another
                       │  └─ blanked in the middle of it: cut ──► rest
                       └─ its end, while the blanker moves: beam without a frame ──► rest
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from acquisition_sim import beam
from acquisition_sim.beam import BeamParameters, BeamState, Order
from eelstm_stream.core.command_gate import CommandGate, Refused
from eelstm_stream.core.lease import TOLERANCE, Lease
from eelstm_stream.wire.messages import Command

FOREVER = Lease(ends_ns=2**63 - 1)  # of an instrument that takes no commands: its beam is simply on


@dataclass(frozen=True, slots=True)
class InstrumentParameters:
    """What an instrument can do in a session."""

    beam: BeamParameters
    obeys: bool = True
    current_is_known: bool = True  # else it counts as 1, and can't be ordered
    frames: int | None = None  # the session ends after so many
    dose_pC: float = math.inf  # or before a frame that would go beyond this: a recording holds no more


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in progress, or taken."""

    seq: int
    began_ns: int
    ends_ns: int
    dwell_s: float
    current_pA: float
    dose_before_pC: float  # of the session, when it began

    @property
    def dose_pC(self) -> float:
        """Of this frame, if it's taken whole."""
        return self.current_pA * self.dwell_s

    @property
    def dose_after_pC(self) -> float:
        """Of the session, once it's taken."""
        return self.dose_before_pC + self.dose_pC


@dataclass(frozen=True, slots=True)
class InstrumentState:
    """What an instrument remembers."""

    gate: CommandGate
    beam: BeamState
    lease: Lease | None
    now_ns: int = 0  # up to which it was advanced
    since_ns: int = 0  # beginning of what lasts now: the frame, beam without a frame, or rest
    frame: Frame | None = None
    closing: bool = False  # beam without a frame lasts now, until the blanker has moved
    next_seq: int = 0
    dose_pC: float = 0.0  # of the session, before what lasts now
    why_blanked: str = "nothing was commanded yet"
    over: bool = False

    @property
    def committed_pC(self) -> float:
        """Dose of the session, with what lasts now counted whole: never less than what the specimen has received."""
        if self.frame is not None:
            return self.frame.dose_after_pC
        blanks_ns = beam.blanks_ns(self.beam) if self.closing else None
        if blanks_ns is None:
            return self.dose_pC
        return self.dose_pC + self.beam.current_pA * (blanks_ns - self.since_ns) / 1e9


# What has been, in the order of time.


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame, whole."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Unread:
    """The beam was on, and no spectrum comes of it."""

    began_ns: int
    ended_ns: int
    current_pA: float
    lost_seq: int | None  # number of the frame that was cut; None where none had begun


@dataclass(frozen=True, slots=True)
class Blanked:
    """The beam was blanked."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Rested:
    """The beam was let on, after a rest."""

    began_ns: int
    ended_ns: int


Event = Taken | Unread | Blanked | Rested


def start(parameters: InstrumentParameters, session: str) -> InstrumentState:
    """A session begins, at time 0: blanked, unless the instrument takes no commands."""
    state = InstrumentState(CommandGate(session), beam.start(parameters.beam), None)
    if parameters.obeys:
        return state
    return replace(state, beam=replace(state.beam, blanked=False), lease=FOREVER)


def advance(
    state: InstrumentState, parameters: InstrumentParameters, to_ns: int, at_most: int | None = None
) -> tuple[InstrumentState, list[Event]]:
    """The instrument at a later time, and what has been until then.

    at_most: events; where there are more, it stops short, and goes on when it is asked again.
    """
    events: list[Event] = []
    while not state.over and (at_most is None or len(events) < at_most):
        if state.frame is not None and not state.beam.pending:
            state = _in_a_row(state, state.frame, parameters, to_ns, events, at_most)
        following = _following(state, parameters, to_ns)
        if following is None:
            break
        state, event = following
        if event is not None:
            events.append(event)
    else:
        return replace(state, now_ns=max(state.now_ns, state.since_ns)), events
    return replace(state, now_ns=max(state.now_ns, to_ns)), events


def command(
    state: InstrumentState, parameters: InstrumentParameters, ordered: Command, *, mono_ns: int
) -> tuple[InstrumentState, Refused | None]:
    """Take a command at the time to which the instrument was advanced; a refused one changes nothing but uses its number.

    mono_ns: by the clock of the instrument's messages, for the expiry.
    """
    gate, refused = state.gate.admit(ordered, mono_ns)
    state = replace(state, gate=gate)
    if refused is None:
        refused = _refusal(state, parameters, ordered)
    if refused is not None:
        return state, refused
    order = Order(ordered.beam_current_pA, ordered.dwell_s, ordered.blanked)
    at = beam.order(state.beam, order, parameters.beam, frame=state.next_seq, now_ns=state.now_ns)
    if isinstance(at, Refused):
        return state, at
    state = replace(state, beam=at)
    if ordered.blanked:
        # At rest nothing is under way that the lease still has to cover, so it is cancelled with the command.
        lease = None if state.beam.blanked else state.lease
        state = replace(state, why_blanked="it was commanded", lease=lease)
    if ordered.lease_s is None:
        return state, None
    until_dose_pC = math.inf if ordered.lease_until_dose_pC is None else ordered.lease_until_dose_pC
    return replace(state, lease=Lease(state.now_ns + round(ordered.lease_s * 1e9), until_dose_pC)), None


def next_ns(state: InstrumentState) -> int | None:
    """When something will happen if nothing is commanded; None where nothing will."""
    blanks_ns = beam.blanks_ns(state.beam)
    if state.frame is not None:
        return state.frame.ends_ns if blanks_ns is None else min(state.frame.ends_ns, blanks_ns)
    if not state.beam.blanked:
        return state.since_ns if blanks_ns is None else blanks_ns
    times = [beam.changes_ns(state.beam), None if state.lease is None else state.lease.ends_ns]
    return min((max(time, state.now_ns) for time in times if time is not None), default=None)


# Commands


def _refusal(state: InstrumentState, parameters: InstrumentParameters, ordered: Command) -> Refused | None:
    """What `beam.order` doesn't look at."""
    if not parameters.obeys:
        return Refused("obeys", "this instrument takes no commands.")
    if not parameters.current_is_known and (
        ordered.beam_current_pA is not None or ordered.lease_until_dose_pC is not None
    ):
        return Refused(
            "dose_is_relative", "the current is unknown here, so neither it nor a dose in pC can be ordered."
        )
    if ordered.lease_s is None:
        return None
    longest_s = parameters.beam.max_lease_s
    if ordered.lease_s > longest_s:
        return Refused("max_lease_s", f"the lease, {ordered.lease_s:g} s, is above the limit of {longest_s:g} s.")
    last = beam.in_the_end(state.beam)
    dwell_s = last.dwell_s if ordered.dwell_s is None else ordered.dwell_s
    if ordered.lease_s < dwell_s:
        return Refused("lease_s", f"a lease of {ordered.lease_s:g} s covers no frame of {dwell_s:g} s.")
    if ordered.lease_until_dose_pC is not None:
        current_pA = last.current_pA if ordered.beam_current_pA is None else ordered.beam_current_pA
        before_pC, until_pC = state.committed_pC, ordered.lease_until_dose_pC
        if not Lease(0, until_pC).covers(until_ns=0, dose_pC=before_pC + dwell_s * current_pA):
            reason = (
                f"a lease until {until_pC:g} pC covers no frame of {dwell_s * current_pA:g} pC after {before_pC:g} pC."
            )
            return Refused("lease_until_dose_pC", reason)
    return None


# What happens next


def _following(
    state: InstrumentState, parameters: InstrumentParameters, to_ns: int
) -> tuple[InstrumentState, Event | None] | None:
    """The state after the next thing that happens until `to_ns`, or None where nothing does."""
    if state.frame is not None:
        return _end_of_frame(state, state.frame, to_ns)
    if state.closing:
        return _end_of_closing(state, to_ns)
    if not state.beam.blanked:
        return _frame_or_not(state, parameters)
    return _end_of_rest(state, to_ns)


def _in_a_row(
    state: InstrumentState,
    frame: Frame,
    parameters: InstrumentParameters,
    to_ns: int,
    events: list[Event],
    at_most: int | None,
) -> InstrumentState:
    """Frames that follow each other while nothing is pending, into `events`: as `_following` has them, but at a tenth of its cost.

    The last frame stays in progress, and so does one after which something else comes.
    """
    first, lease, now = frame, state.lease, state.beam
    dwell_ns = round(now.dwell_s * 1e9)
    while frame.ends_ns <= to_ns and (at_most is None or len(events) < at_most - 1) and lease is not None:
        ends_ns, dose_pC = frame.ends_ns + dwell_ns, frame.dose_after_pC
        following = Frame(frame.seq + 1, frame.ends_ns, ends_ns, now.dwell_s, now.current_pA, dose_pC)
        if _is_over(following, parameters) or not lease.covers(until_ns=ends_ns, dose_pC=following.dose_after_pC):
            break
        events.append(Taken(frame))
        frame = following
    if frame is first:
        return state
    return replace(state, frame=frame, next_seq=frame.seq + 1, since_ns=frame.began_ns, dose_pC=frame.dose_before_pC)


def _end_of_frame(state: InstrumentState, frame: Frame, to_ns: int) -> tuple[InstrumentState, Event | None] | None:
    blanks_ns = beam.blanks_ns(state.beam)
    if blanks_ns is None or blanks_ns >= frame.ends_ns:
        if frame.ends_ns > to_ns:
            return None
        return replace(state, frame=None, since_ns=frame.ends_ns, dose_pC=frame.dose_after_pC), Taken(frame)
    if blanks_ns > to_ns:
        return None
    cut = replace(state, frame=None, since_ns=frame.began_ns, dose_pC=frame.dose_before_pC)
    return _blanker_closed(cut, blanks_ns, frame.current_pA, lost_seq=frame.seq)


def _frame_or_not(state: InstrumentState, parameters: InstrumentParameters) -> tuple[InstrumentState, Event | None]:
    """The beam is on, at a time when a frame may begin."""
    at_ns = state.since_ns
    now = beam.due(state.beam, frame=state.next_seq, now_ns=at_ns)
    if now.blanked:
        return _at_rest(state, at_ns), Blanked(at_ns)
    frame = Frame(state.next_seq, at_ns, at_ns + round(now.dwell_s * 1e9), now.dwell_s, now.current_pA, state.dose_pC)
    if _is_over(frame, parameters):
        return replace(_at_rest(state, at_ns, "the session is over"), over=True), Blanked(at_ns)
    if state.lease is None or not state.lease.covers(until_ns=frame.ends_ns, dose_pC=frame.dose_after_pC):
        return _at_rest(state, at_ns, _why_not(state.lease, frame)), Blanked(at_ns)
    blanks_ns = beam.blanks_ns(now)
    if blanks_ns is None or blanks_ns >= frame.ends_ns:
        return replace(state, beam=now, frame=frame, next_seq=frame.seq + 1), None
    return replace(state, beam=now, closing=True), None  # it isn't worth beginning one


def _end_of_closing(state: InstrumentState, to_ns: int) -> tuple[InstrumentState, Event | None] | None:
    blanks_ns = beam.blanks_ns(state.beam)
    if blanks_ns is None or blanks_ns > to_ns:
        return None
    return _blanker_closed(state, blanks_ns, state.beam.current_pA, lost_seq=None)


def _is_over(frame: Frame, parameters: InstrumentParameters) -> bool:
    enough = parameters.frames is not None and frame.seq >= parameters.frames
    return enough or frame.dose_after_pC > parameters.dose_pC * (1 + TOLERANCE)


def _why_not(lease: Lease | None, frame: Frame) -> str:
    if lease is None:
        return "there was no lease"
    if frame.ends_ns > lease.ends_ns:
        left_s = max(0, lease.ends_ns - frame.began_ns) / 1e9
        return f"the lease had {left_s:.3f} s left, and a frame takes {frame.dwell_s:g} s"
    return (
        f"the lease ended at {lease.until_dose_pC:g} pC, and a frame would have brought the session from "
        f"{frame.dose_before_pC:g} to {frame.dose_after_pC:g} pC"
    )


def _blanker_closed(
    state: InstrumentState, at_ns: int, current_pA: float, *, lost_seq: int | None
) -> tuple[InstrumentState, Event]:
    """The beam was on since `since_ns`, until a blanker that was commanded closed."""
    given_pC = current_pA * (at_ns - state.since_ns) / 1e9
    unread = Unread(state.since_ns, at_ns, current_pA, lost_seq)
    return _at_rest(replace(state, dose_pC=state.dose_pC + given_pC), at_ns), unread


def _at_rest(state: InstrumentState, at_ns: int, why: str | None = None) -> InstrumentState:
    """The beam is blanked. why: the instrument did it by itself; else it was commanded, and may be commanded on already."""
    if why is None:
        now = beam.due(state.beam, frame=None, now_ns=at_ns)
        lease = state.lease if beam.lets_on(now) else None
        return replace(state, beam=now, lease=lease, since_ns=at_ns, closing=False)
    now = beam.due(beam.kept_blanked(state.beam), frame=None, now_ns=at_ns)
    return replace(state, beam=now, lease=None, since_ns=at_ns, closing=False, why_blanked=why)


def _end_of_rest(state: InstrumentState, to_ns: int) -> tuple[InstrumentState, Event | None] | None:
    changes_ns, lease = beam.changes_ns(state.beam), state.lease
    if lease is not None and lease.ends_ns <= to_ns and (changes_ns is None or lease.ends_ns < changes_ns):
        why = "the lease ended before the beam was on" if beam.lets_on(state.beam) else state.why_blanked
        return replace(state, beam=beam.kept_blanked(state.beam), lease=None, why_blanked=why), None
    if changes_ns is None or changes_ns > to_ns:
        return None
    now = beam.due(state.beam, frame=None, now_ns=changes_ns)
    if now.blanked:
        return replace(state, beam=now), None
    return replace(state, beam=now, since_ns=changes_ns), Rested(state.since_ns, changes_ns)
