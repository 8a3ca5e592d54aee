"""`eelstm demo --recording`: a recording watched in one command, and nothing of it left behind. Flights: test_demo_flight.py."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.model_files import write_model
from tests.paper_layout import strontium_titanate, write_dm
from tests.programs import (
    WITHIN_S,
    Ears,
    Finished,
    marked,
    on_terminal,
    run,
    run_all,
    running,
    wait_until_gone,
    watched,
)

FIGURES = {
    *("spectra", "forecasts", "missed", "rmse", "rmse_persistence", "noise_floor", "latency_p50_ms", "latency_p99_ms"),
    *("rmse_window_mean", "simulated", "trained_on"),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx")


def check_refused(done: Finished, code: int, *said: str) -> None:
    assert done.out == ""
    [line] = done.err.splitlines()
    assert line.startswith("eelstm: ")
    for part in said:
        assert part in line
    assert (done.code, done.left_behind) == (code, [])


# To the end


def test_it_ends_with_its_figures_and_leaves_no_process_behind(paper_recordings: list[Path], model_file: Path) -> None:
    done = run("demo", "--json", "--model", model_file, "--recording", paper_recordings[0], "--speed", "200")
    assert (done.code, done.err, done.left_behind) == (0, "", [])
    figures = done.figures()
    assert set(figures) == FIGURES
    assert (figures["spectra"], figures["forecasts"], figures["missed"]) == (120, 113, 0)
    assert (figures["simulated"], figures["trained_on"]) == (False, "nothing: it is the mean of the window")
    # The mean of 8 noisy frames as a forecast of a ninth: between the noise floor and persistence.
    assert figures["noise_floor"] < figures["rmse"] < figures["rmse_persistence"]
    assert figures["rmse"] == figures["rmse_window_mean"]
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"]


def test_for_so_many_seconds_it_begins_again_at_the_end(tmp_path: Path, model_file: Path) -> None:
    write_dm(tmp_path / "short.dm4", frames=20)
    arguments = ("--recording", tmp_path / "short.dm4", "--speed", "40", "--seconds", "1")
    figures = run("demo", "--json", "--model", model_file, *arguments).figures()
    assert figures["spectra"] > 20
    assert figures["missed"] == 0


@pytest.mark.real
def test_a_real_line_scan_is_forecast_with_its_faults_named(real_data: Path, model_file: Path, tmp_path: Path) -> None:
    file = real_data / "linescan_100x2048_high-loss.dm3"
    picture = tmp_path / "line scan.png"
    arguments = ("--recording", file, "--speed", "100", "--figure", picture)
    done = run("demo", "--model", model_file, *arguments)
    assert (done.code, done.left_behind) == (0, [])
    assert done.out.startswith(f"100 spectra, 93 forecasts, 0 missed, from {file.name} (a recording)\n")
    for said in (
        "do not act on these forecasts",  # it was not made for this, and says so
        "note: resampled: from 400.0 to 911.8 eV at 0.25 eV to 435.0 to 624.9 eV at 0.1 eV",
        "note: dwell differs from training: dwell 0.2 s, trained at 0.4 s",
        "note: dose is relative",
        "model mean-of-window, trained on nothing",
    ):
        assert said in done.out
    assert done.err == f"eelstm demo: drew {picture}\n"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_in_a_terminal_it_shows_phase_errors_and_skill(paper_recordings: list[Path], model_file: Path) -> None:
    arguments = ("--model", model_file, "--recording", paper_recordings[0], "--speed", "200")
    code, screen = on_terminal("demo", *arguments)
    assert code == 0
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    for shown in (
        *("phase", "+8 steps", "RMSE", "persistence", "noise floor", "skill", "latency p50, p99", "Ti L", "O K"),
        *(paper_recordings[0].name, "mean-of-window", "forecast of spectrum", "120 spectra, 113 forecasts, 0 missed"),
    ):
        assert shown in screen
    assert "Traceback" not in screen


def test_in_a_narrow_terminal_it_still_ends_well(paper_recordings: list[Path], model_file: Path) -> None:
    arguments = ("--recording", paper_recordings[0], "--speed", "max")
    code, screen = on_terminal("demo", "--model", model_file, *arguments, rows=6, columns=20)
    assert code == 0
    assert "Traceback" not in screen


# Broken off


def children_of(demo: int, mark: str, programs: int = 2) -> list[int]:
    """The processes that a demo has started; waits until there are as many."""
    while len(others := [pid for pid in marked(mark) if pid != demo]) < programs:
        assert not select.select([], [], [], 0.05)[0]
        os.kill(demo, 0)  # it is still there
    return others


@pytest.fixture
def endless(paper_recordings: list[Path], model_file: Path) -> tuple[str | Path, ...]:
    """A demo that goes on for an hour."""
    again = ("--seconds", "3600", "--speed", "20")
    return ("demo", "--json", "--model", model_file, "--recording", paper_recordings[0], *again)


def test_ctrl_c_ends_it_with_a_summary(endless: tuple[str | Path, ...], tmp_path: Path) -> None:
    picture = tmp_path / "come true.png"
    with running(*endless, "--figure", picture) as (demo, mark):
        children = children_of(demo.pid, mark)
        with watched(children) as descriptors:
            wait_until_it_forecasts(mark, demo.pid)
            demo.send_signal(signal.SIGINT)
            out, err = demo.communicate(timeout=WITHIN_S)
            wait_until_gone(descriptors)
        assert (demo.returncode, marked(mark)) == (0, [])
    figures = json.loads(out)
    assert set(figures) == FIGURES
    assert figures["forecasts"] > 0
    assert figures["missed"] == 0  # a forecast that was still on its way was not missed
    assert err in (
        f"eelstm demo: drew {picture}\n",
        f"eelstm demo: did not draw {picture}: no forecast has come true\n",
    )


def wait_until_it_forecasts(mark: str, demo: int) -> None:
    """Listen beside the demo to the forecaster that it has started, until a forecast has come from it."""
    [forecaster] = [pid for pid in children_of(demo, mark) if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    with Ears(("forecast",), f"tcp://127.0.0.1:{listening_port(forecaster)}") as ears:
        for _ in range(20):
            ears.next_frames()


def listening_port(pid: int) -> int:
    """The TCP port that a process listens on; waits until it does."""
    while True:
        sockets = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(descriptor.readlink().name)
            except OSError:
                continue
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # 0A: listening
                return int(fields[1].split(":")[1], 16)
        select.select([], [], [], 0.05)


def test_ctrl_c_before_anything_runs_ends_it_without_a_word(endless: tuple[str | Path, ...]) -> None:
    with running(*endless) as (demo, mark):
        children_of(demo.pid, mark, programs=1)  # the simulator starts, and nothing else yet
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=WITHIN_S)
        assert (demo.returncode, err, marked(mark)) == (0, "", [])


def test_killed_outright_it_leaves_no_process_behind(endless: tuple[str | Path, ...]) -> None:
    with running(*endless) as (demo, mark):
        with watched(children_of(demo.pid, mark)) as descriptors:
            demo.kill()
            wait_until_gone(descriptors)
        assert demo.wait(WITHIN_S) == -signal.SIGKILL
        assert marked(mark) == []


@pytest.mark.parametrize(
    ("program", "said"), [("serve", "the forecaster has ended"), ("sim", "the simulator has ended")]
)
def test_where_one_of_its_programs_is_killed_it_says_which_and_ends_the_others(
    endless: tuple[str | Path, ...], program: str, said: str
) -> None:
    with running(*endless) as (demo, mark):
        wait_until_it_forecasts(mark, demo.pid)
        for pid in children_of(demo.pid, mark):
            if f"\0{program}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        out, err = demo.communicate(timeout=WITHIN_S)
        assert (demo.returncode, out, marked(mark)) == (1, "", [])
        assert len(err.splitlines()) == 1
        assert said in err


# What cannot be forecast


UNUSABLE = {
    "STO_pristine_pyTEMlib.dm3": ("STO_pristine_pyTEMlib.dm3 holds 1 spectrum", "window needs 8"),
    "linescan_100x2048_low-loss.dm3": ("linescan_100x2048_low-loss.dm3", "-50.0 to 461.8 eV", "435.0 to 624.9 eV"),
    "spectrum_image_2x2.dm4": ("spectrum_image_2x2.dm4", "4 spectra", "window needs 8"),
    "multi_signal.dm3": ("multi_signal.dm3 holds an image (512, 512) and a line plot (512,)", "energy axis in eV"),
}


@pytest.fixture(scope="module")
def refusals(real_data: Path, model_file: Path) -> dict[str, Finished]:
    """A demo of each of them."""
    demo = ("demo", "--json", "--model", model_file, "--recording")
    return run_all({name: (*demo, real_data / name) for name in UNUSABLE})


@pytest.mark.real
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_real_file_that_cannot_be_forecast_is_refused_in_one_line(refusals: dict[str, Finished], name: str) -> None:
    check_refused(refusals[name], 3, *UNUSABLE[name])


def test_spectra_below_zero_are_refused_with_the_reason(tmp_path: Path, model_file: Path) -> None:
    energy_eV = 424.0 + 0.1 * np.arange(2048)
    counts = strontium_titanate(20, energy_eV, np.random.default_rng(3))
    counts[:, 2047] = -3.5
    write_dm(tmp_path / "dark.dm4", counts=counts)
    done = run("demo", "--json", "--model", model_file, "--recording", tmp_path / "dark.dm4", "--speed", "50")
    check_refused(done, 3, "20 in all", "negative counts (-3.5 in channel 2047)")
