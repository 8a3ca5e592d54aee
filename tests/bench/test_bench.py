"""`eelstm bench`: each benchmark prints its figures. How good they are is for the machine that they are taken on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_files import write_model
from tests.programs import run


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx")


def test_latency(model_file: Path) -> None:
    done = run("bench", "latency", "--rate", "100", "--seconds", "1", "--model", model_file, "--json")
    assert (done.code, done.left_behind) == (0, [])
    figures = done.figures()
    assert set(figures) >= {"p50_ms", "p99_ms", "infer_p50_ms", "spectra", "missed"}
    assert (figures["spectra"], figures["forecasts"], figures["missed"]) == (
        100,
        92,
        0,
    )  # its frames are short of the reference dose: 9 fill a window of 8
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["infer_p50_ms"] > 0


def test_throughput(model_file: Path) -> None:
    done = run("bench", "throughput", "--spectra", "300", "--model", model_file, "--json")
    assert (done.code, done.left_behind) == (0, [])
    figures = done.figures()
    assert set(figures) >= {"spectra_per_s", "raw_windows_per_s", "missed"}
    assert (figures["spectra"], figures["forecasts"], figures["missed"]) == (300, 292, 0)
    assert figures["spectra_per_s"] > 0
    assert figures["raw_windows_per_s"] > 0


def test_startup(model_file: Path) -> None:
    done = run("bench", "startup", "--runs", "1", "--model", model_file)
    assert (done.code, done.left_behind) == (0, [])
    figures = dict(line.split() for line in done.out.splitlines())  # without --json it is a table
    assert figures["runs"] == "1"
    assert 0 < float(figures["help_p50_s"]) <= float(figures["help_max_s"])
    assert 0 < float(figures["serve_ready_p50_s"]) <= float(figures["serve_ready_max_s"])


def test_preparation(model_file: Path) -> None:
    done = run("bench", "preparation", "--spectra", "20", "--model", model_file, "--json")
    assert (done.code, done.left_behind) == (0, [])
    figures = done.figures()
    assert (figures["channels"], figures["prepared_channels"], figures["spectra"]) == (2048, 1900, 20)
    timed = {name.removesuffix("_p50_ms") for name in figures if name.endswith("_p50_ms")}
    assert timed >= {"preparation", "dose_normalisation", "spike_removal", "alignment", "crop", "background", "scaling"}
    assert all(0 < figures[f"{name}_p50_ms"] <= figures[f"{name}_p99_ms"] for name in timed)


def test_instrument() -> None:
    done = run("bench", "instrument", "--seconds", "2", "--timing-seconds", "1", "--rate", "50", "--json")
    assert (done.code, done.left_behind) == (0, []), done.err
    figures = done.figures()
    assert set(figures) >= {
        "max_spectra_per_s",
        "spectra_per_cpu_s",
        "steady_missed",
        "late_p50_ms",
        "late_p99_ms",
        "drift_ms",
    }
    assert figures["max_spectra_per_s"] > 0
    assert figures["steady_spectra"] > 0
    assert figures["timed_spectra"] >= 10
    assert 0 < figures["late_p50_ms"] <= figures["late_p99_ms"] <= figures["late_max_ms"]
