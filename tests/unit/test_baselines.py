"""Baselines are what their names say, at the horizon that they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

from eelstm_stream.core.baselines import (
    Carried,
    FittedBaselines,
    baselines_without_fit,
    fit_baselines,
    fit_dynamic_modes,
    fit_holt,
    fit_linear_trend,
    fit_ridge,
    holt_weights,
    linear_extrapolation,
    persistence,
    trend_weights,
    window_mean,
)
from eelstm_stream.core.history import running_means
from tests.properties import examples

NO_HISTORY = np.zeros(0)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def straight(frames: int, channels: int, random: np.random.Generator) -> np.ndarray:
    """(frame, channel): each channel on a line of its own."""
    return random.normal(size=channels) + np.outer(np.arange(frames), random.normal(size=channels))


def course(phase: float, shapes: np.ndarray) -> np.ndarray:
    """(80, channel): a damped oscillation, whose future is linear in its past and not on a straight line."""
    t = np.arange(80)
    scores = np.stack([np.cos(0.3 * t + phase), np.sin(0.3 * t + phase)], axis=1) * 0.99 ** t[:, None]
    return 100 + 50 * scores @ shapes


@pytest.fixture
def oscillations(random) -> tuple[list[np.ndarray], np.ndarray]:
    """Three noisy runs of it, and one without noise that nothing is fitted to."""
    shapes = np.linalg.qr(random.normal(size=(30, 2)))[0].T
    runs = [course(p, shapes) + random.normal(scale=0.1, size=(80, 30)) for p in (0.0, 1.0, 2.0)]
    return runs, course(0.5, shapes)


@pytest.fixture
def fitted(random) -> FittedBaselines:
    return fit_baselines([random.normal(size=(40, 12)), random.normal(size=(30, 12))], 5, [2, 4])


# --- without a fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_a_line_is_carried_on_to_the_very_step(random, horizon):
    frames = straight(20, 7, random)
    np.testing.assert_allclose(linear_extrapolation(frames[:8], NO_HISTORY, horizon), frames[7 + horizon])


def test_weights_are_those_of_numpys_least_squares(random):
    y = random.normal(size=6)
    line = np.polynomial.Polynomial.fit(np.arange(6), y, 1)
    assert trend_weights(6, 4) @ y == pytest.approx(line(9))
    assert trend_weights(6, 4).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="two spectra"):
        trend_weights(1, 1)


def test_persistence_and_mean(random):
    windows = random.normal(size=(5, 8, 7))
    np.testing.assert_array_equal(persistence(windows, NO_HISTORY, 8), windows[:, -1])
    np.testing.assert_allclose(window_mean(windows, NO_HISTORY, 8), windows.mean(axis=1))


def test_one_spectrum_has_no_line():
    assert set(baselines_without_fit(1)) == {"persistence", "window_mean"}
    assert "linear_extrapolation" in baselines_without_fit(2)


# --- all of them ----------------------------------------------------------------------------------------------------


def test_every_baseline_has_a_name_and_forecasts_batches_as_single_windows(random, fitted):
    named = fitted.by_name()
    assert set(named) == {
        "persistence",
        "window_mean",
        "linear_extrapolation",
        "holt",
        "pca_linear_trend",
        "pca_ridge",
        "pca_linear_trend_carried",
        "pca_ridge_carried",
        "dmd",
    }
    windows, histories = random.normal(size=(6, 5, 12)), random.normal(size=(6, 12))
    for name, baseline in named.items():
        for horizon in (1, 2, 3, 4):
            together = baseline(windows, histories, horizon)
            assert together.shape == (6, 12), name
            alone = [baseline(w, h, horizon) for w, h in zip(windows, histories, strict=True)]
            np.testing.assert_allclose(together, alone, err_msg=name)


def test_a_window_of_one_spectrum_gets_what_it_allows(random):
    named = fit_baselines([random.normal(size=(40, 12))], 1, [2]).by_name()
    assert "linear_extrapolation" not in named
    assert "pca_linear_trend" not in named
    for name, baseline in named.items():
        assert baseline(random.normal(size=(3, 1, 12)), random.normal(size=(3, 12)), 2).shape == (3, 12), name


def test_only_carried_ones_look_at_the_history(random, fitted):
    windows, histories = random.normal(size=(6, 5, 12)), random.normal(size=(6, 12))
    for name, baseline in fitted.by_name().items():
        same = np.allclose(baseline(windows, histories, 2), baseline(windows, histories + windows[:, 0], 2))
        assert same != name.endswith("_carried"), name


def test_segments_too_short_for_a_window_are_refused_by_the_frames_they_need(random):
    with pytest.raises(ValueError, match="no run has the 13 frames"):
        fit_baselines([random.normal(size=(12, 10))], 8, [5])


# --- principal components -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [15, 400])  # fewer than channels, and more: two ways to the same components
def test_components_span_what_varies(random, frames):
    scores, shapes, mean = random.normal(size=(frames, 3)), random.normal(size=(3, 50)), random.normal(size=50)
    trend = fit_linear_trend(mean + scores @ shapes, 3)
    np.testing.assert_allclose(trend.components @ trend.components.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(shapes @ trend.components.T @ trend.components, shapes, atol=1e-6)


def test_the_trend_in_components_follows_a_trend_and_keeps_little_of_the_noise(random):
    shape = random.normal(size=200)
    clean = 1_000 + np.outer(np.linspace(-1, 1, 60), shape * 50)
    noisy = clean + random.normal(scale=5, size=clean.shape)
    histories = running_means(noisy)
    errors = {
        name: np.mean([(baseline(noisy[i : i + 8], histories[i + 7], 8) - clean[i + 15]) ** 2 for i in range(45)])
        for name, baseline in fit_baselines([noisy], 8, [8]).by_name().items()
    }
    assert min(errors["persistence"], errors["window_mean"]) > 2 * errors["pca_linear_trend"]
    assert errors["pca_linear_trend"] < 0.3 * errors["linear_extrapolation"]


def test_more_components_than_frames_are_refused(random):
    with pytest.raises(ValueError, match="do not span"):
        fit_linear_trend(random.normal(size=(4, 10)), 6)


# --- ridge ----------------------------------------------------------------------------------------------------------


def test_ridge_learns_a_course_that_is_no_line(oscillations):
    runs, unseen = oscillations
    trend = fit_linear_trend(np.concatenate(runs), 2)
    ridge = fit_ridge(trend, runs, 8, [1, 8])
    for horizon in (1, 8):
        forecast = ridge(unseen[20:28], NO_HISTORY, horizon)
        assert np.abs(forecast - unseen[27 + horizon]).max() < 0.5
    assert np.abs(trend(unseen[20:28], NO_HISTORY, 8) - unseen[35]).max() > 5


def test_ridge_does_not_look_across_runs(random):
    runs = [random.normal(size=(20, 10)), 500 + random.normal(size=(20, 10))]
    trend = fit_linear_trend(np.concatenate(runs), 2)
    together, swapped = (fit_ridge(trend, r, 3, [2]) for r in (runs, runs[::-1]))
    np.testing.assert_allclose(together.maps[2][0], swapped.maps[2][0], atol=1e-9)
    with pytest.raises(ValueError, match="21 frames"):
        fit_ridge(trend, runs, 13, [8])
    with pytest.raises(KeyError):
        together(runs[0][:3], NO_HISTORY, 8)


# --- Holt -----------------------------------------------------------------------------------------------------------


def holt_step_by_step(y: np.ndarray, horizon: int, level_constant: float, trend_constant: float) -> np.ndarray:
    """The textbook's recursion on values `(frame, …)`, with nothing rearranged."""
    level, trend = y[0], 0 * y[0]
    for value in y[1:]:
        new = level_constant * value + (1 - level_constant) * (level + trend)
        trend = trend_constant * (new - level) + (1 - trend_constant) * trend
        level = new
    return level + horizon * trend


@examples(50)
@given(st.integers(1, 12), st.integers(1, 9), st.floats(0, 1), st.floats(0, 1))
def test_holts_weights_are_his_recursion(window, horizon, level_constant, trend_constant):
    y = np.random.default_rng(window).normal(size=(window, 3))
    weights = holt_weights(window, horizon, level_constant, trend_constant)
    expected = holt_step_by_step(y, horizon, level_constant, trend_constant)
    np.testing.assert_allclose(weights @ y, expected, atol=1e-9)
    assert weights.sum() == pytest.approx(1)


def test_holts_constants_are_those_of_least_squared_error(random):
    walk = np.cumsum(np.cumsum(random.normal(scale=0.05, size=(60, 4)), axis=0), axis=0)
    runs = [1e4 + walk + random.normal(scale=0.3, size=walk.shape), walk[:30] + random.normal(scale=0.3, size=(30, 4))]

    def squares(constants: np.ndarray) -> float:
        errors = []
        for run in runs:
            for horizon in (1, 3):
                for i in range(len(run) - 6 - 3 + 1 + (3 - horizon)):
                    errors.append(holt_step_by_step(run[i : i + 6], horizon, *constants) - run[i + 5 + horizon])
        return np.mean([np.mean(e**2) for e in errors])

    holt = fit_holt(runs, 6, [1, 3])
    ours = squares(np.array([holt.level_constant, holt.trend_constant]))
    best = minimize(squares, [0.5, 0.3], bounds=[(0, 1), (0, 1)]).fun
    assert ours <= best * 1.002
    assert 0 < holt.trend_constant < 1


# --- dynamic modes --------------------------------------------------------------------------------------------------


def test_a_linear_system_is_carried_on_exactly(random):
    angle = 0.2
    step = 0.97 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shapes = random.normal(size=(2, 25))

    def run(state: np.ndarray) -> np.ndarray:
        states = [state]
        for _ in range(59):
            states.append(step @ states[-1])
        return np.array(states) @ shapes

    runs = [run(np.array(s)) for s in ((90.0, 0.0), (-90.0, 5.0), (0.0, 60.0), (20.0, -60.0))]
    trend = fit_linear_trend(np.concatenate(runs), 2)
    modes = fit_dynamic_modes(trend, runs, 5)
    unseen = run(np.array([40.0, 40.0]))
    for horizon in (1, 8):
        np.testing.assert_allclose(modes(unseen[10:15], NO_HISTORY, horizon), unseen[14 + horizon], atol=0.5)
    eigenvalues = np.linalg.eigvals(modes.operator)
    assert np.abs(eigenvalues - 0.97 * np.exp(1j * angle)).min() < 0.01


def test_dynamic_modes_follow_a_course_through_its_noise(oscillations):
    runs, unseen = oscillations
    modes = fit_dynamic_modes(fit_linear_trend(np.concatenate(runs), 2), runs, 8)
    assert np.abs(modes(unseen[20:28], NO_HISTORY, 8) - unseen[35]).max() < 1
    with pytest.raises(ValueError, match="two successive windows"):
        fit_dynamic_modes(fit_linear_trend(np.concatenate(runs), 2), [runs[0][:8]], 8)


# --- carried residual -----------------------------------------------------------------------------------------------


def test_what_a_run_has_of_its_own_is_carried_and_what_the_components_know_is_not(random):
    channels = np.arange(120)
    known = 100 + np.outer(np.arange(40), np.cos(channels / 15))
    trend = fit_linear_trend(known, 1)
    carried = Carried(trend, trend)
    own = 5 * np.sin(channels / 10)  # of this run alone, and smooth
    own -= own @ trend.components.T @ trend.components
    frames = known + own
    forecast = carried(frames[10:18], running_means(frames)[17], 4)
    assert np.abs(trend(frames[10:18], NO_HISTORY, 4) - frames[21]).max() > 4
    np.testing.assert_allclose(forecast, frames[21], atol=0.2)
    np.testing.assert_allclose(carried.residual(trend.spectra(random.normal(size=(3, 1)))), 0, atol=1e-9)


def test_the_residual_is_smoothed_as_scipy_does(random):
    trend = fit_linear_trend(random.normal(size=(20, 50)), 2)
    histories = random.normal(size=(3, 50))
    outside = histories - trend.spectra(trend.scores(histories))
    expected = gaussian_filter1d(outside, 1.0, axis=-1, mode="nearest")
    np.testing.assert_allclose(Carried(trend, trend).residual(histories), expected, atol=1e-12)


def test_the_history_of_a_frame_is_the_mean_up_to_it(random):
    frames = random.normal(size=(9, 4)).astype(np.float32)
    means = running_means(frames)
    assert means.dtype == np.float32
    for t in range(9):
        np.testing.assert_allclose(means[t], frames[: t + 1].mean(axis=0), rtol=1e-5, atol=1e-6)
