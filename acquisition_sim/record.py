"""`eelstm sim record`: simulated series written as recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def record(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for run-000.hspy and on, numbered by seed; made if need be.")
    ],
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, each of a specimen of its own.")] = 1,
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="Spectra in a run.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Of the first run; each further one takes the next.")] = 0,
    dwell: Annotated[float, typer.Option(help="Exposure per spectrum, s.")] = 0.4,
    current: Annotated[float, typer.Option(help="Probe current, pA.")] = 230.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite runs that are there.")] = False,
) -> None:
    """Simulate SrTiO3 that is damaged by the beam, and write the runs with their noise-free truth."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    from acquisition_sim.series import simulate_series  # noqa: PLC0415
    from eelstm_stream.errors import EelstmError, UsageError  # noqa: PLC0415
    from eelstm_stream.io.recordings import save_recording  # noqa: PLC0415

    paths = {number: output / f"run-{number:03d}.hspy" for number in range(seed, seed + runs)}
    there = next((path for path in paths.values() if path.exists()), None)
    if there is not None and not force:
        raise UsageError(f"{there} exists: choose another folder, or overwrite it with --force.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EelstmError(f"{output} can't be made a folder: {error.strerror}.") from None
    console = Console(stderr=True)
    quiet = not console.is_terminal
    for number, path in track(list(paths.items()), "simulating", console=console, transient=True, disable=quiet):
        try:
            recording = simulate_series(frames, seed=number, dwell_s=dwell, beam_current_pA=current)
        except ValueError as error:
            raise UsageError(f"{error}.") from None
        save_recording(recording, path, overwrite=force)
    said = f"{runs} run{'s' if runs > 1 else ''} of {frames} spectra in {output}, seeds {seed} to {seed + runs - 1}."
    console.print(said, soft_wrap=True, markup=False, highlight=False)
