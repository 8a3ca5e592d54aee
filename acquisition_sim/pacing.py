"""When each spectrum of a live instrument is due. Pure: the caller brings the clock.

Deadlines are absolute, counted from the start of the session, so that lateness never adds up. A spectrum is published at
the end of its exposure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_LAG_S = 1.0  # a real camera does not wait for a computer that was away for longer: those spectra are lost


class Pacing:
    """Deadlines of one session."""

    def __init__(self, start_mono_ns: int, dwell_s: NDArray[np.float64], speed: float | None) -> None:
        """dwell_s: `(frame,)` exposures, which follow each other without a pause. speed: times real time; None: no waiting."""
        self._start_mono_ns = start_mono_ns
        self._ends_s = np.cumsum(dwell_s)
        self._begins_s = self._ends_s - dwell_s
        self._speed = speed

    def begins_s(self, frame: int) -> float:
        """When a frame's exposure begins, s after the start by the instrument's own time."""
        return float(self._begins_s[frame])

    def deadline_ns(self, frame: int) -> int | None:
        """Monotonic time at which a frame's exposure ends, ns; None where nothing paces."""
        if self._speed is None:
            return None
        return self._start_mono_ns + round(float(self._ends_s[frame]) / self._speed * 1e9)

    def first_frame_in_time(self, frame: int, now_ns: int) -> int:
        """The frame to publish next: `frame`, unless the process was away for so long that the camera has moved on.

        The answer may be the number of frames: then the session ended meanwhile.
        """
        deadline_ns = self.deadline_ns(frame)
        if self._speed is None or deadline_ns is None or now_ns - deadline_ns <= MAX_LAG_S * 1e9:
            return frame
        elapsed_s = (now_ns - self._start_mono_ns) / 1e9 * self._speed
        return int(np.searchsorted(self._ends_s, elapsed_s, side="left"))
