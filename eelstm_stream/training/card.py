"""The card of a model: what it was trained on, what its errors are, how to make it again. For a person, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eelstm_stream.core.model_contract import HorizonError, ModelMetadata
from eelstm_stream.core.phase_scale import UNKNOWN_SCALE, PhaseScale
from eelstm_stream.training.evaluation import Evaluation
from eelstm_stream.training.labels import label
from eelstm_stream.training.verdict import listed, verdict


def write_card(
    metadata: ModelMetadata,
    evaluation: Evaluation,
    *,
    sha256: str,
    network: str,
    course: str,
    validated_on: str,
    tested_on: Sequence[str],
    remarks: Sequence[str],
    command: str,
) -> str:
    """The card's text.

    sha256: of the model file. network and course: what was trained and how it went; validated_on: what chose its best epoch; command:
    the line that makes it again. Each a sentence, without its full stop. remarks: on the runs, whole sentences.
    """
    axis = metadata.energy_axis
    lines = [
        f"# {metadata.name}",
        "",
        f"Forecasts the spectrum {_steps(metadata.horizons)} ahead from the last {metadata.window}, {axis} ({axis.size} channels).",
        "",
        "|  |  |",
        "|---|---|",
        f"| SHA-256 | `{sha256}` |",
        f"| trained on | {metadata.trained_on} |",
        f"| network | {network} |",
        f"| course | {course} |",
        f"| validated on | {validated_on} |",
        f"| tested on | {', '.join(tested_on)}: seen by nothing that was fitted |",
        f"| reference | {metadata.reference_dwell_s:g} s and {metadata.reference_dose_pC:g} pC a frame; valid at this dwell |",
        f"| before the graph | {metadata.preprocessing} |",
        f"| noise | variance of sums over channels {metadata.variance_over_mean:.2f} × their mean |",
        *([] if metadata.phase_noise is None else [f"| phase | {_phase(metadata)} |"]),
        f"| made again by | `{command}` |",
        "",
    ]
    last = evaluation.pooled[-1]
    if len(evaluation.pooled) > 1:
        lines += ["## Errors by horizon", "", *horizons_table(evaluation.pooled), ""]
    lines += [f"## Errors at horizon {last.horizon}", "", *errors_table(last), "", " ".join(verdict(last)), ""]
    lines += [
        f"## By run, at horizon {last.horizon}",
        "",
        "| run | rmse | noise floor | best baseline | its rmse | phase rmse |",
        "|---|---|---|---|---|---|",
    ]
    for name, of_run in evaluation.by_run:
        e = of_run[-1]
        best, error = _best(e.baselines)
        lines.append(f"| {name} | {e.rmse:.1f} | {e.noise_floor:.1f} | {best} | {error:.1f} | {e.phase_rmse:.3f} |")
    if remarks:
        lines += ["", "## What is odd about the runs", "", *(f"- {remark}" for remark in remarks)]
    lines += [
        "",
        "## What it does not know",
        "",
        *_limits(metadata),
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in sorted(metadata.versions.items())) + ".",
    ]
    return "\n".join(lines) + "\n"


def _phase(metadata: ModelMetadata) -> str:
    last = metadata.validation[-1]
    return (
        f"measured on one spectrum to ±{metadata.phase_noise:.3f} of counting noise; forecast {last.horizon} ahead against "
        f"measured, root mean square {last.phase_rmse:.3f}{_scale(metadata.phase_scale)}"
    )


def _scale(scale: PhaseScale | None) -> str:
    if scale is None or scale == UNKNOWN_SCALE:
        return "; how it scatters between specimens is not known, for want of runs"
    scatter = f"; pristine specimens lie ±{scale.start_scatter:.3f} about 0"
    if not scale.from_truth:
        return scatter
    halfway = [knot for knot in scale.knots if knot.fraction <= 0.5][-1]
    return f"{scatter}; where {halfway.fraction:g} is transformed it is {halfway.phase:.2f}"


def _steps(horizons: Sequence[int]) -> str:
    if len(horizons) > 2 and horizons[-1] - horizons[0] == len(horizons) - 1:
        return f"{horizons[0]} to {horizons[-1]} steps"
    return listed([str(horizon) for horizon in horizons]) + (" step" if tuple(horizons) == (1,) else " steps")


def horizons_table(errors: Sequence[HorizonError]) -> list[str]:
    """One row a horizon, beside the baseline that is best there."""
    rows = [
        "| horizon | rmse | over the noise floor | against the noise-free truth | best baseline | its rmse | phase |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in errors:
        best, error = _best(e.baselines)
        truth = "unknown" if e.rmse_clean is None else f"{e.rmse_clean:.1f}"
        rows.append(
            f"| {e.horizon} | {e.rmse:.1f} | {e.rmse / e.noise_floor:.3f} | {truth} | {best} | {error:.1f} | {e.phase_rmse:.3f} |"
        )
    return rows


def _best(baselines: Mapping[str, float]) -> tuple[str, float]:
    best = min(baselines, key=baselines.__getitem__)
    return label(best), baselines[best]


def errors_table(errors: HorizonError) -> list[str]:
    """One row a forecaster, best against the noisy target first."""
    counts = {"**this model**": errors.rmse} | _labelled(errors.baselines)
    phase = {"**this model**": errors.phase_rmse} | _labelled(errors.phase_baselines)
    clean = {"**this model**": errors.rmse_clean} | _labelled(errors.baselines_clean)
    rows = [
        "Root mean square over windows and channels, counts at the reference dose; the noise floor is the noise of one spectrum.",
        "",
        "| forecaster | rmse | over the noise floor | against the noise-free truth | phase |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(counts, key=counts.__getitem__):
        truth = clean.get(name)
        known = "unknown" if truth is None else f"{truth:.1f}"
        rows.append(
            f"| {name} | {counts[name]:.1f} | {counts[name] / errors.noise_floor:.3f} | {known} | {phase[name]:.3f} |"
        )
    return [*rows, f"| noise floor | {errors.noise_floor:.1f} | 1 | 0 | |"]


def _labelled(errors: Mapping[str, float]) -> dict[str, float]:
    return {label(name): error for name, error in errors.items()}


def _limits(metadata: ModelMetadata) -> list[str]:
    limits = []
    if metadata.simulated:
        limits.append(
            "- It has never seen a real spectrum. What it forecasts for an instrument is a demonstration until it is trained "
            "on recorded runs."
        )
    limits += [
        f"- It holds for {metadata.reference_dwell_s:g} s a frame at about {metadata.reference_dose_pC:g} pC: at another dose a step is "
        "another step. Counts of other frames are scaled to its dose, which does not change how fast the specimen changes.",
        "- Phase is 0 on the mean of the training runs' first frames and 1 on that of their last, not on a pure substance.",
        "- It carries on what the session's mean so far has of its own, and is at its best once there are some frames of it."
        if metadata.family == "corrected"
        else "- It has no memory beyond its window, so a background or calibration unlike those of its training runs stays as an "
        "offset.",
    ]
    return limits
