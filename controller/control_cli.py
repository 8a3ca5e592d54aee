"""`eelstm control` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="TOML file; this program reads its table `control`.")]


def control(
    preset: Annotated[
        str | None,
        typer.Option(help="What is wanted: preserve, resolve, track, or advise.", show_default="preserve"),
    ] = None,
    ceiling: Annotated[
        float | None,
        typer.Option(
            help="Phase since the session's start that must not be passed, 0 to 1.", show_default="the preset's, 0.3"
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Phase change that a frame may make, for resolve.", show_default="0.005"),
    ] = None,
    min_dose: Annotated[
        float | None,
        typer.Option(
            "--min-dose", "--snr-floor", help="Least dose of a frame, pC, so that its signal stands above its noise."
        ),
    ] = None,
    track: Annotated[
        Path | None, typer.Option(help="Trajectory for track: a CSV file with the columns time_s and phase.")
    ] = None,
    max_current: Annotated[
        float | None, typer.Option(help="Highest current to propose, pA.", show_default="the instrument's")
    ] = None,
    start_dwell: Annotated[
        float | None, typer.Option(help="Dwell while nothing is known yet, s.", show_default="the session's")
    ] = None,
    start_current: Annotated[
        float | None, typer.Option(help="Current while nothing is known yet, pA.", show_default="the session's")
    ] = None,
    accept_flagged: Annotated[
        bool | None,
        typer.Option(
            "--accept-flagged",
            help="Act on forecasts flagged alignment_uncertain or outside_training_range too: the model may not know this specimen.",
            show_default=False,
        ),
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Whose beam.", show_default="microscope")] = None,
    spectra: Annotated[
        str | None, typer.Option(help="Where the instrument publishes.", show_default="tcp://127.0.0.1:17810")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(help="Where the instrument answers late joiners.", show_default="tcp://127.0.0.1:17811"),
    ] = None,
    forecasts: Annotated[
        str | None, typer.Option(help="Where the forecaster publishes.", show_default="tcp://127.0.0.1:17812")
    ] = None,
    guard: Annotated[
        str | None, typer.Option(help="Where the guard publishes.", show_default="tcp://127.0.0.1:17815")
    ] = None,
    publish: Annotated[
        str | None, typer.Option(help="Where to publish proposals.", show_default="tcp://127.0.0.1:17814")
    ] = None,
    config: Config = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say on stdout, as one JSON object, when and where it is ready.")
    ] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Plan dose and dwell of the next frames from the forecasts, and propose them to the guard."""
    from controller.controld import Controller, ControlSettings  # noqa: PLC0415
    from eelstm_stream.io.config import load_settings  # noqa: PLC0415
    from eelstm_stream.io.stopping import Stop  # noqa: PLC0415

    settings = load_settings(
        ControlSettings,
        config,
        preset=preset,
        ceiling=ceiling,
        delta=delta,
        track=track,
        min_dose_pC=min_dose,
        max_current_pA=max_current,
        start_dwell_s=start_dwell,
        start_current_pA=start_current,
        accept_flagged=accept_flagged,
        instrument=instrument,
        spectra=spectra,
        snapshot=snapshot,
        forecasts=forecasts,
        guard=guard,
        publish=publish,
    )
    with Stop(with_parent=with_parent) as stop:
        Controller(settings, as_json=as_json).run(stop)
