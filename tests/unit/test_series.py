"""The simulated series counts, changes and scatters as its description says."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition_sim.series import CAMERA_AXIS, BeamDamageSeries, SeriesParameters, jmak_phase, simulate_series
from eelstm_stream.core.energy_axis import energies_eV

E = energies_eV(CAMERA_AXIS)
ALIKE = SeriesParameters(
    background_exponent_spread=0,
    intensity_spread=0,
    edge_spread=0,
    critical_dose_spread=0,
    jmak_exponent_spread=0,
    calibration_spread_eV=0,
    drift_eV_per_root_s=0,
    jitter_eV=0,
)


def near(energy_eV: float, width_eV: float = 1.0) -> np.ndarray:
    return np.abs(E - energy_eV) <= width_eV / 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_run():
    first, again, other = (simulate_series(12, seed=seed) for seed in (3, 3, 4))
    assert first.counts.tobytes() == again.counts.tobytes()
    assert first.clean_counts.tobytes() == again.clean_counts.tobytes()
    assert not np.array_equal(first.clean_counts, other.clean_counts)


def test_a_series_streamed_frame_by_frame_is_the_recorded_one():
    recorded = simulate_series(5, seed=9)
    live = BeamDamageSeries(9)
    for counts in recorded.counts:
        np.testing.assert_array_equal(live.expose(0.4, 230.0).counts, counts)


def test_counts_are_the_papers():
    run = simulate_series(160, seed=0, parameters=ALIKE)
    assert run.counts.shape == (160, 2048)
    assert run.counts.dtype == np.float32
    assert (run.counts >= 0).all()
    assert run.simulated
    pristine = run.clean_counts[0]
    assert pristine[near(435)].mean() == pytest.approx(12_000, rel=0.03)
    assert pristine[near(625)].mean() == pytest.approx(7_000, rel=0.05)
    white_line = pristine[near(459.3, 0.2)].mean() - pristine[near(453)].mean()
    assert 4_000 < white_line < 6_500


def test_noise_is_the_cameras_and_neighbours_share_a_little_of_it():
    run = simulate_series(100, seed=1)
    noise = run.counts.astype(float) - run.clean_counts
    assert np.mean(noise**2) / np.mean(run.clean_counts) == pytest.approx(4.6, rel=0.02)
    assert abs(noise.mean()) < 1.0
    correlation = np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2)
    assert correlation == pytest.approx(0.25, abs=0.03)


def test_the_specimen_is_transformed_in_about_a_minute_at_230_pA():
    phases = np.array([simulate_series(150, seed=seed).phase[-1] for seed in range(8)])
    assert np.median(phases) > 0.9
    assert np.ptp(phases) > 0.02  # runs differ
    run = simulate_series(160, seed=0)
    assert run.phase[0] < 0.001
    assert (np.diff(run.phase) > 0).all()


def test_the_crystal_field_pair_closes_and_oxygen_loses_its_structure():
    run = simulate_series(250, seed=0, parameters=ALIKE)
    pristine, transformed = run.clean_counts[0], run.clean_counts[-1]
    valley = near(458.1, 0.2)

    def depth(counts: np.ndarray) -> float:
        peaks = (counts[near(457.0, 0.2)].mean(), counts[near(459.3, 0.2)].mean())
        return min(peaks) - counts[valley].mean()

    assert depth(pristine) > 1_000
    assert depth(transformed) < 0
    oxygen = near(535, 10)
    assert np.abs(np.diff(transformed[oxygen])).max() < 0.5 * np.abs(np.diff(pristine[oxygen])).max()


def test_intensity_falls_as_the_run_goes_on():
    run = simulate_series(160, seed=2)
    assert 0.7 < run.clean_counts[-1].sum() / run.clean_counts[0].sum() < 0.95


def test_counts_follow_the_dose_of_the_frame_and_phase_the_dose_so_far():
    long = simulate_series(20, seed=5, dwell_s=0.8, parameters=ALIKE)
    short = simulate_series(40, seed=5, dwell_s=0.4, parameters=ALIKE)
    bright = simulate_series(20, seed=5, beam_current_pA=460.0, parameters=ALIKE)
    np.testing.assert_allclose(bright.clean_counts, long.clean_counts, rtol=1e-6)
    pairs = short.clean_counts.reshape(20, 2, -1).sum(axis=1)
    np.testing.assert_allclose(pairs, long.clean_counts, rtol=1e-3)
    # The middle of a long frame lies between those of its two halves.
    assert (short.phase[0::2] < long.phase).all()
    assert (long.phase < short.phase[1::2]).all()


def test_dwell_may_change_from_frame_to_frame():
    dwell_s = np.array([0.4, 0.4, 0.1, 0.8])
    run = simulate_series(4, seed=0, dwell_s=dwell_s, parameters=ALIKE)
    np.testing.assert_array_equal(run.dwell_s, dwell_s)
    sums = run.clean_counts.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(sums / sums[0], dwell_s / 0.4, rtol=0.01)


def test_the_energy_axis_drifts_slowly_and_jitters():
    run = simulate_series(100, seed=6)
    rise = near(456.4, 1.6)
    half = run.clean_counts[:30, rise].min(axis=1) * 0.5 + run.clean_counts[:30, rise].max(axis=1) * 0.5
    at = np.array([np.interp(h, c[rise], E[rise]) for h, c in zip(half, run.clean_counts[:30], strict=True)])
    assert 0.01 < np.diff(at).std() < 0.15


def test_jmak():
    np.testing.assert_allclose(jmak_phase([0.0, 10.0, 1e6], 10.0, 2.0), [0.0, 1 - np.exp(-1), 1.0])
    with pytest.raises(ValueError, match="positive"):
        jmak_phase([1.0], 0.0, 2.0)


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 0}, {"dwell_s": 0.0}, {"dwell_s": float("nan")}, {"beam_current_pA": -1.0}, {"dwell_s": [0.4, 0.4]}],
)
def test_what_can_not_be_simulated_is_refused(wrong):
    arguments = {"frames": 3, "seed": 0} | wrong
    with pytest.raises(ValueError):  # noqa: PT011 - numpy words the last of them
        simulate_series(arguments.pop("frames"), **arguments)
