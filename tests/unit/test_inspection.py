"""What is odd about a run and no reason to refuse it is counted and placed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.inspection import faults_of, remarks_on
from eelstm_stream.training.recipe import MODEL_AXIS
from tests.simulated_runs import simulated


def noisy(frames: int, seed: int) -> Recording:
    """A run with the paper's noise and nothing else: the simulated camera also sees X-rays."""
    whole = simulated(frames, seed, critical_dose_pC=2_500)
    clean = whole.clean_counts
    assert clean is not None
    noise = np.random.default_rng(seed).normal(size=clean.shape) * np.sqrt(4.6 * clean)
    return replace(whole, counts=(clean + noise).astype(np.float32))


@pytest.fixture(scope="module")
def run() -> Recording:
    return noisy(60, 5)


def changed(run: Recording, counts: np.ndarray) -> Recording:
    return replace(run, counts=counts.astype(np.float32), clean_counts=None)


@pytest.mark.parametrize("frames", [3, 16, 160])
@pytest.mark.parametrize("seed", range(3))
def test_a_usual_run_is_not_odd(frames: int, seed: int) -> None:
    usual = noisy(frames, seed)
    assert remarks_on(usual, MODEL_AXIS) == []
    assert faults_of(usual) == []


def test_spikes_are_counted_and_the_highest_is_placed(run: Recording) -> None:
    counts = run.counts.copy()
    counts[0, 300] += 6_000
    counts[20, 500] += 9_000  # 474.0 eV
    counts[20, 501] += 5_000
    counts[59, 1_800] += 5_000
    counts[30, 10] += 9_000  # outside of what the model sees
    [remark] = remarks_on(changed(run, counts), MODEL_AXIS)
    assert remark == f"4 spikes (the highest {counts[20, 500]:.0f} counts in frame 20 at 474.0 eV)"


def test_dead_channels_are_placed(run: Recording) -> None:
    counts = run.counts.copy()
    counts[:, 600] = 0
    counts[:, 700] *= 0.05
    counts[:, 800] = counts[0, 800]  # stands still at a count that would not be noticed
    assert remarks_on(changed(run, counts), MODEL_AXIS) == ["3 dead channels (at 484.0, 494.0, 504.0 eV)"]


def test_frames_that_repeat_and_counts_below_zero_are_said(run: Recording) -> None:
    counts = run.counts.copy()
    counts[11] = counts[10]
    counts[31:33] = counts[30]
    counts[5, 1_000] = -3
    assert remarks_on(changed(run, counts), MODEL_AXIS) == [
        "3 frames (the first is 11) equal to the one before",
        "1 count below zero",
    ]
