"""Inference beside the loop that feeds it: one batch at a time in a thread of its own, its end readable as a descriptor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.io import clock
from eelstm_stream.io.model_file import Model


@dataclass(frozen=True, slots=True)
class Inferred:
    """What came of a batch."""

    counts: NDArray[np.float32]  # (batch, horizon, channel)
    phase: NDArray[np.float32]  # (batch, horizon)
    inferred_ns: int  # duration


class InferenceThread:
    """Runs a model on batches. onnxruntime releases the interpreter while it computes, so the caller can go on meanwhile."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._done = os.eventfd(0)
        self._future: Future[Inferred] | None = None

    def fileno(self) -> int:
        """Readable when the batch is done."""
        return self._done

    @property
    def is_busy(self) -> bool:
        """Whether a batch has been started and its result not yet taken."""
        return self._future is not None

    def start(self, windows: Sequence[NDArray[np.float32]], history: Sequence[NDArray[np.float32]]) -> None:
        """Start a batch of windows `(window, channel)` with their histories `(channel,)`. One at a time."""
        if self._future is not None:
            raise RuntimeError("the batch before has not been taken")
        self._future = self._executor.submit(self._run, windows, history)
        self._future.add_done_callback(lambda _: os.eventfd_write(self._done, 1))

    def run_here(self, window: NDArray[np.float32], history: NDArray[np.float32]) -> Inferred:
        """Infer one window in the caller's thread, which spares two changes of thread. Raises InferenceError."""
        return self._run([window], [history])

    def take(self) -> Inferred:
        """The result of the batch; waits for it. Raises InferenceError where the answer is no forecast."""
        if self._future is None:
            raise RuntimeError("no batch was started")
        future, self._future = self._future, None
        try:
            return future.result()
        finally:
            os.eventfd_read(self._done)

    def close(self) -> None:
        """Let a running batch end, and the thread with it."""
        self._executor.shutdown()
        os.close(self._done)

    def _run(self, windows: Sequence[NDArray[np.float32]], history: Sequence[NDArray[np.float32]]) -> Inferred:
        began_ns = clock.monotonic_ns()
        counts, phase = self._model.forecast(np.stack(windows), np.stack(history))
        return Inferred(counts, phase, clock.monotonic_ns() - began_ns)
