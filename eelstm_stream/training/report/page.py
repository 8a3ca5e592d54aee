"""The report: one page with its pictures inside, that needs no network and runs nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eelstm_stream.core.metrics import EDGE_WEIGHT, STAGE_LIMITS, EDGES_eV
from eelstm_stream.core.peaks import lines_on
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.training.assessment import Assessment
from eelstm_stream.training.cases import MODEL, Score, scores
from eelstm_stream.training.labels import label

TEMPLATE = "report.html.j2"
NEEDED = ("matplotlib", "jinja2")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page."""

    heading: str
    caption: str
    uri: str


def refuse_report(path: Path, *, force: bool) -> None:
    """Raises UsageError where a report can't be written to `path`, which is better said before the work."""
    if path.suffix != ".html":
        raise UsageError(f"{path.name}: a report is written as .html, so give a name that ends in it.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder: make it first.")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another name, or overwrite it with --force.")
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"a report needs {package}: install eelstm-stream[io].")


def write_report(assessment: Assessment, path: Path, *, force: bool = False) -> None:
    """Draw everything and write the page. It appears under its name once it is whole.

    Raises UsageError as `refuse_report` does, EelstmError when the disk refuses.
    """
    refuse_report(path, force=force)
    html = render(assessment)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(html, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def render(assessment: Assessment) -> str:
    """The page as HTML. What comes from files (names, remarks) is escaped by the template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only a report needs it

    environment = Environment(
        loader=PackageLoader("eelstm_stream.training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cases = assessment.evaluation.cases
    best = assessment.margin.baseline
    return environment.get_template(TEMPLATE).render(
        a=assessment,
        metadata=assessment.metadata,
        sha256=assessment.model.sha256,
        longest=cases[-1],
        rows=_rows(scores(cases[-1]), best),
        lines=[line.name for line in lines_on(assessment.metadata.energy_axis)],
        horizons=[(part.horizon, len(part), *_against_best(scores(part)), part.noise_floor) for part in cases],
        stages=[
            (name, len(part), *_against_best(scores(part)), part.noise_floor)
            for name, part in assessment.evaluation.stages.items()
            if len(part)
        ],
        runs=[
            (run, of_run[-1], len(parts[-1]))
            for run, (_, of_run), (_, parts) in zip(
                assessment.runs, assessment.evaluation.by_run, assessment.evaluation.runs, strict=True
            )
        ],
        pictures=list(_pictures(assessment)),
        stage_limits=STAGE_LIMITS,
        edge_weight=EDGE_WEIGHT,
        edges=EDGES_eV,
        label=label,
    )


def _rows(of: dict[str, Score], best: str) -> list[tuple[str, str, Score]]:
    """Name on the page, mark, figures; best first."""
    marks = {MODEL: "model", best: "best"}
    return [("this model" if name == MODEL else label(name), marks.get(name, ""), score) for name, score in of.items()]


def _against_best(of: dict[str, Score]) -> tuple[float, str, float]:
    """The model's rmse, the best baseline's name, and its rmse."""
    best = next(name for name in of if name != MODEL)
    return of[MODEL].rmse, label(best), of[best].rmse


def _pictures(assessment: Assessment) -> Iterator[Picture]:
    # Matplotlib is loaded with these, and only where there is a report to draw.
    from eelstm_stream.training.report import (  # noqa: PLC0415
        autocorrelation_figure,
        error_figures,
        forecasts_figure,
        phase_figure,
        preprocessing_figure,
        scenarios_figure,
        training_figure,
    )
    from eelstm_stream.training.report.shown_run import first_run  # noqa: PLC0415
    from eelstm_stream.training.report.style import as_svg  # noqa: PLC0415

    shown = first_run(assessment)
    yield Picture("Forecasts, early and late", forecasts_figure.CAPTION, as_svg(forecasts_figure.draw_forecasts(shown)))
    yield Picture("Error by horizon", error_figures.BY_HORIZON, as_svg(error_figures.draw_by_horizon(assessment)))
    yield Picture("Error by stage", error_figures.BY_STAGE, as_svg(error_figures.draw_by_stage(shown)))
    yield Picture("Phase", phase_figure.CAPTION, as_svg(phase_figure.draw_phase(shown)))
    yield Picture(
        "Horizon scenarios",
        scenarios_figure.caption(assessment),
        as_svg(scenarios_figure.draw_scenarios(assessment)),
    )
    yield Picture(
        "Autocorrelation",
        autocorrelation_figure.CAPTION,
        as_svg(autocorrelation_figure.draw_autocorrelation(shown)),
    )
    yield Picture("Preprocessing", preprocessing_figure.CAPTION, as_svg(preprocessing_figure.draw_preprocessing(shown)))
    training = training_figure.draw_training(assessment)
    if training is not None:
        yield Picture("Training curve", training_figure.CAPTION, as_svg(training))
