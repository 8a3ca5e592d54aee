"""Sessions of a live instrument, made ready: a simulated specimen, or a recording that is flown in closed loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from acquisition_sim.instrument import InstrumentParameters
from acquisition_sim.live import Flight, Live
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import Preset
from acquisition_sim.simd import SimSettings, sendable
from acquisition_sim.under_the_beam import SimulatedSpecimen
from acquisition_sim.variation import varied
from eelstm_stream.errors import UsageError
from eelstm_stream.io.announce import say
from eelstm_stream.io.recordings import save_recording
from eelstm_stream.io.stopping import Stop


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

    def sessions() -> Iterator[Flight]:
        yield first
        for following in count(seed + 1) if loop else ():
            yield simulated(varied(preset, following), following, frames=frames, obeys=obeys)

    with Stop(with_parent=with_parent) as stop:
        Live(settings, stop, as_json=as_json, obeys=obeys).play(sessions())
    if truth is not None:
        _save_truth(first, truth, force)


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
    save_recording(recording, truth, overwrite=force)
    say("sim", f"wrote {truth}: {len(recording.counts)} frames with their noise-free counts and phase")
