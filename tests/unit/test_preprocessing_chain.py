"""A chain keeps steps in order and on one axis; the paper's Table I is made of chains."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.preprocessing import (
    LAST,
    ORDER,
    TABLE_I,
    Chain,
    Crop,
    DoseNormalisation,
    ExclusiveBins,
    Exposed,
    MinMaxScaling,
    PeakAlignment,
    PowerLawBackground,
    RollingBins,
    SpikeRemoval,
    Step,
    TableISettings,
)
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis
from tests.microscope_runs import AXIS, exposures

PAPER_AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)
ONE_OF_EACH: dict[str, Step[Any, Any]] = {
    "dose normalisation": DoseNormalisation(0.4, 92.0),
    "spike removal": SpikeRemoval(4.6),
    "alignment": PeakAlignment(np.arange(2048.0), AXIS, (439.0, 464.0), 3.0),
    "bins": ExclusiveBins(3),
    "background subtraction": PowerLawBackground(AXIS, (430.0, 450.0)),
    "scaling": MinMaxScaling(0.0, 1.0),
}
NAMES = [place.name for place in (*ORDER, LAST)]


def test_the_order_is_of_all_steps_and_of_their_names():
    assert list(ONE_OF_EACH) == NAMES
    assert all(isinstance(ONE_OF_EACH[place.name], place.steps) for place in (*ORDER, LAST))


@pytest.mark.parametrize(("first", "second"), list(permutations(NAMES, 2)))
def test_two_steps_in_order_make_a_chain_and_out_of_order_none(first, second):
    steps = (ONE_OF_EACH[first], ONE_OF_EACH[second])
    if NAMES.index(first) < NAMES.index(second):
        assert Chain(steps).steps == steps
        return
    said = f"^{second} comes after {first}, and (must come before|scaling is always last): .*[^.]\\.$"
    with pytest.raises(UsageError, match=said):
        Chain(steps)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_twice_is_refused(name):
    with pytest.raises(UsageError, match=f"^{name} (is there twice|comes after scaling)"):
        Chain((ONE_OF_EACH[name], ONE_OF_EACH[name]))
    with pytest.raises(UsageError, match=r"bins is there twice|bins are there twice"):
        Chain((ExclusiveBins(3), RollingBins(3)))


def test_a_crop_may_stand_anywhere_but_behind_scaling():
    crop = Crop(AXIS, 430.0, 625.0)
    cropped = crop.target_axis
    Chain((crop, Crop(cropped, 431.0, 600.0), MinMaxScaling(0.0, 1.0)))
    Chain((DoseNormalisation(0.4, 92.0), crop, SpikeRemoval(4.6), PowerLawBackground(cropped, (432.0, 450.0))))
    with pytest.raises(UsageError, match=r"^crop comes after scaling, and scaling is always last: "):
        Chain((MinMaxScaling(0.0, 1.0), crop))


def test_an_order_is_not_got_around_by_a_crop_between():
    with pytest.raises(UsageError, match=r"^spike removal comes after bins"):
        Chain((ExclusiveBins(3), Crop(AXIS, 430.0, 625.0), SpikeRemoval(4.6)))


def test_an_order_is_not_got_around_by_chains_in_chains():
    scaled = Chain((MinMaxScaling(0.0, 1.0),))
    with pytest.raises(UsageError, match=r"^bins comes after scaling"):
        Chain((scaled, ExclusiveBins(3)))
    assert len(Chain((Chain((ExclusiveBins(3),)), scaled)).steps) == 2


def test_a_step_on_another_axis_than_the_one_before_gives_is_refused():
    with pytest.raises(
        UsageError, match=r"^PowerLawBackground takes spectra of 424\.0 to .*, and the steps before it give 435\.0 to "
    ):
        Chain((Crop(AXIS, 435.0, 625.0), ExclusiveBins(3), PowerLawBackground(AXIS, (430.0, 450.0))))


def test_an_empty_chain_gives_counts_as_they_come():
    run = np.random.default_rng(0).integers(0, 9, (4, 5)).astype(np.uint16)
    np.testing.assert_array_equal(Chain().whole(run), run)
    np.testing.assert_array_equal(Chain().in_counts(run), run)
    assert (Chain().source_axis, Chain().target_axis, Chain().independent_every) == (None, None, 1)


def test_axes_are_those_of_the_ends():
    chain = Chain((SpikeRemoval(4.6), ONE_OF_EACH["alignment"], Crop(AXIS, 435.0, 625.0), RollingBins(4)))
    assert (chain.source_axis, chain.target_axis, chain.independent_every) == (AXIS, PAPER_AXIS, 4)
    assert Chain((SpikeRemoval(4.6), ONE_OF_EACH["alignment"], RollingBins(4))).target_axis == AXIS


def test_exposures_are_asked_for_and_never_passed_over():
    counts = np.ones((2, 5))
    with pytest.raises(UnusableInputError, match=r"^this chain normalises dose: give spectra as Exposed\("):
        Chain((DoseNormalisation(0.4, 92.0),)).whole(counts)
    for chain in (Chain(), Chain((ExclusiveBins(1),))):
        with pytest.raises(UnusableInputError, match=r"^this chain does not normalise dose"):
            chain.whole(Exposed(counts, 0.4))
        with pytest.raises(UnusableInputError, match=r"^this chain does not normalise dose"):
            chain.step(chain.start(), Exposed(counts[0], 0.4))


@pytest.fixture(scope="module")
def runs() -> list[np.ndarray]:
    return [exposures(frames, seed).counts for frames, seed in ((60, 1), (80, 2), (80, 3))]


@pytest.fixture(scope="module")
def rows(runs) -> dict[str, Chain]:
    return {name: row(runs[:2], AXIS) for name, row in TABLE_I.items()}


def test_the_rows_are_the_papers(rows):
    kinds = {name: [type(step).__name__ for step in chain.steps] for name, chain in rows.items()}
    assert kinds == {
        "raw": ["Crop"],
        "scaling": ["Crop", "MinMaxScaling"],
        "alignment": ["PeakAlignment", "Crop", "MinMaxScaling"],
        "exclusive bins": ["PeakAlignment", "Crop", "ExclusiveBins", "MinMaxScaling"],
        "rolling bins": ["PeakAlignment", "Crop", "RollingBins", "MinMaxScaling"],
        "background subtraction": ["PeakAlignment", "Crop", "PowerLawBackground", "MinMaxScaling"],
    }
    assert {name: row.paper_rmse for name, row in TABLE_I.items()} == {
        "raw": 1958.3,
        "scaling": 295.5,
        "alignment": 217.9,
        "exclusive bins": 400.8,
        "rolling bins": 241.4,
        "background subtraction": 392.4,
    }
    assert {chain.target_axis for chain in rows.values()} == {PAPER_AXIS}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", [name for name in TABLE_I if name != "raw"])
def test_scaling_is_fitted_on_what_the_row_makes_of_the_training_runs(runs, name, per_channel):
    chain = TABLE_I[name](runs[:2], AXIS, TableISettings(per_channel=per_channel))
    scaled = np.concatenate([chain.whole(run) for run in runs[:2]])
    axis = 0 if per_channel else None
    np.testing.assert_allclose(scaled.min(axis=axis), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.max(axis=axis), 1, atol=1e-12)


def test_a_row_depends_on_its_training_runs_and_not_on_what_it_transforms(runs, rows):
    before = rows["background subtraction"].whole(runs[2])
    rows["background subtraction"].whole(runs[2] * 2.0)
    np.testing.assert_array_equal(rows["background subtraction"].whole(runs[2]), before)
    other = TABLE_I["background subtraction"](runs[1:], AXIS).whole(runs[2])
    assert np.abs(other - before).max() > 0.01


def test_errors_are_in_the_counts_of_the_row(runs, rows):
    """Noise floors in the rows' own counts are as the table's legend says."""
    floors = {}
    for name, chain in rows.items():
        counts = chain.in_counts(chain.whole(runs[2]))
        floors[name] = noise_floor(counts[:: chain.independent_every])
    assert floors["scaling"] == pytest.approx(floors["raw"])
    assert floors["alignment"] == pytest.approx(floors["raw"], rel=0.25)
    assert floors["exclusive bins"] == pytest.approx(floors["alignment"] / np.sqrt(3), rel=0.1)
    assert floors["rolling bins"] == pytest.approx(floors["alignment"] / np.sqrt(3), rel=0.1)
    assert floors["background subtraction"] > 1.1 * floors["alignment"]


def test_a_row_refuses_settings_that_do_not_fit_the_axis(runs):
    with pytest.raises(UnusableInputError, match="not inside"):
        TABLE_I["raw"](runs[:2], AXIS, TableISettings(crop_eV=(300.0, 625.0)))
    with pytest.raises(UnusableInputError, match="too few for a bin of 5"):
        TABLE_I["exclusive bins"]([run[:4] for run in runs[:2]], AXIS, TableISettings(bin_frames=5))
