"""What an instrument says of its beam, in a status and in every acknowledgement. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from acquisition_sim import beam
from acquisition_sim.beam import BeamState
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
    """First frame that begins with everything ordered, if frames follow each other until then."""
    if state.beam.blanked:
        return state.next_seq  # no frame begins before the beam is let on, which waits for the others
    now = replace(state.beam, pending=tuple(p for p in state.beam.pending if p.order.blanked is None))
    seq, begins_ns = state.next_seq, state.now_ns if state.frame is None else state.frame.ends_ns
    while (now := beam.due(now, frame=seq, now_ns=begins_ns)).pending:
        dwell_ns = round(now.dwell_s * 1e9)
        frames = min(max(p.from_frame - seq, -(-(p.from_ns - begins_ns) // dwell_ns)) for p in now.pending)
        seq, begins_ns = seq + frames, begins_ns + frames * dwell_ns
    return seq
