"""A run of the simulated microscope counts and changes as the paper's did, and the same seed gives the same bytes anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from acquisition_sim import specimen
from acquisition_sim.high_tension import HighTensionParameters
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import load_preset, preset_names
from acquisition_sim.programme import Step, changing
from acquisition_sim.simulated_run import SimulatedRun, exposed, preset_for_runs, simulate_run
from acquisition_sim.specimen import SpecimenState
from acquisition_sim.variation import drawn_values, varied
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.errors import UsageError

HASHED_WITH = "2.4.6"  # numpy's streams may change between its versions, and then these hashes do
HASHES = {
    "srtio3-300kV": "314a03234879ec64e712b70c904c6e3f7b11f21af6a020b9198f0e91d33aa11d",
    "fast": "f8cb3ad97951c7fdfbaca48ef49b61f2d704421eea73c6beb3e9e30a864c9910",
    "fragile": "2dc8d94bcf4750046b87caff8e049c255e79f672d58642a7d5c48caa5558df6b",
    "stable": "f8fc75e702562addc3c04f3e8f475729a49359e1497f850864a0642d5476a110",
    "recovering": "46b1845ea9d1831f858be9261f5e9c7095a01d175bd37bd1568ecdef69dfe72f",
    "line-scan-camera": "504214fa6d983f8135bc90a6e21949f31dba9f1bd0f5f16a1ff436b0a41625bf",
}

USUAL = preset_for_runs()
AS_WRITTEN = preset_for_runs(fixed=True)
STILL = AS_WRITTEN.model_copy(
    update={
        "high_tension": HighTensionParameters(),
        "detector": AS_WRITTEN.detector.model_copy(update={"fixed_pattern": 0.0}),
    }
)
E = energies_eV(USUAL.energy_axis)


def near(energy_eV: float, width_eV: float = 1.0) -> np.ndarray:
    return np.abs(E - energy_eV) <= width_eV / 2


def fingerprint(run: SimulatedRun) -> str:
    recording = run.recording
    arrays = (recording.counts, recording.clean_counts, recording.phase, recording.dwell_s, recording.beam_current_pA)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def fingerprints() -> dict[str, str]:
    """Of a short run of each preset, with changing dose, so that Poisson's exact law has its part."""
    return {
        name: fingerprint(simulate_run(preset_for_runs(name), 40, 2022, changing_dose=True)) for name in preset_names()
    }


def fingerprint_of_draws() -> str:
    """Of what many runs draw and pass through, since in a few of them a last bit that differs may not show."""
    first = Step(0, 0.4, 230.0)
    kinetics = USUAL.specimen.kinetics
    told = [
        *(drawn_values(varied(USUAL, seed)) for seed in range(300)),
        *(changing(USUAL.programme, 400, seed, first=first) for seed in range(300)),
        *(
            specimen.phase(SpecimenState(dose_pC, dose_pC), kinetics)
            for dose_pC in np.linspace(0, 20_000, 5_000).tolist()
        ),
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()


@pytest.mark.skipif(np.__version__ != HASHED_WITH, reason=f"the hashes were taken with numpy {HASHED_WITH}")
def test_the_bytes_of_a_seed_are_known_for_each_preset():
    assert fingerprints() == HASHES


def test_a_machine_with_other_instructions_gives_the_same_bytes():
    features = np._core._multiarray_umath.__cpu_features__
    here = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]]
    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(here),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    }
    program = """
import json, numpy as np
from tests.unit.test_simulated_run import fingerprint_of_draws, fingerprints
x = np.linspace(0.1, 20, 100_000)
exponentials = hash((np.exp(-x) * x**-1.9).tobytes())
print(json.dumps({"exponentials": exponentials, "ours": [fingerprints(), fingerprint_of_draws()]}))
"""
    found = {}
    for name, environment in {"usual": {}, "plain": plain}.items():
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | environment | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            check=True,
            text=True,
        )
        found[name] = json.loads(done.stdout)
    if found["plain"]["exponentials"] == found["usual"]["exponentials"]:
        pytest.skip("this machine's plain instructions give the same exponentials, so nothing is put to the test")
    assert found["plain"]["ours"] == found["usual"]["ours"]


def test_a_run_is_the_same_whether_it_is_recorded_or_exposed_frame_by_frame():
    run = simulate_run(USUAL, 5, 9)
    microscope = Microscope(run.preset)
    state = microscope.start(9)
    for frame in range(5):
        state, exposure = microscope.expose(state, 0.4, run.preset.beam.current_pA)
        assert exposure.counts.tobytes() == run.recording.counts[frame].tobytes()
        assert exposure.clean_counts.tobytes() == run.recording.clean_counts[frame].tobytes()


def test_a_longer_run_begins_as_a_shorter_one():
    for changing_dose in (False, True):
        long, short = (simulate_run(USUAL, frames, 3, changing_dose=changing_dose) for frames in (60, 25))
        np.testing.assert_array_equal(long.recording.counts[:25], short.recording.counts)


def test_counts_are_the_papers():
    run = simulate_run(AS_WRITTEN, 160, 0).recording
    assert run.counts.shape == (160, 2048)
    assert run.counts.dtype == np.float32
    assert run.simulated
    pristine = run.clean_counts[0]
    assert pristine[near(435)].mean() == pytest.approx(12_000, rel=0.03)
    assert pristine[near(625)].mean() == pytest.approx(7_000, rel=0.05)
    white_line = pristine[near(460.2, 0.4)].max() - pristine[near(453)].mean()
    assert 4_000 < white_line < 6_500
    fall = run.clean_counts[-1].sum() / run.clean_counts[0].sum()
    assert 0.75 < fall < 0.95


def test_the_crystal_field_pair_closes_and_oxygen_loses_its_structure():
    run = exposed(STILL, 0, np.full(300, 0.4), 230.0)
    pristine, transformed = run.clean_counts[0], run.clean_counts[-1]
    titanium, oxygen = near(459, 6), near(537, 14)

    def summits(counts: np.ndarray) -> int:
        slope = np.convolve(counts, [1, 1, 1, 0, -1, -1, -1], mode="valid")
        return int(np.sum((slope[:-1] > 0) & (slope[1:] <= 0)))

    assert summits(pristine[titanium]) == 2
    assert summits(transformed[titanium]) == 1
    assert np.abs(np.diff(transformed[oxygen])).max() < 0.5 * np.abs(np.diff(pristine[oxygen])).max()


def test_specimens_are_transformed_in_about_a_minute_each_at_a_pace_of_its_own():
    phases = np.stack([simulate_run(USUAL, 150, seed).recording.phase for seed in range(8)])
    assert np.median(phases[:, -1]) > 0.9
    assert np.ptp(phases[:, 75]) > 0.1
    assert (phases[:, 0] < 0.01).all()
    assert (np.diff(phases) > 0).all()


def test_a_recording_says_the_current_that_flowed_and_its_counts_follow_it():
    run = simulate_run(USUAL, 120, 8, changing_dose=True)
    recording = run.recording
    assert recording.beam_current_pA[0] == run.preset.beam.current_pA != 230.0
    assert len(set(recording.dwell_s)) == len(run.steps) > 2
    dose_pC = recording.dwell_s * recording.beam_current_pA
    per_pC = recording.clean_counts.sum(axis=1) / dose_pC
    assert np.abs(np.diff(per_pC) / per_pC[1:]).max() < 0.02  # mass loss and change, but no jump with the dose


def test_another_dwell_or_current_is_what_runs_then_vary_about():
    preset = preset_for_runs(dwell_s=0.1, current_pA=100.0)
    currents = [simulate_run(preset, 1, seed).recording.beam_current_pA[0] for seed in range(6)]
    assert len(set(currents)) == 6
    assert all(95 < current < 105 for current in currents)
    fixed = simulate_run(preset_for_runs(dwell_s=0.1, current_pA=100.0, fixed=True), 2, 0).recording
    assert (fixed.dwell_s == 0.1).all()
    assert (fixed.beam_current_pA == 100.0).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "srtio4"}, "there is no preset 'srtio4'"),
        ({"dwell_s": float("nan")}, "the dwell ordered is nan"),
        ({"dwell_s": 0.0}, r"0 s, is below the limit of 0\.005 s"),
        ({"current_pA": 501.0}, "501 pA, is above the limit of 500 pA"),
        ({"current_pA": 490.0}, "some runs would be impossible: at the limits .* current_pA must lie .*--fixed"),
    ],
)
def test_what_can_not_be_simulated_is_refused(wrong, says):
    with pytest.raises(UsageError, match=says):
        preset_for_runs(**wrong)


def test_a_current_at_the_limit_is_possible_where_nothing_varies():
    assert preset_for_runs(current_pA=500.0, fixed=True).beam.current_pA == 500.0


def test_a_run_has_frames_and_a_seed():
    with pytest.raises(ValueError, match="at least one frame"):
        simulate_run(load_preset("fast"), 0, 0)
    with pytest.raises(ValueError, match="seed"):
        simulate_run(load_preset("fast"), 1, 2**64)
