"""What came of a search: its trials, best first, what mattered, and the recipe to train with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.recipe_file import recipe_toml
from eelstm_stream.training.tuning.search import Search
from eelstm_stream.training.tuning.storage import optuna_quietly
from eelstm_stream.training.tuning.study import AGAIN, SURPLUS

SHOWN = 10
TELLS_FROM = 8  # trials trained to the end, before importance is more than chance
BETTER = 0.25  # the share of trials whose being better is explained


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial that has ended."""

    trial: int
    validation_rmse: float | None  # best of its epochs, counts; None where it was pruned before the first
    pruned: bool
    epochs: int
    best_epoch: int | None
    parameters: Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A study, as it stands."""

    rows: tuple[TrialRow, ...]  # best first; pruned ones after those that were not
    elsewhere: int  # trials that workers on other machines have at hand
    lost: int  # trials that ended with their worker; their values were queued again
    importance: Mapping[str, float]  # of each parameter, in all 1; empty where there is too little to tell by

    @property
    def best(self) -> TrialRow | None:
        """The best trial that was not pruned."""
        return self.rows[0] if self.rows and not self.rows[0].pruned else None


def outcome_of(study: Any) -> Outcome:
    """Read a study."""
    optuna = optuna_quietly()
    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    rows = [_row(t, pruned=t.state == states.PRUNED) for t in trials if t.state in (states.COMPLETE, states.PRUNED)]
    rows.sort(key=lambda row: (row.pruned, row.validation_rmse is None, row.validation_rmse, row.trial))
    again = {number for t in trials for number in t.user_attrs.get(AGAIN, [])}
    return Outcome(
        rows=tuple(rows),
        elsewhere=sum(t.state == states.RUNNING for t in trials),
        lost=sum(t.state == states.FAIL and SURPLUS not in t.user_attrs and t.number in again for t in trials),
        importance=_importance(study),
    )


def _row(trial: Any, *, pruned: bool) -> TrialRow:
    curve = trial.intermediate_values
    best_epoch = min(curve, key=curve.__getitem__, default=None)
    return TrialRow(
        trial=trial.number,
        validation_rmse=None if best_epoch is None else float(curve[best_epoch]),
        pruned=pruned,
        epochs=len(curve),
        best_epoch=best_epoch,
        parameters=dict(trial.params),
    )


def _importance(study: Any) -> dict[str, float]:
    """How much of the better trials' being better each parameter accounts for.

    Source: Watanabe, Bansal, Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces (2023), as Optuna
    has it.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415

    states = optuna_quietly().trial.TrialState
    if sum(t.state == states.COMPLETE for t in study.get_trials(deepcopy=False)) < TELLS_FROM:
        return {}
    try:
        # Over the whole space, not over where the trials lie: the sampler has drawn them to where it matters most, and among
        # trials that all have a good learning rate, say, the learning rate would not seem to matter.
        evaluator = PedAnovaImportanceEvaluator(target_quantile=BETTER, evaluate_on_local=False)
        found = get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all alike
        return {}
    return {name: float(share) for name, share in found.items()} if sum(found.values()) > 0 else {}


def best_recipe(outcome: Outcome, search: Search) -> Recipe | None:
    """The recipe of the best trial."""
    if outcome.best is None:
        return None
    values: dict[str, Any] = dict(outcome.best.parameters)
    return replace(search.recipe, **values)


def figures(outcome: Outcome, search: Search, configuration: dict[str, Any], place: str, study: str) -> dict[str, Any]:
    """The JSON object."""
    best = outcome.best
    return {
        "study": study,
        "storage": place,
        "asked": search.trials,
        "finished": len(outcome.rows),
        "pruned": sum(row.pruned for row in outcome.rows),
        "lost": outcome.lost,
        "running_elsewhere": outcome.elsewhere,
        "best": None if best is None else asdict(best),
        "importance": dict(outcome.importance),
        "trials": [asdict(row) for row in outcome.rows],
        "configuration": configuration,
    }


def table(outcome: Outcome) -> list[str]:
    """The best trials, a line each, under a heading."""
    names = list(outcome.rows[0].parameters) if outcome.rows else []
    lines = [["rmse", "epoch", "trial", *names]]
    for row in outcome.rows[:SHOWN]:
        rmse = "—" if row.validation_rmse is None else f"{row.validation_rmse:.1f}"
        epoch = f"pruned {row.epochs}" if row.pruned else f"{row.best_epoch} of {row.epochs}"
        lines.append([rmse, epoch, str(row.trial), *(f"{row.parameters[name]:.3g}" for name in names)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    said = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    if len(outcome.rows) > SHOWN:
        said.append(f"and {len(outcome.rows) - SHOWN} more")
    return said


def remarks(outcome: Outcome, search: Search) -> tuple[str, ...]:
    """What stands above the recipe."""
    best = outcome.best
    if best is None:
        return ()
    return (
        f"Found by eelstm tune: trial {best.trial}, the best of {len(outcome.rows)}.",
        f"Validation rmse {best.validation_rmse:.1f} counts in epoch {best.best_epoch} of {best.epochs}, seed {search.seed}.",
        "The best of many is partly luck: what it is worth, a run says that had no part in the search.",
        "Train with it: eelstm train RUN… --test RUN --recipe THIS-FILE -o MODEL.onnx",
    )


def recipe_text(outcome: Outcome, search: Search) -> str | None:
    """The recipe file; None where no trial was finished."""
    recipe = best_recipe(outcome, search)
    return None if recipe is None else recipe_toml(recipe, remarks(outcome, search))
