"""What an instrument says of its beam, in a status and in every acknowledgement. Pure."""

from __future__ import annotations

import math

from acquisition_sim import beam
from acquisition_sim.beam import BeamState, Pending
from acquisition_sim.instrument import InstrumentParameters, InstrumentState
from eelstm_stream.wire.messages import BeamReport, LeaseReport, Readback


def report(state: InstrumentState, parameters: InstrumentParameters, *, ends_mono_ns: int | None = None) -> BeamReport:
    """What the instrument says of itself. ends_mono_ns: end of the lease by the clock of its messages, if there's one."""
    last = beam.in_the_end(state.beam)
    lease = None
    if state.lease is not None and parameters.obeys:
        until_dose_pC = state.lease.until_dose_pC
        lease = LeaseReport(
            left_s=max(0, state.lease.ends_ns - state.now_ns) / 1e9,
            ends_mono_ns=ends_mono_ns,
            until_dose_pC=None if math.isinf(until_dose_pC) else until_dose_pC,
        )
    return BeamReport(
        readback=_readback(state.beam),
        ordered=_readback(last),
        holds_from_seq=_holds_from_seq(state),
        next_seq=state.next_seq,
        taken_seq=state.gate.taken_seq,
        dose_pC=state.committed_pC if parameters.current_is_known else None,
        lease=lease,
    )


def _readback(state: BeamState) -> Readback:
    return Readback(dwell_s=state.dwell_s, beam_current_pA=state.current_pA, blanked=state.blanked)


def _holds_from_seq(state: InstrumentState) -> int:
    """First frame that begins with every dwell and current ordered, if nothing else is ordered and the lease lasts.

    Where the beam is blanked for good before then, it's the frame after that: letting the beam on again waits for them.
    """
    now, seq, at_ns = state.beam, state.next_seq, state.since_ns
    if state.frame is not None:
        blanks_ns = beam.blanks_ns(now)
        is_cut = blanks_ns is not None and blanks_ns < state.frame.ends_ns
        at_ns = blanks_ns if blanks_ns is not None and is_cut else state.frame.ends_ns
        now = beam.due(now, frame=None if is_cut else seq, now_ns=at_ns)
    while any(_is_rate(pending) for pending in now.pending):
        if now.blanked:
            lets_on_ns = next((pending.from_ns for pending in now.pending if pending.order.blanked is False), None)
            if lets_on_ns is None:
                return seq
            at_ns, frame = lets_on_ns, None
        else:
            frames = _frames_until_a_change(now, seq, at_ns)
            blanks_ns = beam.blanks_ns(now)
            if (
                frames == 0 and blanks_ns is not None
            ):  # the blanker moves before another frame would end, so none begins
                at_ns, frame = blanks_ns, None
            else:
                seq, at_ns = seq + frames, at_ns + frames * round(now.dwell_s * 1e9)
                frame = seq
        now = beam.due(now, frame=frame, now_ns=at_ns)
    return seq


def _frames_until_a_change(now: BeamState, seq: int, at_ns: int) -> int:
    """Frames that follow each other from then on, all alike, until a rate changes or the blanker moves. One of them is pending."""
    dwell_ns = round(now.dwell_s * 1e9)
    return min(
        max(p.from_frame - seq, -(-(p.from_ns - at_ns) // dwell_ns)) if _is_rate(p) else (p.from_ns - at_ns) // dwell_ns
        for p in now.pending
        if _is_rate(p) or p.order.blanked
    )


def _is_rate(pending: Pending) -> bool:
    return pending.order.current_pA is not None or pending.order.dwell_s is not None
