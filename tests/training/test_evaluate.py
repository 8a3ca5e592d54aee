"""`eelstm evaluate`: figures that a reader can check by hand, never on training data unawares, and a report that tells all."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.signal import detrend

from eelstm_stream.cli import run as run_command
from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.model_contract import ModelMetadata, TrainingEpoch, TrainingRun
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.core.stored_baselines import stored
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.model_file import open_model
from eelstm_stream.io.recordings import (
    Recording,
    counts_sha256,
    load_recording,
    recording_sha256,
    save_recording,
)
from eelstm_stream.training.assessment import Assessment, assess
from eelstm_stream.training.material import gather
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.report import page as report_page
from eelstm_stream.training.report.autocorrelation_figure import pearson_autocorrelation, without_line
from eelstm_stream.training.report.horizon_scan import scan_horizons
from eelstm_stream.training.report.page import render
from eelstm_stream.training.report.style import figure_of
from eelstm_stream.training.train import train_model
from eelstm_stream.wire.messages import EnergyAxis
from tests.model_files import metadata, write_model
from tests.paper_layout import write_dm
from tests.simulated_runs import simulated
from tests.training.tiny import tiny_recipe, tiny_recordings

FRAMES = 40
HORIZONS = (1, 8)


def recorded(seed: int, name: str, frames: int = FRAMES) -> Recording:
    return replace(simulated(frames, seed, critical_dose_pC=1_500.0), name=name)


def without_truth(recording: Recording, name: str) -> Recording:
    return replace(recording, name=name, simulated=False, clean_counts=None, phase=None)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """A model that forecasts the mean of its window, with baselines fitted to two runs, stopped by a third; two unseen runs."""
    folder = tmp_path_factory.mktemp("evaluate")
    runs = [recorded(seed, f"run-{seed}.hspy") for seed in range(5)]
    for recording in runs:
        save_recording(recording, folder / recording.name)
    recipe = Recipe(horizons=HORIZONS)
    material = gather(runs[:3], runs[3:], recipe)
    named = [TrainingRun(name=r.name, sha256=recording_sha256(r), counts_sha256=counts_sha256(r)) for r in runs]
    meta = metadata(
        alignment_reference=material.reference,
        phase_numerator=material.fitted.phase.numerator,
        phase_denominator=material.fitted.phase.denominator,
        horizons=HORIZONS,
        training_runs=tuple(named[:2]),
        validation_runs=(named[2],),
        training_curve=tuple(
            TrainingEpoch(epoch=n, training_rmse=300 / n, validation_rmse=280 / n + n) for n in range(1, 20)
        ),
        fitted_baselines=stored(fit_baselines(material.training_parts, 8, HORIZONS)),
    )
    model = write_model(folder / "mean.onnx", meta=meta)
    return SimpleNamespace(folder=folder, model=model, meta=meta, runs=runs, paths=[folder / r.name for r in runs])


@pytest.fixture(scope="module")
def assessment(made) -> Assessment:
    return assess(open_model(made.model), made.runs[3:])


@pytest.fixture(scope="module")
def page(assessment) -> str:
    return render(assessment)


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    code = run_command(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def figures_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = evaluated(capsys, *arguments, "--json")
    assert code == 0, err
    [line] = out.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


# --- figures --------------------------------------------------------------------------------------------------------


def by_hand(recording: Recording, meta: ModelMetadata, horizon: int) -> tuple[float, float]:
    """Errors of the mean of eight spectra against what came and against the truth, prepared spectrum by spectrum."""
    alignment = Alignment(
        meta.alignment_reference, meta.energy_axis, meta.alignment_range_eV, meta.alignment_max_shift_eV
    )
    preparation = Preparation(recording.energy_axis, meta.energy_axis, alignment)
    prepared = [preparation(counts, 1.0) for counts in recording.counts]
    frames = np.array([p.counts for p in prepared], dtype=np.float64)
    plain = Preparation(recording.energy_axis, meta.energy_axis, _Fixed(p.shift for p in prepared))
    truth = np.array([plain(counts, 1.0).counts for counts in recording.clean_counts], dtype=np.float64)
    noisy, clean = [], []
    for newest in range(7, len(frames) - max(HORIZONS)):
        forecast = frames[newest - 7 : newest + 1].mean(axis=0)
        noisy.append(np.mean((forecast - frames[newest + horizon]) ** 2))
        clean.append(np.mean((forecast - truth[newest + horizon]) ** 2))
    return float(np.sqrt(np.mean(noisy))), float(np.sqrt(np.mean(clean)))


class _Fixed:
    """In the place of an alignment: shifts that are known."""

    search_axis = EnergyAxis(offset_eV=440.0, dispersion_eV=0.1, size=10)

    def __init__(self, shifts: Iterator[Any]) -> None:
        self._shifts = iter(list(shifts))

    def shift_of(self, _: np.ndarray) -> Any:
        return next(self._shifts)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_errors_are_those_counted_by_hand(made, capsys, horizon):
    figures = figures_of(capsys, made.model, made.paths[3])
    [of] = [e for e in figures["per_horizon"] if e["horizon"] == horizon]
    rmse, rmse_clean = by_hand(made.runs[3], made.meta, horizon)
    assert of["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert of["rmse_clean"] == pytest.approx(rmse_clean, rel=1e-5)
    assert of["baselines"]["window_mean"] == pytest.approx(rmse, rel=1e-5)


def test_the_json_object_has_the_names_of_the_design_and_is_about_the_longest_horizon(made, capsys):
    figures = figures_of(capsys, made.model, *made.paths[3:])
    assert set(figures["baselines"]) == set(figures["baselines_clean"]) == set(made.meta.baselines)
    assert len(figures["baselines"]) == 9
    last = figures["per_horizon"][-1]
    assert [e["horizon"] for e in figures["per_horizon"]] == list(HORIZONS)
    for name in ("horizon", "rmse", "noise_floor", "baselines", "rmse_clean", "baselines_clean"):
        assert figures[name] == last[name]
    assert figures["over_noise_floor"] == pytest.approx(figures["rmse"] / figures["noise_floor"])
    assert figures["is_test"] is figures["simulated"] is figures["all_baselines"] is True
    assert figures["seconds"] > 0
    assert figures["report"] is None
    assert set(figures["metrics"]) == {"model", *made.meta.baselines}
    assert figures["metrics"]["model"]["mse"] == pytest.approx(figures["rmse"] ** 2)
    assert set(figures["metrics"]["model"]["peaks"]) == {"Ti L3", "Ti L2", "O K"}
    assert sum(stage["windows"] for stage in figures["stages"].values()) == 2 * (FRAMES - 15)
    best = min(figures["baselines"], key=figures["baselines"].__getitem__)
    assert figures["margin"]["baseline"] == best
    assert figures["margin"]["counts"] == pytest.approx(figures["baselines"][best] - figures["rmse"])
    assert figures["verdict"][0].startswith("Against noisy spectra it loses to PCA")
    assert [run["run"] for run in figures["runs"]] == ["run-3.hspy", "run-4.hspy"]
    squares = [run["per_horizon"][-1]["rmse"] ** 2 for run in figures["runs"]]
    assert figures["rmse"] ** 2 == pytest.approx(np.mean(squares))


def test_the_noise_floor_is_the_noise_that_the_simulation_put_in(made, assessment):
    for run in assessment.runs:
        actual = np.sqrt(np.mean((run.prepared.counts - run.prepared.clean_counts) ** 2))
        assert noise_floor(run.prepared.counts) == pytest.approx(actual, rel=0.06)


def test_without_a_truth_there_are_no_figures_against_it(made, capsys, tmp_path):
    save_recording(without_truth(made.runs[3], "real.hspy"), tmp_path / "real.hspy")
    figures = figures_of(capsys, made.model, tmp_path / "real.hspy")
    assert "rmse_clean" not in figures
    assert "baselines_clean" not in figures
    assert figures["simulated"] is False
    assert figures["remarks"] == ["real.hspy is a recording, and the model has seen simulated spectra only."]
    both = figures_of(capsys, made.model, tmp_path / "real.hspy", made.paths[4])
    assert "rmse_clean" not in both
    assert both["simulated"] is True


def test_an_older_model_is_held_against_what_needs_no_fit_and_says_so(made, capsys, tmp_path):
    old = write_model(tmp_path / "old.onnx", meta=made.meta.model_copy(update={"fitted_baselines": None}))
    figures = figures_of(capsys, old, made.paths[3])
    assert set(figures["baselines"]) == {"persistence", "window_mean", "linear_extrapolation"}
    assert figures["all_baselines"] is False
    assert "the strong ones are missing" in figures["verdict"][-1]
    assert not any("every baseline." in sentence for sentence in figures["verdict"])


def test_the_table_is_sorted_and_marks_model_best_baseline_and_floor(made, capsys):
    code, out, err = evaluated(capsys, made.model, made.paths[3])
    assert (code, err) == (0, "")
    assert "SIMULATED: mean-of-window on run-3.hspy: 25 windows, horizon 8" in out
    rows = [
        line.split()
        for line in out.splitlines()
        if re.match(r"  (mean-of|persist|Holt|PCA|dynamic|linear|mean of)", line)
    ]
    first = [float(next(cell for cell in row if re.fullmatch(r"\d+\.\d", cell))) for row in rows[:10]]
    assert first == sorted(first)
    assert out.count("best baseline\n") + out.count("best baseline ") >= 1
    assert re.search(r"mean-of-window .* this model", out)
    assert re.search(r"noise floor +\d", out)
    for said in (
        "By stage of the transition",
        "By horizon",
        "Against noisy spectra it loses to",
        "counts behind the best",
    ):
        assert said in out


# --- training data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "said"), [(0, "was trained on"), (1, "was trained on"), (2, "was chosen by, as a validation run")]
)
def test_a_run_that_made_the_model_is_refused(made, capsys, number, said):
    code, out, err = evaluated(capsys, made.model, made.paths[number])
    assert (code, out) == (2, "")
    assert err.startswith(f"eelstm: run-{number}.hspy is a run that the model {said}")
    assert "--allow-training-runs" in err


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "renamed.hspy"},
        {"beam_current_pA": None},
        {"beam_current_pA": np.full(FRAMES, 225.0)},
        {"dwell_s": np.full(FRAMES, 0.402)},
    ],
    ids=["renamed", "current unknown", "current from a flag", "dwell from a flag"],
)
def test_an_older_model_knows_it_again_under_another_name_and_other_flags(made, changes):
    """Whatever current and dwell it was trained under: the model's are tried."""
    trained_as = replace(made.runs[0], dwell_s=np.full(FRAMES, 0.4), beam_current_pA=np.full(FRAMES, 230.0))
    seen = TrainingRun(name="x", sha256=recording_sha256(trained_as))
    meta = made.meta.model_copy(update={"training_runs": (seen,), "validation_runs": ()})
    model = SimpleNamespace(metadata=meta)
    with pytest.raises(UsageError, match="was trained on"):
        assess(model, [replace(made.runs[0], **changes)])


def test_its_counts_alone_give_it_away(made):
    """Under another current than anybody thought of, and on another axis."""
    axis = EnergyAxis(offset_eV=423.7, dispersion_eV=0.1001, size=2048)
    disguised = replace(made.runs[0], name="new.hspy", beam_current_pA=np.full(FRAMES, 77.0), energy_axis=axis)
    with pytest.raises(UsageError, match=r"new\.hspy is a run that the model was trained on"):
        assess(open_model(made.model), [disguised])
    with pytest.raises(UsageError, match="the same recording as"):
        assess(open_model(made.model), [made.runs[3], replace(made.runs[3], beam_current_pA=None)])


def test_figures_on_training_runs_stand_where_no_one_takes_them_for_a_test(made, capsys, tmp_path):
    report = tmp_path / "r.html"
    arguments = (made.model, *made.paths[:2], "--allow-training-runs")
    figures = figures_of(capsys, *arguments, "--report", report)
    assert figures["is_test"] is False
    assert {"rmse", "baselines", "per_horizon", "metrics", "stages"}.isdisjoint(figures)
    assert figures["on_training_runs"]["rmse"] > 0
    assert "no test" in figures["verdict"][0]
    assert not any("beats" in sentence or "loses" in sentence for sentence in figures["verdict"])
    assert "On the model's own training data" in report.read_text()
    _, out, _ = evaluated(capsys, *arguments)
    assert "ON ITS OWN TRAINING DATA, no test" in out


def test_training_runs_are_not_averaged_with_others(made, capsys):
    code, _, err = evaluated(capsys, made.model, made.paths[3], made.paths[0], "--allow-training-runs")
    assert code == 2
    assert "evaluate them one after the other" in err


# --- bad input ------------------------------------------------------------------------------------------------------


def cut(recording: Recording, frames: int) -> Recording:
    return replace(
        recording,
        counts=recording.counts[:frames],
        clean_counts=recording.clean_counts[:frames],
        dwell_s=recording.dwell_s[:frames],
        beam_current_pA=recording.beam_current_pA[:frames],
        phase=recording.phase[:frames],
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: cut(r, 15), "has 15 frames, and a window of 8 with a horizon of 8 needs 16."),
        (
            lambda r: replace(r, energy_axis=EnergyAxis(offset_eV=700.0, dispersion_eV=0.1, size=2048)),
            "covers 700.0 to 904.7 eV at 0.1 eV, and the model needs 435.0 to 624.9 eV",
        ),
        (
            lambda r: replace(r, energy_axis=EnergyAxis(offset_eV=400.0, dispersion_eV=0.25, size=2048)),
            "has channels of 0.25 eV, and the model of 0.1 eV",
        ),
        (
            lambda r: replace(r, dwell_s=np.where(np.arange(FRAMES) == 7, 0.1, r.dwell_s)),
            "has a dwell of 0.1 s in frame 7, and the model holds for 0.4 s",
        ),
        (lambda r: replace(r, counts=np.repeat(r.counts[:1], FRAMES, axis=0)), "holds the same spectrum 40 times"),
        (lambda r: replace(r, counts=r.counts - 30_000), "below zero|without counts"),
    ],
    ids=["short", "far", "wide channels", "dwell", "frozen", "negative"],
)
def test_a_run_that_this_model_can_t_be_evaluated_on_is_refused_in_one_line(made, change, said):
    recording = change(made.runs[3])
    with pytest.raises(UnusableInputError, match=said) as refusal:
        assess(open_model(made.model), [recording])
    assert str(refusal.value).startswith("run-3.hspy ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{folder}/unpinned.onnx", "{run}"), 3, "no pinned hash"),
        (("{model}", "{folder}/image.dm4"), 3, "no signal with an energy axis in eV"),
        (("{model}", "{folder}/nothing.hspy"), 3, "does not exist"),
        (("{folder}/nothing.onnx", "{run}"), 3, "nothing.onnx"),
        (("{model}",), 2, "Missing argument"),
        (("{model}", "{run}", "--dwell", "0.1"), 3, "holds for 0.4 s"),
        (("{model}", "{run}", "--dwell", "nan"), 2, "--dwell"),
        (("{model}", "{run}", "{run}"), 2, "same recording"),
        (("{model}", "{run}", "--sha256", "0" * 64), 3, "the pinned one is 000000"),
        (("{model}", "{run}", "--report", "{folder}/there.html"), 2, "overwrite it with --force"),
        (("{model}", "{run}", "--report", "{folder}/report.pdf"), 2, "written as .html"),
        (("{model}", "{run}", "--report", "{folder}/nowhere/r.html"), 2, "no folder"),
    ],
)
def test_what_can_t_be_is_said_in_one_line(made, capsys, arguments, code, said):
    folder = made.folder
    if not (folder / "unpinned.onnx").exists():
        write_model(folder / "unpinned.onnx", pin=False)
        write_dm(folder / "image.dm4", frames=12, energy_unit="nm")
        (folder / "there.html").write_text("mine")
    places = {"folder": folder, "model": made.model, "run": made.paths[3]}
    found, out, err = evaluated(capsys, *(a.format(**places) for a in arguments))
    assert (found, out) == (code, ""), err
    [line] = err.splitlines()
    assert line.startswith("eelstm: ")
    assert said in line
    assert (folder / "there.html").read_text() == "mine"


def test_another_dose_or_other_channels_are_remarked_upon(made):
    model = open_model(made.model)
    weak = replace(made.runs[3], beam_current_pA=made.runs[3].beam_current_pA / 2)
    assert "another step" in assess(model, [weak]).remarks[0]
    unknown = replace(made.runs[3], beam_current_pA=None)
    assert "no beam current" in assess(model, [unknown]).remarks[0]
    wide = replace(made.runs[3], energy_axis=EnergyAxis(offset_eV=424.0, dispersion_eV=0.1002, size=2048))
    assert "was resampled" in assess(model, [wide], resample=True).remarks[0]


# --- report ---------------------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """What a page links to, shows and says."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def pictures(self) -> list[str]:
        return [str(a["src"]) for tag, a in self.tags if tag == "img"]


def test_the_report_is_one_file_that_fetches_and_runs_nothing(page):
    parsed = Parsed(page)
    assert {"script", "link", "iframe", "object", "a"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert len(parsed.pictures) == 8
    for source in parsed.pictures:
        kind, content = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content).decode()
        assert svg.lstrip().startswith("<?xml")
        assert "<script" not in svg
        linked = re.findall(r'href="([^"]*)"', svg)
        assert all(link.startswith(("#", "data:")) for link in linked)
    [policy] = [a["content"] for tag, a in parsed.tags if tag == "meta" and "content" in a and "http-equiv" in a]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_report_has_the_papers_figures_and_says_that_it_is_simulated(page, assessment):
    text = " ".join(Parsed(page).text)
    for said in (
        "SIMULATED data: nothing on this page was measured on a microscope",
        "Preprocessing",
        "Horizon scenarios",
        "Forecasts, early and late",
        "Autocorrelation",
        "Training curve",
        "Error by horizon",
        "Error by stage",
        "Phase",
        "White lines",
        "noise floor",
        "best baseline",
        *assessment.verdict,
    ):
        assert said in text, said


def test_the_same_assessment_gives_the_same_page(assessment, page):
    assert render(assessment) == page


def test_of_a_short_recording_and_an_older_model_there_is_a_report_too_and_a_name_is_no_markup(made, tmp_path):
    old = write_model(
        tmp_path / "old.onnx", meta=made.meta.model_copy(update={"fitted_baselines": None, "training_curve": ()})
    )
    evil = without_truth(cut(made.runs[3], 16), "<script>alert(1)</script> $x_1$ & [red].hspy")
    page = render(assess(open_model(old), [evil]))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $x_1$ &amp; [red].hspy" in page
    parsed = Parsed(page)
    assert len(parsed.pictures) == 7
    assert "The model file holds none." in " ".join(parsed.text)
    assert "The model was trained on SIMULATED spectra only" in page
    assert "nothing on this page was measured" not in page


def test_a_report_is_whole_under_its_name_and_needs_no_tensorflow(made, tmp_path):
    report = tmp_path / "r.html"
    report.write_text("old")
    arguments = ["evaluate", *map(str, (made.model, made.paths[3])), "--report", str(report), "--force", "--json"]
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf2onnx', 'onnx', 'optuna', 'hyperspy', 'exspy'): sys.modules[name] = None\n"
        "from eelstm_stream.cli import run\n"
        f"sys.exit(run({arguments!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"] == str(report)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert report.read_text().rstrip().endswith("</html>")


def test_of_runs_that_are_partly_simulated_page_and_pictures_say_which(made, monkeypatch):
    real = without_truth(made.runs[3], "real.hspy")
    mixed = assess(open_model(made.model), [real, made.runs[4]])
    heads = []
    for runs in (mixed.runs, mixed.runs[:1], mixed.runs[1:], []):
        with figure_of(mixed, runs, 3.0) as figure:
            heads.append(figure.texts[0].get_text())
    assert heads == [
        "partly SIMULATED data · real.hspy, run-4.hspy · model mean-of-window",
        "real.hspy · model mean-of-window · trained on SIMULATED spectra",
        "SIMULATED data · run-4.hspy · model mean-of-window",
        "model mean-of-window · trained on SIMULATED spectra",
    ]
    monkeypatch.setattr(report_page, "_pictures", lambda _: [])  # whose heads are those above
    assert "Some of these runs are SIMULATED: run-4.hspy" in " ".join(Parsed(render(mixed)).text)


def test_a_training_writes_the_report_of_its_test(tmp_path):
    *runs, test = tiny_recordings()
    report = tmp_path / "report.html"
    report.write_text("mine")

    def train(**options: Any) -> None:
        recipe = tiny_recipe("linear")
        train_model(runs, [test], tmp_path / "m.onnx", recipe=recipe, resample=True, report_to=report, **options)

    with pytest.raises(UsageError, match=r"report.html exists"):
        train()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    train(force=True)
    parsed = Parsed(report.read_text())
    assert "SIMULATED data" in " ".join(parsed.text)
    assert test.name in " ".join(parsed.text)
    assert open_model(tmp_path / "m.onnx").sha256 in " ".join(parsed.text)


# --- what is drawn --------------------------------------------------------------------------------------------------


def test_autocorrelation_is_pearsons():
    frames = np.cumsum(np.random.default_rng(0).normal(size=(50, 4)), axis=0)
    found = pearson_autocorrelation(frames, 9)
    for lag in range(1, 10):
        for channel in range(4):
            expected = np.corrcoef(frames[:-lag, channel], frames[lag:, channel])[0, 1]
            assert found[lag - 1, channel] == pytest.approx(expected)
    assert np.isnan(pearson_autocorrelation(np.ones((10, 1)), 2)).all()


def test_a_straight_line_is_taken_out_as_scipy_does():
    frames = np.random.default_rng(1).normal(size=(30, 5)) + np.arange(30)[:, None]
    np.testing.assert_allclose(without_line(frames), detrend(frames, axis=0), atol=1e-9)


def test_a_scan_of_horizons_agrees_with_the_evaluation_where_both_look(assessment):
    runs = [run.prepared for run in assessment.runs]
    scanned = scan_horizons(runs, assessment.metadata.baselines, 8, [1, 4, 8])
    for errors in assessment.evaluation.pooled:
        column = [1, 4, 8].index(errors.horizon)
        for name, rmse in errors.baselines.items():
            assert scanned[name].rmse[column] == pytest.approx(rmse, rel=1e-6)
            assert scanned[name].rmse_clean[column] == pytest.approx(errors.baselines_clean[name], rel=1e-6)


def test_runs_too_short_for_a_scan_are_left_out(assessment):
    assert scan_horizons([assessment.runs[0].prepared], assessment.metadata.baselines, 8, [FRAMES]) == {}


def test_the_file_that_was_loaded_is_the_run_that_was_assessed(made):
    loaded = assess(open_model(made.model), [load_recording(made.paths[3])])
    kept = assess(open_model(made.model), [made.runs[3]])
    assert loaded.evaluation.pooled == kept.evaluation.pooled
