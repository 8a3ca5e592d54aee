"""The whole loop as processes on this machine: what `Rig` has, and controller, guard and an operator's hand beside it.

All meet at sockets in one private folder, so that each knows beforehand where the others will be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from eelstm_stream.errors import EelstmError
from eelstm_stream.io.children import Child
from eelstm_stream.io.stopping import Stop
from eelstm_stream.rig import Rig

SOCKETS = ("publish", "snapshot", "command", "forecasts", "proposals", "guard", "operator")
LONGEST_PATH = 90  # of a folder with sockets: the system takes 107 bytes for a socket's whole path
OPERATOR = "the demo"
FROM_INSTRUMENT = ("session", "spectrum", "status")


class LoopRig:
    """Started in the order in which nothing is missed, and ended with the beam blanked first."""

    def __init__(
        self,
        source: Sequence[str],
        *,
        stop: Stop,
        settings: Mapping[str, Mapping[str, Any]],
        model: Path | None = None,
        journal: Path | None = None,
        with_truth: bool = False,
    ) -> None:
        """source: arguments of `eelstm sim` that make an instrument obey. settings: tables of the configuration, `guard` and `control`.

        with_truth: the simulator writes what it knows to `truth_file` in the end, where it has taken a frame.
        journal: the guard's; in the temporary `folder`, and removed with it, unless given. Raises as `Rig` does.
        """
        self._arming: subprocess.Popen[str] | None = None
        self._stack = ExitStack()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="eelstm-", dir=_short_folder()))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.at = {name: f"ipc://{self.folder}/{name}" for name in SOCKETS}
            self.journal = self.folder / "journal.jsonl" if journal is None else journal
            self.truth_file = self.folder / "truth.hspy"
            config = self.folder / "settings.toml"
            config.write_text(_toml(settings), encoding="utf-8")
            at, common = self.at, ("--config", str(config))
            instrument = ("--spectra", at["publish"], "--snapshot", at["snapshot"])
            self.controller = self._start(
                *("control", *common, *instrument, "--forecasts", at["forecasts"], "--guard", at["guard"]),
                *("--publish", at["proposals"]),
            )
            self.guard = self._start(
                *("guard", *common, *instrument, "--command", at["command"], "--proposals", at["proposals"]),
                *("--publish", at["guard"], "--operator", at["operator"], "--journal", str(self.journal)),
            )
            for child in (self.controller, self.guard):  # first of all: they read what a person has set
                child.wait_until_ready(stop)
            self.rig = self._stack.enter_context(
                Rig(
                    [*source, "--command", at["command"], *(("--truth", str(self.truth_file)) if with_truth else ())],
                    stop=stop,
                    kinds=("forecast",),
                    model=model,
                    places=at,
                    from_instrument=FROM_INSTRUMENT,
                )
            )
            self.rig.subscribe(at["proposals"], ("proposal", "status"))
            self.rig.subscribe(at["guard"], ("decision", "status"))
        except BaseException:
            self._stack.close()
            raise

    def _start(self, *arguments: str) -> Child:
        return self._stack.enter_context(Child(*arguments))

    @property
    def operator_options(self) -> tuple[str, ...]:
        """Of `eelstm operator`, to reach this guard."""
        return ("--guard", self.at["guard"], "--operator", self.at["operator"])

    def arm(self) -> bool:
        """Arm the guard as its operator, in a process of its own; call until it returns True. Raises EelstmError where it's refused."""
        if self._arming is None:
            words = ("operator", "arm", *self.operator_options, "--who", OPERATOR, "--reason", "a demonstration")
            self._arming = subprocess.Popen(
                [sys.executable, "-m", "eelstm_stream", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._stack.callback(self._end_arming)
        if self._arming.poll() is None:
            return False
        assert self._arming.stderr is not None  # noqa: S101 - it was started with a pipe
        if self._arming.returncode != 0:
            said = self._arming.stderr.read().strip().splitlines() or ["it didn't say why"]
            raise EelstmError(f"the guard could not be armed: {said[-1].removeprefix('eelstm: ')}")
        return True

    def _end_arming(self) -> None:
        if self._arming is not None:
            self._arming.kill()
            self._arming.wait()
            if self._arming.stderr is not None:
                self._arming.stderr.close()

    def check(self) -> None:
        """Raise where the loop can't go on, saying why."""
        self.rig.check()
        for name, child in (("controller", self.controller), ("guard", self.guard)):
            if not child.is_running:
                raise EelstmError(f"the {name} has ended: {child.last_words()}")

    def blank(self) -> None:
        """End the guard, which blanks the beam before it ends."""
        self._end_arming()
        self.guard.stop()

    def land(self) -> None:
        """End the simulator, which then writes what it was told to, and the others."""
        self.rig.simulator.stop()

    def __enter__(self) -> LoopRig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.blank()
        self._stack.close()


def _short_folder() -> str | None:
    """Where the temporary folder goes: the usual place, unless its name is too long for sockets."""
    return None if len(os.fsencode(tempfile.gettempdir())) + len("/eelstm-12345678") < LONGEST_PATH else "/tmp"  # noqa: S108


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of numbers and strings; JSON writes both as TOML has them, but for what is not finite."""
    lines = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return (
        json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
        if isinstance(value, float)
        else json.dumps(value)
    )
