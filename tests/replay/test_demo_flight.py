"""`eelstm demo`: a specimen flown under control, the beam blanked in the end, and no process left behind.

Nothing here depends on how soon anything happens, so no test asks how near to the ceiling a flight came: a busy machine decides
late. `eelstm bench control` measures that, without a clock.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from eelstm_stream.wire.messages import Decision
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
from tests.replay.test_demo import FIGURES, children_of

PROGRAMS = 4  # simulator, forecaster, controller, guard
QUICKLY = ("--speed", "10", "--seed", "4242")
OF_A_FLIGHT = {
    *("preset", "ended", "blanked", "ceiling", "phase", "phase_estimated", "overshoot", "utilisation", "frames"),
    *("frames_within_step", "dose_pC", "bearable_dose_pC", "budget_pC", "charged_pC", "accepted", "clamped", "refused"),
    *("refused_by", "discarded", "discarded_by", "to_command_p50_ms", "to_command_p99_ms"),
}


def test_with_nothing_but_its_pace_given_it_flies_to_the_ceiling_and_blanks() -> None:
    done = run("demo", "--json", *QUICKLY)
    assert (done.code, done.left_behind) == (0, [])
    figures = done.figures()
    assert set(figures) == FIGURES | OF_A_FLIGHT
    assert (figures["simulated"], figures["preset"], figures["ceiling"], figures["blanked"]) == (
        True,
        "preserve",
        0.3,
        True,
    )
    assert "ceiling" in figures["ended"]
    assert set(figures["discarded_by"]) <= {"skipped", "stale"}  # on a busy machine
    assert 0.1 < figures["phase"] < 0.5
    assert figures["overshoot"] == pytest.approx(max(0.0, figures["phase"] - 0.3), abs=1e-5)
    used_pC = min(figures["dose_pC"], figures["bearable_dose_pC"])
    assert figures["utilisation"] == pytest.approx(used_pC / figures["bearable_dose_pC"], abs=1e-3)
    assert (figures["phase"] > 0.3) == (figures["dose_pC"] > figures["bearable_dose_pC"])
    assert figures["dose_pC"] <= figures["charged_pC"] <= figures["budget_pC"] == 9000.0
    assert figures["frames"] == figures["spectra"] > figures["forecasts"] > 0
    assert 0 < figures["to_command_p50_ms"] <= figures["to_command_p99_ms"]
    assert "armed the guard" in done.err
    assert "removed" in done.err
    for folder in re.findall(r"ipc://(\S+)/guard", done.err):
        assert not Path(folder).exists()


def test_the_budget_ends_a_flight_that_the_ceiling_does_not(tmp_path: Path) -> None:
    journal = tmp_path / "kept.jsonl"
    done = run("demo", "--json", *QUICKLY, "--budget", "900", "--journal", journal)
    figures = done.figures()
    assert (done.code, figures["blanked"], figures["overshoot"]) == (0, True, 0.0)
    assert figures["dose_pC"] <= figures["charged_pC"] <= 900.0
    assert figures["utilisation"] < 0.5
    replayed = run("journal", "replay", journal)
    assert (replayed.code, replayed.err) == (0, "")


def test_in_a_terminal_it_shows_the_ceiling_the_ledger_and_what_it_was_worth(tmp_path: Path) -> None:
    picture = tmp_path / "flight.png"
    code, screen = on_terminal("demo", *QUICKLY, "--budget", "2500", "--figure", picture)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert code == 0
    for shown in (
        *(
            "SIMULATED",
            "phase since the start",
            "ceiling 0.3",
            "beam and plan",
            "dose ledger",
            "leased",
            "guard",
            "auto",
        ),
        *("armed the guard", "The beam was blanked at a true phase of", "of the dose that this specimen could take"),
        *("The guard accepted", "of the budget of 2,500 pC", f"drew {picture}"),
    ):
        assert shown in screen
    assert "Traceback" not in screen
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_resolve_keeps_the_change_of_a_frame_small() -> None:
    done = run("demo", *QUICKLY, "--preset", "resolve", "--budget", "5000")
    assert (done.code, done.left_behind) == (0, [])
    assert re.search(r"\d+ of the \d+ frames in the transition changed the specimen by at most 0.005", done.out)
    assert "the dwell went from" in done.out


# Broken off


def until_it_flies(demo: subprocess.Popen[str]) -> str:
    """Wait until the guard has granted what the controller wanted. Returns where the guard is."""
    assert demo.stderr is not None
    line = next(line for line in demo.stderr if "armed the guard" in line)
    [guard] = re.findall(r"--guard (ipc://\S+)", line)
    with Ears(("decision",), guard) as ears:
        ears.until(lambda m: isinstance(m, Decision) and m.action == "proposal" and m.outcome != "refused")
    return guard


SLOWLY = ("demo", "--json", "--speed", "0.5")


def test_ctrl_c_blanks_the_beam_and_ends_it_with_a_summary(tmp_path: Path) -> None:
    journal = tmp_path / "kept.jsonl"
    with running(*SLOWLY, "--journal", journal) as (demo, mark):
        guard = until_it_flies(demo)
        with watched(children_of(demo.pid, mark, PROGRAMS)) as descriptors:
            demo.send_signal(signal.SIGINT)
            out, _ = demo.communicate(timeout=WITHIN_S)
            wait_until_gone(descriptors)
        assert (demo.returncode, marked(mark)) == (0, [])
    figures = json.loads(out)
    assert (figures["ended"], figures["blanked"]) == ("stopped by Ctrl-C", True)
    assert not Path(guard.removeprefix("ipc://")).parent.exists()
    assert run("journal", "verify", journal).code == 0


def test_ctrl_c_before_anything_flies_ends_it_without_a_word() -> None:
    with running(*SLOWLY) as (demo, mark):
        children_of(demo.pid, mark, programs=1)
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=WITHIN_S)
        assert (demo.returncode, err, marked(mark)) == (0, "", [])


def test_killed_outright_it_leaves_no_process_behind() -> None:
    with running(*SLOWLY) as (demo, mark):
        until_it_flies(demo)
        with watched(children_of(demo.pid, mark, PROGRAMS)) as descriptors:
            demo.kill()
            wait_until_gone(descriptors)
        assert demo.wait(WITHIN_S) == -signal.SIGKILL
        assert marked(mark) == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("serve", "the forecaster has ended"),
        ("sim", "the simulator has ended"),
        ("control", "the controller has ended"),
        ("guard", "the guard has ended"),
    ],
)
def test_where_one_of_its_programs_is_killed_it_says_which_and_ends_the_others(program: str, said: str) -> None:
    with running(*SLOWLY) as (demo, mark):
        until_it_flies(demo)
        for pid in children_of(demo.pid, mark, PROGRAMS):
            if f"\0eelstm_stream\0{program}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        out, err = demo.communicate(timeout=WITHIN_S)
        assert (demo.returncode, out, marked(mark)) == (1, "", [])
        assert said in err.splitlines()[-1]


# What can't be flown

REFUSED = {
    "a budget that is no number": (("--budget", "nan"), 2, "budget_pC"),
    "no budget": (("--budget", "0"), 2, "budget_pC"),
    "a ceiling that can't be": (("--ceiling", "2"), 2, "a phase ceiling lies above 0 and at most at 1"),
    "a preset that commands nothing": (("--preset", "advise"), 2, "preserve or resolve"),
    "no pace": (("--speed", "max"), 2, "needs a pace"),
    "a journal nowhere": (("--journal", "/nowhere/journal"), 2, "there is no folder /nowhere"),
    "a picture of no kind": (("--figure", "flight.txt"), 2, ".png"),
    "a recording that isn't there": (("--recording", "nowhere.dm4", "--control"), 3, "nowhere.dm4 does not exist"),
    "acting on what is watched": (
        ("--recording", "nowhere.dm4", "--accept-flagged"),
        2,
        "--accept-flagged is for control",
    ),
    "control of what is watched": (("--recording", "nowhere.dm4", "--ceiling", "0.2"), 2, "give --control to fly it"),
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, Finished]:
    return run_all({name: ("demo", "--json", *arguments) for name, (arguments, _, _) in REFUSED.items()})


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(refusals: dict[str, Finished], name: str) -> None:
    _, code, said = REFUSED[name]
    done = refusals[name]
    [line] = done.err.splitlines()
    assert (done.code, done.out, done.left_behind) == (code, "", [])
    assert said in line


@pytest.mark.real
def test_a_real_line_scan_is_flown_once_its_current_is_known_and_is_not_believed(real_data: Path) -> None:
    file = real_data / "linescan_100x2048_high-loss.dm3"
    fly = ("demo", "--recording", file, "--control", "--speed", "10")
    unknown = run(*fly)
    assert (unknown.code, unknown.out, unknown.left_behind) == (3, "", [])
    assert "give --current" in unknown.err
    done = run(*fly, "--current", "100")
    assert (done.code, done.left_behind) == (0, [])
    for said in (
        "do not act on these forecasts",
        "note: resampled",
        "The beam was blanked",
        "a recording doesn't tell",
        "is flagged alignment_uncertain",
    ):
        assert said in done.out
