"""How fast and how punctual the simulated instrument is, heard by a subscriber on the same machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from eelstm_stream.errors import EelstmError
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.listener import Listener
from eelstm_stream.io.recordings import Recording, save_recording
from eelstm_stream.io.sockets import DEFAULT_INSTRUMENT
from eelstm_stream.io.stopping import Stop
from eelstm_stream.rig import ANY_PORT
from eelstm_stream.wire.messages import EnergyAxis, Gap, SessionEnd, SessionStart, Spectrum

CHANNELS = 2048
DWELL_S = 0.4  # of the simulated frames, which only the speed turns into time
PRESET = "stable"  # every frame has all of its noise; any other specimen has thinned away after some thousand frames
TIMED_DWELL_S = 0.08  # the paper's shortest
SETTLE_S = 1.0  # until the rate is measured: the programs are warm then
SAMPLE_EVERY_S = 0.5
ENDLESS = 10_000_000  # frames: more than any benchmark waits for


@dataclass(slots=True)
class Heard:
    """What a subscriber heard of one instrument."""

    start: SessionStart | None = None
    spectra: int = 0
    last_seq: int = -1
    missed: int = 0  # numbers that were passed over
    said_lost: int = 0  # by the instrument itself
    ended: bool = False
    late_ms: list[float] = field(
        default_factory=list
    )  # by which each was sent after the end of its exposure, at speed 1

    def take(self, message: object, dwell_s: float) -> None:
        """Count one message in."""
        match message:
            case SessionStart():
                self.start = message
            case Spectrum() if self.start is not None:
                self.spectra += 1
                self.missed += message.seq - self.last_seq - 1
                self.last_seq = message.seq
                due_ns = self.start.sent_mono_ns + round((message.seq + 1) * dwell_s * 1e9)
                self.late_ms.append((message.sent_mono_ns - due_ns) / 1e6)
            case Gap():
                self.said_lost += message.last_seq - message.first_seq + 1
            case SessionEnd():
                self.ended = True
            case _:
                pass


@dataclass(frozen=True, slots=True)
class Sample:
    """How far an instrument had come at a time."""

    at_s: float
    cpu_s: float  # that its process had used, with its ZeroMQ thread
    spectra: int  # heard so far


def measure_instrument(seconds: float, timing_seconds: float, rate: float) -> dict[str, float | int]:
    """Spectra per second at full speed, losses at a steady rate, and lateness in real time at the paper's shortest dwell.

    spectra_per_cpu_s is the rate of one core: it counts the time of all of the instrument's threads, and no other program's.
    """
    simulated = ("run", "--preset", PRESET, "--fixed", "--frames", str(ENDLESS), "--dwell", str(DWELL_S))
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = ("full speed", f"{rate:g} spectra/s", f"real time, {TIMED_DWELL_S:g} s dwell")
        tasks = [progress.add_task(name, total=1.0) for name in names]
        tells = [partial(_tell, progress, task) for task in tasks]
        _, samples = _hear((*simulated, "--speed", "max"), seconds, stop, tells[0])
        first, last = next(s for s in samples if s.at_s >= SETTLE_S), samples[-1]
        steady, _ = _hear((*simulated, "--speed", f"{rate * DWELL_S:.9g}"), seconds, stop, tells[1])
        played = ("replay", str(_recording(folder, timing_seconds)))
        timed, _ = _hear(played, timing_seconds, stop, tells[2])
    spectra = last.spectra - first.spectra
    late_ms = np.array(timed.late_ms)
    tenth = max(1, len(late_ms) // 10)
    return {
        "max_spectra_per_s": round(spectra / (last.at_s - first.at_s), 1),
        "spectra_per_cpu_s": round(spectra / (last.cpu_s - first.cpu_s), 1),
        "steady_rate_per_s": rate,
        "steady_spectra": steady.spectra,
        "steady_missed": steady.missed + steady.said_lost,
        "timed_spectra": timed.spectra,
        "timed_missed": timed.missed + timed.said_lost,
        "late_p50_ms": round(float(np.median(late_ms)), 3),
        "late_p99_ms": round(float(np.percentile(late_ms, 99)), 3),
        "late_max_ms": round(float(late_ms.max()), 3),
        "drift_ms": round(float(np.median(late_ms[-tenth:]) - np.median(late_ms[:tenth])), 3),
    }


def _tell(progress: Progress, task: TaskID, share: float) -> None:
    progress.update(task, completed=share)


def _hear(
    source: Sequence[str], seconds: float, stop: Stop, tell: Callable[[float], None]
) -> tuple[Heard, list[Sample]]:
    """Start an instrument, and hear it for so long; then it is told to end, and heard to its end."""
    heard = Heard()
    with Child("sim", *source, "--publish", ANY_PORT, "--snapshot", ANY_PORT, "--wait-readers", "1") as simulator:
        listener = Listener(DEFAULT_INSTRUMENT, stop)
        try:
            listener.subscribe(simulator.wait_until_ready(stop)["publish"], ("session", "spectrum"))
            samples: list[Sample] = []
            began_ns, asked = clock.monotonic_ns(), False
            while not heard.ended:
                for decoded, _ in listener.hear(100):
                    heard.take(decoded.message, TIMED_DWELL_S)
                if stop.requested:
                    raise EelstmError("stopped before the end: nothing was measured.")
                if not simulator.is_running and not asked:
                    raise EelstmError(f"the simulator has ended: {simulator.last_words()}")
                if heard.start is None:
                    began_ns = clock.monotonic_ns()
                    continue
                at_s = (clock.monotonic_ns() - began_ns) / 1e9
                if not asked and (not samples or at_s - samples[-1].at_s >= SAMPLE_EVERY_S):
                    samples.append(Sample(at_s, _cpu_s(simulator.process.pid), heard.spectra))
                    tell(min(1.0, at_s / seconds))
                if at_s >= seconds and not asked:
                    simulator.process.terminate()
                    asked = True
        finally:
            listener.close()
    return heard, samples


def _cpu_s(pid: int) -> float:
    """CPU time that a process has used, s."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _recording(folder: Path, seconds: float) -> Path:
    """A recording that lasts for longer than this at the timed dwell."""
    frames = int(seconds / TIMED_DWELL_S) + 100
    random = np.random.default_rng(0)
    recording = Recording(
        counts=random.integers(5_000, 12_000, (frames, CHANNELS)).astype(np.float32),
        energy_axis=EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=CHANNELS),
        dwell_s=np.full(frames, TIMED_DWELL_S),
        beam_current_pA=None,
        beam_energy_keV=None,
        convergence_mrad=None,
        collection_mrad=None,
        specimen="",
        name="benchmark",
    )
    path = folder / "benchmark.hspy"
    save_recording(recording, path)
    return path
