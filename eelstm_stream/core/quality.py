"""What a reader should know before trusting a forecast: how its window differs from what the model was trained on. Pure.

A window on frames holds for the dwell and the dose of the training. A window on dose holds for others too, and is flagged where
nobody has tried: beyond the range over which `eelstm bench window` measures its forecasts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Shift
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.window import Window
from eelstm_stream.wire.messages import QualityFlag, Spectrum

DOSE_TOLERANCE = 0.1  # relative, as between training runs: at another dose per spectrum a step is another step
DWELL_TOLERANCE = (
    0.05  # relative; the paper found that a model fails at another dwell, the nearest of which was 1.25 times
)
TRIED_DWELLS = (0.2, 2.0)  # times the model's: 0.08 to 0.8 s of one trained at 0.4 s
TRIED_CURRENTS = (0.1, 2.2)  # times the model's: 23 to 500 pA of one trained at 230 pA
RANGE_TOLERANCE = 0.1  # of the training data's range of counts, on either side
OUTSIDE_SHARE = 0.05  # of the channels, before it is worth a flag


def quality_of(
    model: ModelMetadata, spectrum: Spectrum, window: Window, shift: Shift, newest: NDArray[np.float32]
) -> tuple[QualityFlag, ...]:
    """Flags of a window with its newest spectrum and the newest step of counts, `(channel,)`."""
    return (*_of_the_window(window, shift), *_of_the_dose(model, spectrum, window), *_of_the_counts(model, newest))


def _of_the_window(window: Window, shift: Shift) -> Iterator[QualityFlag]:
    gap = window.gap()
    if gap is not None:
        yield QualityFlag(flag="gap_in_window", reason=gap)
    if not shift.trusted:
        reason = f"not aligned: correlation with the reference {shift.correlation:.2f}"
        yield QualityFlag(flag="alignment_uncertain", reason=reason)


def _of_the_dose(model: ModelMetadata, spectrum: Spectrum, window: Window) -> Iterator[QualityFlag]:
    dwell = spectrum.dwell_s / model.reference_dwell_s
    if window.domain == "frame":
        if abs(dwell - 1) > DWELL_TOLERANCE:
            reason = f"dwell {spectrum.dwell_s:g} s, trained at {model.reference_dwell_s:g} s"
            yield QualityFlag(flag="dwell_differs_from_training", reason=reason)
    elif not _within(dwell, TRIED_DWELLS, DWELL_TOLERANCE):
        low, high = (times * model.reference_dwell_s for times in TRIED_DWELLS)
        reason = f"dwell {spectrum.dwell_s:g} s, and a window on dose was tried from {low:g} to {high:g} s"
        yield QualityFlag(flag="dwell_differs_from_training", reason=reason)

    if model.dose_is_relative or spectrum.beam_current_pA is None:
        unknown = "the model was trained" if model.dose_is_relative else "this spectrum was taken"
        reason = f"{unknown} at an unknown beam current: only the dwell is normalised"
        yield QualityFlag(flag="dose_is_relative", reason=reason)
        return
    trained_pA = model.reference_dose_pC / model.reference_dwell_s
    current = spectrum.beam_current_pA / trained_pA
    if window.domain == "frame":
        if abs(current * dwell - 1) > DOSE_TOLERANCE:
            times = f"{current * dwell:.3g} times"
            reason = f"{times} the dose per spectrum of the training, {model.reference_dose_pC:g} pC"
            yield QualityFlag(flag="dose_differs_from_training", reason=reason)
    elif not _within(current, TRIED_CURRENTS, DOSE_TOLERANCE):
        low, high = (times * trained_pA for times in TRIED_CURRENTS)
        reason = f"{spectrum.beam_current_pA:g} pA, and a window on dose was tried from {low:.3g} to {high:.3g} pA"
        yield QualityFlag(flag="dose_differs_from_training", reason=reason)


def _of_the_counts(model: ModelMetadata, newest: NDArray[np.float32]) -> Iterator[QualityFlag]:
    margin = RANGE_TOLERANCE * (model.counts_high - model.counts_low)
    outside = (newest < model.counts_low - margin) | (newest > model.counts_high + margin)
    share = float(np.count_nonzero(outside)) / outside.size
    if share > OUTSIDE_SHARE:
        reason = f"{share:.0%} of the channels are outside the counts that the model was trained on"
        yield QualityFlag(flag="outside_training_range", reason=reason)


def _within(times: float, tried: tuple[float, float], tolerance: float) -> bool:
    return tried[0] * (1 - tolerance) <= times <= tried[1] * (1 + tolerance)
