"""The paper's tables and figures again: what each trap does, what is kept of a run that is broken off, and what is said."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.figshare import PAPER_FILES
from eelstm_stream.io.recordings import Recording, save_recording
from eelstm_stream.training.reproduction.cells import FamilyCell, RowCell, planned
from eelstm_stream.training.reproduction.protocols import (
    HONEST,
    NOTEBOOK,
    PROTOCOLS,
    TEST,
    Split,
    fitted_on,
    split,
)
from eelstm_stream.training.reproduction.run import Options, reproduce_paper
from eelstm_stream.training.reproduction.sources import found_in, in_cache, recorded
from eelstm_stream.training.reproduction.store import CELLS, CONFIGURATION
from eelstm_stream.training.reproduction.summary import Summary, measured, spread
from eelstm_stream.training.reproduction.terminal import print_summary
from eelstm_stream.training.reproduction.train_cell import Result, train_cell
from eelstm_stream.training.reproduction.written import PAGE, write_summary
from eelstm_stream.wire.messages import EnergyAxis
from tests.programs import marked, marked_environment, run, wait_until_gone, watched
from tests.simulated_runs import simulated
from tests.training.tiny_reproduction import tiny_settings, write_tiny_runs

SHUFFLED, LATE, ON_TEST = "shuffled", "one step late", "fitted on the test run"
LENGTH = 16  # of a window of 8 and a horizon of 8


# What the traps are


def frames_of(parts: Split, part: str) -> set[tuple[int, int]]:
    """Run and number of every frame."""
    return {(s.run, frame) for s in getattr(parts, part) for frame in range(s.first, s.last)}


@given(st.tuples(*[st.integers(51, 200)] * 3), st.integers(0, 100))
def test_the_honest_way_shares_no_frame_between_training_validation_and_test(
    lengths: tuple[int, int, int], seed: int
) -> None:
    parts = split(lengths, LENGTH, PROTOCOLS[HONEST], seed)
    training, validation, test = (frames_of(parts, part) for part in ("training", "validation", "test"))
    assert not training & validation
    assert not (training | validation) & test
    assert test == {(TEST, frame) for frame in range(lengths[TEST])}
    assert any(s.last - s.first >= LENGTH for s in parts.training)
    assert any(s.last - s.first >= LENGTH for s in parts.validation)


@given(st.tuples(*[st.integers(51, 200)] * 3), st.integers(0, 100))
def test_shuffled_windows_are_all_dealt_out_once_and_share_frames(lengths: tuple[int, int, int], seed: int) -> None:
    parts = split(lengths, LENGTH, PROTOCOLS[SHUFFLED], seed)
    dealt = [*parts.training, *parts.validation, *parts.test]
    assert len(set(dealt)) == len(dealt) == sum(frames - LENGTH + 1 for frames in lengths)
    tested, trained = frames_of(parts, "test"), frames_of(parts, "training")
    assert len(tested & trained) > 0.9 * len(tested)


def test_runs_too_short_to_be_divided_are_given_whole_to_one_use() -> None:
    parts = split((40, 53, 53), LENGTH, PROTOCOLS[HONEST], 0)
    assert [(s.run, s.first, s.last) for s in parts.training] == [(1, 0, 53)]
    assert [(s.run, s.first, s.last) for s in parts.validation] == [(0, 0, 40)]


def test_what_is_fitted_is_fitted_on_training_runs_but_for_the_trap() -> None:
    assert {name: fitted_on(protocol) for name, protocol in PROTOCOLS.items()} == {
        HONEST: (0, 1),
        SHUFFLED: (0, 1),
        LATE: (0, 1),
        ON_TEST: (2,),
        NOTEBOOK: (2,),
    }


def rising(frames: int, slope: float, seed: int) -> Recording:
    """A run whose counts rise by `slope` with every frame, in every channel, but for some noise."""
    like = simulated(frames, seed)
    course = np.arange(frames)[:, np.newaxis] * slope
    noise = np.random.default_rng(seed).normal(0, 0.01 * slope, like.counts.shape)
    return replace(like, counts=(9_000 + course + noise).astype(np.float32), clean_counts=None, phase=None)


@pytest.mark.parametrize(
    ("protocol", "horizon", "steps"),
    [(HONEST, 8, 8), (LATE, 8, 9), (HONEST, 1, 1), (NOTEBOOK, 8, 9)],
)
def test_a_horizon_of_8_is_the_eighth_spectrum_and_in_the_notebook_the_ninth(
    protocol: str, horizon: int, steps: int
) -> None:
    slope = 100.0
    runs = [rising(frames, slope, seed) for seed, frames in enumerate((52, 52, 52))]
    cell = RowCell("raw", protocol, 8, horizon, 0)
    result = train_cell(cell, runs, tiny_settings(epochs=1), lambda _: None)
    # Persistence is behind by exactly the steps that it is asked to look ahead.
    assert result.baselines["persistence"] / slope == pytest.approx(steps, rel=0.01)


# A whole reproduction, small


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Path, Path]:
    """Its summary, its folder, and that of its runs."""
    folder = tmp_path_factory.mktemp("reproduction")
    runs, output = write_tiny_runs(folder / "runs"), folder / "output"
    summary = reproduce_paper(Options(runs, output, seeds=1), tiny_settings())
    write_summary(summary, output)
    return summary, output, runs


def trap(summary: Summary, name: str) -> float:
    return next(row.measured.rmse.mean for row in summary.traps if row.trap == PROTOCOLS[name].title)


@pytest.mark.slow
def test_shuffling_windows_makes_forecasts_look_better_than_they_are(reproduced) -> None:
    summary, _, _ = reproduced
    assert trap(summary, SHUFFLED) < 0.9 * trap(summary, HONEST)
    assert trap(summary, NOTEBOOK) < 0.9 * trap(summary, HONEST)
    assert all(row.notebook.rmse.mean < row.honest.rmse.mean for row in summary.table_i)


@pytest.mark.slow
def test_every_number_stands_beside_its_noise_floor_and_its_best_baseline(reproduced) -> None:
    summary, output, _ = reproduced
    results = {r["key"]: r for r in map(json.loads, (output / CELLS).read_text().splitlines())}
    assert [row.row for row in summary.table_i] == [
        *("raw", "scaling", "alignment", "exclusive bins", "rolling bins", "background subtraction")
    ]
    for row in summary.table_i:
        cell = results[RowCell(row.row, HONEST, 8, 8, 0).key]
        assert row.honest.rmse.mean == cell["rmse"]
        assert row.honest.noise_floor == cell["noise_floor"]
        assert row.honest.best_baseline_rmse == min(cell["baselines"].values())
    windows = {row.row: (row.honest.windows, row.notebook.windows) for row in summary.table_i}
    assert windows["exclusive bins"][0] < windows["alignment"][0] / 3
    assert windows["alignment"][0] < windows["alignment"][1]  # shuffling leaves more to train on
    binned = {row.row: row.honest.noise_floor for row in summary.table_i}
    assert binned["rolling bins"] < 0.7 * binned["alignment"]
    assert [(s.window, s.horizon) for s in summary.scenarios] == [(8, 1), (3, 8), (8, 8)]
    assert [row.paper_rmse for row in summary.figure_4] == [216.7, 181.4]


@pytest.mark.slow
def test_each_family_stands_among_all_baselines_and_the_truth(reproduced) -> None:
    summary, _, _ = reproduced
    for table in summary.worth.families:
        assert {line.name for line in table.forecasters if line.kind == "family"} == {table.family}
        assert len(table.forecasters) == 10
        for line in table.forecasters:
            assert line.rmse_clean is not None
            # Noise adds to what is off the truth, as squares do.
            assert line.rmse.mean**2 == pytest.approx(line.rmse_clean.mean**2 + table.noise_floor**2, rel=0.1)


@pytest.mark.slow
def test_everything_says_that_the_runs_are_simulated(reproduced, capsys: pytest.CaptureFixture[str]) -> None:
    summary, output, _ = reproduced
    html = (output / PAGE).read_text()
    tables, captions = html.count("<table"), re.findall(r"<caption>(.*?)</caption>", html)
    assert len(captions) == tables
    assert all(caption.startswith("SIMULATED") for caption in captions)
    pictures = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(pictures) == html.count("<img") == 4
    assert all(caption.startswith("SIMULATED") for caption in pictures)
    assert json.loads((output / "reproduction.json").read_text())["simulated"] is True
    print_summary(summary)
    titles = [
        line
        for line in capsys.readouterr().out.splitlines()
        if re.search("Table I:|Figure [34]:|trap is|worth it", line)
    ]
    assert len(titles) == 6
    assert all(title.startswith("SIMULATED") for title in titles)


@pytest.mark.slow
def test_the_page_needs_nothing_from_elsewhere(reproduced) -> None:
    _, output, _ = reproduced
    html = (output / PAGE).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    assert "<script" not in html


@pytest.mark.slow
def test_recordings_are_not_called_simulated(reproduced, capsys: pytest.CaptureFixture[str]) -> None:
    summary, output, _ = reproduced
    folder = output.parent / "as recorded"
    write_summary_of = summary.model_copy(update={"simulated": False, "origin": "Recorded."})
    folder.mkdir()
    write_summary(write_summary_of, folder)
    print_summary(write_summary_of)
    assert "SIMULATED" not in (folder / PAGE).read_text()
    assert "SIMULATED" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_says_the_same(reproduced) -> None:
    summary, output, runs = reproduced
    before = (output / CELLS).read_bytes()
    again = reproduce_paper(Options(runs, output, seeds=1), tiny_settings())
    assert again == summary
    assert (output / CELLS).read_bytes() == before


@pytest.mark.slow
def test_another_configuration_is_refused_and_the_difference_named(reproduced, tmp_path: Path) -> None:
    _, output, runs = reproduced
    with pytest.raises(UsageError, match=r"epochs was 2 and is 3; .*--force"):
        reproduce_paper(Options(runs, output, seeds=1), tiny_settings(epochs=3))
    with pytest.raises(UsageError, match=r"recipes\.paper\.dropout was 0\.2 and is 0\.1"):
        reproduce_paper(Options(runs, output, seeds=1), tiny_settings(dropout=0.1))
    others = write_tiny_runs(tmp_path / "others", seed=1)
    with pytest.raises(UsageError, match=r"runs\.run-0\.hspy was \w{16} and is \w{16}"):
        reproduce_paper(Options(others, output, seeds=1), tiny_settings())


# Broken off


@contextmanager
def tiny_program(runs: Path, output: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """It while it runs, and its mark; gone afterwards, and so are the processes that it trained in."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "tests.training.tiny_reproduction", str(runs), str(output)],
        stderr=subprocess.PIPE,
        text=True,
        env=marked_environment(mark),
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield process, mark
        finally:
            process.kill()


def heard(process: subprocess.Popen[str], pattern: str) -> str:
    """The first line on its stderr that has this."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"it ended without saying {pattern}")


@pytest.mark.slow
def test_what_is_done_before_a_kill_is_not_done_again(tmp_path: Path) -> None:
    runs, output = write_tiny_runs(tmp_path / "runs"), tmp_path / "output"
    with tiny_program(runs, output) as (process, mark):
        heard(process, r"^1/21 ")
        with watched(set(marked(mark))) as everybody:
            process.kill()
            wait_until_gone(everybody)
    kept = (output / CELLS).read_bytes()
    assert kept.count(b"\n") == 1
    with (output / CELLS).open("ab") as file:  # what a kill in the middle of writing would leave
        file.write(b'{"key": "row|raw')
    with tiny_program(runs, output) as (process, mark):
        heard(process, "21 trainings, 1 of them done before")
        heard(process, r"^2/21 ")
        with watched(set(marked(mark))) as everybody:
            process.send_signal(signal.SIGINT)
            heard(process, "stopped after 2 of 21 trainings; the same command goes on")
            wait_until_gone(everybody)
    lines = (output / CELLS).read_bytes()
    assert lines.startswith(kept)
    first, second = (Result.model_validate_json(line) for line in lines.splitlines())
    assert first.key != second.key
    assert not list(output.glob("reproduction.*"))


def test_two_reproductions_do_not_share_a_folder(tmp_path: Path) -> None:
    from eelstm_stream.training.reproduction.store import lock_folder

    lock_folder(tmp_path / "output")
    with pytest.raises(UsageError, match="another reproduction is writing"):
        lock_folder(tmp_path / "output")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    runs = write_tiny_runs(tmp_path / "runs")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex, and no reproduction"):
        reproduce_paper(Options(runs, tmp_path / "output", force=True), tiny_settings())
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["thesis.tex"]


# Where runs come from


def test_the_papers_files_are_taken_by_their_names(tmp_path: Path) -> None:
    for name in (*PAPER_FILES, "another.dm4"):
        (tmp_path / name).touch()
    assert [path.name for path in found_in(tmp_path)] == list(PAPER_FILES)


@pytest.mark.parametrize(("files", "held"), [([], "no recording"), (["a.hspy", "b.dm4"], "2 recordings")])
def test_a_folder_without_three_recordings_is_refused(tmp_path: Path, files: list[str], held: str) -> None:
    for name in (*files, "manifest.json", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"{held}, and three are needed"):
        found_in(tmp_path)


def test_fetched_files_are_found_in_the_cache_once_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eelstm_stream.io.fetching import article_folder
    from eelstm_stream.io.figshare import PAPER_ARTICLE, article_of

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = article_folder(article_of(PAPER_ARTICLE))
    assert folder.is_relative_to(tmp_path)
    folder.mkdir(parents=True)
    for name in PAPER_FILES:
        assert in_cache() is None
        (folder / name).touch()
    assert in_cache() == tuple(folder / name for name in PAPER_FILES)


@pytest.mark.slow
def test_runs_of_the_papers_shapes_are_simulated_once(tmp_path: Path) -> None:
    [first] = recorded(tmp_path, 1)
    stamps = [path.stat().st_mtime_ns for path in first]
    both = recorded(tmp_path, 2)
    assert [path.stat().st_mtime_ns for path in both[0]] == stamps
    assert all("(simulated)" in path.name for triple in both for path in triple)
    assert both[0][0].read_bytes() != both[1][0].read_bytes()


def test_runs_too_short_for_binned_windows_are_refused_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for number in range(3):
        save_recording(simulated(50, number), folder / f"run-{number}.hspy")
    with pytest.raises(UnusableInputError, match=r"run-0\.hspy has 50 frames, .*takes 51"):
        reproduce_paper(Options(folder, tmp_path / "output"), tiny_settings())
    assert not (tmp_path / "output" / CONFIGURATION).exists()


# What is planned, and how it is put together


def test_the_first_seed_of_everything_comes_first() -> None:
    cells = planned(3, 5, 5)
    rows = [cell for cell in cells if isinstance(cell, RowCell)]
    families = [cell for cell in cells if isinstance(cell, FamilyCell)]
    assert len({cell.key for cell in cells}) == len(cells) == 3 * 19 + 5 * 2
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert {cell.triple for cell in rows} == {0}
    assert {(cell.seed, cell.triple) for cell in families} == {(seed, seed) for seed in range(5)}
    assert {cell.triple for cell in planned(1, 3, 1)} == {0}


def test_spread_is_over_trainings() -> None:
    assert spread([1.0, 3.0]).model_dump() == {"mean": 2.0, "sd": pytest.approx(2**0.5), "trainings": 2}
    assert spread([1.0]).sd is None
    assert str(spread([200.0, 210.0])) == "205.0 ± 7.1"


def test_the_best_baseline_is_best_over_all_seeds() -> None:
    found = measured(
        [
            Result(key="a", rmse=1, noise_floor=100, baselines={"holt": 150, "dmd": 140}),
            Result(key="b", rmse=3, noise_floor=120, baselines={"holt": 150, "dmd": 180}),
        ]
    )
    assert (found.best_baseline, found.best_baseline_rmse, found.noise_floor) == ("holt", 150, 110)


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (150.0, "corrected beats the best baseline, Holt: 150.0 counts against 160.0, ahead in 2 of 2 seeds."),
        (170.0, "corrected does not beat the best baseline, Holt: 170.0 counts against 160.0, ahead in 0 of 2 seeds."),
    ],
)
def test_the_verdict_is_in_plain_words(ours: float, said: str) -> None:
    from eelstm_stream.training.reproduction.summary import _family_table

    results = [
        Result(key=str(seed), rmse=ours, noise_floor=100, baselines={"holt": 160, "dmd": 190}) for seed in range(2)
    ]
    table = _family_table("corrected", results, (439.0, 464.0))
    assert table.verdict == [f"{said} Over the noise floor that is {ours / 100:.3f} against 1.600."]


def test_the_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    for arguments, code, said in (
        (["reproduce", tmp_path / "nowhere"], 2, "is no folder"),
        (["reproduce", tmp_path], 2, "holds no recording"),
        (["reproduce", "--seeds", "0"], 2, "greater than or equal to 1"),
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(("row", "in_bin"), [("scaling", 1), ("exclusive bins", 3), ("rolling bins", 3)])
def test_what_is_held_out_to_stop_by_shares_no_recorded_frame_with_what_is_fitted(row: str, in_bin: int) -> None:
    from eelstm_stream.training.reproduction.train_cell import _recorded

    frames = 90
    numbers = np.arange(frames, dtype=np.float32)[:, np.newaxis]
    runs = [replace(simulated(frames, seed), clean_counts=None, phase=None) for seed in range(3)]
    axis = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1)
    runs = [replace(run, counts=numbers + 1000 * n, energy_axis=axis) for n, run in enumerate(runs)]
    every = 3 if row == "exclusive bins" else 1
    length = (frames - in_bin) // every + 1
    apart = 2 if row == "rolling bins" else 0
    parts = split([length] * 3, 8, PROTOCOLS[HONEST], seed=0, apart=apart)
    fitted, held_out = (
        set(np.concatenate(_recorded(runs, segments, [length] * 3, in_bin))[:, 0])
        for segments in (parts.training, parts.validation)
    )
    assert len(fitted) > len(held_out) > 0
    assert not fitted & held_out
    assert all(frame < 2000 for frame in fitted | held_out)  # none of the third run, which is tested on
