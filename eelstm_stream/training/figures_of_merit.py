"""An assessment as the JSON object of `eelstm evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eelstm_stream.core.metrics import STAGE_LIMITS
from eelstm_stream.core.model_contract import HorizonError
from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.cases import Cases, scores


def as_figures(assessment: Assessment) -> dict[str, Any]:
    """Every figure, by name; those at the top are for the longest horizon.

    On runs that made the model they all stand under `on_training_runs`, where nobody who looks for a test's `rmse` finds them.
    """
    figures = _figures(assessment)
    said = {
        "model": assessment.metadata.name,
        "sha256": assessment.model.sha256,
        "is_test": assessment.is_test,
        "simulated": assessment.simulated,
        "all_baselines": assessment.metadata.fitted_baselines is not None,
        "verdict": assessment.verdict,
        "remarks": list(assessment.remarks),
    }
    return finite(figures | said if assessment.is_test else said | {"on_training_runs": figures})  # type: ignore[no-any-return]


def _figures(assessment: Assessment) -> dict[str, Any]:
    evaluation, longest = assessment.evaluation, assessment.evaluation.cases[-1]
    ahead = assessment.margin
    return {
        **errors_of(evaluation.pooled[-1]),
        "margin": {"baseline": ahead.baseline, "counts": ahead.counts, "standard_error": ahead.standard_error},
        "metrics": {name: asdict(score) for name, score in scores(longest).items()},
        "stage_limits": list(STAGE_LIMITS),
        "stages": {name: _stage(cases) for name, cases in evaluation.stages.items()},
        "per_horizon": [errors_of(errors) for errors in evaluation.pooled],
        "runs": [
            {
                "run": run.recording.name,
                "sha256": run.prepared.sha256,
                "frames": len(run.recording.counts),
                "windows": len(cases[-1]),
                "simulated": run.recording.simulated,
                "part_in_model": run.part_in_model,
                "per_horizon": [errors_of(errors) for errors in of_run],
            }
            for run, (_, cases), (_, of_run) in zip(assessment.runs, evaluation.runs, evaluation.by_run, strict=True)
        ],
    }


def errors_of(errors: HorizonError) -> dict[str, Any]:
    """What DESIGN calls for at one horizon; errors against the truth only where it is known."""
    figures = errors.model_dump(mode="json")
    figures["over_noise_floor"] = errors.rmse / errors.noise_floor if errors.noise_floor > 0 else None
    if errors.rmse_clean is None:
        del figures["rmse_clean"], figures["baselines_clean"]
    return figures


def _stage(cases: Cases) -> dict[str, Any]:
    if not len(cases):
        return {"windows": 0}
    return {
        "windows": len(cases),
        "noise_floor": cases.noise_floor,
        "rmse": {name: score.rmse for name, score in scores(cases).items()},
    }


def finite(figures: Any) -> Any:
    """JSON has no word for what is not a number."""
    if isinstance(figures, Mapping):
        return {key: finite(value) for key, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [finite(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
