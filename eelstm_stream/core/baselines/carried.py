"""What a run has of its own outside the components, carried on: its background and its calibration, which no training run had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.components import LinearTrendInComponents
from eelstm_stream.core.baselines.protocol import Baseline, Counts

# Standard deviation of the smoothing, channels; 2.4 at half maximum. Wider takes the noise of the first frames out better, and
# dulls what a calibration slightly off leaves beside the white lines.
SMOOTHING_CHANNELS = 1.0
_REACH = 4  # channels on either side, beyond which the Gaussian is 3e-4 of its maximum


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A forecast in components, and on top of it the residual of the run so far, smoothed over about two channels."""

    forecast: Baseline
    trend: LinearTrendInComponents  # whose components the forecast lies in

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts."""
        return np.asarray(self.forecast(windows, history, horizon) + self.residual(history))

    def residual(self, history: Counts) -> NDArray[np.float64]:
        """What the components don't have of the mean spectrum so far, `(…, channel)`, smoothed over channels."""
        outside = history - self.trend.spectra(self.trend.scores(history))
        return smoothed(outside)


def smoothed(counts: Counts) -> NDArray[np.float64]:
    """Counts `(…, channel)` under a Gaussian of SMOOTHING_CHANNELS; the outermost channels go on beyond the ends."""
    kernel = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / SMOOTHING_CHANNELS) ** 2)
    kernel /= kernel.sum()
    channels = counts.shape[-1]
    padded = np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(_REACH, _REACH)], mode="edge")
    total = np.zeros(counts.shape)
    for start, weight in enumerate(kernel):
        total += weight * padded[..., start : start + channels]
    return total
