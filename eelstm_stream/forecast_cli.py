"""`eelstm forecast`: forecasts of a recording, as a file for HyperSpy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

if TYPE_CHECKING:
    from eelstm_stream.core.forecast_series import ForecastSeries
    from eelstm_stream.forecast import RefusedFrame

REFUSED_SHOWN = 3


def forecast(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A recording: DM3, DM4, hspy, or what else can be read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The forecasts, .hspy.")],
    model: Annotated[Path | None, typer.Option(help="Model file, ONNX.", show_default="the shipped one")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Hash that the model must have.", show_default="the one beside the file")
    ] = None,
    at: Annotated[
        int | None,
        typer.Option(help="From the window that ends at this frame, from 0.", show_default="from every window"),
    ] = None,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the file says.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the file says.")] = None,
    window_domain: Annotated[
        str | None,
        typer.Option(help="What a step is: frame, dose, or auto.", show_default="dose where the current is known"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Forecast a recording, and save the forecasts as EELS spectra for HyperSpy."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from eelstm_stream.core.window import WindowDomain  # noqa: PLC0415
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.forecast import forecast_recording  # noqa: PLC0415
    from eelstm_stream.io.forecast_files import save_forecasts  # noqa: PLC0415
    from eelstm_stream.io.hspy import require_writable  # noqa: PLC0415
    from eelstm_stream.io.model_file import open_model  # noqa: PLC0415
    from eelstm_stream.io.recordings import load_recording  # noqa: PLC0415
    from eelstm_stream.models import SHIPPED_MODEL  # noqa: PLC0415

    if output.exists() and not force:
        raise UsageError(f"{output} exists: choose another name, or overwrite it with --force.")
    if window_domain not in (None, *get_args(WindowDomain)):
        raise UsageError(f"--window-domain is {window_domain}, and it can be {', '.join(get_args(WindowDomain))}.")
    require_writable(output, overwrite=force)
    opened = open_model(model or SHIPPED_MODEL, sha256)
    recording = load_recording(run, dwell_s=dwell, beam_current_pA=current)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("forecasting", total=len(recording.counts))
        series, refused = forecast_recording(
            opened,
            recording,
            at=at,
            window_domain=cast(WindowDomain, window_domain or "auto"),
            report=lambda done, of: progress.update(task, completed=done, total=of),
        )
    save_forecasts(series, output, overwrite=force)
    said = json.dumps(_figures(output, run, series, refused)) if as_json else _report(output, run, series, refused)
    sys.stdout.write(said + "\n")


def _figures(output: Path, run: Path, series: ForecastSeries, refused: tuple[RefusedFrame, ...]) -> dict[str, Any]:
    return {
        "file": str(output),
        "run": str(run),
        "model": series.model_name,
        "sha256": series.model_sha256,
        "forecasts": len(series.from_seq),
        "horizons": list(series.horizons),
        "step_s": series.step_s,
        "quality": [{"flag": f.flag, "reason": f.reason, "forecasts": raised} for f, raised in series.quality],
        "refused": [{"frame": r.frame, "reason": r.reason} for r in refused],
    }


def _report(output: Path, run: Path, series: ForecastSeries, refused: tuple[RefusedFrame, ...]) -> str:
    count, steps = len(series.from_seq), ", ".join(map(str, series.horizons))
    seconds = series.horizons[-1] * series.step_s
    lines = [
        f"{output}: {count} forecast{'s' if count > 1 else ''} of {run.name} by {series.model_name}, {steps} "
        f"step{'s' if series.horizons != (1,) else ''} ahead (up to {seconds:.3g} s)."
    ]
    lines += [f"  {raised} of {count} {flag.flag.replace('_', ' ')}: {flag.reason}" for flag, raised in series.quality]
    lines += [f"  frame {frame.frame} was refused: {frame.reason}" for frame in refused[:REFUSED_SHOWN]]
    if len(refused) > REFUSED_SHOWN:
        lines.append(f"  and {len(refused) - REFUSED_SHOWN} more frames")
    return "\n".join(lines)
