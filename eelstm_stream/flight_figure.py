"""A picture of a controlled flight, with matplotlib: phase against its ceiling, dose of each frame, and the guard's mode, over time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eelstm_stream.core.flight_log import FlightLog
from eelstm_stream.errors import EelstmError
from eelstm_stream.flight_report import FlightReport
from eelstm_stream.io.recordings import Recording

mpl.use("agg")

MODE_COLOURS = {
    "disarmed": "#b8c4d0", "auto": "#70a040", "hold": "#e0b040", "override": "#8060b0", "blank": "#404040", "blank_latched": "#c03028",
}  # fmt: skip
TRUTH, ESTIMATE, CEILING = "0.15", "#3878b0", "#c03028"


def draw_flight(report: FlightReport, truth: Recording | None, path: Path) -> None:
    """Draw into a file. truth: the frames with their true phases, where it was a simulation. Raises EelstmError where it can't be written."""
    log = report.log
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    phase, dose, mode = figure.subplots(3, 1, sharex=True, height_ratios=(3.2, 1.6, 0.35))
    ends_s = [frame.ended_s for frame in log.frames]
    _draw_phase(phase, report, truth)
    dose.bar(
        [end_s - frame.dwell_s / 2 for end_s, frame in zip(ends_s, log.frames, strict=True)],
        [frame.dose_pC for frame in log.frames],
        width=[frame.dwell_s * 0.9 for frame in log.frames],
        color="#a08040",
    )
    dose.set_ylabel("dose of a frame, pC")
    _draw_modes(mode, log, max([*ends_s, *(at_s for at_s, _ in log.modes)], default=1.0))
    mode.set_xlabel("time of the instrument since the session began, s")
    kind = (
        "SIMULATED data" if log.start is not None and log.start.source == "simulation" else "a recording, flown by dose"
    )
    name = "" if log.start is None else log.start.source_name
    figure.suptitle(f"One flight under control, preset {report.preset}: {name} ({kind})", fontsize=11)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from None


def _draw_phase(axes: Axes, report: FlightReport, truth: Recording | None) -> None:
    log = report.log
    if log.estimates:
        at_s = [at_s for at_s, _ in log.estimates]
        low, high = ([getattr(phase, end) for _, phase in log.estimates] for end in ("low", "high"))
        axes.fill_between(at_s, low, high, color=ESTIMATE, alpha=0.25, lw=0, label="its interval, 95 %")
        axes.plot(
            at_s, [phase.value for _, phase in log.estimates], color=ESTIMATE, label="phase by the forecasts so far"
        )
    if truth is not None and truth.phase is not None and len(truth.phase) == len(log.frames):
        middle_s = [frame.ended_s - frame.dwell_s / 2 for frame in log.frames]
        axes.plot(middle_s, truth.phase, ".", ms=4, color=TRUTH, label="true phase of each frame")
    if report.ceiling is not None:
        axes.axhline(report.ceiling, color=CEILING, ls="--", lw=1.2, label=f"ceiling {report.ceiling:g}")
        top = max([report.ceiling, *(phase.value for _, phase in log.estimates)])
        axes.set_ylim(-0.02, min(1.05, 1.35 * top))
    else:
        axes.set_ylim(-0.02, 1.05)
    axes.set_ylabel("phase since the start")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_modes(axes: Axes, log: FlightLog, until_s: float) -> None:
    seen = set()
    for (from_s, mode), (to_s, _) in pairwise([*log.modes, (until_s, "")]):
        label = None if mode in seen else mode.replace("_", " ")
        seen.add(mode)
        axes.barh(0, to_s - from_s, left=from_s, color=MODE_COLOURS.get(mode, "0.5"), label=label)
    axes.set_yticks([0], ["guard"])
    axes.set_xlim(0, np.ceil(until_s))
    if seen:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -1.6), ncols=6, fontsize=8, frameon=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
