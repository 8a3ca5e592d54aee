"""The tutorial's commands, in their order and in one folder, as its reader runs them, but with smaller trainings.

Blocks marked `run` are run by a shell, or by Python; those marked `terminal` are what the reader leaves running in a terminal of its
own. What the tutorial shows of their output is not compared: figures differ with what was trained.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import WITHIN_S, marked_environment

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "from-recordings-to-a-served-model.md"
BLOCK = re.compile(r"^```(?P<language>sh|python) (?P<how>run|terminal)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_WITHIN_S = 600.0  # only ends a wait for what never comes
# What makes it quick. Everything else is run as it stands.
SMALLER = (
    (r"^(eelstm train .*--model paper.*)$", r"\1 --epochs 1 --layers 1 --units 8"),
    (r"^(eelstm train .*--model corrected.*)$", r"\1 --epochs 1"),
    (r"^(eelstm tune .*) --trials \d+ --epochs \d+(.*)$", r"\1 --trials 2 --epochs 1\2"),
)


@dataclass(frozen=True)
class Block:
    language: str
    how: str
    code: str

    @property
    def command(self) -> list[str]:
        """It as a process."""
        if self.language == "python":
            return [sys.executable, "-c", self.code]
        code = self.code
        for pattern, smaller in SMALLER:
            code = re.sub(pattern, smaller, code, flags=re.MULTILINE)
        return ["bash", "-euo", "pipefail", "-c", code]


def blocks() -> list[Block]:
    return [Block(**found.groupdict()) for found in BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8"))]


def a_free_endpoint() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def environment() -> dict[str, str]:
    """The reader's, but with endpoints that no other test has, and with this interpreter's programs first."""
    spectra, snapshot, forecasts = (a_free_endpoint() for _ in range(3))
    return marked_environment(
        uuid.uuid4().hex,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        EELSTM_SIM_PUBLISH=spectra,
        EELSTM_SIM_SNAPSHOT=snapshot,
        EELSTM_SERVE_SPECTRA=spectra,
        EELSTM_SERVE_SNAPSHOT=snapshot,
        EELSTM_SERVE_PUBLISH=forecasts,
        EELSTM_LISTEN_CONNECT=forecasts,
    )


@contextmanager
def terminal(block: Block, folder: Path, variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What runs until it is told to end; it must end well."""
    with log.open("wb") as out:
        command = block.command
        command[-1] = f"exec {command[-1]}"  # the program itself, so that it is told and not the shell
        with subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(WITHIN_S)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_commands_run_in_their_order(tmp_path: Path) -> None:
    variables = environment()
    ended: list[tuple[str, int]] = []
    with ExitStack() as terminals:
        left_running = []
        for number, block in enumerate(blocks()):
            if block.how == "terminal":
                log = tmp_path / f".terminal-{number}"
                left_running.append(terminals.enter_context(terminal(block, tmp_path, variables, log)))
                continue
            done = subprocess.run(
                block.command,
                cwd=tmp_path,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_WITHIN_S,
                check=False,
            )
            assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
            ended += [(block.code, process.returncode) for process in left_running if process.poll() is not None]
            assert not ended, [path.read_text() for path in tmp_path.glob(".terminal-*")]
    assert [process.returncode for process in left_running] == [0, 0]
    said = [path.read_text() for path in sorted(tmp_path.glob(".terminal-*"))]
    assert any("forecasts" in words for words in said), said

    assert {path.name for path in (tmp_path / "models").glob("*.onnx")} >= {"paper.onnx", "corrected.onnx"}
    for report in (tmp_path / "reports").glob("*.html"):
        assert "SIMULATED" in report.read_text()
    assert json.loads((tmp_path / "recordings" / "manifest.json").read_text())["runs"]
    assert (tmp_path / "forecasts.hspy").exists()


def test_it_is_made_of_commands_that_are_run() -> None:
    """A block of commands that nobody tries goes stale."""
    text = TUTORIAL.read_text(encoding="utf-8")
    found = blocks()
    assert len(found) >= 8
    assert sum(block.how == "terminal" for block in found) == 2
    fences = re.findall(r"^```(\S.*)$", text, re.MULTILINE)
    assert {fence for fence in fences if fence.startswith(("sh", "python"))} == {"sh run", "sh terminal", "python run"}
    assert shutil.which("bash")


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TUTORIAL.read_text(encoding="utf-8")):
        if not target.startswith("https:"):
            assert (TUTORIAL.parent / target).exists(), target
