"""A shift against the reference is found to a tenth of a channel, and not made up where there is nothing to align on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.alignment import MIN_CORRELATION, Alignment
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.wire.messages import EnergyAxis
from tests.model_files import AXIS, reference_spectrum
from tests.properties import examples

RANGE_EV, MAX_SHIFT_EV = (439.0, 464.0), 3.0
GAIN = 4.6  # variance of the paper's counts over their mean
NOT_SHIFTED = 0.0


def spectrum(energy_eV: np.ndarray, shift_eV: float = 0.0) -> np.ndarray:
    """What `reference_spectrum` is made of, at any energies and moved up by a shift: no interpolation in the truth."""
    e = energy_eV - shift_eV
    counts = 12_000 * (e / 435) ** -1.5
    for centre_eV, height, width_eV in ((456.5, 4000, 1.0), (459.0, 5000, 1.2), (464.5, 4000, 1.5), (535.0, 3000, 4.0)):
        counts = counts + height * np.exp(-(((e - centre_eV) / width_eV) ** 2))
    return counts


def noisy(counts: np.ndarray, seed: int) -> np.ndarray:
    return counts + np.random.default_rng(seed).normal(size=counts.shape) * np.sqrt(GAIN * counts)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    return Alignment(reference_spectrum(), AXIS, RANGE_EV, MAX_SHIFT_EV)


@pytest.fixture(scope="module")
def energy_eV(alignment) -> np.ndarray:
    return energies_eV(alignment.search_axis)


def test_the_spectrum_of_these_tests_is_the_reference():
    np.testing.assert_allclose(spectrum(energies_eV(AXIS)), reference_spectrum(), rtol=1e-6)


@examples(200)
@given(st.floats(-2.85, 2.85))
def test_a_shift_is_recovered_to_a_tenth_of_a_channel(alignment, energy_eV, shift_eV):
    found = alignment.shift_of(spectrum(energy_eV, shift_eV))
    assert found.trusted
    assert found.correlation > 0.999
    assert found.shift_eV == pytest.approx(shift_eV, abs=0.01)


@pytest.mark.parametrize("shift_eV", [-1.23, 0.0, 0.77])
def test_neither_intensity_nor_an_offset_of_the_detector_moves_it(alignment, energy_eV, shift_eV):
    for scale, offset in ((0.01, 0.0), (7.0, 0.0), (1.0, 500.0), (1.0, -100.0)):
        found = alignment.shift_of(scale * spectrum(energy_eV, shift_eV) + offset)
        assert found.shift_eV == pytest.approx(shift_eV, abs=0.01)


def test_noise_as_the_papers_leaves_a_fifth_of_a_channel(alignment, energy_eV):
    errors = [alignment.shift_of(noisy(spectrum(energy_eV, 0.53), seed)).shift_eV - 0.53 for seed in range(40)]
    assert np.std(errors) < 0.02
    assert abs(np.mean(errors)) < 0.01


@pytest.mark.parametrize(
    "background",
    [
        lambda e: 12_000 * (e / 435) ** -1.5,
        lambda e: 12_000 * (e / 435) ** -4.0,
        lambda e: np.full_like(e, 9_000.0),
        lambda e: 9_000 + 20 * (e - 435),
        lambda e: 12_000 * (e / 435) ** -3.0 + 3_000 * (e > 450),  # a step, and no white lines
    ],
    ids=["power law", "steep power law", "flat", "rising", "step"],
)
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_a_background_without_the_references_features_is_not_trusted(alignment, energy_eV, background, seed):
    counts = background(energy_eV)
    found = alignment.shift_of(counts if seed is None else noisy(counts, seed))
    assert not found.trusted
    assert found.shift_eV == NOT_SHIFTED
    assert found.correlation < MIN_CORRELATION


@pytest.mark.parametrize("shift_eV", [-20.0, -5.0, -3.4, 3.4, 5.0, 20.0])
def test_a_shift_beyond_the_search_is_not_trusted(alignment, energy_eV, shift_eV):
    found = alignment.shift_of(spectrum(energy_eV, shift_eV))
    assert not found.trusted
    assert found.shift_eV == NOT_SHIFTED


@pytest.mark.parametrize("counts", [0.0, 7.0, 1e9])
def test_no_spectrum_at_all_is_not_trusted(alignment, energy_eV, counts):
    found = alignment.shift_of(np.full(energy_eV.shape, counts))
    assert not found.trusted
    assert np.isfinite(found.correlation)


def test_a_spike_from_an_x_ray_does_not_carry_it_away(alignment, energy_eV):
    counts = spectrum(energy_eV, 0.4)
    counts[200] += 3_000
    assert alignment.shift_of(counts).shift_eV == pytest.approx(0.4, abs=0.1)


def test_the_search_reads_the_range_and_the_largest_shift_on_either_side(alignment):
    assert alignment.search_axis.offset_eV == pytest.approx(RANGE_EV[0] - MAX_SHIFT_EV)
    assert energies_eV(alignment.search_axis)[-1] == pytest.approx(RANGE_EV[1] + MAX_SHIFT_EV)
    assert energies_eV(AXIS)[alignment.channels] == pytest.approx(energies_eV(alignment.search_axis))


def test_a_largest_shift_of_whole_channels_is_searched_in_full():
    # 0.3 / 0.1 is 2.9999999999999996
    alignment = Alignment(reference_spectrum(), AXIS, RANGE_EV, 0.3)
    assert alignment.search_axis.size == 251 + 2 * 3


def test_at_the_end_of_the_axis_the_search_is_as_far_as_there_is_room():
    narrow = EnergyAxis(offset_eV=438.0, dispersion_eV=0.1, size=400)
    alignment = Alignment(reference_spectrum(narrow), narrow, RANGE_EV, MAX_SHIFT_EV)
    assert alignment.search_axis.offset_eV == pytest.approx(438.0)
    found = alignment.shift_of(spectrum(energies_eV(alignment.search_axis), 0.84))
    assert found.shift_eV == pytest.approx(0.84, abs=0.01)


@pytest.mark.parametrize(
    ("range_eV", "max_shift_eV"),
    [
        ((439.0, 439.5), 3.0),  # too few channels
        ((439.0, 464.0), 0.05),  # not a channel
        ((435.0, 464.0), 3.0),  # no room below
        ((439.0, 700.0), 3.0),  # no room above
        ((464.0, 439.0), 3.0),
        ((700.0, 800.0), 3.0),
        ((-1e308, 1e308), 3.0),
    ],
)
def test_a_range_without_room_is_refused_with_the_axis_named(range_eV, max_shift_eV):
    with pytest.raises(ValueError, match=r"channels between .* eV of 435\.0 to 624\.9 eV at 0\.1 eV are too few"):
        Alignment(reference_spectrum(), AXIS, range_eV, max_shift_eV)
