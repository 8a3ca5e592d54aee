"""Sentences that stand beside the figures, the same in the terminal and on the page."""

from __future__ import annotations

from eelstm_stream.training.reproduction.protocols import TEST_SHARE
from eelstm_stream.training.reproduction.summary import Summary

NOTES = (
    "RMSE is over windows and channels, in the counts that the row's preprocessing makes; its target is one noisy spectrum, whose "
    "noise is the floor. Rows with another floor have other targets, so compare across them the error over the floor. Spread is the "
    "standard deviation over trainings. Binned and background-subtracted counts are explained with Table I in "
    "docs/reference/preprocessing.md.",
    "Honest: trained on two runs, of each of which a block in the middle is held out to stop by, and tested on the third; horizon 8 "
    "is the eighth spectrum after the window; scaling and alignment reference come from the training runs.",
    "Notebook's: the windows of all three runs are shuffled, and a share of "
    f"{TEST_SHARE:.0%} of them is tested on; what is called horizon 8 is the ninth spectrum; scaling and alignment reference come from "
    "one file, the third. The baselines beside a column are fitted to the same segments as its network.",
    "The network is the paper's with Table II's numbers in every row. Two things are ours: its last bias begins at the mean training "
    "spectrum (without that the row `raw` would spend its epochs on reaching the mean), and the weights are a running average over steps.",
)


def origin(summary: Summary) -> str:
    """Where the runs come from."""
    if summary.simulated:
        return f"SIMULATED: nothing here was measured on a microscope. {summary.origin}"
    return summary.origin


def scope(summary: Summary) -> str:
    """What was trained."""
    first = f"{summary.trainings} trainings, {summary.training_minutes:.0f} min of one thread"
    quick = (
        "; QUICK, so the networks are not trained to their end and the figures are for a look only"
        if summary.quick
        else ""
    )
    many = (
        f" The comparison with the baselines has {summary.triples} such triples, one a seed."
        if summary.triples > 1
        else ""
    )
    return f"Runs: {', '.join(summary.runs)}; the last is tested on.{many} {first}{quick}."


def trap_sentence(summary: Summary) -> str:
    """What the traps do, in words and with their figures."""

    def change(percent: float) -> str:
        return f"{'lowers' if percent < 0 else 'raises'} it by {abs(percent):.1f} %"

    _, *alone, together = summary.traps
    each = "; ".join(f"“{row.trap}” {change(row.change_percent)}" for row in alone)
    return f"Against the honest error: {each}; all at once, the notebook's way {change(together.change_percent)}."
