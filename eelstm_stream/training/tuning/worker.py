"""One worker of a search, a process of its own: `python -m eelstm_stream.training.tuning.worker`, started by `pool`.

It reads its order, one line of JSON, from standard input, and says on standard output, a line of JSON each, how its trials go.
When standard input closes, whoever started it is gone, and it ends at once, wherever it is: its trial is queued again by
the next that looks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eelstm_stream.errors import EelstmError
from eelstm_stream.training.tuning.search import Objective, Search
from eelstm_stream.training.tuning.storage import Place, optuna_quietly
from eelstm_stream.training.tuning.study import open_study, take_part

PARENT_GONE = 70


class Order(BaseModel):
    """What a worker is to do."""

    search: str  # as `Search.to_json` has it
    journal: Path | None
    url: str | None
    study: str
    lane: int


def main() -> int:
    """Work until there is nothing to take; returns the exit code."""
    order = Order.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Libraries that print go to stderr: standard output is for what the pool reads.
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    try:
        _work(order, lambda said: out.write(json.dumps(said) + "\n"))
    except EelstmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _work(order: Order, say: Any) -> None:
    search = Search.from_json(order.search)
    material = search.gather()
    place = Place(order.journal, order.url, order.study)
    study = open_study(place, search.configuration(material), None)
    at_hand = [-1]  # number of the trial

    objective = Objective(
        search, material, lambda epoch, rmse: say({"trial": at_hand[0], "epoch": epoch, "validation_rmse": rmse})
    )

    def evaluate(trial: Any, recipe: Any) -> float:
        at_hand[0] = trial.number
        say({"trial": trial.number, "parameters": trial.params})
        try:
            value = objective.evaluate(trial, recipe)
        except optuna_quietly().TrialPruned:
            say({"trial": trial.number, "pruned": True})
            raise
        say({"trial": trial.number, "value": value})
        return value

    take_part(study, objective.suggest, evaluate, trials=search.trials, seed=search.seed, lane=order.lane)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    sys.exit(main())
