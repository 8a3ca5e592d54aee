"""Which forecasts control may act on. Pure.

The wire's models already keep out what is no number; this looks at what is a number and can't be a forecast of this specimen.
A forecast that isn't used is dropped whole: nothing of it is repaired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from eelstm_stream.wire.messages import Interval, Summary

LOWEST_PHASE, HIGHEST_PHASE = -0.5, 1.5  # half the way from pristine to transformed beyond either of them
NARROWEST, WIDEST = 1e-6, 2.0  # of an interval, from end to end
JUMP_WIDTHS = 3.0  # half widths of both intervals together that two forecasts in a row may lie apart
JUMP_AT_LEAST = 0.1  # a phase that was forecast well may still move this much more than it was said to
# Flags of a model that may never have seen the like of this specimen.
UNKNOWN_SPECIMEN = ("alignment_uncertain", "outside_training_range")
TO_DO = (
    "the model may not know this specimen, so train one on recordings of it, or give --accept-flagged to act on such "
    "forecasts all the same"
)


@dataclass(frozen=True, slots=True)
class Discarded:
    """Why a forecast isn't used. `by` is the name under which it's counted."""

    by: str
    reason: str  # a clause that goes on from "forecast N …"


def flagged(summary: Summary) -> Discarded | None:
    """A flag by which the model may not know this specimen; None where there is none.

    What such a model calls a phase can be any number, and its interval, which is of counting noise, as narrow as ever.
    """
    raised = [flag for flag in summary.quality if flag.flag in UNKNOWN_SPECIMEN]
    if not raised:
        return None
    said = " and ".join(f"{flag.flag} ({flag.reason})" for flag in raised)
    return Discarded(raised[0].flag, f"is flagged {said}: {TO_DO}")


def fault(summary: Summary, before: Summary | None) -> Discarded | None:
    """What makes a forecast one that can't be believed, by itself and after the one used before it; None where nothing does."""
    if summary.at_dose_pC is None:
        return Discarded(
            "dose_is_relative", "does not say at which dose it was made, so no dose in pC can follow from it"
        )
    if any(flag.flag == "dose_is_relative" for flag in summary.quality):
        return Discarded(
            "dose_is_relative", "is of a relative dose: the current of the session or of the model is not known"
        )
    if not math.isfinite(summary.at_dose_pC) or not math.isfinite(summary.reference_dose_pC):
        return Discarded("finite", f"was made at a dose of {summary.at_dose_pC} pC")
    if not summary.phase:
        return Discarded("phase", "says nothing of the phase")
    if any(near >= far for near, far in pairwise(summary.horizons)):
        return Discarded("horizons", f"has horizons that don't rise: {summary.horizons}")
    named = [(f"phase {horizon} ahead", phase) for horizon, phase in zip(summary.horizons, summary.phase, strict=True)]
    if summary.phase_now is not None:
        named.insert(0, ("phase now", summary.phase_now))
    if summary.fraction_now is not None:
        named.append(("fraction now", summary.fraction_now))
    named += [("fraction ahead", fraction) for fraction in summary.fraction or ()]
    for name, interval in named:
        if (discarded := _of_interval(name, interval)) is not None:
            return discarded
    if before is None:
        return None
    if summary.model_sha256 != before.model_sha256:
        return None  # another model may read the same specimen otherwise
    return _jump(summary, before)


def _of_interval(name: str, interval: Interval) -> Discarded | None:
    value, low, high = interval.value, interval.low, interval.high
    if not all(map(math.isfinite, (value, low, high))):
        return Discarded("finite", f"has a {name} that is no finite number")
    if not LOWEST_PHASE <= value <= HIGHEST_PHASE:
        return Discarded("absurd", f"has a {name} of {value:.3g}, and 0 is pristine and 1 transformed")
    if not low <= value <= high:
        return Discarded("absurd", f"has a {name} of {value:.3g} outside its own interval, {low:.3g} to {high:.3g}")
    if not NARROWEST <= high - low <= WIDEST:
        return Discarded("absurd", f"has a {name} with an interval of {high - low:.3g}, which no measurement has")
    return None


def _jump(summary: Summary, before: Summary) -> Discarded | None:
    """Whether the phase now lies further from what was forecast of it than the intervals of both let it."""
    now = summary.phase_now or summary.phase[0]
    doses, phases = _forecast_by_dose(before)
    at_pC = summary.at_dose_pC or 0.0
    said = _interpolated(at_pC, doses, [phase.value for phase in phases])
    widest = max((phase.high - phase.low) / 2 for phase in phases)
    spread = max(phase.value for phase in phases) - min(phase.value for phase in phases)
    # Beyond the furthest horizon nothing was forecast: there the phase may have moved on as far again.
    beyond = max(0.0, at_pC - doses[-1]) / max(doses[-1] - doses[0], 1e-12) * spread
    allowed = JUMP_WIDTHS * ((now.high - now.low) / 2 + widest) + JUMP_AT_LEAST + min(beyond, 1.0)
    if abs(now.value - said) <= allowed:
        return None
    reason = (
        f"jumps: phase {now.value:.3g}, where {said:.3g} was forecast and {allowed:.2g} more or less would be believed"
    )
    return Discarded("jump", reason)


def _forecast_by_dose(summary: Summary) -> tuple[list[float], list[Interval]]:
    at_pC = summary.at_dose_pC or 0.0
    doses = [at_pC + horizon * summary.reference_dose_pC for horizon in summary.horizons]
    phases = list(summary.phase)
    if summary.phase_now is not None:
        doses.insert(0, at_pC)
        phases.insert(0, summary.phase_now)
    return doses, phases


def _interpolated(dose_pC: float, doses: list[float], values: list[float]) -> float:
    """Piecewise linear, and level beyond the ends."""
    if dose_pC <= doses[0]:
        return values[0]
    for (dose_a, dose_b), (value_a, value_b) in zip(pairwise(doses), pairwise(values), strict=True):
        if dose_pC <= dose_b:
            return value_a + (value_b - value_a) * (dose_pC - dose_a) / (dose_b - dose_a)
    return values[-1]
