"""Phase against dose: what is learnt from forecasts, how well the intervals hold, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plant import PhaseEstimate, UnusableSummaryError
from tests.summaries import HORIZONS, NOISE, REFERENCE_PC, Told, interval, summary

SPECIMENS = 60


def told(seed: int) -> Told:
    """A specimen out of those that the simulated microscope may hold: m from 1.1 to 2.6."""
    random = np.random.default_rng(seed + 1000)
    return Told(7500.0 * np.exp(random.uniform(-0.34, 0.34)), random.uniform(1.1, 2.6), seed)


def after(specimen: Told, doses) -> PhaseEstimate:
    estimate = PhaseEstimate()
    for dose_pC in doses:
        said = specimen.expose(dose_pC)
        if said is not None:
            estimate = estimate.with_summary(said)
    return estimate


@pytest.fixture(scope="module")
def errors():
    """Error over its standard deviation, by frames seen and reference doses ahead: {(frames, ahead): [z]}."""
    z: dict[tuple[int, int], list[float]] = {}
    for seed in range(SPECIMENS):
        specimen, estimate = told(seed), PhaseEstimate()
        for frame in range(1, 61):
            said = specimen.expose(REFERENCE_PC)
            estimate = estimate if said is None else estimate.with_summary(said)
            if frame in (12, 24, 36, 48, 60):
                for ahead in (0, 8, 24):
                    dose_pC = specimen.dose_pC + ahead * REFERENCE_PC
                    x, sd = estimate.phase_at(dose_pC)
                    z.setdefault((frame, ahead), []).append((x - specimen.truth(dose_pC)) / sd)
    return z


@pytest.mark.parametrize("ahead", [0, 8, 24])
def test_intervals_of_95_percent_hold_in_90_to_99_percent(errors, ahead):
    inside = np.abs(np.concatenate([z for (_, at), z in errors.items() if at == ahead])) < 1.96
    assert 0.90 <= inside.mean() <= 0.995


def test_intervals_hold_at_every_stage_of_the_transition(errors):
    worst = min(np.mean(np.abs(z) < 1.96) for z in errors.values())
    assert worst > 0.8  # of 60 specimens, 0.85 would be 4 standard deviations off


def test_short_frames_that_share_a_measured_step_count_by_their_dose():
    """As much dose in ten times as many frames says as much, and no more."""
    whole = after(told(3), [REFERENCE_PC] * 40)
    parts = after(told(3), [REFERENCE_PC / 10] * 400)
    (_, sd_of_whole), (_, sd_of_parts) = whole.phase_at(4000.0), parts.phase_at(4000.0)
    assert sd_of_parts == pytest.approx(sd_of_whole, rel=0.25)
    truth = told(3).truth(parts.dose_pC)
    assert abs(parts.phase_at(parts.dose_pC)[0] - truth) < 3 * parts.phase_at(parts.dose_pC)[1]


def test_each_forecast_counts_and_not_the_newest_alone():
    specimen = told(5)
    estimate = after(specimen, [REFERENCE_PC] * 40)
    x, sd = estimate.phase_at(specimen.dose_pC)
    assert sd < 0.6 * NOISE  # of one measurement
    assert abs(x - specimen.truth(specimen.dose_pC)) < 3 * sd
    further = estimate
    for _ in range(20):
        further = further.with_summary(specimen.expose(REFERENCE_PC))
    assert further.phase_at(specimen.dose_pC)[1] < 0.7 * estimate.phase_at(specimen.dose_pC)[1]


def test_what_calibration_leaves_open_does_not_average_out():
    estimate = PhaseEstimate()
    for k in range(60):
        estimate = estimate.with_summary(summary(k, REFERENCE_PC * (8 + k), 0.005 * k, fraction_scatter=0.05))
    assert estimate.phase_at(estimate.dose_pC)[1] > 0.05


def test_what_lies_further_ahead_is_less_certain():
    estimate = after(told(1), [REFERENCE_PC] * 20)
    sd = estimate.on(estimate.dose_pC + REFERENCE_PC * np.array([0, 8, 16, 32])).phase_sd
    assert (np.diff(sd) > 0).all()


def test_damage_that_has_begun_is_expected_to_speed_up():
    """JMAK of exponent 2 below its steepest point: a straight line through what was seen would be left behind."""
    specimen = Told(7500.0, 2.0, seed=2, noise=0.005)
    estimate = after(specimen, [REFERENCE_PC] * 25)
    now, ahead = estimate.dose_pC, estimate.dose_pC + 16 * REFERENCE_PC
    assert estimate.slope_at(ahead)[0] > 1.1 * estimate.slope_at(now)[0]
    assert estimate.phase_at(ahead)[0] == pytest.approx(specimen.truth(ahead), abs=0.04)


def test_a_specimen_to_which_nothing_happens_is_found_to_stay():
    estimate = after(Told(1e9, 2.0, seed=4), [REFERENCE_PC] * 60)
    x, sd = estimate.phase_at(estimate.dose_pC)
    assert abs(x) < 0.02 + 2 * sd
    assert estimate.slope_at(estimate.dose_pC)[0] * REFERENCE_PC < 2e-3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=12))
def test_phase_never_falls_with_dose_whatever_was_measured(measured):
    estimate = PhaseEstimate()
    for k, x in enumerate(measured):
        estimate = estimate.with_summary(summary(k, REFERENCE_PC * (8 + k), x))
    curve = estimate.curve(estimate.dose_pC + 64 * REFERENCE_PC)
    for column in (curve.phase, curve.phase_sd, curve.slope, curve.slope_sd):
        assert np.isfinite(column).all()
    assert (curve.slope >= 0).all()
    assert (np.diff(curve.phase) >= -1e-12).all()


def test_a_phase_that_nobody_calibrated_is_taken_from_the_session_s_start():
    """A model that reads 0.12 on this specimen when pristine: g = g0 + (1 − g0)·x."""
    specimen, estimate = Told(7500.0, 1.9, seed=6), PhaseEstimate()
    for frame in range(8, 48):
        dose_pC = frame * REFERENCE_PC
        read = [0.12 + 0.88 * specimen.truth(dose_pC + (h - 0.5) * REFERENCE_PC) for h in range(HORIZONS + 1)]
        read[0] += specimen.random.normal(0, NOISE)
        phases = tuple(interval(g, 0.03) for g in read[1:])
        said = summary(frame, dose_pC, 0.0, fraction_now=None, fraction=None, fraction_scatter=None,
                       phase_now=interval(read[0], NOISE), phase=phases)  # fmt: skip
        estimate = estimate.with_summary(said)
    x, sd = estimate.phase_at(dose_pC)
    assert abs(x - specimen.truth(dose_pC)) < 2 * sd < 0.1


def test_the_same_forecasts_give_the_same_estimate():
    one, other = after(told(7), [REFERENCE_PC] * 15), after(told(7), [REFERENCE_PC] * 15)
    assert one.phase_at(2000.0) == other.phase_at(2000.0)


ABSURD = {
    "no dose": (summary(9, None, 0.1), "at which dose"),
    "a dose of zero": (summary(9, 0.0, 0.1), "dose is 0"),
    "an older dose": (summary(9, 8 * REFERENCE_PC, 0.1), "known already"),
    "another model's reference dose": (summary(9, 900.0, 0.1, reference_dose_pC=50.0), "reference dose"),
    "a phase of 7": (summary(9, 900.0, 7.0), "between 0 and 1"),
    "a phase of 7 ahead": (summary(9, 900.0, 0.1, (0.1,) * 7 + (7.0,)), "8 ahead"),
    "a value outside its interval": (
        summary(9, 900.0, 0.1, fraction_now=interval(0.1, 0.01).model_copy(update={"low": 0.2})), "interval",
    ),
    "an interval from -9 to 9": (summary(9, 900.0, 0.1, fraction_now=interval(0.1, 5.0)), "interval"),
    "a phase that is not a number": (
        summary(9, 900.0, 0.1, fraction_now=interval(0.1, 0.01).model_copy(update={"value": float("nan")})), "not finite",
    ),
    "another scale": (summary(9, 900.0, 0.1, fraction_now=None, fraction=None), "another scale"),
    "a scatter of 100": (summary(9, 900.0, 0.1, fraction_scatter=100.0), "scatter"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ABSURD)
def test_an_absurd_forecast_is_refused_with_the_reason_and_changes_nothing(fault):
    said, reason = ABSURD[fault]
    estimate = PhaseEstimate().with_summary(summary(8, 8 * REFERENCE_PC, 0.01))
    before = replace(estimate)
    with pytest.raises(UnusableSummaryError, match=reason):
        estimate.with_summary(said)
    assert estimate == before


@pytest.mark.parametrize("dose_pC", [float("nan"), float("inf"), -1.0])
def test_a_dose_that_is_none_is_refused(dose_pC):
    with pytest.raises(UnusableSummaryError, match="dose"):
        PhaseEstimate().with_summary(summary(8, None, 0.1), dose_pC)


def test_before_the_first_forecast_nothing_is_said():
    with pytest.raises(ValueError, match="no forecast"):
        PhaseEstimate().phase_at(100.0)


def test_a_long_session_keeps_its_size():
    estimate = after(told(8), [REFERENCE_PC] * 400)
    assert estimate.bins is not None
    assert len(estimate.bins.dose_pC) <= 96
    assert estimate.phase_at(estimate.dose_pC)[0] > 0.99
