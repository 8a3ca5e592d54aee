"""How the training went."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.report.style import BLUE, FORECAST, figure_of, grid, legend_below

CLOSER = 1.1  # of the best validation error: what the second panel shows of it

CAPTION = (
    "Training curve: both errors, and the validation error alone, by which the training was stopped. The training error is that of the "
    "network while it learns, so where it has dropout it may lie above the validation error; and other runs have another noise floor."
)


def draw_training(assessment: Assessment) -> Figure | None:
    """Two panels; None where nobody kept the curve, or it has one point only."""
    curve = assessment.metadata.training_curve
    if len(curve) < 2:
        return None
    best = min(curve, key=lambda point: point.validation_rmse)
    with figure_of(assessment, [], 3.6) as figure:
        places = grid(figure, 1, 2, legend_rows=1)
        left, right = (figure.add_subplot(places[0, column]) for column in (0, 1))
        epochs, validation = [point.epoch for point in curve], [point.validation_rmse for point in curve]
        left.plot(epochs, [point.training_rmse for point in curve], color=BLUE, lw=1.3, label="training")
        for axes, title in ((left, "training and validation"), (right, "validation, closer")):
            axes.plot(epochs, validation, color=FORECAST, lw=1.8, label="validation")
            said = f"best: {best.validation_rmse:.1f} in epoch {best.epoch}"
            axes.plot(best.epoch, best.validation_rmse, "o", color=FORECAST, ms=7, mfc="none", mew=1.5, label=said)
            axes.set(xlabel="epoch", ylabel="RMSE (counts)", title=title)
            axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        if max(validation) > 2 * best.validation_rmse:
            left.set_yscale("log")
            for set_formatter in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
                set_formatter(ScalarFormatter())
        top = min(right.get_ylim()[1], CLOSER * best.validation_rmse)
        right.set_ylim(best.validation_rmse - 0.08 * (top - best.validation_rmse), top)
        legend_below(figure, left, 3)
    return figure
