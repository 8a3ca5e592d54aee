"""The kernel that says how much of a run's own residual is carried on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eelstm_stream.core.baselines.carried import weighed
from eelstm_stream.training.families.carrying import fit_carrying
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.wire.messages import EnergyAxis

CHANNELS, FRAMES = 120, 60
RECIPE: Recipe = replace(
    RECIPES["corrected"], energy_axis=EnergyAxis(offset_eV=435.0, dispersion_eV=1.0, size=CHANNELS), components=2
)


def run(own: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """(frame, channel) counts: one component that all runs share, what is this run's own, and noise."""
    random = np.random.default_rng(seed)
    shared = 1000 + 300 * np.linspace(0, 1, FRAMES)[:, np.newaxis] * np.linspace(-1, 1, CHANNELS)
    return np.asarray(shared + own + noise * random.normal(size=shared.shape), dtype=np.float32)


def kernel_of(own: list[np.ndarray], noise: float) -> np.ndarray:
    runs = [[run(o, noise, seed)] for seed, o in enumerate(own)]
    return fit_carrying(runs, runs, RECIPE)


def broad(seed: int) -> np.ndarray:
    """What varies slowly along the channels."""
    random = np.random.default_rng(seed)
    waves = np.stack([np.sin(np.arange(CHANNELS) / CHANNELS * np.pi * (k + 3)) for k in range(12)])
    return np.asarray(40 * random.normal(size=12) @ waves)


def share(kernel: np.ndarray, residual: np.ndarray) -> float:
    """What is left of a residual when that which is carried on is taken away, as a share of it."""
    inside = slice(20, -20)  # where the channels that go on beyond the ends play no part
    left = residual - weighed(residual, kernel)
    return float(np.linalg.norm(left[inside]) / np.linalg.norm(residual[inside]))


def test_what_stays_for_the_whole_run_is_carried_on() -> None:
    assert share(kernel_of([broad(s) for s in range(16)], noise=1.0), broad(99)) < 0.15


def test_noise_is_not() -> None:
    kernel = kernel_of([np.zeros(CHANNELS)] * 16, noise=100.0)
    carried = weighed(np.random.default_rng(99).normal(size=CHANNELS), kernel)
    assert np.sqrt(np.mean(carried**2)) < 0.2


def test_the_noisier_the_mean_the_more_neighbours_share() -> None:
    quiet, noisy = (kernel_of([broad(s) for s in range(6)], noise) for noise in (1.0, 200.0))
    assert noisy.max() < 0.5 * quiet.max()


def test_it_is_symmetric() -> None:
    kernel = kernel_of([broad(s) for s in range(5)], noise=30.0)
    assert len(kernel) % 2 == 1
    np.testing.assert_array_equal(kernel, kernel[::-1])


def test_one_run_alone_carries_all_of_its_own_smoothed() -> None:
    kernel = kernel_of([broad(0)], noise=30.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.max() < 0.25
