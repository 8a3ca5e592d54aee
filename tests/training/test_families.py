"""Every kind of model: its file against what it was made of, and the service with it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.history import running_means
from eelstm_stream.core.model_contract import HISTORY_INPUT, WINDOW_INPUT
from eelstm_stream.io.model_file import open_model
from eelstm_stream.training import train as training
from eelstm_stream.training.dataset import windows_and_targets
from eelstm_stream.training.export import to_onnx
from eelstm_stream.training.families import FAMILIES, fit
from eelstm_stream.training.gru_in_onnx import gru
from eelstm_stream.training.recipe import RECIPES, USED
from eelstm_stream.training.train import train_model
from tests.programs import Served
from tests.training.tiny import tiny_material, tiny_recipe, tiny_recordings

NODES = {"paper": {"LSTM": 1}, "gru": {"GRU": 1}, "linear": {}, "corrected": {"LSTM": 1}}
BOTH_HORIZONS = (1, 8)


@pytest.fixture(scope="module", params=list(NODES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model file of each family, and the fit that it was made of."""
    family = request.param
    recipe = tiny_recipe(family, horizons=BOTH_HORIZONS)
    kept: dict[str, Any] = {}

    def keep(fitted: Any, phase: Any, recipe: Any) -> Any:
        kept["fit"] = fitted
        return to_onnx(fitted, phase, recipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "to_onnx", keep)
        *runs, test = tiny_recordings()
        out = tmp_path_factory.mktemp(family) / f"{family}.onnx"
        trained = train_model(runs, [test], out, recipe=recipe, epochs=3, resample=True)
    frames = tiny_material(recipe).test[0].counts
    windows, targets = windows_and_targets(frames, recipe)
    return SimpleNamespace(
        family=family,
        recipe=recipe,
        trained=trained,
        out=out,
        fit=kept["fit"],
        windows=windows,
        targets=targets,
        histories=running_means(frames)[recipe.window - 1 : recipe.window - 1 + len(windows)],
    )


def test_there_is_a_recipe_for_every_family() -> None:
    assert set(FAMILIES) == set(RECIPES) == set(USED) == set(NODES)
    assert all(recipe.family == family for family, recipe in RECIPES.items())


def test_the_file_forecasts_what_tensorflow_does(made: SimpleNamespace) -> None:
    model = open_model(made.out)
    counts, phase = model.forecast(made.windows, made.histories)
    expected = np.asarray(made.fit.forecast(made.windows, made.histories))
    assert counts.shape == made.targets.shape
    np.testing.assert_allclose(counts, expected, rtol=1e-5)
    np.testing.assert_allclose(phase, model.metadata.phase(counts), atol=1e-4)


def test_its_nodes_are_real_ones(made: SimpleNamespace) -> None:
    graph = onnx.load(made.out).graph
    found = Counter(node.op_type for node in graph.node)
    assert {kind: found[kind] for kind in ("LSTM", "GRU", "Loop", "Scan") if found[kind]} == NODES[made.family]
    wanted = [WINDOW_INPUT, HISTORY_INPUT] if made.family == "corrected" else [WINDOW_INPUT]
    assert [tensor.name for tensor in graph.input] == wanted
    for node in graph.node:
        if node.op_type == "GRU":
            assert {a.name: a.i for a in node.attribute}["linear_before_reset"] == 1


def test_its_metadata_says_what_it_is(made: SimpleNamespace) -> None:
    meta = open_model(made.out).metadata
    assert meta.family == made.family
    assert set(meta.settings) == {*USED[made.family], "seed"}
    assert len(meta.training_curve) == made.trained.epochs == (1 if made.family == "linear" else 3)
    assert meta.fitted_baselines is not None
    assert meta.phase_noise is not None
    assert [run.name for run in meta.training_runs] == ["run-0.hspy", "run-1.hspy"]
    assert [run.name for run in meta.validation_runs] == ["run-2.hspy"]


def test_its_card_holds_its_hash_and_says_what_its_phase_is_worth(made: SimpleNamespace) -> None:
    card = made.out.with_suffix(".md").read_text()
    assert f"| SHA-256 | `{made.trained.sha256}` |" in card
    assert f"±{made.trained.metadata.phase_noise:.3f} of counting noise" in card


def test_the_service_forecasts_with_it(made: SimpleNamespace) -> None:
    run = tiny_recordings()[3]
    with Served(made.out) as served:
        served.instrument.open(beam_energy_keV=300.0, dose_is_relative=False)
        for seq in range(10):
            served.instrument.expose(seq, counts=run.counts[seq], dwell_s=0.4, beam_current_pA=230.0)
        forecast = served.ears.forecast(9)
    assert forecast.message.horizons == BOTH_HORIZONS
    expected, _ = open_model(made.out).forecast(made.windows[2:3], made.histories[2:3])
    np.testing.assert_allclose(forecast.payload, expected[0], rtol=1e-3)


# --- what each of them is -------------------------------------------------------------------------------------------


def windows_of(recipe: Any) -> tuple[np.ndarray, np.ndarray]:
    frames = tiny_material(recipe).test[0].counts
    windows, _ = windows_and_targets(frames, recipe)
    return windows, running_means(frames)[recipe.window - 1 : recipe.window - 1 + len(windows)]


@cache
def fitted(family: str) -> tuple[Any, Any, Any]:
    recipe = tiny_recipe(
        family, **({"learning_rate": 0.05} if family == "corrected" else {})
    )  # a correction to be seen
    material = tiny_material(recipe)
    return fit(material, recipe, seed=1, epochs=1, patience=1, report=lambda *_: None), material, recipe


def test_the_linear_model_is_the_ridge_among_the_baselines() -> None:
    model, material, recipe = fitted("linear")
    windows, histories = windows_of(recipe)
    baseline = fit_baselines(material.training_parts, recipe.window, recipe.horizons).by_name()["pca_ridge"]
    forecasts = np.asarray(model.forecast(windows, histories))
    for row, horizon in enumerate(recipe.horizons):
        np.testing.assert_allclose(forecasts[:, row], baseline(windows, histories, horizon), rtol=1e-5)


def test_the_gru_is_that_of_keras() -> None:
    from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

    keras, _ = keras_and_tensorflow()
    random = np.random.default_rng(0)
    sequence = random.normal(size=(4, 8, 7)).astype(np.float32)
    for sequences in (True, False):
        layer = keras.layers.GRU(5, return_sequences=sequences)
        layer.build(sequence.shape)
        layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
        np.testing.assert_allclose(gru(layer, sequence), layer(sequence), atol=1e-6)


def test_the_corrected_model_begins_at_the_linear_forecast_and_ends_elsewhere() -> None:
    model, _, recipe = fitted("corrected")
    windows, histories = windows_of(recipe)
    learnt = np.asarray(model.forecast(windows, histories))
    dense = model.network.layers[-2]
    weights = dense.get_weights()
    dense.set_weights([np.zeros_like(w) for w in weights])
    linear = np.asarray(model.forecast(windows, histories))
    dense.set_weights(weights)
    assert np.abs(learnt - linear).max() > 1  # counts
    persistence = np.repeat(windows[:, -1:], len(recipe.horizons), axis=1)
    targets = windows_and_targets(tiny_material(recipe).test[0].counts, recipe)[1]
    assert np.mean((linear - targets) ** 2) < np.mean((persistence - targets) ** 2)


def test_the_corrected_models_validation_error_is_that_of_its_forecasts_in_counts() -> None:
    model, material, recipe = fitted("corrected")
    [part] = material.validation_parts
    windows, targets = windows_and_targets(part, recipe)
    histories = running_means(part)[recipe.window - 1 : recipe.window - 1 + len(windows)]
    forecasts = np.asarray(model.forecast(windows, histories), dtype=np.float64)
    assert model.validation_rmse == pytest.approx(np.sqrt(np.mean((forecasts - targets) ** 2)), rel=1e-4)


def test_what_a_run_has_of_its_own_is_carried_on() -> None:
    model, _, recipe = fitted("corrected")
    windows, histories = windows_of(recipe)
    bump = 500 * np.exp(-(((np.arange(recipe.energy_axis.size) - 90) / 6) ** 2)).astype(np.float32)
    moved = np.asarray(model.forecast(windows + bump, histories + bump) - model.forecast(windows, histories))
    assert np.sqrt(np.mean((moved - bump) ** 2)) < 0.3 * np.sqrt(np.mean(bump**2))
    forgotten = np.asarray(model.forecast(windows + bump, histories) - model.forecast(windows, histories))
    assert np.sqrt(np.mean((forgotten - bump) ** 2)) > 0.7 * np.sqrt(np.mean(bump**2))
