"""`eelstm sim record`: data sets of simulated runs, for training and for tests."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

if TYPE_CHECKING:
    from acquisition_sim.data_set import PlannedRun
    from acquisition_sim.manifest import RunEntry

DEFAULT_FRAMES = 160
FRAMES_WORTH_A_PROCESS = 640  # starting a process costs as much as these, four runs or so
# The paper's files at 0.4 s, with their frames; as .hspy, and marked for what they are.
PAPER_FILES = {
    "SI-007 0.4 s dwell (simulated).hspy": 120,
    "SI-012 0.4 s 160 repeat (simulated).hspy": 160,
    "SI-015 0.4 s 160 repeat (simulated).hspy": 160,
}
PAPER_SEEDS = 2**32  # seeds from here on are those of triples like the paper's: no data set that is trained on has them


class Programme(StrEnum):
    """Of the dose."""

    CONSTANT = "constant"
    VARIED = "varied"


def record(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the data set; made if need be.")],
    runs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="How many runs, each on another grain.", show_default="1")
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Three runs of 120, 160 and 160 spectra, named as the paper's; each --seed is another triple.",
        ),
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="The microscope and its specimen.", show_default="srtio3-300kV")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=20_000, help="Spectra in a run.", show_default=str(DEFAULT_FRAMES))
    ] = None,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s.", show_default="the preset's, 0.4")
    ] = None,
    current: Annotated[
        float | None, typer.Option(help="Probe current about which runs vary, pA.", show_default="the preset's, 230")
    ] = None,
    programme: Annotated[
        Programme | None,
        typer.Option(
            help="Of the dose: one dwell and current for a whole run, or new ones every few frames.",
            show_default="constant",
        ),
    ] = None,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="All runs on the same specimen: they differ in noise and drift only.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of the first run; each further one takes the next.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=512, help="Processes that make runs.", show_default="one a core")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the runs that are there and as they should be; make the others.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite runs that are there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Record simulated runs: SrTiO3 that the beam damages, each time on another grain, with the noise-free truth beside.

    Writes .hspy files, and manifest.json with their hashes and with what each was made from. A run follows from its seed
    alone, whatever else is made with it.
    """
    from acquisition_sim.data_set import Experiment, PlannedRun, record_data_set  # noqa: PLC0415
    from acquisition_sim.presets import DEFAULT_PRESET  # noqa: PLC0415
    from acquisition_sim.simulated_run import preset_for_runs  # noqa: PLC0415
    from eelstm_stream.errors import UsageError  # noqa: PLC0415

    if resume and force:
        raise UsageError("--resume keeps what --force overwrites: give one of them.")
    if paper:
        flags = {"--runs": runs, "--frames": frames, "--dwell": dwell, "--current": current, "--programme": programme}
        given = next((flag for flag, value in flags.items() if value is not None), None)
        if given is not None:
            raise UsageError(f"--paper settles what {given} would: leave one of them out.")
        first = PAPER_SEEDS + len(PAPER_FILES) * seed
        planned = [PlannedRun(file, first + n, frames) for n, (file, frames) in enumerate(PAPER_FILES.items())]
    else:
        seeds = range(seed, seed + (runs or 1))
        planned = [PlannedRun(f"run-{s:04d}.hspy", s, frames or DEFAULT_FRAMES) for s in seeds]
    name = preset or DEFAULT_PRESET
    experiment = Experiment(
        name,
        preset_for_runs(name, dwell_s=dwell, current_pA=current, fixed=fixed),
        changing_dose=programme is Programme.VARIED,
    )

    began = time.perf_counter()
    with _Progress() as progress:
        recorded = record_data_set(
            experiment,
            planned,
            output,
            existing="resume" if resume else "overwrite" if force else "refuse",
            workers=workers or _worthwhile_workers(planned),
            begin=progress.begin,
            done=progress.done,
        )
    figures = {
        "directory": str(output),
        "manifest": str(recorded.manifest),
        "preset": name,
        "runs": len(planned),
        "made": recorded.made,
        "kept": recorded.kept,
        "seconds": round(time.perf_counter() - began, 2),
        "files": [run.file for run in planned],
    }
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    spectra = " + ".join(str(run.frames) for run in planned) if paper else f"{len(planned)} × {planned[0].frames}"
    already = f", of which {recorded.kept} were there" if recorded.kept else ""
    progress.say(
        f"{spectra} spectra of {name} in {output}{already}, seeds {planned[0].seed} to {planned[-1].seed}, "
        f"{figures['seconds']:.1f} s; what each run was made with is in {recorded.manifest.name}."
    )


def _worthwhile_workers(planned: list[PlannedRun]) -> int:
    """One a core, and fewer where starting them would take longer than the runs."""
    frames = sum(run.frames for run in planned)
    return min(len(os.sched_getaffinity(0)), math.ceil(frames / FRAMES_WORTH_A_PROCESS))


class _Progress:
    """How many runs are done, on stderr where that is a terminal; and, after Ctrl-C, how to go on."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        self._console = Console(stderr=True)
        columns = (
            TextColumn("recording"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs, left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._progress.add_task("", total=None)

    def begin(self, kept: int, total: int) -> None:
        self._progress.update(self._task, completed=kept, total=total)

    def done(self, _run: RunEntry) -> None:
        self._progress.advance(self._task)

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt):
            self.say("stopped: the same command with --resume makes the runs that are missing.")
