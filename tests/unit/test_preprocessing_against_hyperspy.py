"""Held against hyperspy: shifts and shifted spectra (`align1D`), and backgrounds (`remove_background`)."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.preprocessing import PeakAlignment, PowerLawBackground
from eelstm_stream.core.preprocessing.peak_alignment import shifted
from tests.microscope_runs import AXIS, DWELL_S, exposures

TI_L_EV = (430.0, 490.0)  # whole lines: hyperspy's unweighted correlation is drawn to zero where one is cut in two
DRIFT_EV_PER_FRAME = 0.006


@pytest.fixture(scope="module")
def hs() -> ModuleType:
    """hyperspy.api. Slow, so once; and it warns about itself, so with that aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hyperspy.api
    return hyperspy.api


def signal(hs: ModuleType, counts: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        s = hs.signals.Signal1D(counts.astype(np.float64))
    axis = s.axes_manager.signal_axes[0]
    axis.offset, axis.scale, axis.units = AXIS.offset_eV, AXIS.dispersion_eV, "eV"
    return s


def hyperspy_shifts_eV(hs: ModuleType, reference: np.ndarray, run: np.ndarray) -> np.ndarray:
    """As `align1D` finds them; positive where features lie higher than the reference's, so with its sign turned."""
    first, stop = (round((energy_eV - AXIS.offset_eV) / AXIS.dispersion_eV) for energy_eV in TI_L_EV)
    stack = signal(hs, np.vstack([reference, run]))
    found = stack.estimate_shift1D(start=first, end=stop + 1, reference_indices=(0,), show_progressbar=False)
    return -found[1:]


@pytest.mark.parametrize("specimen", ["stable", "srtio3-300kV"])
def test_shifts_agree_with_align1d_to_less_than_a_channel_and_are_nearer_the_truth(hs, specimen):
    """A run of the paper's length, with its noise, that drifts by nine channels; the second specimen's lines change."""
    still = {"walk_eV_per_root_s": 0.0, "jitter_eV": 0.0, "limit_eV": 5.0}
    run = exposures(160, 11, specimen, drift_eV_per_s=DRIFT_EV_PER_FRAME / DWELL_S, **still).counts
    reference = run[:8].mean(axis=0, dtype=np.float64)
    alignment = PeakAlignment(reference, AXIS, TI_L_EV, 3.0)
    ours_eV = np.array([alignment.shift_of(counts).shift_eV for counts in run])
    hyperspys_eV = hyperspy_shifts_eV(hs, reference, run)
    channels_apart = (ours_eV - hyperspys_eV) / AXIS.dispersion_eV
    assert np.sqrt(np.mean(channels_apart**2)) < 0.6
    assert np.corrcoef(ours_eV, hyperspys_eV)[0, 1] > 0.99
    assert np.ptp(ours_eV) > 3 * AXIS.dispersion_eV
    if specimen == "stable":
        true_eV = DRIFT_EV_PER_FRAME * (np.arange(160) - 3.5)
        error, hyperspys_error = (np.sqrt(np.mean((s - true_eV) ** 2)) for s in (ours_eV, hyperspys_eV))
        assert error < 0.35 * AXIS.dispersion_eV
        assert error < hyperspys_error


def test_spectra_are_shifted_as_shift1d_does(hs):
    run = exposures(6, seed=2).counts.astype(np.float64)
    shifts_eV = np.array([0.0, 0.1, -0.23, 1.57, -2.04, 0.005])
    s = signal(hs, run)
    s.shift1D(shifts_eV, crop=False, show_progressbar=False)
    ours = np.stack([shifted(c, shift_eV / AXIS.dispersion_eV) for c, shift_eV in zip(run, shifts_eV, strict=True)])
    inside = slice(25, -25)
    np.testing.assert_allclose(ours[:, inside], s.data[:, inside], rtol=1e-8)


@pytest.mark.parametrize("kind", ["counts", "clean_counts"])
def test_backgrounds_agree_with_remove_background(hs, kind):
    run = getattr(exposures(12, seed=5), kind).astype(np.float64)
    window_eV = (428.0, 452.0)
    ours = PowerLawBackground(AXIS, window_eV).whole(run)
    theirs = {
        fast: signal(hs, run)
        .remove_background(signal_range=window_eV, background_type="Power law", fast=fast, show_progressbar=False)
        .data
        for fast in (True, False)
    }
    np.testing.assert_allclose(ours, theirs[False], atol=0.01)  # of counts, 12 000 in the window
    # Its fast estimate integrates one channel less than it divides by, and so leaves 1 in 120 of the counts.
    window = slice(41, 280)
    assert abs(ours[:, window].mean()) < 2
    assert theirs[True][:, window].mean() == pytest.approx(run[:, window].mean() / 120, rel=0.1)
    np.testing.assert_allclose(ours, theirs[True], atol=0.03 * run.max())
