"""`eelstm bench loop`: how long it takes from a spectrum to the command that follows from it, through the real processes.

Simulator, forecaster, controller and guard run on this machine and share its monotonic clock, by which each message says when it
was sent; so nothing is measured but what they say themselves. The guard makes each lease durable before it commands, so what
the disk takes for that is measured beside it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from controller.operating import Operator, OperatorSettings
from eelstm_stream.errors import EelstmError
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.listener import Listener
from eelstm_stream.io.sockets import DEFAULT_INSTRUMENT
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Decision,
    GuardStatus,
    Message,
    OperatorCommand,
    Proposal,
    Summary,
)

DWELL_S = 0.4  # of the simulated instrument, whose time runs faster than the clock for more spectra per second
SETTLES_WITHIN_S = 60.0
FSYNCS = 200
ENTRY_BYTES = 3000  # of a step in the journal, about
SETTINGS = """
[guard]
budget_pC = 1e12
max_current_pA = 500.0
max_lease_s = 60.0
increase_pA_per_s = 1e6

[control]
max_lease_s = 60.0
lease_slack_s = 20.0
"""


@dataclass(slots=True)
class Heard:
    """Times of each step of the loop, ns, by proposal."""

    summaries: dict[tuple[str, int], Summary] = field(default_factory=dict)
    proposals: dict[int, Proposal] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    guard: GuardStatus | None = None
    controller: ControllerStatus | None = None
    solves_ns: list[int] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """Remember one message."""
        match message:
            case Summary():
                self.summaries[message.session, message.from_seq] = message
            case Proposal():
                self.proposals[message.seq] = message
            case Decision() if message.acknowledged_mono_ns is not None and message.proposal_seq is not None:
                self.decisions.append(message)
            case GuardStatus():
                self.guard = message
            case ControllerStatus():
                self.controller = message
                if message.solve_ns is not None:
                    self.solves_ns.append(message.solve_ns)
            case _:
                pass

    def steps_ms(self) -> dict[str, list[float]]:
        """Durations of each step, ms, of every command that followed from a forecast."""
        steps: dict[str, list[float]] = {name: [] for name in ("forecast", "plan", "decide", "command", "total")}
        for decision in self.decisions:
            proposal = self.proposals.get(decision.proposal_seq or 0)
            if proposal is None or proposal.spectrum_sent_mono_ns is None:
                continue
            summary = self.summaries.get((proposal.session, proposal.from_seq))
            if summary is None or decision.decided_mono_ns is None or decision.acknowledged_mono_ns is None:
                continue
            times = (
                proposal.spectrum_sent_mono_ns,
                summary.sent_mono_ns,
                proposal.sent_mono_ns,
                decision.decided_mono_ns,
                decision.acknowledged_mono_ns,
            )
            for name, began, ended in zip(steps, times, times[1:], strict=False):
                steps[name].append((ended - began) / 1e6)
            steps["total"].append((times[-1] - times[0]) / 1e6)
        return steps


class Loop:
    """The four programs, and a listener to all of them."""

    def __init__(self, rate_per_s: float, folder: Path, journal: Path, stop: Stop) -> None:
        """Start them, and arm the guard. Raises EelstmError where one doesn't start."""
        at = {
            name: f"ipc://{folder}/{name}"
            for name in ("publish", "snapshot", "command", "forecasts", "proposals", "guard", "operator")
        }
        config = folder / "settings.toml"
        config.write_text(SETTINGS, encoding="utf-8")
        common, instrument = ("--config", str(config)), ("--spectra", at["publish"], "--snapshot", at["snapshot"])
        simulated = ("sim", "run", "--obey", "--preset", "stable", "--speed", f"{rate_per_s * DWELL_S:.9g}")
        lines = (
            (*simulated, "--publish", at["publish"], "--snapshot", at["snapshot"], "--command", at["command"]),
            ("serve", *common, *instrument, "--publish", at["forecasts"]),
            (
                *("control", *common, *instrument, "--forecasts", at["forecasts"], "--guard", at["guard"]),
                *("--publish", at["proposals"]),
            ),
            (
                *("guard", *common, *instrument, "--command", at["command"], "--proposals", at["proposals"]),
                *("--publish", at["guard"], "--operator", at["operator"], "--journal", str(journal)),
            ),
        )
        self.heard = Heard()
        self._stop = stop
        self._stack = ExitStack()
        try:
            self._listener = Listener(DEFAULT_INSTRUMENT, stop)
            self._stack.callback(self._listener.close)
            for name, kinds in (
                ("forecasts", ("summary",)),
                ("proposals", ("proposal", "status")),
                ("guard", ("decision", "status")),
            ):
                self._listener.subscribe(at[name], kinds)
            self._programs = [self._stack.enter_context(Child(*line)) for line in lines]
            for program in self._programs:
                program.wait_until_ready(stop)
            self._operator = OperatorSettings(guard=at["guard"], operator=at["operator"])
            self._arm()
        except BaseException:
            self._stack.close()
            raise

    def _arm(self) -> None:
        self._hear_until(
            lambda: self.heard.guard is not None and self.heard.guard.readback is not None, "guard's word of the beam"
        )
        guard = self.heard.guard
        assert guard is not None  # noqa: S101 - it has been heard
        now_ns = clock.monotonic_ns()
        command = OperatorCommand(
            action="arm", session=guard.session, seq=0, sent_mono_ns=now_ns, expires_mono_ns=now_ns + 5_000_000_000,
            operator="eelstm bench loop",
        )  # fmt: skip
        with Operator(self._operator) as operator:
            reply = operator.send(command)
        if reply is None or reply.outcome != "accepted":
            raise EelstmError(f"the guard wasn't armed: {'no answer' if reply is None else reply.reason}")
        self._hear_until(
            lambda: self.heard.controller is not None and self.heard.controller.state == "controlling",
            "controller's first plan",
        )

    def _hear_until(self, is_so: Callable[[], bool], what: str) -> None:
        until_ns = clock.monotonic_ns() + round(SETTLES_WITHIN_S * 1e9)
        while not is_so():
            if clock.monotonic_ns() > until_ns:
                raise EelstmError(f"the {what} was not heard within {SETTLES_WITHIN_S:g} s.")
            self.hear()

    def hear(self) -> None:
        """Take in what has come. Raises where a program has ended, or the end is asked for."""
        for decoded, _ in self._listener.hear(100):
            self.heard.take(decoded.message)
        if self._stop.requested:
            raise EelstmError("stopped before the end: nothing was measured.")
        for program in self._programs:
            if not program.is_running:
                raise EelstmError(f"eelstm {program.name} has ended: {program.last_words()}")

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def measure_loop(seconds: float, rate_per_s: float, journal: Path | None) -> dict[str, float | int]:
    """Percentiles of each step, ms. journal: folder for the guard's journal; by default the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    place = journal or Path(state) / "eelstm"
    place.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix="loop") as folder,
        tempfile.TemporaryDirectory(prefix="bench-loop-", dir=place) as disk,
        Stop() as stop,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        fsyncs_ms = list(_fsyncs_ms(Path(disk) / "probe"))
        with Loop(rate_per_s, Path(folder), Path(disk) / "journal", stop) as loop:
            loop.heard = Heard()  # what came while the programs warmed up is not the loop's
            task = progress.add_task(f"{rate_per_s:g} spectra/s", total=seconds)
            began_s = time.perf_counter()
            while (gone_s := time.perf_counter() - began_s) < seconds:
                loop.hear()
                progress.update(task, completed=gone_s)
            heard = loop.heard
    steps = heard.steps_ms()
    if not steps["total"]:
        raise EelstmError("no command followed from a forecast: nothing was measured.")
    figures: dict[str, float | int] = {
        "rate_per_s": rate_per_s,
        "spectra": len(heard.summaries),
        "commands": len(steps["total"]),
    }
    for name, durations in (*steps.items(), ("solve", [ns / 1e6 for ns in heard.solves_ns]), ("fsync", fsyncs_ms)):
        for label, percent in (("p50", 50), ("p99", 99)):
            figures[f"{name}_{label}_ms"] = round(float(np.percentile(durations, percent)), 3) if durations else 0.0
    figures["total_max_ms"] = round(max(steps["total"]), 3)
    return figures


def _fsyncs_ms(file: Path) -> Iterator[float]:
    """What it takes to append an entry and have it on the disk, as the journal does."""
    entry = b"x" * ENTRY_BYTES + b"\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(FSYNCS):
            began_ns = clock.monotonic_ns()
            os.write(descriptor, entry)
            os.fsync(descriptor)
            yield (clock.monotonic_ns() - began_ns) / 1e6
    finally:
        os.close(descriptor)


STEPS = {
    "forecast": "spectrum published → summary published (eelstm serve)",
    "plan": "→ proposal published (eelstm control)",
    "decide": "→ guard has decided",
    "command": "→ lease on the disk, command sent, acknowledged",
    "total": "spectrum published → command acknowledged",
    "solve": "of the plan: the solve alone",
    "fsync": "of the command: an entry of the journal on the disk, alone",
}


def print_loop_benchmark(seconds: float, rate_per_s: float, journal: Path | None, *, as_json: bool) -> None:
    """Measure, and print."""
    figures = measure_loop(seconds, rate_per_s, journal)
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(
        f"{figures['commands']} commands from {figures['spectra']} forecasts at {rate_per_s:g} spectra/s; ms\n\n"
    )
    sys.stdout.write(f"{'':<62}{'p50':>8}{'p99':>8}\n")
    for name, meaning in STEPS.items():
        sys.stdout.write(f"{meaning:<62}{figures[f'{name}_p50_ms']:>8.2f}{figures[f'{name}_p99_ms']:>8.2f}\n")
    sys.stdout.write(f"{'the slowest':<70}{figures['total_max_ms']:>8.2f}\n")
