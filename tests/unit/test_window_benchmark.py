"""What `eelstm bench window` measures is what it says: the same specimens, the dose that was aimed at, the truth without noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acquisition_sim.bench.flown import FINEST, fly
from acquisition_sim.bench.settings import NOMINAL, SETTINGS, Part, Setting
from acquisition_sim.bench.window import measure_window
from acquisition_sim.presets import load_preset
from acquisition_sim.variation import varied
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.model_file import open_model
from tests.model_files import metadata, write_model

PRESET = varied(load_preset("srtio3-300kV"), 7)
REFERENCE_DOSE_PC = 92.0
LONG = Setting("long", (Part(3, 0.4, 230), Part(0, 0.8, 230)))
SHORT = Setting("short", (Part(0, 0.08, 115),))


@pytest.mark.parametrize("setting", [NOMINAL, LONG, SHORT, SETTINGS[-1]])
def test_a_flight_gives_the_dose_that_was_asked_for(setting):
    frames = list(fly(PRESET, 7, setting, 6.0, REFERENCE_DOSE_PC))
    received_pC = 0.0
    for frame in frames:
        assert frame.dose_before_pC == pytest.approx(received_pC)
        received_pC += frame.dwell_s * frame.current_pA
    last = frames[-1].dwell_s * frames[-1].current_pA
    assert 6 * REFERENCE_DOSE_PC <= received_pC + 1e-6 < 6 * REFERENCE_DOSE_PC + last


def test_a_flight_changes_where_its_setting_says():
    frames = list(fly(PRESET, 7, LONG, 8.0, REFERENCE_DOSE_PC))
    dwells = [frame.dwell_s for frame in frames]
    changed = dwells.index(0.8)
    assert frames[changed].dose_before_pC == pytest.approx(3 * REFERENCE_DOSE_PC, abs=0.4 * frames[0].current_pA)
    assert (set(dwells[:changed]), set(dwells[changed:])) == ({0.4}, {0.8})


def test_the_parts_of_a_frame_are_what_the_whole_would_show_without_noise():
    for frame in fly(PRESET, 7, LONG, 8.0, REFERENCE_DOSE_PC):
        steps = frame.dwell_s * frame.current_pA / REFERENCE_DOSE_PC
        assert steps / len(frame.clean_parts) <= FINEST + 1e-9
        noise = frame.counts - np.sum(frame.clean_parts, axis=0)
        assert abs(noise.mean()) < 6 * noise.std() / np.sqrt(noise.size)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory):
    """Of a model that forecasts the mean of its window, which no window makes better than the specimen lets it."""
    model = open_model(write_model(tmp_path_factory.mktemp("model") / "mean.onnx"))
    return measure_window(1, model, (NOMINAL, SHORT, LONG), doses=26.0)


def test_it_says_what_it_measured(figures):
    assert [row["setting"] for row in figures["rows"]] == [NOMINAL.name, "short", "long"]
    assert figures["horizons"] == [1, 8]
    assert (figures["rows"][0]["worst_ratio"], figures["rows"][0]["worst_ratio_frames"]) == (1.0, 1.0)
    assert figures["worst_ratio"] == max(row["worst_ratio"] for row in figures["rows"])
    assert all(row["refused"] == 0 and row["forecasts"] > 5 for row in figures["rows"])


def test_on_dose_the_error_is_that_of_the_nominal_setting(figures):
    """On frames the mean of eight short ones is nearer in dose to what it aims at, and noisier."""
    nominal, short, long = figures["rows"]
    for row in (short, long):
        assert row["worst_ratio"] < 1.25
        assert row["rmse"][1] > row["rmse"][0]  # further ahead the specimen has changed more
    assert nominal["rmse"] == pytest.approx(nominal["rmse_frames"], rel=0.1)
    assert short["worst_ratio_frames"] > 1.5


def test_a_model_that_knows_no_current_can_not_be_measured(tmp_path: Path):
    meta = metadata(dose_is_relative=True, reference_dose_pC=0.4)
    model = open_model(write_model(tmp_path / "relative.onnx", meta=meta))
    with pytest.raises(UnusableInputError, match="no window on dose serves it"):
        measure_window(1, model, (NOMINAL,), doses=2.0)
