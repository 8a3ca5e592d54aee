"""The noise of a recording is measured on the recording, whatever else goes on in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition_sim.camera_noise import CameraNoise, measured_noise
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import load_preset
from eelstm_stream.io.recordings import load_recording

SLOPE = np.linspace(12_000, 4_000, 1024)


def poisson(frames: int, *, gain: float, read: float = 0.0, mean: NDArray[np.float64] = SLOPE) -> NDArray[np.float64]:
    """Counts `(frame, channel)` of white noise: variance = gain × mean + read²."""
    random = np.random.default_rng(7)
    return gain * random.poisson(mean / gain, (frames, mean.size)) + read * random.standard_normal((frames, mean.size))


def autocorrelation(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    full = np.correlate(kernel, kernel, mode="full")
    return np.asarray(full[full.size // 2 :] / full[full.size // 2])


def test_white_noise():
    noise = measured_noise(poisson(100, gain=4.6))
    assert noise.variance_over_mean == pytest.approx(4.6, rel=0.02)
    assert noise.read_noise_counts == 0
    np.testing.assert_allclose(noise.correlation[1:], 0, atol=0.015)


def test_read_out_noise_is_told_from_counts_where_the_counts_differ():
    noise = measured_noise(poisson(100, gain=4.6, read=150.0))
    assert noise.variance_over_mean == pytest.approx(4.6, rel=0.1)
    assert noise.read_noise_counts == pytest.approx(150, rel=0.15)


@pytest.mark.parametrize("name", ["srtio3-300kV", "line-scan-camera"])
def test_a_cameras_noise_while_the_specimen_changes_and_the_axis_walks(name):
    preset = load_preset(name)
    microscope = Microscope(preset)
    _, taken = microscope.expose_many(microscope.start(3), np.full(100, 0.4), 230.0)
    noise = measured_noise(taken.counts)
    assert noise.variance_over_mean == pytest.approx(preset.detector.variance_over_mean, rel=0.06)
    spread = np.array([*preset.detector.point_spread[:0:-1], *preset.detector.point_spread])
    expected = autocorrelation(spread)[:3]
    np.testing.assert_allclose(noise.correlation[:3], expected, atol=0.04)


@pytest.mark.real
def test_the_noise_of_a_real_line_scan(real_data: Path):
    noise = measured_noise(load_recording(real_data / "linescan_100x2048_high-loss.dm3").counts)
    # As docs/explanation/simulated-specimen.md has it, measured in another way.
    assert noise.variance_over_mean == pytest.approx(3.9, rel=0.06)
    assert noise.read_noise_counts == pytest.approx(36, rel=0.2)
    np.testing.assert_allclose(noise.correlation[1:4], [0.559, 0.271, 0.124], atol=0.05)


def test_jumps_and_spikes_are_not_noise():
    counts = poisson(60, gain=4.6)
    counts[30:] *= 1.05
    counts[::7, ::200] += 30_000
    assert measured_noise(counts).variance_over_mean == pytest.approx(4.6, rel=0.05)


@pytest.mark.parametrize("channels", [1, 2, 5, 63, 64, 100])
@pytest.mark.parametrize("frames", [3, 4, 50])
def test_few_channels_and_few_frames_will_do(frames, channels):
    noise = measured_noise(poisson(frames, gain=2.0, mean=np.full(channels, 1000.0)))
    assert np.isfinite([noise.variance_over_mean, noise.read_noise_counts, *noise.correlation]).all()
    assert noise.variance_over_mean >= 0
    if frames * channels > 2000:
        assert noise.variance_over_mean == pytest.approx(2, rel=0.15)


def test_frames_that_are_all_equal_have_no_noise():
    assert measured_noise(np.full((5, 100), 7.0)).variance_over_mean == 0


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (np.ones((2, 10)), "3 spectra or more, and these are 2"),
        (np.zeros((9, 10)), "no counts"),
        (np.full((9, 10), -1.0), "no counts"),
    ],
)
def test_what_has_no_noise_to_measure_is_refused(counts, says):
    with pytest.raises(ValueError, match=says):
        measured_noise(counts)


@pytest.mark.parametrize("correlation", [[1.0], [1.0, 0.24], [1.0, 0.6, 0.3, 0.1], [1.0, -0.2], [1.0, 0.9, 0.8]])
def test_the_filter_makes_white_noise_correlate_as_measured(correlation):
    kernel = CameraNoise(4.6, 0.0, np.array(correlation)).filter()
    assert kernel @ kernel == pytest.approx(1)
    if (
        correlation[1:] and correlation[1] > 0.8
    ):  # no noise correlates like that: a line can't fall so steeply to nothing
        return
    np.testing.assert_allclose(autocorrelation(kernel)[: len(correlation)], correlation, atol=0.01)
