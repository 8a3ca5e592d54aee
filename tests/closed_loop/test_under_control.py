"""Flights by the controller under its guard, with the shipped model and no wall clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acquisition_sim.closed_loop.specimens import reported_specimens
from acquisition_sim.closed_loop.under_control import LONGEST_LEASE_S, Flown, fly_under_control
from controller.aim import Aim
from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.models import SHIPPED_MODEL

(SPECIMEN,) = reported_specimens(1, 5)
AIM = Aim("preserve", phase_ceiling=0.3, max_lease_s=LONGEST_LEASE_S)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(SHIPPED_MODEL)


def fly(model: Model, *, latency: int = 4, budget_pC: float = 9000.0, aim: Aim = AIM) -> Flown:
    return fly_under_control(SPECIMEN, model, aim, latency_frames=latency, budget_pC=budget_pC)


@pytest.fixture(scope="module")
def flown(model: Model) -> Flown:
    return fly(model)


def test_it_comes_near_the_ceiling_and_stops_there(flown: Flown) -> None:
    assert 0.24 < flown.phase < 0.34
    assert "ceiling" in flown.ended_by
    assert flown.refused == 0
    assert flown.keeps_to_budget
    assert len(flown.solve_ms) > 10


def test_it_slows_down_on_the_way(flown: Flown) -> None:
    assert flown.frame_dose_pC[-5:].mean() < 0.5 * flown.frame_dose_pC[:5].mean()


def test_what_the_specimen_received_is_what_its_frames_did(flown: Flown) -> None:
    # Beyond the last frame there is at most what of a frame was cut by the blanker.
    assert 0 <= flown.dose_pC - flown.frame_dose_pC.sum() <= SPECIMEN.frame_dose_pC
    assert flown.frame_phase[-1] == pytest.approx(flown.phase, abs=0.01)
    assert (np.diff(flown.frame_phase) >= 0).all()


def test_the_same_specimen_flies_the_same_way(model: Model, flown: Flown) -> None:
    again = fly(model)
    assert np.array_equal(again.frame_dose_pC, flown.frame_dose_pC)
    assert replace(again, solve_ms=(), frame_dose_pC=flown.frame_dose_pC, frame_phase=flown.frame_phase) == replace(
        flown, solve_ms=()
    )


@pytest.mark.parametrize("latency", [0, 8])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_budget_below_the_ceiling_is_never_passed(model: Model, latency: int, share: float) -> None:
    budget_pC = share * SPECIMEN.dose_at(0.3)
    flown = fly(model, latency=latency, budget_pC=budget_pC)
    assert flown.keeps_to_budget
    assert flown.dose_pC <= budget_pC


def test_an_actuator_that_is_late_is_late(model: Model) -> None:
    window, latency = 8, 12

    def first_changed(late: int) -> int:
        """Number of the first frame that is exposed otherwise than the session began."""
        doses = fly(model, latency=late).frame_dose_pC
        changed = np.flatnonzero(abs(doses - doses[0]) > 0.01 * doses[0])
        return int(changed[0]) if len(changed) else len(doses)

    # Before the window is full nothing can be known, and what is ordered then holds `latency` frames on.
    assert first_changed(latency) >= window + latency


def test_resolve_changes_the_specimen_in_small_steps(model: Model) -> None:
    delta = 0.01
    aim = Aim("resolve", delta=delta, max_lease_s=LONGEST_LEASE_S)
    flown = fly_under_control(SPECIMEN, model, aim, latency_frames=1, budget_pC=40_000.0, until_phase=0.5)
    assert flown.phase >= 0.5
    changes = np.diff(flown.frame_phase)
    assert (changes <= delta).mean() > 0.9
