"""Recordings: what is read from whose files, what is written, and what is refused in which words."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import rsciio.hspy
from hypothesis import given, settings
from hypothesis import strategies as st
from nion.data import Calibration, DataAndMetadata
from nionswift_plugin.DM_IO import dm3_image_utils

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import Recording, load_recording, save_recording
from eelstm_stream.wire.messages import EnergyAxis
from tests.paper_layout import PAPER_FILES, strontium_titanate, write_dm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hs() -> ModuleType:
    """hyperspy.api, with exspy. Slow, so once; and it warns about itself, so with that aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy  # noqa: F401
        import hyperspy.api
    return hyperspy.api


def ev_axis(size: int, **changes: Any) -> dict[str, Any]:
    axis = {"name": "Energy loss", "size": size, "offset": 424.0, "scale": 0.5, "units": "eV", "navigate": False}
    return axis | changes


def plain_axis(size: int, **changes: Any) -> dict[str, Any]:
    return {"name": "x", "size": size, "offset": 0.0, "scale": 1.0, "units": "nm", "navigate": True} | changes


def write_hspy(
    path: Path,
    data: np.ndarray,
    axes: list[dict[str, Any]] | None = None,
    *,
    signal_type: str = "EELS",
    title: str = "high-loss",
    dwell_s: float | None = 0.4,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Add a signal to an .hspy file by rosettasciio's own writer, as other programs would."""
    if axes is None:
        axes = [*(plain_axis(size) for size in data.shape[:-1]), ev_axis(data.shape[-1])]
    microscope: dict[str, Any] = {} if dwell_s is None else {"Detector": {"EELS": {"dwell_time": dwell_s}}}
    signal_dictionary = {
        "data": data,
        "axes": [{"_type": "UniformDataAxis" if "scale" in axis else "DataAxis", **axis} for axis in axes],
        "metadata": {
            "General": {"title": title},
            "Signal": {"signal_type": signal_type},
            "Acquisition_instrument": {"TEM": microscope},
            **(metadata or {}),
        },
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": [],
        "package_info": {"package": "", "package_version": ""},
        "tmp_parameters": {},
    }
    if not path.exists():
        rsciio.hspy.file_writer(path, signal_dictionary, show_progressbar=False)
        return path
    single = path.with_suffix(".single.hspy")
    rsciio.hspy.file_writer(single, signal_dictionary, show_progressbar=False)
    with h5py.File(path, "a") as together, h5py.File(single) as one:
        one.copy(f"Experiments/{title}", together["Experiments"])
    return path


def some_counts(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(9000, 200, shape).astype(np.float32)


def simulated_recording(frames: int = 12, channels: int = 64) -> Recording:
    counts = some_counts(frames, channels)
    return Recording(
        counts=counts,
        energy_axis=EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=channels),
        dwell_s=np.where(np.arange(frames) < 5, 0.4, 0.1),
        beam_current_pA=np.linspace(230, 190, frames),
        beam_energy_keV=300.0,
        convergence_mrad=30.0,
        collection_mrad=48.0,
        specimen="SrTiO3",
        name="sto",
        simulated=True,
        clean_counts=counts + 1,
        phase=np.linspace(0, 1, frames),
    )


def refusal(path: Path, **flags: float) -> str:
    """The one sentence with which a file is refused as unusable (exit code 3)."""
    with pytest.raises(UnusableInputError) as refused:
        load_recording(path, **flags)
    text = str(refused.value)
    assert "\n" not in text
    assert path.name in text
    return text


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Reading


def test_the_paper_layout_gives_frames_by_channels(paper_recordings: list[Path]) -> None:
    recordings = [load_recording(path) for path in paper_recordings]
    assert [recording.name for recording in recordings] == list(PAPER_FILES)
    assert [recording.counts.shape for recording in recordings] == [(120, 2048), (160, 2048), (160, 2048)]
    for recording in recordings:
        assert recording.counts.dtype == np.float32
        assert recording.energy_axis.size == 2048
        # Digital Micrograph keeps calibrations in single precision.
        assert recording.energy_axis.offset_eV == pytest.approx(424.0, abs=1e-4)
        assert recording.energy_axis.dispersion_eV == pytest.approx(0.1, rel=1e-6)
        np.testing.assert_array_equal(recording.dwell_s, 0.4)
        assert recording.beam_current_pA is None  # 0 nA in the file is Digital Micrograph's way not to know
        assert recording.beam_energy_keV == 300.0
        assert (recording.convergence_mrad, recording.collection_mrad) == (30.0, 48.0)
        assert recording.specimen == "SrTiO3"
        assert not recording.simulated
        assert recording.clean_counts is None
        assert recording.phase is None
    assert not np.array_equal(recordings[1].counts, recordings[2].counts)


@pytest.mark.parametrize("suffix", [".dm3", ".dm4", ".DM4"])
@pytest.mark.parametrize(
    ("shape", "energy_first"),
    [((128,), False), ((9, 128), False), ((9, 128), True), ((2, 3, 128), False), ((2, 3, 128), True)],
)
def test_dm_files_give_back_the_counts_written(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], energy_first: bool
) -> None:
    counts = some_counts(*shape)
    written = tmp_path / f"series{suffix.lower()}"
    write_dm(written, counts=counts, energy_first=energy_first)
    path = written.rename(written.with_suffix(suffix))
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.counts, counts.reshape(-1, 128))  # rows of a scan one after the other


@pytest.mark.parametrize("version", [3, 4])
def test_a_sequence_saved_by_nion_swift_is_read(tmp_path: Path, version: int) -> None:
    counts = some_counts(15, 256)
    sequence = DataAndMetadata.new_data_and_metadata(
        counts,
        data_descriptor=DataAndMetadata.DataDescriptor(True, 0, 1),
        dimensional_calibrations=[Calibration.Calibration(), Calibration.Calibration(100.0, 0.25, "eV")],
        metadata={"hardware_source": {"signal_type": "eels", "exposure": 0.05}},
    )
    path = tmp_path / f"sequence.dm{version}"
    with path.open("w+b") as file:
        dm3_image_utils.save_image(sequence, file, version)
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.counts, counts)
    assert recording.energy_axis == EnergyAxis(offset_eV=100.0, dispersion_eV=0.25, size=256)
    np.testing.assert_array_equal(recording.dwell_s, 0.05)


def test_hyperspy_sees_the_same_in_files_that_we_read_and_in_files_that_we_write(
    hs: ModuleType, tmp_path: Path, paper_recordings: list[Path]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = paper_recordings[0]
        theirs = hs.load(path)[2]  # where the paper says that it stands
        ours = load_recording(path)
        np.testing.assert_array_equal(ours.counts, theirs.data)
        axis = theirs.axes_manager.signal_axes[0]
        assert (ours.energy_axis.offset_eV, ours.energy_axis.dispersion_eV) == (axis.offset, axis.scale)

        steady = write_dm(tmp_path / "steady.dm4", 6, channels=64, beam_current_nA=0.23)
        save_recording(load_recording(tmp_path / "steady.dm4"), tmp_path / "steady.hspy")
        opened = hs.load(tmp_path / "steady.hspy")
        assert type(opened).__name__ == "EELSSpectrum"
        assert type(opened).__module__.startswith("exspy.")
        np.testing.assert_array_equal(opened.data, steady)
        assert [axis.name for axis in opened.axes_manager.navigation_axes] == ["frame"]
        energy = opened.axes_manager.signal_axes[0]
        assert (energy.name, energy.units, energy.is_binned) == ("Energy loss", "eV", True)
        assert (energy.offset, energy.scale) == pytest.approx((424.0, 0.1), abs=1e-4)
        microscope = opened.metadata.Acquisition_instrument.TEM
        assert microscope.beam_energy == 300
        assert microscope.beam_current == pytest.approx(0.23)  # nA
        assert (microscope.convergence_angle, microscope.Detector.EELS.collection_angle) == (30, 48)
        assert microscope.Detector.EELS.dwell_time == 0.4
        assert opened.metadata.Sample.description == "SrTiO3"

        # Through HyperSpy and back, the truth of a simulation comes along; cut there, it no longer fits.
        original = simulated_recording()
        save_recording(original, tmp_path / "ours.hspy")
        through = hs.load(tmp_path / "ours.hspy")
        assert not through.metadata.has_item("Acquisition_instrument.TEM.Detector.EELS.dwell_time")  # differs by frame
        through.save(tmp_path / "through.hspy")
        assert_same_recording(load_recording(tmp_path / "through.hspy"), original)
        through.inav[:7].save(tmp_path / "cut.hspy")
    assert "dwell_s (12,) for counts (7, 64): it was cut after it was saved" in refusal(tmp_path / "cut.hspy")


@given(
    others=st.lists(st.integers(1, 4), max_size=3),
    channels=st.integers(2, 9),
    place=st.integers(0, 3),
    unit=st.sampled_from([("eV", 1.0), ("keV", 1e3), ("meV", 1e-3), ("[e_V]", 1.0), (" eV ", 1.0)]),
    falling=st.booleans(),
    navigate=st.booleans(),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "<u2", ">i4"]),
)
@settings(max_examples=40, deadline=None)
def test_the_energy_axis_is_found_by_its_unit_wherever_it_stands(
    others: list[int], channels: int, place: int, unit: tuple[str, float], falling: bool, navigate: bool, dtype: str
) -> None:
    place = min(place, len(others))
    shape = [*others[:place], channels, *others[place:]]
    counts = np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)
    scale = -0.5 if falling else 0.5
    axes = [plain_axis(size, navigate=not navigate) for size in others]
    axes.insert(place, ev_axis(channels, units=unit[0], scale=scale, navigate=navigate))
    with tempfile.TemporaryDirectory() as folder:
        recording = load_recording(write_hspy(Path(folder) / "any.hspy", counts, axes))
    expected = np.moveaxis(counts, place, -1).reshape(-1, channels)
    first_eV = 424.0 + (scale * (channels - 1) if falling else 0.0)
    np.testing.assert_array_equal(recording.counts, expected[:, ::-1] if falling else expected)
    assert recording.energy_axis.size == channels
    assert recording.energy_axis.offset_eV == pytest.approx(first_eV * unit[1])
    assert recording.energy_axis.dispersion_eV == pytest.approx(0.5 * unit[1])


def test_an_energy_axis_stored_as_a_table_counts_when_it_is_even(tmp_path: Path) -> None:
    table = 424.0 + 0.1 * np.arange(64)
    axis = {"name": "E", "size": 64, "axis": table, "units": "eV", "navigate": False}
    recording = load_recording(write_hspy(tmp_path / "table.hspy", some_counts(3, 64), [plain_axis(3), axis]))
    assert recording.energy_axis.offset_eV == 424.0
    assert recording.energy_axis.dispersion_eV == pytest.approx(0.1)


def test_negative_counts_and_single_frames_are_kept(tmp_path: Path) -> None:
    counts = some_counts(64)
    counts[5] = -12.5
    recording = load_recording(write_hspy(tmp_path / "one.hspy", counts))
    assert recording.counts.shape == (1, 64)
    assert recording.counts[0, 5] == -12.5


def test_an_untyped_signal_with_an_energy_axis_is_taken(tmp_path: Path) -> None:
    path = write_hspy(tmp_path / "untyped.hspy", some_counts(4, 64), signal_type="")
    assert load_recording(path).counts.shape == (4, 64)


def test_of_several_signals_the_one_typed_eels_is_taken_then_the_one_with_most_spectra(tmp_path: Path) -> None:
    path = tmp_path / "several.hspy"
    write_hspy(path, some_counts(50, 64), signal_type="", title="a")
    write_hspy(path, some_counts(3, 64), title="b")
    write_hspy(path, some_counts(8, 64), title="c")
    write_hspy(path, some_counts(99, 64), signal_type="EDS_TEM", title="d")
    write_hspy(path, some_counts(90, 90), [plain_axis(90), plain_axis(90)], signal_type="", title="e")
    np.testing.assert_array_equal(load_recording(path).counts, some_counts(8, 64))


# Dwell and current


def test_the_time_of_a_pixel_stands_above_the_exposure_of_the_camera(tmp_path: Path) -> None:
    # 2 × 0.0999975 s in the file, as in the real line scan; the beam stayed for 0.2 s.
    write_dm(tmp_path / "scan.dm3", 3, dwell_s=0.2)
    np.testing.assert_array_equal(load_recording(tmp_path / "scan.dm3").dwell_s, 0.2)


def test_a_single_spectrum_has_the_sum_of_its_exposures(tmp_path: Path) -> None:
    write_dm(tmp_path / "sum.dm4", counts=some_counts(2048), dwell_s=20.0)
    assert load_recording(tmp_path / "sum.dm4").dwell_s == pytest.approx([20.0], abs=1e-5)


def test_the_current_of_a_dm_file_comes_in_pA(tmp_path: Path) -> None:
    write_dm(tmp_path / "series.dm4", 3, beam_current_nA=0.23)
    np.testing.assert_allclose(load_recording(tmp_path / "series.dm4").beam_current_pA, [230.0] * 3)


def test_flags_stand_above_the_file(tmp_path: Path) -> None:
    write_dm(tmp_path / "series.dm4", 3, beam_current_nA=0.23)
    recording = load_recording(tmp_path / "series.dm4", dwell_s=0.1, beam_current_pA=50.0)
    np.testing.assert_array_equal(recording.dwell_s, [0.1] * 3)
    np.testing.assert_array_equal(recording.beam_current_pA, [50.0] * 3)
    save_recording(simulated_recording(), tmp_path / "ours.hspy")
    np.testing.assert_array_equal(load_recording(tmp_path / "ours.hspy", dwell_s=0.8).dwell_s, [0.8] * 12)


def test_a_file_without_a_dwell_asks_for_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "series.dm4"
    write_dm(path, 3, dwell_s=None)
    with pytest.raises(UsageError, match=r"series\.dm4 does not say .* --dwell"):
        load_recording(path)
    np.testing.assert_array_equal(load_recording(path, dwell_s=0.4).dwell_s, [0.4] * 3)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("flag", "parameter"), [("--dwell", "dwell_s"), ("--current", "beam_current_pA")])
def test_a_flag_that_is_no_positive_number_is_refused(
    paper_recordings: list[Path], flag: str, parameter: str, value: float
) -> None:
    with pytest.raises(UsageError, match=flag):
        load_recording(paper_recordings[0], **{parameter: value})


def test_the_step_of_a_time_axis_is_the_last_word_on_dwell(tmp_path: Path) -> None:
    axes = [plain_axis(5, units="ms", scale=80.0), ev_axis(64)]
    path = write_hspy(tmp_path / "time.hspy", some_counts(5, 64), axes, dwell_s=None)
    np.testing.assert_allclose(load_recording(path).dwell_s, [0.08] * 5)
    path = write_hspy(tmp_path / "both.hspy", some_counts(5, 64), axes, dwell_s=0.05)
    np.testing.assert_allclose(load_recording(path).dwell_s, [0.05] * 5)


MSA = """\
#FORMAT      : EMSA/MAS Spectral Data File
#VERSION     : 1.0
#TITLE       : NiO
#DATE        : the day before yesterday
#TIME        : 12:00
#OWNER       : EMSA
#NPOINTS     : 6
#NCOLUMNS    : 1
#XUNITS      : eV
#YUNITS      : Counts
#DATATYPE    : Y
#XPERCHAN    : 3.1
#OFFSET      : 520.13
#SIGNALTYPE  : ELS
#BEAMKV   -kV: 120.0
#PROBECUR -nA: 0.05
#INTEGTIME   : 500
#SPECTRUM    : Spectral Data Starts Here
4066.0, 3996.0,
3932.0, 3923.0,
5602.0, 5288.0,
#ENDOFDATA   :
"""


def test_an_msa_file_is_read_and_its_milliseconds_are_not_taken_for_seconds(tmp_path: Path) -> None:
    path = tmp_path / "nio.msa"
    path.write_text(MSA)
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.counts, [[4066, 3996, 3932, 3923, 5602, 5288]])
    assert recording.energy_axis == EnergyAxis(offset_eV=520.13, dispersion_eV=3.1, size=6)
    assert recording.dwell_s == pytest.approx([0.5])
    assert recording.beam_current_pA == pytest.approx([50.0])
    assert recording.beam_energy_keV == 120


# Writing


def assert_same_recording(found: Recording, expected: Recording) -> None:
    for name in ("counts", "dwell_s", "beam_current_pA", "clean_counts", "phase"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        if right is not None:
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
    for name in ("energy_axis", "beam_energy_keV", "convergence_mrad", "collection_mrad", "specimen", "simulated"):
        assert getattr(found, name) == getattr(expected, name), name


def test_a_recording_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "sto.hspy"
    save_recording(simulated_recording(), path)
    found = load_recording(path)
    assert_same_recording(found, simulated_recording())
    assert found.name == "sto.hspy"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_recording_does_not_know_it_does_not_say_after_saving(tmp_path: Path) -> None:
    bare = Recording(
        counts=some_counts(1, 8),
        energy_axis=EnergyAxis(offset_eV=-50.0, dispersion_eV=0.25, size=8),
        dwell_s=np.array([2.0]),
        beam_current_pA=None,
        beam_energy_keV=None,
        convergence_mrad=None,
        collection_mrad=None,
        specimen="",
        name="",
    )
    save_recording(bare, tmp_path / "bare.hspy")
    assert_same_recording(load_recording(tmp_path / "bare.hspy"), bare)


def test_an_existing_file_is_overwritten_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "sto.hspy"
    save_recording(simulated_recording(12), path)
    with pytest.raises(UsageError, match=r"sto\.hspy exists"):
        save_recording(simulated_recording(3), path)
    assert len(load_recording(path).counts) == 12
    save_recording(simulated_recording(3), path, overwrite=True)
    assert len(load_recording(path).counts) == 3


@pytest.mark.parametrize(("name", "reason"), [("sto.dm4", r"\.hspy"), ("missing/sto.hspy", "no folder")])
def test_a_name_that_can_not_be_written_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        save_recording(simulated_recording(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_saving_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from eelstm_stream.io.recordings import load_recording, save_recording
# The moment when the new file is written and doesn't have its name yet.
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
save_recording(load_recording(Path(sys.argv[1])), Path(sys.argv[2]), overwrite=True)
"""
    path = tmp_path / "sto.hspy"
    save_recording(simulated_recording(), path)
    write_dm(tmp_path / "other.dm4", 5)
    assert run_python(code, tmp_path / "other.dm4", path).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".sto.*.unfinished"))) == 1
    assert_same_recording(load_recording(path), simulated_recording())


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from eelstm_stream.errors import EelstmError
from eelstm_stream.io.recordings import load_recording, save_recording
try:
    save_recording(load_recording(Path(sys.argv[1])), Path("copy.hspy"))
except EelstmError as error:
    print(error, os.listdir())
"""
    write_dm(tmp_path / "series.dm4", 100)
    (tmp_path / "disk").mkdir()
    script = f'mount -t tmpfs -o size=64k none {tmp_path}/disk && cd {tmp_path}/disk && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no small disk to fill: this machine does not allow unshare and mount")
    finished = subprocess.run(
        [*command, sys.executable, "-c", code, str(tmp_path / "series.dm4")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stdout == "copy.hspy couldn't be written: No space left on device. []\n"
    assert (finished.returncode, finished.stderr) == (0, "")


def test_shapes_that_disagree_are_a_mistake_of_ours() -> None:
    whole = simulated_recording()
    fields = {name: getattr(whole, name) for name in Recording.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"dwell_s \(11,\) does not fit counts"):
        Recording(**fields | {"dwell_s": whole.dwell_s[:-1]})
    with pytest.raises(ValueError, match="are not"):
        Recording(**fields | {"counts": whole.counts[:, :-1]})
    with pytest.raises(ValueError, match="at least one"):
        Recording(**fields | {"counts": whole.counts[:0]})


# Refusing


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'gone.dm4'} does not exist" in refusal(tmp_path / "gone.dm4")


def test_a_folder_an_empty_file_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.dm4").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.dm4")
    (tmp_path / "empty.dm4").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.dm4")
    os.mkfifo(tmp_path / "pipe.dm4")
    assert "is a pipe or a device" in refusal(tmp_path / "pipe.dm4")  # opening it would wait for ever


@pytest.mark.parametrize(("name", "found"), [("notes.docx", "the extension .docx"), ("series", "no extension")])
def test_an_unknown_extension_is_answered_with_the_known_ones(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / name).write_text("not a recording")
    text = refusal(tmp_path / name)
    assert found in text
    known = text.split(": ")[-1].rstrip(".").split(", ")
    assert {"dm3", "dm4", "hspy", "zspy", "emd", "msa", "nxs"} <= set(known)


@pytest.mark.parametrize("name", ["fake.dm3", "fake.dm4", "fake.hspy", "fake.emd", "fake.h5", "fake.csv"])
def test_a_file_of_another_kind_than_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"surely no spectrum" * 40)
    assert "can't be read as" in refusal(tmp_path / name)


def test_a_file_without_an_energy_axis_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "others.hspy"
    pixel, plotted = plain_axis(6), plain_axis(6, navigate=False)
    write_hspy(path, some_counts(6, 6), [plotted, plotted], signal_type="", title="a")
    write_hspy(path, some_counts(6), [plotted], signal_type="", title="b")
    write_hspy(path, some_counts(6, 6), [pixel, plotted], signal_type="", title="c")
    write_hspy(path, some_counts(6, 6), [pixel, ev_axis(6, units="keV")], signal_type="EDS_TEM", title="d")
    write_hspy(path, some_counts(6, 6), [pixel, plotted], signal_type="EELS", title="e")
    assert refusal(path) == (
        "others.hspy holds an image (6, 6), a line plot (6,), a series of line plots (6, 6), a signal of type EDS_TEM (6, 6) "
        "and an EELS signal without an axis in eV (6, 6), and no signal with an energy axis in eV."
    )


def test_two_equally_likely_signals_are_named_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "dual.hspy"
    write_hspy(path, some_counts(9, 64), title="low-loss")
    write_hspy(path, some_counts(9, 32), title="high-loss")
    text = refusal(path)
    assert '"low-loss" (9, 64)' in text
    assert '"high-loss" (9, 32)' in text


def test_a_signal_with_two_energy_axes_is_refused(tmp_path: Path) -> None:
    path = write_hspy(tmp_path / "rixs.hspy", some_counts(8, 64), [ev_axis(8), ev_axis(64)])
    assert "2 axes in eV" in refusal(path)


def test_values_that_are_not_finite_are_counted_and_placed(tmp_path: Path) -> None:
    counts = some_counts(9, 64)
    counts[4, 7], counts[4, 8], counts[6, 0] = np.nan, np.inf, -np.inf
    text = refusal(write_hspy(tmp_path / "nan.hspy", counts))
    assert "3 values" in text
    assert "the first in frame 4 (of 0 to 8)" in text
    huge = some_counts(2, 64).astype(np.float64)
    huge[1, 1] = 1e300
    assert "1 values that are NaN, infinite or too large, the first in frame 1" in refusal(
        write_hspy(tmp_path / "huge.hspy", huge)
    )


def test_counts_that_are_no_counts_are_refused(tmp_path: Path) -> None:
    assert "zeros only" in refusal(write_hspy(tmp_path / "dark.hspy", np.zeros((4, 64), np.float32)))
    assert "complex" in refusal(write_hspy(tmp_path / "phase.hspy", some_counts(4, 64).astype(np.complex64)))
    assert "bool" in refusal(write_hspy(tmp_path / "mask.hspy", some_counts(4, 64) > 0))
    (tmp_path / "none.msa").write_text(MSA.split("4066", maxsplit=1)[0])
    assert "empty EELS signal, (0,)" in refusal(tmp_path / "none.msa")


def test_an_energy_axis_that_is_no_axis_is_refused(tmp_path: Path) -> None:
    uneven = {"name": "E", "size": 64, "axis": np.geomspace(400, 600, 64), "units": "eV", "navigate": False}
    counts = some_counts(3, 64)
    text = refusal(write_hspy(tmp_path / "uneven.hspy", counts, [plain_axis(3), uneven]))
    assert "uneven channels" in text
    assert "resample" in text
    for scale in (0.0, float("nan")):
        path = write_hspy(tmp_path / f"flat{scale}.hspy", counts, [plain_axis(3), ev_axis(64, scale=scale)])
        assert "calibrate it again" in refusal(path)
    assert "70000 channels" in refusal(write_hspy(tmp_path / "wide.hspy", np.ones((1, 70_000), np.float32)))


def test_a_recording_saved_with_unusable_dwells_is_refused(tmp_path: Path) -> None:
    for name, dwells in (("zero", [0.4, 0.0]), ("nan", [0.4, np.nan])):
        node = {"eelstm_stream": {"version": 1, "simulated": True, "dwell_s": np.array(dwells)}}
        assert "dwell_s" in refusal(write_hspy(tmp_path / f"{name}.hspy", some_counts(2, 8), metadata=node))
    path = write_hspy(tmp_path / "later.hspy", some_counts(2, 8), metadata={"eelstm_stream": {"version": 2}})
    assert "version 2" in refusal(path)


@pytest.mark.parametrize("suffix", [".dm3", ".dm4", ".hspy"])
def test_a_file_cut_short_anywhere_is_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".hspy":
        save_recording(simulated_recording(), whole)
    else:
        write_dm(whole, 3, channels=64)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    # The last 8 bytes of a DM file are zeros that mean nothing, so without them it is whole.
    for length in np.linspace(1, len(content) - 9, 120).astype(int):
        cut.write_bytes(content[:length])
        text = refusal(cut)
        if suffix != ".hspy" and length > 12:
            assert "is cut short: its header promises at least" in text
            assert f"{length} are there" in text


@pytest.mark.parametrize("suffix", [".dm3", ".dm4", ".hspy"])
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".hspy":
        save_recording(simulated_recording(3, 8), whole)
    else:
        write_dm(whole, 3, channels=64)
    content = whole.read_bytes()
    random = np.random.default_rng(11)
    damaged = tmp_path / f"damaged{suffix}"
    refused = 0
    for _ in range(80):
        spoilt = bytearray(content)
        for position in random.integers(0, len(content), random.integers(1, 20)):
            spoilt[position] = random.integers(0, 256)
        damaged.write_bytes(spoilt)
        try:
            load_recording(damaged)
        except EelstmError:
            refused += 1
    assert refused > 10


def test_an_array_that_could_not_be_in_the_file_is_not_given_memory(tmp_path: Path) -> None:
    path = write_hspy(tmp_path / "hollow.hspy", some_counts(2, 64))
    with h5py.File(path, "a") as tree:
        del tree["Experiments/high-loss/data"]
        tree["Experiments/high-loss"].create_dataset("data", (10**8, 2048), "<f4", chunks=(1, 2048))
    assert "claims an array of 762.9 GiB" in refusal(path)


def test_a_reader_that_does_not_come_back_is_given_up(tmp_path: Path) -> None:
    # A DM3 tag whose data has a negative length sends the reader back to the start of that same tag, two billion times.
    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "big", signed=True)

    tag = b"\x15" + number(4, 2) + b"Data" + b"%%%%" + number(3) + number(20) + number(9)
    endless = tag + number(-len(tag) - 4)
    group = b"\x14" + number(9, 2) + b"ImageData" + b"\x00\x00" + number(2**31 - 1) + endless
    body = b"\x00\x00" + number(1) + group + bytes(64)
    (tmp_path / "endless.dm3").write_bytes(number(3) + number(len(body) - 8) + number(1) + body)
    code = """
import sys
from pathlib import Path
from eelstm_stream.io import _reading
from eelstm_stream.io.recordings import load_recording
_reading.READ_LIMIT_S = 1.0
load_recording(Path(sys.argv[1]))
"""
    finished = run_python(code, tmp_path / "endless.dm3")
    assert "UnusableInputError: endless.dm3: its reader (DigitalMicrograph) was not done after 1 s" in finished.stderr


@pytest.mark.filterwarnings("ignore::FutureWarning")  # zarr 2 on zarr 3
def test_a_zarr_store_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr, which reads .zspy, is not installed")
    numcodecs = pytest.importorskip("numcodecs")
    import rsciio.zspy

    class Marker:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "crafted.zspy"
    stored = write_hspy(tmp_path / "plain.hspy", some_counts(2, 8))
    rsciio.zspy.file_writer(path, _signal_of(stored), show_progressbar=False)
    assert load_recording(path).counts.shape == (2, 8)
    # Newer releases have a lock of their own; older ones don't.
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    codec = numcodecs.pickles.Pickle()
    group = zarr.open_group(str(path), mode="a")["Experiments/high-loss/metadata"]
    numcodecs.registry.codec_registry["pickle"] = numcodecs.pickles.Pickle
    group.create_dataset("trap", data=np.array([Marker()], dtype=object), object_codec=codec, chunks=1)
    (tmp_path / "executed").unlink(missing_ok=True)
    refusal(path)
    assert not (tmp_path / "executed").exists()


def _signal_of(path: Path) -> dict[str, Any]:
    (stored,) = rsciio.hspy.file_reader(path)
    extras = {"learning_results": {}, "package_info": {"package": "", "package_version": ""}, "tmp_parameters": {}}
    return stored | extras


# What else the program must keep


def test_importing_is_cheap_and_hyperspy_stays_out(paper_recordings: list[Path]) -> None:
    code = """
import sys
from pathlib import Path
from eelstm_stream.io.recordings import load_recording, save_recording
assert not {"rsciio", "h5py", "dask"} & set(sys.modules)
recording = load_recording(Path(sys.argv[1]))
save_recording(recording, Path(sys.argv[2]))
assert not {"hyperspy", "exspy"} & set(sys.modules)
"""
    copy = paper_recordings[0].with_name("imported.hspy")
    finished = run_python(code, paper_recordings[0], copy)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert copy.is_file()


def test_warnings_and_logs_of_a_reader_stay_off_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "nio.msa").write_text(MSA.replace("ELS", "XYZ").replace("eV", "parsec"))
    code = """
import sys
from pathlib import Path
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import load_recording
if sys.argv[2] == "loud":
    from rsciio.msa import file_reader
    file_reader(sys.argv[1])
try:
    load_recording(Path(sys.argv[1]))
except UnusableInputError as error:
    assert "no signal with an energy axis" in str(error), error
"""
    loud = run_python(code, tmp_path / "nio.msa", "loud")
    assert "malformed DATE" in loud.stdout
    assert "SIGNALTYPE XYZ" in loud.stderr
    quiet = run_python(code, tmp_path / "nio.msa", "quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("missing", "name", "expected"),
    [
        ("rsciio", "a.dm4", "install eelstm-stream[io]"),
        ("numcodecs", "a.zspy", "(import of numcodecs halted; None in sys.modules): pip install 'rosettasciio[all]'"),
    ],
)
def test_a_library_that_is_not_installed_is_named(tmp_path: Path, missing: str, name: str, expected: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    code = """
import sys
from pathlib import Path
sys.modules[sys.argv[2]] = None  # as if it were not installed
from eelstm_stream.errors import UsageError
from eelstm_stream.io.recordings import load_recording
try:
    load_recording(Path(sys.argv[1]))
except UsageError as error:
    print(error)
"""
    finished = run_python(code, tmp_path / name, missing)
    assert expected in finished.stdout, finished.stderr
    assert len(finished.stdout.splitlines()) == 1


# Files that nobody here wrote


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "axis", "dwell_s", "beam_energy_keV", "convergence_mrad", "collection_mrad"),
    [
        ("STO_pristine_pyTEMlib.dm3", (1, 2048), (350.0, 0.25), 20.0, 200.0, 30.0, 33.0),
        ("linescan_100x2048_high-loss.dm3", (100, 2048), (400.0, 0.25), 0.2, 300.0, 28.0, 10.0),
        ("linescan_100x2048_low-loss.dm3", (100, 2048), (-50.0, 0.25), 0.2, 300.0, 28.0, 10.0),
        ("spectrum_image_2x2.dm4", (4, 2048), (300.0, 1.0), 0.02, 200.0, 21.0, 62.0),
    ],
)
def test_real_files_say_what_they_are(
    real_data: Path,
    tmp_path: Path,
    hs: ModuleType,
    name: str,
    shape: tuple[int, int],
    axis: tuple[float, float],
    dwell_s: float,
    beam_energy_keV: float,
    convergence_mrad: float,
    collection_mrad: float,
) -> None:
    recording = load_recording(real_data / name)
    assert recording.counts.shape == shape
    assert recording.energy_axis == EnergyAxis(offset_eV=axis[0], dispersion_eV=axis[1], size=2048)
    np.testing.assert_allclose(recording.dwell_s, dwell_s)
    assert recording.beam_current_pA is None
    assert recording.beam_energy_keV == beam_energy_keV
    assert (recording.convergence_mrad, recording.collection_mrad) == (convergence_mrad, collection_mrad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = hs.load(real_data / name)
    np.testing.assert_array_equal(recording.counts, np.reshape(theirs.data, shape))
    save_recording(recording, tmp_path / "copy.hspy")
    assert_same_recording(load_recording(tmp_path / "copy.hspy"), recording)


@pytest.mark.real
def test_a_real_file_without_eels_is_refused_with_what_it_holds(real_data: Path) -> None:
    assert refusal(real_data / "multi_signal.dm3") == (
        "multi_signal.dm3 holds an image (512, 512) and a line plot (512,), and no signal with an energy axis in eV."
    )


@pytest.mark.real
def test_real_files_cut_short_are_refused(real_data: Path, tmp_path: Path) -> None:
    for name in ("linescan_100x2048_high-loss.dm3", "spectrum_image_2x2.dm4"):
        cut = tmp_path / name
        shutil.copyfile(real_data / name, cut)
        for length in np.linspace(cut.stat().st_size - 9, 13, 15).astype(int):
            os.truncate(cut, length)
            assert "cut short" in refusal(cut)


def test_the_default_series_is_as_noisy_as_the_paper_says() -> None:
    energy_eV = 424 + 0.1 * np.arange(2048)
    counts = strontium_titanate(40, energy_eV, np.random.default_rng(1))
    assert counts[0].mean() == pytest.approx(9500, rel=0.1)
    rms = np.std(np.diff(counts, axis=1)[:, ::7]) / np.sqrt(2)
    assert rms == pytest.approx(200, rel=0.15)
