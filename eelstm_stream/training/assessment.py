"""A model file held against recordings: whether they can be used, and then everything that a report says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.core.energy_axis import covers
from eelstm_stream.core.model_contract import ModelMetadata, TrainingRun
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.model_file import Model
from eelstm_stream.io.recordings import Recording, counts_sha256, recording_sha256
from eelstm_stream.training.conditions import SAME_CURRENT, SAME_DWELL, Conditions
from eelstm_stream.training.dataset import PreparedRun, prepare
from eelstm_stream.training.evaluation import Evaluation, evaluate
from eelstm_stream.training.inspection import faults_of, remarks_on
from eelstm_stream.training.verdict import Margin, margin, verdict
from eelstm_stream.wire.messages import EnergyAxis

SAME_DISPERSION = (
    1e-3  # relative: two channels over the paper's axis. More is another calibration or another magnification
)
UNALIGNED_SHARE = 0.02  # of a run's frames, before it is worth a remark

Part = Literal["training", "validation"]


@dataclass(frozen=True, slots=True, eq=False)
class AssessedRun:
    """One recording, as it came and as the model sees it."""

    recording: Recording
    prepared: PreparedRun
    part_in_model: Part | None  # what it was to the model when it was made; None where it was nothing


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """A model on runs."""

    model: Model
    runs: tuple[AssessedRun, ...]
    evaluation: Evaluation
    remarks: tuple[str, ...]  # whole sentences

    @property
    def metadata(self) -> ModelMetadata:
        """Of the model."""
        return self.model.metadata

    @property
    def is_test(self) -> bool:
        """Whether the model has seen none of the runs. They are all seen, or none is."""
        return all(run.part_in_model is None for run in self.runs)

    @property
    def simulated(self) -> bool:
        """Whether any of the runs is."""
        return any(run.recording.simulated for run in self.runs)

    @property
    def all_simulated(self) -> bool:
        """Whether all of the runs are."""
        return all(run.recording.simulated for run in self.runs)

    @property
    def margin(self) -> Margin:
        """Against the best baseline, at the longest horizon."""
        return margin(self.evaluation.cases[-1], self.metadata.window)

    @property
    def verdict(self) -> list[str]:
        """At the longest horizon, a sentence each. Figures on training data get none."""
        if not self.is_test:
            return [
                "These runs had a part in making the model, so the figures are no test of it, and there is no verdict."
            ]
        complete = self.metadata.fitted_baselines is not None
        lines = verdict(self.evaluation.pooled[-1], all_baselines=complete)
        lines.insert(1, self.margin.sentence)
        if not complete:
            lines.append(
                "The model file holds no fitted baselines, so the strong ones are missing from this comparison."
            )
        return lines


def assess(
    model: Model, recordings: Sequence[Recording], *, resample: bool = False, allow_training_runs: bool = False
) -> Assessment:
    """Evaluate a model on recordings.

    resample: let them have channels of another width. allow_training_runs: evaluate on runs that the model was trained on, or
    stopped by. Raises UnusableInputError, one sentence, for a recording that this model can't be evaluated on; UsageError for
    training runs without leave, or beside others.
    """
    metadata = model.metadata
    for recording in recordings:
        _require_usable(recording, metadata, resample=resample)
    contents = [counts_sha256(recording) for recording in recordings]
    for number, content in enumerate(contents):
        if content in contents[:number]:
            first = recordings[contents.index(content)]
            raise UsageError(f"{recordings[number].name} is the same recording as {first.name}: give each once.")
    parts = [part_in(metadata, recording) for recording in recordings]
    _require_unseen(recordings, parts, allow_training_runs)
    conditions = Conditions(metadata.reference_dwell_s, metadata.reference_dose_pC, metadata.dose_is_relative)
    prepared = [
        # As the service: a model that was trained at an unknown current has the dwell alone normalised.
        prepare(
            replace(recording, beam_current_pA=None) if metadata.dose_is_relative else recording,
            conditions,
            metadata.alignment_reference,
            metadata,
        )
        for recording in recordings
    ]
    runs = tuple(map(AssessedRun, recordings, prepared, parts))
    evaluation = evaluate(model.forecast, metadata.baselines, metadata.phase, prepared, metadata)
    return Assessment(model, runs, evaluation, tuple(r for run in runs for r in _remarks(run, metadata)))


def _require_usable(recording: Recording, metadata: ModelMetadata, *, resample: bool) -> None:
    name, axis = recording.name, recording.energy_axis
    needed = metadata.window + metadata.horizons[-1]
    if len(recording.counts) < needed:
        raise UnusableInputError(
            f"{name} has {len(recording.counts)} frames, and a window of {metadata.window} with a horizon of "
            f"{metadata.horizons[-1]} needs {needed}."
        )
    if not covers(axis, metadata.energy_axis):
        raise UnusableInputError(f"{name} covers {axis}, and the model needs {metadata.energy_axis}.")
    if not resample and _is_of_another_width(axis, metadata):
        raise UnusableInputError(
            f"{name} has channels of {axis.dispersion_eV:g} eV, and the model of {metadata.energy_axis.dispersion_eV:g} eV: "
            "resampled counts have another noise and other errors; if that is what you want, say --resample."
        )
    off = np.abs(recording.dwell_s / metadata.reference_dwell_s - 1) > SAME_DWELL
    if off.any():
        raise UnusableInputError(
            f"{name} has a dwell of {recording.dwell_s[off][0]:g} s in frame {int(np.argmax(off))}, and the model holds for "
            f"{metadata.reference_dwell_s:g} s: evaluate it on runs of that dwell."
        )
    faults = faults_of(recording)
    if faults:
        raise UnusableInputError(f"{name} {' and '.join(faults)}.")


def _is_of_another_width(axis: EnergyAxis, metadata: ModelMetadata) -> bool:
    return abs(axis.dispersion_eV / metadata.energy_axis.dispersion_eV - 1) > SAME_DISPERSION


def part_in(metadata: ModelMetadata, recording: Recording) -> Part | None:
    """What a recording was to a model, by the hash of its counts.

    Older model files have a hash only that holds dwells and currents too. Those may have come from flags then and from the
    file now, or the other way round; so there it's looked for with the current left out, and with those of the model.
    """
    content = counts_sha256(recording)
    frames = len(recording.counts)
    of_model_pA = np.full(frames, metadata.reference_dose_pC / metadata.reference_dwell_s)
    of_model_s = np.full(frames, metadata.reference_dwell_s)
    hashes = {
        recording_sha256(replace(recording, dwell_s=dwell_s, beam_current_pA=current_pA))
        for dwell_s in (recording.dwell_s, of_model_s)
        for current_pA in (recording.beam_current_pA, None, of_model_pA)
    }
    runs: tuple[tuple[Part, tuple[TrainingRun, ...]], ...] = (
        ("training", metadata.training_runs),
        ("validation", metadata.validation_runs),
    )
    return next((part for part, seen in runs for r in seen if r.counts_sha256 == content or r.sha256 in hashes), None)


def _require_unseen(recordings: Sequence[Recording], parts: Sequence[Part | None], allowed: bool) -> None:
    """A figure on training data must never pass for a test: it's refused, and where it's asked for it stands alone."""
    seen = next(((r, p) for r, p in zip(recordings, parts, strict=True) if p is not None), None)
    if seen is None:
        return
    recording, part = seen
    said = "was trained on" if part == "training" else "was chosen by, as a validation run"
    if not allowed:
        raise UsageError(
            f"{recording.name} is a run that the model {said}, so its error there is no test: give other runs, or see it all the "
            "same with --allow-training-runs."
        )
    unseen = next((r for r, p in zip(recordings, parts, strict=True) if p is None), None)
    if unseen is not None:
        raise UsageError(
            f"{recording.name} is a run that the model {said}, and {unseen.name} is not: evaluate them one after the other, lest "
            "their errors be averaged."
        )


def _remarks(run: AssessedRun, metadata: ModelMetadata) -> list[str]:
    """What a reader of the figures should know of a run."""
    recording, found = run.recording, []
    if run.part_in_model is not None:
        found.append(f"was a {run.part_in_model} run of this model")
    if metadata.simulated and not recording.simulated:
        found.append("is a recording, and the model has seen simulated spectra only")
    if _is_of_another_width(recording.energy_axis, metadata):
        found.append(
            f"was resampled from channels of {recording.energy_axis.dispersion_eV:g} eV, which changes its noise"
        )
    if recording.beam_current_pA is not None and not metadata.dose_is_relative:
        dose_pC = frame_dose_pC(float(np.median(recording.beam_current_pA)), float(np.median(recording.dwell_s)))
        if abs(dose_pC / metadata.reference_dose_pC - 1) > SAME_CURRENT:
            found.append(
                f"has {dose_pC:.3g} pC a frame, where the model was trained at {metadata.reference_dose_pC:.3g}, so a step is "
                "another step"
            )
    elif not metadata.dose_is_relative:
        found.append("has no beam current, so only its dwell is normalised")
    unaligned, frames = run.prepared.untrusted_shifts, len(recording.counts)
    if unaligned > UNALIGNED_SHARE * frames:
        found.append(f"has {unaligned} of {frames} frames that could not be aligned to the model's reference")
    odd = remarks_on(recording, metadata.energy_axis)
    if odd:
        found.append(f"has {', '.join(odd)}: used as it is")
    return [f"{recording.name} {clause}." for clause in found]
