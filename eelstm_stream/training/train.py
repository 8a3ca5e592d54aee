"""From recordings to a model file: prepare, split, train, export, evaluate the export, write."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from eelstm_stream.core.baselines import FittedBaselines, fit_baselines
from eelstm_stream.core.model_contract import ModelMetadata, TrainingEpoch, TrainingRun
from eelstm_stream.core.stored_baselines import stored
from eelstm_stream.errors import UsageError
from eelstm_stream.io.recordings import Recording, load_recording
from eelstm_stream.training.card import write_card
from eelstm_stream.training.dataset import (
    Conditions,
    Fitted,
    PreparedRun,
    Segment,
    alignment_reference,
    common_conditions,
    fit_to,
    prepare,
    split_by_run,
)
from eelstm_stream.training.evaluation import Evaluation, evaluate
from eelstm_stream.training.export import OnnxForecaster, refuse_to_overwrite, to_onnx, write_model_files
from eelstm_stream.training.network import train_network
from eelstm_stream.training.progress import TrainingProgress
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow
from eelstm_stream.wire.messages import Name

DEFAULT_EPOCHS = 300
LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")
PATIENCE = 10  # epochs without a better validation error


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training left behind."""

    path: Path
    sha256: str
    metadata: ModelMetadata
    evaluation: Evaluation
    epochs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is decided before a network exists."""

    conditions: Conditions
    reference: NDArray[np.float32]  # (channel,) alignment reference
    runs: list[PreparedRun]  # training and validation
    test: list[PreparedRun]
    training: list[Segment]
    validation: list[Segment]
    fitted: Fitted
    simulated: bool


def gather(runs: Sequence[Recording], test: Sequence[Recording], recipe: Recipe) -> Material:
    """Prepare and split. Test runs are prepared with what the training segments determine, and determine nothing."""
    conditions = common_conditions([*runs, *test], recipe)
    training, validation = split_by_run([len(r.counts) for r in runs], recipe, [r.name for r in runs])
    trained_on = sorted({s.run for s in training})
    reference = alignment_reference([runs[i] for i in trained_on], conditions, recipe)
    prepared = [prepare(run, conditions, reference, recipe) for run in runs]
    tested = [prepare(run, conditions, reference, recipe) for run in test]
    seen = {run.sha256: run.name for run in prepared}
    for run in tested:
        if run.sha256 in seen:
            raise UsageError(
                f"the test run {run.name} is the same recording as {seen[run.sha256]}: test on another run."
            )
    return Material(
        conditions=conditions,
        reference=reference,
        runs=prepared,
        test=tested,
        training=training,
        validation=validation,
        fitted=fit_to(prepared, training),
        simulated=any(r.simulated for r in runs),
    )


def train_model(
    runs: Sequence[Path | Recording],
    test: Sequence[Path | Recording],
    out: Path,
    *,
    recipe: Recipe | None = None,
    name: str | None = None,
    seed: int = 0,
    epochs: int = DEFAULT_EPOCHS,
    patience: int = PATIENCE,
    force: bool = False,
    dwell_s: float | None = None,
    beam_current_pA: float | None = None,
    command: str = "eelstm train",
) -> TrainedModel:
    """Train the recipe's network (default: the paper's), and write the model file, its hash and its card.

    runs: to train on, some of which are held out to stop by; test: to report errors on. name: in the metadata; the
    file's stem where not given. dwell_s, beam_current_pA: in place of what the recordings say. command: for the card.

    Raises UsageError for arguments that can't be, UnusableInputError for runs that can't be trained on, each before any
    training. Nothing is written until all is done.
    """
    began = time.monotonic()
    recipe = recipe or RECIPES["paper"]
    name = name or out.stem
    refuse_to_overwrite(out, force)
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError(
            f"{name!r} can't be a model's name: begin with a letter or digit, and go on with these and _ . : -"
        ) from None
    if not runs or not test:
        raise UsageError("training needs at least one run, and another one to test on.")
    if epochs < 1:
        raise UsageError(f"--epochs is {epochs}, and it must be 1 at least.")
    keras_and_tensorflow()  # whether it is there is better said before the recordings are read
    for needed in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(needed) is None:
            raise UsageError(f"training needs {needed}: install eelstm-stream[train].")

    with TrainingProgress(epochs) as progress:
        progress.stage("reading and aligning")
        material = gather(
            [_recording(run, dwell_s, beam_current_pA) for run in runs],
            [_recording(run, dwell_s, beam_current_pA) for run in test],
            recipe,
        )
        network = train_network(
            material.runs,
            material.training,
            material.validation,
            material.fitted,
            recipe,
            seed=seed,
            epochs=epochs,
            patience=patience,
            report=progress.epoch,
        )
        progress.stage("exporting and testing")
        proto = to_onnx(network, material.fitted, recipe)
        parts = [material.runs[s.run].counts[s.first : s.last] for s in material.training]
        baselines = fit_baselines(parts, recipe.window, recipe.horizons)
        evaluation = evaluate(OnnxForecaster(proto), baselines.by_name(), material.fitted.phase, material.test, recipe)

    metadata = _metadata(name, material, evaluation, recipe, baselines, progress.curve)
    card = write_card(
        metadata,
        evaluation,
        network=_network_sentence(recipe),
        course=(
            f"seed {seed}, {progress.epochs_done} epochs in {(time.monotonic() - began) / 60:.0f} min on {os.cpu_count()} cores, "
            f"best validation rmse {progress.best_rmse:.1f} counts in epoch {progress.best_epoch}"
        ),
        validated_on=_segments_sentence(material.runs, material.validation),
        tested_on=[run.name for run in material.test],
        command=command,
    )
    sha256 = write_model_files(proto, metadata, card, out, force=force)
    return TrainedModel(out, sha256, metadata, evaluation, progress.epochs_done, time.monotonic() - began)


def _recording(run: Path | Recording, dwell_s: float | None, beam_current_pA: float | None) -> Recording:
    return run if isinstance(run, Recording) else load_recording(run, dwell_s=dwell_s, beam_current_pA=beam_current_pA)


def _metadata(
    name: str,
    material: Material,
    evaluation: Evaluation,
    recipe: Recipe,
    baselines: FittedBaselines,
    curve: Sequence[TrainingEpoch],
) -> ModelMetadata:
    fitted, conditions = material.fitted, material.conditions
    fitted_to, held_out = ({s.run for s in segments} for segments in (material.training, material.validation))
    trained_on = [material.runs[i] for i in sorted(fitted_to)]
    spectra = sum(s.last - s.first for s in material.training)
    low_eV, high_eV = recipe.alignment_range_eV
    return ModelMetadata(
        name=name,
        energy_axis=recipe.energy_axis,
        window=recipe.window,
        horizons=recipe.horizons,
        reference_dwell_s=conditions.dwell_s,
        reference_dose_pC=conditions.dose_pC,
        dose_is_relative=conditions.dose_is_relative,
        simulated=material.simulated,
        trained_on=(
            f"{spectra} {'simulated ' if material.simulated else ''}spectra of {conditions.dwell_s:g} s in {len(trained_on)} "
            f"run{'s' if len(trained_on) > 1 else ''}: {_span([run.name for run in trained_on])}"
        ),
        training_runs=_named(trained_on),
        validation_runs=_named([run for i, run in enumerate(material.runs) if i in held_out - fitted_to]),
        training_curve=tuple(curve),
        preprocessing=(
            f"counts scaled to the reference dose{' (of dwell alone: current unknown)' if conditions.dose_is_relative else ''}, "
            f"resampled to the model's axis, aligned to the reference in {low_eV:g} to {high_eV:g} eV within "
            f"{recipe.alignment_max_shift_eV:g} eV; min-max scaling is in the graph"
        ),
        alignment_reference=material.reference,
        alignment_range_eV=recipe.alignment_range_eV,
        alignment_max_shift_eV=recipe.alignment_max_shift_eV,
        phase_numerator=fitted.phase.numerator,
        phase_denominator=fitted.phase.denominator,
        variance_over_mean=fitted.variance_over_mean,
        counts_low=fitted.low,
        counts_high=fitted.high,
        validation=evaluation.pooled,
        fitted_baselines=stored(baselines),
        versions={"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in LIBRARIES},
    )


def _named(runs: Sequence[PreparedRun]) -> tuple[TrainingRun, ...]:
    return tuple(TrainingRun(name=run.name, sha256=run.sha256) for run in runs)


def _network_sentence(recipe: Recipe) -> str:
    return (
        f"{recipe.lstm_layers} × LSTM of {recipe.lstm_units} units, dropout {recipe.dropout:g} after each, Dense to "
        f"{len(recipe.horizons)} × {recipe.energy_axis.size} channels; Adam at {recipe.learning_rate:g}, batches of {recipe.batch}, mean "
        "squared error on noisy counts scaled to [0, 1]; the last bias begins at the mean spectrum"
        + (f"; weights averaged with momentum {recipe.weight_average:g}" if recipe.weight_average else "")
    )


def _segments_sentence(runs: Sequence[PreparedRun], segments: Sequence[Segment]) -> str:
    names = [
        runs[s.run].name
        + ("" if s.last - s.first == len(runs[s.run].counts) else f", frames {s.first} to {s.last - 1}")
        for s in segments
    ]
    return "; ".join(names) + ", held out of the training"


def _span(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"
