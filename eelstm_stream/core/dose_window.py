"""The window on dose: the newest part of the stream, regrouped into equal doses. Pure.

Why: damage by the beam depends on dose. A model learns how a spectrum changes from one reference dose to the next, and in a
window that is cut by dose it finds the same change, whatever dwell and current are used to deliver it. A horizon of 8 then
means 8 reference doses after the end of the newest spectrum.

Operations: take a prepared frame in; learn of dose without a spectrum; give the window, the session's mean, the newest step,
or the step that ended anywhere in the recent past.

Goals: at the training's own dwell and current it is the window on frames, number for number. Every frame moves it, so a
forecast follows from every spectrum, as soon as it comes. Bounded memory, and a cost per frame that does not depend on how
short the frames are.

Plan: the window is anchored at the end of the newest frame; step j of it, 0 the newest, is what was counted between the doses
N − (j + 1) and N − j, in reference doses. Frames are divided in proportion, so short ones merge and a long one spans several
steps. Dose that nobody measured stands in it as a hole: a step's counts are divided by the part of it that was measured, and a
step with less than LEAST_MEASURED is drawn between its neighbours. A hole longer than MAX_GAP_STEPS empties the window.

A frame of a fiftieth of the reference dose can't be aligned by itself: noise would decide. So the shift is looked for in the
newest step as a whole, before any shift was taken out, and the new frame is moved by that. (The first frames of a window have
nothing before them. To align them again together, once they make half a step, was tried, and changed no forecast.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.counts_by_dose import SAME, CountsByDose
from eelstm_stream.core.preparation import Preparation, Prepared

# Unmeasured doses in a row that a window of 8 still bridges: two frames of nearly a step, and never three.
MAX_GAP_STEPS = 2.5
LEAST_MEASURED = 0.25  # of a step; with less, noise has twice its deviation and more
WORTH_SAYING = 0.25  # step: a hole between two frames that is shorter is how the camera works, and no gap
WORTH_COMPARING = 0.5  # step: with less measured, noise and not the forecast would decide how it turned out
SHORT, ONE = (
    0.25,
    1e-3,
)  # steps: frames shorter than the one, or within the other of a step, are hardly shared by two steps
OLDER = 3  # steps kept beyond a full window, from which a hole at its old end is drawn
ROUNDED = 1e-9  # of a dose that an instrument has added up

Counts = NDArray[np.float32]


class DoseWindow(NamedTuple):
    """The recent past of a session by dose, and the mean of all of it. Steps are reference doses of the model."""

    length: int  # steps in a full window
    aligned: CountsByDose  # on the model's axis, shifts taken out
    compared: CountsByDose  # on the axis that alignment searches, shifts left in
    frame_steps: float = 1.0  # dose of the newest frame, or of the session's first one to come
    pause_steps: float = 0.0  # dose between the newest frame and the one before, where none was lost
    hole: float = 0.0  # steps without a spectrum since the newest frame, as far as is known
    lost: bool = False  # whether spectra are missing there
    received: float | None = None  # by the instrument's own count at the end of the newest frame, steps
    gap_until: float = -math.inf  # end of the newest gap, steps

    @classmethod
    def empty(cls, length: int, channels: int, compared_channels: int, frame_steps: float) -> DoseWindow:
        """A window before the first frame."""
        return cls(length, CountsByDose.empty(channels), CountsByDose.empty(compared_channels), frame_steps)

    @property
    def domain(self) -> Literal["dose"]:
        """What its steps count."""
        return "dose"

    @property
    def is_empty(self) -> bool:
        """Whether it begins with the next spectrum."""
        return len(self.aligned.marks) == 1

    @property
    def position(self) -> float:
        """Where the end of the newest frame stands, steps of dose since the session's first frame began."""
        return self.aligned.newest

    @property
    def needed(self) -> int:
        """Spectra like the newest until the window is full."""
        begun = self.aligned.marks[0]
        lacking = max(0.0, self.length - (self.position - begun) - SAME)
        if not lacking and not self.is_empty:
            lacking = max(0.0, LEAST_MEASURED - self.aligned.measured_between(self.position - 1, self.position))
        return math.ceil(lacking / self.frame_steps - SAME) if lacking else 0

    @property
    def measured_steps(self) -> float:
        """Dose that the session's spectra measured so far, steps."""
        return float(self.aligned.measured[-1])

    @property
    def steps_a_period(self) -> float:
        """Dose from one frame's beginning to the next one's, as they come now."""
        return self.frame_steps + self.pause_steps

    def skipped(self, last_seq: int, steps: float, received_before: float | None = None) -> DoseWindow:
        """After losing spectra of so many steps in all. received_before: the instrument's count at the next frame's beginning."""
        del last_seq
        known = received_before is not None and self.received is not None
        window = self.reached(received_before) if known else self._with_hole(self.hole + steps)
        return window._replace(lost=True)

    def reached(self, received_before: float | None) -> DoseWindow:
        """After what the instrument says that the specimen received before the next frame, where it says so."""
        if received_before is None or self.received is None:
            return self
        return self._with_hole(received_before - self.received)

    def _with_hole(self, hole: float) -> DoseWindow:
        # Doses that grow for months are rounded; and one that falls back is the instrument's mistake, and no hole.
        hole = hole if hole > SAME + ROUNDED * (self.received or 0.0) else 0.0
        if hole <= MAX_GAP_STEPS + SAME or self.is_empty:
            return self._replace(hole=hole)
        aligned, compared = self.aligned.newest_mark_alone(), self.compared.newest_mark_alone()
        return self._replace(aligned=aligned, compared=compared, hole=hole)

    def take(
        self,
        seq: int,
        counts: NDArray[np.generic],
        scale: float,
        preparation: Preparation,
        received_before: float | None = None,
    ) -> tuple[DoseWindow, Prepared]:
        """Take the next frame in, `(channel,)` counts on the camera's axis, after `reached`; scale: to the reference dose.

        Returns the frame as prepared too.
        """
        del seq
        steps, position = 1 / scale, self.position + self.hole
        aligned, compared = (
            record.moved(self.hole) if self.is_empty else record.with_hole(self.hole)
            for record in (self.aligned, self.compared)
        )
        before = None
        if steps < 1 and not self.is_empty:
            before = compared.between(max(position - (1 - steps), compared.marks[0]), position)
        prepared = preparation(counts, scale, before)
        is_gap = not self.is_empty and (self.lost or self.hole >= WORTH_SAYING)
        received = None if self.received is None else self.received + self.hole
        received = received if received_before is None else received_before
        position += steps
        return DoseWindow(
            length=self.length,
            # The frames kept are those of the window, and those that a forecast that comes true now aimed at.
            aligned=aligned.with_frame(steps, prepared.counts * np.float64(steps)).kept_from(
                position - max(self.length + OLDER, steps + self.hole + 1)
            ),
            compared=compared.with_frame(steps, prepared.compared).kept_from(position - 1),
            frame_steps=steps,
            pause_steps=self.pause_steps if self.lost or self.is_empty else self.hole,
            received=None if received is None else received + steps,
            gap_until=position - steps if is_gap else self.gap_until,
        ), prepared

    def counts(self) -> Counts | None:
        """The window, `(window, channel)`, oldest first; None while it fills."""
        if self.needed:
            return None
        counts, measured = self.aligned.parts([self.position - age for age in range(self.length, -1, -1)])
        window = np.empty(counts.shape, dtype=np.float32)
        np.multiply(counts, 1 / np.maximum(measured, SAME)[:, np.newaxis], out=window, casting="same_kind")
        return window if measured.min() >= LEAST_MEASURED else self._with_holes_drawn(window, measured)

    def _with_holes_drawn(self, window: Counts, measured: NDArray[np.float64]) -> Counts:
        """The window with steps of which too little was measured on a line between their neighbours, or like the nearest."""
        known = [(age, counts) for age, counts in enumerate(window[::-1]) if measured[-1 - age] >= LEAST_MEASURED]
        older = self.ending_at([self.position - age for age in range(self.length, self.length + OLDER)])
        known += [(self.length + age, counts) for age, counts in enumerate(older) if counts is not None][:1]
        ages, steps = zip(*known, strict=True)
        shares = [np.interp(np.arange(self.length)[::-1], ages, one) for one in np.identity(len(ages))]
        drawn: Counts = (np.stack(shares, axis=1) @ np.stack(steps)).astype(np.float32)
        return drawn

    def newest(self, window: Counts | None) -> tuple[Counts, float]:
        """The newest step, `(channel,)`, or as much of it as there is; and its variance over mean, in units of the camera's.

        window: what `counts` gave.
        """
        low = max(self.position - 1, self.aligned.marks[0])
        measured = self.aligned.measured_between(low, self.position)
        variance = self.aligned.variance_share(low) / measured**2
        if window is not None:
            return window[-1], variance
        return (self.aligned.between(low, self.position) / measured).astype(np.float32), variance

    def history(self) -> Counts:
        """Mean of the session so far at the reference dose, weighted by dose: `(channel,)`."""
        if not self.aligned.measured[-1]:
            raise ValueError("there is no spectrum yet")
        return (self.aligned.counts[-1] / self.aligned.measured[-1]).astype(np.float32)

    def ending_at(self, positions: Sequence[float]) -> list[Counts | None]:
        """The steps that ended at some doses, `(channel,)` each; None where most was not measured, or is not kept any more."""
        begun = self.aligned.marks[0] - SAME
        kept = [at for at in positions if begun <= at - 1 < at <= self.position + SAME]
        if not kept:
            return [None] * len(positions)
        counts, measured = self.aligned.steps_ending(kept)
        steps = (counts / np.maximum(measured, SAME)[:, np.newaxis]).astype(np.float32)
        known = {at: steps[row] for row, at in enumerate(kept) if measured[row] >= WORTH_COMPARING}
        return [known.get(at) for at in positions]

    def gap(self) -> str | None:
        """What is missing inside the window, in words; None where nothing is."""
        begun = self.position - self.length
        if self.gap_until <= begun + SAME:
            return None
        begun = max(begun, self.aligned.marks[0])
        lacking = self.position - begun - self.aligned.measured_between(begun, self.position)
        return f"{lacking:.2g} of the {self.length} reference doses of the window were given without a spectrum"

    def for_noise(self, position: float) -> tuple[Counts, Counts, Counts] | None:
        """Three steps as far from each other as not to share a frame, oldest first; the newest ended at a dose."""
        apart = 1 if self.frame_steps <= SHORT or abs(self.frame_steps - 1) <= ONE else math.ceil(self.frame_steps) + 1
        three = self.ending_at([position - age for age in (2 * apart, apart, 0)])
        return None if three[0] is None or three[1] is None or three[2] is None else (three[0], three[1], three[2])
