"""Cells trained by several processes of one thread each: on two cores that takes three quarters of the time of two threads.

One thread also makes a result the same on a machine of any number of cores.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError
from eelstm_stream.io.recordings import Recording, load_recording
from eelstm_stream.training.reproduction.cells import Cell
from eelstm_stream.training.reproduction.train_cell import Result, TrainingSettings, train_cell

Triples = Sequence[Sequence[Path]]
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CellError(EelstmError):
    """A training that failed in another process; exits as it would have there."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def train_cells(
    cells: Sequence[Cell],
    triples: Triples,
    settings: TrainingSettings,
    *,
    workers: int,
    epoch: Callable[[Cell, int], object] = lambda cell, epoch: None,
) -> Iterator[tuple[Cell, Result]]:
    """Train the cells, and yield each with its result as it is done; all processes have ended when the iterator has.

    triples: files of the three runs that cells refer to by number. epoch: called for every epoch of a cell. Raises what the
    training raises, and EelstmError where a process ends unasked.
    """
    waiting = list(reversed(cells))
    context = get_context("spawn")
    processes: list[Any] = []
    busy: dict[Connection, Cell] = {}
    try:
        with _one_thread_each(), _interrupts_held_back():
            for _ in range(min(workers, len(cells))):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, triples, settings), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                busy[ours] = waiting.pop()
                ours.send(busy[ours])
        while busy:
            for connection in wait(list(busy)):
                cell = busy[connection]  # type: ignore[index]
                kind, said = _received(connection)  # type: ignore[arg-type]
                if kind == "epoch":
                    epoch(cell, said)
                elif kind == "failed":
                    raise CellError(*said)
                elif kind == "broken":
                    raise RuntimeError(said)
                else:
                    if waiting:
                        busy[connection] = waiting.pop()  # type: ignore[index]
                        connection.send(busy[connection])  # type: ignore[index,union-attr,arg-type]
                    else:
                        del busy[connection]  # type: ignore[arg-type]
                    yield cell, said
    finally:
        for process in processes:
            process.kill()  # it writes nothing that could be left half done
            process.join()


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise EelstmError(
            "a process that trained was ended from outside, perhaps for want of memory: the same command goes on where this one "
            "was; give it fewer --workers."
        ) from None


def _work(connection: Connection, triples: Triples, settings: TrainingSettings) -> None:
    """Train what comes, until the process that leads ends this one, or itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_follow, name="follows its leader", daemon=True).start()
    loaded: dict[int, list[Recording]] = {}
    with suppress(EOFError, BrokenPipeError):
        while True:
            cell: Cell = connection.recv()
            try:
                _limit_tensorflow()
                if cell.triple not in loaded:
                    loaded = {cell.triple: [load_recording(path) for path in triples[cell.triple]]}
                result = train_cell(
                    cell, loaded[cell.triple], settings, lambda epoch: connection.send(("epoch", epoch))
                )
            except EelstmError as error:
                connection.send(("failed", (f"{error} (in {cell})", error.exit_code)))
            except Exception:  # noqa: BLE001 - a mistake of ours, which the process that leads is to tell
                connection.send(("broken", f"in {cell}: {traceback.format_exc()}"))
            else:
                connection.send(("done", result))


def _follow() -> None:
    if leader := parent_process():
        leader.join()
        os._exit(1)


def _limit_tensorflow() -> None:
    from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow  # noqa: PLC0415

    _, tf = keras_and_tensorflow()
    tf.get_logger().setLevel("ERROR")  # it warns of a new graph for every cell, and every cell is a new network
    with suppress(RuntimeError):  # it is in use already, and so limited
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """For what is started meanwhile: linear algebra reads these when it is loaded."""
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
