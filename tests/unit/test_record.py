"""`eelstm sim record` writes data sets that can be read, checked and gone on with, and overwrites none by accident."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from acquisition_sim.data_set import Experiment, PlannedRun, record_data_set
from acquisition_sim.manifest import MANIFEST, UNFINISHED, Manifest, ProgrammeStep, RunEntry, read_manifest
from acquisition_sim.presets import load_preset
from acquisition_sim.record import PAPER_FILES, Programme, record
from acquisition_sim.simulated_run import preset_for_runs, simulate_run
from acquisition_sim.variation import drawn_values
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.recordings import load_recording, recording_sha256


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_runs_are_numbered_by_their_seed_and_hold_the_truth(tmp_path, capsys):
    record(tmp_path / "runs", runs=2, frames=5, seed=41)
    assert capsys.readouterr().out == ""
    assert list(files(tmp_path / "runs")) == ["manifest.json", "run-0041.hspy", "run-0042.hspy"]
    run, wanted = load_recording(tmp_path / "runs/run-0042.hspy"), simulate_run(preset_for_runs(), 5, 42).recording
    np.testing.assert_array_equal(run.counts, wanted.counts)
    np.testing.assert_array_equal(run.clean_counts, wanted.clean_counts)
    np.testing.assert_array_equal(run.phase, wanted.phase)
    np.testing.assert_array_equal(run.beam_current_pA, wanted.beam_current_pA)
    assert run.energy_axis == wanted.energy_axis
    assert run.simulated


def test_a_run_is_the_same_in_any_data_set_by_any_number_of_processes(tmp_path):
    record(tmp_path / "few", runs=1, frames=4, seed=2, workers=1)
    record(tmp_path / "many", runs=3, frames=4, seed=0, workers=2)
    assert files(tmp_path / "few")["run-0002.hspy"] == files(tmp_path / "many")["run-0002.hspy"]


def test_the_manifest_says_what_each_run_is_and_was_made_with(tmp_path):
    record(tmp_path, runs=2, frames=60, seed=7, programme=Programme.VARIED, preset="fast")
    manifest = read_manifest(tmp_path)
    assert (manifest.preset, manifest.programme) == ("fast", "varied")
    assert manifest.versions["numpy"] == np.__version__
    assert manifest.preset_parameters["specimen"]["kinetics"]["critical_dose_pC"] == 625.0
    assert manifest.preset_parameters["variation"]["thickness"] == 0.15
    for run, seed in zip(manifest.runs, (7, 8), strict=True):
        path = tmp_path / run.file
        recording = load_recording(path)
        simulated = simulate_run(load_preset("fast"), 60, seed, changing_dose=True)
        assert (run.file, run.seed, run.frames) == (f"run-{seed:04d}.hspy", seed, 60)
        assert run.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert run.content_sha256 == recording_sha256(recording)
        assert run.final_phase == recording.phase[-1]
        assert run.drawn["critical_dose_pC"] == simulated.preset.specimen.kinetics.critical_dose_pC
        assert run.drawn["height of Ti L3 eg"] == simulated.preset.specimen.spectrum.lines["Ti L3 eg"].height
        for step in run.programme:
            assert recording.dwell_s[step.from_frame] == step.dwell_s
            assert recording.beam_current_pA[step.from_frame] == step.beam_current_pA
    assert manifest.runs[0].drawn != manifest.runs[1].drawn
    assert manifest.runs[0].made_from == manifest.runs[1].made_from


def test_never_is_null_in_a_manifest_which_is_plain_json(tmp_path):
    record(tmp_path, preset="stable", frames=2, runs=2)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    told = json.loads((tmp_path / MANIFEST).read_text(), parse_constant=refuse)
    assert told["preset_parameters"]["specimen"]["kinetics"]["critical_dose_pC"] is None
    assert told["runs"][0]["drawn"]["critical_dose_pC"] is None
    assert read_manifest(tmp_path).runs[0].drawn["critical_dose_pC"] is None
    assert len((tmp_path / MANIFEST).read_text().splitlines()) < 400
    assert sum("run-000" in line for line in (tmp_path / MANIFEST).read_text().splitlines()) == 2  # a line a run


def test_fixed_runs_have_one_specimen_and_noise_of_their_own(tmp_path):
    record(tmp_path, runs=2, frames=3, fixed=True, current=100.0, dwell=0.1)
    one, other = (load_recording(tmp_path / name) for name in ("run-0000.hspy", "run-0001.hspy"))
    np.testing.assert_array_equal(one.phase, other.phase)
    assert not np.array_equal(one.counts, other.counts)
    assert set(one.beam_current_pA) == {100.0}
    assert set(one.dwell_s) == {0.1}
    runs = read_manifest(tmp_path).runs
    assert runs[0].drawn == runs[1].drawn


def test_the_papers_three_shapes_and_names(tmp_path, capsys):
    record(tmp_path, paper=True, as_json=True, seed=3)
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == list(PAPER_FILES)
    shapes = {}
    for name in told["files"]:
        recording = load_recording(tmp_path / name)
        assert set(recording.dwell_s) == {0.4}
        shapes[name] = recording.counts.shape
    assert list(shapes.values()) == [(120, 2048), (160, 2048), (160, 2048)]
    assert [name.partition(" (")[0] for name in shapes] == [
        "SI-007 0.4 s dwell", "SI-012 0.4 s 160 repeat", "SI-015 0.4 s 160 repeat",
    ]  # fmt: skip


def test_no_two_triples_share_a_run_with_each_other_or_with_a_data_set(tmp_path):
    seeds = []
    for seed in (0, 1, 2**31):
        record(tmp_path / str(seed), paper=True, seed=seed, workers=1)
        seeds += [run.seed for run in read_manifest(tmp_path / str(seed)).runs]
    assert len(set(seeds)) == 9
    assert min(seeds) > 2**31 + 100_000  # the last that --seed and --runs lead to


def test_what_is_there_stays_unless_forced(tmp_path):
    record(tmp_path, frames=3, seed=2)
    before = files(tmp_path)
    for further in (
        {"seed": 2},
        {"seed": 0, "runs": 3},
        {"seed": 9},
    ):  # the last would leave two data sets in one folder
        with pytest.raises(UsageError, match=r"exists: choose another folder, or .*--force"):
            record(tmp_path, frames=4, **further)
        assert files(tmp_path) == before
    record(tmp_path, frames=4, seed=2, force=True)
    assert len(load_recording(tmp_path / "run-0002.hspy").counts) == 4


def test_force_and_resume_leave_no_run_of_another_data_set_among_these(tmp_path):
    record(tmp_path, runs=2, frames=3)
    before = files(tmp_path)
    for how in ({"force": True}, {"resume": True}):
        with pytest.raises(UsageError, match=r"holds run-0001\.hspy of another data set"):
            record(tmp_path, runs=1, frames=3, **how)
    assert files(tmp_path) == before


# Going on after a kill


PLAN = [PlannedRun(f"run-{seed:04d}.hspy", seed, 3) for seed in range(4)]
USUAL = Experiment("srtio3-300kV", preset_for_runs())


class KilledError(Exception):
    """Stands for the end of the process."""


def interrupted(folder: Path, after: int) -> None:
    """A record that ends after so many runs."""
    made: list[RunEntry] = []

    def done(run: RunEntry) -> None:
        made.append(run)
        if len(made) == after:
            raise KilledError

    with pytest.raises(KilledError):
        record_data_set(USUAL, PLAN, folder, done=done)


def resumed(folder: Path, experiment: Experiment = USUAL, plan: list[PlannedRun] = PLAN) -> list[str]:
    """The runs that a record with --resume makes."""
    made: list[str] = []
    recorded = record_data_set(experiment, plan, folder, existing="resume", done=lambda run: made.append(run.file))
    assert (recorded.made, recorded.kept) == (len(made), len(plan) - len(made))
    assert not (folder / UNFINISHED).exists()
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    record_data_set(USUAL, PLAN, folder)
    return files(folder)


def test_an_interrupted_record_has_no_manifest_is_not_overwritten_and_goes_on(tmp_path, whole):
    interrupted(tmp_path, after=2)
    assert list(files(tmp_path)) == [UNFINISHED, "run-0000.hspy", "run-0001.hspy"]
    with pytest.raises(UsageError, match="isn't finished: go on with --resume, or start anew with --force"):
        record_data_set(USUAL, PLAN, tmp_path)
    assert resumed(tmp_path) == ["run-0002.hspy", "run-0003.hspy"]
    assert files(tmp_path) == whole


def test_what_a_kill_left_half_written_is_made_again_and_nothing_of_it_stays(tmp_path, whole):
    interrupted(tmp_path, after=2)
    with (tmp_path / UNFINISHED).open("a") as notes:
        notes.write('{"file": "run-0002.hspy", "se')  # the kill came within the line
    (tmp_path / ".run-0003.4711.unfinished").write_bytes(b"half")
    (tmp_path / ".mine.unfinished").write_bytes(b"somebody's own")
    assert resumed(tmp_path) == ["run-0002.hspy", "run-0003.hspy"]
    assert files(tmp_path) == whole | {".mine.unfinished": b"somebody's own"}


def test_resuming_makes_again_what_is_missing_or_differs(tmp_path, whole):
    record_data_set(USUAL, PLAN, tmp_path)
    (tmp_path / "run-0001.hspy").unlink()
    content = bytearray((tmp_path / "run-0003.hspy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "run-0003.hspy").write_bytes(content)
    assert resumed(tmp_path) == ["run-0001.hspy", "run-0003.hspy"]
    assert files(tmp_path) == whole
    assert resumed(tmp_path) == []


def test_resuming_adds_runs_to_a_data_set(tmp_path, whole):
    record_data_set(USUAL, PLAN[:2], tmp_path)
    assert resumed(tmp_path) == ["run-0002.hspy", "run-0003.hspy"]
    assert files(tmp_path) == whole


@pytest.mark.parametrize(
    "another",
    [
        Experiment("srtio3-300kV", preset_for_runs(dwell_s=0.2)),
        Experiment("srtio3-300kV", preset_for_runs(), changing_dose=True),
        Experiment("srtio3-300kV", preset_for_runs(fixed=True)),
    ],
)
def test_resuming_under_other_conditions_keeps_nothing(tmp_path, another):
    record_data_set(USUAL, PLAN[:1], tmp_path)
    assert resumed(tmp_path, another, PLAN[:1]) == ["run-0000.hspy"]


def test_resuming_with_other_frames_keeps_nothing(tmp_path):
    record_data_set(USUAL, PLAN[:1], tmp_path)
    assert resumed(tmp_path, plan=[PlannedRun("run-0000.hspy", 0, 4)]) == ["run-0000.hspy"]


def test_a_folder_has_no_manifest_while_its_runs_are_being_overwritten(tmp_path):
    record_data_set(USUAL, PLAN[:1], tmp_path)
    seen: list[bool] = []
    record_data_set(
        USUAL, PLAN[:1], tmp_path, existing="overwrite", done=lambda _: seen.append((tmp_path / MANIFEST).exists())
    )
    assert seen == [False]


def test_two_records_do_not_write_into_one_folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another record is writing into"):
            record(tmp_path, frames=2)
    finally:
        os.close(descriptor)
    record(tmp_path, frames=2)


# Wrong arguments


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dwell": float("nan")}, "the dwell ordered is nan"),
        ({"current": 1e9}, "above the limit of 500 pA"),
        ({"preset": "srtio4"}, "there is no preset 'srtio4'"),
        ({"resume": True, "force": True}, "--resume keeps what --force overwrites"),
        ({"paper": True, "runs": 2}, "--paper settles what --runs would"),
        ({"paper": True, "frames": 160}, "--paper settles what --frames would"),
        ({"paper": True, "programme": Programme.VARIED}, "--paper settles what --programme would"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_written(tmp_path, wrong, says):
    with pytest.raises(UsageError, match=says):
        record(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_can_not_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EelstmError, match="can't be made a folder"):
        record(tmp_path / "file", frames=3)


def test_somebody_elses_manifest_is_left_alone(tmp_path):
    (tmp_path / MANIFEST).write_text('{"name": "an app"}')
    with pytest.raises(UnusableInputError, match="is no manifest of a data set"):
        record(tmp_path, frames=3, force=True)
    assert files(tmp_path) == {MANIFEST: b'{"name": "an app"}'}


# What the docs say


DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_describes_every_key_of_the_manifest():
    page = (DOCS / "reference" / "data-set-manifest.md").read_text(encoding="utf-8")
    for model in (Manifest, RunEntry, ProgrammeStep):
        for key in model.model_fields:
            assert f"`{key}`" in page
    for key in drawn_values(load_preset("srtio3-300kV")):
        assert f"`{key}`" in page or (key.startswith("height of ") and "`height of …`" in page)


def test_the_page_on_how_runs_differ_has_the_limits_of_the_preset():
    page = (DOCS / "explanation" / "simulated-specimen.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for key, limit in load_preset("srtio3-300kV").variation.model_dump().items():
        said = re.fullmatch(r"(?:±|×/÷) ([0-9.]+)( %)?.*", rows[key])
        assert said, key
        assert float(said[1]) / (100 if said[2] else 1) == pytest.approx(limit), key
