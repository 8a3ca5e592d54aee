"""The strategies that expose at the session's own rate and only decide when to stop: fixed, reactive, oracle. Pure.

Whoever stops orders the blanking, and the beam is on for `latency` frames more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.closed_loop.constant_rate import ConstantRate
from acquisition_sim.closed_loop.scoring import OVERSHOOT, TUNED_SHARE, Score, scored
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.closed_loop.under_control import COMMAND_S

AVERAGED = (1, 2, 3, 4, 6, 8, 12, 16)  # frames whose mean phase a reactive threshold may be held against
LOWEST_THRESHOLD, THRESHOLD_STEP = -0.1, 0.002


@dataclass(frozen=True, slots=True)
class Threshold:
    """A reactive strategy: stop once the mean of the last `averaged` measured phases is at `phase` or above."""

    averaged: int
    phase: float


def oracle_doses(specimens: Sequence[Specimen], ceiling: float, latency: int) -> list[float]:
    """It knows the kinetics, and orders so early that the blanker closes at the ceiling. Only before the start it can't order."""
    return [max(s.dose_at(ceiling), latency * s.frame_dose_pC) for s in specimens]


def fixed_score(specimens: Sequence[Specimen], ceiling: float, dose_pC: float) -> Score:
    """The same dose for all, as the paper has it: known beforehand, so the latency doesn't matter."""
    times_s = [dose_pC / specimen.current_pA for specimen in specimens]
    return scored(specimens, [dose_pC] * len(specimens), times_s, ceiling)


def tuned_fixed_dose(specimens: Sequence[Specimen], ceiling: float, overshoot: float) -> float:
    """The largest dose with which TUNED_SHARE of these specimens keep within the overshoot, pC."""
    most_pC = sorted(specimen.dose_at(ceiling + overshoot) for specimen in specimens)
    return most_pC[len(most_pC) - int(np.ceil(TUNED_SHARE * len(most_pC)))]


def reactive_score(flights: Sequence[ConstantRate], ceiling: float, latency: int, threshold: Threshold) -> Score:
    """Stop by a threshold, in flights that were flown already."""
    at = np.array([threshold.phase])
    doses = [float(_doses(flight, threshold.averaged, at, latency)[0]) for flight in flights]
    specimens = [flight.specimen for flight in flights]
    times_s = [dose_pC / specimen.current_pA for specimen, dose_pC in zip(specimens, doses, strict=True)]
    return scored(specimens, doses, times_s, ceiling)


def tuned_threshold(flights: Sequence[ConstantRate], ceiling: float, latency: int) -> Threshold:
    """The threshold that uses most of the dose with TUNED_SHARE of these flights within the overshoot.

    Where none keeps to that (the transition is sooner than the latency), the one that overshoots least often.
    """
    thresholds = np.arange(LOWEST_THRESHOLD, ceiling + 0.1, THRESHOLD_STEP)
    at_ceiling_pC = np.array([flight.specimen.dose_at(ceiling) for flight in flights])[:, np.newaxis]
    too_far_pC = np.array([flight.specimen.dose_at(ceiling + OVERSHOOT) for flight in flights])[:, np.newaxis]
    best: tuple[float, float] | None = None
    chosen = Threshold(AVERAGED[0], LOWEST_THRESHOLD)
    for averaged in AVERAGED:
        doses = np.array([_doses(flight, averaged, thresholds, latency) for flight in flights])  # (flight, threshold)
        within = np.mean(doses <= too_far_pC, axis=0)
        utilisation = np.mean(np.minimum(doses, at_ceiling_pC) / at_ceiling_pC, axis=0)
        for threshold, share, used in zip(thresholds, within, utilisation, strict=True):
            value = (min(float(share), TUNED_SHARE), float(used))
            if best is None or value > best:
                best, chosen = value, Threshold(averaged, float(threshold))
    return chosen


def _doses(flight: ConstantRate, averaged: int, thresholds: NDArray[np.float64], latency: int) -> NDArray[np.float64]:
    """Dose that the specimen receives in all, for each threshold, pC."""
    specimen = flight.specimen
    highest = np.maximum.accumulate(np.nan_to_num(_running_mean(flight.phase, averaged), nan=-np.inf))
    # Whoever is not reached by the end of the flight is stopped there: it has overshot long before.
    stops = np.minimum(np.searchsorted(highest, thresholds, side="left"), len(highest) - 1)
    time_s = (stops + 1 + latency) * specimen.dwell_s + COMMAND_S
    return np.asarray(time_s * specimen.current_pA)


def _running_mean(phase: NDArray[np.float64], averaged: int) -> NDArray[np.float64]:
    """Mean of the last so many phases at each frame, `(frame,)`; NaN where there aren't as many yet."""
    mean = np.full(len(phase), np.nan)
    if len(phase) >= averaged:
        mean[averaged - 1 :] = np.convolve(phase, np.full(averaged, 1 / averaged), mode="valid")
    return mean
