"""Counts of a stream against the dose that the specimen has received: what any part of it gave. Pure.

Operations: take a frame in, after a hole in which the specimen received dose that nobody measured; say what was counted, and
how much of the dose was measured, between two doses. Goals: the cost of a frame does not grow with the frames kept, and what
is kept is bounded, however short the frames.

Plan: cumulative counts at the end of every frame, so that any part of the stream is a difference of two of them. Within a
frame counts grow with dose in proportion. Dose is counted in steps, one step the model's reference dose.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAME = 1e-6  # steps: marks that lie closer are one mark, written down with other rounding
FINEST = 1 / 64  # step: of shorter frames several are kept as one, so that what is kept is bounded

Counts = NDArray[np.float64]


class CountsByDose(NamedTuple):
    """Cumulative counts at marks along the dose. Marks rise; between the first and the last, anything can be asked."""

    marks: tuple[float, ...]  # steps of dose since the session's first frame began
    measured: tuple[float, ...]  # of which measured, at each mark
    counts: tuple[Counts, ...]  # (channel,) at each mark

    @classmethod
    def empty(cls, channels: int) -> CountsByDose:
        """Before the first frame."""
        return cls((0.0,), (0.0,), (np.zeros(channels),))

    @property
    def newest(self) -> float:
        """Dose so far, steps."""
        return self.marks[-1]

    def with_hole(self, steps: float) -> CountsByDose:
        """After a dose that nobody measured."""
        if steps <= SAME:
            return self
        return CountsByDose(
            (*self.marks, self.marks[-1] + steps),
            (*self.measured, self.measured[-1]),
            (*self.counts, self.counts[-1]),
        )

    def with_frame(self, steps: float, counts: NDArray[np.floating]) -> CountsByDose:
        """After a frame: what it counted, `(channel,)`, in its own dose of so many steps."""
        mark, measured = self.marks[-1] + steps, self.measured[-1] + steps
        total = counts + self.counts[-1]
        last = len(self.marks) - (1 if self._may_grow else 0)
        return CountsByDose((*self.marks[:last], mark), (*self.measured[:last], measured), (*self.counts[:last], total))

    @property
    def _may_grow(self) -> bool:
        """Whether the newest piece is so short that the next frame is added to it, and holds no hole."""
        if len(self.marks) < 2:
            return False
        steps = self.marks[-1] - self.marks[-2]
        return steps < FINEST and self.measured[-1] > self.measured[-2]

    def kept_from(self, mark: float) -> CountsByDose:
        """Without what was counted before a mark, as far as pieces go."""
        first = max(0, bisect_right(self.marks, mark + SAME) - 1)
        return self if first == 0 else CountsByDose(self.marks[first:], self.measured[first:], self.counts[first:])

    def newest_mark_alone(self) -> CountsByDose:
        """With nothing kept but the sums so far."""
        return CountsByDose(self.marks[-1:], self.measured[-1:], self.counts[-1:])

    def moved(self, steps: float) -> CountsByDose:
        """With nothing kept but the sums so far, which stand after a hole then."""
        return CountsByDose((self.marks[-1] + steps,), self.measured[-1:], self.counts[-1:])

    def up_to(self, mark: float, out: Counts | None = None) -> Counts:
        """Cumulative counts `(channel,)` at a mark. ValueError where it is not kept.

        out: where they are to go, `(channel,)`; else they may be the ones kept here, so leave them as they are.
        """
        above = self._above(mark)
        if self.marks[above] - mark <= SAME or self.counts[above] is self.counts[above - 1]:
            if out is None:
                return self.counts[above]
            out[:] = self.counts[above]
            return out
        counts = np.subtract(self.counts[above], self.counts[above - 1], out=out)
        counts *= self._share(above, mark)
        counts += self.counts[above - 1]
        return counts

    def measured_up_to(self, mark: float) -> float:
        """Cumulative measured dose, steps, at a mark. ValueError where it is not kept."""
        above = self._above(mark)
        if self.marks[above] - mark <= SAME:
            return self.measured[above]
        low, high = self.measured[above - 1], self.measured[above]
        return low + self._share(above, mark) * (high - low)

    def _above(self, mark: float) -> int:
        """Index of the first mark that is not below another."""
        above = bisect_left(self.marks, mark - SAME)
        if above == len(self.marks) or mark < self.marks[0] - SAME:
            raise ValueError(f"{mark:g} is not within {self.marks[0]:g} to {self.marks[-1]:g} steps")
        return above

    def _share(self, above: int, mark: float) -> float:
        """Of the piece that ends at a mark, how much lies before another."""
        low, high = self.marks[above - 1], self.marks[above]
        return (mark - low) / (high - low)

    def parts(self, marks: Sequence[float]) -> tuple[Counts, NDArray[np.float64]]:
        """What was counted from each mark to the next, `(part, channel)`, and how much of it was measured, `(part,)` steps."""
        counts = np.empty((len(marks), self.counts[-1].size))
        for mark, out in zip(marks, counts, strict=True):
            self.up_to(mark, out)
        return counts[1:] - counts[:-1], np.diff([self.measured_up_to(mark) for mark in marks])

    def steps_ending(self, marks: Sequence[float]) -> tuple[Counts, NDArray[np.float64]]:
        """What was counted in the step before each mark, `(mark, channel)`, and how much of it was measured, `(mark,)` steps.

        All in one product: marks that lie near each other share most of what they are worked out from.
        """
        rows: dict[int, int] = {}  # of the sums kept, to a column of the weights
        weights = np.zeros((len(marks), 4 * len(marks)))
        for number, mark in enumerate(marks):
            for at, sign in ((mark, 1.0), (mark - 1, -1.0)):
                above = self._above(at)
                share = 1.0 if self.marks[above] - at <= SAME else self._share(above, at)
                weights[number, rows.setdefault(above, len(rows))] += sign * share
                if share != 1.0:
                    weights[number, rows.setdefault(above - 1, len(rows))] += sign * (1 - share)
        used = weights[:, : len(rows)]
        return used @ np.stack([self.counts[row] for row in rows]), used @ np.array(
            [self.measured[row] for row in rows]
        )

    def between(self, low: float, high: float) -> Counts:
        """What was counted between two marks, `(channel,)`."""
        return self.up_to(high) - self.up_to(low)

    def measured_between(self, low: float, high: float) -> float:
        """How much of the dose between two marks was measured, steps."""
        return self.measured_up_to(high) - self.measured_up_to(low)

    def variance_share(self, low: float) -> float:
        """Variance of what was counted since a mark, over its mean in one step, in units of the camera's variance over mean.

        A frame that is cut in proportion brings a share s of its counts with s² of its variance; here the one at the mark is.
        """
        above = self._above(low)
        whole = self.measured[-1] - self.measured[above]
        cut = self.measured[above] - self.measured_up_to(low)
        return whole + (cut * (1 - self._share(above, low)) if cut > 0 else 0.0)
