"""The benchmark of control: four strategies on the same specimens, each tuned on others to the same overshoot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from acquisition_sim.closed_loop.resolving import resolve_rows
from acquisition_sim.closed_loop.results import ResolveRow, Results, Row, TightBudget, percentile_ms
from acquisition_sim.closed_loop.scoring import OVERSHOOT, scored
from acquisition_sim.closed_loop.specimens import Specimen, nominal_specimen, reported_specimens, tuning_specimens
from acquisition_sim.closed_loop.stopping import (
    fixed_score,
    oracle_doses,
    reactive_score,
    tuned_fixed_dose,
    tuned_threshold,
)
from acquisition_sim.closed_loop.tuning import TunedCeiling
from acquisition_sim.closed_loop.under_control import LONGEST_LEASE_S, Flown
from acquisition_sim.closed_loop.workers import AtConstantRate, Crew, UnderControl
from controller.aim import Aim

STRATEGIES = ("fixed", "reactive", "mpc", "oracle")
LATENCIES = (0, 4, 8, 16, 32)
CEILING = 0.3
MOST_TUNING = 200  # specimens: tuning shall take no more time than the flights that are reported
MOST_ROUNDS = 3  # of tuning the controller
# Budget of a flight, in doses of the ceiling: for the ceiling to come first with every specimen, and for a controller that ran
# on to break it soon; and one that always comes first.
BUDGET_DOSES, TIGHT_BUDGET_DOSES = 2.0, 0.5
TIGHT_FLIGHTS, TIGHT_LATENCY = 20, 8
RESOLVE_SPECIMENS, RESOLVE_UNTIL = 60, 0.96
DELTA, FLOOR_SHARE = 0.005, 0.1  # phase change of a frame; floor in the session's own frames

T = TypeVar("T")


class Progress(Protocol):
    """Told what is flown, and how many flights come; passes them on."""

    def __call__(self, what: str, number: int, flights: Iterator[T], /) -> Iterator[T]:
        """The same flights."""


@dataclass(frozen=True, slots=True)
class Programme:
    """What to fly."""

    specimens: int = 300
    seed: int = 0
    latencies: tuple[int, ...] = LATENCIES
    strategies: tuple[str, ...] = STRATEGIES
    resolve: bool = True

    @property
    def tuning(self) -> int:
        """Specimens to tune on."""
        return min(self.specimens, MOST_TUNING)


@dataclass(slots=True)
class _Seen:
    """What is counted over all flights under control."""

    flights: int = 0
    violations: int = 0
    fallbacks: int = 0
    refused: int = 0
    solve_ms: list[float] = field(default_factory=list)

    def take(self, flown: Flown) -> None:
        self.flights += 1
        self.violations += not flown.keeps_to_budget
        self.fallbacks += flown.fallbacks
        self.refused += flown.refused
        self.solve_ms.extend(flown.solve_ms)


class ControlBenchmark:
    """One run of it. `measure` flies everything."""

    def __init__(self, programme: Programme, crew: Crew, model_name: str, progress: Progress) -> None:
        self._programme = programme
        self._crew = crew
        self._model_name = model_name
        self._progress = progress
        self._seen = _Seen()
        self._tuned_on = tuning_specimens(programme.tuning, programme.seed)
        self._reported = reported_specimens(programme.specimens, programme.seed)
        self._budget_pC = BUDGET_DOSES * nominal_specimen().dose_at(CEILING)

    def measure(self) -> Results:
        """Fly, tune, fly again."""
        began_s = time.perf_counter()
        programme = self._programme
        rows: list[Row] = []
        if "fixed" in programme.strategies:
            rows += self._fixed()
        if "reactive" in programme.strategies:
            rows += self._reactive()
        tight: TightBudget | None = None
        resolve: tuple[ResolveRow, ...] = ()
        if "mpc" in programme.strategies:
            rows += self._mpc()
            tight = self._tight_budget()
        if "oracle" in programme.strategies:
            rows += self._oracle()
        if programme.resolve and "mpc" in programme.strategies:
            resolve = self._resolve()
        return Results(
            specimens=programme.specimens,
            tuning_specimens=programme.tuning,
            seed=programme.seed,
            model=self._model_name,
            phase_ceiling=CEILING,
            flights=self._seen.flights,
            budget_violations=self._seen.violations,
            solves=len(self._seen.solve_ms),
            solve_p50_ms=percentile_ms(self._seen.solve_ms, 50),
            solve_p99_ms=percentile_ms(self._seen.solve_ms, 99),
            fallbacks=self._seen.fallbacks,
            refused=self._seen.refused,
            rows=tuple(rows),
            tight_budget=tight,
            delta=DELTA if resolve else None,
            resolve=resolve,
            seconds=round(time.perf_counter() - began_s, 1),
        )

    def _fixed(self) -> list[Row]:
        dose_pC = tuned_fixed_dose(self._tuned_on, CEILING, OVERSHOOT)
        score = fixed_score(self._reported, CEILING, dose_pC)
        return [Row.of("fixed", n, score, f"{dose_pC:.0f} pC") for n in self._programme.latencies]

    def _oracle(self) -> list[Row]:
        rows = []
        for latency in self._programme.latencies:
            doses = oracle_doses(self._reported, CEILING, latency)
            times_s = [dose / specimen.current_pA for dose, specimen in zip(doses, self._reported, strict=True)]
            rows.append(Row.of("oracle", latency, scored(self._reported, doses, times_s, CEILING), "nothing"))
        return rows

    def _reactive(self) -> list[Row]:
        specimens = [*self._tuned_on, *self._reported]
        tasks = [AtConstantRate(specimen, CEILING) for specimen in specimens]
        flights = list(self._progress("constant rate", len(tasks), self._crew.constant(tasks)))
        tuned_on, reported = flights[: len(self._tuned_on)], flights[len(self._tuned_on) :]
        rows = []
        for latency in self._programme.latencies:
            threshold = tuned_threshold(tuned_on, CEILING, latency)
            score = reactive_score(reported, CEILING, latency, threshold)
            tuned = f"mean of {threshold.averaged} at {threshold.phase:.3f}"
            rows.append(Row.of("reactive", latency, score, tuned))
        return rows

    def _mpc(self) -> list[Row]:
        ceilings = dict.fromkeys(self._programme.latencies, TunedCeiling.begin(CEILING))
        untuned = list(ceilings)
        for _ in range(MOST_ROUNDS):
            flights = self._to_ceilings(self._tuned_on, {n: ceilings[n] for n in untuned}, "tuning the controller")
            for latency, flown in flights.items():
                ceilings[latency] = ceilings[latency].corrected([f.phase for f in flown])
            untuned = [n for n in untuned if not ceilings[n].is_tuned]
            if not untuned:
                break
        flights = self._to_ceilings(self._reported, ceilings, "under control")
        rows = []
        for latency, flown in flights.items():
            score = scored(self._reported, [f.dose_pC for f in flown], [f.time_s for f in flown], CEILING)
            rows.append(Row.of("mpc", latency, score, str(ceilings[latency])))
        return rows

    def _to_ceilings(
        self, specimens: Sequence[Specimen], ceilings: dict[int, TunedCeiling], said: str
    ) -> dict[int, list[Flown]]:
        """Flights of each specimen at each latency, by latency."""
        tasks = [
            UnderControl(specimen, _preserve(ceiling.given), latency, self._budget_pC)
            for latency, ceiling in ceilings.items()
            for specimen in specimens
        ]
        flown = self._fly(tasks, said)
        return {n: flown[i * len(specimens) : (i + 1) * len(specimens)] for i, n in enumerate(ceilings)}

    def _tight_budget(self) -> TightBudget:
        specimens = self._reported[:TIGHT_FLIGHTS]
        budgets = [TIGHT_BUDGET_DOSES * specimen.dose_at(CEILING) for specimen in specimens]
        tasks = [
            UnderControl(specimen, _preserve(CEILING), TIGHT_LATENCY, budget_pC)
            for specimen, budget_pC in zip(specimens, budgets, strict=True)
        ]
        flown = self._fly(tasks, "tight budget")
        used = [f.dose_pC / budget_pC for f, budget_pC in zip(flown, budgets, strict=True)]
        violations = sum(not f.keeps_to_budget for f in flown)
        return TightBudget(len(flown), violations, round(sum(used) / len(used), 4))

    def _resolve(self) -> tuple[ResolveRow, ...]:
        specimens = self._reported[:RESOLVE_SPECIMENS]
        floors = [FLOOR_SHARE * specimen.frame_dose_pC for specimen in specimens]
        tasks = [
            UnderControl(
                specimen,
                Aim("resolve", delta=DELTA, min_dose_pC=floor_pC, max_lease_s=LONGEST_LEASE_S),
                specimen.preset.beam.delay_frames,
                2 * specimen.dose_at(RESOLVE_UNTIL),
                RESOLVE_UNTIL,
            )
            for specimen, floor_pC in zip(specimens, floors, strict=True)
        ]
        return resolve_rows(specimens, self._fly(tasks, "resolve"), delta=DELTA, floor_pC=floors)

    def _fly(self, tasks: Sequence[UnderControl], said: str) -> list[Flown]:
        flights: list[Flown] = []
        for flown in self._progress(said, len(tasks), self._crew.controlled(tasks)):
            self._seen.take(flown)
            flights.append(flown)
        return flights


def _preserve(ceiling: float) -> Aim:
    return Aim("preserve", phase_ceiling=ceiling, max_lease_s=LONGEST_LEASE_S)
