"""A worker of a study without a network: its trials are functions of their parameters. Run as a process by the tests.

    python -m tests.training.study_worker JOURNAL-OR-URL LANE TRIALS [SECONDS-OF-A-TRIAL [HOST]]

It prints the number of each trial that it begins. With seconds, a trial takes as long; `inf` is for being killed in. HOST is
the machine that it says to be on; then it gives a sign of life every second.
"""

from __future__ import annotations

import math
import socket
import sys
import time
from pathlib import Path
from typing import Any

from eelstm_stream.training.tuning import storage
from eelstm_stream.training.tuning.storage import Place
from eelstm_stream.training.tuning.study import open_study, take_part

CONFIGURATION = {"of": "a test"}


def place_of(where: str) -> Place:
    return Place(None, where, "eelstm") if "://" in where else Place(Path(where), None, "eelstm")


def suggest(trial: Any) -> float:
    return float(trial.suggest_float("x", 0.0, 1.0)) + int(trial.suggest_int("n", 1, 9))


def main(where: str, lane: str, trials: str, takes_s: str = "0", host: str = "") -> None:
    if host:
        socket.gethostname = lambda: host
        storage.HEARTBEAT_S, storage.LOST_AFTER_S = 1, 2
    study = open_study(place_of(where), CONFIGURATION, None)

    def evaluate(trial: Any, value: float) -> float:
        print(trial.number, flush=True)  # noqa: T201 - what the test waits for
        if math.isinf(float(takes_s)):
            sys.stdin.read()
        time.sleep(float(takes_s))
        return value

    take_part(study, suggest, evaluate, trials=int(trials), seed=0, lane=int(lane))


if __name__ == "__main__":
    main(*sys.argv[1:])
