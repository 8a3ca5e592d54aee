"""The camera's noise has the mean, variance, shape and correlation that its parameters say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acquisition_sim.detector import NORMAL_FROM_ELECTRONS, Detector, DetectorParameters

CHANNELS = 512


def camera(channels: int = CHANNELS, **changed: object) -> Detector:
    clean = {
        "variance_over_mean": 1.0,
        "point_spread": [1.0],
        "read_noise_counts": 0.0,
        "fixed_pattern": 0.0,
        "saturation_counts": 1e9,
        "spikes_per_s": 0.0,
        "spike_counts": 1.0,
    }
    return Detector(DetectorParameters(**(clean | changed)), channels)


def frames(detector: Detector, counts: float, number: int = 200, seed: int = 0) -> np.ndarray:
    incident = np.full((number, detector.channels + 2 * detector.margin), counts, dtype=np.float32)
    generator = np.random.default_rng(seed)
    return detector.read(incident, np.full(number, 0.4), [generator] * number)


def correlation(noise: np.ndarray, lag: int) -> float:
    return float(np.mean(noise[:, lag:] * noise[:, :-lag]) / np.mean(noise**2))


@pytest.mark.parametrize("spread", [[1.0], [0.8, 0.1], [0.469, 0.161, 0.057, 0.0245, 0.0134, 0.0096]])
@pytest.mark.parametrize("counts", [12_000.0, 30.0])
def test_single_channels_have_the_mean_and_the_variance_asked_for(spread, counts):
    taken = frames(camera(variance_over_mean=4.6, point_spread=spread), counts).astype(np.float64)
    assert taken.mean() == pytest.approx(counts, rel=0.01)
    rounding = 1 / 12
    assert taken.var() == pytest.approx(4.6 * counts + rounding, rel=0.03)


def test_neighbours_correlate_as_the_point_spread_overlaps_itself():
    shares = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    taken = frames(camera(variance_over_mean=4.0, point_spread=[0.4, 0.2, 0.1]), 9_000.0)
    noise = taken - taken.mean()
    for lag in (1, 2, 3, 4):
        assert correlation(noise, lag) == pytest.approx(shares[lag:] @ shares[:-lag] / (shares @ shares), abs=0.01)
    assert abs(correlation(noise, 5)) < 0.01


def test_sums_over_channels_are_as_noisy_as_without_point_spread():
    sharp = frames(camera(variance_over_mean=10.0, point_spread=[1.0]), 9_000.0)
    spread = camera(variance_over_mean=10.0 * (0.6**2 + 2 * 0.2**2), point_spread=[0.6, 0.2])
    smeared = frames(spread, 9_000.0)
    assert smeared.std() < 0.75 * sharp.std()
    assert smeared.sum(axis=1).std() == pytest.approx(sharp.sum(axis=1).std(), rel=0.2)


@pytest.mark.parametrize("mean", [0.5, 7.0, NORMAL_FROM_ELECTRONS * 0.99, NORMAL_FROM_ELECTRONS, 400.0])
def test_electrons_arrive_by_poissons_law_on_both_sides_of_the_approximation(mean):
    taken = frames(camera(), mean, number=400).astype(np.int64).ravel()
    found = np.bincount(taken) / taken.size
    number = np.arange(found.size)
    log_law = number * math.log(mean) - mean - np.array([math.lgamma(n + 1) for n in number])
    assert np.abs(np.cumsum(found) - np.cumsum(np.exp(log_law))).max() < 0.004
    skewness = np.mean((taken - mean) ** 3) / mean**1.5
    assert skewness == pytest.approx(mean**-0.5, abs=0.03)


def test_a_dark_frame_shows_read_out_noise_and_no_negative_counts():
    taken = frames(camera(read_noise_counts=20.0), 0.0)
    assert taken.min() == 0
    assert np.mean(taken == 0) == pytest.approx(0.51, abs=0.02)
    assert np.sqrt(np.mean(taken[taken > 0].astype(float) ** 2)) == pytest.approx(20, rel=0.03)


def test_read_out_noise_adds_to_the_shot_noise_and_is_not_smeared():
    taken = frames(camera(variance_over_mean=1.0, point_spread=[0.5, 0.25], read_noise_counts=100.0), 10_000.0)
    assert taken.var() == pytest.approx(10_000 + 100**2, rel=0.03)
    noise = taken - taken.mean()
    assert correlation(noise, 1) == pytest.approx(0.5 * (2 * 0.5 * 0.25) / (0.5**2 + 2 * 0.25**2), abs=0.02)


def test_the_fixed_pattern_is_the_cameras_own_and_stays():
    one, again, other = (camera(fixed_pattern=0.05, fixed_pattern_seed=seed) for seed in (1, 1, 2))
    incident = np.full((2, CHANNELS), 1000.0, dtype=np.float32)
    pattern = one.expected(incident)
    np.testing.assert_array_equal(pattern[0], pattern[1])
    np.testing.assert_array_equal(pattern, again.expected(incident))
    assert not np.array_equal(pattern, other.expected(incident))
    assert pattern[0].std() == pytest.approx(50, rel=0.1)
    mean = frames(one, 1000.0, number=1000).mean(axis=0)
    assert np.abs(mean - pattern[0]).max() < 6  # each mean scatters by 1


def test_expected_counts_are_the_mean_of_what_is_read():
    detector = camera(variance_over_mean=4.0, point_spread=[0.6, 0.15, 0.05], fixed_pattern=0.02, read_noise_counts=9.0)
    slope = np.linspace(2_000, 20_000, CHANNELS + 4, dtype=np.float32) + 5_000 * (np.arange(CHANNELS + 4) % 50 < 3)
    incident = np.tile(slope.astype(np.float32), (1000, 1))
    generator = np.random.default_rng(3)
    mean = detector.read(incident, np.full(1000, 0.4), [generator] * 1000).mean(axis=0, dtype=np.float64)
    expected = detector.expected(incident[:1])[0]
    sigma = np.sqrt(4.5 * expected / 1000)
    assert np.abs((mean - expected) / sigma).max() < 5
    assert abs(np.mean((mean - expected) / sigma)) < 0.3


def test_channels_saturate():
    taken = frames(camera(saturation_counts=10_050.0), 10_000.0)
    assert taken.max() == 10_050
    assert 0.2 < np.mean(taken == 10_050) < 0.4


def test_x_rays_hit_single_channels_as_often_and_as_hard_as_they_should():
    taken = frames(camera(spikes_per_s=2.0, spike_counts=5_000.0, point_spread=[0.5, 0.25]), 0.0, number=2000)
    hit = taken[taken > 0]
    assert hit.size == pytest.approx(2.0 * 0.4 * 2000, rel=0.08)
    assert hit.mean() == pytest.approx(5_000, rel=0.08)


def test_counts_are_whole_numbers():
    taken = frames(camera(variance_over_mean=4.6, point_spread=[0.8, 0.1], read_noise_counts=3.0), 500.0)
    np.testing.assert_array_equal(taken, np.rint(taken))


def test_a_frame_is_the_same_in_any_block():
    detector = camera(point_spread=[0.8, 0.1], read_noise_counts=5.0, spikes_per_s=3.0, fixed_pattern=0.01)
    incident = np.linspace(10, 4_000, 6 * (CHANNELS + 2), dtype=np.float32).reshape(6, -1)
    dwells = np.full(6, 0.4)

    def generators(first: int, stop: int):
        return [np.random.default_rng(frame) for frame in range(first, stop)]

    together = detector.read(incident, dwells, generators(0, 6))
    for first, stop in ((0, 1), (1, 3), (3, 6)):
        apart = detector.read(incident[first:stop], dwells[first:stop], generators(first, stop))
        assert apart.tobytes() == together[first:stop].tobytes()
