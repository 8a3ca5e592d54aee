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
    speed: Speed = None,
    loop: Loop = False,
    spectra: Spectra = None,
    seconds: Seconds = None,
    instrument: Instrument = None,
    publish: Publish = None,
    snapshot: Snapshot = None,
    wait_readers: WaitReaders = None,
    config: Config = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Play a recording as a live instrument."""
    from eelstm_stream.io.recordings import load_recording  # noqa: PLC0415

    settings = _settings(
        config,
        instrument=instrument,
        publish=publish,
        snapshot=snapshot,
        speed=speed,
        spectra=spectra,
        seconds=seconds,
        wait_readers=wait_readers,
    )
    recording = load_recording(file, dwell_s=dwell, beam_current_pA=current)
    _play(settings, _passes(recording, loop), as_json, with_parent)


@sim.command()
def run(
    frames: Annotated[int, typer.Option(min=1, max=20_000, help="Spectra in a session.")] = 160,
    seed: Annotated[int, typer.Option(min=0, max=2**63, help="The same seed gives the same spectra.")] = 0,
    dwell: Annotated[float, typer.Option(help="Exposure per spectrum, s.")] = 0.4,
    current: Annotated[float, typer.Option(help="Probe current about which runs vary, pA.")] = 230.0,
    speed: Speed = None,
    loop: Loop = False,
    spectra: Spectra = None,
    seconds: Seconds = None,
    instrument: Instrument = None,
    publish: Publish = None,
    snapshot: Snapshot = None,
    wait_readers: WaitReaders = None,
    config: Config = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Simulate SrTiO3 that is damaged by the beam, as a live instrument."""
    from acquisition_sim.simulated_run import preset_for_runs, simulate_run  # noqa: PLC0415

    settings = _settings(
        config,
        instrument=instrument,
        publish=publish,
        snapshot=snapshot,
        speed=speed,
        spectra=spectra,
        seconds=seconds,
        wait_readers=wait_readers,
    )
    simulated = simulate_run(preset_for_runs(dwell_s=dwell, current_pA=current), frames, seed)
    _play(settings, _passes(simulated.recording, loop), as_json, with_parent)


def _settings(config: Path | None, **flags: Any) -> Any:
    from acquisition_sim.simd import SimSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415

    return load_settings(SimSettings, config, **flags)


def _passes(recording: Any, loop: bool) -> Iterator[Any]:
    yield recording
    while loop:
        yield recording


def _play(settings: Any, recordings: Any, as_json: bool, with_parent: bool) -> None:
    from acquisition_sim.simd import LiveInstrument  # noqa: PLC0415
    from eelstm_stream.io.stopping import Stop  # noqa: PLC0415

    with Stop(with_parent=with_parent) as stop:
        LiveInstrument(settings, stop, as_json=as_json).play(recordings)
