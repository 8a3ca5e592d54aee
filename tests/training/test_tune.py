"""The search: what it proposes, that no trial is lost or done twice however workers come and go, and what it leaves."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io.recordings import save_recording
from eelstm_stream.training.cli import _recipe
from eelstm_stream.training.dataset import Segment, target_frames, window_starts
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.training.recipe_file import load_recipe, recipe_toml
from eelstm_stream.training.tuning import storage
from eelstm_stream.training.tuning.figure import draw
from eelstm_stream.training.tuning.owner import is_dead, signature
from eelstm_stream.training.tuning.report import best_recipe, outcome_of, recipe_text, table
from eelstm_stream.training.tuning.search import Objective, Search, trimmed
from eelstm_stream.training.tuning.space import TABLE_II, parameters, space_with, suggested
from eelstm_stream.training.tuning.storage import JournalLock, Place
from eelstm_stream.training.tuning.study import (
    AGAIN,
    TRIES,
    WORKER,
    open_study,
    queue_again,
    release_dead,
    standing,
    take_part,
)
from tests.programs import WITHIN_S, let_pass, marked, run, running, wait_until_gone, watched
from tests.simulated_runs import simulated
from tests.training.study_worker import CONFIGURATION, place_of, suggest
from tests.training.tiny import tiny_material, tiny_recipe

States = optuna.trial.TrialState


@pytest.fixture
def journal(tmp_path: Path) -> Place:
    return Place(tmp_path / "study.journal", None, "eelstm")


def trials_of(study: Any, *states: Any) -> list[Any]:
    return [t for t in study.get_trials(deepcopy=False) if not states or t.state in states]


def values_of(trials: Sequence[Any]) -> list[dict[str, Any]]:
    return [t.params for t in trials]


# What is searched


def test_the_space_is_the_papers_table_ii() -> None:
    """Their best lies in it, and is what the search tries first."""
    assert {name: (r.low, r.high) for name, r in TABLE_II.items()} == {
        "learning_rate": (1e-6, 1e-1),
        "layers": (1, 4),
        "units": (64, 512),
        "dropout": (0.01, 0.3),
        "window": (3, 15),
        "batch": (20, 100),
    }
    assert parameters(RECIPES["paper"], TABLE_II) == search().begins_with()
    assert search(recipe=RECIPES["corrected"]).begins_with() is None  # 32 units are fewer than any there


def search(**changes: Any) -> Search:
    given: dict[str, Any] = {
        "runs": (),
        "recipe": RECIPES["paper"],
        "space": dict(TABLE_II),
        "trials": 4,
        "seed": 0,
        "epochs": 3,
        "patience": 3,
    }
    return Search(**(given | changes))


def test_proposals_lie_in_the_space_and_leave_the_rest_of_the_recipe() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(50):
        recipe = suggested(study.ask(), TABLE_II, RECIPES["paper"])
        assert all(value in TABLE_II[name] for name, value in parameters(recipe, TABLE_II).items())
        assert replace(recipe, **parameters(RECIPES["paper"], TABLE_II)) == RECIPES["paper"]
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert sum(rate < 1e-3 for rate in rates) > 20  # by magnitude; else one in a hundred


def test_ranges_may_be_narrowed_to_a_value() -> None:
    space = space_with(["units=64..128", " layers = 2 ", "learning_rate=1e-4..1e-3"])
    assert (space["units"].low, space["units"].high, space["units"].whole) == (64, 128, True)
    assert (space["layers"].low, space["layers"].high) == (2, 2)
    assert space["learning_rate"].by_magnitude
    assert space["dropout"] == TABLE_II["dropout"]


@pytest.mark.parametrize(
    "text",
    ["units", "units=", "units=1..", "units=9..3", "units=1.5..3", "units=0..5", "units=nan..nan", "units=1..inf", "rnn=1..2",
     "window=1..3", "dropout=0..1", "units=1..2..3", "units=64-128", ""],
)  # fmt: skip
def test_a_range_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--range"):
        space_with([text])


def test_every_window_is_held_to_the_same_frames() -> None:
    """Else a wide window, which can't forecast a block's first frames, would be compared on others than a narrow one."""
    segments = [Segment(0, 10, 60), Segment(1, 0, 40)]

    def aimed_at(window: int) -> list[list[int]]:
        recipe = replace(RECIPES["paper"], window=window, horizons=(1, 8))
        return [
            (s.first + target_frames(window_starts(s.last - s.first, recipe), recipe)).ravel().tolist()
            for s in trimmed(segments, 15 - window)
        ]

    assert aimed_at(15)[0]
    assert all(aimed_at(window) == aimed_at(15) for window in range(3, 15))


def test_a_search_survives_the_way_to_its_workers() -> None:
    there = search(runs=(Path("a b.dm4"),), dwell_s=0.4, recipe=RECIPES["corrected"])
    assert Search.from_json(there.to_json()) == there
    assert "\n" not in there.to_json()


# What a trial is


@pytest.fixture(scope="module")
def material() -> Material:
    return tiny_material(replace(tiny_recipe(), window=5))


def one_trial(material: Material, **chosen: Any) -> tuple[Any, list[tuple[int, float]]]:
    """A trial with these values, and what was told of its epochs."""
    tiny = search(recipe=tiny_recipe(), space=dict(space_with(["window=3..5", "units=2..5"])))
    told: list[tuple[int, float]] = []
    objective = Objective(tiny, material, lambda epoch, rmse: told.append((epoch, rmse)))
    study = optuna.create_study()
    study.enqueue_trial(
        {"learning_rate": 1e-3, "layers": 1, "units": 3, "dropout": 0.1, "window": 4, "batch": 64} | chosen
    )
    study.optimize(lambda trial: objective.evaluate(trial, objective.suggest(trial)), n_trials=1)
    return study.trials[0], told


def test_the_value_of_a_trial_is_its_best_validation_rmse(material: Material) -> None:
    trial, told = one_trial(material)
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert trial.value == min(rmse for _, rmse in told)
    assert trial.intermediate_values == dict(told)
    assert told[0][1] > trial.value > 50  # it learns, and there is noise


def test_a_training_that_runs_away_is_pruned_and_not_tried_again(material: Material) -> None:
    runaway = Objective(search(), material, lambda *_: None)
    study = optuna.create_study()

    def diverging(trial: Any) -> float:
        recipe = tiny_recipe(window=5, learning_rate=1e38, weight_average=0.0)
        return runaway.evaluate(trial, recipe)

    study.optimize(diverging, n_trials=1)
    assert study.trials[0].state == States.PRUNED


# Studies and workers


def begin(place: Place, lane: int, trials: int, *more: str) -> subprocess.Popen[str]:
    where = place.url or str(place.journal)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.study_worker", where, str(lane), str(trials), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_workers_of_one_study_do_each_trial_once_and_as_many_as_asked(tmp_path: Path, kind: str) -> None:
    place = place_of(str(tmp_path / "j") if kind == "journal" else f"sqlite:///{tmp_path}/s.db")
    with ExitStack() as stack:  # all begin at once, with nothing there yet
        workers = [stack.enter_context(begin(place, lane, 30, "0.02")) for lane in range(3)]
        begun = [[int(line) for line in worker.communicate(timeout=WITHIN_S)[0].split()] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert all(begun)  # each did some
    study = open_study(place, CONFIGURATION, None)
    complete = trials_of(study, States.COMPLETE)
    assert sorted(number for of_worker in begun for number in of_worker) == [t.number for t in complete]
    assert len(complete) == 30
    assert trials_of(study, States.RUNNING, States.WAITING) == []
    assert len({json.dumps(params) for params in values_of(complete)}) == 30
    assert len({t.user_attrs[WORKER]["pid"] for t in complete}) == 3


def test_a_killed_workers_trial_is_queued_again_with_its_values(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, None)
    with begin(journal, 0, 5, "inf") as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "0\n"
        assert release_dead(study) == 0  # it lives
        worker.kill()
    assert trials_of(study, States.RUNNING)
    assert release_dead(study) == 1
    assert release_dead(study) == 0
    lost, queued = trials_of(study)
    assert (lost.state, queued.state) == (States.FAIL, States.WAITING)
    assert queued.system_attrs["fixed_params"] == lost.params

    take_part(study, suggest, lambda _, value: value, trials=5, seed=0)
    complete = trials_of(study, States.COMPLETE)
    assert len(complete) == 5
    assert values_of(complete).count(lost.params) == 1
    assert outcome_of(study).lost == 1


def test_a_machine_that_is_lost_is_noticed_by_its_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "LOST_AFTER_S", 2)
    place = place_of(f"sqlite:///{tmp_path}/s.db")
    with begin(place, 0, 1, "inf", "another.machine") as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "0\n"
        study = open_study(place, CONFIGURATION, None)
        release_dead(study)
        take_part(study, suggest, lambda _, value: value, trials=1, seed=0)
        assert [t.state for t in trials_of(study)] == [States.RUNNING]  # it lives, and there is nothing else to do
        worker.kill()
    let_pass(4.0)
    take_part(study, suggest, lambda _, value: value, trials=1, seed=0)
    lost, again = trials_of(study)
    assert (lost.state, again.state) == (States.FAIL, States.COMPLETE)
    assert again.params == lost.params


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
@pytest.mark.parametrize("reports", [True, False])
def test_a_worker_that_was_taken_for_lost_leaves_its_trial_and_goes_on(
    tmp_path: Path, kind: str, reports: bool
) -> None:
    place = place_of(str(tmp_path / "j") if kind == "journal" else f"sqlite:///{tmp_path}/s.db")
    study, others = open_study(place, CONFIGURATION, None), open_study(place, CONFIGURATION, None)

    def evaluate(trial: Any, value: float) -> float:
        if trial.number == 0:
            others.tell(0, state=States.FAIL)
            queue_again(others, trials_of(others)[0])
        if reports:
            trial.report(value, 1)
        return value

    take_part(study, suggest, evaluate, trials=2, seed=0)
    assert [t.state for t in trials_of(study)] == [States.FAIL, States.COMPLETE, States.COMPLETE]
    assert trials_of(study)[0].params == trials_of(study)[1].params


def test_a_failure_of_the_training_itself_ends_the_worker(journal: Place) -> None:
    def evaluate(_: Any, value: float) -> float:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        take_part(open_study(journal, CONFIGURATION, None), suggest, evaluate, trials=2, seed=0)


def test_a_worker_killed_while_it_writes_neither_locks_nor_spoils_the_journal(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, None)
    take_part(study, suggest, lambda _, value: value, trials=3, seed=0)
    assert journal.journal is not None
    holding = "import sys; from pathlib import Path; from eelstm_stream.training.tuning.storage import JournalLock\n"
    holding += "lock = JournalLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(journal.journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with journal.journal.open("ab") as file:
            file.write(b'{"op_code":4,"worker_id":"half a li')
        holder.kill()
    again = open_study(journal, CONFIGURATION, None)
    take_part(again, suggest, lambda _, value: value, trials=5, seed=0)
    assert len(trials_of(open_study(journal, CONFIGURATION, None), States.COMPLETE)) == 5


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"")
    lock = JournalLock(path)
    waiting = "import sys; from pathlib import Path; from eelstm_stream.training.tuning.storage import JournalLock\n"
    waiting += "print('asks', flush=True); JournalLock(Path(sys.argv[1])).acquire(); print('has it', flush=True)"
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", waiting, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "asks\n"
        assert not select.select([other.stdout], [], [], 0.3)[0]
        lock.release()
        assert other.stdout.readline() == "has it\n"


def test_values_that_kill_every_worker_are_given_up(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, None)
    for _ in range(TRIES):
        trial = study.ask()
        suggest(trial)
        study.tell(trial, state=States.FAIL)
        queue_again(study, trials_of(study)[trial.number])
    assert trials_of(study, States.WAITING) == []
    assert [t.user_attrs.get(AGAIN) for t in trials_of(study)] == [None, [0], [0, 1]]


def test_whose_worker_lives_elsewhere_is_left_alone() -> None:
    here = signature()
    long_ago = datetime.now() - timedelta(hours=1)
    assert not is_dead(here, long_ago)
    assert not is_dead(here | {"host": "another", "pid": 1}, long_ago)
    assert not is_dead(here | {"namespace": "pid:[1]", "pid": 2**22}, long_ago)  # a container beside this one
    assert is_dead(here | {"pid": 2**22 + 1}, datetime.now())
    assert is_dead(here | {"started": "1"}, datetime.now())  # the number is another process's by now
    assert is_dead(here | {"boot": "before"}, datetime.now())
    assert not is_dead(None, datetime.now())  # about to sign
    assert is_dead(None, long_ago)


def test_a_worker_that_has_ended_and_is_not_buried_is_dead() -> None:
    signing = "import json; from eelstm_stream.training.tuning.owner import signature; print(json.dumps(signature()))"
    with subprocess.Popen([sys.executable, "-c", signing], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        signed = json.loads(process.stdout.readline())
        descriptor = os.pidfd_open(process.pid)
        assert select.select([descriptor], [], [], WITHIN_S)[0]  # ended; nobody has waited for it
        os.close(descriptor)
        assert is_dead(signed, datetime.now())


def test_the_same_seed_proposes_the_same_and_never_again_after_a_break(tmp_path: Path) -> None:
    def proposals(name: str, *stops: int, seed: int = 3) -> list[dict[str, Any]]:
        place = Place(tmp_path / name, None, "eelstm")
        for stop in stops:
            take_part(open_study(place, CONFIGURATION, None), suggest, lambda _, v: v, trials=stop, seed=seed)
        return values_of(trials_of(open_study(place, CONFIGURATION, None)))

    whole = proposals("a", 15)
    assert proposals("b", 15) == whole
    assert proposals("c", 4, 9, 15) == whole
    assert len({json.dumps(p) for p in whole}) == 15
    assert proposals("d", 15, seed=4) != whole


def test_ranges_without_more_in_them_end_the_search(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, None)
    take_part(study, lambda t: t.suggest_int("n", 1, 3), lambda _, n: float(n), trials=50, seed=0)
    assert sorted(t.params["n"] for t in trials_of(study, States.COMPLETE)) == [1, 2, 3]


def test_the_recipe_as_it_is_comes_first(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, {"x": 0.5, "n": 7})
    take_part(open_study(journal, CONFIGURATION, {"x": 0.5, "n": 7}), suggest, lambda _, v: v, trials=3, seed=0)
    assert trials_of(study)[0].params == {"x": 0.5, "n": 7}
    assert values_of(trials_of(study)).count({"x": 0.5, "n": 7}) == 1


def test_a_study_begun_otherwise_is_refused_with_the_differences(journal: Place) -> None:
    was = {"seed": 0, "runs": {"1 a.dm4": "00ff"}, "space": {"units": "64..512"}}
    open_study(journal, was, None)
    with pytest.raises(UsageError, match=r"runs\.1 a\.dm4 was 00ff and is 11ee, seed was 0 and is 1; go on") as caught:
        open_study(journal, was | {"seed": 1, "runs": {"1 a.dm4": "11ee"}}, None)
    assert "units" not in str(caught.value)
    assert standing(open_study(journal, was, None)).taken == 0
    open_study(replace(journal, study="another"), was | {"seed": 1}, None)  # beside it


def test_a_study_of_another_program_is_not_touched(journal: Place) -> None:
    from eelstm_stream.training.tuning.storage import open_storage

    theirs = optuna.create_study(study_name="eelstm", storage=open_storage(journal, queue_again))
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UsageError, match="of another program"):
        open_study(journal, CONFIGURATION, None)
    assert theirs.user_attrs == {}


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("nonsense", UsageError, "no database that is known"),
        ("oracle2://x", UsageError, "no database that is known"),
        ("sqlite:////nowhere/at/all.db", EelstmError, "unable to open"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line(url: str, error: type[EelstmError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        open_study(Place(None, url, "eelstm"), CONFIGURATION, None)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert str(Place(None, "postgresql://me:secret@db/x", "eelstm")) == "postgresql://me:***@db/x"


# What comes of it


@pytest.fixture
def studied(journal: Place) -> Any:
    """Forty trials in which the learning rate is what matters."""
    study = open_study(journal, CONFIGURATION, parameters(RECIPES["paper"], TABLE_II))

    def evaluate(trial: Any, recipe: Recipe) -> float:
        error = 200 + 50 * (np.log10(recipe.learning_rate) + 3.5) ** 2
        for epoch in range(1, 8):
            trial.report(error * (1 + 1 / epoch), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(error)

    take_part(study, lambda t: suggested(t, TABLE_II, RECIPES["paper"]), evaluate, trials=40, seed=0)
    return study


def test_trials_are_listed_best_first_and_pruned_ones_last(studied: Any) -> None:
    outcome = outcome_of(studied)
    kept = [row.validation_rmse for row in outcome.rows if not row.pruned]
    assert len(outcome.rows) == 40
    assert kept == sorted(kept)
    assert [row.pruned for row in outcome.rows] == sorted(row.pruned for row in outcome.rows)
    assert any(row.pruned for row in outcome.rows)
    assert outcome.best == outcome.rows[0]
    assert max(outcome.importance, key=outcome.importance.__getitem__) == "learning_rate"
    said = table(outcome)
    assert f"{kept[0]:.1f}" in said[1]
    assert "and 30 more" in said[-1]


def test_the_picture_shows_every_parameter(studied: Any) -> None:
    picture = draw(outcome_of(studied), TABLE_II, "40 trials")
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_little_can_be_drawn_too(journal: Place) -> None:
    study = open_study(journal, CONFIGURATION, None)
    assert draw(outcome_of(study), TABLE_II, "nothing").startswith(b"\x89PNG")
    assert outcome_of(study).best is None
    assert recipe_text(outcome_of(study), search()) is None
    take_part(study, lambda t: suggested(t, TABLE_II, RECIPES["paper"]), lambda *_: 1.0, trials=1, seed=0)
    assert outcome_of(study).importance == {}
    assert draw(outcome_of(study), TABLE_II, "one").startswith(b"\x89PNG")


def test_the_best_recipe_can_be_trained_with(studied: Any, tmp_path: Path) -> None:
    outcome = outcome_of(studied)
    text = recipe_text(outcome, search())
    assert text is not None
    (tmp_path / "recipe.toml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert recipe == best_recipe(outcome, search())
    assert outcome.best is not None
    assert parameters(recipe, TABLE_II) == dict(outcome.best.parameters)
    assert "partly luck" in text


# Recipe files


@pytest.mark.parametrize("family", RECIPES)
def test_a_recipe_comes_back_from_its_file(family: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(recipe_toml(RECIPES[family], ("a remark",)))
    assert load_recipe(path) == RECIPES[family]
    assert "components" in tomllib.loads(path.read_text()) or family in ("paper", "gru")


def test_what_a_recipe_leaves_out_is_its_familys(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('family = "corrected"\nunits = 16\n')
    assert load_recipe(path) == replace(RECIPES["corrected"], units=16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have a `family`"),
        ("family = 3", "must have a `family`"),
        ('family = "transformer"', "must have a `family`"),
        ('family = "paper"\nunit = 3', "'unit'"),
        ('family = "paper"\nunits = "many"', "'many' was given"),
        ('family = "paper"\nunits = 0', "units is 0"),
        ('family = "paper"\ndropout = 1.0', "below 1"),
        ('family = "paper"\nlearning_rate = nan', "learning_rate"),
        ('family = "paper"\nhorizons = [8, 1]', "must rise"),
        ('family = "paper"\nhorizons = []', "must rise"),
        ('family = "paper"\nhorizons = [0, 1]', "must rise"),
        ('family = "paper"\nenergy_axis = 5', "energy_axis"),
        ("family = paper", "not TOML"),
        ("\xff", "family|TOML"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=said) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_training_takes_a_recipe_with_flags_above_it(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('family = "gru"\nunits = 16\nwindow = 5\n')
    assert _recipe(None, path, window=None, batch=7) == replace(RECIPES["gru"], units=16, window=5, batch=7)
    assert _recipe("gru", path) == replace(RECIPES["gru"], units=16, window=5)
    assert _recipe(None) == RECIPES["paper"]
    with pytest.raises(UsageError, match=r"recipe of 'gru': leave --model out"):
        _recipe("paper", path)
    with pytest.raises(UsageError, match="--components means nothing to --model gru"):
        _recipe(None, path, components=3)


# As a program: TensorFlow in every worker


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / f"run-{seed}.hspy" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_recording(simulated(24, seed, critical_dose_pC=1_000), path)
    return paths


def tuning(runs: Sequence[Path], folder: Path, *more: str) -> list[str]:
    """A command line that searches among tiny networks."""
    ranges = ["units=2..8", "layers=1", "window=3..4", "batch=20..40", "learning_rate=1e-4..1e-2"]
    small = [argument for r in ranges for argument in ("--range", r)]
    return ["tune", *map(str, runs), "-o", str(folder), *small, "--epochs", "1", "--json", *more]


def finished(folder: Path) -> list[Any]:
    study = open_existing(folder)
    return trials_of(study, States.COMPLETE, States.PRUNED)


def open_existing(folder: Path) -> Any:
    from eelstm_stream.training.tuning.storage import open_storage

    return optuna.load_study(
        study_name="eelstm", storage=open_storage(Place(folder / "study.journal", None, "eelstm"), queue_again)
    )


@pytest.mark.slow
def test_two_workers_search_and_leave_a_table_a_picture_and_a_recipe(runs: list[Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    arguments = tuning(runs, tmp_path / "out", "--trials", "3", "--workers", "2")
    done = run(*arguments, EELSTM_TUNE_STORAGE=url)
    assert (done.code, done.left_behind) == (0, []), done.err
    figures = done.figures()
    assert (figures["finished"], figures["lost"], figures["storage"]) == (3, 0, url)
    assert len({json.dumps(trial["parameters"]) for trial in figures["trials"]}) == 3
    assert {Path(file).name for file in figures["files"].values()} == {"tuning.json", "recipe.toml", "importance.png"}
    assert json.loads((tmp_path / "out" / "tuning.json").read_text()) == figures
    assert parameters(load_recipe(tmp_path / "out" / "recipe.toml"), TABLE_II) == figures["best"]["parameters"]
    assert (tmp_path / "out" / "importance.png").read_bytes().startswith(b"\x89PNG")

    study = optuna.load_study(study_name="eelstm", storage=url)
    assert len({t.user_attrs[WORKER]["pid"] for t in study.trials if t.state != States.FAIL}) == 2

    # There already: the same again adds nothing and starts no worker; another seed is refused.
    assert run(*arguments, EELSTM_TUNE_STORAGE=url).figures()["trials"] == figures["trials"]
    refused = run(*arguments, "--seed", "1", EELSTM_TUNE_STORAGE=url)
    [line] = refused.err.splitlines()
    assert (refused.code, refused.out) == (2, "")
    assert "seed was 0 and is 1" in line


def heard(process: subprocess.Popen[str], text: str) -> str:
    """Read what a program says until it says this."""
    assert process.stderr is not None
    while text not in (line := process.stderr.readline()):
        assert line, f"it ended without saying {text!r}"
    return line


@pytest.mark.slow
def test_a_search_that_is_killed_is_gone_on_with(runs: list[Path], tmp_path: Path) -> None:
    arguments = tuning(runs, tmp_path, "--trials", "3", "--workers", "2")
    with running(*arguments) as (process, mark):
        heard(process, " ends: ")
        with watched([pid for pid in marked(mark) if pid != process.pid]) as workers:
            assert len(workers) == 2
            process.kill()
            wait_until_gone(workers)
    before = {t.number: t.value for t in finished(tmp_path)}
    left = [t for t in trials_of(open_existing(tmp_path), States.RUNNING) if t.params]

    done = run(*arguments)
    assert (done.code, done.left_behind) == (0, []), done.err
    assert f"{len(before)} of 3 trials are there" in done.err
    after = finished(tmp_path)
    assert len(after) == 3
    assert {t.number: t.value for t in after if t.number in before} == before
    assert len({json.dumps(params) for params in values_of(after)}) == 3
    for lost in left:  # it may have been killed before it had all its values
        assert sum(lost.params.items() <= params.items() for params in values_of(after)) == 1


@pytest.mark.slow
def test_ctrl_c_ends_it_with_its_worker_and_leaves_the_trial_to_the_next(runs: list[Path], tmp_path: Path) -> None:
    with running(*tuning(runs, tmp_path, "--trials", "3")) as (process, mark):
        heard(process, " begins: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WITHIN_S)
        assert marked(mark) == []
    assert (process.returncode, out) == (130, "")
    assert "the same command goes on" in err
    assert [t.state for t in trials_of(open_existing(tmp_path)) if t.params] == [States.FAIL]
    assert len(trials_of(open_existing(tmp_path), States.WAITING)) == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(runs: list[Path], tmp_path: Path) -> None:
    with running(*tuning(runs, tmp_path, "--trials", "1", "--workers", "1")) as (process, mark):
        heard(process, " begins: ")
        [worker] = [pid for pid in marked(mark) if pid != process.pid]
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, err
    figures = json.loads(out)
    assert (figures["finished"], figures["lost"]) == (1, 1)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--model", "linear"), 2, "paper, gru, corrected"),
        (("--range", "units=1..x"), 2, "--range"),
        (("--storage", "nonsense"), 2, "--storage"),
        (("--trials", "0"), 2, "--trials"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    runs: list[Path], tmp_path: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    done = run(*tuning(runs, tmp_path / "out", *more))
    [line] = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    assert said in line


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    yield
    optuna.logging.set_verbosity(level)
