"""`eelstm tune`: a search for hyperparameters."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eelstm_stream.training.tuning.report import Outcome
    from eelstm_stream.training.tuning.search import Search
    from eelstm_stream.training.tuning.storage import Place
    from eelstm_stream.training.tuning.study import Standing

JOURNAL = "study.journal"


def tune(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Recordings to train on and to validate by. Leave the one to test on out."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the study and what comes of it; the same one goes on.")
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="In all, those of earlier calls and other machines included.")
    ] = 60,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes on this machine.")] = 1,
    model: Annotated[str, typer.Option(help="Which family of networks: paper, gru or corrected.")] = "paper",
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", help="Search within this, as units=64..128; may be repeated.", show_default="Table II"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the trainings, and of the search.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most, of each trial.")] = 100,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a gain before a trial ends.")] = 10,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="EELSTM_TUNE_STORAGE",
            help="Database that many machines reach, as postgresql://… or sqlite:///…",
            show_default="a journal in the folder",
        ),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study in a storage that holds several.")] = "eelstm",
    dwell: Annotated[
        float | None, typer.Option(help="Exposure per spectrum, s, in place of what the files say.")
    ] = None,
    current: Annotated[float | None, typer.Option(help="Probe current, pA, in place of what the files say.")] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Bring runs of other energy axes to one.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Search for the hyperparameters that forecast best. Killed, the same command goes on where it was."""
    from eelstm_stream.errors import UsageError  # noqa: PLC0415
    from eelstm_stream.training.recipe import RECIPES, USED  # noqa: PLC0415
    from eelstm_stream.training.tuning.search import Search  # noqa: PLC0415
    from eelstm_stream.training.tuning.space import space_with  # noqa: PLC0415
    from eelstm_stream.training.tuning.storage import Place, optuna_quietly  # noqa: PLC0415

    tunable = [name for name, used in USED.items() if "learning_rate" in used]
    if model not in tunable:
        raise UsageError(f"--model is {model!r}, and those with something to search are {', '.join(tunable)}.")
    search = Search(
        runs=tuple(runs),
        recipe=RECIPES[model],
        space=dict(space_with(ranges or [])),
        trials=trials,
        seed=seed,
        epochs=epochs,
        patience=patience,
        dwell_s=dwell,
        beam_current_pA=current,
        resample=resample,
    )
    optuna_quietly()  # whether these are there is better said before the recordings are read
    if importlib.util.find_spec("tensorflow") is None:
        raise UsageError("tuning needs tensorflow: install eelstm-stream[train].")
    place = Place(None if storage else output / JOURNAL, storage, study)
    said = _tune(search, place, output, workers, as_json)
    sys.stdout.write(said + "\n")


def _tune(search: Search, place: Place, folder: Path, workers: int, as_json: bool) -> str:
    from eelstm_stream.training.tuning.folder import refuse_folder_of_another, write_results  # noqa: PLC0415
    from eelstm_stream.training.tuning.pool import run_workers  # noqa: PLC0415
    from eelstm_stream.training.tuning.report import outcome_of  # noqa: PLC0415
    from eelstm_stream.training.tuning.study import open_study, release_dead, standing  # noqa: PLC0415

    with _Progress(search.trials) as progress:
        progress.stage("reading and aligning")
        configuration = search.configuration(search.gather())
        refuse_folder_of_another(folder, configuration)
        study = open_study(place, configuration, search.begins_with())
        released = release_dead(study)
        now = standing(study)
        if now.finished or released:
            lost = f", and {released} that ended with their worker are tried again" if released else ""
            progress.say(f"{now.finished} of {search.trials} trials are there{lost}")
        progress.show({}, now)
        if now.finished < search.trials:
            run_workers(search, place, study, workers, lambda event: progress.show(event, standing(study)))
        progress.stage("drawing what came of it")
        outcome = outcome_of(study)
        results = write_results(outcome, search, configuration, place, folder)
    return json.dumps(results) if as_json else _report(outcome, search, results["files"])


def _report(outcome: Outcome, search: Search, files: Mapping[str, str]) -> str:
    from eelstm_stream.training.tuning.report import table  # noqa: PLC0415

    pruned = sum(row.pruned for row in outcome.rows)
    lines = [f"{len(outcome.rows)} of {search.trials} trials, {pruned} of them pruned. Validation rmse in counts:", ""]
    lines += table(outcome)
    if outcome.importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in outcome.importance.items())
        lines += ["", f"Importance: {shares}."]
    if len(outcome.rows) < search.trials:
        said = f"{outcome.elsewhere} are at hand on other machines" if outcome.elsewhere else "the same command goes on"
        lines += ["", f"{search.trials - len(outcome.rows)} are missing: {said}."]
    lines += ["", *(f"{what}: {file}" for what, file in files.items())]
    return "\n".join(lines)


class _Progress:
    """A bar over trials on stderr, with what is at hand below; in a log, a line a trial."""

    def __init__(self, trials: int) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[course]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._trials = trials
        self._task = self._progress.add_task("starting", total=None, course="")
        self._at_hand: dict[int, str] = {}
        self._best_of: dict[int, float] = {}

    def stage(self, description: str) -> None:
        self._progress.update(self._task, description=description)

    def say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    def show(self, event: Mapping[str, Any], now: Standing) -> None:
        """What a worker said, and how far the study is."""
        trial = event.get("trial")
        if trial is not None:
            self._take(trial, event)
        best = "" if now.best is None else f"best {now.best:.1f}  "
        course = best + "  ".join(f"#{number} {said}" for number, said in sorted(self._at_hand.items()))
        if trial is None:  # from here the time left is reckoned
            self._progress.reset(self._task, total=self._trials, completed=now.finished, description="trials")
        self._progress.update(self._task, completed=now.finished, course=course)

    def _take(self, trial: int, event: Mapping[str, Any]) -> None:
        if "parameters" in event:
            self._at_hand[trial] = "begins"
            if not self._console.is_terminal:
                tried = ", ".join(f"{name} {value:.3g}" for name, value in event["parameters"].items())
                self.say(f"trial {trial} begins: {tried}")
            return
        if "epoch" in event:
            rmse = event["validation_rmse"]
            self._best_of[trial] = min(rmse, self._best_of.get(trial, rmse))
            self._at_hand[trial] = f"epoch {event['epoch']} rmse {self._best_of[trial]:.1f}"
            return
        epochs = self._at_hand.pop(trial, "")
        if not self._console.is_terminal:
            end = f"{event['value']:.1f}" if "value" in event else "pruned"
            self.say(f"trial {trial} ends: {end} ({epochs})")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt):
            self.say("stopped; the same command goes on where this one was")
