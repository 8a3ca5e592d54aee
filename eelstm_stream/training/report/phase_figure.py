"""The damage coordinate, forecast and measured."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from eelstm_stream.training.report.shown_run import ShownRun
from eelstm_stream.training.report.style import CAME, FORECAST, TRUTH, figure_of, grid

CAPTION = (
    "Phase. Left: measured on each spectrum, and forecast for it. Of a simulated run the transformed fraction is drawn too; it is "
    "known exactly and has another scale, since phase is 0 and 1 on the training runs' first and last frames. Right: forecast against "
    "measured."
)


def draw_phase(shown: ShownRun) -> Figure:
    """Two panels."""
    prepared, metadata = shown.run.prepared, shown.assessment.metadata
    measured = metadata.phase(prepared.counts)
    target = shown.targets
    ahead = metadata.horizons[-1]
    with figure_of(shown.assessment, [shown.run], 3.6) as figure:
        places = grid(figure, 1, 2, width_ratios=(1.7, 1))
        left, right = (figure.add_subplot(places[0, column]) for column in (0, 1))
        left.plot(shown.time_s, measured, ".", color=CAME, ms=3, label="measured")
        if prepared.phase is not None:
            left.plot(shown.time_s, prepared.phase, color=TRUTH, ls="--", lw=1, label="transformed fraction (truth)")
        left.plot(shown.time_s[target], shown.phase, color=FORECAST, lw=1.5, label=f"forecast {ahead} steps before")
        left.set(xlabel="time (s)", ylabel="phase")
        lowest, highest = left.get_ylim()
        left.set_ylim(lowest, highest + 0.3 * (highest - lowest))  # room for the names
        left.legend(loc="upper left")
        both = np.concatenate([measured[target], np.asarray(shown.phase, dtype=np.float64)])
        low, high = float(both.min()) - 0.05, float(both.max()) + 0.05
        right.plot([low, high], [low, high], color="0.6", lw=0.8)
        right.plot(measured[target], shown.phase, ".", color=FORECAST, ms=4)
        rmse = float(np.sqrt(np.mean((shown.phase - measured[target]) ** 2)))
        right.set(xlabel="measured phase", ylabel="forecast phase", title=f"RMSE {rmse:.3f}")
        right.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    return figure
