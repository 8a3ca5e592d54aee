"""`eelstm sim record` writes runs that can be read, and overwrites none by accident."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition_sim.record import record
from acquisition_sim.series import simulate_series
from eelstm_stream.errors import UsageError
from eelstm_stream.io.recordings import load_recording


def test_runs_are_numbered_by_their_seed_and_hold_the_truth(tmp_path, capsys):
    record(tmp_path / "runs", runs=2, frames=5, seed=41)
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["run-041.hspy", "run-042.hspy"]
    run, wanted = load_recording(tmp_path / "runs/run-042.hspy"), simulate_series(5, seed=42)
    np.testing.assert_array_equal(run.counts, wanted.counts)
    np.testing.assert_array_equal(run.clean_counts, wanted.clean_counts)
    np.testing.assert_array_equal(run.phase, wanted.phase)
    assert run.energy_axis == wanted.energy_axis
    assert run.simulated


def test_what_is_there_stays_unless_forced(tmp_path):
    record(tmp_path, runs=1, frames=3, seed=2)
    before = (tmp_path / "run-002.hspy").read_bytes()
    with pytest.raises(UsageError, match=r"run-002\.hspy exists.*--force"):
        record(tmp_path, runs=3, frames=4, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["run-002.hspy"]
    assert (tmp_path / "run-002.hspy").read_bytes() == before
    record(tmp_path, runs=1, frames=4, seed=2, force=True)
    assert len(load_recording(tmp_path / "run-002.hspy").counts) == 4


def test_wrong_arguments_are_said(tmp_path):
    with pytest.raises(UsageError, match="positive and finite"):
        record(tmp_path, frames=3, dwell=float("nan"))
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="can't be made a folder"):
        record(tmp_path / "file", frames=3)
