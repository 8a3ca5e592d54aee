"""Recordings made into what a network learns from: prepared runs, split by run, and windows that stay inside their run.

Whatever is fitted here (reference dose, alignment reference, scaling, phase) is fitted on the runs that are trained on, and
never on a run that a result is reported on: the paper's notebook shuffled overlapping windows before it split them, so that
its test frames had been trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.energy_axis import Rebinning
from eelstm_stream.core.noise import noise_of_series, variance_over_mean
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.core.phase_scale import PhaseScale
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import Recording, counts_sha256, recording_sha256
from eelstm_stream.training.conditions import Conditions
from eelstm_stream.training.framing import Framed
from eelstm_stream.training.phase_fit import cross_fitted_scale, phase_of_ends
from eelstm_stream.training.recipe import Recipe

FIRST_FRAMES = 8  # of a run, taken to be pristine
WHOLE_RUN_VALIDATION = 0.1  # share of the runs held out to stop the training by
BLOCK_VALIDATION = 0.2  # share of each run, where there are too few runs to hold out one


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRun:
    """One run as the network sees it: normalised, on the model's axis, aligned."""

    name: str
    sha256: str  # of what the recording holds, see `recording_sha256`
    counts_sha256: str  # of its counts as they were recorded
    counts: NDArray[np.float32]  # (frame, channel) at the reference dose
    clean_counts: NDArray[np.float32] | None  # (frame, channel), shifted as `counts`; simulated runs only
    phase: NDArray[np.float64] | None  # (frame,) true transformed fraction; simulated runs only
    untrusted_shifts: int  # frames that could not be aligned and stand as they came


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive frames of one run, first to last − 1. A window lies in one segment."""

    run: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the training segments alone determine, besides the weights."""

    low: float  # counts; the scaler's 0
    high: float  # counts; the scaler's 1
    phase: PhaseFunctional
    phase_scale: PhaseScale
    phase_noise: float  # standard deviation of the phase of one spectrum
    variance_over_mean: float
    mean: NDArray[np.float32]  # (channel,) mean counts

    @property
    def span(self) -> float:
        """Counts from the scaler's 0 to its 1."""
        return self.high - self.low


def _scales(run: Recording, conditions: Conditions) -> list[float]:
    """Factor to the reference dose for each frame."""
    current_pA = [None] * len(run.dwell_s) if run.beam_current_pA is None else run.beam_current_pA.tolist()
    return [
        normalisation(t, i, conditions.dwell_s, conditions.dose_pC)
        for t, i in zip(run.dwell_s.tolist(), current_pA, strict=True)
    ]


def split_by_run(lengths: Sequence[int], recipe: Recipe, names: Sequence[str]) -> tuple[list[Segment], list[Segment]]:
    """Training segments and validation segments, which share no frame.

    lengths: frames of each run. With three runs or more, the last tenth of them (at least one) is held out whole. With one
    or two, a block in the middle of each is held out, since its beginning and its end are what the phase is fitted on, and no
    window crosses it. Raises UnusableInputError that names a run too short for that.
    """
    if len(lengths) >= 3:
        held_out = max(1, round(WHOLE_RUN_VALIDATION * len(lengths)))
        whole = [Segment(run, 0, length) for run, length in enumerate(lengths)]
        return whole[:-held_out], whole[-held_out:]
    training, validation = [], []
    for run, (length, name) in enumerate(zip(lengths, names, strict=True)):
        needed = recipe.frames_needed
        if length < 3 * needed:
            raise UnusableInputError(
                f"{name} has {length} frames, and to hold out some of them for validation takes {3 * needed}: "
                "give longer runs, or three at least."
            )
        block = max(needed, round(BLOCK_VALIDATION * length))
        first = (length - block) // 2
        validation.append(Segment(run, first, first + block))
        training += [Segment(run, 0, first), Segment(run, first + block, length)]
    return training, validation


def alignment_reference(runs: Sequence[Recording], conditions: Conditions, recipe: Recipe) -> NDArray[np.float32]:
    """Mean of the first frames of the training runs, `(channel,)` on the model's axis, at the reference dose.

    Each run's mean is laid over the first run's before they are averaged, lest their calibrations blur the white lines.
    """
    firsts = []
    for run in runs:
        scales = np.array(_scales(run, conditions)[:FIRST_FRAMES])
        firsts.append(np.mean(run.counts[:FIRST_FRAMES] * scales[:, np.newaxis], axis=0))
    first_run = Rebinning(runs[0].energy_axis, recipe.energy_axis)(firsts[0])
    onto_first = alignment_to(first_run, recipe)
    aligned = [
        Preparation(run.energy_axis, recipe.energy_axis, onto_first, origin=run.name)(first, 1.0).counts
        for run, first in zip(runs, firsts, strict=True)
    ]
    return np.asarray(np.mean(aligned, axis=0, dtype=np.float64), dtype=np.float32)


def alignment_to(reference: NDArray[np.float32], recipe: Framed) -> Alignment:
    """Alignment against a reference `(channel,)` on the model's axis."""
    return Alignment(reference, recipe.energy_axis, recipe.alignment_range_eV, recipe.alignment_max_shift_eV)


def prepare(run: Recording, conditions: Conditions, reference: NDArray[np.float32], recipe: Framed) -> PreparedRun:
    """A run as the service would prepare it, spectrum by spectrum.

    The noise-free counts of a simulated run are shifted by what was found on its noisy ones: the question there is what
    would have stood in that frame without noise.
    """
    preparation = Preparation(run.energy_axis, recipe.energy_axis, alignment_to(reference, recipe), origin=run.name)
    scales = _scales(run, conditions)
    prepared = [preparation(counts, scale) for counts, scale in zip(run.counts, scales, strict=True)]
    clean_counts = None
    if run.clean_counts is not None:
        rebinning = Rebinning(run.energy_axis, recipe.energy_axis)
        clean_counts = np.stack(
            [
                rebinning(clean * scale, frame.shift.shift_eV)
                for clean, scale, frame in zip(run.clean_counts, scales, prepared, strict=True)
            ]
        )
    return PreparedRun(
        name=run.name,
        sha256=recording_sha256(run),
        counts_sha256=counts_sha256(run),
        counts=np.stack([frame.counts for frame in prepared]),
        clean_counts=clean_counts,
        phase=run.phase,
        untrusted_shifts=sum(not frame.shift.trusted for frame in prepared),
    )


def fit_to(runs: Sequence[PreparedRun], training: Sequence[Segment]) -> Fitted:
    """Scaling, phase and noise from the training segments, and from nothing else.

    Raises UnusableInputError where their first and last frames are alike, so that there is no change to forecast.
    """
    parts = [runs[s.run].counts[s.first : s.last] for s in training]
    numbers = sorted({s.run for s in training})
    whole = [np.concatenate([part for part, s in zip(parts, training, strict=True) if s.run == run]) for run in numbers]
    frames = np.concatenate(parts)
    try:
        phase = phase_of_ends(whole)
        noise = float(np.mean([variance_over_mean(part) for part in parts if len(part) >= 3]))
    except ValueError as error:
        raise UnusableInputError(f"the training runs cannot be used: {error}.") from None
    return Fitted(
        low=float(frames.min()),
        high=float(frames.max()),
        phase=phase,
        phase_scale=cross_fitted_scale(whole, [_fractions(runs[run], training, run) for run in numbers]),
        phase_noise=noise_of_series([phase(part) for part in parts]),
        variance_over_mean=noise,
        mean=frames.mean(axis=0, dtype=np.float64).astype(np.float32),
    )


def _fractions(run: PreparedRun, training: Sequence[Segment], number: int) -> NDArray[np.float64] | None:
    """True transformed fractions of a run's frames in its training segments, where they are known."""
    if run.phase is None:
        return None
    return np.concatenate([run.phase[s.first : s.last] for s in training if s.run == number])


def window_starts(frames: int, recipe: Framed) -> NDArray[np.int64]:
    """First frame of every window in a segment of so many frames, such that all its horizons lie in the segment too."""
    return np.arange(max(0, frames - recipe.window - max(recipe.horizons) + 1))


def target_frames(starts: NDArray[np.int64], recipe: Framed) -> NDArray[np.int64]:
    """Frame that each horizon of each window aims at: `(case, horizon)`. Horizon 1 is the first frame after the window."""
    last_of_window = starts[:, np.newaxis] + (recipe.window - 1)
    return np.asarray(last_of_window + np.array(recipe.horizons, dtype=np.int64))


def windows_and_targets(frames: NDArray[np.float32], recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All windows `(case, window, channel)` of consecutive frames `(frame, channel)`, and targets `(case, horizon, channel)`."""
    starts = window_starts(len(frames), recipe)
    return frames[starts[:, np.newaxis] + np.arange(recipe.window)], frames[target_frames(starts, recipe)]
