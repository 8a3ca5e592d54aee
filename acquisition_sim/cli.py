"""`eelstm sim`: the simulated instrument on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from acquisition_sim.record import record

sim = typer.Typer(
    help="The simulated microscope: play a recording as a live instrument, or simulate one.", no_args_is_help=True
)

sim.command()(record)

FRAMES = 160  # of a simulated session, as many as in most of the paper's

Config = Annotated[Path | None, typer.Option(help="TOML file; this program reads its table `sim`.")]
Speed = Annotated[
    str | None, typer.Option(help="Times real time, or `max`: as fast as the slowest reader.", show_default="1")
]
Loop = Annotated[
    bool, typer.Option("--loop", help="Again from the start at the end, each pass as a session of its own.")
]
Spectra = Annotated[int | None, typer.Option(help="End after this many spectra.")]
Seconds = Annotated[float | None, typer.Option(help="End after this time, s.")]
Publish = Annotated[str | None, typer.Option(help="Where to publish.", show_default="tcp://127.0.0.1:17810")]
Snapshot = Annotated[
    str | None, typer.Option(help="Where to answer late joiners.", show_default="tcp://127.0.0.1:17811")
]
Instrument = Annotated[str | None, typer.Option(help="Name in every topic.", show_default="microscope")]
Command = Annotated[
    str | None, typer.Option(help="Where to take commands, if it does.", show_default="tcp://127.0.0.1:17813")
]
PresetName = Annotated[str | None, typer.Option(help="Name of a preset.", show_default="srtio3-300kV")]
PresetFile = Annotated[Path | None, typer.Option("--presets", help="File of presets, in place of the shipped one.")]
Faults = Annotated[
    Path | None, typer.Option(help="TOML script of faults: what goes wrong on the wire, at which frame.")
]
WaitReaders = Annotated[int | None, typer.Option(help="Start once so many readers have subscribed to spectra.")]
Json = Annotated[bool, typer.Option("--json", help="Say on stdout, as one JSON object, when and where it is ready.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


@sim.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A recording: DM3, DM4, hspy, or what else rosettasciio reads.")],
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the file says.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the file says.")] = None,
    responsive: Annotated[
        bool,
        typer.Option(
            "--responsive",
            help="Take commands and fly the recording in closed loop: blanked until it is commanded on, under a lease; "
            "its electrons are regrouped by the dose that is commanded.",
        ),
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="Preset with the beam's limits and delays.", show_default="srtio3-300kV")
    ] = None,
    presets: PresetFile = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63, help="Of the lots by which electrons are divided.")] = 0,
    speed: Speed = None,
    loop: Loop = False,
    spectra: Spectra = None,
    seconds: Seconds = None,
    instrument: Instrument = None,
    publish: Publish = None,
    snapshot: Snapshot = None,
    command: Command = None,
    wait_readers: WaitReaders = None,
    faults: Faults = None,
    config: Config = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Play a recording as a live instrument."""
    from acquisition_sim.faults.script import script_for  # noqa: PLC0415
    from acquisition_sim.replaying import Replay, replay_plan  # noqa: PLC0415
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.io.recordings import load_recording  # noqa: PLC0415
    from eelstm_stream.io.stopping import Stop  # noqa: PLC0415

    if not responsive and (preset or presets or command):
        raise UsageError("--preset, --presets and --command are for --responsive: as it stands, nothing is commanded.")
    settings = _settings(
        config,
        instrument=instrument,
        publish=publish,
        snapshot=snapshot,
        command=command,
        speed=speed,
        spectra=spectra,
        seconds=seconds,
        wait_readers=wait_readers,
        faults=faults,
    )
    recording = load_recording(file, dwell_s=dwell, beam_current_pA=current)
    if responsive:
        from acquisition_sim.flights import fly_recording  # noqa: PLC0415
        from acquisition_sim.presets import DEFAULT_PRESET, PRESETS, load_preset  # noqa: PLC0415

        limits = load_preset(preset or DEFAULT_PRESET, presets or PRESETS).beam
        fly_recording(settings, recording, limits, seed=seed, loop=loop, as_json=as_json, with_parent=with_parent)
        return
    script = script_for(settings.faults, replay_plan(recording, settings))
    with Stop(with_parent=with_parent) as stop:
        Replay(settings, stop, as_json=as_json, faults=script).play(_passes(recording, loop))


@sim.command()
def run(
    preset: PresetName = None,
    presets: PresetFile = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Spectra in a session.", show_default="160, or no limit with --obey"),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**63, help="The same seed gives the same spectra; the next session takes the next."),
    ] = 0,
    dwell: Annotated[float | None, typer.Option(help="Exposure per spectrum at the start, s.")] = None,
    current: Annotated[float | None, typer.Option(help="Probe current about which runs vary, pA.")] = None,
    fixed: Annotated[bool, typer.Option("--fixed", help="The preset as it stands: runs don't vary about it.")] = False,
    obey: Annotated[
        bool, typer.Option("--obey", help="Take commands: the beam is blanked until it is commanded on, under a lease.")
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(help="Write the frames with their noise-free counts and phase to this .hspy at the end."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what --truth finds there.")] = False,
    speed: Speed = None,
    loop: Loop = False,
    spectra: Spectra = None,
    seconds: Seconds = None,
    instrument: Instrument = None,
    publish: Publish = None,
    snapshot: Snapshot = None,
    command: Command = None,
    wait_readers: WaitReaders = None,
    faults: Faults = None,
    config: Config = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Simulate a specimen that is damaged by the beam, in a live instrument."""
    from acquisition_sim.flights import fly_simulations  # noqa: PLC0415
    from acquisition_sim.presets import DEFAULT_PRESET, PRESETS  # noqa: PLC0415
    from acquisition_sim.simulated_run import preset_for_runs  # noqa: PLC0415

    settings = _settings(
        config,
        instrument=instrument,
        publish=publish,
        snapshot=snapshot,
        command=command,
        speed=speed,
        spectra=spectra,
        seconds=seconds,
        wait_readers=wait_readers,
        faults=faults,
    )
    fly_simulations(
        settings,
        preset_for_runs(
            preset or DEFAULT_PRESET, path=presets or PRESETS, dwell_s=dwell, current_pA=current, fixed=fixed
        ),
        seed=seed,
        frames=frames or (None if obey else FRAMES),
        loop=loop,
        obeys=obey,
        truth=truth,
        force=force,
        as_json=as_json,
        with_parent=with_parent,
    )


def _settings(config: Path | None, **flags: Any) -> Any:
    from acquisition_sim.simd import SimSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415

    return load_settings(SimSettings, config, **flags)


def _passes(recording: Any, loop: bool) -> Iterator[Any]:
    yield recording
    while loop:
        yield recording
