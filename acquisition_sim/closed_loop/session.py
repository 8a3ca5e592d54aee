"""The session of a flight on the wire: its start, its spectra and what its instrument says, as the real instrument sends them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.beam import BeamParameters
from acquisition_sim.beam_report import report
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.instrument import Frame, InstrumentParameters, InstrumentState
from eelstm_stream.wire.messages import CommandLimits, InstrumentStatus, SessionStart, Spectrum

CLOCK = "flight"  # one clock for all in a flight: the instrument's own time
SHORTEST_S = 0.02  # dwell: a frame must last longer than a command takes, or its order of events were another
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def beam_of(specimen: Specimen, latency_frames: int) -> BeamParameters:
    """The specimen's instrument with an actuator that is so many frames late, in blanking too.

    No longer dwell than the session's own can be ordered, and no higher current: the latency counts frames, so neither would
    be fair to the others, who expose at the session's rate.
    """
    beam, dwell_s = specimen.preset.beam, specimen.dwell_s
    return BeamParameters.model_validate(
        beam.model_dump()
        | {
            "min_dwell_s": SHORTEST_S,
            "max_dwell_s": dwell_s,
            "max_current_pA": specimen.current_pA,
            "delay_frames": latency_frames,
            "delay_s": 0.0,
            "blank_delay_s": latency_frames * dwell_s,
        }
    )


def session_start(specimen: Specimen, beam: BeamParameters) -> SessionStart:
    """What a flight begins with."""
    return SessionStart(
        session=f"specimen-{specimen.seed}",
        seq=0,
        sent_mono_ns=0,
        instrument="simulated",
        source="simulation",
        specimen=specimen.preset.specimen.name,
        energy_axis=specimen.preset.energy_axis,
        dwell_s=beam.dwell_s,
        beam_energy_keV=beam.energy_keV,
        beam_current_pA=beam.current_pA,
        dose_is_relative=False,
        saturation_counts=specimen.preset.detector.saturation_counts,
        commands=CommandLimits(
            min_dwell_s=beam.min_dwell_s,
            max_dwell_s=beam.max_dwell_s,
            min_current_pA=beam.min_current_pA,
            max_current_pA=beam.max_current_pA,
            max_lease_s=beam.max_lease_s,
            delay_frames=beam.delay_frames,
            delay_s=beam.delay_s,
            blank_delay_s=beam.blank_delay_s,
        ),
        started_at=BEGAN,
        clock_id=CLOCK,
    )


def spectrum_of(session: str, frame: Frame, counts: NDArray[np.float32]) -> Spectrum:
    """The header of a frame's spectrum, sent at the frame's end."""
    return Spectrum(
        session=session,
        seq=frame.seq,
        sent_mono_ns=frame.ends_ns,
        dtype="<f4",
        shape=(counts.shape[0],),
        dwell_s=frame.dwell_s,
        beam_current_pA=frame.current_pA,
        dose_pC=frame.dose_pC,
        dose_before_pC=frame.dose_before_pC,
        acquired_at=BEGAN + timedelta(microseconds=frame.began_ns // 1000),
        acquired_until=BEGAN + timedelta(microseconds=frame.ends_ns // 1000),
    )


def instrument_status(
    session: str, seq: int, state: InstrumentState, parameters: InstrumentParameters
) -> InstrumentStatus:
    """What the instrument says of itself."""
    return InstrumentStatus(
        session=session,
        seq=seq,
        sent_mono_ns=state.now_ns,
        state="blanked" if state.beam.blanked else "exposing",
        text="",
        clock_id=CLOCK,
        obeys=True,
        beam=report(state, parameters, ends_mono_ns=None if state.lease is None else state.lease.ends_ns),
    )
