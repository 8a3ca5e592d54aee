"""Our programs as processes, with the tests' own sockets and eyes on them: what the process-level tests stand on.

Nothing here sleeps in place of an event, and no test asserts how long something takes: WITHIN_S only ends a wait for what
never comes.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.wire.codec import Decoded, decode, encode
from eelstm_stream.wire.messages import (
    EnergyAxis,
    Forecast,
    Gap,
    Message,
    SessionEnd,
    SessionStart,
    Spectrum,
    Status,
)
from tests.model_files import reference_spectrum

WITHIN_S = 120.0
AT_ONCE = 4
ANY_PORT = "tcp://127.0.0.1:*"
NOWHERE = "tcp://127.0.0.1:9"  # discard: nobody answers there
CAMERA = EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048)  # as in the paper
MARK = "STARTED_BY_THIS_TEST"  # in the environment of what a test starts, and so of all that this starts in its turn


# Processes


@dataclass(frozen=True)
class Finished:
    """A command line that has run to its end."""

    code: int
    out: str
    err: str
    left_behind: list[int]  # processes that it started and that outlived it

    def figures(self) -> dict[str, Any]:
        """The one JSON object on its stdout."""
        [line] = self.out.splitlines()
        figures: dict[str, Any] = json.loads(line)
        return figures


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "eelstm_stream", *map(str, arguments)]


def marked_environment(mark: str, **changes: str) -> dict[str, str]:
    """This environment without settings of ours, with a mark by which every process that inherits it is found."""
    return {k: v for k, v in os.environ.items() if not k.startswith("EELSTM_")} | changes | {MARK: mark}


def run(*arguments: str | Path, **environment: str) -> Finished:
    """Run a command line of ours to its end."""
    mark = uuid.uuid4().hex
    done = subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        env=marked_environment(mark, **environment),
    )
    return Finished(done.returncode, done.stdout, done.stderr, marked(mark))


def run_all(lines: Mapping[str, Sequence[str | Path]]) -> dict[str, Finished]:
    """Run command lines to their ends, a few beside each other; by name."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(lines, pool.map(lambda line: run(*line), lines.values()), strict=True))


@contextmanager
def running(*arguments: str | Path, **options: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command line of ours while it runs, in a session of its own, and the mark of it and its children; killed at the end."""
    mark = uuid.uuid4().hex
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(
        command(*arguments), text=True, env=marked_environment(mark), start_new_session=True, **pipes
    ) as process:
        try:
            yield process, mark
        finally:
            process.kill()
            for pid in marked(mark):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Processes with this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


@contextmanager
def watched(pids: Iterable[int]) -> Iterator[list[int]]:
    """Descriptors that become readable when the processes end."""
    descriptors = [os.pidfd_open(pid) for pid in pids]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def wait_until_gone(descriptors: list[int]) -> None:
    """Wait for the end of every process of `watched`."""
    for descriptor in descriptors:
        readable, _, _ = select.select([descriptor], [], [], WITHIN_S)
        assert readable, "a process is still there"


def pause(process: subprocess.Popen[Any]) -> None:
    """Stop a process, and return once it stands still."""
    process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def let_pass(seconds: float) -> None:
    """Let this much of the monotonic clock go by: where time itself is what is waited for."""
    until_ns = clock.monotonic_ns() + round(seconds * 1e9)
    while (left_ns := until_ns - clock.monotonic_ns()) > 0:
        select.select([], [], [], left_ns / 1e9)


def on_terminal(*arguments: str | Path, rows: int = 50, columns: int = 160) -> tuple[int, str]:
    """Exit code and screen output of a command line that runs in a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = marked_environment(uuid.uuid4().hex, TERM="xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        command(*arguments), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:  # EIO: no process holds the other end any more
                break
            shown += part
        os.close(master)
        return process.wait(WITHIN_S), shown.decode(errors="replace")


# The wire


class Ears:
    """Subscribes to kinds of messages at one or more endpoints, and waits for what is expected to come."""

    def __init__(self, kinds: Iterable[str], *endpoints: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        for kind in kinds:
            self._socket.setsockopt(zmq.SUBSCRIBE, f"microscope.{kind}.".encode())
        for endpoint in endpoints:
            self._socket.connect(endpoint)

    def next_frames(self, within_s: float = WITHIN_S) -> list[bytes]:
        assert self._socket.poll(max(0.0, within_s) * 1000), "nothing was heard"
        return self._socket.recv_multipart()

    def until(self, wanted: Callable[[Message], bool]) -> list[Decoded]:
        """Everything up to the first wanted message, which comes last."""
        until_ns = clock.monotonic_ns() + round(WITHIN_S * 1e9)
        heard: list[Decoded] = []
        while not heard or not wanted(heard[-1].message):
            left_s = (until_ns - clock.monotonic_ns()) / 1e9
            assert left_s > 0, f"not heard within {WITHIN_S:g} s; the last of {len(heard)} messages was {heard[-1:]}"
            heard.append(decode(self.next_frames(left_s)))
        return heard

    def forecast(self, from_seq: int, session: str | None = None) -> Decoded:
        """The forecast made from this spectrum, after whatever else is heard before it."""

        def is_it(message: Message) -> bool:
            right_session = session is None or message.session == session
            return isinstance(message, Forecast) and message.from_seq == from_seq and right_session

        return self.until(is_it)[-1]

    def status(self, wanted: Callable[[Status], bool]) -> Status:
        """The first status of this sort."""
        message = self.until(lambda m: isinstance(m, Status) and wanted(m))[-1].message
        assert isinstance(message, Status)
        return message

    def session(self) -> list[Decoded]:
        """A whole session, from its start to its end."""
        heard = self.until(lambda m: isinstance(m, SessionEnd))
        assert isinstance(heard[0].message, SessionStart)
        return heard

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> Ears:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def noisy_spectrum(seed: int, axis: EnergyAxis = CAMERA) -> np.ndarray:
    """`(channel,)` float32 counts like SrTiO3's, each seed with noise of its own."""
    noise = np.random.default_rng(seed).normal(0, 100, axis.size)
    return (reference_spectrum(axis) + noise).astype(np.float32)


class Instrument:
    """An instrument that the test plays itself, bound where a forecaster looks for one."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.out = self._context.socket(zmq.XPUB)
        self.out.setsockopt(zmq.XPUB_VERBOSER, 1)
        self.out.bind(ANY_PORT)
        self.snapshots = self._context.socket(zmq.ROUTER)
        self.snapshots.bind(ANY_PORT)
        self.start: SessionStart | None = None
        self.sent: dict[int, list[bytes]] = {}  # spectra of the session, encoded
        self.started: list[bytes] = []

    @property
    def arguments(self) -> list[str]:
        """Where `eelstm serve` finds it."""
        spectra, snapshot = (s.getsockopt_string(zmq.LAST_ENDPOINT) for s in (self.out, self.snapshots))
        return ["--spectra", spectra, "--snapshot", snapshot]

    def wait_for_reader(self) -> None:
        """Until somebody has subscribed to session and spectra."""
        wanted = {b"\1microscope.session.", b"\1microscope.spectrum."}
        while wanted:
            assert self.out.poll(WITHIN_S * 1000), "no reader came"
            wanted.discard(self.out.recv())

    def open(self, axis: EnergyAxis = CAMERA, **changes: Any) -> SessionStart:
        """Start a session."""
        fields: dict[str, Any] = {
            "session": uuid.uuid4().hex[:16],
            "seq": 0,
            "sent_mono_ns": clock.monotonic_ns(),
            "instrument": "microscope",
            "source": "instrument",
            "source_name": "a test",
            "energy_axis": axis,
            "dwell_s": 0.4,
            "dose_is_relative": True,
            "started_at": clock.utc_now(),
            "clock_id": clock.clock_id(),
        }
        self.start = SessionStart(**(fields | changes))
        self.sent = {}
        self.started = encode("microscope", self.start)
        self.out.send_multipart(self.started)
        return self.start

    def frames(self, seq: int, counts: np.ndarray | None = None, **changes: Any) -> list[bytes]:
        """A spectrum, encoded and not sent."""
        assert self.start is not None
        payload = noisy_spectrum(seq, self.start.energy_axis) if counts is None else counts
        fields: dict[str, Any] = {
            "session": self.start.session,
            "seq": seq,
            "sent_mono_ns": clock.monotonic_ns(),
            "dtype": payload.dtype.newbyteorder("<").str,
            "shape": payload.shape,
            "dwell_s": 0.4,
            "acquired_at": clock.utc_now(),
            "acquired_until": clock.utc_now(),
        }
        return encode("microscope", Spectrum(**(fields | changes)), payload)

    def expose(self, *seqs: int, counts: np.ndarray | None = None, **changes: Any) -> None:
        """Send spectra; each number has counts of its own."""
        for seq in seqs:
            self.sent[seq] = self.frames(seq, counts, **changes)
            self.out.send_multipart(self.sent[seq])

    def lose(self, first_seq: int, last_seq: int) -> None:
        """Say that spectra are lost."""
        assert self.start is not None
        gap = Gap(
            session=self.start.session, seq=1, sent_mono_ns=0, first_seq=first_seq, last_seq=last_seq, reason="a test"
        )
        self.out.send_multipart(encode("microscope", gap))

    def end(self) -> None:
        """End the session."""
        assert self.start is not None
        end = SessionEnd(session=self.start.session, seq=2, sent_mono_ns=0, reason="finished", spectra=len(self.sent))
        self.out.send_multipart(encode("microscope", end))

    def close(self) -> None:
        self._context.destroy(linger=0)


class Served:
    """A forecaster process between an instrument played by the test and the test's ears."""

    def __init__(self, model: Path, *arguments: str) -> None:
        with ExitStack() as stack:
            self.instrument = Instrument()
            stack.callback(self.instrument.close)
            self.forecaster = stack.enter_context(
                Child("serve", "--model", str(model), "--publish", ANY_PORT, *self.instrument.arguments, *arguments)
            )
            self.endpoint = self.forecaster.wait_until_ready()["publish"]
            self.ears = stack.enter_context(Ears(("forecast", "status"), self.endpoint))
            self.ears.status(lambda _: True)  # heard: so is whatever comes from now on
            self.instrument.wait_for_reader()
            self._stack = stack.pop_all()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
