"""Latency of the pipeline at a steady rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eelstm_stream.bench.measured_run import DWELL_S, measure
from eelstm_stream.bench.raw_inference import inference_times_s, open_benchmark_model
from eelstm_stream.errors import EelstmError

ALONE_S = 2.0  # onnxruntime alone, before and after, so that a machine that changes its pace shows in both


def measure_latency(rate_per_s: float, seconds: float, model: Path | None) -> dict[str, float | int]:
    """Publish to forecast received, ms, over real processes and sockets.

    `infer_p50_ms` is onnxruntime alone on one window, called at the same rate and in the same run; `infer_hot_p50_ms` is the
    same back to back, which no instrument's pace can reach.
    """
    opened = open_benchmark_model(model)
    alone_s = inference_times_s(opened, 1, ALONE_S, rate_per_s=rate_per_s)
    run = measure(f"{rate_per_s * DWELL_S:.9g}", round(rate_per_s * seconds), model, f"{rate_per_s:g} spectra/s")
    alone_s += inference_times_s(opened, 1, ALONE_S, rate_per_s=rate_per_s)
    hot_s = inference_times_s(opened, 1, ALONE_S)
    latencies_ms = np.array(run.tally.latencies_ms)
    if not latencies_ms.size:
        raise EelstmError("no forecast came: nothing was measured.")
    infer_p50_ms = float(np.median(alone_s)) * 1e3
    p50_ms, p99_ms = np.percentile(latencies_ms, (50, 99))
    return {
        "rate_per_s": rate_per_s,
        "p50_ms": round(float(p50_ms), 3),
        "p99_ms": round(float(p99_ms), 3),
        "max_ms": round(float(latencies_ms.max()), 3),
        "infer_p50_ms": round(infer_p50_ms, 3),
        "infer_hot_p50_ms": round(float(np.median(hot_s)) * 1e3, 3),
        "p50_over_infer_p50": round(float(p50_ms) / infer_p50_ms, 2),
        "served_infer_p50_ms": round(float(np.median(run.tally.inferences_ms)), 3),
        "spectra": run.tally.spectra,
        "forecasts": run.tally.forecasts,
        "missed": run.tally.missed,
    }
