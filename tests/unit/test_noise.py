"""Noise measured on a series is the noise that was put in."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.energy_axis import Rebinning
from eelstm_stream.core.noise import noise_floor, variance_over_mean
from eelstm_stream.wire.messages import EnergyAxis
from tests.simulated_runs import simulated


def test_the_floor_is_the_rms_noise_of_a_changing_series():
    run = simulated(120, seed=0, steady_axis=True)
    truth = np.sqrt(np.mean((run.counts - run.clean_counts) ** 2))
    assert noise_floor(run.counts) == pytest.approx(truth, rel=0.02)


def test_a_jump_does_not_count_as_noise():
    frames = np.random.default_rng(0).normal(1_000, 10, size=(100, 300))
    frames[50:] += 500
    assert noise_floor(frames) == pytest.approx(10, rel=0.03)


def test_the_noise_of_sums_stays_when_resampling_evens_single_channels_out():
    run = simulated(120, seed=1, steady_axis=True, fixed=True)
    half_a_channel_on = EnergyAxis(offset_eV=435.05, dispersion_eV=0.1, size=1900)
    resampled = np.stack([Rebinning(run.energy_axis, half_a_channel_on)(c) for c in run.counts])
    assert noise_floor(resampled) < 0.85 * noise_floor(run.counts)
    assert variance_over_mean(resampled) == pytest.approx(variance_over_mean(run.counts), rel=0.05)
    # 4.6 a channel, and what it shares with its neighbours: 4.6 / (0.1² + 0.8² + 0.1²)
    assert variance_over_mean(run.counts) == pytest.approx(4.6 / 0.66, rel=0.05)


def test_too_short_or_empty_series_are_refused():
    with pytest.raises(ValueError, match="three consecutive"):
        noise_floor(np.ones((2, 10)))
    with pytest.raises(ValueError, match="without counts"):
        variance_over_mean(np.zeros((5, 40)))
