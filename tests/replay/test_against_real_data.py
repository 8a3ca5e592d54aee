"""Pristine SrTiO3 and the camera's noise, held against real files. Measured by the functions that print the docs' tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "images" / "simulated_specimen.py"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated_specimen", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pristine(real_data, comparison):
    """Measures of the real spectrum and of the simulated one."""
    real = comparison.pristine_measures(*comparison.real_pristine(real_data))
    return real, comparison.pristine_measures(*comparison.simulated_pristine())


def test_the_calibration_of_the_real_file_is_the_one_known_to_be_needed(real_data, comparison):
    energies, _ = comparison.real_pristine(real_data)
    assert energies[0] - 350.0 == pytest.approx(0, abs=2)
    assert (energies[-1] - energies[0]) / (2047 * 0.25) == pytest.approx(1.035, abs=0.015)


def test_white_lines_stand_where_the_real_ones_do(pristine):
    real, simulated = pristine
    for name, energy_eV in real.positions_eV.items():
        assert simulated.positions_eV[name] == pytest.approx(energy_eV, abs=0.5), name
    assert simulated.onset_eV == pytest.approx(real.onset_eV, abs=0.5)


def test_the_multiplet_and_the_oxygen_edge_have_the_real_proportions(pristine):
    real, simulated = pristine
    for name, ratio in real.ratios.items():
        assert simulated.ratios[name] == pytest.approx(ratio, rel=0.15), name


def test_the_camera_of_the_line_scan_is_as_noisy_as_the_real_one(real_data, comparison):
    scan = comparison.real_line_scan(real_data)
    real, simulated = comparison.mean_noise(scan), comparison.mean_noise(comparison.simulated_line_scan(scan))
    assert simulated.variance_over_mean == pytest.approx(real.variance_over_mean, rel=0.15)
    for theirs, ours in zip(real.correlation, simulated.correlation, strict=True):
        assert ours == pytest.approx(theirs, rel=0.15)
