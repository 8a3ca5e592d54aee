"""What is asked of the planner: the numbers of one step's problem, and whether they agree with each other. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from controller.plant import Curve
from eelstm_stream.errors import EelstmError

HORIZON = 8  # frames after those already ordered; what lies beyond them is in the stopping distance


class ProblemError(EelstmError):
    """The numbers of a control problem contradict each other or are no numbers; the message names which."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What frames may be: the instrument's limits, narrowed by the operator's."""

    min_dwell_s: float
    max_dwell_s: float
    min_current_pA: float
    max_current_pA: float
    max_dose_pC: float  # of one frame
    dose_rise_pC: float = math.inf  # from one frame to the next; downwards there is no limit
    dwell_rise_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Weights:
    """The objective, in units of a nominal frame: Σ√n − damage·Δx − rate·Σn²/τ − time·Στ − track·Σ|x − target|."""

    damage: float = 0.0
    rate: float = 0.02
    time: float = 0.02  # √(time / rate) × the nominal current is the current that a plan likes best
    track: float = 0.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One step's problem. Doses are cumulative doses of the specimen unless said otherwise."""

    curve: Curve  # from the newest spectrum on, at rising doses
    dose_pC: float  # at the end of the newest spectrum
    ordered_pC: tuple[float, ...]  # dose of each frame that has begun or can't be changed any more, oldest first
    last_dose_pC: float  # dose and dwell of the last frame ordered: rises count from there
    last_dwell_s: float
    nominal_dose_pC: float  # of a frame: the unit of the objective
    nominal_dwell_s: float
    limits: Limits
    weights: Weights = field(default_factory=Weights)
    budget_pC: float | None = None  # that may still be spent after `dose_pC`, ordered frames among it
    phase_ceiling: float | None = None
    phase_margin: float = 0.0  # between the estimate and the ceiling, and
    margin_sd: float = 1.0  # so many standard deviations of phase more
    slowing_sd: float = 1.0  # the same for the ceiling from which the stopping distance is kept
    stopping_frames: float = 0.0  # from an order to blank until it holds: frames, and
    stopping_s: float = 0.0  # time
    approach: float = 1.5  # stopping distances that each frame keeps from the ceiling, where it may
    approach_frames: float = 6.0  # and frames like itself, at least
    max_phase_step: float | None = None  # δ: phase change in one frame
    phase_step_sd: float = 1.0  # margin on it, standard deviations of the slope
    min_dose_pC: float = 0.0  # of a frame: SNR floor, soft
    target: tuple[tuple[float, float], ...] = ()  # (time from the start of frame 0, s; phase), at rising times
    horizon: int = HORIZON


def require_possible(problem: Problem) -> None:
    """Raise ProblemError, naming the fault, unless the problem's numbers are finite and agree with each other."""
    limits, curve = problem.limits, problem.curve
    numbers = {
        "dose_pC": problem.dose_pC,
        "last_dose_pC": problem.last_dose_pC,
        "last_dwell_s": problem.last_dwell_s,
        "nominal_dose_pC": problem.nominal_dose_pC,
        "nominal_dwell_s": problem.nominal_dwell_s,
        "min_dwell_s": limits.min_dwell_s,
        "max_dwell_s": limits.max_dwell_s,
        "min_current_pA": limits.min_current_pA,
        "max_current_pA": limits.max_current_pA,
        "max_dose_pC": limits.max_dose_pC,
        "budget_pC": problem.budget_pC,
        "phase_ceiling": problem.phase_ceiling,
        "phase_margin": problem.phase_margin,
        "margin_sd": problem.margin_sd,
        "slowing_sd": problem.slowing_sd,
        "stopping_frames": problem.stopping_frames,
        "stopping_s": problem.stopping_s,
        "approach": problem.approach,
        "approach_frames": problem.approach_frames,
        "max_phase_step": problem.max_phase_step,
        "phase_step_sd": problem.phase_step_sd,
        "min_dose_pC": problem.min_dose_pC,
        "damage": problem.weights.damage,
        "rate": problem.weights.rate,
        "time": problem.weights.time,
        "track": problem.weights.track,
    }
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ProblemError(f"{name} is {value}.")
        if value is not None and value < 0 and name not in ("phase_ceiling", "phase_margin"):
            raise ProblemError(f"{name} is {value:g}, and can't be below 0.")
    for name in (
        "nominal_dose_pC",
        "nominal_dwell_s",
        "min_dwell_s",
        "max_current_pA",
        "max_dose_pC",
        "max_phase_step",
    ):
        if numbers[name] == 0:
            raise ProblemError(f"{name} is 0.")
    _require_limits(problem)
    if not all(math.isfinite(dose) and dose >= 0 for dose in problem.ordered_pC):
        raise ProblemError("ordered_pC holds a dose that is not finite or below 0.")
    if not 1 <= problem.horizon <= 256:
        raise ProblemError(f"horizon is {problem.horizon}, and must be from 1 to 256.")
    furthest_pC = furthest_dose_pC(
        problem.dose_pC, problem.ordered_pC, limits, problem.horizon, problem.stopping_frames
    )
    _require_curve(curve, problem.dose_pC)
    if curve.dose_pC[-1] < furthest_pC * (1 - 1e-9):
        raise ProblemError(
            f"the phase curve ends at {curve.dose_pC[-1]:.4g} pC, and the plan may reach {furthest_pC:.4g} pC."
        )
    times = [time for time, _ in problem.target]
    if not all(math.isfinite(value) for point in problem.target for value in point) or times != sorted(set(times)):
        raise ProblemError("target is not finite, or its times do not rise.")
    if problem.weights.track > 0 and not problem.target:
        raise ProblemError("track is above 0, and there is no target.")


def _require_limits(problem: Problem) -> None:
    limits = problem.limits
    for name, rise in (("dose_rise_pC", limits.dose_rise_pC), ("dwell_rise_s", limits.dwell_rise_s)):
        if math.isnan(rise) or rise < 0:
            raise ProblemError(f"{name} is {rise}.")
    if limits.min_dwell_s > limits.max_dwell_s:
        raise ProblemError(f"min_dwell_s {limits.min_dwell_s:g} is above max_dwell_s {limits.max_dwell_s:g}.")
    if limits.min_current_pA > limits.max_current_pA:
        raise ProblemError(
            f"min_current_pA {limits.min_current_pA:g} is above max_current_pA {limits.max_current_pA:g}."
        )
    least_pC = limits.min_current_pA * limits.min_dwell_s
    if least_pC > limits.max_dose_pC:
        raise ProblemError(
            f"max_dose_pC {limits.max_dose_pC:g} is below the least dose of a frame, {least_pC:g} pC by min_current_pA and min_dwell_s."
        )
    if problem.min_dose_pC > limits.max_dose_pC:
        raise ProblemError(f"min_dose_pC {problem.min_dose_pC:g} is above max_dose_pC {limits.max_dose_pC:g}.")
    if problem.slowing_sd < problem.margin_sd:
        raise ProblemError(f"slowing_sd {problem.slowing_sd:g} is below margin_sd {problem.margin_sd:g}.")


def _require_curve(curve: Curve, dose_pC: float) -> None:
    columns = (curve.dose_pC, curve.phase, curve.phase_sd, curve.slope, curve.slope_sd)
    if len({column.shape for column in columns}) != 1 or curve.dose_pC.ndim != 1 or curve.dose_pC.size < 2:
        raise ProblemError("the phase curve's columns differ in length, or it has fewer than two points.")
    if not all(np.isfinite(column).all() for column in columns):
        raise ProblemError("the phase curve is not finite.")
    if (np.diff(curve.dose_pC) <= 0).any():
        raise ProblemError("the doses of the phase curve do not rise.")
    if (curve.slope < 0).any() or (curve.phase_sd < 0).any() or (curve.slope_sd < 0).any():
        raise ProblemError("the phase curve falls, or has a standard deviation below 0.")
    if curve.dose_pC[0] > dose_pC * (1 + 1e-9) + 1e-9:
        raise ProblemError("the phase curve begins after the newest spectrum.")


def end_dose_pC(problem: Problem) -> float:
    """Cumulative dose at which the plan has to end: the ceiling less its margin; infinite where the curve stays below it.

    The margin is that of the newest spectrum, also further on. What lies ahead is less certain only until the frames on their way
    have been measured, and that they will be before a frame ordered now is flown: no reason to blank, which can't be undone.
    It is one to slow down, so `slowing_dose_pC` has the margin of the dose itself.
    """
    known = np.minimum(problem.curve.phase_sd, problem.curve.phase_sd[0])
    return ceiling_dose_pC(replace(problem.curve, phase_sd=known), _with_margin(problem), problem.margin_sd)


def slowing_dose_pC(problem: Problem) -> float:
    """Cumulative dose from which the stopping distance is kept, as `end_dose_pC`, and never beyond it."""
    far = ceiling_dose_pC(problem.curve, _with_margin(problem), problem.slowing_sd)
    return min(far, end_dose_pC(problem))


def _with_margin(problem: Problem) -> float | None:
    return None if problem.phase_ceiling is None else problem.phase_ceiling - problem.phase_margin


def ceiling_dose_pC(curve: Curve, ceiling: float | None, margin_sd: float) -> float:
    """Cumulative dose at which phase + margin_sd·sd first meets the ceiling; infinite where the curve stays below it."""
    if ceiling is None:
        return math.inf
    upper = np.maximum.accumulate(curve.phase + margin_sd * curve.phase_sd)
    at = int(np.searchsorted(upper, ceiling, side="left"))
    if at == len(upper):
        return math.inf
    if at == 0:
        return float(curve.dose_pC[0])
    share = (ceiling - upper[at - 1]) / (upper[at] - upper[at - 1])
    return float(curve.dose_pC[at - 1] + share * (curve.dose_pC[at] - curve.dose_pC[at - 1]))


def furthest_dose_pC(
    dose_pC: float, ordered_pC: tuple[float, ...], limits: Limits, horizon: int, stopping_frames: float
) -> float:
    """Cumulative dose that no plan of a problem can pass, with its stopping distance: as far as the phase curve must be known."""
    frames = horizon + stopping_frames + 1
    return dose_pC + sum(ordered_pC) + frames * max(limits.max_dose_pC, max(ordered_pC, default=0.0))
