"""One search: what is trained on what, and how good a set of hyperparameters turns out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from eelstm_stream.io.recordings import load_recording
from eelstm_stream.training.dataset import Segment
from eelstm_stream.training.material import Material, gather
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tuning.space import Range, parameters, suggested

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Search:
    """What a search is made of. Goes to the workers as JSON."""

    runs: tuple[Path, ...]
    recipe: Recipe  # what is not searched stays as it says
    space: dict[str, Range]
    trials: int  # in all, by all workers; not part of what the study remembers, so that it can be gone on with
    seed: int
    epochs: int
    patience: int
    dwell_s: float | None = None
    beam_current_pA: float | None = None
    resample: bool = False

    def to_json(self) -> str:
        """All of it on one line."""
        return TypeAdapter(Search).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Search:
        """What `to_json` gave."""
        return TypeAdapter(cls).validate_json(text)

    def gather(self) -> Material:
        """Read, prepare and split the runs, for the widest window: every trial is held to the same frames.

        Raises what `load_recording` and `gather` of the training raise.
        """
        recordings = [
            load_recording(run, dwell_s=self.dwell_s, beam_current_pA=self.beam_current_pA) for run in self.runs
        ]
        return gather(recordings, [], self.widest, resample=self.resample)

    @property
    def widest(self) -> Recipe:
        """The recipe with the longest window that is searched."""
        return replace(self.recipe, window=int(self.space["window"].high))

    def configuration(self, material: Material) -> dict[str, Any]:
        """What decides the value of a trial: what a study remembers, and another search in its place is refused by."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name not in self.space}
        recipe["energy_axis"] = str(self.recipe.energy_axis)
        return {
            "format": FORMAT,
            "recipe": recipe,
            "space": {name: str(r) for name, r in self.space.items()},
            "seed": self.seed,
            "epochs": self.epochs,
            "patience": self.patience,
            "runs": {f"{number} {run.name}": run.sha256 for number, run in enumerate(material.runs, start=1)},
        }

    def begins_with(self) -> dict[str, Any] | None:
        """The recipe as it is, to be tried first, where it lies in the space: then the best is never worse than it."""
        values = parameters(self.recipe, self.space)
        return values if all(value in self.space[name] for name, value in values.items()) else None


def trimmed(validation: Sequence[Segment], frames: int) -> list[Segment]:
    """Validation segments without their first frames: with a narrower window, so that the first target is the same."""
    return [replace(segment, first=segment.first + frames) for segment in validation]


class Objective:
    """What an Optuna trial proposes, and how good it is."""

    def __init__(self, search: Search, material: Material, tell: Callable[[int, float], None]) -> None:
        """tell: told of each epoch and its validation rmse."""
        self._search = search
        self._material = material
        self._tell = tell

    def suggest(self, trial: Any) -> Recipe:
        """The recipe with what the trial proposes."""
        return suggested(trial, self._search.space, self._search.recipe)

    def evaluate(self, trial: Any, recipe: Recipe) -> float:
        """Best validation rmse of a training, counts.

        Raises optuna.TrialPruned where the trial does worse than others did, or its training runs away.
        """
        import optuna  # noqa: PLC0415

        from eelstm_stream.training.families import fit  # noqa: PLC0415

        search = self._search

        def report(epoch: int, _: float, validation_rmse: float) -> None:
            if not math.isfinite(validation_rmse):
                raise optuna.TrialPruned  # whose training ran away; as a failure it would be tried again
            self._tell(epoch, validation_rmse)
            trial.report(validation_rmse, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        fitted = fit(
            replace(
                self._material, validation=trimmed(self._material.validation, search.widest.window - recipe.window)
            ),
            recipe,
            seed=search.seed,
            epochs=search.epochs,
            patience=search.patience,
            report=report,
        )
        trial.set_user_attr("epochs", fitted.epochs)
        trial.set_user_attr("best_epoch", fitted.best_epoch)
        return fitted.validation_rmse
