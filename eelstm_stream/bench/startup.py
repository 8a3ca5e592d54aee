"""How long a person waits: for the help text, and for a forecaster that is ready."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from eelstm_stream.io.children import Child
from eelstm_stream.rig import ANY_PORT


def measure_startup(runs: int, model: Path | None) -> dict[str, float | int]:
    """Medians and maxima over several starts, s, after one that warms the file cache; and memory when ready."""
    arguments = ("serve", "--publish", ANY_PORT, *(("--model", str(model)) if model is not None else ()))
    help_s, ready_s, rss_MB = [], [], []
    for _ in range(runs + 1):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "eelstm_stream", "--help"], check=True, stdout=subprocess.DEVNULL)
        help_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        with Child(*arguments) as forecaster:
            forecaster.wait_until_ready()
            ready_s.append(time.perf_counter() - began_s)
            rss_MB.append(forecaster.rss_MB())
    return {
        "help_p50_s": round(float(np.median(help_s[1:])), 3),
        "help_max_s": round(max(help_s[1:]), 3),
        "serve_ready_p50_s": round(float(np.median(ready_s[1:])), 3),
        "serve_ready_max_s": round(max(ready_s[1:]), 3),
        "serve_ready_rss_MB": round(max(rss_MB), 1),
        "runs": runs,
    }
