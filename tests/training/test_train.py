"""`eelstm train` as a user meets it: what it refuses, what it says, what it leaves."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import Recording, save_recording
from eelstm_stream.training import train as training
from eelstm_stream.training.cli import _horizons, _recipe
from eelstm_stream.training.logs import LEARNING_RATE, LOSS, TRAINING, VALIDATION, open_logs
from eelstm_stream.training.material import gather
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.training.train import train_model
from tests.paper_layout import write_dm
from tests.programs import WITHIN_S, run, running
from tests.training.tiny import tiny_recipe, tiny_recordings

# --- numbers of the model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "horizons"), [("8", (8,)), ("1-4", (1, 2, 3, 4)), ("1,2,8", (1, 2, 8)), ("1, 3-5 ,9", (1, 3, 4, 5, 9))]
)
def test_horizons_are_given_as_one_writes_them(text: str, horizons: tuple[int, ...]) -> None:
    assert _horizons(text) == horizons


@pytest.mark.parametrize("text", ["", "0", "8,1", "3-1", "1-2-3", "eight", "1,,2", "65", "1-9999", "-1", "2,2"])
def test_horizons_that_can_not_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--horizons is .*rising order"):
        _horizons(text)


def test_what_is_given_replaces_the_familys_number_and_nothing_else() -> None:
    assert _recipe("paper", units=64, dropout=None) == replace(RECIPES["paper"], units=64)
    assert _recipe("corrected", horizons=(8,), components=4) == replace(
        RECIPES["corrected"], horizons=(8,), components=4
    )
    with pytest.raises(UsageError, match="--learning-rate, --units means nothing to --model linear"):
        _recipe("linear", learning_rate=0.1, units=3)
    with pytest.raises(UsageError, match="--components means nothing to --model paper"):
        _recipe("paper", components=3)


# --- runs of any kind -----------------------------------------------------------------------------------------------


def changing(frames: int, energy_eV: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(frame, channel) counts whose white line fades, with the paper's noise."""
    background = 12_000 * (energy_eV / 435) ** -1.487
    phase = np.linspace(0, 1, frames)[:, np.newaxis] ** 2
    line = 5_000 * np.exp(-(((energy_eV - 458) / 2) ** 2)) * (1 - 0.6 * phase)
    clean = background + line
    return (clean + random.normal(size=clean.shape) * np.sqrt(4.6 * clean)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_trains_on_dm4_files_in_the_papers_layout(tmp_path: Path, count: int) -> None:
    paths = [tmp_path / f"SI-{i}.dm4" for i in range(count + 1)]
    for seed, path in enumerate(paths):
        write_dm(path, 60, changing, seed=seed)
    recipe = tiny_recipe("linear")
    trained = train_model(paths[:-1], paths[-1:], tmp_path / "m.onnx", recipe=recipe, resample=True)
    meta = trained.metadata
    assert (meta.simulated, meta.dose_is_relative, meta.reference_dwell_s) == (False, True, pytest.approx(0.4))
    assert trained.evaluation.pooled[-1].rmse < trained.evaluation.pooled[-1].baselines["persistence"]
    card = (tmp_path / "m.md").read_text()
    held_out = "SI-2.dm4, held out" if count == 3 else "SI-0.dm4, frames 22 to 37"
    assert held_out in card


def test_what_is_odd_about_the_runs_is_said_once_each_and_stands_in_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *runs, test = [replace(r, counts=r.clean_counts) for r in tiny_recordings()]  # without the camera's own spikes
    counts = runs[1].counts.copy()
    counts[7, 400] += 9_000
    counts[:, 500] = 0
    runs[1] = replace(runs[1], counts=counts, clean_counts=None)
    recipe = tiny_recipe("linear")
    trained = train_model(runs, [test], tmp_path / "m.onnx", recipe=recipe, resample=True)
    [remark] = trained.remarks
    assert remark.startswith("run-1.hspy has 1 dead channel (at 474.0 eV), 1 spike (the highest")
    assert remark in capsys.readouterr().err
    assert f"- {remark}" in (tmp_path / "m.md").read_text()


def test_differences_are_refused_in_one_line_by_the_command(tmp_path: Path) -> None:
    recordings: list[Recording] = list(tiny_recordings())
    recordings[1] = replace(recordings[1], dwell_s=recordings[1].dwell_s * 2)
    recordings[2] = replace(recordings[2], beam_energy_keV=200.0)
    paths = [tmp_path / recording.name for recording in recordings]
    for path, recording in zip(paths, recordings, strict=True):
        save_recording(recording, path)
    done = run("train", *paths[:3], "--test", paths[3], "-o", tmp_path / "m.onnx")
    assert done.code == 3
    [_, line] = done.err.splitlines()
    assert line.startswith(
        "eelstm: the runs do not go together: dwell 0.4 s in run-0.hspy, run-2.hspy and run-3.hspy, "
    )
    assert "beam energy 300 keV in run-0.hspy, run-1.hspy and run-3.hspy, 200 keV in run-2.hspy" in line
    assert not list(tmp_path.glob("m.*"))


# --- interrupted ----------------------------------------------------------------------------------------------------


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    paths = [tmp_path / recording.name for recording in tiny_recordings()]
    for path, recording in zip(paths, tiny_recordings(), strict=True):
        save_recording(recording, path)
    numbers = ["--layers", "1", "--units", "4", "--epochs", "100000", "--patience", "100000"]
    with running("train", *paths[:3], "--test", paths[3], "-o", tmp_path / "m.onnx", *numbers) as (process, _):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(WITHIN_S) == 130
    assert rest.splitlines()[-1].endswith("m.onnx.training keeps what was trained: go on with --resume.")
    assert sorted(p.name for p in tmp_path.glob("m.*")) == ["m.onnx.training"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, EelstmError("stopped")])
def test_stopped_before_the_first_epoch_it_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException] | BaseException
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(training, "fit", stopped)
    *runs, test = tiny_recordings()
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        train_model(runs, [test], tmp_path / "m.onnx", recipe=tiny_recipe(), resample=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_to_is_said_before_the_training(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "m.onnx.training").write_text("in the way")  # root may write anywhere
    else:
        tmp_path.chmod(0o555)
    *runs, test = tiny_recordings()
    with pytest.raises(EelstmError, match=r"m\.onnx\.training can't be made"):
        train_model(runs, [test], tmp_path / "m.onnx", recipe=tiny_recipe(), resample=True)


# --- logs -----------------------------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads there: tag to (epoch, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_course_of_a_training(tmp_path: Path) -> None:
    *runs, test = tiny_recordings()
    recipe = tiny_recipe()
    trained = train_model(
        runs, [test], tmp_path / "m.onnx", recipe=recipe, epochs=3, resample=True, logs=tmp_path / "logs"
    )
    found = scalars(tmp_path / "logs")
    curve = trained.metadata.training_curve
    assert [e for e, _ in found[VALIDATION]] == [1, 2, 3]
    assert [v for _, v in found[VALIDATION]] == pytest.approx([e.validation_rmse for e in curve])
    assert [v for _, v in found[TRAINING]] == pytest.approx([e.training_rmse for e in curve])
    assert [v for _, v in found[LEARNING_RATE]] == pytest.approx([recipe.learning_rate] * 3)
    span = gather(runs, [test], recipe, resample=True).fitted.span
    assert [v for _, v in found[LOSS]] == pytest.approx([(e.training_rmse / span) ** 2 for e in curve])


def test_epochs_that_are_trained_again_are_drawn_once(tmp_path: Path) -> None:
    recipe = Recipe()
    with open_logs(tmp_path, recipe, 1.0, resume=False, anew=False) as logs:
        for epoch in range(1, 6):
            logs.epoch(epoch, 300.0, 310.0)
    with open_logs(tmp_path, recipe, 1.0, resume=True, anew=False) as logs:
        for epoch in range(4, 8):
            logs.epoch(epoch, 200.0, 210.0)
    expected = [(1, 310), (2, 310), (3, 310), (4, 210), (5, 210), (6, 210), (7, 210)]
    assert scalars(tmp_path)[VALIDATION] == expected


def test_logs_of_another_training_are_not_mixed_in(tmp_path: Path) -> None:
    recipe = Recipe()
    with open_logs(tmp_path, recipe, 1.0, resume=False, anew=False) as logs:
        logs.epoch(1, 300.0, 310.0)
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(UsageError, match=r"has logs of another training.*--force"),
        open_logs(tmp_path, recipe, 1.0, resume=False, anew=False),
    ):
        pass
    with open_logs(tmp_path, recipe, 1.0, resume=False, anew=True) as logs:
        logs.epoch(1, 100.0, 110.0)
    assert scalars(tmp_path)[VALIDATION] == [(1, 110)]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    *_, test = tiny_recordings()
    with pytest.raises(UnusableInputError, match=r"missing\.hspy"):
        train_model([tmp_path / "missing.hspy"], [test], tmp_path / "m.onnx", recipe=tiny_recipe())
