"""One run of the real pipeline, heard to its end, with the forecaster's memory looked at on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eelstm_stream.bench.raw_inference import BENCHMARK_MODEL
from eelstm_stream.core.tally import Tally
from eelstm_stream.errors import EelstmError
from eelstm_stream.io.stopping import Stop
from eelstm_stream.rig import Rig

FRAMES = 2000  # of the simulated session that is played again and again
DWELL_S = 0.4
MEMORY_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What came of it."""

    tally: Tally
    seconds: float  # from the first spectrum heard to the end
    forecaster_rss_MB: tuple[float, ...]  # sampled from its first forecast to its last


def measure(speed: str, spectra: int, model: Path | None, title: str) -> MeasuredRun:
    """Play `spectra` simulated spectra through the pipeline and hear every forecast.

    Raises EelstmError where it is stopped before the end.
    """
    source = (
        "run",
        "--frames",
        str(min(FRAMES, spectra)),
        "--dwell",
        str(DWELL_S),
        "--speed",
        speed,
        "--loop",
        "--spectra",
        str(spectra),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rss_MB: list[float] = []
    first_s = 0.0
    with (
        Stop() as stop,
        Rig(source, stop=stop, kinds=("forecast",), model=model or BENCHMARK_MODEL) as rig,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task(title, total=spectra)
        sampled_s = 0.0
        while not rig.is_over:
            if stop.requested:
                raise EelstmError("stopped before the end: nothing was measured.")
            for _ in rig.hear(100):
                pass
            rig.check()
            now_s = time.perf_counter()
            if rig.tally.spectra and not first_s:
                first_s = now_s
            if now_s - sampled_s > MEMORY_EVERY_S:
                sampled_s = now_s
                progress.update(task, completed=rig.tally.spectra)
                if rig.tally.forecasts:
                    rss_MB.append(rig.forecaster.rss_MB())
        return MeasuredRun(rig.tally, time.perf_counter() - first_s, tuple(rss_MB))
