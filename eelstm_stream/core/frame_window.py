"""The window on frames: the last spectra, whatever their dose. Pure.

As in the paper. A step of it is a spectrum, so a horizon of 8 means 8 spectra ahead, and a model holds for the dwell and the
dose that it was trained at. A hole of up to MAX_GAP_SPECTRA stays in the window and is closed up; a longer one empties it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.preparation import Preparation, Prepared

MAX_GAP_SPECTRA = 2  # lost spectra in a row that a window of 8 still bridges
FOR_NOISE = 3  # consecutive spectra that a second difference takes

Counts = NDArray[np.float32]


class FrameWindow(NamedTuple):
    """The newest spectra of a session, and the mean of all of them. What `dose_window.DoseWindow` can do, it can do."""

    length: int  # spectra in a full window
    kept: tuple[tuple[int, Counts], ...] = ()  # (seq, prepared counts), oldest first, since the last long hole
    sum: NDArray[np.float64] | None = None  # (channel,) of all prepared spectra of the session
    taken_in: int = 0
    variance_over_mean_factor: float = 1.0  # of the newest: scaled counts have scale² times the variance

    @property
    def domain(self) -> Literal["frame"]:
        """What its steps count."""
        return "frame"

    @property
    def frame_steps(self) -> float:
        """Steps of the newest spectrum."""
        return 1.0

    @property
    def measured_steps(self) -> float:
        """Spectra of the session so far."""
        return float(self.taken_in)

    @property
    def steps_a_period(self) -> float:
        """Steps from one spectrum's beginning to the next one's."""
        return 1.0

    @property
    def spectra(self) -> tuple[tuple[int, Counts], ...]:
        """(seq, prepared counts) of the window, oldest first."""
        return self.kept[-self.length :]

    @property
    def is_empty(self) -> bool:
        """Whether it begins with the next spectrum."""
        return not self.kept

    @property
    def position(self) -> float:
        """Where the newest spectrum stands among the steps of the session: its number."""
        return self.kept[-1][0] if self.kept else -1

    @property
    def needed(self) -> int:
        """Spectra until the window is full."""
        return self.length - len(self.spectra)

    def skipped(self, last_seq: int, _steps: float, _received_before: float | None = None) -> FrameWindow:
        """After losing spectra up to `last_seq`."""
        if self.kept and last_seq - self.kept[-1][0] > MAX_GAP_SPECTRA:
            return self._replace(kept=())
        return self

    def reached(self, _received_before: float | None) -> FrameWindow:
        """Dose between frames is none of its business."""
        return self

    def take(
        self,
        seq: int,
        counts: NDArray[np.generic],
        scale: float,
        preparation: Preparation,
        _received_before: float | None = None,
    ) -> tuple[FrameWindow, Prepared]:
        """Take the next frame in, `(channel,)` counts on the camera's axis; scale: to the reference dose."""
        prepared = preparation(counts, scale)
        total = prepared.counts.astype(np.float64)
        if self.sum is not None:
            total += self.sum
        kept = (*self.kept, (seq, prepared.counts))[-max(self.length, FOR_NOISE) :]
        return FrameWindow(self.length, kept, total, self.taken_in + 1, scale), prepared

    def counts(self) -> Counts | None:
        """The window, `(window, channel)`, oldest first; None while it fills."""
        return None if self.needed else np.stack([counts for _, counts in self.spectra])

    def newest(self, _window: Counts | None) -> tuple[Counts, float]:
        """The newest spectrum, `(channel,)`, and its variance over mean in units of the camera's."""
        return self.kept[-1][1], self.variance_over_mean_factor

    def history(self) -> Counts:
        """Mean of the session's prepared spectra so far, `(channel,)`."""
        if self.sum is None:
            raise ValueError("there is no spectrum yet")
        return (self.sum / self.taken_in).astype(np.float32)

    def ending_at(self, positions: Sequence[float]) -> list[Counts | None]:
        """What came at some steps: the newest spectrum's counts, `(channel,)`, where that is its number."""
        return [self.kept[-1][1] if self.kept and self.kept[-1][0] == at else None for at in positions]

    def gap(self) -> str | None:
        """What is missing inside the window, in words; None where nothing is."""
        spectra = self.spectra
        missing = spectra[-1][0] - spectra[0][0] + 1 - len(spectra) if spectra else 0
        return f"{missing} spectra are missing inside the window" if missing else None

    def for_noise(self, _position: float) -> tuple[Counts, Counts, Counts] | None:
        """The last three spectra, oldest first, where they are consecutive."""
        three = self.kept[-FOR_NOISE:]
        if len(three) < FOR_NOISE or three[-1][0] - three[0][0] != FOR_NOISE - 1:
            return None
        return three[0][1], three[1][1], three[2][1]
