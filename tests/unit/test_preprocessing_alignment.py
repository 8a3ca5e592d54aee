"""Drift is taken out of a run, against a reference from training runs; and the service does the same in one go."""

from __future__ import annotations

import numpy as np
import pytest

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.core.preprocessing import Chain, Crop, DoseNormalisation, Exposed, PeakAlignment, fit_alignment
from eelstm_stream.core.preprocessing.peak_alignment import shifted
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis
from tests.microscope_runs import AXIS as CAMERA
from tests.microscope_runs import DWELL_S, exposures
from tests.model_files import AXIS as MODEL_AXIS

RANGE_EV, MAX_SHIFT_EV = (439.0, 464.0), 3.0


@pytest.fixture(scope="module")
def drifting() -> np.ndarray:
    """A specimen to which nothing happens, on an axis that moves by 0.005 eV a frame: shift, and so truth, is known."""
    still = {"walk_eV_per_root_s": 0.0, "jitter_eV": 0.0, "limit_eV": 5.0}
    return exposures(100, 7, "stable", drift_eV_per_s=0.005 / DWELL_S, **still).counts


@pytest.fixture(scope="module")
def damaged() -> np.ndarray:
    return exposures(80, seed=3).counts


def test_a_drift_is_found_and_taken_out(drifting):
    alignment = fit_alignment([drifting], CAMERA, (430.0, 490.0), MAX_SHIFT_EV)
    true_eV = 0.005 * (np.arange(100) - 3.5)  # against the mean of the first eight frames
    found_eV = np.array([alignment.shift_of(counts).shift_eV for counts in drifting])
    assert np.sqrt(np.mean((found_eV - true_eV) ** 2)) < 0.3 * CAMERA.dispersion_eV
    left_eV = np.array([alignment.shift_of(counts).shift_eV for counts in alignment.whole(drifting)])
    assert np.abs(left_eV).max() < 0.5 * CAMERA.dispersion_eV
    assert np.ptp(found_eV) > 4 * CAMERA.dispersion_eV


@pytest.mark.parametrize("by_channels", [-3.0, -0.25, 0.0, 0.5, 2.0, 2.75])
def test_a_spectrum_is_shifted_linearly_and_keeps_its_sum(by_channels):
    counts = np.zeros(20)
    counts[8:12] = [1.0, 5.0, 3.0, 2.0]
    expected = np.interp(np.arange(20) - by_channels, np.arange(20), counts)
    np.testing.assert_allclose(shifted(counts, by_channels), expected, atol=1e-12)
    assert shifted(counts, by_channels).sum() == pytest.approx(counts.sum())


def test_beyond_its_ends_a_spectrum_goes_on():
    np.testing.assert_array_equal(shifted(np.arange(5.0), 2.0), [0, 0, 0, 1, 2])
    np.testing.assert_array_equal(shifted(np.arange(5.0), -7.5), [4, 4, 4, 4, 4])


def test_a_spectrum_without_the_references_lines_stands_as_it_came(damaged):
    alignment = fit_alignment([damaged], CAMERA, RANGE_EV, MAX_SHIFT_EV)
    background = 12_000 * (energies_eV(CAMERA) / 435) ** -2.0
    assert not alignment.shift_of(background).trusted
    np.testing.assert_array_equal(alignment.of(background), background)


def test_the_reference_is_of_training_runs_laid_over_one_another(drifting):
    """The second run begins where the first has drifted to; averaged as they are, its lines would blur the reference's."""
    begun_later = drifting[60:]
    reference = fit_alignment([drifting, begun_later], CAMERA, (430.0, 490.0), MAX_SHIFT_EV).reference
    alone = fit_alignment([drifting], CAMERA, (430.0, 490.0), MAX_SHIFT_EV)
    assert abs(alone.shift_of(reference).shift_eV) < 0.1 * CAMERA.dispersion_eV
    lines = slice(320, 430)
    blurred = (drifting[:8].mean(axis=0) + begun_later[:8].mean(axis=0)) / 2
    assert np.std(reference[lines] - alone.reference[lines]) < 0.7 * np.std(blurred[lines] - alone.reference[lines])


def test_runs_that_do_not_go_together_are_refused(drifting):
    nothing = np.tile(12_000 * (energies_eV(CAMERA) / 435) ** -2.0, (9, 1))
    with pytest.raises(UnusableInputError, match=r"^training run 1 can't be laid over run 0 between 439 and 464 eV: "):
        fit_alignment([drifting, nothing], CAMERA, RANGE_EV, MAX_SHIFT_EV)


def test_a_flat_reference_and_a_range_without_room_are_refused():
    with pytest.raises(UnusableInputError, match=r"^the reference has the same counts all along 439 to 464 eV"):
        PeakAlignment(np.full(2048, 7.0), CAMERA, RANGE_EV, MAX_SHIFT_EV)
    with pytest.raises(UsageError, match="too few to align on"):
        PeakAlignment(np.arange(2048.0), CAMERA, (424.0, 464.0), MAX_SHIFT_EV)


@pytest.fixture(scope="module")
def prepared(damaged) -> tuple[PeakAlignment, np.ndarray]:
    """What the service makes of a run at a fifth of the reference dose, with the reference on the camera's axis."""
    alignment = fit_alignment([damaged], CAMERA, RANGE_EV, MAX_SHIFT_EV)
    on_model_axis = PeakAlignment(
        Crop(CAMERA, 435.0, 625.0).of(alignment.reference), MODEL_AXIS, RANGE_EV, MAX_SHIFT_EV
    )
    preparation = Preparation(CAMERA, MODEL_AXIS, on_model_axis.alignment)
    return alignment, np.stack([preparation(counts, 5.0).counts for counts in damaged])


def test_preparation_is_dose_normalisation_alignment_and_crop(damaged, prepared):
    alignment, by_service = prepared
    chain = Chain((DoseNormalisation(DWELL_S, 92.0), alignment, Crop(CAMERA, 435.0, 625.0)))
    run = Exposed(damaged, DWELL_S / 5)
    np.testing.assert_allclose(chain.whole(run), by_service, rtol=2e-6)


def test_and_of_a_crop_first_but_for_the_ends_that_a_shift_brings_in(damaged, prepared):
    alignment, by_service = prepared
    crop = Crop(CAMERA, 435.0, 625.0)
    on_crop = PeakAlignment(crop.of(alignment.reference), crop.target_axis, RANGE_EV, MAX_SHIFT_EV)
    chain = Chain((DoseNormalisation(DWELL_S, 92.0), crop, on_crop))
    inside = slice(30, -30)  # the largest shift
    made = chain.whole(Exposed(damaged, DWELL_S / 5))
    np.testing.assert_allclose(made[:, inside], by_service[:, inside], rtol=2e-6)
    assert np.abs(made - by_service).max() > 100


def test_resampling_is_the_services_alone():
    assert EnergyAxis(offset_eV=424.03, dispersion_eV=0.1, size=2048) != CAMERA
    with pytest.raises(UsageError, match=r"^Crop takes spectra of .*, and the steps before it give "):
        Chain((PeakAlignment(np.arange(2048.0), CAMERA, RANGE_EV, 1.0), Crop(MODEL_AXIS, 440.0, 600.0)))
