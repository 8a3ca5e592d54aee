"""A model trained from end to end, what its file does against what Keras does."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import typer
from typer.testing import CliRunner

from eelstm_stream.core.model_contract import FORECAST_OUTPUT, PHASE_OUTPUT, WINDOW_INPUT, from_properties
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import Recording, load_recording, save_recording
from eelstm_stream.training import train as training
from eelstm_stream.training.cli import train
from eelstm_stream.training.dataset import windows_and_targets
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.train import gather, train_model
from tests.simulated_runs import simulated

QUICK_pC = 1_000.0  # transformed within 24 frames

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(train)


def forecast(model: Path, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import onnxruntime as ort  # here: the package turns its telemetry off, and must be imported before it

    session = ort.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
    counts, phase = session.run([FORECAST_OUTPUT, PHASE_OUTPUT], {WINDOW_INPUT: windows})
    return counts, phase


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tiny")
    paths = [folder / f"run-{seed}.hspy" for seed in range(4)]
    for seed, path in enumerate(paths):
        save_recording(simulated(24, seed, critical_dose_pC=QUICK_pC), path)
    return paths


@pytest.fixture(scope="session")
def tiny_recordings(tiny_runs) -> list[Recording]:
    return [load_recording(path) for path in tiny_runs]


@pytest.fixture(scope="session")
def trained(tiny_runs, tmp_path_factory) -> SimpleNamespace:
    """The paper's network with few units, two epochs on two tiny runs, through the command; with what was exported."""
    out = tmp_path_factory.mktemp("trained") / "tiny.onnx"
    kept = {}

    def keep(fit, phase, recipe):
        kept.update(network=fit.network, phase=phase)
        return to_onnx(fit, phase, recipe)

    to_onnx = training.to_onnx
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "to_onnx", keep)
        arguments = [*map(str, tiny_runs[:3]), "--test", str(tiny_runs[3]), "-o", str(out), "--epochs", "2", "--json"]
        arguments += ["--layers", "2", "--units", "6"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return SimpleNamespace(out=out, stdout=result.stdout, **kept)


# --- the file against Keras -----------------------------------------------------------------------------------------


def test_onnx_and_keras_agree_to_1e_minus_5(trained, tiny_recordings):
    material = gather(tiny_recordings[:3], tiny_recordings[3:], Recipe())
    windows, _ = windows_and_targets(material.test[0].counts, Recipe())
    low, span = material.fitted.low, material.fitted.span
    from_keras = trained.network.predict((windows - low) / span, verbose=0) * span + low
    counts, phase = forecast(trained.out, windows)
    np.testing.assert_allclose(counts, from_keras, rtol=1e-5)
    np.testing.assert_allclose(phase, trained.phase(counts), atol=1e-4)


def test_the_command_prints_one_json_object_with_the_figures_of_evaluate(trained):
    figures = json.loads(trained.stdout)
    assert {"rmse", "noise_floor", "baselines", "per_horizon", "rmse_clean", "baselines_clean"} <= figures.keys()
    baselines = {"persistence", "window_mean", "linear_extrapolation", "holt", "dmd"}
    in_components = {f"pca_{kind}{carried}" for kind in ("linear_trend", "ridge") for carried in ("", "_carried")}
    assert set(figures["baselines"]) == set(figures["baselines_clean"]) == baselines | in_components
    assert figures["rmse"] > figures["noise_floor"] > 0
    assert figures["epochs"] == 2
    assert figures["sha256"] == hashlib.sha256(trained.out.read_bytes()).hexdigest()


def test_hash_and_card_lie_beside_the_model_and_nothing_else(trained):
    left = sorted(p.name for p in trained.out.parent.iterdir() if p.suffix != ".html")  # the report
    assert left == ["tiny.md", "tiny.onnx", "tiny.onnx.sha256"]
    card = (trained.out.parent / "tiny.md").read_text()
    for said in (
        "noise floor",
        "PCA + linear trend",
        "against the noise-free truth",
        "run-3.hspy",
        "`eelstm",
        "has never seen",
    ):
        assert said in card


# --- what is refused, and what is left behind -----------------------------------------------------------------------


def test_nothing_is_overwritten_unless_forced(trained, tiny_runs):
    before = trained.out.read_bytes()
    with pytest.raises(UsageError, match=r"tiny\.onnx exists.*--force"):
        train(tiny_runs[:3], tiny_runs[3:], trained.out, epochs=1)
    assert trained.out.read_bytes() == before


def test_a_disk_that_fails_half_way_leaves_the_old_model(trained, tmp_path, monkeypatch):
    from eelstm_stream.training.export import write_model_files

    proto = onnx.load(trained.out)
    meta = from_properties({p.key: p.value for p in proto.metadata_props}, "m")
    out = tmp_path / "m.onnx"
    write_model_files(proto, meta, lambda sha256: "card", out, force=False)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EelstmError, match=r"m\.onnx couldn't be written: No space left"):
        write_model_files(proto, meta, lambda sha256: "another card", out, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"output": "m.pt"}, r"written as \.onnx"),
        ({"output": "nowhere/m.onnx"}, "is no folder"),
        ({"output": "my model.onnx"}, "can't be a model's name"),
        ({"model": "transformer"}, "--model is 'transformer', and those known are paper"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(tmp_path, wrong, complaint):
    arguments = {"runs": [tmp_path / "missing.hspy"], "test": [tmp_path / "missing.hspy"], "output": "m.onnx"} | wrong
    arguments["output"] = tmp_path / arguments["output"]
    with pytest.raises(UsageError, match=complaint):
        train(**arguments)


def test_runs_that_do_not_fit_are_refused_by_name(tiny_recordings, tmp_path):
    short = replace(
        tiny_recordings[1], counts=tiny_recordings[1].counts[:10], dwell_s=tiny_recordings[1].dwell_s[:10],
        beam_current_pA=None, clean_counts=None, phase=None, name="short.hspy",
    )  # fmt: skip
    with pytest.raises(UnusableInputError, match=r"short\.hspy has 10 frames"):
        train_model([tiny_recordings[0], short, tiny_recordings[2]], tiny_recordings[3:], tmp_path / "m.onnx")
    with pytest.raises(UnusableInputError, match=r"missing\.hspy"):
        train_model([tmp_path / "missing.hspy"], tiny_recordings[3:], tmp_path / "m.onnx")


@pytest.mark.parametrize("package", ["tensorflow", "tf2onnx"])
def test_without_the_extra_it_says_what_to_install_before_anything_is_read(tmp_path, monkeypatch, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(UsageError, match=rf"training needs {package}: install eelstm-stream\[train\]"):
        train_model([tmp_path / "missing.hspy"], [tmp_path / "missing.hspy"], tmp_path / "m.onnx")
