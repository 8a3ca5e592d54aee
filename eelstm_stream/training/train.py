"""From recordings to a model file: prepare, split, train, export, evaluate the export, write."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io.model_file import open_model
from eelstm_stream.io.recordings import Recording, load_recording
from eelstm_stream.training.assessment import assess
from eelstm_stream.training.card import write_card
from eelstm_stream.training.checkpoint import checkpoint_folder, open_checkpoints, refuse_to_begin_over
from eelstm_stream.training.description import configuration, describe, segments_sentence
from eelstm_stream.training.evaluation import Evaluation, evaluate
from eelstm_stream.training.export import OnnxForecaster, refuse_to_overwrite, to_onnx, write_model_files
from eelstm_stream.training.families import fit
from eelstm_stream.training.fit import Fit
from eelstm_stream.training.inspection import remarks_on
from eelstm_stream.training.interrupt import Interrupt
from eelstm_stream.training.logs import open_logs
from eelstm_stream.training.material import Material, gather
from eelstm_stream.training.progress import TrainingProgress
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.training.report import refuse_report, write_report
from eelstm_stream.wire.messages import Name

__all__ = ["Fit", "Material", "TrainedModel", "fit", "gather", "train_model"]

DEFAULT_EPOCHS = 300
PATIENCE = 10  # epochs without a better validation error


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training left behind."""

    path: Path
    sha256: str
    metadata: ModelMetadata
    evaluation: Evaluation
    epochs: int
    remarks: tuple[str, ...]  # what is odd about the runs, a sentence a run
    seconds: float  # of this process: what came before a checkpoint is not in it


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
    resume: bool = False,
    force: bool = False,
    resample: bool = False,
    logs: Path | None = None,
    report_to: Path | None = None,
    dwell_s: float | None = None,
    beam_current_pA: float | None = None,
    command: str = "eelstm train",
) -> TrainedModel:
    """Train the recipe's model (default: the paper's), and write the model file, its hash and its card.

    runs: to train on, some of which are held out to stop by; test: to report errors on. name: in the metadata; the
    file's stem where not given. resume: go on with a training to the same file that was broken off, if there is one; force:
    begin anew where there is one, and overwrite what there is. resample: let the runs have other energy axes. logs: folder
    for TensorBoard. report_to: page of the test with its figures, .html. dwell_s, beam_current_pA: in place of what the recordings say. command: for the card.

    Raises UsageError for arguments that can't be, UnusableInputError for runs that can't be trained on, each before any
    training. Nothing is written until all is done, except checkpoints beside the model and the logs.
    """
    began = time.monotonic()
    recipe = recipe or RECIPES["paper"]
    name = name or out.stem
    _check_arguments(runs, test, out, name, epochs=epochs, force=force)
    if report_to is not None:
        refuse_report(report_to, force=force)
    if not (resume or force):
        refuse_to_begin_over(checkpoint_folder(out))
    for needed in ("tensorflow", "keras", "tf2onnx", "onnx"):  # better said before the recordings are read
        if importlib.util.find_spec(needed) is None:
            raise UsageError(f"training needs {needed}: install eelstm-stream[train].")

    with ExitStack() as stack:
        progress = stack.enter_context(TrainingProgress(epochs))
        progress.stage("reading and aligning")
        recordings, tests = ([_recording(r, dwell_s, beam_current_pA) for r in given] for given in (runs, test))
        material = gather(recordings, tests, recipe, resample=resample)
        remarks = _remarks([*recordings, *tests], material, recipe)
        for remark in remarks:
            progress.say(remark)
        checkpoints = stack.enter_context(
            open_checkpoints(checkpoint_folder(out), configuration(material, recipe, seed), resume=resume, anew=force)
        )
        log = stack.enter_context(open_logs(logs, recipe, material.fitted.span, resume=resume, anew=force))

        interrupt = stack.enter_context(Interrupt())

        def report(epoch: int, training_rmse: float, validation_rmse: float) -> None:
            progress.epoch(epoch, training_rmse, validation_rmse)
            log.epoch(epoch, training_rmse, validation_rmse)
            interrupt.check()

        progress.train(checkpoints.curve)
        try:
            fitted = fit(
                material, recipe, seed=seed, epochs=epochs, patience=patience, report=report, checkpoints=checkpoints
            )
        except KeyboardInterrupt:
            if checkpoints.saved:
                progress.say(f"stopped; {checkpoints.folder} keeps what was trained: go on with --resume.")
            else:
                progress.say("stopped before the first checkpoint: nothing was kept.")
            raise
        progress.stage("exporting and testing")
        proto = to_onnx(fitted, material.fitted.phase, recipe)
        baselines = fit_baselines(material.training_parts, recipe.window, recipe.horizons)
        evaluation = evaluate(OnnxForecaster(proto), baselines.by_name(), material.fitted.phase, material.test, recipe)
        metadata = describe(name, material, recipe, fitted, baselines, evaluation, seed)

        def card(sha256: str) -> str:
            return write_card(
                metadata,
                evaluation,
                sha256=sha256,
                network=fitted.sentence,
                course=_course(fitted, seed, time.monotonic() - began),
                validated_on=segments_sentence(material.runs, material.validation),
                tested_on=[run.name for run in material.test],
                remarks=remarks,
                command=command,
            )

        sha256 = write_model_files(proto, metadata, card, out, force=force)
        checkpoints.discard()
        if report_to is not None:
            progress.stage("drawing the report")
            try:
                write_report(assess(open_model(out), tests, resample=resample), report_to, force=force)
            except (EelstmError, OSError) as error:  # the model is whole and written, and its figures are worth having
                progress.say(f"the model is written, its report is not: {error}")
    return TrainedModel(out, sha256, metadata, evaluation, fitted.epochs, remarks, time.monotonic() - began)


def _check_arguments(
    runs: Sequence[object], test: Sequence[object], out: Path, name: str, *, epochs: int, force: bool
) -> None:
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


def _course(fitted: Fit, seed: int, seconds: float) -> str:
    if fitted.network is None:
        return f"solved in one step; validation rmse {fitted.validation_rmse:.1f} counts"
    return (
        f"seed {seed}, {fitted.epochs} epochs, {seconds / 60:.1f} min on {os.cpu_count()} cores, best validation rmse "
        f"{fitted.validation_rmse:.1f} counts in epoch {fitted.best_epoch}"
    )


def _recording(run: Path | Recording, dwell_s: float | None, beam_current_pA: float | None) -> Recording:
    return run if isinstance(run, Recording) else load_recording(run, dwell_s=dwell_s, beam_current_pA=beam_current_pA)


def _remarks(recordings: Sequence[Recording], material: Material, recipe: Recipe) -> tuple[str, ...]:
    """One sentence a run that is odd."""
    said = []
    for recording, prepared in zip(recordings, [*material.runs, *material.test], strict=True):
        found = remarks_on(recording, recipe.energy_axis)
        if prepared.untrusted_shifts:
            found.append(f"{prepared.untrusted_shifts} of {len(prepared.counts)} frames that could not be aligned")
        if found:
            said.append(f"{recording.name} has {', '.join(found)}: used as it is.")
    return tuple(said)
