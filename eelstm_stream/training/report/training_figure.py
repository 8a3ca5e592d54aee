"""How the training went."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.report.style import BLUE, FLOOR, FORECAST, figure_of, grid

CAPTION = (
    "Training curve. The training error is that of the network while it learns, so where it has dropout it may lie above the "
    "validation error. The noise floor is that of the runs evaluated here."
)


def draw_training(assessment: Assessment) -> Figure | None:
    """One panel; None where nobody kept the curve, or it has one point only."""
    curve = assessment.metadata.training_curve
    if len(curve) < 2:
        return None
    epochs = [point.epoch for point in curve]
    best = min(curve, key=lambda point: point.validation_rmse)
    with figure_of(assessment, [], 3.4) as figure:
        axes = figure.add_subplot(grid(figure, 1, 1)[0, 0])
        axes.plot(epochs, [p.training_rmse for p in curve], color=BLUE, lw=1.3, label="training")
        axes.plot(epochs, [p.validation_rmse for p in curve], color=FORECAST, lw=1.8, label="validation")
        axes.plot(
            best.epoch,
            best.validation_rmse,
            "o",
            color=FORECAST,
            ms=7,
            mfc="none",
            mew=1.5,
            label=f"best: {best.validation_rmse:.1f} in epoch {best.epoch}",
        )
        axes.axhline(
            assessment.evaluation.pooled[-1].noise_floor, color=FLOOR, ls=(0, (6, 3)), lw=1.2, label="noise floor"
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.set(xlabel="epoch", ylabel="RMSE (counts)")
        axes.legend(loc="upper right")
    return figure
