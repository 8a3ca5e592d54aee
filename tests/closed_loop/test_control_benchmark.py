"""`eelstm bench control`: a few specimens, all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from acquisition_sim.closed_loop.constant_rate import ConstantRate
from acquisition_sim.closed_loop.control_benchmark import ControlBenchmark, Programme
from acquisition_sim.closed_loop.figure import draw
from acquisition_sim.closed_loop.results import Results
from acquisition_sim.closed_loop.specimens import reported_specimens
from acquisition_sim.closed_loop.terminal import tables
from acquisition_sim.closed_loop.tuning import TunedCeiling
from acquisition_sim.closed_loop.workers import AtConstantRate, HereCrew, ProcessCrew, UnderControl, crew
from controller.aim import Aim
from eelstm_stream.bench.cli import bench
from eelstm_stream.models import SHIPPED_MODEL

T = TypeVar("T")
PROGRAMME = Programme(specimens=4, latencies=(0, 4), strategies=("fixed", "reactive", "oracle"))


class CountingCrew(HereCrew):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__(SHIPPED_MODEL)
        self.asked: list[tuple[int, int]] = []

    def constant(self, tasks: Sequence[AtConstantRate]) -> Iterator[ConstantRate]:
        self.asked.append((len(tasks), len({task.specimen.seed for task in tasks})))
        return super().constant(tasks)


def no_progress(_what: str, _number: int, flights: Iterator[T]) -> Iterator[T]:
    return flights


def measured(programme: Programme = PROGRAMME, flying: HereCrew | None = None) -> Results:
    return ControlBenchmark(programme, flying or HereCrew(SHIPPED_MODEL), "a-model", no_progress).measure()


@pytest.fixture(scope="module")
def everything() -> Results:
    return measured(Programme(specimens=4, latencies=(4,), resolve=False))


def test_one_flight_of_a_specimen_serves_all_thresholds_and_latencies() -> None:
    flying = CountingCrew()
    measured(flying=flying)
    assert flying.asked == [(8, 8)]  # four tuned on, four reported


def test_the_same_seed_gives_the_same_figures() -> None:
    assert measured().rows == measured().rows


def test_another_seed_gives_other_specimens() -> None:
    other = measured(Programme(4, 1, PROGRAMME.latencies, PROGRAMME.strategies))
    assert other.rows != measured().rows


def test_its_json_has_the_names_that_others_read(everything: Results) -> None:
    said = json.loads(json.dumps(everything.as_json()))
    assert {"specimens", "budget_violations", "solve_p99_ms", "rows"} <= said.keys()
    assert [row["strategy"] for row in said["rows"]] == ["fixed", "reactive", "mpc", "oracle"]
    for row in said["rows"]:
        assert {"strategy", "latency_steps", "utilisation", "overshoot_p95", "time_s"} <= row.keys()
        assert row["latency_steps"] == 4
        assert 0 < row["utilisation"] <= 1
    assert said["specimens"] == 4
    assert said["budget_violations"] == 0
    assert said["solve_p99_ms"] > 0


def test_a_tight_budget_is_used_and_kept_to(everything: Results) -> None:
    tight = everything.tight_budget
    assert tight is not None
    assert tight.flights == 4
    assert tight.violations == 0
    assert 0.5 < tight.used <= 1


def test_the_oracle_is_the_best(everything: Results) -> None:
    oracle = everything.row("oracle", 4)
    assert oracle is not None
    assert all(row.utilisation <= oracle.utilisation for row in everything.rows)


def test_the_figure_is_drawn_and_the_tables_are_printed(everything: Results, tmp_path: Path) -> None:
    draw(everything, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert tables(everything).renderables


@pytest.mark.slow
def test_processes_fly_as_this_one_does() -> None:
    (specimen,) = reported_specimens(1, 2)
    task = UnderControl(specimen, Aim("preserve", phase_ceiling=0.1, max_lease_s=60.0), 0, 9000.0)
    with crew(SHIPPED_MODEL, 2) as flying:
        assert isinstance(flying, ProcessCrew)
        (there,) = flying.controlled([task])
    (here,) = HereCrew(SHIPPED_MODEL).controlled([task])
    assert there.dose_pC == here.dose_pC
    assert (there.frame_dose_pC == here.frame_dose_pC).all()


def test_a_ceiling_that_is_overshot_too_often_is_lowered_by_as_much() -> None:
    assert TunedCeiling.begin(0.3).corrected([0.25] * 95 + [0.33] * 5).given == pytest.approx(0.28)
    assert TunedCeiling.begin(0.3).corrected([0.29] * 96 + [0.33] * 4).given == pytest.approx(0.32)


def test_a_large_correction_is_tried_out_before_it_is_used() -> None:
    ceiling = TunedCeiling.begin(0.3)
    assert not ceiling.is_tuned
    assert not ceiling.corrected([0.4] * 10).is_tuned
    assert ceiling.corrected([0.305] * 10).is_tuned


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--latencies", "0,x"], "whole numbers"),
        (["--latencies", "-1"], "from 0 to 100"),
        (["--strategies", "fixed,lucky"], "'lucky'"),
        (["--figure", "nowhere/figure.png"], "no folder"),
        (["--figure", "figure.bmp"], ".png"),
    ],
)
def test_what_cant_be_flown_is_said_before_anything_flies(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(bench, ["control", *arguments])
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
