"""Baselines are what their names say, at the horizon that they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.baselines import (
    baselines_for,
    fit_linear_trend,
    fit_ridge,
    linear_extrapolation,
    persistence,
    trend_weights,
    window_mean,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def straight(frames: int, channels: int, random: np.random.Generator) -> np.ndarray:
    """(frame, channel): each channel on a line of its own."""
    return random.normal(size=channels) + np.outer(np.arange(frames), random.normal(size=channels))


@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_a_line_is_carried_on_to_the_very_step(random, horizon):
    frames = straight(20, 7, random)
    np.testing.assert_allclose(linear_extrapolation(frames[:8], horizon), frames[7 + horizon])


def test_weights_are_those_of_numpys_least_squares(random):
    y = random.normal(size=6)
    line = np.polynomial.Polynomial.fit(np.arange(6), y, 1)
    assert trend_weights(6, 4) @ y == pytest.approx(line(9))
    assert trend_weights(6, 4).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="two spectra"):
        trend_weights(1, 1)


def test_persistence_and_mean(random):
    windows = random.normal(size=(5, 8, 7))
    np.testing.assert_array_equal(persistence(windows, 8), windows[:, -1])
    np.testing.assert_allclose(window_mean(windows, 8), windows.mean(axis=1))


def test_batches_are_forecast_as_single_windows(random):
    windows = random.normal(size=(5, 8, 12))
    frames = random.normal(size=(40, 12))
    trend = fit_linear_trend(frames, 3)
    for name, baseline in baselines_for(trend, fit_ridge(trend, [frames], 8, [8])).items():
        together = baseline(windows, 8)
        assert together.shape == (5, 12), name
        np.testing.assert_allclose(together, [baseline(w, 8) for w in windows], err_msg=name)


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
    trend = fit_linear_trend(noisy, 1)
    baselines = baselines_for(trend, fit_ridge(trend, [noisy], 8, [8]))
    errors = {
        name: np.mean([(baseline(noisy[i : i + 8], 8) - clean[i + 15]) ** 2 for i in range(45)])
        for name, baseline in baselines.items()
    }
    assert min(errors["persistence"], errors["window_mean"]) > 2 * errors["pca_linear_trend"]
    assert errors["pca_linear_trend"] < 0.1 * errors["linear_extrapolation"]


def test_more_components_than_frames_are_refused(random):
    with pytest.raises(ValueError, match="do not span"):
        fit_linear_trend(random.normal(size=(4, 10)), 6)


def test_ridge_learns_a_course_that_is_no_line(random):
    """A damped oscillation: its future is linear in its past, and not on a straight line."""
    shapes = np.linalg.qr(random.normal(size=(30, 2)))[0].T

    def course(phase: float) -> np.ndarray:
        t = np.arange(80)
        scores = np.stack([np.cos(0.3 * t + phase), np.sin(0.3 * t + phase)], axis=1) * 0.99 ** t[:, None]
        return 100 + 50 * scores @ shapes

    runs = [course(p) + random.normal(scale=0.1, size=(80, 30)) for p in (0.0, 1.0, 2.0)]
    trend = fit_linear_trend(np.concatenate(runs), 2)
    ridge = fit_ridge(trend, runs, 8, [1, 8])
    unseen = course(0.5)
    for horizon in (1, 8):
        forecast = ridge(unseen[20:28], horizon)
        assert np.abs(forecast - unseen[27 + horizon]).max() < 0.5
    assert np.abs(trend(unseen[20:28], 8) - unseen[35]).max() > 5


def test_ridge_does_not_look_across_runs(random):
    runs = [random.normal(size=(20, 10)), 500 + random.normal(size=(20, 10))]
    trend = fit_linear_trend(np.concatenate(runs), 2)
    together, swapped = (fit_ridge(trend, r, 3, [2]) for r in (runs, runs[::-1]))
    np.testing.assert_allclose(together.maps[2][0], swapped.maps[2][0], atol=1e-9)
    with pytest.raises(ValueError, match="21 frames"):
        fit_ridge(trend, runs, 13, [8])
    with pytest.raises(KeyError):
        together(runs[0][:3], 8)
