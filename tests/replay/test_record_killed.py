"""A record that is killed leaves no process and no half-written run behind, and is gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from acquisition_sim.data_set import Experiment, PlannedRun, make_run
from acquisition_sim.manifest import MANIFEST, UNFINISHED, read_manifest
from acquisition_sim.simulated_run import preset_for_runs
from tests.programs import WITHIN_S, let_pass, marked, run, running, wait_until_gone, watched

RUNS, FRAMES = 40, 80
COMMAND = ("sim", "record", "--runs", str(RUNS), "--frames", str(FRAMES), "--workers", "2", "-o")


def wait_for_a_run(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the first run is noted; far more than the runs in progress are then missing."""
    notes = folder / UNFINISHED
    for _ in range(int(WITHIN_S / 0.01)):
        if notes.exists() and notes.read_bytes():
            return
        assert process.poll() is None, "it ended by itself"
        let_pass(0.01)
    raise AssertionError("no run was noted")


def resume_and_check(folder: Path) -> None:
    done = run(*COMMAND, folder, "--resume", "--json")
    assert done.code == 0, done.err
    figures = done.figures()
    assert figures["kept"] >= 1
    assert figures["made"] >= 1
    assert figures["made"] + figures["kept"] == RUNS
    manifest = read_manifest(folder)
    assert [entry.seed for entry in manifest.runs] == list(range(RUNS))
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, *(entry.file for entry in manifest.runs)]
    experiment = Experiment("srtio3-300kV", preset_for_runs())
    for entry in (manifest.runs[0], manifest.runs[-1]):
        assert make_run(experiment, PlannedRun(entry.file, entry.seed, FRAMES), folder) == entry


def test_killed_outright(tmp_path):
    with running(*COMMAND, tmp_path) as (process, mark):
        wait_for_a_run(process, tmp_path)
        with watched(marked(mark)) as all_of_them:
            assert len(all_of_them) >= 3  # itself, and its two workers
            process.send_signal(signal.SIGKILL)
            wait_until_gone(all_of_them)
    assert not (tmp_path / MANIFEST).exists()
    resume_and_check(tmp_path)


def test_stopped_with_ctrl_c(tmp_path):
    with running(*COMMAND, tmp_path) as (process, mark):
        wait_for_a_run(process, tmp_path)
        with watched(marked(mark)) as all_of_them:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            _, err = process.communicate(timeout=WITHIN_S)
            wait_until_gone(all_of_them)
    assert process.returncode == 130
    assert err == "stopped: the same command with --resume makes the runs that are missing.\n"
    assert not (tmp_path / MANIFEST).exists()
    resume_and_check(tmp_path)
