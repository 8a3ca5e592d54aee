"""A recording flown in closed loop: its electrons, regrouped into the frames that are commanded. Pure but for its random numbers.

The position along a recording is the dose that the specimen has received, since it is dose that changes it. A frame of some
dose covers a stretch of the recording's own dose, parts of recorded frames and whole ones, and gets the electrons that were
counted in that stretch. So no electron is counted twice or made up: what follows each other adds up to the recording again.

- Less dose than a recorded frame: its electrons are divided by lot. Of N electrons, a share f gets Binomial(N, f), and the
  rest stays for the frames after. If N is Poisson with mean λ, then the parts are Poisson with means fλ and (1 − f)λ, and
  independent (thinning; Kingman, Poisson Processes, 5.1): what two shorter exposures would have counted.
- More dose: recorded frames add up, and so do their variances, as in a longer exposure.
- The same dose in another time: dwell and current are what is commanded, and make no difference beyond their product.

A camera doesn't show electrons. It shows counts C with variance v C + r² whose neighbours correlate, v and r as `camera_noise`
finds them. So lots are drawn for C / v electrons worth v counts each, which gives a share the mean f C and adds to it the
variance v C f (1 − f): with f² v C, which it has already, that makes f v C, as for any other exposure. What is drawn is then
filtered, so that neighbours correlate as they do in the recording. The read-out noise is no electrons': parts of recorded
frames s₁, s₂, … bring r² Σ s², and where that is less than the r² of one read-out, the rest is added. Where it is more, since
several recorded frames are in one, it can't be taken away: then the spectra are noisier than a longer exposure would be.

What a recording can't tell is what depends on time or on the dose rate: it flies as it flew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.camera_noise import REACH, CameraNoise, measured_noise
from eelstm_stream.io.recordings import Recording

Array = NDArray[np.float64]
RELATIVE_CURRENT_PA = 1.0  # stands for a current that nobody knows
LAST_BIT = 1e-9  # share of a recorded frame's dose that is nothing
TELL_FROM = 1.001  # times one read-out's variance: from here on, it's worth saying that there is more


class RegroupedRecording:
    """A recording under the beam of an instrument that obeys. The same commands and seed give the same bytes."""

    def __init__(self, recording: Recording, seed: int) -> None:
        """Measure the recording's noise. Raises ValueError where it is too short for that, or has no counts."""
        self.name = recording.name
        self.noise: CameraNoise = measured_noise(recording.counts)
        self._kernel = self.noise.filter()
        self._counts = recording.counts
        self._least = min(0.0, float(recording.counts.min()))  # counts go no lower than the recording's own
        self._doses_pC = recorded_doses_pC(recording)
        self._random = np.random.Generator(np.random.Philox(seed))
        self._frame = 0  # the recorded one that is being used
        self._left = 1.0  # share of its dose
        self._remaining: Array = self._counts[0].astype(np.float64)  # (channel,), its counts that are still there
        self._most_read_outs = 1.0  # Σ s² of the frame that had most

    @property
    def dose_pC(self) -> float:
        """Of the whole recording; by a current of 1 pA where it is unknown."""
        return math.fsum(self._doses_pC)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the spectra."""
        v, r = self.noise.variance_over_mean, self.noise.read_noise_counts
        measured = f"the electrons of {self.name}, regrouped by dose; its noise was measured: variance {v:.3g} × mean"
        notes = [measured + (f" + {r:.3g}²" if r > 0 else "")]
        if self._most_read_outs > TELL_FROM and r > 0:
            most = r * math.sqrt(self._most_read_outs)
            notes.append(
                f"NOISE WAS ADDED: frames of more dose than a recorded one are sums of several, with a read-out noise of up "
                f"to {most:.3g} counts instead of {r:.3g}"
            )
        return tuple(notes)

    def expose(self, dwell_s: Sequence[float], current_pA: Sequence[float]) -> NDArray[np.float32]:
        """Take consecutive frames. dwell_s, current_pA: `(frame,)`. Returns `(frame, channel)` counts."""
        doses_pC = [dwell * current for dwell, current in zip(dwell_s, current_pA, strict=True)]
        return np.stack([self._taken(dose_pC) for dose_pC in doses_pC]).astype(np.float32)

    def pass_over(self, duration_s: float, current_pA: float) -> None:
        """Let time pass without a frame: the electrons of its dose, if it has any, are nobody's."""
        if duration_s * current_pA > 0:
            self._electrons(duration_s * current_pA)

    def _taken(self, dose_pC: float) -> Array:
        """One frame, `(channel,)`, with the read-out noise of one read-out or more."""
        counts, read_outs = self._electrons(dose_pC)
        self._most_read_outs = max(self._most_read_outs, read_outs)
        if self.noise.read_noise_counts > 0 and read_outs < 1:
            missing = self.noise.read_noise_counts * math.sqrt(1 - read_outs)
            counts += missing * self._random.standard_normal(len(counts))
            np.maximum(counts, self._least, out=counts)
        return counts

    def _electrons(self, dose_pC: float) -> tuple[Array, float]:
        """The counts of the next stretch of dose, and how many read-outs' variance is in them, Σ s²."""
        counts = np.zeros(self._counts.shape[1])
        read_outs, needed_pC = 0.0, dose_pC
        while self._frame < len(self._counts):
            frame_pC = self._doses_pC[self._frame]
            there_pC = frame_pC * self._left
            if needed_pC < there_pC - LAST_BIT * frame_pC:
                share = needed_pC / there_pC
                read_outs += (needed_pC / frame_pC) ** 2
                part = self._drawn(share)
                self._remaining -= part
                self._left -= needed_pC / frame_pC
                return counts + part, read_outs
            counts += self._remaining
            read_outs += self._left**2
            needed_pC = max(0.0, needed_pC - there_pC)
            self._next_frame()
            if needed_pC <= LAST_BIT * frame_pC:
                break
        return counts, read_outs

    def _next_frame(self) -> None:
        self._frame += 1
        self._left = 1.0
        if self._frame < len(self._counts):
            self._remaining = self._counts[self._frame].astype(np.float64)

    def _drawn(self, share: float) -> Array:
        """A share of the remaining counts, drawn by lot, electron by electron."""
        v = self.noise.variance_over_mean
        if share <= 0 or v <= 0:
            return share * self._remaining
        expected = np.pad(np.maximum(self._remaining, 0) / v, REACH, mode="symmetric")
        electrons = np.floor(expected + self._random.random(len(expected)))  # a part of one is one, or none, by lot
        deviation = v * (self._random.binomial(electrons.astype(np.int64), share) - share * electrons)
        part = share * self._remaining + np.convolve(deviation, self._kernel, mode="valid")
        # Neither part has less than nothing, but where the recording itself has.
        return np.asarray(np.clip(part, np.minimum(self._remaining, 0), np.maximum(self._remaining, 0)))


def recorded_doses_pC(recording: Recording) -> Array:
    """Dose of each recorded frame, `(frame,)`; where the current is unknown, it counts as 1 pA."""
    if recording.beam_current_pA is None:
        return np.asarray(recording.dwell_s * RELATIVE_CURRENT_PA)
    return np.asarray(recording.dwell_s * recording.beam_current_pA)
