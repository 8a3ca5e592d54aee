"""The commands of the tutorial on control, in their order and in one folder, as its reader runs them; the demos at a faster pace.

Blocks marked `run` are run by a shell; those marked `terminal` are what the reader leaves running; those marked `real` need the
real line scan, and are skipped without it. What the tutorial shows of their output is not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from eelstm_stream.wire.messages import GuardStatus
from tests.programs import WITHIN_S, Ears, marked, marked_environment

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "from-forecast-to-control.md"
BLOCK = re.compile(r"^```sh (?P<how>run|terminal|real)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINE_SCAN = "linescan_100x2048_high-loss.dm3"
FASTER = (r"^eelstm demo", "eelstm demo --speed 10")
PLACES = {
    "publish": ("SIM_PUBLISH", "SERVE_SPECTRA", "CONTROL_SPECTRA", "GUARD_SPECTRA"),
    "snapshot": ("SIM_SNAPSHOT", "SERVE_SNAPSHOT", "CONTROL_SNAPSHOT", "GUARD_SNAPSHOT"),
    "command": ("SIM_COMMAND", "GUARD_COMMAND"),
    "forecasts": ("SERVE_PUBLISH", "CONTROL_FORECASTS"),
    "proposals": ("CONTROL_PUBLISH", "GUARD_PROPOSALS"),
    "guard": ("GUARD_PUBLISH", "CONTROL_GUARD", "OPERATOR_GUARD"),
    "operator": ("GUARD_OPERATOR", "OPERATOR_OPERATOR"),
}


def blocks() -> list[tuple[str, str]]:
    return [(found["how"], found["code"]) for found in BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8"))]


def shell(code: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", re.sub(*FASTER, code, flags=re.MULTILINE)]


@contextmanager
def terminal(code: str, folder: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """What runs until it is told to end; it must end well."""
    command = shell(f"exec {code}")  # the program itself, so that it is told and not the shell
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(": ready; " in line for line in process.stderr), code
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=WITHIN_S)


def run_to_its_end(code: str, folder: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(
        shell(code),
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path) -> tuple[dict[str, str], str]:
    """The reader's, with sockets in a folder, and with this interpreter's programs first; and a mark of what it starts."""
    places = {f"EELSTM_{name}": f"ipc://{folder}/{place}" for place, names in PLACES.items() for name in names}
    mark = uuid.uuid4().hex
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return marked_environment(mark, PATH=path, **places), mark


@pytest.mark.slow
def test_its_commands_run_in_their_order(tmp_path: Path) -> None:
    variables, mark = environment(tmp_path)
    said = ""
    with ExitStack() as terminals:
        running: list[subprocess.Popen[str]] = []
        for how, code in blocks():
            if how == "terminal":
                running.append(terminals.enter_context(terminal(code, tmp_path, variables)))
            elif how == "run":
                if "operator status" in code:  # a person takes longer to type it than the guard to hear the instrument
                    with Ears(("status",), variables["EELSTM_OPERATOR_GUARD"]) as ears:
                        ears.until(lambda m: isinstance(m, GuardStatus) and m.readback is not None)
                said += run_to_its_end(code, tmp_path, variables)
        assert [process.poll() for process in running] == [None] * len(running)
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert marked(mark) == []
    for words in ("The beam was blanked at a true phase of", "armed: the next proposal", "latched", "the same again"):
        assert words in said
    assert (tmp_path / "grain-1.csv").read_text(encoding="utf-8").count("\n") > 1


@pytest.mark.slow
@pytest.mark.real
def test_a_real_line_scan_is_flown_as_it_says(tmp_path: Path, real_data: Path) -> None:
    (tmp_path / LINE_SCAN).symlink_to(real_data / LINE_SCAN)
    variables, mark = environment(tmp_path)
    for how, code in blocks():
        if how == "real":
            said = run_to_its_end(code, tmp_path, variables)
            assert "do not act on these forecasts" in said
            assert ("--accept-flagged" in code) == ("at a phase of" in said)  # else the controller never had a phase
            assert ("--accept-flagged" in code) != ("is flagged alignment_uncertain" in said)
    assert marked(mark) == []


def test_it_is_made_of_commands_that_are_run() -> None:
    """A block of commands that nobody tries goes stale."""
    text = TUTORIAL.read_text(encoding="utf-8")
    hows = [how for how, _ in blocks()]
    assert (hows.count("terminal"), hows.count("real")) == (4, 3)
    fences = re.findall(r"^```(\S.*)$", text, re.MULTILINE)
    assert len(fences) == len(hows)
    assert shutil.which("bash")


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TUTORIAL.read_text(encoding="utf-8")):
        assert (TUTORIAL.parent / target).exists(), target
