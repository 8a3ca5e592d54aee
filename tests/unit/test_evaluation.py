"""Errors are counted on the right frames, and stand beside the floor that none can go below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.metrics import edge_weights
from eelstm_stream.core.model_contract import HorizonError, ModelMetadata
from eelstm_stream.core.pipeline import Accepted, new_pipeline, step
from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.cases import CaseErrors, Cases, PeakScore, by_stage, scores
from eelstm_stream.training.conditions import Conditions
from eelstm_stream.training.dataset import prepare, windows_and_targets
from eelstm_stream.training.evaluation import evaluate, windows_of
from eelstm_stream.training.material import Material, gather
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.verdict import margin, verdict
from eelstm_stream.wire.messages import SessionStart, Spectrum
from tests.model_files import metadata
from tests.simulated_runs import simulated

RECIPE = Recipe(horizons=(1, 8))
QUICK_pC = 1_500.0


@pytest.fixture(scope="module")
def material() -> Material:
    recordings = [simulated(48, seed, critical_dose_pC=QUICK_pC) for seed in range(6)]
    return gather(recordings[:4], recordings[4:], RECIPE)


@pytest.fixture(scope="module")
def baselines(material):
    runs = [run.counts for run in material.runs[:3]]
    return fit_baselines(runs, RECIPE.window, RECIPE.horizons).by_name()


def with_phase(counts_only, phase):
    """A forecaster whose phase is that of its counts."""

    def forecaster(windows, histories):
        forecast = counts_only(windows, histories)
        return forecast, phase(forecast)

    return forecaster


def persist(windows, histories):
    return np.repeat(windows[:, -1:], 2, axis=1)


def test_a_forecaster_that_knows_the_truth_is_left_with_the_noise(material, baselines):
    future = iter([windows_and_targets(run.clean_counts, RECIPE)[1] for run in material.test])
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(lambda w, h: next(future), phase), baselines, phase, material.test, RECIPE)
    for errors in evaluation.pooled:
        assert errors.rmse_clean == 0
        assert errors.rmse == pytest.approx(errors.noise_floor, rel=0.05)
        assert all(errors.rmse < baseline for baseline in errors.baselines.values())


def test_a_model_that_is_a_baseline_has_its_errors(material, baselines):
    name = "pca_ridge_carried"  # which needs the history

    def as_baseline(windows, histories):
        return np.stack([baselines[name](windows, histories, h) for h in RECIPE.horizons], axis=1)

    phase = material.fitted.phase
    evaluation = evaluate(with_phase(as_baseline, phase), baselines, phase, material.test, RECIPE)
    for errors in evaluation.pooled:
        assert errors.rmse == pytest.approx(errors.baselines[name])
        assert errors.rmse_clean == pytest.approx(errors.baselines_clean[name])
        assert errors.phase_rmse == pytest.approx(errors.phase_baselines[name])
    near, far = evaluation.pooled
    assert near.horizon == 1
    assert near.baselines["persistence"] < far.baselines["persistence"]


def test_runs_are_reported_apart_and_pooled_by_their_windows(material, baselines):
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(persist, phase), baselines, phase, material.test, RECIPE)
    assert [name for name, _ in evaluation.by_run] == [run.name for run in material.test]
    squares = [errors[1].rmse ** 2 for _, errors in evaluation.by_run]
    assert evaluation.pooled[1].rmse ** 2 == pytest.approx(np.mean(squares))


def test_without_a_known_truth_none_is_reported(material, baselines):
    blind = [replace(run, clean_counts=None) for run in material.test]
    phase = material.fitted.phase
    evaluation = evaluate(with_phase(persist, phase), baselines, phase, blind, RECIPE)
    assert evaluation.pooled[0].rmse_clean is None
    assert evaluation.pooled[0].baselines_clean == {}


# --- windows and their histories ------------------------------------------------------------------------------------


def test_windows_and_histories_are_those_of_the_service():
    recording = simulated(16, 3, critical_dose_pC=QUICK_pC)
    meta = metadata(alignment_reference=reference_of(recording))
    prepared = prepare(recording, Conditions(0.4, 92.0, False), meta.alignment_reference, meta)
    cut = windows_of(prepared, replace_horizons(meta, (1, 8)))
    served = list(as_served(recording, meta))
    assert cut.counts.shape == (1, 8, 1900)
    assert cut.targets.tolist() == [[8, 15]]
    np.testing.assert_allclose(cut.counts[0], served[7].window, rtol=1e-6)
    np.testing.assert_allclose(cut.histories[0], served[7].history, rtol=1e-6)
    later = windows_of(prepared, replace_horizons(meta, (1,)))
    for case, start in enumerate(later.starts):
        np.testing.assert_allclose(later.counts[case], served[start + 7].window, rtol=1e-6)
        np.testing.assert_allclose(later.histories[case], served[start + 7].history, rtol=1e-6)


def reference_of(recording: Recording) -> np.ndarray:
    """(channel,) on the model's axis: the first frames' mean, cropped as channels 110 to 2010 of the camera."""
    return recording.counts[:8, 110:2010].mean(axis=0)


def replace_horizons(meta: ModelMetadata, horizons: tuple[int, ...]) -> ModelMetadata:
    return meta.model_copy(update={"horizons": horizons})


def as_served(recording: Recording, meta: ModelMetadata) -> Iterator[Accepted]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    common = {"session": "s", "sent_mono_ns": 0, "dwell_s": 0.4, "beam_current_pA": 230.0}
    start = SessionStart(
        **common, seq=0, instrument="sto", source="instrument", energy_axis=recording.energy_axis,
        dose_is_relative=False, started_at=now, clock_id="c",
    )  # fmt: skip
    state, _ = step(new_pipeline(meta), start, None, 0)
    for seq, counts in enumerate(recording.counts):
        spectrum = Spectrum(
            **common, seq=seq, dtype="<f4", shape=counts.shape, acquired_at=now, acquired_until=now
        )  # fmt: skip
        state, events = step(state, spectrum, counts, seq)
        yield from (e for e in events if isinstance(e, Accepted))


# --- averages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(material, baselines):
    phase = material.fitted.phase
    return evaluate(with_phase(persist, phase), baselines, phase, material.test, RECIPE)


def test_scores_are_averages_over_the_right_frames(material, baselines, evaluation):
    """By hand, frame by frame, for one baseline at horizon 8 over both test runs."""
    squares, weighted, cosines, phases, clean = [], [], [], [], []
    weights = edge_weights(RECIPE.energy_axis)
    for run in material.test:
        for last in range(7, len(run.counts) - 8):
            forecast = run.counts[last - 7 : last + 1].mean(axis=0, dtype=np.float64)
            came = run.counts[last + 8].astype(np.float64)
            squares.append(np.mean((forecast - came) ** 2))
            weighted.append(np.average((forecast - came) ** 2, weights=weights))
            cosines.append(forecast @ came / np.linalg.norm(forecast) / np.linalg.norm(came))
            phases.append((material.fitted.phase(forecast) - material.fitted.phase(came)) ** 2)
            clean.append(np.mean((forecast - run.clean_counts[last + 8]) ** 2))
    of = scores(evaluation.cases[-1])["window_mean"]
    assert len(evaluation.cases[-1]) == len(squares) == 2 * (48 - 15)
    assert of.mse == pytest.approx(np.mean(squares), rel=1e-5)
    assert of.rmse == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)
    assert of.weighted_mse == pytest.approx(np.mean(weighted), rel=1e-5)
    assert of.cosine == pytest.approx(np.mean(cosines), abs=1e-8)
    assert of.phase_rmse == pytest.approx(np.sqrt(np.mean(phases)), rel=1e-3)
    assert of.rmse_clean == pytest.approx(np.sqrt(np.mean(clean)), rel=1e-5)


def test_scores_come_best_first(evaluation):
    rmse = [score.rmse for score in scores(evaluation.cases[-1]).values()]
    assert rmse == sorted(rmse)


def test_white_lines_are_fitted_at_the_longest_horizon(evaluation):
    near, far = (scores(cases)["pca_ridge"].peaks for cases in evaluation.cases)
    assert near == {}
    assert set(far) == {"Ti L3", "Ti L2", "O K"}
    l3 = far["Ti L3"]
    assert 0.9 * l3.windows < l3.fitted <= l3.windows == 66
    assert 0 < l3.position_eV < 0.5
    assert 0 < l3.height_counts < 500


def test_every_window_is_in_one_stage(evaluation):
    cases = evaluation.cases[-1]
    stages = evaluation.stages
    assert sum(map(len, stages.values())) == len(cases)
    assert (stages["early"].phase < 0.2).all()
    assert ((stages["during"].phase >= 0.2) & (stages["during"].phase < 0.8)).all()
    assert (stages["late"].phase >= 0.8).all()
    assert len(stages["late"])
    squares = [len(part) * scores(part)["holt"].mse for part in stages.values() if len(part)]
    assert sum(squares) / len(cases) == pytest.approx(scores(cases)["holt"].mse)


def test_each_run_has_its_own_floor_in_a_stage():
    """Two runs of unlike noise, each early and late: the floor of a stage is the root mean square of both, not the middle one."""
    one = np.ones(10)
    phase = np.repeat([0.0, 1.0], 5)

    def cases(early: float, late: float) -> Cases:
        noise = np.repeat([early, late], 5)
        errors = {"model": CaseErrors(one, one, one, one, None, {})}
        return Cases(8, np.arange(10), phase, np.full(10, noise.mean()), noise, errors)

    stages = by_stage([cases(4.0, 9.0), cases(100.0, 1.0)])
    assert stages["early"].noise_floor == pytest.approx(np.sqrt(52))
    assert stages["late"].noise_floor == pytest.approx(np.sqrt(5))
    assert len(stages["during"]) == 0


def test_a_window_that_no_line_fits_counts_in_no_peak(evaluation):
    cases = evaluation.cases[-1]
    of = cases.errors["holt"]
    gone = replace(
        of,
        peaks={
            "Ti L3": np.where(np.arange(66)[:, None] < 10, np.nan, [2.0, 2.0, 2.0]),
            "O K": np.full((66, 3), np.nan),
        },
    )
    peaks = scores(replace(cases, errors={"holt": gone}))["holt"].peaks
    assert peaks == {"Ti L3": PeakScore(2.0, 2.0, 2.0, 56, 66)}


# --- verdict --------------------------------------------------------------------------------------------------------


def known_errors(rmse: float, **baselines: float) -> HorizonError:
    return HorizonError(horizon=8, rmse=rmse, noise_floor=90, baselines=baselines, phase_rmse=0.02)


def test_a_verdict_names_what_it_loses_to_the_best_first():
    assert verdict(known_errors(100, persistence=120, holt=110)) == ["Against noisy spectra it beats every baseline."]
    [said] = verdict(known_errors(100, persistence=120, holt=99, dmd=95, pca_ridge=97))
    assert said == (
        "Against noisy spectra it loses to dynamic mode decomposition, PCA + ridge and Holt, and beats the other one."
    )
    [said] = verdict(known_errors(100, persistence=99))
    assert said == "Against noisy spectra it loses to persistence."
    [said] = verdict(known_errors(100, persistence=120, holt=110, pca_ridge=99.995))
    assert said == "Against noisy spectra it is level with PCA + ridge, and beats the other 2."
    [said] = verdict(known_errors(100, persistence=120, holt=110, dmd=98, pca_ridge=100.005))
    assert said == (
        "Against noisy spectra it loses to dynamic mode decomposition, is level with PCA + ridge, and beats the other 2."
    )
    assert "every baseline that needs no fit" in verdict(known_errors(1, persistence=9), all_baselines=False)[0]


def with_squares(model: np.ndarray, baseline: np.ndarray) -> Cases:
    count = len(model)
    one = np.ones(count)

    def errors(square: np.ndarray) -> CaseErrors:
        return CaseErrors(square, square, one, one, None, {})

    numbers = np.arange(count)
    return Cases(
        8, numbers, one, one, one, {"model": errors(model), "dmd": errors(baseline), "holt": errors(9 + baseline)}
    )


def test_a_margin_is_against_the_best_and_says_when_chance_makes_as_much():
    random = np.random.default_rng(2)
    noise = random.normal(scale=5, size=800)
    behind = margin(with_squares(100 + noise, 90 + noise + random.normal(scale=0.5, size=800)), window=8)
    assert behind.baseline == "dmd"
    assert behind.counts == pytest.approx(np.sqrt(90) - np.sqrt(100), abs=0.02)
    assert behind.standard_error < 0.01
    assert behind.sentence.startswith("It is 0.515 ± 0.001 counts behind the best baseline, dynamic mode")
    same = with_squares(100 + noise, 100 + noise)
    assert margin(same, 8).sentence == "In rmse it is level with the best baseline, dynamic mode decomposition."
    level = margin(with_squares(100 + random.normal(scale=20, size=800), 100 + random.normal(scale=20, size=800)), 8)
    assert abs(level.counts) < 2 * level.standard_error
    assert "chance" in level.sentence


def test_neighbouring_windows_are_no_independent_witnesses():
    """Squares that wander slowly: each window alike to the next. Naively the standard error would be four times less."""
    random = np.random.default_rng(7)
    apart = []
    for _ in range(200):
        slow = np.repeat(random.normal(scale=10, size=30), 16)
        apart.append(margin(with_squares(100 + slow, np.full(480, 100.0)), window=8))
    actual = np.std([m.counts for m in apart])
    assert np.mean([m.standard_error for m in apart]) == pytest.approx(actual, rel=0.15)


def test_few_windows_have_no_standard_error():
    assert margin(with_squares(np.full(40, 4.0), np.full(40, 9.0)), window=8).standard_error is None
    assert "±" not in margin(with_squares(np.full(40, 4.0), np.full(40, 9.0)), window=8).sentence
