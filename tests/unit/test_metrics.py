"""Each figure is what its formula says, computed another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.spatial.distance import cosine

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.metrics import (
    EDGES_eV,
    cosine_similarity,
    edge_weights,
    mean_square,
    stage_of,
    weighted_mean_square,
)
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.peaks import FWHM_PER_SIGMA, WHITE_LINES, WhiteLine, _gaussian, fit_line, lines_on
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)
ENERGIES = energies_eV(AXIS)
L3, L2, O_K = WHITE_LINES


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(11)


# --- over channels --------------------------------------------------------------------------------------------------


def test_mean_square_and_cosine_are_numpys_and_scipys(random):
    forecast, target = 9_000 + random.normal(scale=300, size=(2, 4, 3, 50))
    for at in np.ndindex(4, 3):
        apart = forecast[at] - target[at]
        assert mean_square(forecast, target)[at] == pytest.approx(np.var(apart) + np.mean(apart) ** 2)
        assert cosine_similarity(forecast, target)[at] == pytest.approx(1 - cosine(forecast[at], target[at]), abs=1e-9)
    assert cosine_similarity(3 * target, target) == pytest.approx(np.ones((4, 3)))


def test_a_forecast_of_nothing_has_no_direction():
    assert np.isnan(cosine_similarity(np.zeros(5), np.ones(5)))


def test_edges_weigh_four_times_as_much_and_about_as_much_as_the_rest():
    weights = edge_weights(AXIS)
    inside = np.zeros(AXIS.size, dtype=bool)
    for low_eV, high_eV in EDGES_eV.values():
        inside |= (low_eV - 0.05 < ENERGIES) & (high_eV + 0.05 > ENERGIES)
    assert weights.mean() == pytest.approx(1)
    assert len(set(weights[inside])) == len(set(weights[~inside])) == 1
    assert weights[inside][0] == pytest.approx(4 * weights[~inside][0])
    assert weights[inside].sum() == pytest.approx(weights[~inside].sum(), rel=0.2)


def test_the_same_error_costs_more_in_an_edge(random):
    weights = edge_weights(AXIS)
    target = np.full(AXIS.size, 9_000.0)
    in_edge, beside = target.copy(), target.copy()
    in_edge[230] += 100  # 458 eV
    beside[1000] += 100  # 535 eV is in O K, 100 eV further is not
    beside[1000], beside[1500] = 9_000.0, 9_100.0
    assert mean_square(in_edge, target) == mean_square(beside, target)
    assert weighted_mean_square(in_edge, target, weights) == pytest.approx(
        4 * weighted_mean_square(beside, target, weights)
    )
    forecast = target + random.normal(scale=30, size=(5, AXIS.size))
    expected = [np.average((f - target) ** 2, weights=weights) for f in forecast]
    np.testing.assert_allclose(weighted_mean_square(forecast, target, weights), expected)


def test_an_axis_without_the_edges_weighs_all_channels_alike():
    np.testing.assert_array_equal(edge_weights(EnergyAxis(offset_eV=700.0, dispersion_eV=0.5, size=100)), 1.0)


# --- stages ---------------------------------------------------------------------------------------------------------


def test_stages_are_by_phase():
    phases = np.array([-0.1, 0.0, 0.19, 0.2, 0.5, 0.79, 0.8, 1.1, np.nan])
    np.testing.assert_array_equal(stage_of(phases), [0, 0, 0, 1, 1, 1, 2, 2, -1])


# --- white lines ----------------------------------------------------------------------------------------------------


def spectrum(line: WhiteLine, at_eV: float, height: float, fwhm_eV: float) -> np.ndarray:
    """(channel,): a Gaussian line on a power law."""
    background = 12_000 * (ENERGIES / 435) ** -1.9
    return background + height * np.exp(-0.5 * ((ENERGIES - at_eV) / (fwhm_eV / FWHM_PER_SIGMA)) ** 2)


@pytest.mark.parametrize(
    ("line", "at_eV", "height", "fwhm_eV"),
    [(L3, 458.43, 5_000, 1.9), (L3, 460.0, 3_000, 3.2), (L2, 464.71, 4_000, 2.4), (O_K, 537.9, 1_500, 5.0)],
)
def test_a_line_without_noise_is_found_where_it_is(line, at_eV, height, fwhm_eV):
    found = fit_line(spectrum(line, at_eV, height, fwhm_eV), AXIS, line)
    np.testing.assert_allclose(found[0], at_eV, atol=0.005)
    np.testing.assert_allclose(found[1:], [height, fwhm_eV], rtol=2e-3)


@pytest.mark.parametrize("line", WHITE_LINES, ids=lambda line: line.name)
def test_the_fit_is_scipys_least_squares(random, line):
    """On the same channels over the same background, from another start."""
    at_eV, fwhm_eV = np.mean(line.range_eV), 2.2 * line.half_width_eV
    clean = spectrum(line, at_eV, 3_000, fwhm_eV)
    before = (line.background_eV[0] - 0.05 < ENERGIES) & (line.background_eV[1] + 0.05 > ENERGIES)
    for counts in clean + random.normal(scale=150, size=(20, AXIS.size)):
        exponent, scale = np.polyfit(np.log(ENERGIES[before]), np.log(counts[before]), 1)
        above = counts - np.exp(scale) * ENERGIES**exponent
        found = fit_line(counts, AXIS, line)
        half = int(line.half_width_eV / AXIS.dispersion_eV)

        def squares_around(middle, above=above, half=half):
            near = slice(middle - half, middle + half + 1)
            best, _ = curve_fit(
                lambda e, p, h, s: h * np.exp(-0.5 * ((e - p) / s) ** 2),
                ENERGIES[near],
                above[near],
                p0=(ENERGIES[middle], 2_000, line.half_width_eV),
            )
            return np.array([best[0], best[1], abs(best[2]) * FWHM_PER_SIGMA])

        # Around which channel it fits is its own choice, near the maximum.
        choices = [squares_around(m) for m in range(int((at_eV - 435) * 10) - half, int((at_eV - 435) * 10) + half)]
        apart = np.min([np.abs(choice - found) / (0.005, 5, 0.01) for choice in choices], axis=0)
        assert apart.max() < 1


def test_many_spectra_are_fitted_as_one_by_one(random):
    counts = spectrum(L3, 459.0, 4_000, 2.2) + random.normal(scale=200, size=(6, 5, AXIS.size))
    together = fit_line(counts, AXIS, L3)
    assert together.shape == (6, 5, 3)
    np.testing.assert_allclose(together[2, 3], fit_line(counts[2, 3], AXIS, L3), rtol=1e-9)
    assert np.std(together[..., 0]) < 0.1
    assert np.isfinite(together).all()


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(AXIS.size),
        np.full(AXIS.size, -3.0),
        np.full(AXIS.size, np.nan),
        12_000 * (ENERGIES / 435) ** -1.9,  # no line
        12_000 * (ENERGIES / 435) ** 2.0,  # rising through the range
        np.where(ENERGIES < 453, 1_000.0, 0.0),  # nothing but background
    ],
)
@pytest.mark.parametrize("line", WHITE_LINES, ids=lambda line: line.name)
def test_where_there_is_no_line_there_is_no_fit(counts, line):
    assert np.isnan(fit_line(counts, AXIS, line)).all()


def test_a_line_beyond_the_range_is_not_fitted_by_its_flank():
    for at_eV in (462.5, 463.2, 454.9):
        assert np.isnan(fit_line(spectrum(L3, at_eV, 5_000, 1.9), AXIS, L3)).all()


def test_a_gaussian_whose_middle_is_not_in_what_is_fitted_is_none():
    x = np.linspace(-1, 1, 21)
    inside, outside = (1_000 * np.exp(-0.5 * ((x - at) / 1.5) ** 2) for at in (0.8, 1.3))
    assert np.isfinite(_gaussian(inside[np.newaxis], x, 1.0)).all()
    assert np.isnan(_gaussian(outside[np.newaxis], x, 1.0)).all()


@examples(60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from(WHITE_LINES))
def test_noise_alone_gives_a_line_inside_the_range_or_none(seed, scale, line):
    counts = np.random.default_rng(seed).exponential(scale, size=(4, AXIS.size))
    found = fit_line(counts, AXIS, line)
    fitted = found[np.isfinite(found[:, 0])]
    assert np.isfinite(fitted).all()
    low_eV, high_eV = line.range_eV
    assert ((fitted[:, 0] > low_eV - line.half_width_eV) & (fitted[:, 0] < high_eV + line.half_width_eV)).all()
    assert (fitted[:, 1:] > 0).all()


def test_lines_are_sought_on_axes_that_hold_them():
    assert lines_on(AXIS) == WHITE_LINES
    assert lines_on(EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=500)) == (L3, L2)
    assert lines_on(EnergyAxis(offset_eV=450.0, dispersion_eV=0.1, size=1900)) == (O_K,)
    assert lines_on(EnergyAxis(offset_eV=435.0, dispersion_eV=1.0, size=190)) == ()


# --- noise floor ----------------------------------------------------------------------------------------------------


def test_the_floor_is_the_noise_and_a_stage_has_its_own(random):
    scales = np.where(np.arange(120) < 60, 100.0, 50.0)
    frames = np.linspace(9_000, 8_000, 120)[:, None] + scales[:, None] * random.normal(size=(120, 800))
    assert noise_floor(frames, among=np.arange(60)) == pytest.approx(100, rel=0.02)
    assert noise_floor(frames, among=np.arange(70, 120)) == pytest.approx(50, rel=0.02)
    assert noise_floor(frames) == pytest.approx(noise_floor(frames, among=np.arange(120)), rel=0.05)
