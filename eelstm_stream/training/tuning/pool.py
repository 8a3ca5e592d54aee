"""The workers of a search on this machine: started, listened to, replaced when they are killed, and gone when this is."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from eelstm_stream.errors import EelstmError
from eelstm_stream.io.stopping import Stop
from eelstm_stream.training.tuning.search import Search
from eelstm_stream.training.tuning.storage import Place
from eelstm_stream.training.tuning.study import release_dead
from eelstm_stream.training.tuning.worker import Order

KILLED_AT_MOST = 3  # workers; more than that is no accident
ENDS_WITHIN_S = 10.0
LOOK_EVERY_S = 3600.0  # whatever happens wakes it

Say = Callable[[Mapping[str, Any]], None]


class WorkerError(EelstmError):
    """A worker has failed; says what it said, and exits as it did."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def run_workers(search: Search, place: Place, study: Any, workers: int, say: Say) -> None:
    """Run workers until the study has as many trials as asked, or what is missing is at hand on other machines.

    say: told what a worker says of its trial, as `{"trial": …, "epoch": …, "validation_rmse": …}`. Raises WorkerError where
    one fails, EelstmError where they keep being killed, KeyboardInterrupt where the end is asked for. However it ends, no
    worker is left, and their trials are queued.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    running: dict[int, _Worker] = {}
    killed = 0
    # Not Python's own way with Ctrl-C: raised in the middle of a library's work, it may be swallowed there.
    with Stop() as stop:
        try:
            for lane in range(workers):
                running[lane] = _Worker(search, place, lane, threads)
            while running:
                if stop.wait(LOOK_EVERY_S, *(worker.out for worker in running.values())):
                    raise KeyboardInterrupt
                for lane in _speaking(running):
                    line = running[lane].out.readline()
                    if line:
                        say(json.loads(line))
                        continue
                    if _end(running.pop(lane)):
                        release_dead(study)
                        killed += 1
                        # It may have left a trial to a study whose other workers found nothing more to take, and ended.
                        _require_rarely(killed)
                        running[lane] = _Worker(search, place, lane, threads)
        finally:
            for worker in running.values():
                worker.close()
            release_dead(study)


def _speaking(running: Mapping[int, _Worker]) -> list[int]:
    """Lanes of the workers that have said something, or ended."""
    ready, _, _ = select.select([worker.out for worker in running.values()], [], [], 0)
    return [lane for lane, worker in running.items() if worker.out in ready]


def _end(worker: _Worker) -> bool:
    """Whether a worker that has ended was killed. Raises WorkerError where it failed."""
    with worker:
        code = worker.process.wait()
        if code > 0:
            raise WorkerError(worker.last_words(), code)
    return code < 0


def _require_rarely(killed: int) -> None:
    if killed > KILLED_AT_MOST:
        raise EelstmError(
            "workers keep being killed, as the system does where memory runs out: the same command with fewer --workers "
            "goes on."
        )


class _Worker:
    """One process."""

    def __init__(self, search: Search, place: Place, lane: int, threads: int) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; closed on exit
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eelstm_stream.training.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # what waits in a buffer of ours, no selector sees
            # With more threads than cores, all workers together are slower than one.
            env=os.environ
            | {name: str(threads) for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")},
            start_new_session=True,  # Ctrl-C reaches the starter alone, which ends the others in order
        )
        assert self.process.stdin is not None  # noqa: S101 - it was started with pipes
        assert self.process.stdout is not None  # noqa: S101
        self.out = self.process.stdout
        order = Order(search=search.to_json(), journal=place.journal, url=place.url, study=place.study, lane=lane)
        # By the pipe, not by arguments: a database's password would stand in the list of processes.
        with suppress(BrokenPipeError):  # it ended at once; why, is seen with its exit code
            self.process.stdin.write(order.model_dump_json().encode() + b"\n")

    def last_words(self) -> str:
        """Last line that it wrote on stderr."""
        self._log.flush()
        size = os.fstat(self._log.fileno()).st_size
        lines = os.pread(self._log.fileno(), 4000, max(0, size - 4000)).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "a worker ended without a word"

    def close(self) -> None:
        """End it; returns when it is gone."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
