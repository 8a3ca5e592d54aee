"""Runs differ within their preset's limits, each by its own seed, and in nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition_sim import specimen
from acquisition_sim.presets import load_preset
from acquisition_sim.variation import NONE, Variation, drawn_values, varied

USUAL = load_preset("srtio3-300kV")
LIMITS = USUAL.variation
LINES = [f"height of {name}" for name in USUAL.specimen.spectrum.lines]
AS_WRITTEN = drawn_values(USUAL)

FACTORS = {
    "critical_dose_pC": LIMITS.critical_dose_factor,
    "mass_loss_dose_pC": LIMITS.mass_loss_dose_factor,
    "walk_eV_per_root_s": LIMITS.walk_factor,
    "jitter_eV": LIMITS.jitter_factor,
}
SHARES = {
    "thickness_mfp": LIMITS.thickness,
    "edge_strength": LIMITS.edge_strength,
    "current_pA": LIMITS.current,
    "variance_over_mean": LIMITS.variance_over_mean,
    **dict.fromkeys(LINES, LIMITS.line_height),
}
SUMS = {
    "jmak_exponent": LIMITS.jmak_exponent,
    "background_exponent": LIMITS.background_exponent,
    "calibration_eV": LIMITS.calibration_eV,
    "drift_eV_per_s": LIMITS.drift_eV_per_s,
}


def of_limit(values: dict) -> dict[str, np.ndarray]:
    """How far each quantity lies from what the preset says, as a share of its limit: −1 to 1."""
    away = {}
    for name, limit in FACTORS.items():
        away[name] = np.atleast_1d(np.log(np.divide(values[name], AS_WRITTEN[name])) / math.log(limit))
    for name, limit in SHARES.items():
        away[name] = np.atleast_1d((np.divide(values[name], AS_WRITTEN[name]) - 1) / limit)
    for name, limit in SUMS.items():
        away[name] = np.atleast_1d(np.subtract(values[name], AS_WRITTEN[name]) / limit)
    return away


@given(st.integers(0, 2**64 - 1))
def test_whatever_the_seed_all_stays_within_the_limits_and_follows_from_the_seed(seed):
    values = drawn_values(varied(USUAL, seed))
    for name, away in of_limit(values).items():
        assert (np.abs(away) < 1.001).all(), name  # drawn values are rounded to six digits
    assert values == drawn_values(varied(USUAL, seed))


def test_every_quantity_reaches_all_over_its_range_and_none_goes_along_with_another():
    runs = [of_limit(drawn_values(varied(USUAL, seed))) for seed in range(400)]
    table = np.array([np.concatenate(list(run.values())) for run in runs])
    assert table.shape[1] == len(FACTORS) + len(SHARES) - len(LINES) + len(SUMS) + 2 * len(LINES)
    assert (table.min(axis=0) < -0.95).all()
    assert (table.max(axis=0) > 0.95).all()
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=0.15)
    correlation = np.corrcoef(table.T) - np.eye(table.shape[1])
    assert np.abs(correlation).max() < 0.25


def test_what_is_drawn_is_all_that_differs():
    run = varied(USUAL, 5)
    assert run != USUAL
    assert set(AS_WRITTEN) == {*FACTORS, *SHARES, *SUMS, "background_counts_per_eV"}
    spectrum, kinetics = USUAL.specimen.spectrum, USUAL.specimen.kinetics
    parts = {
        "kinetics": kinetics.model_copy(
            update={
                name: getattr(run.specimen.kinetics, name)
                for name in ("critical_dose_pC", "jmak_exponent", "mass_loss_dose_pC")
            }
        ),
        "spectrum": spectrum.model_copy(
            update={
                **{
                    name: getattr(run.specimen.spectrum, name)
                    for name in ("thickness_mfp", "background_counts_per_eV", "background_exponent", "edge_strength")
                },
                "lines": {
                    name: line.model_copy(update={"height": run.specimen.spectrum.lines[name].height})
                    for name, line in spectrum.lines.items()
                },
            }
        ),
    }
    assert run.specimen == USUAL.specimen.model_copy(update=parts)
    assert run.beam == USUAL.beam.model_copy(update={"current_pA": run.beam.current_pA})
    assert run.detector.model_copy(update={"variance_over_mean": 4.6}) == USUAL.detector
    assert (run.energy_axis, run.high_tension.limit_eV) == (USUAL.energy_axis, USUAL.high_tension.limit_eV)


def test_a_limit_that_is_changed_changes_no_other_draw():
    without = USUAL.model_copy(update={"variation": LIMITS.model_copy(update={"jmak_exponent": 0.0})})
    before, after = (drawn_values(varied(preset, 7)) for preset in (USUAL, without))
    assert {name for name in before if before[name] != after[name]} == {"jmak_exponent"}
    assert after["jmak_exponent"] == AS_WRITTEN["jmak_exponent"]


def test_without_variation_nothing_differs():
    fixed = USUAL.model_copy(update={"variation": NONE})
    assert varied(fixed, 3) == fixed
    assert Variation() == NONE


def test_a_thicker_specimen_gives_as_much_more_as_its_thickness_says():
    thick = USUAL.model_copy(update={"variation": Variation(thickness=0.15)})
    for seed in range(5):
        spectrum = varied(thick, seed).specimen.spectrum
        written = USUAL.specimen.spectrum
        brighter = spectrum.background_counts_per_eV / written.background_counts_per_eV
        expected = specimen.intensity(spectrum.thickness_mfp) / specimen.intensity(written.thickness_mfp)
        assert brighter == pytest.approx(expected, rel=1e-5)
        assert (brighter > 1) == (spectrum.thickness_mfp > written.thickness_mfp)


def test_what_never_happens_still_never_does():
    stable = varied(load_preset("stable"), 1).specimen.kinetics
    assert (stable.critical_dose_pC, stable.mass_loss_dose_pC) == (math.inf, math.inf)


def test_drawn_numbers_have_six_digits_at_most():
    values = drawn_values(varied(USUAL, 11))
    for value in np.concatenate([np.atleast_1d(value) for value in values.values()]):
        assert float(f"{value:.6g}") == value
