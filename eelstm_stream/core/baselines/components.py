"""The least-squares line carried on in a few principal components: no lag, and little of the channels' noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines.protocol import Counts
from eelstm_stream.core.baselines.without_fit import trend_weights, weighted

COMPONENTS = 6  # enough for intensity, background, phase and two of residual drift; more of them carry noise


@dataclass(frozen=True, slots=True, eq=False)
class LinearTrendInComponents:
    """PCA + linear trend: the line through the window, seen through the principal components alone."""

    mean: NDArray[np.float64]  # (channel,)
    components: NDArray[np.float64]  # (component, channel), orthonormal

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """`(…, window, channel)` counts to `(…, channel)` counts."""
        return self.spectra(self.scores(weighted(windows, trend_weights(windows.shape[-2], horizon))))

    def scores(self, counts: Counts) -> NDArray[np.float64]:
        """Coordinates of `(…, channel)` counts in the components: `(…, component)`."""
        return np.asarray((counts - self.mean) @ self.components.T)

    def spectra(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Counts `(…, channel)` that have these coordinates, `(…, component)`."""
        return np.asarray(self.mean + scores @ self.components)


def fit_linear_trend(frames: Counts, components: int = COMPONENTS) -> LinearTrendInComponents:
    """Principal components of training frames `(frame, channel)`, aligned counts at the reference dose.

    Raises ValueError where there are fewer frames than components.
    """
    if len(frames) <= components:
        raise ValueError(f"{len(frames)} frames do not span {components} components")
    mean = frames.mean(axis=0, dtype=np.float64)
    centred = np.asarray(frames, dtype=np.float64) - mean
    # The smaller of the two Gram matrices: frames by frames, or channels by channels.
    if len(frames) < frames.shape[1]:
        _, vectors = np.linalg.eigh(centred @ centred.T)
        basis = np.linalg.qr((vectors[:, -components:].T @ centred).T)[0].T
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        basis = vectors[:, -components:].T
    return LinearTrendInComponents(mean, np.ascontiguousarray(basis))
