"""How many spectra a second the pipeline forecasts, and whether its memory stays where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eelstm_stream.bench.measured_run import DWELL_S, measure
from eelstm_stream.bench.raw_inference import inference_times_s, open_benchmark_model
from eelstm_stream.errors import EelstmError, UsageError

ALONE_S = 3.0


def measure_throughput(rate: str, spectra: int, model: Path | None) -> dict[str, float | int]:
    """Forecasts per second, and onnxruntime alone at the batch size that the service came to use in this run."""
    try:
        speed = rate if rate == "max" else f"{float(rate) * DWELL_S:.9g}"
    except ValueError:
        raise UsageError(f"--rate {rate}: give a number of spectra per second, or max.") from None
    opened = open_benchmark_model(model)
    run = measure(speed, spectra, model, f"{rate} spectra/s")
    if not run.tally.forecasts:
        raise EelstmError("no forecast came: nothing was measured.")
    batch = round(float(np.median(run.tally.batches)))
    alone_s = inference_times_s(opened, batch, ALONE_S)
    raw_per_s = batch * len(alone_s) / sum(alone_s)
    served_per_s = run.tally.forecasts / run.seconds
    settled = run.forecaster_rss_MB[len(run.forecaster_rss_MB) // 10 :] or (0.0,)
    tenth = max(1, len(settled) // 10)
    return {
        "spectra_per_s": round(run.tally.spectra / run.seconds, 1),
        "forecasts_per_s": round(served_per_s, 1),
        "batch": batch,
        "raw_windows_per_s": round(raw_per_s, 1),
        "share_of_raw": round(served_per_s / raw_per_s, 3),
        "spectra": run.tally.spectra,
        "forecasts": run.tally.forecasts,
        "missed": run.tally.missed,
        "rss_early_MB": round(float(np.median(settled[:tenth])), 1),
        "rss_late_MB": round(float(np.median(settled[-tenth:])), 1),
        "rss_max_MB": round(max(run.forecaster_rss_MB, default=0.0), 1),
    }
