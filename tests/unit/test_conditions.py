"""Runs that do not go together are refused together, each by name, and so are runs that can't be trained on at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eelstm_stream.core.energy_axis import Rebinning
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.conditions import common_conditions
from eelstm_stream.training.material import gather
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.wire.messages import EnergyAxis
from tests.simulated_runs import simulated

PAPER = Recipe()


@pytest.fixture(scope="module")
def runs() -> list[Recording]:
    return [replace(simulated(24, seed, critical_dose_pC=1_000), name=f"run-{seed}") for seed in range(4)]


def other_axis(run: Recording, **changes: float) -> Recording:
    return replace(run, energy_axis=run.energy_axis.model_copy(update=changes))


def other_frames(run: Recording, counts: np.ndarray) -> Recording:
    return replace(run, counts=counts.astype(np.float32), clean_counts=None, phase=None)


def shortened(run: Recording, frames: int) -> Recording:
    arrays = {"counts": run.counts, "dwell_s": run.dwell_s, "beam_current_pA": run.beam_current_pA}
    cut = {name: array[:frames] for name, array in arrays.items() if array is not None}
    return replace(run, **cut, clean_counts=None, phase=None)


def on_axis(run: Recording, axis: EnergyAxis) -> Recording:
    """The same run from a camera of other channels."""
    rebinning = Rebinning(run.energy_axis, axis)
    counts = np.stack([rebinning(counts) for counts in run.counts])
    return replace(run, counts=counts, energy_axis=axis, clean_counts=None)


def refusal(*runs: Recording, resample: bool = False) -> str:
    with pytest.raises(UnusableInputError) as refused:
        common_conditions(runs, PAPER, resample=resample)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


# --- runs that differ -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "difference", "remedy"),
    [
        (
            lambda r: other_axis(r, offset_eV=424.5),
            "energy axis 424.0 to 628.7 eV at 0.1 eV in run-0, run-2 and run-3, 424.5 to 629.2 eV at 0.1 eV in odd and odder",
            "--resample",
        ),
        (
            lambda r: replace(r, dwell_s=r.dwell_s * 2),
            "dwell 0.4 s in run-0, run-2 and run-3, 0.8 s in odd and odder",
            "",
        ),
        (
            lambda r: replace(r, beam_energy_keV=200.0),
            "beam energy 300 keV in run-0, run-2 and run-3, 200 keV in odd and odder",
            "",
        ),
        (
            lambda r: replace(r, beam_current_pA=r.beam_current_pA * 3),
            "beam current 230 pA in run-0, run-2 and run-3, 690 pA in odd and odder",
            "",
        ),
        (
            lambda r: replace(r, beam_current_pA=None),
            "whether the beam current is known: known in run-0, run-2 and run-3, unknown in odd and odder",
            "--current",
        ),
    ],
)
def test_all_runs_that_differ_are_named_with_what_they_have(
    runs: list[Recording], change: Callable[[Recording], Recording], difference: str, remedy: str
) -> None:
    odd = replace(change(runs[1]), name="odd")
    sentence = refusal(runs[0], odd, runs[2], runs[3], replace(odd, name="odder"))
    assert difference in sentence
    assert sentence.startswith("the runs do not go together")
    assert remedy in sentence


def test_every_difference_is_said_at_once(runs: list[Recording]) -> None:
    slow = replace(runs[1], dwell_s=runs[1].dwell_s * 2, name="slow")
    soft = replace(runs[2], beam_energy_keV=200.0, name="soft")
    sentence = refusal(runs[0], slow, soft)
    assert "0.8 s in slow" in sentence
    assert "200 keV in soft" in sentence


def test_many_runs_of_a_kind_are_counted(runs: list[Recording]) -> None:
    many = [replace(runs[0], name=f"r{i}") for i in range(40)]
    assert "0.4 s in r0 and 39 more, 0.8 s in slow" in refusal(
        *many, replace(runs[1], dwell_s=runs[1].dwell_s * 2, name="slow")
    )


def test_what_a_file_format_rounds_is_no_difference(runs: list[Recording]) -> None:
    rounded = EnergyAxis(offset_eV=float(np.float32(424.0003)), dispersion_eV=float(np.float32(0.1)), size=2048)
    other = replace(
        runs[1], energy_axis=rounded, dwell_s=runs[1].dwell_s * 1.001, beam_current_pA=runs[1].beam_current_pA * 1.05
    )
    conditions = common_conditions([runs[0], replace(other, beam_energy_keV=None)], PAPER)
    assert conditions.dwell_s == pytest.approx(0.4)
    assert conditions.dose_pC == pytest.approx(92)


def test_a_test_run_has_to_go_with_them_too(runs: list[Recording]) -> None:
    with pytest.raises(UnusableInputError, match=r"0\.8 s in odd"):
        gather(runs[:3], [replace(runs[3], dwell_s=runs[3].dwell_s * 2, name="odd")], PAPER)


# --- resampling, when asked for -------------------------------------------------------------------------------------

COARSE = EnergyAxis(offset_eV=420.0, dispersion_eV=0.25, size=840)


def test_channels_of_another_width_are_resampled_only_when_asked_for(runs: list[Recording]) -> None:
    coarse = [replace(on_axis(run, COARSE), name=f"coarse-{i}") for i, run in enumerate(runs)]
    sentence = refusal(*coarse)
    assert "coarse-0 has channels of 0.25 eV, where the model has them of 0.1 eV, which takes --resample" in sentence
    assert "coarse-3 has" in sentence
    assert common_conditions(coarse, PAPER, resample=True).dwell_s == pytest.approx(0.4)


def test_runs_of_other_axes_come_to_the_models(runs: list[Recording]) -> None:
    shifted = other_axis(
        runs[1], offset_eV=424.3
    )  # the same counts, said to lie 0.3 eV higher: the alignment finds that
    plain, resampled = (
        gather([runs[0], second, runs[2]], runs[3:], PAPER, resample=True) for second in (runs[1], shifted)
    )
    difference = (plain.runs[1].counts - resampled.runs[1].counts)[:, 40:-40]
    noise = np.sqrt(np.mean((runs[1].counts - runs[1].clean_counts) ** 2))
    assert np.sqrt(np.mean(difference**2)) < 0.5 * noise
    with pytest.raises(UnusableInputError, match="energy axis"):
        gather([runs[0], shifted, runs[2]], runs[3:], PAPER)


# --- runs that can't be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: shortened(r, 15), "has 15 frames, where a window of 8 with a horizon of 8 needs 16"),
        (
            lambda r: other_axis(r, offset_eV=440.0),
            "covers 440.0 to 644.7 eV at 0.1 eV, where the model needs 435.0 to 624.9",
        ),
        (
            lambda r: replace(r, dwell_s=np.where(np.arange(24) == 7, 0.1, r.dwell_s)),
            "has dwells from 0.1 to 0.4 s, where a model holds for one dwell",
        ),
        (
            lambda r: replace(r, beam_current_pA=np.where(np.arange(24) < 9, 92.0, 230.0)),
            "has beam currents from 92 to 230 pA, where a step of a model means one dose",
        ),
        (lambda r: other_frames(r, np.repeat(r.counts[:1], 24, axis=0)), "holds the same spectrum 24 times"),
        (lambda r: other_frames(r, r.counts - r.counts.mean()), "has a mean below zero in"),
        (
            lambda r: other_frames(r, np.where(np.arange(24)[:, np.newaxis] == 9, 0, r.counts)),
            "has frame 9 without counts in sum",
        ),
    ],
)
def test_all_runs_that_can_not_be_used_are_named_with_their_faults(
    runs: list[Recording], change: Callable[[Recording], Recording], fault: str
) -> None:
    bad = change(runs[1])
    sentence = refusal(runs[0], replace(bad, name="bad"), runs[2], replace(bad, name="worse"))
    assert f"bad {fault}" in sentence
    assert f"worse {fault}" in sentence
    assert "run-" not in sentence


def test_a_few_counts_below_zero_are_what_a_subtracted_dark_current_leaves(runs: list[Recording]) -> None:
    dark = runs[1].counts.copy()
    dark[:, :200] = np.random.default_rng(1).normal(scale=10, size=(24, 200))
    common_conditions([runs[0], other_frames(runs[1], dark)], PAPER)


def test_of_many_bad_runs_the_first_are_named_and_the_others_counted(runs: list[Recording]) -> None:
    many = [replace(shortened(runs[0], 15), name=f"short-{i}") for i in range(10)]
    assert "short-3 has 15 frames" in refusal(*many)
    assert refusal(*many).endswith("and 6 runs more.")
