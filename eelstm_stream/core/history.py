"""What a session has shown so far, as one spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def running_means(frames: NDArray[np.floating]) -> NDArray[np.float32]:
    """For each frame of a session the mean of the frames up to and including it.

    frames: `(frame, channel)`, prepared counts from the session's first spectrum on. Returns the same shape, float32: what
    the service feeds to a model's `history` input.
    """
    sums = np.cumsum(frames, axis=0, dtype=np.float64)
    return np.asarray(sums / np.arange(1, len(frames) + 1)[:, np.newaxis], dtype=np.float32)
