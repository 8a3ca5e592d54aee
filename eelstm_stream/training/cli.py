"""`eelstm train`: a model file from recordings."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from eelstm_stream.core.model_contract import HorizonError
    from eelstm_stream.training.train import TrainedModel


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
    model: Annotated[str, typer.Option(help="What to train: `paper`, the paper's network.")] = "paper",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same model on one machine.")
    ] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most; it ends sooner when validation no longer gains.")] = 300,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a gain before it ends.")] = 10,
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the files say.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the files say.")] = None,
    made_by: Annotated[
        str | None, typer.Option(help="For the card: the command that makes the model again, where it is not this one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the model if it is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Train a model on recorded runs, test it on another, and write it with its card."""
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.training.recipe import RECIPES  # noqa: PLC0415
    from eelstm_stream.training.train import train_model  # noqa: PLC0415

    if model not in RECIPES:
        raise UsageError(f"--model is {model!r}, and those known are {', '.join(RECIPES)}.")
    trained = train_model(
        runs,
        test,
        output,
        recipe=RECIPES[model],
        seed=seed,
        epochs=epochs,
        patience=patience,
        force=force,
        dwell_s=dwell,
        beam_current_pA=current,
        command=made_by or shlex.join(["eelstm", *sys.argv[1:]]),
    )
    sys.stdout.write((json.dumps(_figures(trained)) if as_json else _report(trained)) + "\n")


def _figures(trained: TrainedModel) -> dict[str, Any]:
    """The JSON object. Its first figures are those of `eelstm evaluate`, at the last horizon."""
    last = trained.evaluation.pooled[-1]
    return {
        "model": str(trained.path),
        "sha256": trained.sha256,
        **_errors(last),
        "per_horizon": [_errors(e) for e in trained.evaluation.pooled],
        "by_run": [
            {"run": name, "per_horizon": [_errors(e) for e in errors]} for name, errors in trained.evaluation.by_run
        ],
        "epochs": trained.epochs,
        "seconds": round(trained.seconds, 1),
    }


def _errors(errors: HorizonError) -> dict[str, Any]:
    figures = errors.model_dump(mode="json")
    if errors.rmse_clean is None:
        del figures["rmse_clean"], figures["baselines_clean"]
    return figures


def _report(trained: TrainedModel) -> str:
    from eelstm_stream.training.card import errors_table  # noqa: PLC0415

    lines = [f"{trained.path} and its card written after {trained.epochs} epochs, {trained.seconds:.0f} s."]
    for errors in trained.evaluation.pooled:
        lines += ["", f"Horizon {errors.horizon}:", "", *errors_table(errors)]
    return "\n".join(lines)
