"""Dose, crop, bins and scaling: what comes out, and what is refused in which words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.preprocessing import (
    Crop,
    DoseNormalisation,
    ExclusiveBins,
    Exposed,
    RollingBins,
    fit_global_scaling,
    fit_per_channel_scaling,
)
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

CAMERA = EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048)
NARROW = EnergyAxis(offset_eV=500.0, dispersion_eV=0.5, size=6)


def test_two_dwells_and_two_currents_give_the_same_counts():
    clean = np.array([10.0, 20.0, 40.0])
    run = Exposed(np.stack([clean, clean / 4, clean * 2]), np.array([0.4, 0.1, 0.4]), np.array([230.0, 230.0, 460.0]))
    np.testing.assert_allclose(DoseNormalisation(0.4, 92.0).whole(run), [clean] * 3)


def test_without_a_current_the_dwell_alone_is_normalised():
    run = Exposed(np.ones((2, 3)), np.array([0.4, 0.1]))
    np.testing.assert_allclose(DoseNormalisation(0.4, 92.0).whole(run), [[1] * 3, [4] * 3])


@pytest.mark.parametrize(
    ("dwell_s", "current_pA", "said"),
    [
        ([0.4, 0.0], None, "frame 1 has a dwell of 0 s"),
        ([float("nan"), 0.4], None, "frame 0 has a dwell of nan s"),
        ([0.4, 0.4], [230.0, -1.0], "frame 1 has a beam current of -1 pA"),
    ],
)
def test_a_frame_without_dose_is_refused_by_its_number(dwell_s, current_pA, said):
    with pytest.raises(UnusableInputError, match=f"^{said}, and it must be above zero"):
        DoseNormalisation(0.4, 92.0).whole(Exposed(np.ones((2, 3)), dwell_s, current_pA))


@pytest.mark.parametrize("reference", [(0.0, 92.0), (0.4, -1.0), (0.4, float("inf"))])
def test_a_reference_without_dose_is_refused(reference):
    with pytest.raises(UsageError, match="must be above zero"):
        DoseNormalisation(*reference)


def test_the_papers_crop_is_1900_channels():
    crop = Crop(CAMERA, 435.0, 625.0)
    assert crop.target_axis == EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)
    np.testing.assert_array_equal(crop.of(energies_eV(CAMERA)), energies_eV(CAMERA)[110:2010])


@examples(200)
@given(
    offset_eV=st.floats(400, 430),
    dispersion_eV=st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5]),
    low_eV=st.floats(435, 440),
    width_eV=st.floats(1, 20),
)
def test_a_crop_holds_the_energies_asked_for_and_no_others(offset_eV, dispersion_eV, low_eV, width_eV):
    axis = EnergyAxis(offset_eV=offset_eV, dispersion_eV=dispersion_eV, size=2048)
    crop = Crop(axis, low_eV, low_eV + width_eV)
    kept_eV, tolerance_eV = crop.of(energies_eV(axis)), 3e-3 * dispersion_eV
    assert kept_eV[0] - dispersion_eV < low_eV + tolerance_eV
    assert kept_eV[0] > low_eV - tolerance_eV
    assert kept_eV[-1] < low_eV + width_eV + tolerance_eV
    assert kept_eV[-1] + dispersion_eV > low_eV + width_eV - tolerance_eV
    np.testing.assert_allclose(energies_eV(crop.target_axis), kept_eV)


@pytest.mark.parametrize(
    ("low_eV", "high_eV", "error", "said"),
    [
        (
            400.0,
            625.0,
            UnusableInputError,
            r"the crop from 400 to 625 eV is not inside 424\.0 to 628\.7 eV at 0\.1 eV\.",
        ),
        (435.0, 700.0, UnusableInputError, r"the crop from 435 to 700 eV is not inside"),
        (625.0, 435.0, UsageError, r"a crop from 625 to 435 eV is empty"),
        (435.02, 435.08, UsageError, r"a crop from 435\.02 to 435\.08 eV holds no channel of"),
        (float("nan"), 435.0, UsageError, "is empty"),
    ],
)
def test_a_crop_that_cannot_be_is_refused(low_eV, high_eV, error, said):
    with pytest.raises(error, match=said):
        Crop(CAMERA, low_eV, high_eV)


def test_exclusive_bins_hold_each_frame_once_and_leave_out_what_fills_none():
    run = np.arange(11.0)[:, np.newaxis] * [1.0, 10.0]
    np.testing.assert_allclose(ExclusiveBins(3).whole(run), np.array([1.0, 4.0, 7.0])[:, np.newaxis] * [1.0, 10.0])


def test_rolling_bins_are_of_the_newest_frames():
    run = np.arange(6.0)[:, np.newaxis]
    np.testing.assert_allclose(RollingBins(3).whole(run).ravel(), [1.0, 2.0, 3.0, 4.0])
    state, out = RollingBins(3).start(), None
    for frame in run[:2]:
        state, out = RollingBins(3).step(state, frame)
        assert out is None
    state, out = RollingBins(3).step(state, run[2])
    np.testing.assert_allclose(out, [1.0])


@pytest.mark.parametrize("bins", [ExclusiveBins, RollingBins])
def test_a_bin_of_one_is_the_frame(bins):
    run = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal(bins(1).whole(run), run)


@pytest.mark.parametrize("bins", [ExclusiveBins, RollingBins])
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_too_few_frames_for_a_bin_are_refused(bins, frames):
    with pytest.raises(UnusableInputError, match=f"^{frames} frames are too few for a bin of 3"):
        bins(3).whole(np.ones((frames, 4)))


@pytest.mark.parametrize("bins", [ExclusiveBins, RollingBins])
@pytest.mark.parametrize("frames", [0, -1, 2.5])
def test_a_bin_of_no_frames_is_refused(bins, frames):
    with pytest.raises(UsageError, match="give a whole number, 1 at least"):
        bins(frames)


@pytest.fixture
def runs() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.uniform(5_000, 17_000, (9, 6)), rng.uniform(6_000, 12_000, (4, 6))]


def test_global_scaling_spans_the_training_runs(runs):
    scaled = np.concatenate([fit_global_scaling(runs).whole(run) for run in runs])
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    assert (scaled.max(axis=0) < 1).any()


def test_per_channel_scaling_spans_them_in_each_channel(runs):
    scaled = np.concatenate([fit_per_channel_scaling(runs, NARROW).whole(run) for run in runs])
    np.testing.assert_array_equal(scaled.min(axis=0), np.zeros(6))
    np.testing.assert_array_equal(scaled.max(axis=0), np.ones(6))


@examples(50)
@given(seed=st.integers(0, 2**32 - 1), per_channel=st.booleans())
def test_the_inverse_brings_counts_back_also_beyond_the_limits_and_for_windows(seed, per_channel):
    rng = np.random.default_rng(seed)
    training = [rng.uniform(5_000, 17_000, (9, 6))]
    scaling = fit_per_channel_scaling(training, NARROW) if per_channel else fit_global_scaling(training)
    windows = rng.uniform(0, 30_000, (3, 8, 6))
    np.testing.assert_allclose(scaling.inverse(scaling.of(windows)), windows, atol=1e-7)


@pytest.mark.parametrize("per_channel", [False, True])
def test_frames_that_are_all_the_same_have_no_range(per_channel):
    frames = [np.tile(np.arange(6.0), (n, 1)) for n in (3, 5)]
    with pytest.raises(UnusableInputError, match=r"^all 8 training frames are the same: there is no range to scale"):
        fit_per_channel_scaling(frames, NARROW) if per_channel else fit_global_scaling(frames)


def test_dead_channels_are_named_by_their_energies(runs):
    for run in runs:
        run[:, [1, 4]] = 7.0
    with pytest.raises(
        UnusableInputError, match=r"^2 of 6 channels never change in the training runs, at 500\.5, 502 eV: "
    ):
        fit_per_channel_scaling(runs, NARROW)
    assert fit_global_scaling(runs).low == 7.0


def test_of_many_dead_channels_five_are_named(runs):
    wide = EnergyAxis(offset_eV=500.0, dispersion_eV=1.0, size=20)
    dead = np.tile(np.arange(20.0), (4, 1))
    dead[:, 0] = np.arange(4)
    with pytest.raises(UnusableInputError, match=r"^19 of 20 .* at 501, 502, 503, 504, 505, … eV"):
        fit_per_channel_scaling([dead], wide)


@pytest.mark.parametrize(
    ("given_runs", "said"),
    [
        ([], "there is no run to fit on"),
        ([np.empty((0, 6))], "training run 0 has no frames"),
        ([np.ones((2, 6)), np.ones((2, 5))], "training run 1 has 5 channels, and run 0 has 6"),
        ([np.ones((2, 6)), np.array([[1.0] * 6, [1.0, np.nan] * 3])], "training run 1 holds .* not finite, in frame 1"),
    ],
)
def test_runs_that_nothing_can_be_fitted_on_are_refused(given_runs, said):
    with pytest.raises(UnusableInputError, match=said):
        fit_global_scaling(given_runs)
