"""What a trained model says of itself: the metadata of its file, and the sentences of its card."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Sequence

from eelstm_stream.core.baselines import FittedBaselines
from eelstm_stream.core.model_contract import ModelMetadata, TrainingRun
from eelstm_stream.core.stored_baselines import stored
from eelstm_stream.training.conditions import Conditions
from eelstm_stream.training.dataset import PreparedRun, Segment
from eelstm_stream.training.evaluation import Evaluation
from eelstm_stream.training.fit import Fit
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import USED, Recipe

LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")


def describe(
    name: str,
    material: Material,
    recipe: Recipe,
    fit: Fit,
    baselines: FittedBaselines,
    evaluation: Evaluation,
    seed: int,
) -> ModelMetadata:
    """Everything that the model file says of the model."""
    fitted, conditions = material.fitted, material.conditions
    fitted_to, held_out = ({s.run for s in segments} for segments in (material.training, material.validation))
    trained_on = [material.runs[i] for i in sorted(fitted_to)]
    spectra = sum(s.last - s.first for s in material.training)
    return ModelMetadata(
        name=name,
        family=recipe.family,
        settings={setting: getattr(recipe, setting) for setting in USED[recipe.family]} | {"seed": seed},
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
        training_curve=fit.curve,
        preprocessing=_preprocessing(conditions, recipe),
        alignment_reference=material.reference,
        alignment_range_eV=recipe.alignment_range_eV,
        alignment_max_shift_eV=recipe.alignment_max_shift_eV,
        phase_numerator=fitted.phase.numerator,
        phase_denominator=fitted.phase.denominator,
        phase_noise=fitted.phase_noise,
        phase_scale=fitted.phase_scale,
        variance_over_mean=fitted.variance_over_mean,
        counts_low=fitted.low,
        counts_high=fitted.high,
        validation=evaluation.pooled,
        fitted_baselines=stored(baselines),
        versions={"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in LIBRARIES},
    )


def segments_sentence(runs: Sequence[PreparedRun], segments: Sequence[Segment]) -> str:
    """What was held out to stop the training by."""
    names = [
        runs[s.run].name
        + ("" if s.last - s.first == len(runs[s.run].counts) else f", frames {s.first} to {s.last - 1}")
        for s in segments
    ]
    return "; ".join(names) + ", held out of the training"


def configuration(material: Material, recipe: Recipe, seed: int) -> dict[str, object]:
    """What decides the weights of a fit, as JSON has it: a training may go on only from a checkpoint of the same."""
    runs = {f"run {i}": f"{run.name} ({run.sha256[:16]})" for i, run in enumerate(material.runs, 1)}
    versions = {
        package: importlib.metadata.version(package) for package in ("eelstm-stream", "tensorflow", "keras", "numpy")
    }
    return {
        "recipe": dataclasses.asdict(recipe) | {"energy_axis": str(recipe.energy_axis)},
        "seed": seed,
        **runs,
        **versions,
    }


def _preprocessing(conditions: Conditions, recipe: Recipe) -> str:
    low_eV, high_eV = recipe.alignment_range_eV
    relative = " (of dwell alone: current unknown)" if conditions.dose_is_relative else ""
    return (
        f"counts scaled to the reference dose{relative}, resampled to the model's axis, aligned to the reference in "
        f"{low_eV:g} to {high_eV:g} eV within {recipe.alignment_max_shift_eV:g} eV; all other scaling is in the graph"
    )


def _named(runs: Sequence[PreparedRun]) -> tuple[TrainingRun, ...]:
    return tuple(TrainingRun(name=run.name, sha256=run.sha256, counts_sha256=run.counts_sha256) for run in runs)


def _span(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"
