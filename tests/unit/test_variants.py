"""Variants of runs: what is smoothed and what is varied."""

from __future__ import annotations

import numpy as np

from eelstm_stream.core.baselines.carried import smoothed
from eelstm_stream.training.variants import SMOOTHING_FRAMES, variants, without_noise

ENERGIES_eV = 435 + 0.5 * np.arange(380)
FRAMES = 120


def truth(frames: int = FRAMES) -> np.ndarray:
    """(frame, channel) counts: a background that falls, and a line that fades as the run goes on."""
    phase = np.linspace(0, 1, frames)[:, np.newaxis] ** 2
    line = np.exp(-(((ENERGIES_eV - 460) / 4) ** 2))
    return np.asarray(10_000 * (ENERGIES_eV / 435) ** -2 + 5_000 * line * (1 - phase), dtype=np.float32)


def test_noise_goes_and_what_changes_slowly_stays() -> None:
    clean = truth()
    noisy = (clean + np.random.default_rng(1).normal(scale=180, size=clean.shape)).astype(np.float32)
    smooth = without_noise(noisy)
    assert smooth.shape == clean.shape
    assert smooth.dtype == np.float32
    assert np.sqrt(np.mean((smooth - clean) ** 2)) < 180 / 5
    assert np.abs((smooth - clean).mean()) < 3


def test_a_parabola_in_time_is_left_as_it_is() -> None:
    assert np.allclose(without_noise(truth()), smoothed(truth()), atol=0.5)


def test_a_segment_shorter_than_the_smoothing_is_smoothed_over_its_length() -> None:
    assert len(without_noise(truth(SMOOTHING_FRAMES // 2))) == SMOOTHING_FRAMES // 2


def test_variants_differ_in_speed_and_intensity_and_background_and_in_nothing_else() -> None:
    clean = truth()
    made = variants([clean], ENERGIES_eV, 60, np.random.default_rng(2), least=16)
    assert len(made) == 60
    lengths = np.array([len(v) for v in made])
    assert lengths.min() >= 16
    assert lengths.min() < FRAMES < lengths.max()
    first = np.array([v[0] / clean[0] for v in made])
    # Of each, the first spectrum is the run's own times a power law: a straight line in logarithms.
    logarithms = np.log(ENERGIES_eV / 530)
    for ratio in first:
        slope, level = np.polyfit(logarithms, np.log(ratio), 1)
        assert np.abs(np.log(ratio) - level - slope * logarithms).max() < 1e-4
    assert 0.02 < np.std(np.log(first).mean(axis=1)) < 0.1


def test_the_same_generator_gives_the_same_variants() -> None:
    one, other = (variants([truth()], ENERGIES_eV, 3, np.random.default_rng(5), least=16) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_segment_too_short_to_be_hurried_keeps_its_speed() -> None:
    made = variants([truth(16)], ENERGIES_eV, 40, np.random.default_rng(3), least=16)
    assert min(len(v) for v in made) >= 16
