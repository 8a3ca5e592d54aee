"""What was ordered and has not shown in a spectrum yet: the frames that a new order comes too late for. Pure.

An order acts `delay_frames` frames later, or `delay_s`, whichever is longer, so a plan begins behind the frames that go before
it. Which rate those have is known: from the instrument, which says what holds, what will, and from which frame on; and from
the guard's decisions, which say what was ordered since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from eelstm_stream.wire.messages import BeamReport, CommandLimits

SAME_RATE = 1e-3  # relative: a readback is measured, and another value than what was ordered by so little
COMMAND_S = 0.005  # from here through the guard to the instrument; measured, see `eelstm bench loop`
MOST_FRAMES = 1000  # that are looked at ahead: beyond them the delay is no delay any more


class Rate(NamedTuple):
    """What a frame is exposed with."""

    dwell_s: float
    current_pA: float

    @property
    def dose_pC(self) -> float:
        """Of one frame."""
        return self.dwell_s * self.current_pA

    def is_about(self, other: Rate) -> bool:
        """Whether the two are one within what a readback may differ."""
        return all(abs(a - b) <= SAME_RATE * abs(b) for a, b in zip(self, other, strict=True))


class From(NamedTuple):
    """A rate that holds from a frame on."""

    seq: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Ahead:
    """Frames that will be exposed whatever is ordered now, but for blanking, which doesn't wait."""

    frames_pC: tuple[float, ...]  # dose of each after the newest spectrum, up to where a new order holds
    first_seq: int  # of the first frame for which a new order holds
    begins_pC: float  # dose of the session at that frame's start
    begins_s: float  # time until then
    if_blanked_pC: float  # dose of the session if the beam is blanked now
    if_blanked_next_pC: float  # dose of the session if the beam is blanked after the next spectrum only

    def is_worth(self, dose_pC: float) -> bool:
        """Whether what is ordered and not exposed yet brings so much."""
        return self.begins_pC - self.if_blanked_pC > dose_pC


@dataclass(frozen=True, slots=True)
class Orders:
    """The rates of a session by frame, oldest first; the first holds now or did before."""

    rates: tuple[From, ...] = ()

    def ordered(self, rate: Rate, next_seq: int, ahead: Ahead | None, limits: CommandLimits) -> Orders:
        """After the guard ordered a rate. next_seq: next frame to begin, as far as is known."""
        from_seq = ahead.first_seq if ahead is not None else next_seq + limits.delay_frames
        return self._with(From(from_seq, rate))

    def told(self, beam: BeamReport, *, is_newest: bool) -> Orders:
        """After the instrument said what holds. is_newest: it spoke after the last order was acknowledged."""
        now = Rate(beam.readback.dwell_s, beam.readback.beam_current_pA)
        last = Rate(beam.ordered.dwell_s, beam.ordered.beam_current_pA)
        if is_newest or not self.rates:
            behind = tuple(a for a in self.rates if beam.next_seq - 1 < a.seq < beam.holds_from_seq and a.rate != last)
            return Orders((From(beam.next_seq - 1, now), *behind))._with(From(beam.holds_from_seq, last))
        return self

    def _with(self, change: From) -> Orders:
        before = tuple(a for a in self.rates if a.seq < change.seq)
        if before and before[-1].rate == change.rate:
            return Orders(before)
        return Orders((*before, change)[-MOST_FRAMES:])

    def at(self, seq: int) -> Rate | None:
        """The rate of a frame; None where nothing is known."""
        known = [a.rate for a in self.rates if a.seq <= seq]
        if known:
            return known[-1]
        return self.rates[0].rate if self.rates else None

    def since(self, seq: int) -> Orders:
        """Without what no frame from `seq` on has."""
        old = [a for a in self.rates if a.seq <= seq]
        return replace(self, rates=(*old[-1:], *(a for a in self.rates if a.seq > seq)))

    def changes_within(self, first_seq: int, last_seq: int) -> bool:
        """Whether these frames differ in their rate."""
        rates = [self.at(first_seq), *(a.rate for a in self.rates if first_seq < a.seq <= last_seq)]
        known = [rate for rate in rates if rate is not None]
        return any(not rate.is_about(known[0]) for rate in known)

    @property
    def newest(self) -> Rate | None:
        """What was ordered last."""
        return self.rates[-1].rate if self.rates else None


def ahead_of(
    orders: Orders,
    limits: CommandLimits,
    *,
    from_seq: int,
    at_pC: float,
    age_s: float,
    pause_s: float,
    is_blanked: bool,
    committed_pC: float,
) -> Ahead | None:
    """What comes before a new order holds. None where no rate is known.

    from_seq, at_pC: newest spectrum, and the session's dose at its end. age_s: time since. pause_s: from the end of a frame to the
    start of the next. committed_pC: the session's dose as the instrument last said it, a frame in progress counted whole.
    """
    rate = orders.at(from_seq + 1)
    if rate is None:
        return None
    if is_blanked:
        dose_pC = max(at_pC, committed_pC)
        return Ahead((), from_seq + 1, dose_pC, 0.0, dose_pC, dose_pC)
    now_s = age_s + COMMAND_S
    begins_s, begun_pC = 0.0, at_pC
    frames_pC: list[float] = []
    next_seq: int | None = None
    stop_now_s, stop_next_s = now_s + limits.blank_delay_s, None
    stopped_now_pC = stopped_next_pC = at_pC
    seq = from_seq + 1
    while len(frames_pC) < MOST_FRAMES:
        rate = orders.at(seq) or rate
        if stop_next_s is None:
            stop_next_s = rate.dwell_s + pause_s + stop_now_s
        if next_seq is None and begins_s > now_s:
            next_seq = seq
        if next_seq is not None and seq >= next_seq + limits.delay_frames and begins_s >= now_s + limits.delay_s:
            break
        ends_s = begins_s + rate.dwell_s + pause_s
        stopped_now_pC += rate.current_pA * _overlap_s(begins_s, ends_s, stop_now_s)
        stopped_next_pC += rate.current_pA * _overlap_s(begins_s, ends_s, stop_next_s)
        frames_pC.append(rate.current_pA * (rate.dwell_s + pause_s))  # at worst the beam stays on in the pause
        begun_pC += frames_pC[-1]
        begins_s = ends_s
        seq += 1
    # Beyond what was looked at, the last rate goes on.
    stopped_now_pC += rate.current_pA * max(0.0, stop_now_s - begins_s)
    stopped_next_pC += rate.current_pA * max(0.0, (stop_next_s or stop_now_s) - begins_s)
    return Ahead(tuple(frames_pC), seq, begun_pC, begins_s, stopped_now_pC, stopped_next_pC)


def _overlap_s(begins_s: float, ends_s: float, until_s: float) -> float:
    return max(0.0, min(ends_s, until_s) - begins_s)
