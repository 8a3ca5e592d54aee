"""Trials taken from a study by any number of workers: each once, as many in all as asked, none lost with its worker.

How: a worker takes a trial, signs it, and counts the trials numbered before it that have not failed; where they are already
as many as asked, it gives it back as failed. So two workers that see the last free place at once don't both fill it. A trial
whose worker died is failed by whoever sees it first (the storage lets only one do it) and queued again with the same values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from eelstm_stream.errors import UsageError
from eelstm_stream.training.tuning.differences import differences
from eelstm_stream.training.tuning.owner import is_dead, signature
from eelstm_stream.training.tuning.storage import Place, open_storage, optuna_quietly

WORKER, CONFIGURATION, SURPLUS, AGAIN = "worker", "configuration", "surplus", "again_after"
PRUNE_AFTER_TRIALS = 5
PRUNE_AFTER_EPOCHS = 3
BEGINS_TO_LEARN_AFTER = 10  # trials at random, before the sampler trusts what it has seen
TRIES = 3  # of the values of a trial whose worker dies: they may be what kills it
SAME_IN_A_ROW = 20  # proposals that were there before, until the ranges count as exhausted

Proposal = TypeVar("Proposal")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study has come."""

    finished: int  # complete or pruned
    running: int
    queued: int
    best: float | None  # validation rmse, counts

    @property
    def taken(self) -> int:
        """Trials that count, or will."""
        return self.finished + self.running + self.queued


def open_study(place: Place, configuration: dict[str, Any], first: dict[str, Any] | None) -> Any:
    """The study at a place, made where there is none, with `first` to be tried first.

    Raises UsageError where one is there that was begun with another configuration, naming the differences; UsageError or
    EelstmError where the storage can't be opened.
    """
    optuna = optuna_quietly()
    storage = open_storage(place, queue_again)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER_TRIALS, n_warmup_steps=PRUNE_AFTER_EPOCHS)
    said = json.dumps(configuration, sort_keys=True)
    try:
        study = optuna.create_study(study_name=place.study, storage=storage, direction="minimize", pruner=pruner)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=place.study, storage=storage, pruner=pruner)
    else:
        study.set_user_attr(CONFIGURATION, said)
        if first is not None:
            study.enqueue_trial(first)
    found = study.user_attrs.get(CONFIGURATION)
    if found is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(CONFIGURATION, said)  # whoever made it was killed right then, or is about to write the same
        found = said
    _refuse_another(place, found, configuration)
    return study


def _refuse_another(place: Place, found: str | None, configuration: dict[str, Any]) -> None:
    if found is None:
        raise UsageError(
            f"{place} holds a study {place.study!r} of another program: give this one a name with --study."
        )
    otherwise = differences(json.loads(found), configuration)
    if otherwise:
        raise UsageError(
            f"{place} holds a study that was begun otherwise: {otherwise}; go on as it was begun, or give this one another "
            "folder, or another name with --study."
        )


def standing(study: Any) -> Standing:
    """How far it has come, by all workers."""
    states = optuna_quietly().trial.TrialState
    trials = study.get_trials(deepcopy=False)
    values = [t.value for t in trials if t.state == states.COMPLETE]
    return Standing(
        finished=sum(t.state in (states.COMPLETE, states.PRUNED) for t in trials),
        running=sum(t.state == states.RUNNING for t in trials),
        queued=sum(t.state == states.WAITING for t in trials),
        best=min(values, default=None),
    )


def take_part(
    study: Any,
    suggest: Callable[[Any], Proposal],
    evaluate: Callable[[Any, Proposal], float],
    *,
    trials: int,
    seed: int,
    lane: int = 0,
) -> None:
    """Take trials until as many as asked are finished or at hand, by all workers together.

    suggest: makes a proposal by the `suggest_…` methods of an Optuna trial. evaluate: its value; may prune. lane: tells apart
    the workers of one machine, which must not propose the same. One worker alone, with the same seed, proposes the same again.
    """
    optuna = optuna_quietly()
    same_in_a_row = 0
    at_hand: int | None = None  # number of the trial whose value is being found

    def signed(trial: Any) -> float:
        nonlocal same_in_a_row, at_hand
        trial.set_user_attr(WORKER, signature())
        before = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number and _counts(t)]
        if len(before) >= trials:
            trial.set_user_attr(SURPLUS, "as many as asked were there")
            raise _SurplusError
        proposal = suggest(trial)
        if any(t.params == trial.params for t in before):
            same_in_a_row += 1
            trial.set_user_attr(SURPLUS, "the same was there")
            raise _SurplusError
        same_in_a_row = 0
        at_hand = trial.number
        try:
            return evaluate(trial, proposal)
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except Exception:
            at_hand = None  # a failure of its own
            raise

    while same_in_a_row < SAME_IN_A_ROW:
        release_dead(study)
        now = standing(study)
        if now.finished + now.running >= trials:
            break
        # Anew for each trial, from how many there are: a sampler that began again with its seed would repeat itself.
        numbers = np.random.SeedSequence([seed, len(study.get_trials(deepcopy=False)), lane]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=BEGINS_TO_LEARN_AFTER, multivariate=True, constant_liar=True, seed=int(numbers[0])
        )
        try:
            study.optimize(signed, n_trials=1, catch=(_SurplusError,))
        except (ValueError, AssertionError, optuna.exceptions.UpdateFinishedTrialError):
            # What Optuna makes of a trial that has ended elsewhere: this machine was silent for so long, asleep or cut off,
            # that others took it for lost, and have queued the trial again.
            if at_hand is None or _counts(study.get_trials(deepcopy=False)[at_hand]):
                raise
        at_hand = None


class _SurplusError(Exception):
    """A trial that is not to be: Optuna counts it as failed."""


def release_dead(study: Any) -> int:
    """Fail the trials of workers that have died, and queue them again; returns how many there were on this machine.

    On other machines, those are noticed that their database has not heard of for LOST_AFTER_S.
    """
    optuna = optuna_quietly()
    optuna.storages.fail_stale_trials(study)
    released = 0
    for trial in study.get_trials(deepcopy=False):
        if trial.state != optuna.trial.TrialState.RUNNING:
            continue
        if not is_dead(trial.user_attrs.get(WORKER), trial.datetime_start):
            continue
        try:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # another process was first
        queue_again(study, trial)
        released += 1
    return released


def queue_again(study: Any, trial: Any) -> None:
    """Queue the values of a trial whose worker was lost, unless they have lost several already."""
    before = list(trial.user_attrs.get(AGAIN, []))
    if len(before) + 1 < TRIES and SURPLUS not in trial.user_attrs:
        study.enqueue_trial(trial.params, user_attrs={AGAIN: [*before, trial.number]})


def _counts(trial: Any) -> bool:
    return bool(trial.state != optuna_quietly().trial.TrialState.FAIL)
