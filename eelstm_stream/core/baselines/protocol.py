"""What a baseline is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.floating]


class Baseline(Protocol):
    """A forecast without a network. All counts are aligned and at the reference dose."""

    def __call__(self, windows: Counts, history: Counts, horizon: int) -> Counts:
        """Forecast `horizon` steps after the newest spectrum; 1 is the next one.

        windows: `(…, window, channel)`, oldest first. history: `(…, channel)`, the mean of the session's spectra up to and
        including the newest of the window. Returns `(…, channel)`.
        """
