"""Counts carried from one energy axis to another are all still there, at the energies where they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eelstm_stream.core.energy_axis import Rebinning, channel_range, covers, edges_eV, energies_eV
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)

axes = st.builds(
    EnergyAxis,
    offset_eV=st.floats(-20, 600),
    dispersion_eV=st.floats(0.01, 2.0),
    size=st.integers(2, 400),
)


def moved(axis: EnergyAxis, by_eV: float) -> EnergyAxis:
    return axis.model_copy(update={"offset_eV": axis.offset_eV + by_eV})


def some_counts(axis: EnergyAxis, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 20_000, axis.size)


def cumulative_counts(axis: EnergyAxis, counts: np.ndarray, energy_eV: float) -> float:
    """Counts below an energy, where each channel's lie evenly over its width: what rebinning must keep."""
    shares = np.clip((energy_eV - edges_eV(axis)[:-1]) / axis.dispersion_eV, 0, 1)
    return float(shares @ counts)


def test_energies_are_those_of_the_channel_centres():
    assert energies_eV(AXIS)[[0, 1, -1]] == pytest.approx([435.0, 435.1, 624.9])
    assert edges_eV(AXIS)[[0, -1]] == pytest.approx([434.95, 624.95])
    assert len(edges_eV(AXIS)) == 1901
    assert (AXIS.first_eV, AXIS.last_eV) == pytest.approx((434.95, 624.95))
    assert str(AXIS) == "435.0 to 624.9 eV at 0.1 eV"


@examples(100)
@given(axes, axes, st.integers(0, 99))
def test_a_sum_over_a_range_that_both_axes_cover_is_the_same_on_both(source, target, seed):
    counts = some_counts(source, seed)
    inside = [e for e in edges_eV(target) if source.first_eV <= e <= source.last_eV]
    assume(len(inside) > 1)
    first = int(np.searchsorted(edges_eV(target), inside[0]))
    carried = Rebinning(source, target)(counts)[first : first + len(inside) - 1].sum(dtype=np.float64)
    was = cumulative_counts(source, counts, inside[-1]) - cumulative_counts(source, counts, inside[0])
    assert carried == pytest.approx(was, rel=1e-5, abs=1e-2)


@examples(100)
@given(axes, axes, st.integers(0, 99))
def test_every_channel_gets_its_share_and_no_more(source, target, seed):
    counts = some_counts(source, seed)
    carried = Rebinning(source, target)(counts)
    assert carried.shape == (target.size,)
    assert carried.dtype == np.float32
    edges = edges_eV(target)
    whole = (edges[:-1] >= source.first_eV) & (edges[1:] <= source.last_eV)
    for channel in np.flatnonzero(whole)[:: max(1, target.size // 10)]:
        low, high = edges[channel], edges[channel + 1]
        share = cumulative_counts(source, counts, high) - cumulative_counts(source, counts, low)
        assert carried[channel] == pytest.approx(share, rel=1e-5, abs=0.05)


@examples(50)
@given(axes, st.integers(0, 99))
def test_an_axis_onto_itself_changes_nothing(axis, seed):
    counts = some_counts(axis, seed).astype(np.float32)
    rebinning = Rebinning(axis, axis.model_copy())
    assert rebinning.is_identity
    np.testing.assert_array_equal(rebinning(counts), counts)


def test_a_crop_is_the_same_channels():
    camera = EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048)
    counts = some_counts(camera)
    rebinning = Rebinning(camera, AXIS)
    assert not rebinning.is_identity
    np.testing.assert_allclose(rebinning(counts), counts[110:2010], rtol=1e-6)


@pytest.mark.parametrize("channels", [-3, 1, 7])
def test_a_shift_by_whole_channels_moves_features_down_by_so_many(channels):
    counts = np.zeros(AXIS.size)
    counts[1000] = 500
    shifted = Rebinning(AXIS, AXIS)(counts, channels * AXIS.dispersion_eV)
    assert int(np.argmax(shifted)) == 1000 - channels
    assert shifted[1000 - channels] == pytest.approx(500, rel=1e-4)


@examples(50)
@given(st.floats(-3, 3))
def test_a_shift_moves_a_line_by_what_was_asked_and_keeps_its_counts(shift_eV):
    line = np.exp(-(((energies_eV(AXIS) - 530) / 2) ** 2))
    shifted = Rebinning(AXIS, AXIS)(line, shift_eV).astype(np.float64)
    assert shifted.sum() == pytest.approx(line.sum(), rel=1e-6)
    assert (energies_eV(AXIS) @ shifted) / shifted.sum() == pytest.approx(530 - shift_eV, abs=1e-3)


def test_rebinning_with_a_shift_is_rebinning_from_an_axis_that_lies_lower():
    source = EnergyAxis(offset_eV=430.0, dispersion_eV=0.23, size=900)
    counts = some_counts(source)
    np.testing.assert_allclose(
        Rebinning(source, AXIS)(counts, 0.37), Rebinning(moved(source, -0.37), AXIS)(counts), rtol=1e-5
    )


def test_the_outermost_channel_goes_on_beyond_the_end():
    beyond = Rebinning(AXIS, moved(AXIS, -0.25))(np.full(AXIS.size, 7.0))
    np.testing.assert_allclose(beyond, 7.0, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_counts_of_any_type_of_the_wire(dtype):
    counts = np.full(AXIS.size, 60_000, dtype)  # their sum is far beyond 16 bits
    carried = Rebinning(AXIS, EnergyAxis(offset_eV=435.05, dispersion_eV=0.2, size=950))(counts)
    np.testing.assert_allclose(carried, 120_000, rtol=1e-6)


@pytest.mark.parametrize(
    ("outer", "covered"),
    [
        (AXIS, True),
        (EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=2048), True),
        (EnergyAxis(offset_eV=435.0, dispersion_eV=0.25, size=761), True),  # 435 to 625 eV by its centres
        (moved(AXIS, 0.05), True),  # half a channel may stick out
        (moved(AXIS, -0.05), True),
        (moved(AXIS, 0.06), False),
        (moved(AXIS, -0.06), False),
        (AXIS.model_copy(update={"size": 1899}), False),
        (EnergyAxis(offset_eV=700.0, dispersion_eV=0.1, size=2048), False),
        (EnergyAxis(offset_eV=0.0, dispersion_eV=0.1, size=2048), False),
    ],
)
def test_an_axis_covers_another_when_all_its_centres_lie_inside(outer, covered):
    assert covers(outer, AXIS) is covered


@examples(100)
@given(axes)
def test_every_axis_covers_itself_and_what_is_cut_out_of_it(axis):
    assert covers(axis, axis)
    inner = EnergyAxis(offset_eV=energies_eV(axis)[1], dispersion_eV=axis.dispersion_eV, size=axis.size - 1)
    assert covers(axis, inner)
    assert not covers(inner, axis)


@pytest.mark.parametrize(
    ("low_eV", "high_eV", "channels"),
    [
        (435.0, 624.9, slice(0, 1900)),
        (439.0, 464.0, slice(40, 291)),  # both ends included
        (439.01, 463.99, slice(41, 290)),
        (400.0, 435.0, slice(0, 1)),
        (624.9, 1e308, slice(1899, 1900)),
        (-1e308, 1e308, slice(0, 1900)),
        (400.0, 430.0, slice(0, 0)),
        (700.0, 800.0, slice(1900, 1900)),
    ],
)
def test_a_range_is_the_channels_with_their_centres_in_it(low_eV, high_eV, channels):
    assert channel_range(AXIS, low_eV, high_eV) == channels
