"""The strategies that only decide when to stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acquisition_sim.closed_loop.constant_rate import ConstantRate
from acquisition_sim.closed_loop.scoring import OVERSHOOT, TUNED_SHARE, scored
from acquisition_sim.closed_loop.specimens import Specimen, reported_specimens
from acquisition_sim.closed_loop.stopping import (
    Threshold,
    fixed_score,
    oracle_doses,
    reactive_score,
    tuned_fixed_dose,
    tuned_threshold,
)

CEILING = 0.3
SPECIMENS = reported_specimens(40, 0)


def measured(specimen: Specimen, noise: float = 0.0) -> ConstantRate:
    """A flight whose phases are measured with so much noise."""
    frames = int(1.25 * specimen.dose_at(CEILING) / specimen.frame_dose_pC)
    random = np.random.default_rng(specimen.seed)
    phase = specimen.phase_at(specimen.frame_dose_pC * (np.arange(frames) + 0.5)) + noise * random.normal(size=frames)
    phase[:8] = np.nan  # the window fills
    return ConstantRate(specimen, phase)


@pytest.mark.parametrize("latency", [0, 8, 32])
def test_the_oracle_ends_at_the_ceiling(latency: int) -> None:
    score = scored(SPECIMENS, oracle_doses(SPECIMENS, CEILING, latency), [0.0] * len(SPECIMENS), CEILING)
    assert score.utilisation == pytest.approx(1.0)
    assert score.overshoot == pytest.approx(0.0, abs=1e-9)


def test_the_oracle_cant_order_before_it_starts() -> None:
    latency = 100  # frames: more than any of these specimens bears
    (dose_pC,) = oracle_doses(SPECIMENS[:1], CEILING, latency)
    assert dose_pC == pytest.approx(latency * SPECIMENS[0].frame_dose_pC)


def test_the_fixed_dose_is_the_largest_that_keeps_to_the_overshoot() -> None:
    dose_pC = tuned_fixed_dose(SPECIMENS, CEILING, OVERSHOOT)
    assert fixed_score(SPECIMENS, CEILING, dose_pC * (1 - 1e-9)).share_within >= TUNED_SHARE
    assert fixed_score(SPECIMENS, CEILING, dose_pC * 1.001).share_within < TUNED_SHARE


def test_a_threshold_stops_so_many_frames_late() -> None:
    flights = [measured(specimen) for specimen in SPECIMENS]
    threshold = Threshold(averaged=1, phase=0.2)
    soon, late = (reactive_score(flights, CEILING, latency, threshold) for latency in (0, 4))
    assert late.time_s - soon.time_s == pytest.approx(4 * SPECIMENS[0].dwell_s)
    # Without noise and latency it stops with the frame in which the middle passes the threshold.
    frames = np.array([float(np.argmax(flight.phase >= 0.2)) + 1 for flight in flights])
    assert soon.time_s == pytest.approx(frames * SPECIMENS[0].dwell_s, abs=0.01)


@pytest.mark.parametrize("latency", [0, 8])
def test_the_tuned_threshold_uses_as_much_as_the_overshoot_lets_it(latency: int) -> None:
    flights = [measured(specimen, noise=0.03) for specimen in SPECIMENS]
    tuned = tuned_threshold(flights, CEILING, latency)
    score = reactive_score(flights, CEILING, latency, tuned)
    assert score.share_within >= TUNED_SHARE
    greedier = reactive_score(flights, CEILING, latency, replace(tuned, phase=tuned.phase + 0.02))
    assert greedier.utilisation.mean() > score.utilisation.mean()
    assert greedier.share_within < TUNED_SHARE


def test_a_flight_that_never_reaches_the_threshold_ends_with_an_overshoot() -> None:
    score = reactive_score([measured(SPECIMENS[0])], CEILING, 0, Threshold(averaged=1, phase=0.9))
    assert score.overshoot[0] > 0.05
    assert score.utilisation[0] == pytest.approx(1.0)  # what it spent beyond the ceiling is of no use


def test_half_of_the_dose_is_half_used() -> None:
    doses = [0.5 * specimen.dose_at(CEILING) for specimen in SPECIMENS]
    score = scored(SPECIMENS, doses, [1.0] * len(SPECIMENS), CEILING)
    assert score.utilisation == pytest.approx(0.5)
    assert score.overshoot_p95 == 0
