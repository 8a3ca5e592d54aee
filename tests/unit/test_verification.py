"""Forecasts are held against the spectra that they aimed at, and the noise floor is the noise of the stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.frame_window import FrameWindow
from eelstm_stream.core.verification import NOISE_SAMPLES, Verification
from tests.properties import examples

HORIZONS = (1, 8)
CHANNELS = 50
WINDOW = 8


def heard(*spectra: tuple[int, np.ndarray]) -> FrameWindow:
    """The window on frames after these spectra, `(seq, counts)`."""
    return FrameWindow(WINDOW, tuple(spectra)[-WINDOW:])


def level(value: float, channels: int = CHANNELS) -> np.ndarray:
    return np.full(channels, value, np.float32)


def window_up_to(seq: int, spectrum_of) -> np.ndarray:
    return np.stack([spectrum_of(s) for s in range(seq - WINDOW + 1, seq + 1)])


def rising(seq: int) -> np.ndarray:
    """Spectrum number `seq` of a stream in which each stands 10 counts above the one before."""
    return level(1_000 + 10 * seq)


def followed(spectrum_of, forecast_of, spectra: int) -> tuple[Verification, dict[int, list]]:
    """A stream with a forecast `forecast_of(seq, horizon)` at every spectrum from the first full window on."""
    verification, came_true = Verification(), {}
    for seq in range(spectra):
        window = heard(*((s, spectrum_of(s)) for s in range(max(0, seq - 2), seq + 1)))
        verification, came_true[seq] = verification.with_spectrum(window)
        if seq >= WINDOW - 1:
            forecast = np.stack([forecast_of(seq, horizon) for horizon in HORIZONS])
            verification = verification.with_forecast(seq, HORIZONS, forecast, window_up_to(seq, spectrum_of))
    return verification, came_true


def test_horizon_1_is_the_next_spectrum_and_horizon_8_the_eighth():
    _, came_true = followed(rising, lambda seq, horizon: rising(seq + horizon), 40)
    for seq, outcomes in came_true.items():
        # The first forecast is made at 7, so what it says of the next comes true at 8, and what it says 8 ahead at 15.
        assert sorted(o.horizon for o in outcomes) == [1] * (seq >= 8) + [8] * (seq >= 15)
        assert all(o.rmse == 0 for o in outcomes)  # a forecast for one spectrum earlier or later would be off by 10


def test_what_is_off_by_one_step_shows_as_an_error_of_one_step():
    # The published code of the paper has its horizon 8 at the ninth spectrum.
    _, came_true = followed(rising, lambda seq, horizon: rising(seq + horizon + 1), 30)
    assert {(o.horizon, o.rmse) for o in came_true[20]} == {(1, 10.0), (8, 10.0)}


def test_the_baselines_are_what_was_known_when_the_forecast_was_made():
    _, came_true = followed(rising, lambda seq, horizon: rising(seq), 30)
    by_horizon = {o.horizon: o for o in came_true[20]}
    for horizon in HORIZONS:
        assert by_horizon[horizon].rmse_persistence == pytest.approx(10 * horizon)
        # The mean of a window of 8 stands 3.5 spectra back.
        assert by_horizon[horizon].rmse_window_mean == pytest.approx(10 * (horizon + 3.5))


def test_errors_are_rms_over_channels():
    verification = Verification().with_forecast(0, (1,), level(0.0)[np.newaxis], level(0.0)[np.newaxis])
    counts = level(0.0)
    counts[:2] = (3.0, 4.0)
    _, (outcome,) = verification.with_spectrum(heard((1, counts)))
    assert outcome.rmse == pytest.approx(np.sqrt(25 / CHANNELS))


@pytest.mark.parametrize(
    ("off_by", "skill", "against_mean"),
    [
        (0.0, 1.0, 1.0),  # perfect
        (10.0, 0.0, 1 - 1 / 4.5**2),  # as persistence, which is 10 off at horizon 1
        (20.0, -3.0, 1 - 4 / 4.5**2),  # twice as far off
        (45.0, 1 - 4.5**2, 0.0),  # as the mean of the window
    ],
)
def test_skill_is_positive_only_for_what_beats_the_baseline(off_by, skill, against_mean):
    verification = Verification()
    for seq in range(30):
        verification, _ = verification.with_spectrum(heard((seq, rising(seq))))
        if seq >= WINDOW - 1:
            forecast = (rising(seq + 1) + np.float32(off_by))[np.newaxis]
            verification = verification.with_forecast(seq, (1,), forecast, window_up_to(seq, rising))
    live = verification.skill
    assert live.matured == 22
    assert live.rmse == pytest.approx(off_by)
    assert (live.rmse_persistence, live.rmse_window_mean) == pytest.approx((10, 45))
    assert live.skill == pytest.approx(skill)
    assert live.skill_against_mean == pytest.approx(against_mean)


def test_without_change_there_is_nothing_to_beat_and_no_skill():
    verification, _ = followed(lambda seq: level(100.0), lambda seq, horizon: level(100.0), 20)
    assert (verification.skill.skill, verification.skill.skill_against_mean) == (0.0, 0.0)


def test_there_is_no_skill_before_a_forecast_has_come_true():
    verification, _ = Verification().with_spectrum(heard((0, rising(0))))
    verification = verification.with_forecast(0, HORIZONS, np.stack([rising(1), rising(8)]), rising(0)[np.newaxis])
    assert verification.skill is None
    verification, came_true = verification.with_spectrum(heard((1, rising(1))))
    assert [o.horizon for o in came_true] == [1]
    assert verification.skill.matured == 1


@examples(100)
@given(st.sets(st.integers(0, 60), min_size=10))
def test_a_forecast_for_a_spectrum_that_never_came_is_forgotten(arrived):
    verification, outcomes = Verification(), []
    for seq in sorted(arrived):
        verification, came_true = verification.with_spectrum(heard((seq, rising(seq))))
        outcomes += [(seq - o.horizon, o.horizon) for o in came_true]
        assert all(o.rmse == 0 for o in came_true)
        forecast = np.stack([rising(seq + horizon) for horizon in HORIZONS])
        verification = verification.with_forecast(seq, HORIZONS, forecast, rising(seq)[np.newaxis])
        assert len(verification.pending) <= max(HORIZONS)  # or it would grow for months
        assert all(target > seq for target in verification.pending)
    expected = [(seq, h) for seq in arrived for h in HORIZONS if seq + h in arrived]
    assert sorted(outcomes) == sorted(expected)
    assert (verification.skill.matured if verification.skill else 0) == len(expected)


# Noise floor


def floor_of(frames: np.ndarray, seqs: list[int] | None = None) -> float | None:
    verification = Verification()
    spectra = list(zip(seqs or range(len(frames)), frames.astype(np.float32), strict=True))
    for newest in range(len(spectra)):
        verification, _ = verification.with_spectrum(heard(*spectra[: newest + 1]))
    return verification.noise_floor


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """(frame, channel): unit noise."""
    return np.random.default_rng(0).normal(size=(60, 1900))


@pytest.mark.parametrize("sigma", [0.5, 20.0, 175.0])
def test_the_floor_is_the_noise_of_one_spectrum(noise, sigma):
    assert floor_of(10_000 + sigma * noise) == pytest.approx(sigma, rel=0.05)


def test_the_floor_is_rms_over_channels_that_differ_in_noise(noise):
    sigma = np.linspace(50, 250, noise.shape[1])
    assert floor_of(10_000 + sigma * noise) == pytest.approx(np.sqrt(np.mean(sigma**2)), rel=0.05)


@pytest.mark.parametrize("kernel", [(0.6, 0.3, 0.1), (1.0,) * 10], ids=["point spread", "ten channels as one"])
def test_noise_that_neighbouring_channels_share_is_measured_all_the_same(noise, kernel):
    weights = np.array(kernel) / np.sqrt(np.sum(np.square(kernel)))
    shared = np.apply_along_axis(np.convolve, 1, noise, weights, mode="same")
    assert floor_of(10_000 + 175 * shared) == pytest.approx(175, rel=0.05)


@pytest.mark.parametrize("slope", [1.0, 100.0, -1_000.0])
def test_a_steady_change_is_not_taken_for_noise(noise, slope):
    trend = slope * np.arange(len(noise))[:, np.newaxis] * np.linspace(0, 1, noise.shape[1])
    assert floor_of(100_000 + trend + 175 * noise) == pytest.approx(175, rel=0.05)


def test_a_few_jumps_are_not_taken_for_noise(noise):
    frames = 10_000 + 175 * noise
    for jump in (10, 30, 45):
        frames[jump:] += 5_000
    assert floor_of(frames) == pytest.approx(175, rel=0.05)


def test_a_floor_needs_three_consecutive_spectra(noise):
    assert floor_of(noise[:2]) is None
    assert floor_of(noise[:8], [0, 1, 3, 4, 6, 7, 9, 10]) is None
    assert floor_of(noise[:3]) == pytest.approx(1, rel=0.2)
    # Over a gap a second difference would hold more than noise: those are left out.
    drifting = 175 * noise + 50_000 * np.repeat([0, 1, 2], 20)[:, np.newaxis]
    seqs = [*range(20), *range(100, 120), *range(200, 220)]
    assert floor_of(drifting, seqs) == pytest.approx(175, rel=0.05)


def test_the_floor_follows_the_newest_spectra_and_keeps_no_more():
    random = np.random.default_rng(1)
    frames = np.concatenate(
        [random.normal(scale=10, size=(NOISE_SAMPLES, 200)), random.normal(scale=40, size=(NOISE_SAMPLES, 200))]
    )
    verification = Verification()
    spectra = list(enumerate(frames.astype(np.float32)))
    for newest in range(len(spectra)):
        verification, _ = verification.with_spectrum(heard(*spectra[: newest + 1]))
        assert len(verification.noise_squares) <= NOISE_SAMPLES
    assert verification.noise_floor == pytest.approx(40, rel=0.05)


def test_taking_in_leaves_the_state_before_as_it_was():
    before = Verification().with_forecast(0, (1,), rising(1)[np.newaxis], rising(0)[np.newaxis])
    first, once = before.with_spectrum(heard((1, rising(1))))
    second, again = before.with_spectrum(heard((1, rising(1))))
    assert once == again
    assert first.skill == second.skill
    assert before.skill is None
    assert list(before.pending) == [1]
