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
from eelstm_stream.core.dose import frame_dose_pC, normalisation
from eelstm_stream.core.energy_axis import Rebinning, covers
from eelstm_stream.core.noise import variance_over_mean
from eelstm_stream.core.phase import PhaseFunctional, fit_phase
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import Recording, recording_sha256
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.wire.messages import EnergyAxis

FIRST_FRAMES = 8  # of a run, taken to be pristine; as many at its end to be transformed
SAME_DWELL = 0.01  # relative: what clocks and file formats round away
SAME_DOSE = 0.1  # relative: how far a current may wander before a step of the window means something else
WHOLE_RUN_VALIDATION = 0.1  # share of the runs held out to stop the training by
BLOCK_VALIDATION = 0.2  # share of each run, where there are too few runs to hold out one


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all runs of one training share."""

    energy_axis: EnergyAxis
    dwell_s: float
    dose_pC: float  # of the median frame; where the current is unknown it counts as 1 pA
    dose_is_relative: bool


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRun:
    """One run as the network sees it: normalised, on the model's axis, aligned."""

    name: str
    sha256: str  # of what the recording holds, see `recording_sha256`
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
    variance_over_mean: float
    mean: NDArray[np.float32]  # (channel,) mean counts


def common_conditions(runs: Sequence[Recording], recipe: Recipe) -> Conditions:
    """The axis, dwell and dose that all runs share; the first run's are the measure.

    Raises UnusableInputError that names the first run that differs from it, is too short for one window, or does not cover
    the model's axis.
    """
    first = runs[0]
    dwell_s = float(np.median(first.dwell_s))
    dose_pC = float(np.median(_doses_pC(first)))
    if not covers(first.energy_axis, recipe.energy_axis):
        raise UnusableInputError(
            f"{first.name} covers {first.energy_axis}, and the model needs {recipe.energy_axis}: use runs that cover it."
        )
    for run in runs:
        if len(run.counts) < recipe.frames_needed:
            raise UnusableInputError(
                f"{run.name} has {len(run.counts)} frames, and a window of {recipe.window} with a horizon of "
                f"{max(recipe.horizons)} needs {recipe.frames_needed}."
            )
        if run.energy_axis != first.energy_axis:
            raise UnusableInputError(
                f"{run.name} covers {run.energy_axis}, and {first.name} {first.energy_axis}: train on runs of one axis."
            )
        odd = np.abs(run.dwell_s / dwell_s - 1) > SAME_DWELL
        if odd.any():
            raise UnusableInputError(
                f"{run.name} has a dwell of {run.dwell_s[odd][0]:g} s, and {first.name} of {dwell_s:g} s: a model holds for "
                "one dwell, so train on runs of one."
            )
        if (run.beam_current_pA is None) != (first.beam_current_pA is None):
            unknown, known = (run, first) if run.beam_current_pA is None else (first, run)
            raise UnusableInputError(
                f"the beam current is known for {known.name} and not for {unknown.name}: give it for all with --current."
            )
        median_dose_pC = float(np.median(_doses_pC(run)))
        if abs(median_dose_pC / dose_pC - 1) > SAME_DOSE:
            raise UnusableInputError(
                f"{run.name} has {median_dose_pC:.3g} pC a frame, and {first.name} {dose_pC:.3g} pC: a step would mean "
                "another dose, so train on runs of one beam current."
            )
    return Conditions(first.energy_axis, dwell_s, dose_pC, dose_is_relative=first.beam_current_pA is None)


def _doses_pC(run: Recording) -> NDArray[np.float64]:
    current_pA = np.ones(len(run.dwell_s)) if run.beam_current_pA is None else run.beam_current_pA
    return np.array([frame_dose_pC(float(i), float(t)) for i, t in zip(current_pA, run.dwell_s, strict=True)])


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
    rebinning = Rebinning(conditions.energy_axis, recipe.energy_axis)
    firsts = []
    for run in runs:
        scales = np.array(_scales(run, conditions)[:FIRST_FRAMES])
        firsts.append(np.mean(run.counts[:FIRST_FRAMES] * scales[:, np.newaxis], axis=0))
    onto_first = Preparation(
        conditions.energy_axis, recipe.energy_axis, alignment_to(rebinning(firsts[0]), recipe), origin=runs[0].name
    )
    aligned = np.stack([onto_first(first, 1.0).counts for first in firsts])
    return np.asarray(aligned.mean(axis=0, dtype=np.float64), dtype=np.float32)


def alignment_to(reference: NDArray[np.float32], recipe: Recipe) -> Alignment:
    """Alignment against a reference `(channel,)` on the model's axis."""
    return Alignment(reference, recipe.energy_axis, recipe.alignment_range_eV, recipe.alignment_max_shift_eV)


def prepare(run: Recording, conditions: Conditions, reference: NDArray[np.float32], recipe: Recipe) -> PreparedRun:
    """A run as the service would prepare it, spectrum by spectrum.

    The noise-free counts of a simulated run are shifted by what was found on its noisy ones: the question there is what
    would have stood in that frame without noise.
    """
    preparation = Preparation(
        conditions.energy_axis, recipe.energy_axis, alignment_to(reference, recipe), origin=run.name
    )
    scales = _scales(run, conditions)
    prepared = [preparation(counts, scale) for counts, scale in zip(run.counts, scales, strict=True)]
    clean_counts = None
    if run.clean_counts is not None:
        rebinning = Rebinning(conditions.energy_axis, recipe.energy_axis)
        clean_counts = np.stack(
            [
                rebinning(clean * scale, frame.shift.shift_eV)
                for clean, scale, frame in zip(run.clean_counts, scales, prepared, strict=True)
            ]
        )
    return PreparedRun(
        name=run.name,
        sha256=recording_sha256(run),
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
    begins = [part[:FIRST_FRAMES] for part, s in zip(parts, training, strict=True) if s.first == 0]
    ends = [part[-FIRST_FRAMES:] for part, s in zip(parts, training, strict=True) if s.last == len(runs[s.run].counts)]
    frames = np.concatenate(parts)
    try:
        phase = fit_phase(np.concatenate(begins), np.concatenate(ends))
        noise = float(np.mean([variance_over_mean(part) for part in parts if len(part) >= 3]))
    except ValueError as error:
        raise UnusableInputError(f"the training runs cannot be used: {error}.") from None
    return Fitted(
        low=float(frames.min()),
        high=float(frames.max()),
        phase=phase,
        variance_over_mean=noise,
        mean=frames.mean(axis=0, dtype=np.float64).astype(np.float32),
    )


def window_starts(frames: int, recipe: Recipe) -> NDArray[np.int64]:
    """First frame of every window in a segment of so many frames, such that all its horizons lie in the segment too."""
    return np.arange(max(0, frames - recipe.frames_needed + 1))


def target_frames(starts: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
    """Frame that each horizon of each window aims at: `(case, horizon)`. Horizon 1 is the first frame after the window."""
    last_of_window = starts[:, np.newaxis] + (recipe.window - 1)
    return np.asarray(last_of_window + np.array(recipe.horizons, dtype=np.int64))


def windows_and_targets(frames: NDArray[np.float32], recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All windows `(case, window, channel)` of consecutive frames `(frame, channel)`, and targets `(case, horizon, channel)`."""
    starts = window_starts(len(frames), recipe)
    return frames[starts[:, np.newaxis] + np.arange(recipe.window)], frames[target_frames(starts, recipe)]
