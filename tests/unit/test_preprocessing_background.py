"""A power law before an edge is found and taken off; what is no power law is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.preprocessing import PowerLawBackground
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=424.0, dispersion_eV=0.5, size=400)
WINDOW_EV = (426.0, 452.0)
EDGE = np.where(energies_eV(AXIS) > 456, 3_000.0, 0.0)


def power_law(counts_at_435_eV: float, exponent: float) -> np.ndarray:
    return counts_at_435_eV * (energies_eV(AXIS) / 435) ** -exponent


@examples(100)
@given(level=st.floats(1, 1e6), exponent=st.floats(0, 8))
def test_a_power_law_goes_and_the_edge_stays(level, exponent):
    background = power_law(level, exponent)
    step = PowerLawBackground(AXIS, WINDOW_EV)
    np.testing.assert_allclose(step.of(background + EDGE), EDGE, atol=1e-6 * level)
    assert step.fit(background)[1] == pytest.approx(exponent, abs=1e-6)


@pytest.mark.parametrize("mean_counts", [5, 50, 5000])
def test_noise_does_not_bias_the_fit_as_logarithms_alone_would(mean_counts):
    noisy = np.random.default_rng(0).poisson(power_law(mean_counts, 2.0), (2000, 400)).astype(float)
    noisy = noisy[(noisy[:, 4:57] > 0).all(axis=1)]
    step = PowerLawBackground(AXIS, WINDOW_EV)
    left = step.of(noisy)[:, 4:57].mean()  # between the window's ends
    assert abs(left) < 1e-3 * mean_counts + 1e-3
    logarithms_alone = 0.5  # of a count: half of a variance over mean of 1
    assert abs(left) < logarithms_alone / 5


def test_what_is_left_far_above_scatters_with_the_fit_and_is_centred(request):
    noisy = np.random.default_rng(0).poisson(power_law(5000, 2.0), (500, 400)).astype(float)
    left = PowerLawBackground(AXIS, WINDOW_EV).of(noisy)[:, -50:].mean(axis=1)
    standard_error = left.std() / np.sqrt(len(left))
    assert abs(left.mean()) < 4 * standard_error
    assert left.std() > 3 * np.sqrt(power_law(5000, 2.0)[-50:].mean() / 50)  # more than the frame's own noise


@pytest.mark.parametrize(("bad", "said"), [(0.0, "0 counts"), (-3.5, "-3.5 counts"), (float("nan"), "nan counts")])
def test_counts_without_a_logarithm_are_refused_with_frame_and_energy(bad, said):
    run = np.tile(power_law(100, 2.0), (3, 1))
    run[1, 20] = bad
    step = PowerLawBackground(AXIS, WINDOW_EV)
    with pytest.raises(UnusableInputError, match=f"^frame 1 has {said} at 434 eV, where the background is fitted"):
        step.whole(run)
    with pytest.raises(UnusableInputError, match=r"^this spectrum has"):
        step.step(None, run[1])


def test_negative_counts_elsewhere_are_no_matter():
    counts = power_law(100, 2.0)
    counts[300] = -50
    assert PowerLawBackground(AXIS, WINDOW_EV).of(counts)[300] < -50


def test_counts_that_follow_no_power_law_are_refused():
    run = np.tile(power_law(100, 2.0), (2, 1))
    run[1, 4:57] = np.geomspace(1e-30, 1e30, 53)
    with pytest.raises(UnusableInputError, match=r"^frame 1: the counts between 426 and 452 eV follow no power law"):
        PowerLawBackground(AXIS, WINDOW_EV).whole(run)


@examples(200)
@given(counts=st.lists(st.floats(1e-3, 1e9), min_size=53, max_size=53))
def test_whatever_positive_counts_come_the_answer_is_finite_or_a_refusal(counts):
    spectrum = power_law(100, 2.0)
    spectrum[4:57] = counts
    try:
        left = PowerLawBackground(AXIS, WINDOW_EV).of(spectrum)
    except UnusableInputError:
        return
    assert np.isfinite(left).all()


@pytest.mark.parametrize("window_eV", [(426.0, 428.0), (300.0, 400.0), (452.0, 426.0)])
def test_a_window_of_too_few_channels_is_refused(window_eV):
    with pytest.raises(
        UsageError, match=r"^\d channels of 424\.0 to 623\.5 eV at 0\.5 eV lie between .* fitted on 8 at least"
    ):
        PowerLawBackground(AXIS, window_eV)


def test_an_axis_that_reaches_zero_is_refused():
    with pytest.raises(UsageError, match="no value at 0 eV"):
        PowerLawBackground(EnergyAxis(offset_eV=-5.0, dispersion_eV=0.5, size=400), (50.0, 80.0))
