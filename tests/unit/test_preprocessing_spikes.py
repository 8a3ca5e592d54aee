"""Spikes from X rays are found and taken out, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.preprocessing import SpikeRemoval, fit_spike_removal
from eelstm_stream.errors import UnusableInputError, UsageError
from tests.microscope_runs import exposures
from tests.properties import examples

NOISE = 4.6


@pytest.fixture(scope="module")
def run() -> np.ndarray:
    """(frame, channel) counts of a specimen that is transformed, with noise, drift and fixed pattern, and no spikes."""
    counts = exposures(60, seed=4).counts.astype(np.float64)
    return SpikeRemoval(NOISE).whole(counts)


@pytest.fixture(scope="module")
def removal() -> SpikeRemoval:
    return SpikeRemoval(NOISE)


def test_counts_without_spikes_stay_to_the_last_bit(run, removal):
    np.testing.assert_array_equal(removal.whole(run), run)


@examples(60)
@given(
    places=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 2047)), min_size=1, max_size=5, unique=True),
    height=st.floats(2500, 60_000),
    wide=st.booleans(),
)
def test_spikes_are_found_wherever_they_are(run, removal, places, height, wide):
    spiked = run.copy()
    for frame, channel in places:
        spiked[frame, channel : channel + 1 + wide] += height
    hit = spiked != run
    crowded = np.array([hit[frame, max(0, channel - 2) : channel + 3].sum() > 2 for frame, channel in np.argwhere(hit)])
    twice = (hit[1:] & hit[:-1]).any()
    if crowded.any() or twice:  # more than it promises to tell
        return
    cleaned = removal.whole(spiked)
    assert (cleaned[hit] < spiked[hit]).all()
    assert np.abs(cleaned - run)[hit].max() < 6 * np.sqrt(NOISE * run[hit].max())
    np.testing.assert_array_equal(cleaned[~hit], run[~hit])


def test_the_simulated_cameras_own_spikes_are_found():
    counts = exposures(300, seed=1).counts.astype(np.float64)
    cleaned = SpikeRemoval(NOISE).whole(counts)
    changed = np.argwhere(cleaned != counts)
    assert 0 < len(changed) < 10  # 300 frames of 0.4 s at 0.02 a second, less those within the noise
    assert (counts - cleaned)[cleaned != counts].min() > 1000


@pytest.mark.parametrize(("channel", "judged_by"), [(0, (0, 5)), (1, (0, 5)), (900, (898, 903)), (2047, (2043, 2048))])
def test_a_spike_gets_the_median_of_the_five_channels_around_it(run, removal, channel, judged_by):
    spiked = run.copy()
    spiked[7, channel] += 10_000
    assert removal.whole(spiked)[7, channel] == np.median(spiked[7, slice(*judged_by)])


def test_a_hole_is_no_spike(run, removal):
    holed = run.copy()
    holed[[0, 5], 900] = 0
    np.testing.assert_array_equal(removal.whole(holed)[[0, 5], 900], [0, 0])


def test_a_line_of_one_channel_that_stays_is_no_spike(run, removal):
    line = run.copy()
    line[:, 700] += 20_000
    assert (removal.whole(line)[1:, 700] == line[1:, 700]).all()


def test_a_line_that_appears_and_stays_is_taken_for_a_spike_once(run, removal):
    line = run.copy()
    line[30:, 700] += 20_000
    assert np.flatnonzero(removal.whole(line)[:, 700] != line[:, 700]).tolist() == [30]


def test_a_step_in_intensity_is_no_spike(run, removal):
    clean = run.mean(axis=0) * np.where(np.arange(60) < 30, 1.0, 1.5)[:, np.newaxis]
    brighter = clean + np.random.default_rng(0).normal(size=clean.shape) * np.sqrt(NOISE * clean)
    np.testing.assert_array_equal(removal.whole(brighter), brighter)


def test_single_electrons_in_the_dark_are_no_spikes():
    dark = np.random.default_rng(0).poisson(0.05, (50, 2000)) * NOISE
    np.testing.assert_array_equal(SpikeRemoval(NOISE).whole(dark), dark)


def test_the_noise_is_fitted_on_training_runs_and_spikes_do_not_move_it(run):
    spiked = run.copy()
    spiked[np.random.default_rng(0).random(run.shape) < 0.01] += 5_000
    without, with_spikes = (fit_spike_removal([r]).variance_over_mean for r in (run, spiked))
    assert without == pytest.approx(NOISE, rel=0.1)  # the preset's
    assert with_spikes == pytest.approx(without, rel=0.1)


def test_too_few_frames_or_no_noise_are_refused(run):
    with pytest.raises(UnusableInputError, match=r"^2 frames are too few to measure noise on"):
        fit_spike_removal([run[:2]])
    with pytest.raises(UnusableInputError, match="show no noise"):
        fit_spike_removal([np.tile(run[0], (5, 1))])
    with pytest.raises(UnusableInputError, match="show no noise"):
        fit_spike_removal([np.zeros((5, 9))])
    with pytest.raises(UnusableInputError, match="there are 4 channels only"):
        SpikeRemoval(NOISE).whole(np.ones((3, 4)))


@pytest.mark.parametrize("parameters", [(0.0, 6.0), (4.6, 0.0), (float("nan"), 6.0)])
def test_parameters_that_cannot_be_are_refused(parameters):
    with pytest.raises(UsageError, match="must be above zero"):
        SpikeRemoval(*parameters)
