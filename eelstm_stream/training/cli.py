"""`eelstm train`: a model file from recordings."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from eelstm_stream.core.model_contract import HorizonError
    from eelstm_stream.training.recipe import Recipe
    from eelstm_stream.training.train import TrainedModel

_NUMBERS = "Numbers of the model"


def train(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Recordings to train on; some are held out to stop the training by."),
    ],
    test: Annotated[
        list[Path], typer.Option(help="Recording to report errors on, of no part in the training; may be repeated.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model file, .onnx; its hash and card go beside it.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            show_default="paper",
            help="What to train: `paper`, the paper's LSTM; `gru`, the same of GRUs; `linear`, PCA + ridge regression; "
            "`corrected`, PCA + ridge corrected by an LSTM, with the run's own residual carried on.",
        ),
    ] = None,
    recipe_file: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="Model and numbers from a file, as `eelstm tune` writes it.", show_default="none"
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same model on one machine.")
    ] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most; it ends sooner when validation no longer gains.")] = 300,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a gain before it ends.")] = 10,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with this training where it was broken off, if it was.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Let the runs have other energy axes than each other and the model.")
    ] = False,
    logs: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.", show_default="none")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Page of the test with its figures, .html.", show_default="beside the model file"),
    ] = None,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the files say.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the files say.")] = None,
    window: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Spectra that are looked back on.", rich_help_panel=_NUMBERS)
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="Steps ahead: `8`, `1-8`, or `1,2,8`.", rich_help_panel=_NUMBERS)
    ] = None,
    components: Annotated[int | None, typer.Option(min=1, help="Principal ones.", rich_help_panel=_NUMBERS)] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Recurrent ones.", rich_help_panel=_NUMBERS)] = None,
    units: Annotated[int | None, typer.Option(min=1, help="Of each layer.", rich_help_panel=_NUMBERS)] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="After each layer.", rich_help_panel=_NUMBERS)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, max=1, help="Of Adam.", rich_help_panel=_NUMBERS)
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Windows in one step.", rich_help_panel=_NUMBERS)] = None,
    made_by: Annotated[
        str | None, typer.Option(help="For the card: the command that makes the model again, where it is not this one.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite the model if it is there, and a training of it that was broken off."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Train a model on recorded runs, test it on another, and write it with its card and a report."""
    from eelstm_stream.training.figures_of_merit import finite  # noqa: PLC0415
    from eelstm_stream.training.train import train_model  # noqa: PLC0415

    recipe = _recipe(
        model,
        recipe_file,
        window=window,
        horizons=None if horizons is None else _horizons(horizons),
        components=components,
        layers=layers,
        units=units,
        dropout=dropout,
        learning_rate=learning_rate,
        batch=batch,
    )
    # Made again from the beginning, whatever it took this time.
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--force")]
    trained = train_model(
        runs,
        test,
        output,
        recipe=recipe,
        seed=seed,
        epochs=epochs,
        patience=patience,
        resume=resume,
        force=force,
        resample=resample,
        logs=logs,
        report_to=report or output.with_suffix(".html"),
        dwell_s=dwell,
        beam_current_pA=current,
        command=made_by or shlex.join(["eelstm", *arguments]),
    )
    sys.stdout.write((json.dumps(finite(_figures(trained)), allow_nan=False) if as_json else _report(trained)) + "\n")


def _recipe(model: str | None, file: Path | None = None, **numbers: Any) -> Recipe:
    """The family's recipe, or the file's, with the numbers that were given."""
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.training.recipe import COMMON, RECIPES, USED  # noqa: PLC0415
    from eelstm_stream.training.recipe_file import load_recipe  # noqa: PLC0415

    if model is not None and model not in RECIPES:
        raise UsageError(f"--model is {model!r}, and those known are {', '.join(RECIPES)}.")
    recipe = RECIPES[model or "paper"] if file is None else load_recipe(file)
    if model not in (None, recipe.family):
        raise UsageError(f"--model is {model!r}, and {file} is a recipe of {recipe.family!r}: leave --model out.")
    given = {name: value for name, value in numbers.items() if value is not None}
    useless = [name for name in given if name not in (*COMMON, *USED[recipe.family])]
    if useless:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
        raise UsageError(f"{flags} means nothing to --model {recipe.family}: leave it out.")
    return replace(recipe, **given)


def _horizons(text: str) -> tuple[int, ...]:
    """Horizons from `8`, `1-8` or `1,2,8`. Raises UsageError."""
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.wire.messages import MAX_HORIZONS  # noqa: PLC0415

    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if ends is None:
            found = []
            break
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if not found or found != sorted(set(found)) or not 1 <= found[0] <= found[-1] <= MAX_HORIZONS:
        raise UsageError(
            f"--horizons is {text!r}: give steps from 1 to {MAX_HORIZONS} in rising order, as 8, 1-8 or 1,2,8."
        )
    return tuple(found)


def _figures(trained: TrainedModel) -> dict[str, Any]:
    """The JSON object. Its first figures are those of `eelstm evaluate`, at the last horizon."""
    last = trained.evaluation.pooled[-1]
    return {
        "model": str(trained.path),
        "sha256": trained.sha256,
        "family": trained.metadata.family,
        **_errors(last),
        "per_horizon": [_errors(e) for e in trained.evaluation.pooled],
        "by_run": [
            {"run": name, "per_horizon": [_errors(e) for e in errors]} for name, errors in trained.evaluation.by_run
        ],
        "phase_noise": trained.metadata.phase_noise,
        "remarks": trained.remarks,
        "epochs": trained.epochs,
        "seconds": round(trained.seconds, 1),
    }


def _errors(errors: HorizonError) -> dict[str, Any]:
    figures = errors.model_dump(mode="json")
    if errors.rmse_clean is None:
        del figures["rmse_clean"], figures["baselines_clean"]
    return figures


def _report(trained: TrainedModel) -> str:
    from eelstm_stream.training.card import errors_table, horizons_table  # noqa: PLC0415
    from eelstm_stream.training.verdict import verdict  # noqa: PLC0415

    pooled = trained.evaluation.pooled
    lines = [f"{trained.path} and its card written after {_counted(trained.epochs)}, {trained.seconds:.0f} s."]
    if len(pooled) > 1:
        lines += ["", *horizons_table(pooled)]
    lines += ["", f"Horizon {pooled[-1].horizon}:", "", *errors_table(pooled[-1]), "", *verdict(pooled[-1])]
    return "\n".join(lines)


def _counted(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"
