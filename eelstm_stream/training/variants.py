"""Runs as they might have come out: the few that there are, without noise, at other speeds, intensities and backgrounds.

Repeats of one experiment differ in how fast the specimen goes, in its thickness and in its background. Two recorded runs hold two
examples of that, and a forecast that is fitted on them takes what was their own for a law. So each is smoothed, and made into
variants that differ from it as repeats differ from each other; noise is added to them anew each time that they are seen.
Nothing here looks at a run that is tested on.

On five simulated triples (two runs to train on, one to test) this brought the error against the noise-free truth of a ridge
regression in components, with the run's residual carried on, from 60 counts to 42: half of it by the variants of time, half by
those of intensity and background. See docs/explanation/the-shipped-models.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import fit_linear_trend
from eelstm_stream.core.baselines.carried import smoothed

Frames = NDArray[np.float32]

COMPONENTS = 8  # of one run, beyond which there is noise only
SMOOTHING_FRAMES = 31  # a parabola over so many frames: a fifth of a run

# One standard deviation of what a variant differs by from the run that it is made of. Twice as much, or half, made no difference.
SPEED = 0.35  # of the logarithm of its speed
ACCELERATION = 0.15  # of the logarithm of the power of time that it follows
INTENSITY = 0.05  # of the logarithm of its intensity
TILT = 0.1  # of the exponent of its background
TILT_ABOUT = 0.5  # where along the axis the background stays as it is, as a share


def without_noise(part: Frames) -> Frames:
    """A segment's spectra `(frame, channel)` as they would be without noise: few components, smooth over frames and channels.

    Raises ValueError where there are fewer frames than components.
    """
    trend = fit_linear_trend(part, COMPONENTS)
    scores = _parabolas(trend.scores(part), SMOOTHING_FRAMES)
    mean, components = smoothed(trend.mean), smoothed(trend.components)
    return np.asarray(mean + scores @ components, dtype=np.float32)


def variants(
    smooth: Sequence[Frames], energies_eV: NDArray[np.float64], count: int, random: np.random.Generator, least: int
) -> list[Frames]:
    """Variants of smooth segments, `(frame, channel)` each; those are longer or shorter than what they are made of.

    energies_eV: `(channel,)`. least: frames below which a variant is of no use and is drawn again.
    """
    made: list[Frames] = []
    while len(made) < count:
        part = smooth[int(random.integers(len(smooth)))]
        speed, power, intensity = np.exp(random.normal(size=3) * (SPEED, ACCELERATION, INTENSITY))
        exponent = random.normal() * TILT
        last = len(part) - 1
        moments = last * (speed * np.arange(round(last / speed) + 1) / last) ** power
        moments = moments[moments <= last]
        if len(moments) < least:
            speed = 1.0  # a segment so short is left at its own speed
            moments = np.arange(last + 1.0)
        reference_eV = energies_eV[0] + TILT_ABOUT * (energies_eV[-1] - energies_eV[0])
        factor = intensity * (energies_eV / reference_eV) ** exponent
        made.append(np.asarray(_between(part, moments) * factor, dtype=np.float32))
    return made


def _between(part: Frames, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectra at moments between frames, by linear interpolation."""
    before = np.minimum(moments.astype(np.intp), len(part) - 2)
    share = (moments - before)[:, np.newaxis]
    return np.asarray(part[before] * (1 - share) + part[before + 1] * share)


def _parabolas(scores: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Each score at each frame from the parabola through the frames about it: Savitzky and Golay, Anal. Chem. 36, 1627 (1964).

    scores: `(frame, component)`. Near the ends it is the first, or the last, whole stretch whose parabola is read off.
    """
    length = min(frames, len(scores))
    smooth = np.empty_like(scores)
    for frame in range(len(scores)):
        first = min(max(frame - length // 2, 0), len(scores) - length)
        places = np.arange(first, first + length) - frame
        design = np.stack([np.ones(length), places, places**2], axis=1)
        smooth[frame] = np.linalg.lstsq(design, scores[first : first + length], rcond=None)[0][0]
    return smooth
