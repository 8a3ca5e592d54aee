"""Preparation brings a spectrum to the model's dose, axis and calibration, and keeps its counts."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.energy_axis import Rebinning
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis
from tests.simulated_runs import CAMERA_AXIS, simulated

MODEL_AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)


@pytest.fixture(scope="module")
def run():
    return simulated(16, seed=0, steady_axis=True)


@pytest.fixture(scope="module")
def alignment(run):
    reference = Rebinning(CAMERA_AXIS, MODEL_AXIS)(run.clean_counts[0])
    return Alignment(reference, MODEL_AXIS, (439.0, 464.0), 3.0)


def moved(axis: EnergyAxis, by_eV: float) -> EnergyAxis:
    return axis.model_copy(update={"offset_eV": axis.offset_eV + by_eV})


def test_dose_is_normalised(run, alignment):
    preparation = Preparation(CAMERA_AXIS, MODEL_AXIS, alignment)
    whole, half = preparation(run.clean_counts[0], 1.0), preparation(run.clean_counts[0] / 2, 2.0)
    np.testing.assert_allclose(half.counts, whole.counts, rtol=1e-6)
    assert whole.counts.shape == (1900,)
    assert whole.counts.dtype == np.float32


@pytest.mark.parametrize("by_eV", [-1.53, -0.2, 0.04, 0.5, 2.1])
def test_a_wrong_calibration_is_found_and_taken_out(run, alignment, by_eV):
    truth = Preparation(CAMERA_AXIS, MODEL_AXIS, alignment)(run.clean_counts[0], 1.0)
    drifted = Preparation(moved(CAMERA_AXIS, by_eV), MODEL_AXIS, alignment)(run.clean_counts[0], 1.0)
    assert drifted.shift.trusted
    assert drifted.shift.shift_eV == pytest.approx(by_eV, abs=0.03)
    unaligned = Rebinning(moved(CAMERA_AXIS, by_eV), MODEL_AXIS)(run.clean_counts[0])
    assert np.abs(drifted.counts - truth.counts).max() < 0.02 * truth.counts.max()
    if abs(by_eV) > 0.1:
        assert np.std(drifted.counts - truth.counts) < 0.2 * np.std(unaligned - truth.counts)


def test_noisy_spectra_align_to_a_third_of_a_channel(run, alignment):
    preparation = Preparation(CAMERA_AXIS, MODEL_AXIS, alignment)
    shifts = [preparation(counts, 1.0).shift.shift_eV for counts in run.counts[:8]]
    assert np.std(shifts) < 0.03


def test_a_coarser_camera_is_resampled_with_its_counts_kept(run, alignment):
    coarse = EnergyAxis(offset_eV=424.05, dispersion_eV=0.2, size=1024)
    preparation = Preparation(coarse, MODEL_AXIS, alignment)
    assert preparation.is_resampling
    prepared = preparation(run.clean_counts[0].reshape(1024, 2).sum(axis=1), 1.0)
    fine = Preparation(CAMERA_AXIS, MODEL_AXIS, alignment)(run.clean_counts[0], 1.0)
    assert prepared.counts.sum(dtype=np.float64) == pytest.approx(fine.counts.sum(dtype=np.float64), rel=1e-3)


@pytest.mark.parametrize(
    ("axis", "resampling"),
    [
        (MODEL_AXIS, False),
        (CAMERA_AXIS, False),  # a crop: channels coincide
        (moved(CAMERA_AXIS, 1e-4), False),  # another rounding of the same
        (moved(CAMERA_AXIS, 0.03), True),
        (CAMERA_AXIS.model_copy(update={"dispersion_eV": 0.1001}), True),
    ],
)
def test_a_crop_is_not_resampling(alignment, axis, resampling):
    assert Preparation(axis, MODEL_AXIS, alignment).is_resampling is resampling


def test_a_spectrum_without_features_stands_as_it_came(alignment):
    prepared = Preparation(MODEL_AXIS, MODEL_AXIS, alignment)(np.full(1900, 7.0), 1.0)
    assert not prepared.shift.trusted
    np.testing.assert_array_equal(prepared.counts, np.full(1900, 7.0, np.float32))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_any_type_of_the_wire(run, alignment, dtype):
    counts = run.clean_counts[0].round()
    preparation = Preparation(CAMERA_AXIS, MODEL_AXIS, alignment)
    np.testing.assert_array_equal(preparation(counts.astype(dtype), 0.5).counts, preparation(counts, 0.5).counts)


def test_a_stream_that_does_not_cover_the_model_is_refused_by_name(alignment):
    short = EnergyAxis(offset_eV=440.0, dispersion_eV=0.1, size=2048)
    with pytest.raises(UnusableInputError, match=r"^camera 7 covers 440\.0 to .* needs 435\.0 to 624\.9 eV"):
        Preparation(short, MODEL_AXIS, alignment, origin="camera 7")
