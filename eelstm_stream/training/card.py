"""The card of a model: what it was trained on, what its errors are, how to make it again. For a person, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eelstm_stream.core.model_contract import HorizonError, ModelMetadata
from eelstm_stream.training.evaluation import Evaluation

LABELS = {
    "persistence": "persistence",
    "window_mean": "mean of the window",
    "linear_extrapolation": "linear extrapolation",
    "holt": "Holt",
    "pca_linear_trend": "PCA + linear trend",
    "pca_ridge": "PCA + ridge",
    "pca_linear_trend_carried": "PCA + linear trend + carried residual",
    "pca_ridge_carried": "PCA + ridge + carried residual",
    "dmd": "dynamic mode decomposition",
}


def write_card(
    metadata: ModelMetadata,
    evaluation: Evaluation,
    *,
    network: str,
    course: str,
    validated_on: str,
    tested_on: Sequence[str],
    command: str,
) -> str:
    """The card's text.

    network and course: what was trained and how it went; validated_on: what stopped it; command: the line that makes it
    again. Each a sentence, without its full stop.
    """
    axis = metadata.energy_axis
    lines = [
        f"# {metadata.name}",
        "",
        f"Forecasts the spectrum {_steps(metadata.horizons)} ahead from the last {metadata.window}, {axis} ({axis.size} channels).",
        "",
        "|  |  |",
        "|---|---|",
        f"| trained on | {metadata.trained_on} |",
        f"| network | {network} |",
        f"| course | {course} |",
        f"| stopped by | {validated_on} |",
        f"| tested on | {', '.join(tested_on)}: seen by nothing that was fitted |",
        f"| reference | {metadata.reference_dwell_s:g} s and {metadata.reference_dose_pC:g} pC a frame; valid at this dwell |",
        f"| before the graph | {metadata.preprocessing} |",
        f"| noise | variance of sums over channels {metadata.variance_over_mean:.2f} × their mean |",
        f"| made again by | `{command}` |",
        "",
    ]
    for errors in evaluation.pooled:
        lines += [f"## Errors at horizon {errors.horizon}", "", *errors_table(errors), "", *_verdict(errors), ""]
    lines += [
        "## By run",
        "",
        "| run | horizon | rmse | noise floor | PCA + linear trend | PCA + ridge | phase rmse |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_run in evaluation.by_run:
        for e in of_run:
            strongest = (e.rmse, e.noise_floor, e.baselines["pca_linear_trend"], e.baselines["pca_ridge"])
            counts = " | ".join(f"{error:.1f}" for error in strongest)
            lines.append(f"| {name} | {e.horizon} | {counts} | {e.phase_rmse:.3f} |")
    lines += [
        "",
        "## What it does not know",
        "",
        *_limits(metadata),
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in sorted(metadata.versions.items())) + ".",
    ]
    return "\n".join(lines) + "\n"


def _steps(horizons: Sequence[int]) -> str:
    return " and ".join(map(str, horizons)) + (" step" if tuple(horizons) == (1,) else " steps")


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
    return {LABELS.get(name, name): error for name, error in errors.items()}


def _verdict(errors: HorizonError) -> list[str]:
    """Where it wins and where it loses, in words."""
    sentences = [_compared("noisy spectra", errors.rmse, errors.baselines)]
    if errors.rmse_clean is not None:
        sentences.append(_compared("the noise-free truth", errors.rmse_clean, errors.baselines_clean))
    sentences.append(_compared("the measured phase", errors.phase_rmse, errors.phase_baselines))
    return [" ".join(sentences)]


def _compared(target: str, error: float, baselines: Mapping[str, float]) -> str:
    better = [LABELS.get(n, n) for n, e in baselines.items() if e < error]
    worse = [LABELS.get(n, n) for n, e in baselines.items() if e >= error]
    if not better:
        return f"Against {target} it beats every baseline."
    beats = f"beats {_listed(worse)} and " if worse else ""
    return f"Against {target} it {beats}loses to {_listed(better)}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


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
        "- It has no memory beyond its window, so a background or calibration unlike those of its training runs stays as an offset.",
    ]
    return limits
