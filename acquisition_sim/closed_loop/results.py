"""What the benchmark of control found, as its JSON has it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from acquisition_sim.closed_loop.scoring import Score


@dataclass(frozen=True, slots=True)
class Row:
    """One strategy at one latency, over the reported specimens."""

    strategy: str
    latency_steps: int
    utilisation: float
    utilisation_sd: float  # from specimen to specimen
    overshoot_p95: float
    share_within: float  # of runs with an overshoot of 0.01 at most
    time_s: float
    tuned: str  # what was tuned on other specimens, and to what

    @classmethod
    def of(cls, strategy: str, latency: int, score: Score, tuned: str) -> Row:
        """The row of a score."""
        return cls(
            strategy=strategy,
            latency_steps=latency,
            utilisation=round(float(score.utilisation.mean()), 4),
            utilisation_sd=round(float(score.utilisation.std()), 4),
            overshoot_p95=round(score.overshoot_p95, 4),
            share_within=round(score.share_within, 4),
            time_s=round(float(score.time_s.mean()), 2),
            tuned=tuned,
        )


@dataclass(frozen=True, slots=True)
class ResolveRow:
    """Frames while the specimen changes, over all specimens."""

    strategy: str  # "resolve", or "fixed dwell": the same dose in as many equal frames
    share_within_delta: (
        float  # of frames in the transition that change the phase by no more than delta, at the floor or above
    )
    share_below_floor: float  # of frames in the transition whose dose is below the floor
    largest_change_p95: float  # over specimens: the largest phase change of one frame
    frames: float  # in the transition, mean
    time_s: float  # of the whole flight, mean


@dataclass(frozen=True, slots=True)
class TightBudget:
    """Flights whose budget is used up before the ceiling is reached."""

    flights: int
    violations: int
    used: float  # share of the budget that the specimen received, mean


@dataclass(frozen=True, slots=True)
class Results:
    """All of it."""

    specimens: int
    tuning_specimens: int
    seed: int
    model: str
    phase_ceiling: float
    flights: int  # under control, those that were tuned on among them
    budget_violations: int
    solves: int
    solve_p50_ms: float
    solve_p99_ms: float
    fallbacks: int
    refused: int  # proposals and commands, by the guard
    rows: tuple[Row, ...]
    tight_budget: TightBudget | None = None
    delta: float | None = None
    resolve: tuple[ResolveRow, ...] = ()
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """One object, with the names of docs/explanation/what-control-is-worth.md."""
        return asdict(self)

    def row(self, strategy: str, latency: int) -> Row | None:
        """The row of a strategy at a latency, if it was flown."""
        return next((r for r in self.rows if (r.strategy, r.latency_steps) == (strategy, latency)), None)


def percentile_ms(times_ms: Sequence[float], percent: float) -> float:
    """0 where nothing was solved."""
    return round(float(np.percentile(times_ms, percent)), 3) if times_ms else 0.0
