"""A recording in closed loop: its electrons are regrouped, none twice and none made up, with the noise of real exposures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import load_preset
from acquisition_sim.responsive import RegroupedRecording
from eelstm_stream.io.recordings import Recording
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

FRAMES, CHANNELS = 400, 128
MEAN = np.linspace(9_000, 3_000, CHANNELS)
WIDE_MEAN = np.linspace(9_000, 1_000, 1024)  # wide enough to tell read-out noise from electrons'
DOSE_PC = 40.0  # of a recorded frame


def recording(counts: NDArray[np.floating], *, known_current: bool = True) -> Recording:
    return Recording(
        counts=counts.astype(np.float32),
        energy_axis=EnergyAxis(offset_eV=400.0, dispersion_eV=0.25, size=counts.shape[1]),
        dwell_s=np.full(len(counts), 0.4),
        beam_current_pA=np.full(len(counts), 100.0) if known_current else None,
        beam_energy_keV=300.0,
        convergence_mrad=None,
        collection_mrad=None,
        specimen="",
        name="a recording",
    )


def camera(
    kernel: list[float], variance_over_mean: float, mean: NDArray[np.float64] = MEAN, read: float = 0.0
) -> Recording:
    """Frames of one spectrum: electrons, shared among neighbours, with read-out noise."""
    random = np.random.default_rng(11)
    gain = variance_over_mean / float(np.sum(np.square(kernel)))
    margin = len(kernel) // 2
    wide = np.interp(np.arange(-margin, len(mean) + margin), np.arange(len(mean)), mean)
    electrons = gain * random.poisson(wide / gain, (FRAMES, wide.size))
    counts = np.stack([np.convolve(frame, kernel, mode="valid") for frame in electrons])
    return recording(counts + read * random.standard_normal(counts.shape))


WHITE = camera([1.0], 4.6)
SMEARED = camera([0.06, 0.16, 0.56, 0.16, 0.06], 3.9)
READ = camera([1.0], 4.0, WIDE_MEAN, read=120.0)


def taken(source: Recording, doses_pC: list[float], seed: int = 0) -> NDArray[np.float32]:
    """Frames of these doses, exposed one after the other."""
    return RegroupedRecording(source, seed).expose([dose / 100 for dose in doses_pC], [100.0] * len(doses_pC))


def noise_of(frames: NDArray[np.floating], mean: NDArray[np.float64]) -> tuple[float, float]:
    """Variance over mean, and the correlation of neighbours, about a known mean."""
    noise = frames - mean
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2)
    return float(np.mean(noise**2 / mean)), float(neighbours)


# As it was recorded


def test_the_dose_of_a_recorded_frame_gives_that_frame_exactly():
    np.testing.assert_array_equal(taken(WHITE, [DOSE_PC] * FRAMES), WHITE.counts)


def test_more_dose_gives_the_sum_of_the_frames_exactly():
    np.testing.assert_allclose(taken(WHITE, [3 * DOSE_PC])[0], WHITE.counts[:3].sum(axis=0), rtol=1e-6)


@examples(60)
@given(st.lists(st.floats(0.5, 200), min_size=1, max_size=30), st.integers(0, 2**63))
def test_frames_add_up_to_the_recording_again_whatever_their_doses(doses_pC, seed):
    whole = int(sum(doses_pC) // DOSE_PC) + 1
    rest_pC = whole * DOSE_PC - sum(doses_pC)
    frames = taken(SMEARED, [*doses_pC, *([rest_pC] if rest_pC > 1e-6 else [])], seed)
    assert (frames >= 0).all()
    np.testing.assert_allclose(frames.sum(axis=0), SMEARED.counts[:whole].sum(axis=0), rtol=1e-5)


def test_what_is_passed_over_is_gone_with_its_electrons():
    source = RegroupedRecording(WHITE, 0)
    source.pass_over(0.4, 100.0)
    source.pass_over(1e6, 0.0)  # rest
    np.testing.assert_array_equal(source.expose([0.4], [100.0])[0], WHITE.counts[1])


def test_only_the_product_of_dwell_and_current_counts():
    quick, slow = RegroupedRecording(WHITE, 5), RegroupedRecording(WHITE, 5)
    for _ in range(10):
        np.testing.assert_array_equal(quick.expose([0.1], [250.0]), slow.expose([0.25], [100.0]))


# The noise of less


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
@pytest.mark.parametrize(("source", "variance_over_mean"), [(WHITE, 4.6), (SMEARED, 3.9)], ids=["white", "smeared"])
def test_less_dose_has_the_mean_and_the_noise_of_a_shorter_exposure(source, variance_over_mean, share):
    parts = round(1 / share)
    frames = taken(source, [share * DOSE_PC] * (200 * parts))
    recorded, recorded_neighbours = noise_of(source.counts, MEAN)
    assert recorded == pytest.approx(variance_over_mean, rel=0.03)
    np.testing.assert_allclose(frames.mean(axis=0), share * MEAN, rtol=0.02)
    for part in range(parts):  # the first share of a recorded frame is as noisy as the last
        ratio, neighbours = noise_of(frames[part::parts], share * MEAN)
        assert ratio == pytest.approx(variance_over_mean, rel=0.07)
        assert neighbours == pytest.approx(recorded_neighbours, abs=0.04)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_parts_of_one_recorded_frame_are_independent(share):
    parts = round(1 / share)
    frames = taken(SMEARED, [share * DOSE_PC] * (FRAMES * parts)).astype(np.float64)
    noise = (frames - share * MEAN).reshape(FRAMES, parts, CHANNELS)
    covariance = np.mean(noise[:, 0] * noise[:, 1]) / np.mean(noise**2)
    assert abs(covariance) < 0.02


def test_frames_across_the_seam_of_two_recorded_ones_are_as_noisy_as_others():
    frames = taken(SMEARED, [0.7 * DOSE_PC] * 500)
    ratio, _ = noise_of(frames, 0.7 * MEAN)
    assert ratio == pytest.approx(3.9, rel=0.03)


def test_few_electrons_are_divided_one_by_one():
    random = np.random.default_rng(3)
    source = recording(random.poisson(3.0, (FRAMES, CHANNELS)))
    frames = taken(source, [DOSE_PC / 2] * 2 * FRAMES)
    assert frames.mean() == pytest.approx(1.5, rel=0.02)
    assert frames.var() == pytest.approx(1.5, rel=0.06)
    assert np.mean(frames < 0.5) == pytest.approx(np.exp(-1.5), abs=0.03)


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_a_shorter_exposure_has_the_read_out_noise_of_one_read_out(share):
    frames = taken(READ, [share * DOSE_PC] * round(300 / share))
    # At counts where it makes no difference that none is below zero.
    bright = slice(0, 512)
    noise = frames[:, bright] - share * WIDE_MEAN[bright]
    expected = 4.0 * share * WIDE_MEAN[bright].mean() + 120.0**2
    assert np.mean(noise**2) == pytest.approx(expected, rel=0.1)


# The noise of more


def test_more_dose_has_the_noise_of_its_electrons_and_says_that_there_are_more_read_outs_in_it():
    source = RegroupedRecording(READ, 0)
    assert len(source.notes) == 1
    assert "its noise was measured: variance" in source.notes[0]
    source.expose([0.4], [100.0])
    assert len(source.notes) == 1
    frames = source.expose([1.6] * 90, [100.0] * 90)
    expected = 4.0 * 4 * WIDE_MEAN.mean() + 4 * 120.0**2
    assert np.mean((frames - 4 * WIDE_MEAN) ** 2) == pytest.approx(expected, rel=0.05)
    assert len(source.notes) == 2
    read = source.noise.read_noise_counts
    assert (
        f"NOISE WAS ADDED: frames of more dose than a recorded one are sums of several, with a read-out noise of up to {2 * read:.3g} counts"
        in source.notes[1]
    )


def test_a_camera_without_read_out_noise_has_nothing_to_say():
    source = RegroupedRecording(WHITE, 0)
    source.expose([1.6] * 10, [100.0] * 10)
    assert len(source.notes) == 1


# What it flies


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    doses_pC = [13.0, 57.0, 8.0]
    assert taken(SMEARED, doses_pC, 4).tobytes() == taken(SMEARED, doses_pC, 4).tobytes()
    assert taken(SMEARED, doses_pC, 4).tobytes() != taken(SMEARED, doses_pC, 5).tobytes()


def test_a_specimen_is_where_its_dose_has_brought_it_however_that_was_given():
    microscope = Microscope(load_preset("srtio3-300kV"))
    _, run = microscope.expose_many(microscope.start(0), np.full(160, 0.4), 230.0)
    source = replace(
        recording(run.counts), energy_axis=microscope.preset.energy_axis, beam_current_pA=np.full(160, 230.0)
    )
    flown = RegroupedRecording(source, 0)
    dwells_s = [0.1] * 100 + [0.8] * 20 + [0.4] * 20  # 50 doses of the recording: to the middle of frame 85
    frames = flown.expose(dwells_s, [230.0] * len(dwells_s))
    scatter = frames[-1] - run.clean_counts[84]
    assert np.sqrt(np.mean(scatter**2)) < 1.3 * np.sqrt(4.6 * run.clean_counts[84].mean())
    assert abs(scatter.mean()) < 30
    quarter = frames[99] - run.clean_counts[24] / 4
    assert np.sqrt(np.mean(quarter**2)) < 1.3 * np.sqrt(4.6 * run.clean_counts[24].mean() / 4)


def test_counts_below_zero_stay_where_the_recording_had_them():
    counts = np.random.default_rng(0).normal(5.0, 20.0, (20, CHANNELS))
    source = recording(counts)
    frames = taken(source, [DOSE_PC / 4] * 80)
    assert np.isfinite(frames).all()
    np.testing.assert_allclose(frames.reshape(20, 4, CHANNELS).sum(axis=1).mean(), counts.mean(), atol=20)


def test_a_recording_without_noise_is_divided_in_proportion():
    source = recording(np.full((5, 40), 100.0))
    np.testing.assert_allclose(taken(source, [10.0] * 20), 25.0)


def test_where_the_current_is_unknown_the_dwell_counts():
    source = RegroupedRecording(recording(WHITE.counts[:10], known_current=False), 0)
    assert source.dose_pC == pytest.approx(4.0)
    np.testing.assert_array_equal(source.expose([0.4], [1.0])[0], WHITE.counts[0])


def test_one_that_is_too_short_to_tell_its_noise_is_refused():
    with pytest.raises(ValueError, match="3 spectra or more, and these are 2"):
        RegroupedRecording(recording(WHITE.counts[:2]), 0)
