"""Sessions of a live instrument, made ready: a simulated specimen, or a recording that is flown in closed loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from acquisition_sim.beam import BeamParameters
from acquisition_sim.faults.script import SessionPlan, script_for
from acquisition_sim.instrument import InstrumentParameters
from acquisition_sim.live import Flight, Live
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import Preset
from acquisition_sim.responsive import RELATIVE_CURRENT_PA, RegroupedRecording
from acquisition_sim.simd import SimSettings, sendable
from acquisition_sim.under_the_beam import SimulatedSpecimen
from acquisition_sim.variation import varied
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.announce import say
from eelstm_stream.io.hspy import write_hspy
from eelstm_stream.io.recordings import Recording, recording_as_signal
from eelstm_stream.io.stopping import Stop
from eelstm_stream.io.truth import NODE as TRUTH_NODE


def simulated(
    preset: Preset, seed: int, *, frames: int | None = None, obeys: bool = False, keep_truth: bool = False
) -> Flight:
    """A fresh specimen in the microscope of a preset, by exactly this preset.

    frames: after which the session ends; obeys: whether it takes commands, and so begins blanked.
    """
    return Flight(
        InstrumentParameters(preset.beam, obeys=obeys, frames=frames),
        SimulatedSpecimen(Microscope(preset), seed, keep_truth=keep_truth),
        {
            "source": "simulation",
            "source_name": sendable(f"simulated {preset.specimen.name}, seed {seed}"),
            "specimen": sendable(f"{preset.specimen.name} (simulated)"),
            "energy_axis": preset.energy_axis,
            "dwell_s": preset.beam.dwell_s,
            "beam_energy_keV": preset.beam.energy_keV,
            "beam_current_pA": preset.beam.current_pA,
            "dose_is_relative": False,
            "saturation_counts": preset.detector.saturation_counts,
        },
    )


def regrouped(recording: Recording, seed: int, limits: BeamParameters) -> Flight:
    """A recording in closed loop, under a beam with these limits and delays that starts with the recording's dwell and current.

    Raises UnusableInputError where the recording is too short to tell its noise, and UsageError where its dwell is none that
    an instrument has.
    """
    try:
        under_the_beam = RegroupedRecording(recording, seed)
    except ValueError as error:
        raise UnusableInputError(f"{recording.name} can't be flown: {error}.") from None
    currents = recording.beam_current_pA
    current_pA = RELATIVE_CURRENT_PA if currents is None else float(currents[0])
    dwell_s = float(recording.dwell_s[0])
    # As it was recorded is always possible, whatever the limits.
    within = {
        "current_pA": current_pA,
        "min_current_pA": current_pA if currents is None else min(limits.min_current_pA, current_pA),
        "max_current_pA": current_pA if currents is None else max(limits.max_current_pA, current_pA),
        "dwell_s": dwell_s,
        "min_dwell_s": min(limits.min_dwell_s, dwell_s),
        "max_dwell_s": max(limits.max_dwell_s, dwell_s),
    }
    try:
        beam = BeamParameters.model_validate(limits.model_dump() | within)
    except ValidationError:
        message = (
            f"{recording.name}: no instrument exposes {dwell_s:g} s at {current_pA:g} pA: give --dwell or --current."
        )
        raise UsageError(message) from None
    return Flight(
        InstrumentParameters(beam, current_is_known=currents is not None, dose_pC=under_the_beam.dose_pC),
        under_the_beam,
        {
            "source": "simulation" if recording.simulated else "replay",
            "source_name": sendable(recording.name),
            "specimen": sendable(recording.specimen),
            "energy_axis": recording.energy_axis,
            "dwell_s": dwell_s,
            "beam_energy_keV": recording.beam_energy_keV,
            "beam_current_pA": None if currents is None else current_pA,
            "convergence_mrad": recording.convergence_mrad,
            "collection_mrad": recording.collection_mrad,
            "dose_is_relative": currents is None,
        },
    )


def fly_recording(
    settings: SimSettings,
    recording: Recording,
    limits: BeamParameters,
    *,
    seed: int,
    loop: bool,
    as_json: bool,
    with_parent: bool,
) -> None:
    """Play a recording in closed loop until its dose is used up; with `loop` again, each pass a session with the next seed.

    Raises as `regrouped` does, before anything is bound, and EelstmError where a port is taken.
    """
    if settings.speed is None:
        raise UsageError("--responsive needs a clock, in whose time leases run: give --speed a number.")
    first = regrouped(recording, seed, limits)
    faults = script_for(settings.faults, _plan(first, settings))

    def sessions() -> Iterator[Flight]:
        yield first
        for following in count(seed + 1) if loop else ():
            yield regrouped(recording, following, limits)

    with Stop(with_parent=with_parent) as stop:
        Live(settings, stop, as_json=as_json, obeys=True, faults=faults).play(sessions())


def fly_simulations(
    settings: SimSettings,
    preset: Preset,
    *,
    seed: int,
    frames: int | None,
    loop: bool,
    obeys: bool,
    truth: Path | None,
    force: bool,
    as_json: bool,
    with_parent: bool,
) -> None:
    """Play simulated sessions until their end; with `loop` one after the other, each with the seed after the last one's.

    truth: file for what the wire doesn't tell. Raises UsageError, before anything is bound, where the settings contradict
    each other, and EelstmError where a port is taken or the file can't be written.
    """
    if obeys and settings.speed is None:
        raise UsageError("--obey needs a clock, in whose time leases run: give --speed a number.")
    if truth is not None:
        _require_writable(truth, force)
        if loop:
            raise UsageError("--truth holds one session, and --loop makes many: leave out one of them.")
    first = simulated(varied(preset, seed), seed, frames=frames, obeys=obeys, keep_truth=truth is not None)
    faults = script_for(settings.faults, _plan(first, settings))

    def sessions() -> Iterator[Flight]:
        yield first
        for following in count(seed + 1) if loop else ():
            yield simulated(varied(preset, following), following, frames=frames, obeys=obeys)

    with Stop(with_parent=with_parent) as stop:
        Live(settings, stop, as_json=as_json, obeys=obeys, faults=faults).play(sessions())
    if truth is not None:
        _save_truth(first, truth, force)


def _plan(flight: Flight, settings: SimSettings) -> SessionPlan:
    """What a script of faults may reckon with."""
    parameters = flight.parameters
    given = [limit for limit in (parameters.frames, settings.spectra) if limit is not None]
    frames = min(given, default=None)
    ends_s = None
    if settings.faults is not None and frames is not None and not parameters.obeys:
        ends_s = np.cumsum(np.full(frames, parameters.beam.dwell_s)).tolist()
    return SessionPlan(
        energy_axis=flight.context["energy_axis"],
        frames=frames,
        ends_s=ends_s,
        obeys=parameters.obeys,
        current_is_known=parameters.current_is_known,
    )


def _require_writable(truth: Path, force: bool) -> None:
    if truth.suffix != ".hspy":
        raise UsageError(f"--truth {truth}: give a file that ends in .hspy.")
    if truth.exists() and not force:
        raise UsageError(f"{truth} exists: choose another file, or overwrite it with --force.")
    if not truth.parent.is_dir():
        raise UsageError(f"--truth {truth}: there is no folder {truth.parent}.")


def _save_truth(flown: Flight, truth: Path, force: bool) -> None:
    specimen = flown.under_the_beam
    assert isinstance(specimen, SimulatedSpecimen)  # noqa: S101 - it was made here
    recording = specimen.truth(flown.context["source_name"])
    if recording is None:
        say("sim", f"wrote no {truth}: no frame was taken")
        return
    signal = recording_as_signal(recording)
    signal["metadata"][TRUTH_NODE] = specimen.outcome().as_node()
    write_hspy(signal, truth, overwrite=force)
    say("sim", f"wrote {truth}: {len(recording.counts)} frames with their noise-free counts and phase")
