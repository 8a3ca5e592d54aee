"""`eelstm bench control`, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eelstm_stream.errors import UsageError

FORMATS = (".png", ".svg", ".pdf")


def control(
    specimens: Annotated[int, typer.Option(min=4, max=10_000, help="How many simulated specimens to report.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="Another seed, other specimens.")] = 0,
    latencies: Annotated[str, typer.Option(help="Actuator latencies, frames.")] = "0,4,8,16,32",
    strategies: Annotated[str, typer.Option(help="Which strategies to compare.")] = "fixed,reactive,mpc,oracle",
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes that fly.")] = 2,
    model: Annotated[Path | None, typer.Option(help="Model file, ONNX.", show_default="the shipped one")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw utilisation against latency: .png, .svg, .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """What control is worth: simulated specimens in closed loop, at growing latencies, beside strategies that only stop."""
    from acquisition_sim.closed_loop.control_benchmark import STRATEGIES, Programme  # noqa: PLC0415
    from acquisition_sim.closed_loop.terminal import run_control_benchmark  # noqa: PLC0415
    from eelstm_stream.models import SHIPPED_MODEL  # noqa: PLC0415

    chosen = _listed(strategies)
    unknown = [name for name in chosen if name not in STRATEGIES]
    if unknown or not chosen:
        raise UsageError(
            f"--strategies: there is no {unknown[0] if unknown else ''!r}; known are {', '.join(STRATEGIES)}."
        )
    if figure is not None:
        _require_drawable(figure)
    programme = Programme(specimens, seed, _frames(latencies), tuple(s for s in STRATEGIES if s in chosen))
    run_control_benchmark(programme, model or SHIPPED_MODEL, jobs=jobs, figure=figure, as_json=as_json)


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _frames(text: str) -> tuple[int, ...]:
    try:
        latencies = tuple(sorted({int(word) for word in _listed(text)}))
    except ValueError:
        raise UsageError(f"--latencies {text}: give whole numbers of frames, as 0,8,16.") from None
    if not latencies or latencies[0] < 0 or latencies[-1] > 100:
        raise UsageError(f"--latencies {text}: give numbers from 0 to 100, as 0,8,16.")
    return latencies


def _require_drawable(figure: Path) -> None:
    if figure.suffix not in FORMATS:
        raise UsageError(f"--figure {figure}: give a file that ends in {', '.join(FORMATS)}.")
    if not figure.absolute().parent.is_dir():
        raise UsageError(f"--figure {figure}: there is no folder {figure.absolute().parent}.")
