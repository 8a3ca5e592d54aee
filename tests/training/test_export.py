"""A model trained from end to end, what its file does against what Keras does, and the model that comes with the package."""

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

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.model_contract import FORECAST_OUTPUT, PHASE_OUTPUT, WINDOW_INPUT, from_properties
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import Recording, load_recording, save_recording
from eelstm_stream.models import SHIPPED_MODEL
from eelstm_stream.training import train as training
from eelstm_stream.training.cli import train
from eelstm_stream.training.dataset import windows_and_targets
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.train import fit, gather, train_model
from tests.simulated_runs import simulated

QUICK_pC = 1_000.0  # transformed within 24 frames
UNSEEN_SEED = 424_242

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(train)


def forecast(model: Path, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import onnxruntime as ort  # here: the package turns its telemetry off, and must be imported before it

    session = ort.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
    counts, phase = session.run([FORECAST_OUTPUT, PHASE_OUTPUT], {WINDOW_INPUT: windows})
    return counts, phase


def tiny_recipe(**changes: object) -> Recipe:
    return replace(Recipe(layers=2, units=6), **changes)


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


def test_a_trajectory_has_an_output_for_each_horizon(tiny_recordings):
    from eelstm_stream.training.export import OnnxForecaster, to_onnx

    recipe = tiny_recipe(horizons=(1, 2, 8))
    material = gather(tiny_recordings[:3], tiny_recordings[3:], recipe)
    fitted = fit(material, recipe, seed=0, epochs=1, patience=1, report=lambda *_: None)
    proto = to_onnx(fitted, material.fitted.phase, recipe)
    windows, _ = windows_and_targets(material.test[0].counts, recipe)
    counts, _ = OnnxForecaster(proto, batch=5)(windows, windows[:, 0])
    assert counts.shape == (9, 3, 1900)
    low, span = material.fitted.low, material.fitted.span
    np.testing.assert_allclose(
        counts, fitted.network.predict((windows - low) / span, verbose=0) * span + low, rtol=1e-5
    )


def test_the_same_seed_gives_the_same_file(tiny_recordings, tmp_path):
    files = []
    for folder in ("first", "again"):
        (tmp_path / folder).mkdir()
        trained = train_model(
            tiny_recordings[:3],
            tiny_recordings[3:],
            tmp_path / folder / "m.onnx",
            recipe=tiny_recipe(),
            seed=1,
            epochs=1,
        )
        files.append(trained.path.read_bytes())
    assert files[0] == files[1]


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


# --- the model that comes with the package --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> SimpleNamespace:
    proto = onnx.load(SHIPPED_MODEL)
    meta = from_properties({p.key: p.value for p in proto.metadata_props}, SHIPPED_MODEL.name)
    run = simulated(160, UNSEEN_SEED)
    alignment = Alignment(
        meta.alignment_reference, meta.energy_axis, meta.alignment_range_eV, meta.alignment_max_shift_eV
    )
    preparation = Preparation(run.energy_axis, meta.energy_axis, alignment)
    frames = np.stack([preparation(counts, 1.0).counts for counts in run.counts])
    windows, targets = windows_and_targets(frames, Recipe(window=meta.window, horizons=meta.horizons))
    counts, phase = forecast(SHIPPED_MODEL, windows)
    return SimpleNamespace(
        proto=proto, meta=meta, frames=frames, windows=windows, targets=targets, counts=counts, phase=phase
    )


def test_the_shipped_model_is_the_one_that_was_pinned():
    sha256, name = Path(f"{SHIPPED_MODEL}.sha256").read_text().split()
    assert name == SHIPPED_MODEL.name
    assert hashlib.sha256(SHIPPED_MODEL.read_bytes()).hexdigest() == sha256
    assert SHIPPED_MODEL.stat().st_size < 20e6
    assert "make model" in SHIPPED_MODEL.with_suffix(".md").read_text()


def test_the_shipped_model_is_the_papers_network_with_real_lstm_nodes(shipped):
    graph = shipped.proto.graph
    assert sum(node.op_type == "LSTM" for node in graph.node) == 3
    assert not any(node.op_type in ("Loop", "Scan") for node in graph.node)
    assert [i.name for i in graph.input] == [WINDOW_INPUT]
    assert [o.name for o in graph.output] == [FORECAST_OUTPUT, PHASE_OUTPUT]
    for tensor in (*graph.input, *graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    meta = shipped.meta
    assert (meta.window, meta.horizons, meta.simulated) == (8, (8,), True)
    assert (meta.reference_dwell_s, meta.reference_dose_pC) == (0.4, pytest.approx(92.0))
    assert (meta.energy_axis.offset_eV, meta.energy_axis.size) == (435.0, 1900)


def test_a_batch_is_a_batch_of_single_forecasts(shipped):
    assert shipped.counts.shape == (145, 1, 1900)
    assert shipped.phase.shape == (145, 1)
    for i in (0, 77, 144):
        counts, phase = forecast(SHIPPED_MODEL, shipped.windows[i : i + 1])
        np.testing.assert_allclose(counts[0], shipped.counts[i], rtol=1e-5)
        np.testing.assert_allclose(phase[0], shipped.phase[i], atol=1e-4)


def test_its_phase_is_the_functional_of_its_forecast(shipped):
    np.testing.assert_allclose(shipped.phase, shipped.meta.phase(shipped.counts), atol=2e-4)


def test_it_beats_persistence_and_the_mean_of_the_window_on_a_run_that_nobody_has_seen(shipped):
    def rmse(forecasts):
        return np.sqrt(np.mean((forecasts - shipped.targets[:, 0]) ** 2))

    model = rmse(shipped.counts[:, 0])
    assert model < 0.8 * rmse(shipped.windows[:, -1])
    assert model < 0.95 * rmse(shipped.windows.mean(axis=1))
    assert model < 1.2 * noise_floor(shipped.frames)


def test_its_phase_runs_ahead_of_the_measured_one(shipped):
    measured = shipped.meta.phase(shipped.frames)
    target = measured[15:]
    assert np.std(shipped.phase[:, 0] - target) < 0.6 * np.std(measured[7:-8] - target)


def test_the_service_opens_it():
    from eelstm_stream.io.model_file import open_model

    assert open_model(SHIPPED_MODEL).metadata.name == "srtio3-sim-0.4s"
