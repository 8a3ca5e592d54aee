"""`eelstm`, but that the planner's solves fail from the SOLVES_BEFORE-th on: a controller with a broken solver, as a process."""

from __future__ import annotations

import sys
from itertools import count

from controller import mpc
from controller.mpc import Plan
from controller.problem import Problem, ProblemError

SOLVES_BEFORE = 4  # the first of them warms the solver up


def break_the_solver() -> None:
    """From now on, only so many solves work."""
    solves, solve = count(), mpc.solve

    def failing(problem: Problem, previous: Plan | None = None) -> Plan:
        if next(solves) >= SOLVES_BEFORE:
            raise ProblemError("the solver is broken, says the test")
        return solve(problem, previous)

    mpc.solve = failing


if __name__ == "__main__":
    from eelstm_stream.cli import run

    break_the_solver()
    sys.exit(run(sys.argv[1:]))
