"""What a network learns from: nothing from the future, nothing from a test run, nothing across runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.recordings import Recording, recording_sha256
from eelstm_stream.training.conditions import common_conditions
from eelstm_stream.training.dataset import (
    Segment,
    alignment_reference,
    prepare,
    split_by_run,
    target_frames,
    window_starts,
    windows_and_targets,
)
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.train import gather
from tests.simulated_runs import simulated

PAPER = Recipe()
QUICK_pC = 1_000.0  # transformed within 24 frames


def named(recording: Recording, name: str) -> Recording:
    return replace(recording, name=name)


@pytest.fixture(scope="module")
def runs() -> list[Recording]:
    return [named(simulated(24, seed, critical_dose_pC=QUICK_pC), f"run-{seed}") for seed in range(4)]


@pytest.fixture(scope="module")
def material(runs):
    return gather(runs[:3], runs[3:], PAPER)


# --- windows and horizons -------------------------------------------------------------------------------------------


def numbered(frames: int) -> np.ndarray:
    """(frame, 2): each frame holds its own number."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, np.newaxis], 2, axis=1)


@pytest.mark.parametrize("horizons", [(1,), (8,), (1, 2, 8)])
def test_horizon_1_is_the_next_spectrum(horizons):
    recipe = Recipe(horizons=horizons)
    windows, targets = windows_and_targets(numbered(30), recipe)
    for window, target in zip(windows, targets, strict=True):
        np.testing.assert_array_equal(np.diff(window[:, 0]), 1)
        np.testing.assert_array_equal(target[:, 0] - window[-1, 0], horizons)


def test_every_window_that_fits_is_there_and_no_other():
    recipe = Recipe(window=3, horizons=(2,))
    windows, targets = windows_and_targets(numbered(7), recipe)
    np.testing.assert_array_equal(windows[:, 0, 0], [0, 1, 2])
    np.testing.assert_array_equal(targets[:, 0, 0], [4, 5, 6])
    assert len(window_starts(4, recipe)) == 0
    assert target_frames(window_starts(5, recipe), recipe).tolist() == [[4]]


@pytest.mark.parametrize("changed", [9, 15, 20])
def test_a_window_holds_nothing_of_its_future(changed):
    frames = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    before, targets = windows_and_targets(frames, PAPER)
    frames[changed] += 1_000
    after, moved = windows_and_targets(frames, PAPER)
    touched = np.flatnonzero((before != after).any(axis=(1, 2)))
    assert all(start <= changed < start + 8 for start in touched)
    aimed = np.flatnonzero((targets != moved).any(axis=(1, 2)))
    assert aimed.tolist() == ([changed - 15] if changed >= 15 else [])


def test_a_windows_spectra_do_not_depend_on_later_frames(runs):
    """Nor through the preparation: it takes each frame by itself."""
    conditions = common_conditions(runs, PAPER)
    reference = alignment_reference(runs[:1], conditions, PAPER)
    counts = runs[3].counts.copy()
    counts[12:] *= 0.1
    before, after = (
        prepare(r, conditions, reference, PAPER) for r in (runs[3], replace(runs[3], counts=counts, clean_counts=None))
    )
    np.testing.assert_array_equal(before.counts[:12], after.counts[:12])
    assert not np.array_equal(before.counts[12:], after.counts[12:])


# --- splits ---------------------------------------------------------------------------------------------------------


def test_with_three_runs_whole_ones_are_held_out():
    training, validation = split_by_run([20, 30, 40], PAPER, ["a", "b", "c"])
    assert training == [Segment(0, 0, 20), Segment(1, 0, 30)]
    assert validation == [Segment(2, 0, 40)]
    training, validation = split_by_run([160] * 40, PAPER, ["r"] * 40)
    assert [s.run for s in validation] == [36, 37, 38, 39]


def test_with_one_run_a_block_in_its_middle_is_held_out():
    training, validation = split_by_run([160], PAPER, ["a"])
    assert training == [Segment(0, 0, 64), Segment(0, 96, 160)]
    assert validation == [Segment(0, 64, 96)]


@pytest.mark.parametrize("lengths", [[48], [160, 120], [16, 16, 16], [100] * 12])
def test_training_and_validation_share_no_frame_and_both_have_windows(lengths):
    training, validation = split_by_run(lengths, PAPER, [str(i) for i in range(len(lengths))])
    frames = [{(s.run, f) for s in part for f in range(s.first, s.last)} for part in (training, validation)]
    assert not frames[0] & frames[1]
    assert len(frames[0] | frames[1]) == sum(lengths)
    assert all(any(len(window_starts(s.last - s.first, PAPER)) for s in part) for part in (training, validation))


# --- nothing from the test run --------------------------------------------------------------------------------------


def test_the_test_run_has_no_part_in_what_is_fitted(runs, material):
    changed = replace(runs[3], counts=runs[3].counts[::-1] * 2, clean_counts=None, phase=None)
    again = gather(runs[:3], [changed], PAPER)
    for other in (again, gather(runs[:3], [runs[3], changed], PAPER)):
        np.testing.assert_array_equal(material.reference, other.reference)
        assert (material.fitted.low, material.fitted.high) == (other.fitted.low, other.fitted.high)
        np.testing.assert_array_equal(material.fitted.phase.numerator, other.fitted.phase.numerator)
        assert material.fitted.variance_over_mean == other.fitted.variance_over_mean
        for mine, theirs in zip(material.runs, other.runs, strict=True):
            np.testing.assert_array_equal(mine.counts, theirs.counts)


def test_nor_has_the_run_that_stops_the_training(runs, material):
    changed = replace(runs[2], counts=runs[2].counts[::-1] * 2, clean_counts=None, phase=None)
    again = gather([*runs[:2], changed], runs[3:], PAPER)
    np.testing.assert_array_equal(material.reference, again.reference)
    assert (material.fitted.low, material.fitted.high) == (again.fitted.low, again.fitted.high)
    np.testing.assert_array_equal(material.fitted.phase.numerator, again.fitted.phase.numerator)


@pytest.mark.parametrize(
    ("training", "test", "remedy"),
    [
        ((0, 1, 2), (1,), "test on another run"),
        ((0, 1, 1), (3,), "give it once"),
        ((0, 2), (1, 1), "test on another run"),
    ],
)
def test_a_recording_that_is_given_twice_is_refused_whatever_its_name(runs, training, test, remedy):
    given = [named(runs[i], f"copy {place}") for place, i in enumerate([*training, *test])]
    first, second = (place for place, i in enumerate([*training, *test]) if i == 1)
    with pytest.raises(UsageError, match=rf"copy {second} is the same recording as copy {first}: {remedy}"):
        gather(given[: len(training)], given[len(training) :], PAPER)


# --- preparation of runs --------------------------------------------------------------------------------------------


def test_prepared_runs_are_on_the_models_axis_at_the_reference_dose(material):
    for run in material.runs:
        assert run.counts.shape == (24, 1900)
        assert run.counts.dtype == np.float32
        assert run.clean_counts is not None
        assert run.untrusted_shifts == 0
        # The truth is shifted with its frame, so that noise is all that is left between them.
        residual = (run.counts - run.clean_counts).mean(axis=0)
        assert np.abs(residual).max() < 6 * 180 / np.sqrt(24)
    assert material.fitted.low == min(r.counts.min() for r in material.runs[:2])
    assert material.conditions.dose_pC == pytest.approx(92.0)
    assert material.simulated


def test_the_reference_is_not_blurred_by_runs_that_are_calibrated_differently(runs):
    def apart(run: Recording, by_eV: float) -> Recording:
        """The same run, whose calibration is wrong by so much: the same axis, and counts so many channels on."""
        return replace(run, counts=np.roll(run.counts, round(by_eV * 10), axis=1), clean_counts=None)

    conditions = common_conditions(runs, PAPER)
    together = alignment_reference([runs[0], runs[0]], conditions, PAPER)
    spread = alignment_reference([runs[0], apart(runs[0], 1.0)], conditions, PAPER)
    interior = slice(30, -30)
    assert np.abs(together - spread)[interior].max() < 0.01 * together.max()


def test_frames_of_another_current_are_brought_to_the_reference_dose():
    steady = simulated(20, 1)
    wandering = simulated(20, 1, current_pA=np.linspace(220, 240, 20))
    conditions = common_conditions([steady, wandering], PAPER)
    reference = alignment_reference([steady], conditions, PAPER)
    sums = [prepare(r, conditions, reference, PAPER).counts.sum(axis=1) for r in (steady, wandering)]
    np.testing.assert_allclose(sums[1], sums[0], rtol=2e-3)
    low = alignment_reference([wandering], conditions, PAPER)  # of first frames that were taken at 220 pA
    assert low.sum() == pytest.approx(reference.sum(), rel=2e-3)
    assert np.ptp(wandering.counts.sum(axis=1)) > 0.05 * wandering.counts[0].sum()


def test_a_recordings_hash_is_of_what_it_holds(runs):
    assert recording_sha256(runs[0]) == recording_sha256(named(runs[0], "another name"))
    assert recording_sha256(runs[0]) != recording_sha256(replace(runs[0], dwell_s=runs[0].dwell_s * 2))
    assert recording_sha256(runs[0]) != recording_sha256(runs[1])


# --- refusals ------------------------------------------------------------------------------------------------------


def test_one_short_run_can_not_be_split(runs):
    with pytest.raises(UnusableInputError, match=r"run-0 has 24 frames.*takes 48.*or three at least"):
        gather(runs[:1], runs[3:], PAPER)


def test_runs_without_change_have_nothing_to_forecast(runs):
    still = [
        replace(r, counts=np.random.default_rng(i).permutation(r.counts), clean_counts=None) for i, r in enumerate(runs)
    ]
    with pytest.raises(UnusableInputError, match="no more than noise"):
        gather(still[:3], still[3:], PAPER)
