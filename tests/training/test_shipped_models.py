"""The two models that come with the package, on a run that nobody has seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.history import running_means
from eelstm_stream.core.model_contract import FORECAST_OUTPUT, HISTORY_INPUT, PHASE_OUTPUT, WINDOW_INPUT
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.io.model_file import open_model
from eelstm_stream.models import PAPER_MODEL, SHIPPED_MODEL
from eelstm_stream.training.dataset import windows_and_targets
from tests.simulated_runs import simulated

UNSEEN_SEED = 424_242


def unseen(path: Path) -> SimpleNamespace:
    """What a model forecasts of a whole run, and what came."""
    model = open_model(path)
    meta = model.metadata
    run = simulated(160, UNSEEN_SEED)
    alignment = Alignment(
        meta.alignment_reference, meta.energy_axis, meta.alignment_range_eV, meta.alignment_max_shift_eV
    )
    preparation = Preparation(run.energy_axis, meta.energy_axis, alignment)
    frames = np.stack([preparation(counts, 1.0).counts for counts in run.counts])
    windows, targets = windows_and_targets(frames, meta)
    histories = running_means(frames)[meta.window - 1 : meta.window - 1 + len(windows)]
    counts, phase = model.forecast(windows, histories)
    return SimpleNamespace(
        path=path, model=model, meta=meta, frames=frames, windows=windows, histories=histories, targets=targets,
        counts=counts, phase=phase, fraction=run.phase,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[SHIPPED_MODEL, PAPER_MODEL], ids=["shipped", "paper"])
def of_run(request: pytest.FixtureRequest) -> SimpleNamespace:
    return unseen(request.param)


def test_it_is_the_one_that_was_pinned_and_its_card_names_the_hash(of_run: SimpleNamespace) -> None:
    sha256, name = Path(f"{of_run.path}.sha256").read_text().split()
    assert name == of_run.path.name
    assert hashlib.sha256(of_run.path.read_bytes()).hexdigest() == sha256
    card = of_run.path.with_suffix(".md").read_text()
    assert sha256 in card
    assert "make model" in card
    assert of_run.path.stat().st_size < 20e6


def test_it_has_real_lstm_nodes_and_the_contracts_tensors(of_run: SimpleNamespace) -> None:
    graph = onnx.load(of_run.path).graph
    layers, inputs = {
        SHIPPED_MODEL: (1, {WINDOW_INPUT, HISTORY_INPUT}),
        PAPER_MODEL: (3, {WINDOW_INPUT}),
    }[of_run.path]
    assert sum(node.op_type == "LSTM" for node in graph.node) == layers
    assert not any(node.op_type in ("Loop", "Scan") for node in graph.node)
    assert {i.name for i in graph.input} == inputs
    assert [o.name for o in graph.output] == [FORECAST_OUTPUT, PHASE_OUTPUT]
    for tensor in (*graph.input, *graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_it_says_what_it_is(of_run: SimpleNamespace) -> None:
    meta = of_run.meta
    assert (meta.name, meta.window, meta.simulated) == (of_run.path.stem, 8, True)
    assert meta.horizons == (tuple(range(1, 9)) if of_run.path == SHIPPED_MODEL else (8,))
    assert meta.reference_dwell_s == 0.4
    assert meta.reference_dose_pC == pytest.approx(92.0, rel=0.05)  # 230 pA, as far as runs differ
    assert (meta.energy_axis.offset_eV, meta.energy_axis.size) == (435.0, 1900)
    assert meta.fitted_baselines is not None


def test_a_batch_is_a_batch_of_single_forecasts(of_run: SimpleNamespace) -> None:
    assert of_run.counts.shape == (145, len(of_run.meta.horizons), 1900)
    assert of_run.phase.shape == (145, len(of_run.meta.horizons))
    for i in (0, 77, 144):
        counts, phase = of_run.model.forecast(of_run.windows[i : i + 1], of_run.histories[i : i + 1])
        np.testing.assert_allclose(counts[0], of_run.counts[i], rtol=1e-5)
        np.testing.assert_allclose(phase[0], of_run.phase[i], atol=1e-4)


def test_its_phase_is_the_functional_of_its_forecast(of_run: SimpleNamespace) -> None:
    np.testing.assert_allclose(of_run.phase, of_run.meta.phase(of_run.counts), atol=2e-4)


def test_its_scale_reads_the_transformed_fraction_off_phases(of_run: SimpleNamespace) -> None:
    scale = of_run.meta.scale
    assert scale.from_truth
    measured = [of_run.meta.phase.measure(frame, of_run.meta.variance_over_mean) for frame in of_run.frames]
    phases, deviations = np.array(measured).T
    here = scale.of_session(phases[:8], deviations[:8], of_run.fraction[:8])
    for fraction in (0.1, 0.2, 0.3, 0.4, 0.5):
        near = np.abs(of_run.fraction - fraction) < 0.05
        found, deviation = here.fraction(phases[near].mean(), deviations[near].mean() / np.sqrt(near.sum()))
        assert abs(found - of_run.fraction[near].mean()) < 2.5 * deviation
        assert deviation < 0.02


def test_it_beats_persistence_and_the_mean_of_the_window(of_run: SimpleNamespace) -> None:
    def rmse(forecasts: np.ndarray) -> float:
        return float(np.sqrt(np.mean((forecasts - of_run.targets[:, -1]) ** 2)))

    model = rmse(of_run.counts[:, -1])
    assert model < 0.8 * rmse(of_run.windows[:, -1])
    assert model < 0.95 * rmse(of_run.windows.mean(axis=1))
    assert model < 1.2 * noise_floor(of_run.frames)


def test_the_shipped_models_phase_runs_ahead_of_the_measured_one() -> None:
    of_run = unseen(SHIPPED_MODEL)
    measured = of_run.meta.phase(of_run.frames)
    lag, error = measured[7:-8] - measured[15:], of_run.phase[:, -1] - measured[15:]
    assert np.sqrt(np.mean(error**2)) < 0.8 * np.sqrt(np.mean(lag**2))
    assert abs(np.mean(error)) < 0.5 * abs(np.mean(lag))


def test_the_shipped_model_is_the_better_of_the_two_and_near_the_noise_floor() -> None:
    shipped, paper = unseen(SHIPPED_MODEL), unseen(PAPER_MODEL)

    def over_floor(of: SimpleNamespace) -> float:
        return float(np.sqrt(np.mean((of.counts[:, -1] - of.targets[:, -1]) ** 2))) / noise_floor(of.frames)

    assert over_floor(shipped) < over_floor(paper)
    assert over_floor(shipped) < 1.05
