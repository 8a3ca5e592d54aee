"""What onnxruntime does on its own, with no sockets and nothing around it: the yardstick of the other benchmarks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.models import PAPER_MODEL

WARM_UP = 5


# The paper's network, not the one that is served by default: it is the dearest that anybody has proposed for this.
BENCHMARK_MODEL = PAPER_MODEL


def open_benchmark_model(path: Path | None) -> Model:
    """The model to measure: the paper's network if none is named."""
    return open_model(path or BENCHMARK_MODEL)


def inference_times_s(model: Model, batch: int, seconds: float, *, rate_per_s: float | None = None) -> list[float]:
    """Durations of single calls, s, of the served model on `(batch, window, channel)`.

    rate_per_s: calls a second; back to back if not given. A call that comes after a pause finds its weights out of the
    cache and the core asleep, and takes longer for it.
    """
    meta = model.metadata
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 200, (batch, meta.window, meta.energy_axis.size))
    windows = (meta.alignment_reference + noise).astype(np.float32)
    history = windows.mean(axis=1)
    for _ in range(WARM_UP):
        model.forecast(windows, history)
    times_s: list[float] = []
    began_s = time.perf_counter()
    never = threading.Event()
    while time.perf_counter() - began_s < seconds:
        if rate_per_s is not None:
            never.wait(max(0.0, began_s + (len(times_s) + 1) / rate_per_s - time.perf_counter()))
        before_s = time.perf_counter()
        model.forecast(windows, history)
        times_s.append(time.perf_counter() - before_s)
    return times_s
