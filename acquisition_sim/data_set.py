"""Data sets of simulated runs: planned, made by several processes, and listed in a manifest.

Goals: a run is the same whatever else is made beside it, before it, or by how many processes; a folder is one data set, whole
as soon as its manifest is there; after a kill, only what is missing is made again, and nothing half-written is taken for a run.

Plan: each run is made, written and hashed by one process, which tells its manifest entry to the one that leads. That one alone
writes into manifest and notes. The folder is locked meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal

from acquisition_sim.manifest import (
    MANIFEST,
    Manifest,
    ProgrammeStep,
    RunEntry,
    Unfinished,
    read_manifest,
    write_manifest,
)
from acquisition_sim.presets import Preset
from acquisition_sim.simulated_run import simulate_run
from acquisition_sim.variation import drawn_values
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io.recordings import recording_sha256, save_recording

LIBRARIES = ("eelstm-stream", "numpy", "rosettasciio", "h5py")  # that the bytes of a run's file follow from


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to be made."""

    file: str
    seed: int
    frames: int


@dataclass(frozen=True)
class Experiment:
    """What all runs of a data set share."""

    preset_name: str
    preset: Preset
    changing_dose: bool = False

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The preset as JSON has it: null for never."""
        parameters: dict[str, Any] = json.loads(self.preset.model_dump_json())
        return parameters

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of the libraries that the bytes follow from."""
        return {name: _version(name) for name in LIBRARIES}

    def made_from(self, run: PlannedRun) -> str:
        """SHA-256 of all that a run follows from but its seed: another one means other bytes."""
        origin = [self.parameters, self.changing_dose, self.versions, run.frames]
        return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of it."""

    manifest: Path
    made: int
    kept: int  # were there already, just as they should be


def record_data_set(
    experiment: Experiment,
    runs: Sequence[PlannedRun],
    folder: Path,
    *,
    existing: Literal["refuse", "resume", "overwrite"] = "refuse",
    workers: int = 1,
    begin: Callable[[int, int], object] = lambda kept, total: None,
    done: Callable[[RunEntry], object] = lambda run: None,
) -> Recorded:
    """Make the runs, and then the manifest.

    existing: what to do about runs that are there; "resume" keeps those that are what they should be. begin: called with how many
    are kept, and how many there will be. done: called for each that is made, in whatever order they are done.

    Raises UsageError where the folder holds something else, or runs that may not be overwritten; EelstmError where the disk
    refuses; what was made until then is kept for "resume".
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EelstmError(f"{folder} can't be made a folder: {error.strerror}.") from None
    with _locked(folder):
        kept = _kept(experiment, runs, folder, existing)
        _remove_remains(runs, folder)
        notes = Unfinished(folder)
        notes.begin(kept.values())
        (folder / MANIFEST).unlink(missing_ok=True)
        begin(len(kept), len(runs))
        entries = dict(kept)
        for entry in _made(experiment, [run for run in runs if run.file not in kept], folder, workers):
            notes.note(entry)
            entries[entry.file] = entry
            done(entry)
        manifest = Manifest(
            preset=experiment.preset_name,
            programme="varied" if experiment.changing_dose else "constant",
            versions=experiment.versions,
            preset_parameters=experiment.parameters,
            runs=tuple(entries[run.file] for run in runs),
        )
        path = write_manifest(manifest, folder)
        notes.end()
    return Recorded(path, made=len(runs) - len(kept), kept=len(kept))


def make_run(experiment: Experiment, run: PlannedRun, folder: Path) -> RunEntry:
    """Simulate a run, write it into the folder, over whatever has its name there, and return its manifest entry."""
    simulated = simulate_run(experiment.preset, run.frames, run.seed, changing_dose=experiment.changing_dose)
    recording, path = simulated.recording, folder / run.file
    save_recording(recording, path, overwrite=True)
    return RunEntry(
        file=run.file,
        seed=run.seed,
        frames=run.frames,
        final_phase=simulated.final_phase,
        sha256=_sha256(path) or "",
        content_sha256=recording_sha256(recording),
        made_from=experiment.made_from(run),
        programme=tuple(
            ProgrammeStep(from_frame=step.from_frame, dwell_s=step.dwell_s, beam_current_pA=step.current_pA)
            for step in simulated.steps
        ),
        drawn=drawn_values(simulated.preset),
    )


def _kept(
    experiment: Experiment, runs: Sequence[PlannedRun], folder: Path, existing: Literal["refuse", "resume", "overwrite"]
) -> dict[str, RunEntry]:
    """Runs that are there and need not be made again, by file name. Raises UsageError where what is there is in the way."""
    notes = Unfinished(folder)
    manifest = read_manifest(folder)
    if existing == "refuse":
        if notes.path.exists():
            raise UsageError(
                f"{folder} holds a data set that isn't finished: go on with --resume, or start anew with --force."
            )
        there = next((path for run in runs if (path := folder / run.file).exists()), None)
        if there is None and manifest is not None:
            there = folder / MANIFEST
        if there is not None:
            raise UsageError(f"{there} exists: choose another folder, or overwrite with --force.")
    found = {entry.file: entry for entry in (*(manifest.runs if manifest else ()), *notes.read())}
    planned = {run.file: run for run in runs}
    strange = next((file for file in found if file not in planned), None)
    if strange is not None:
        raise UsageError(
            f"{folder} holds {strange} of another data set, which would stay among these runs: choose another folder."
        )
    if existing != "resume":
        return {}
    return {
        file: entry
        for file, run in planned.items()
        if (entry := found.get(file)) is not None
        and (entry.seed, entry.made_from) == (run.seed, experiment.made_from(run))
        and _sha256(folder / file) == entry.sha256
    }


def _remove_remains(runs: Sequence[PlannedRun], folder: Path) -> None:
    """Take away what a kill left half-written."""
    stems = {Path(run.file).stem for run in runs}
    for path in folder.glob(".*.unfinished"):
        if path.name.removeprefix(".").rsplit(".", 2)[0] in stems:
            with suppress(OSError):
                path.unlink()


def _made(experiment: Experiment, runs: Sequence[PlannedRun], folder: Path, workers: int) -> Iterator[RunEntry]:
    """Make the runs, and yield their entries as they are done."""
    workers = min(workers, len(runs))
    if workers <= 1:
        for run in runs:
            yield make_run(experiment, run, folder)
        return
    # Fresh processes: a fork would copy the locks of the progress bar's thread as they happen to stand.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        with _interrupts_held_back():
            futures = [pool.submit(make_run, experiment, run, folder) for run in runs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise EelstmError(
            "a process that made runs was ended from outside, perhaps for want of memory: go on with --resume and fewer "
            "--workers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C: it is for the one that leads, which lets runs in progress finish."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """End with the process that leads: the pool's own queues would keep this one waiting forever."""

    def follow() -> None:
        if leader := parent_process():
            leader.join()
            os._exit(1)

    threading.Thread(target=follow, name="follows its leader", daemon=True).start()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against a second record. The lock ends with the process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"another record is writing into {folder}: let it end, or choose another folder.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str | None:
    """Of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
