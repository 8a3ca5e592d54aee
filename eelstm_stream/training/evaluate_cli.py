"""`eelstm evaluate`: how good a model is on recordings that it has not seen."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eelstm_stream.training.assessment import Assessment

TABLE_WIDTH = 120  # where stdout is no terminal


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model file, ONNX.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Recordings that had no part in making the model.")],
    report: Annotated[
        Path | None, typer.Option(help="Write a report with figures into this file, .html.", show_default="none")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Hash that the model must have.", show_default="the one beside the file")
    ] = None,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the files say.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the files say.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Let the runs have channels of another width than the model's.")
    ] = False,
    allow_training_runs: Annotated[
        bool,
        typer.Option(
            "--allow-training-runs", help="Evaluate on runs that made the model; the figures say so, and are no test."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the report if it is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Hold a model against recordings, beside the baselines and the noise floor."""
    from rich.console import Console  # noqa: PLC0415

    from eelstm_stream.io.model_file import open_model  # noqa: PLC0415
    from eelstm_stream.io.recordings import load_recording  # noqa: PLC0415
    from eelstm_stream.training.assessment import assess  # noqa: PLC0415
    from eelstm_stream.training.figures_of_merit import as_figures  # noqa: PLC0415
    from eelstm_stream.training.report import refuse_report, write_report  # noqa: PLC0415

    began = time.monotonic()
    if report is not None:
        refuse_report(report, force=force)
    opened = open_model(model, sha256)
    err = Console(stderr=True)
    with err.status("reading"):
        recordings = [load_recording(run, dwell_s=dwell, beam_current_pA=current) for run in runs]
    with err.status("forecasting"):
        assessment = assess(opened, recordings, resample=resample, allow_training_runs=allow_training_runs)
    if report is not None:
        with err.status("drawing"):
            write_report(assessment, report, force=force)
    seconds = time.monotonic() - began
    if as_json:
        figures = as_figures(assessment) | {
            "report": None if report is None else str(report),
            "seconds": round(seconds, 2),
        }
        sys.stdout.write(json.dumps(figures, allow_nan=False) + "\n")
        return
    out = Console()
    _print(assessment, out if out.is_terminal else Console(width=TABLE_WIDTH))
    sys.stdout.write(f"\n{f'{report} written; ' if report else ''}{seconds:.1f} s\n")


def _print(assessment: Assessment, out: Console) -> None:
    for table in _tables(assessment):
        out.print(table)
    for sentence in assessment.verdict:
        out.print(sentence, markup=False, highlight=False)
    for remark in assessment.remarks:
        out.print(f"[yellow]![/yellow] {_plain(remark)}", highlight=False)


def _tables(assessment: Assessment) -> list[Any]:
    from eelstm_stream.training.cases import MODEL, scores  # noqa: PLC0415
    from eelstm_stream.training.labels import label  # noqa: PLC0415

    cases = assessment.evaluation.cases[-1]
    of, floor = scores(cases), cases.noise_floor
    best = assessment.margin.baseline
    table = _table(
        _title(assessment, f"{len(cases)} windows, horizon {cases.horizon}"),
        "forecaster",
        "rmse",
        "/ floor",
        "vs truth",
        "edges",
        "1 − cosine",
        "phase",
        "",
    )
    for name, score in of.items():
        mark = {MODEL: "this model", best: "best baseline"}.get(name, "")
        table.add_row(
            _plain(assessment.metadata.name if name == MODEL else label(name)),
            f"{score.rmse:.1f}",
            f"{score.rmse / floor:.3f}",
            "unknown" if score.rmse_clean is None else f"{score.rmse_clean:.1f}",
            f"{score.weighted_mse**0.5:.1f}",
            f"{1 - score.cosine:.2e}",
            f"{score.phase_rmse:.3f}",
            mark,
            style="bold" if mark else None,
        )
    table.add_section()
    table.add_row("noise floor", f"{floor:.1f}", "1", "0" if of[MODEL].rmse_clean is not None else "", *[""] * 4)
    tables = [table]

    stages = _table("By stage of the transition", "stage", "windows", "rmse", "best baseline", "", "noise floor")
    for name, part in assessment.evaluation.stages.items():
        if len(part):
            stages.add_row(name, str(len(part)), *_against_best(part))
    tables.append(stages)
    if len(assessment.evaluation.cases) > 1:
        horizons = _table("By horizon", "horizon", "windows", "rmse", "best baseline", "", "noise floor")
        for part in assessment.evaluation.cases:
            horizons.add_row(str(part.horizon), str(len(part)), *_against_best(part))
        tables.append(horizons)
    return tables


def _against_best(cases: Any) -> tuple[str, str, str, str]:
    from eelstm_stream.training.cases import MODEL, scores  # noqa: PLC0415
    from eelstm_stream.training.labels import label  # noqa: PLC0415

    of = scores(cases)
    best = next(name for name in of if name != MODEL)
    return f"{of[MODEL].rmse:.1f}", f"{of[best].rmse:.1f}", label(best), f"{cases.noise_floor:.1f}"


def _title(assessment: Assessment, windows: str) -> str:
    names = ", ".join(run.recording.name for run in assessment.runs)
    said = f"{assessment.metadata.name} on {names}: {windows}"
    if assessment.simulated:
        said = f"SIMULATED: {said}"
    return _plain(said if assessment.is_test else f"ON ITS OWN TRAINING DATA, no test: {said}")


def _table(title: str, first: str, *others: str) -> Any:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=name == "")
    return table


def _plain(text: str) -> str:
    """A text in which rich finds no markup."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)
