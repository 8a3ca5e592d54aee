"""A training that is killed goes on as if it had not been, and leaves nothing half done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.model_contract import TrainingEpoch
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import save_recording
from eelstm_stream.training.checkpoint import Checkpoints, Snapshot, checkpoint_folder, open_checkpoints
from eelstm_stream.training.families import fit
from eelstm_stream.training.fit import Fit
from eelstm_stream.training.train import train_model
from tests.programs import WITHIN_S, run, running
from tests.training.tiny import tiny_material, tiny_recipe, tiny_recordings

SEED = 3
CONFIGURATION: dict[str, Any] = {"recipe": {"units": 8, "horizons": (1, 8)}, "seed": 1, "run 1": "a.hspy (0123)"}


class StoppedError(Exception):
    """By the test."""


def trained(family: str, checkpoints: Checkpoints | None = None, stop_after: int | None = None, epochs: int = 5) -> Fit:
    recipe = tiny_recipe(family)

    def report(epoch: int, training_rmse: float, validation_rmse: float) -> None:
        if epoch - 1 == stop_after:  # so that what is kept of this epoch is not: it is trained again
            raise StoppedError

    return fit(
        tiny_material(recipe), recipe, seed=SEED, epochs=epochs, patience=epochs, report=report, checkpoints=checkpoints
    )


def opened(folder: Path, *, resume: bool = False, anew: bool = False, **changes: Any) -> Checkpoints:
    return open_checkpoints(folder, CONFIGURATION | changes, resume=resume, anew=anew, every_s=0)


def snapshot(epochs: int, *arrays: np.ndarray) -> Snapshot:
    curve = tuple(TrainingEpoch(epoch=e, training_rmse=200 - e, validation_rmse=210 - e) for e in range(1, epochs + 1))
    return Snapshot(curve, epochs, [arrays[0]], list(arrays))


ARRAYS = (np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, dtype=np.int64))


@pytest.fixture
def broken_off(tmp_path: Path) -> Path:
    """A folder with a checkpoint after the second epoch."""
    folder = tmp_path / "m.onnx.training"
    with opened(folder) as checkpoints:
        checkpoints.save(lambda: snapshot(2, *ARRAYS))
    return folder


# --- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["paper", "corrected"])
def test_a_resumed_training_has_the_weights_of_one_that_was_not_interrupted(family: str, tmp_path: Path) -> None:
    whole = trained(family)
    with opened(tmp_path / "t") as checkpoints, pytest.raises(StoppedError):
        trained(family, checkpoints, stop_after=2)
    with opened(tmp_path / "t", resume=True) as checkpoints:
        assert [e.epoch for e in checkpoints.curve] == [1, 2]
        resumed = trained(family, checkpoints)
    assert resumed.curve == whole.curve
    assert len({e.training_rmse for e in whole.curve}) == 5  # it learnt
    assert resumed.best_epoch == whole.best_epoch
    for one, other in zip(resumed.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_that_was_stopped_early_is_not_gone_on_with(tmp_path: Path) -> None:
    recipe = tiny_recipe(learning_rate=0.5)  # gains nothing after a few epochs
    fits = []
    for resume in (False, True):
        epochs: list[int] = []
        with opened(tmp_path / "t", resume=resume) as checkpoints:
            said = epochs.append
            fits.append(
                fit(
                    tiny_material(recipe),
                    recipe,
                    seed=SEED,
                    epochs=60,
                    patience=3,
                    report=lambda epoch, *_, say=said: say(epoch),
                    checkpoints=checkpoints,
                )
            )
    assert epochs == []
    assert fits[0].epochs == fits[1].epochs == fits[0].best_epoch + 3 < 60


# --- a real process, killed -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of `eelstm train`, but for the output: a small network on three short runs."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / recording.name for recording in tiny_recordings()]
    for path, recording in zip(paths, tiny_recordings(), strict=True):
        save_recording(recording, path)
    numbers = ["--layers", "1", "--units", "4", "--epochs", "8", "--patience", "8", "--seed", "5"]
    return ["train", *map(str, paths[:3]), "--test", str(paths[3]), *numbers]


def test_a_killed_process_leaves_a_checkpoint_and_no_model_and_resumes_to_the_same_file(
    arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    with running(*arguments, "-o", out) as (process, _):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 3/8"):  # the first epoch has been kept by then
                process.send_signal(signal.SIGKILL)
                break
        process.wait(WITHIN_S)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx.training"]

    refused = run(*arguments, "-o", out)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert "--force" in refused.err
    assert len(refused.err.splitlines()) == 1

    resumed = run(*arguments, "-o", out, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert "going on after epoch 1" in resumed.err
    assert "epoch 1/8" not in resumed.err
    assert resumed.figures()["epochs"] == 8
    left = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".html")  # the report
    assert left == ["m.md", "m.onnx", "m.onnx.sha256"]
    assert "--resume" not in (tmp_path / "m.md").read_text()

    # In one go, and in this process.
    whole = tmp_path / "whole"
    whole.mkdir()
    runs = [Path(a) for a in arguments[1:4]]
    recipe = tiny_recipe_of_command()
    train_model(runs, [Path(arguments[5])], whole / "m.onnx", recipe=recipe, seed=5, epochs=8, patience=8)
    assert (whole / "m.onnx").read_bytes() == out.read_bytes()


def tiny_recipe_of_command() -> Any:
    from dataclasses import replace

    from eelstm_stream.training.recipe import Recipe

    return replace(Recipe(), layers=1, units=4)


KEEPS_SAVING = """
import sys
from pathlib import Path
import numpy as np
from eelstm_stream.training.checkpoint import Snapshot, open_checkpoints
from tests.training.test_checkpoint import snapshot
with open_checkpoints(Path(sys.argv[1]), {"seed": 1}, resume=True, anew=False, every_s=0) as checkpoints:
    epoch = len(checkpoints.curve)
    while True:
        epoch += 1
        checkpoints.save(lambda: snapshot(epoch, np.full(100_000, epoch, np.float32)))
        print(epoch, flush=True)
"""


def test_killed_at_any_moment_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    random = np.random.default_rng(0)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", KEEPS_SAVING, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(int(random.integers(1, 12))):
                said = int(process.stdout.readline())
            process.kill()
            said = max([said, *map(int, process.stdout.read().split())])
        with open_checkpoints(folder, {"seed": 1}, resume=True, anew=False) as checkpoints:
            found = checkpoints.load([np.zeros(100_000, np.float32)])
        assert found is not None
        assert len(found.curve) in (said, said + 1)
        assert (found.state[0] == len(found.curve)).all()


def test_a_checkpoint_takes_the_place_of_the_one_before_and_is_not_written_over_it(broken_off: Path) -> None:
    with (broken_off / "checkpoint.npz").open("rb") as before:
        content = before.read()
        with opened(broken_off, resume=True) as checkpoints:
            checkpoints.save(lambda: snapshot(3, *ARRAYS))
        before.seek(0)
        assert before.read() == content
    assert (broken_off / "checkpoint.npz").read_bytes() != content


# --- whose checkpoint it is -----------------------------------------------------------------------------------------


def test_what_is_there_is_neither_gone_on_with_nor_thrown_away_unasked(broken_off: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.onnx\.training holds a training.*--resume.*--force"):
        opened(broken_off)
    with opened(broken_off, resume=True) as checkpoints:
        found = checkpoints.load(ARRAYS)
    assert found is not None
    assert (len(found.curve), found.best_epoch) == (2, 2)
    np.testing.assert_array_equal(found.state[0], ARRAYS[0])
    with opened(broken_off, anew=True) as checkpoints:
        assert checkpoints.load(ARRAYS) is None
        assert not checkpoints.saved


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"recipe": {"units": 16, "horizons": (1, 8)}}, "recipe.units was 8 and is 16"),
        ({"recipe": {"units": 8, "horizons": (8,)}}, r"recipe.horizons was \[1, 8\] and is \[8\]"),
        ({"run 1": "a.hspy (4567)"}, r"run 1 was a.hspy \(0123\) and is a.hspy \(4567\)"),
        ({"run 2": "b.hspy (89)"}, r"run 2 was not there and is b.hspy \(89\)"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_with_the_difference_named(
    broken_off: Path, change: dict[str, Any], difference: str
) -> None:
    before = {p.name: p.read_bytes() for p in broken_off.iterdir()}
    with pytest.raises(UsageError, match=f"holds another training: {difference}; .*--force"):
        opened(broken_off, resume=True, **change)
    assert {p.name: p.read_bytes() for p in broken_off.iterdir()} == before


def test_the_configuration_says_what_decides_the_weights() -> None:
    from eelstm_stream.training.description import configuration

    recipe = tiny_recipe()
    material = tiny_material(recipe)
    said = json.loads(json.dumps(configuration(material, recipe, 4)))
    assert said["seed"] == 4
    assert said["recipe"]["units"] == 5
    assert [said[f"run {i}"] for i in (1, 2, 3)] == [f"{r.name} ({r.sha256[:16]})" for r in material.runs]
    assert {"eelstm-stream", "tensorflow", "keras", "numpy"} <= said.keys()
    assert configuration(material, tiny_recipe(units=6), 4) != configuration(material, recipe, 4)


def test_one_training_at_a_time(broken_off: Path) -> None:
    with opened(broken_off, resume=True), pytest.raises(EelstmError, match="another training is writing"):
        opened(broken_off, anew=True)
    assert (broken_off / "checkpoint.npz").is_file()


@pytest.mark.parametrize("damage", ["cut short", "not an archive", "of another network"])
def test_a_damaged_checkpoint_is_refused_in_a_sentence(broken_off: Path, damage: str) -> None:
    file = broken_off / "checkpoint.npz"
    whole = file.read_bytes()
    file.write_bytes({"cut short": whole[: len(whole) // 2], "not an archive": b"x" * 99}.get(damage, whole))
    like = [np.zeros((4, 3)), ARRAYS[1]] if damage == "of another network" else ARRAYS
    with (
        opened(broken_off, resume=True) as checkpoints,
        pytest.raises(UnusableInputError, match=r"checkpoint\.npz is .*: begin anew with --force"),
    ):
        checkpoints.load(like)


def test_nothing_in_a_checkpoint_can_run(broken_off: Path) -> None:
    poisoned = np.array([Poison()], dtype=object)
    np.savez(broken_off / "checkpoint.npz", training=poisoned, allow_pickle=True)
    with opened(broken_off, resume=True) as checkpoints, pytest.raises(UnusableInputError, match="is damaged"):
        checkpoints.load(ARRAYS)


class Poison:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it ran",)


# --- what is left behind --------------------------------------------------------------------------------------------


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)


def test_a_disk_that_fails_leaves_the_checkpoint_before(broken_off: Path, no_room: None) -> None:
    before = (broken_off / "checkpoint.npz").read_bytes()
    with (
        opened(broken_off, resume=True) as checkpoints,
        pytest.raises(EelstmError, match=r"checkpoint\.npz couldn't be written: No space left"),
    ):
        checkpoints.save(lambda: snapshot(3, *ARRAYS))
    assert (broken_off / "checkpoint.npz").read_bytes() == before
    assert not list(broken_off.glob("*.unfinished"))


def test_a_training_that_came_to_nothing_leaves_no_folder(tmp_path: Path) -> None:
    recipe = tiny_recipe(learning_rate=1e30)
    material = tiny_material(recipe)
    with opened(tmp_path / "t") as checkpoints, pytest.raises(EelstmError, match="ran away"):
        fit(material, recipe, seed=0, epochs=3, patience=3, report=lambda *_: None, checkpoints=checkpoints)
    assert not (tmp_path / "t").exists()


def test_what_somebody_else_put_there_is_left(tmp_path: Path) -> None:
    folder = checkpoint_folder(tmp_path / "m.onnx")
    with opened(folder) as checkpoints:
        (folder / "notes.txt").write_text("mine")
        checkpoints.discard()
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_not_every_epoch_of_a_quick_training_is_written(tmp_path: Path) -> None:
    with open_checkpoints(tmp_path / "t", CONFIGURATION, resume=False, anew=False, every_s=3_600) as checkpoints:
        checkpoints.save(lambda: snapshot(1, *ARRAYS))
        checkpoints.save(lambda: pytest.fail("written again within the hour"))
