"""What a run has of its own outside the components, carried on: its background and its calibration, which no training run had."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.components import LinearTrendInComponents
from eelstm_stream.core.baselines.protocol import Baseline, Counts

# Standard deviation of the smoothing, channels; 2.4 at half maximum. Wider takes the noise of the first frames out better, and
# dulls what a calibration slightly off leaves beside the white lines.
SMOOTHING_CHANNELS = 1.0
_REACH = 4  # standard deviations on either side, beyond which the Gaussian is 3e-4 of its maximum


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
    """Counts `(…, channel)` under a Gaussian of SMOOTHING_CHANNELS."""
    return weighed(counts, smoothing_kernel(SMOOTHING_CHANNELS))


def weighed(counts: Counts, kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each channel of `(…, channel)` the sum of it and its neighbours, times a kernel `(2 · reach + 1,)`.

    The outermost channels go on beyond the ends.
    """
    reach, channels = len(kernel) // 2, counts.shape[-1]
    padded = np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(reach, reach)], mode="edge")
    total = np.zeros(counts.shape)
    for start, weight in enumerate(kernel):
        total += weight * padded[..., start : start + channels]
    return total


def smoothing_kernel(deviation_channels: float) -> NDArray[np.float64]:
    """Weights of a Gaussian of that standard deviation on a channel and its neighbours; they add up to 1."""
    reach = math.ceil(_REACH * deviation_channels)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation_channels) ** 2)
    return np.asarray(kernel / kernel.sum())
