"""Forecasts as EELS spectra: the same as the service's, on axes and with metadata that HyperSpy knows, usable in exspy."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.forecast_series import series_of
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.forecast import forecast_recording, prepared_recording
from eelstm_stream.forecast_cli import forecast
from eelstm_stream.hyperspy_signals import forecast_signal, recording_signal
from eelstm_stream.io.forecast_files import save_forecasts
from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.io.recordings import Recording, load_recording, save_recording
from eelstm_stream.wire.messages import Forecast
from tests.model_files import AXIS, WINDOW, metadata, reference_spectrum, write_model
from tests.programs import CAMERA, Served

FRAMES = 30

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(forecast)


@pytest.fixture(scope="module")
def hs() -> ModuleType:
    """hyperspy.api, with exspy. Slow, so once; and it warns about itself, so with that aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy  # noqa: F401
        import hyperspy.api
    return hyperspy.api


def model_with(folder: Path, *horizons: int) -> Model:
    meta = metadata()
    errors = tuple(meta.validation[0].model_copy(update={"horizon": h}) for h in horizons)
    return open_model(write_model(folder / f"{horizons}.onnx", meta=metadata(horizons=horizons, validation=errors)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The mean of the window, at horizons 1 and 8."""
    return open_model(write_model(tmp_path_factory.mktemp("model") / "mean.onnx"))


@pytest.fixture
def recording() -> Recording:
    random = np.random.default_rng(3)
    clean = reference_spectrum(CAMERA) * np.linspace(1, 0.9, FRAMES)[:, np.newaxis]
    noise = random.normal(size=clean.shape) * np.sqrt(4.6 * clean)
    return Recording(
        counts=(clean + noise).astype(np.float32),
        energy_axis=CAMERA,
        dwell_s=np.full(FRAMES, 0.4),
        beam_current_pA=np.full(FRAMES, 230.0),
        beam_energy_keV=300.0,
        convergence_mrad=30.0,
        collection_mrad=48.0,
        specimen="SrTiO3 [001]",
        name="run 7.dm4",
    )


def as_one_spectrum(signal: Any) -> Any:
    return signal.inav[0, 0] if signal.axes_manager.navigation_dimension == 2 else signal.inav[0]


# What is forecast


def test_a_recording_is_forecast_as_the_service_forecasts_it(model: Model, recording: Recording) -> None:
    series, refused = forecast_recording(model, recording)
    heard: list[tuple[Forecast, np.ndarray]] = []
    with Served(model.path) as served:
        start = served.instrument.open(dose_is_relative=False, beam_current_pA=230.0, beam_energy_keV=300.0)
        for seq, counts in enumerate(recording.counts):
            served.instrument.expose(seq, counts=counts, beam_current_pA=230.0)
            if seq >= WINDOW - 1:
                decoded = served.ears.forecast(seq)
                assert isinstance(decoded.message, Forecast)
                assert decoded.payload is not None
                heard.append((decoded.message, np.asarray(decoded.payload, dtype=np.float32)))
    live = series_of(heard, start)
    assert refused == ()
    assert live.from_seq.tolist() == series.from_seq.tolist() == list(range(WINDOW - 1, FRAMES))
    np.testing.assert_allclose(live.counts, series.counts, rtol=1e-6)  # one by one, or in batches
    np.testing.assert_allclose(live.phase, series.phase, rtol=1e-6)
    assert (live.step_s, live.reference_current_pA) == (series.step_s, series.reference_current_pA) == (0.4, 230.0)
    assert series.quality == live.quality == ()

    signal = forecast_signal(heard, start)
    np.testing.assert_array_equal(signal.data, live.counts)
    assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 300.0
    assert "beam_energy" not in forecast_signal(heard).metadata.Acquisition_instrument.TEM


def test_more_windows_than_a_batch_come_in_order(model: Model, recording: Recording) -> None:
    many = replace_frames(recording, np.arange(200) % FRAMES)
    series, _ = forecast_recording(model, many)
    one, _ = forecast_recording(model, many, at=150)
    assert series.counts.shape == (200 - WINDOW + 1, 2, AXIS.size)
    assert one.from_seq.tolist() == [150]
    np.testing.assert_allclose(series.counts[150 - WINDOW + 1], one.counts[0], rtol=1e-6)


def spectra_mean(recording: Recording, first: int, last: int) -> np.ndarray:
    """`(channel,)` mean of frames on the model's axis, unaligned."""
    crop = slice(110, 110 + AXIS.size)
    return recording.counts[first:last, crop].mean(axis=0)


def replace_frames(recording: Recording, frames: np.ndarray) -> Recording:
    # A camera that shows twice the same counts is frozen; so a repeated frame gets one count more.
    counts = recording.counts[frames] + np.arange(len(frames), dtype=np.float32)[:, np.newaxis] // FRAMES
    current_pA = recording.beam_current_pA
    return replace(
        recording,
        counts=counts,
        dwell_s=recording.dwell_s[frames],
        beam_current_pA=None if current_pA is None else current_pA[frames],
    )


def test_a_model_that_asks_for_the_history_is_given_it(tmp_path: Path, recording: Recording) -> None:
    series, _ = forecast_recording(open_model(write_model(tmp_path / "history.onnx", of_history=True)), recording)
    for row, newest in enumerate(series.from_seq):
        np.testing.assert_allclose(series.counts[row, 0], spectra_mean(recording, 0, newest + 1), rtol=0.02)


def test_a_frame_that_the_service_would_refuse_is_named(model: Model, recording: Recording) -> None:
    recording.counts[12] = 0
    recording.counts[13, 5] = -1
    series, refused = forecast_recording(model, recording)
    assert [(frame.frame, frame.reason[:16]) for frame in refused] == [
        (12, "no counts in any"),
        (13, "spectrum 13 has "),
    ]
    assert 12 not in series.from_seq
    assert [(flag.flag, raised) for flag, raised in series.quality] == [("gap_in_window", 7)]
    with pytest.raises(UnusableInputError, match=r"at frame 12 of run 7\.dm4: no counts"):
        forecast_recording(model, recording, at=12)


def test_what_cannot_be_forecast_is_one_line(model: Model, recording: Recording) -> None:
    with pytest.raises(UsageError, match="frames 0 to 29"):
        forecast_recording(model, recording, at=FRAMES)
    with pytest.raises(UsageError, match=r"8 steps, is full 1 frame later"):
        forecast_recording(model, recording, at=6)
    with pytest.raises(UnusableInputError, match="7 frames"):
        forecast_recording(model, replace_frames(recording, np.arange(7)))
    with pytest.raises(UnusableInputError, match=r"run 7\.dm4.*covers 525"):
        forecast_recording(model, replace(recording, energy_axis=CAMERA.model_copy(update={"offset_eV": 525.0})))
    recording.counts[:, 0] = -1
    with pytest.raises(UnusableInputError, match=r"nowhere enough usable ones in a row.*negative"):
        forecast_recording(model, recording)


def test_forecasts_that_do_not_belong_together_are_refused(model: Model, recording: Recording) -> None:
    with pytest.raises(ValueError, match="no forecast"):
        series_of([])
    series, _ = forecast_recording(model, recording)
    with pytest.raises(ValueError, match="not in the order"):
        replace(series, from_seq=series.from_seq[::-1])
    with pytest.raises(ValueError, match="phase"):
        replace(series, phase=series.phase[:, :1])


# Axes and metadata


def axis_of(signal: Any, name: str) -> tuple[list[float], str]:
    axis = next(a for a in signal.axes_manager._axes if a.name == name)
    return np.round(axis.axis, 6).tolist(), axis.units


@pytest.mark.parametrize(
    ("horizons", "ahead_s"), [((8,), [3.2]), ((1, 2, 3), [0.4, 0.8, 1.2]), ((2, 4, 6), [0.8, 1.6, 2.4]), ((1, 2, 8), [0.4, 0.8, 3.2])]
)  # fmt: skip
def test_axes_say_from_which_frame_how_far_ahead_and_at_which_energy(
    hs: ModuleType, tmp_path: Path, recording: Recording, horizons: tuple[int, ...], ahead_s: list[float]
) -> None:
    series, _ = forecast_recording(model_with(tmp_path, *horizons), recording, window_domain="frame")
    signal = forecast_signal(series)
    assert type(signal).__name__ == "EELSSpectrum"
    assert signal.data.shape == (FRAMES - WINDOW + 1, len(horizons), AXIS.size)
    assert axis_of(signal, "ahead") == (ahead_s, "s")
    assert axis_of(signal, "from frame")[0] == list(range(WINDOW - 1, FRAMES))
    energy_eV, unit = axis_of(signal, "Energy loss")
    assert unit == "eV"
    np.testing.assert_allclose(energy_eV, energies_eV(AXIS), atol=1e-6)
    assert signal.axes_manager[-1].is_binned

    path = tmp_path / "f.hspy"
    save_forecasts(series, path)
    loaded = hs.load(path)
    assert type(loaded).__name__ == "EELSSpectrum"
    np.testing.assert_array_equal(loaded.data, signal.data)
    for name in ("ahead", "from frame", "Energy loss"):
        assert axis_of(loaded, name) == axis_of(signal, name)


def test_a_gap_leaves_unequal_steps_between_windows(model: Model, recording: Recording) -> None:
    recording.counts[12] = 0
    series, _ = forecast_recording(model, recording)
    assert axis_of(forecast_signal(series), "from frame")[0] == [*range(7, 12), *range(13, FRAMES)]


def test_ahead_is_in_dose_where_the_window_is(model: Model, recording: Recording) -> None:
    for recorded, step_s in ((recording, 0.4), (replace(recording, dwell_s=recording.dwell_s / 2), 0.4)):
        series, _ = forecast_recording(model, recorded, at=20)
        assert (series.window_domain, series.step_s) == ("dose", pytest.approx(step_s))  # at half the dwell two frames
        assert axis_of(forecast_signal(series), "ahead") == ([92.0, 736.0], "pC")
    unknown, _ = forecast_recording(model, replace(recording, beam_current_pA=None), at=20)
    assert (unknown.window_domain, axis_of(forecast_signal(unknown), "ahead")) == ("frame", ([0.4, 3.2], "s"))


def test_half_the_dwell_needs_twice_the_frames_and_forecasts_the_same(model: Model, recording: Recording) -> None:
    halves = replace(
        recording,
        counts=np.repeat(recording.counts / 2, 2, axis=0) * np.tile([[0.999], [1.001]], (FRAMES, 1)).astype(np.float32),
        dwell_s=np.full(2 * FRAMES, 0.2),
        beam_current_pA=np.full(2 * FRAMES, 230.0),
    )
    whole, _ = forecast_recording(model, recording)
    split, _ = forecast_recording(model, halves)
    assert split.from_seq.tolist() == list(range(2 * WINDOW - 1, 2 * FRAMES))
    np.testing.assert_allclose(split.counts[::2], whole.counts, rtol=0.02)
    assert split.quality == ()


def test_a_single_forecast_has_no_axis_of_frames(model: Model, recording: Recording) -> None:
    series, _ = forecast_recording(model, recording, at=20)
    signal = forecast_signal(series)
    assert signal.data.shape == (2, AXIS.size)
    assert int(signal.metadata.eelstm_forecast.from_frame[0]) == 20
    np.testing.assert_allclose(signal.data[0], spectra_mean(recording, 13, 21), rtol=0.02)


def test_metadata_say_what_it_is_and_how_it_came_about(
    hs: ModuleType, tmp_path: Path, model: Model, recording: Recording
) -> None:
    series, _ = forecast_recording(model, recording)
    save_forecasts(series, tmp_path / "f.hspy")
    md = hs.load(tmp_path / "f.hspy").metadata
    tem = md.Acquisition_instrument.TEM
    assert (tem.beam_energy, tem.convergence_angle, tem.Detector.EELS.collection_angle) == (300.0, 30.0, 48.0)
    assert (tem.Detector.EELS.dwell_time, tem.beam_current) == (
        0.4,
        pytest.approx(0.23),
    )  # s and nA, as HyperSpy has them
    assert md.Sample.description == "SrTiO3 [001]"
    assert md.Signal.quantity == "Intensity (Counts)"
    assert md.General.title == "Forecast of run 7.dm4 by mean-of-window"
    assert "not a measurement" in md.General.notes
    ours = md.eelstm_forecast
    assert (ours.model.name, ours.model.sha256, ours.model.window) == ("mean-of-window", model.sha256, WINDOW)
    assert (ours.simulated, ours.source.kind, ours.source.beam_current_pA) == (False, "replay", 230.0)
    assert ours.horizons.tolist() == [1, 8]
    np.testing.assert_array_equal(ours.phase, series.phase)
    np.testing.assert_array_equal(ours.from_frame, series.from_seq)


def test_counts_dwell_and_current_go_together(model: Model, recording: Recording) -> None:
    """Half the dwell gives half the counts; the forecast is at the reference dose, and says so where exspy looks."""
    half = replace(recording, counts=recording.counts / 2, dwell_s=recording.dwell_s / 2)
    whole = forecast_signal(forecast_recording(model, recording, at=20, window_domain="frame")[0])
    signal = forecast_signal(forecast_recording(model, half, at=20, window_domain="frame")[0])
    np.testing.assert_allclose(signal.data, whole.data, rtol=1e-5)
    assert signal.metadata.Acquisition_instrument.TEM.Detector.EELS.dwell_time == 0.4
    assert signal.metadata.eelstm_forecast.source.dwell_s == 0.2
    assert axis_of(signal, "ahead")[0] == [0.2, 1.6]
    assert any("dwell" in flag for flag in signal.metadata.eelstm_forecast.quality)


def test_a_recording_as_the_model_sees_it_is_what_forecasts_are_held_against(
    model: Model, recording: Recording
) -> None:
    weak = replace(recording, counts=recording.counts / 2, dwell_s=recording.dwell_s / 2)
    seen = prepared_recording(model, weak)
    assert seen.energy_axis == AXIS
    assert (seen.dwell_s == 0.4).all()
    assert seen.beam_current_pA is not None
    np.testing.assert_allclose(seen.beam_current_pA, 230.0)
    np.testing.assert_allclose(seen.counts, prepared_recording(model, recording).counts, rtol=1e-5)
    series, _ = forecast_recording(
        model, weak, window_domain="frame"
    )  # of a model that forecasts the mean of its window
    for row, newest in enumerate(series.from_seq):
        window = seen.counts[newest - WINDOW + 1 : newest + 1]
        np.testing.assert_allclose(series.counts[row, 0], window.mean(axis=0), rtol=1e-5)


def test_what_is_not_known_is_left_out(model: Model, recording: Recording) -> None:
    bare = replace(recording, beam_current_pA=None, beam_energy_keV=None, convergence_mrad=None, collection_mrad=None)
    tem = forecast_signal(forecast_recording(model, bare, at=20)[0]).metadata.Acquisition_instrument.TEM
    assert set(tem.as_dictionary()) == {"Detector"}
    assert set(tem.Detector.EELS.as_dictionary()) == {"dwell_time"}


def test_a_model_of_relative_doses_says_nothing_of_the_current(tmp_path: Path, recording: Recording) -> None:
    relative = open_model(write_model(tmp_path / "m.onnx", meta=metadata(dose_is_relative=True, reference_dose_pC=0.4)))
    signal = forecast_signal(forecast_recording(relative, recording, at=20)[0])
    assert "beam_current" not in signal.metadata.Acquisition_instrument.TEM


def test_simulated_spectra_stay_marked_as_such(model: Model, recording: Recording) -> None:
    signal = forecast_signal(forecast_recording(model, replace(recording, simulated=True), at=20)[0])
    assert signal.metadata.eelstm_forecast.simulated
    assert "simulated spectra" in signal.metadata.General.notes


def test_a_recording_becomes_a_signal_as_its_file_does(hs: ModuleType, tmp_path: Path, recording: Recording) -> None:
    save_recording(recording, tmp_path / "r.hspy")
    loaded, signal = hs.load(tmp_path / "r.hspy"), recording_signal(recording)
    np.testing.assert_array_equal(signal.data, loaded.data)
    assert axis_of(signal, "Energy loss") == axis_of(loaded, "Energy loss")
    assert (
        signal.metadata.Acquisition_instrument.as_dictionary() == loaded.metadata.Acquisition_instrument.as_dictionary()
    )


def test_forecasts_are_not_taken_for_a_recording(
    hs: ModuleType, tmp_path: Path, model: Model, recording: Recording
) -> None:
    save_forecasts(forecast_recording(model, recording)[0], tmp_path / "f.hspy")
    hs.load(tmp_path / "f.hspy").inav[0].save(tmp_path / "cut.hspy")
    for name in ("f.hspy", "cut.hspy"):
        with pytest.raises(UnusableInputError, match=f"{name} holds forecasts"):
            load_recording(tmp_path / name)


# exspy


def ratio(signal: Any) -> np.ndarray:
    """O K over Ti L, by the textbook: power laws subtracted, windows integrated."""
    titanium = signal.remove_background((437.0, 452.0), background_type="PowerLaw", fast=True, show_progressbar=False)
    oxygen = signal.remove_background((500.0, 526.0), background_type="PowerLaw", fast=True, show_progressbar=False)
    return (oxygen.isig[528.0:545.0].integrate1D(-1) / titanium.isig[453.0:470.0].integrate1D(-1)).data


def test_exspy_quantifies_a_forecast(tmp_path: Path, hs: ModuleType, model: Model, recording: Recording) -> None:
    save_forecasts(forecast_recording(model, recording)[0], tmp_path / "f.hspy")
    signal = hs.load(tmp_path / "f.hspy")
    signal.add_elements(["Ti", "O"])
    assert sorted(signal.metadata.Sample.elements) == ["O", "Ti"]
    truth = recording_signal(
        replace(
            recording, counts=np.stack([reference_spectrum(CAMERA)] * 2), dwell_s=np.full(2, 0.4), beam_current_pA=None
        )
    )
    expected = ratio(truth.isig[435.0:625.0])[0]
    found = ratio(signal)
    assert found.shape == (FRAMES - WINDOW + 1, 2)
    np.testing.assert_allclose(found, expected, rtol=0.15)  # the mean of 8 noisy spectra


@pytest.mark.filterwarnings("ignore")  # exspy's and scipy's, of their own numerics
def test_exspy_fits_a_model_of_edges_to_a_forecast(model: Model, recording: Recording) -> None:
    signal = as_one_spectrum(forecast_signal(forecast_recording(model, recording)[0]))
    signal.add_elements(["Ti", "O"])
    fitted = signal.create_model(GOS="hydrogenic")  # the tabulated ones would be downloaded
    fitted.smart_fit()
    names = [component.name for component in fitted]
    assert names == ["PowerLaw", "Ti_L3", "O_K"]
    assert all(fitted[edge].intensity.value > 0 for edge in ("Ti_L3", "O_K"))


# As a program


@pytest.fixture
def run_file(tmp_path: Path, recording: Recording) -> Path:
    save_recording(recording, tmp_path / "run.hspy")
    return tmp_path / "run.hspy"


def test_the_command_writes_the_file_and_says_what_is_in_it(run_file: Path, model: Model, hs: ModuleType) -> None:
    out = run_file.with_name("f.hspy")
    done = CliRunner().invoke(app, [str(run_file), "-o", str(out), "--model", str(model.path), "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert {k: figures[k] for k in ("forecasts", "horizons", "step_s", "quality", "refused", "sha256")} == {
        "forecasts": FRAMES - WINDOW + 1,
        "horizons": [1, 8],
        "step_s": 0.4,
        "quality": [],
        "refused": [],
        "sha256": model.sha256,
    }
    assert hs.load(out).data.shape == (FRAMES - WINDOW + 1, 2, AXIS.size)


def test_the_command_overwrites_nothing_unless_forced(run_file: Path, model: Model) -> None:
    out = run_file.with_name("f.hspy")
    out.write_bytes(b"mine")
    arguments = [str(run_file), "-o", str(out), "--model", str(model.path), "--at", "20"]
    assert isinstance(CliRunner().invoke(app, arguments).exception, UsageError)
    assert out.read_bytes() == b"mine"
    done = CliRunner().invoke(app, [*arguments, "--force"])
    assert done.exit_code == 0, done.output
    assert "1 forecast of run.hspy by mean-of-window, 1, 8 steps ahead (up to 3.2 s)" in done.stdout
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("name", ["f.dm4", "nowhere/f.hspy"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["no such run.dm4", "-o", str(tmp_path / name)])
    assert isinstance(done.exception, UsageError)
