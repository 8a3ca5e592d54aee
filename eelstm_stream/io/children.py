"""Programs of ours started as processes: ready before they are used, and gone when their starter is, however it ends."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO

from eelstm_stream.errors import EelstmError
from eelstm_stream.io.stopping import Stop

READY_WITHIN_S = 60.0  # a cold disk may take long over onnxruntime; a warm one takes under a second
STOP_WITHIN_S = 10.0


class ChildError(EelstmError):
    """A program that was started has failed; says what it said, and exits as it did."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Child:
    """One `eelstm` subcommand running as a process. It ends by itself when this process does."""

    def __init__(self, *arguments: str, module: str = "eelstm_stream", stderr: int | None = None) -> None:
        """Start it. arguments: those of the command line; the program must know --json and --with-parent.

        module: what to run, where it's not this program itself. stderr: descriptor that it writes to, instead of into a log.
        """
        self.name = " ".join(arguments[:2]) if arguments[0] == "sim" else arguments[0]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; closed on exit
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--json", "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log if stderr is None else stderr,
            start_new_session=True,  # Ctrl-C reaches the starter alone, which ends the others in order
        )

    def wait_until_ready(self, stop: Stop | None = None) -> dict[str, str]:
        """The endpoints that it announces.

        Raises ChildError where it ends instead, EelstmError where it takes too long, KeyboardInterrupt where `stop` is
        requested meanwhile.
        """
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        if stop is not None and stop.wait(READY_WITHIN_S, self.process.stdout):
            raise KeyboardInterrupt
        readable, _, _ = select.select([self.process.stdout], [], [], READY_WITHIN_S if stop is None else 0)
        if not readable:
            self.stop()
            raise EelstmError(
                f"eelstm {self.name} was not ready within {READY_WITHIN_S:g} s; it said: {self.last_words()}"
            )
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait(STOP_WITHIN_S)
            raise ChildError(self.last_words().removeprefix("eelstm: "), code if code > 0 else 1)
        announced: dict[str, str] = json.loads(line)
        return announced

    def last_words(self) -> str:
        """Last line that it wrote on stderr."""
        self._log.flush()
        size = os.fstat(self._log.fileno()).st_size
        lines = os.pread(self._log.fileno(), 4000, max(0, size - 4000)).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"

    @property
    def is_running(self) -> bool:
        """Whether the process still lives."""
        return self.process.poll() is None

    def rss_MB(self) -> float:
        """Resident memory, MB; 0 where the process has ended or the system does not tell."""
        try:
            with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
                kilobytes = next((line.split()[1] for line in status if line.startswith("VmRSS:")), "0")
        except OSError:
            return 0.0
        return int(kilobytes) * 1024 / 1e6

    def stop(self) -> None:
        """End it, by request and then by force; returns when it is gone."""
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()
