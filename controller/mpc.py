"""Dose and dwell of the next frames, as a second-order cone program on Clarabel. Pure: numbers in, a plan out.

The problem is derived in docs/explanation/control.md. In short: cumulative dose is the independent variable, so that phase
is a known curve over it; the dose where that curve, with its margin, meets the ceiling is a bound on cumulative dose and
needs no linearisation; the phase change of a frame, the damage, and the target of `track` are linearised about a nominal
plan, in a few passes.

Frame 0 of a plan is the first that can still be ordered: those before it are `ordered_pC`, and are part of what is
already spent. Only frame 0 is ever ordered, so only it is held to the lower limits of dwell and current; a later frame may be
anything between them and no beam at all, which is what blanking then would be.

Trust nothing: the numbers are checked before the solve, and the solution against the constraints after it. What fails is
replaced by the plan before, and where there is none that holds, by blanking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from controller.cone_program import Program, Scaled, Shape, filled_program, structure
from controller.plant import Floats
from controller.problem import HORIZON, Limits, Problem, ProblemError, Weights, ceiling_dose_pC, require_possible

__all__ = [
    "HORIZON", "Limits", "Plan", "Problem", "ProblemError", "Weights", "blanking", "ceiling_dose_pC", "require_possible",
    "solve",
]  # fmt: skip

PASSES = 3
DAMPING = 0.5  # share of the way that the nominal plan goes towards a solution that is further off than the one before
CONVERGED = 0.02  # nominal frames, of cumulative dose over the whole plan: frame 0 has moved by a tenth of that at most
TOLERANCE = 1e-5  # in nominal frames (dose, dwell): what a solution may break of a constraint
MAX_ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """Frames to order, `(frame,)` each, first to last. `blank`: order no frame, blank the beam."""

    dose_pC: Floats
    dwell_s: Floats
    phase: Floats  # expected at the end of each frame, without margin
    blank: bool
    status: str  # "solved"; "fallback" where the plan before goes on; "blank" by need; "failed" where no plan was found
    reason: str = ""
    end_dose_pC: float = math.inf  # cumulative dose at which phase with its margin meets the ceiling
    linearisation_gap: float = 0.0  # largest change of a cumulative dose in the last pass, nominal frames
    passes: int = 0

    @property
    def current_pA(self) -> Floats:
        """Of each frame, `(frame,)`, pA."""
        return self.dose_pC / self.dwell_s

    def shifted(self, frames: int) -> Plan:
        """What is left of the plan after so many of its frames; nothing left means blanking."""
        if frames < 0:
            raise ValueError(f"a plan can't be shifted by {frames} frames")
        if frames == 0:
            return self
        if self.blank or frames >= len(self.dose_pC):
            return blanking("the plan before has come to its end", self.end_dose_pC)
        return replace(self, dose_pC=self.dose_pC[frames:], dwell_s=self.dwell_s[frames:], phase=self.phase[frames:])


def blanking(reason: str, end_dose_pC: float = math.inf) -> Plan:
    """The plan to blank the beam now."""
    none = np.zeros(0)
    return Plan(none, none, none, blank=True, status="blank", reason=reason, end_dose_pC=end_dose_pC)


def solve(problem: Problem, previous: Plan | None = None) -> Plan:
    """Plan the next frames.

    previous: the plan before, shifted to the present; it is where linearisation begins, and what goes on where the solve
    fails, if it still keeps to the ceiling and the budget. Raises ProblemError for numbers that make no problem.
    """
    require_possible(problem)
    scaled = Scaled.of(problem)
    if scaled.room <= 0:
        return blanking(_why_no_room(problem, scaled), scaled.end_dose_pC)
    nominal = _first_nominal(problem, scaled, previous)
    linearised = Shape.of(problem).depends_on_nominal or problem.weights.damage > 0
    gap = math.inf
    for passes in range(1, PASSES + 1):
        found = _solve_pass(problem, scaled, nominal)
        if found is None:
            return _fallback(problem, scaled, previous)
        moved = found[0] - nominal[0]
        before, gap = gap, float(np.abs(moved).max())
        if gap < CONVERGED or passes == PASSES or not linearised:
            return _plan(problem, scaled, found, gap, passes)
        share = 1.0 if gap < before else DAMPING
        nominal = (nominal[0] + share * moved, nominal[1] + share * (found[1] - nominal[1]))
    raise AssertionError("there is a last pass")


def _why_no_room(problem: Problem, scaled: Scaled) -> str:
    if scaled.budget <= scaled.end:
        return (
            f"{max(scaled.budget, 0.0) * problem.nominal_dose_pC:.3g} pC are left of the budget, too little for a frame"
        )
    return (
        f"phase with its margin reaches the ceiling of {problem.phase_ceiling:g} at {scaled.end_dose_pC:.4g} pC, "
        f"and what is ordered already ends at {scaled.begin_pC:.4g} pC"
    )


def _first_nominal(problem: Problem, scaled: Scaled, previous: Plan | None) -> tuple[Floats, Floats]:
    """Cumulative dose and time `(frame,)`, scaled, of the plan to linearise about: the one before, or an even one."""
    frames = problem.horizon
    unit, second = problem.nominal_dose_pC, problem.nominal_dwell_s
    dose = np.full(frames, min(problem.last_dose_pC, problem.limits.max_dose_pC) / unit)
    dwell = np.full(frames, max(problem.last_dwell_s, problem.limits.min_dwell_s) / second)
    if previous is not None and not previous.blank:
        known = min(frames, len(previous.dose_pC))
        dose[:known], dwell[:known] = previous.dose_pC[:known] / unit, previous.dwell_s[:known] / second
        dose[known:], dwell[known:] = dose[known - 1], dwell[known - 1]
    dose = np.maximum(dose, 1e-3)
    reach = min(scaled.end, scaled.budget)
    if dose.sum() > reach:
        dose *= max(reach, 1e-3) / dose.sum()
    return np.cumsum(dose), np.cumsum(dwell)


@lru_cache(maxsize=32)
def _cones(shape: Shape) -> tuple[list[Any], Any, Any]:
    """Cones, quadratic part and settings for Clarabel, which is imported where it's first needed."""
    import clarabel  # noqa: PLC0415 - so that whoever only reads plans doesn't load a solver
    from scipy import sparse  # noqa: PLC0415 - the same

    s = structure(shape)
    cones = [clarabel.NonnegativeConeT(s.inequalities), *[clarabel.SecondOrderConeT(3)] * (2 * shape.frames)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = MAX_ITERATIONS
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"  # one thread, and the quicker for matrices as small
    settings.tol_gap_abs = settings.tol_gap_rel = 1e-6  # of a nominal frame's signal
    settings.presolve_enable = False  # the structure stays the same whatever the numbers are
    return cones, sparse.csc_matrix((s.columns, s.columns)), settings


def _solve_pass(problem: Problem, scaled: Scaled, nominal: tuple[Floats, Floats]) -> tuple[Floats, Floats] | None:
    """Cumulative dose and time of the solution, scaled; None where there is none that holds."""
    import clarabel  # noqa: PLC0415 - see _cones

    program = filled_program(problem, scaled, nominal)
    if not all(np.isfinite(numbers).all() for numbers in (program.a.data, program.b, program.cost)):
        return None
    cones, quadratic, settings = _cones(Shape.of(problem))
    solution = clarabel.DefaultSolver(quadratic, program.cost, program.a, program.b, cones, settings).solve()
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        return None
    x = np.asarray(solution.x)
    if not holds(program, x):
        return None
    H = problem.horizon
    return x[:H], x[H : 2 * H]


def holds(program: Program, x: Floats) -> bool:
    """Whether a solution keeps to every constraint, by arithmetic of our own and within TOLERANCE."""
    if not np.isfinite(x).all():
        return False
    left = program.b - program.a @ x
    if left[: program.inequalities].min() < -TOLERANCE:
        return False
    cones = left[program.inequalities :].reshape(-1, 3)
    return bool((cones[:, 0] - np.hypot(cones[:, 1], cones[:, 2]) >= -TOLERANCE).all())


def _plan(problem: Problem, scaled: Scaled, solution: tuple[Floats, Floats], gap: float, passes: int) -> Plan:
    """The plan in its own units, exactly within the limits, or blanking where its first frame leads too far."""
    limits = problem.limits
    unit, second = problem.nominal_dose_pC, problem.nominal_dwell_s
    N, T = solution
    dose = np.maximum(np.diff(N, prepend=0.0), 0.0) * unit
    dwell = np.clip(np.diff(T, prepend=0.0) * second, 1e-6 * second, limits.max_dwell_s)
    dwell[0] = max(dwell[0], limits.min_dwell_s)
    dose = np.clip(dose, limits.min_current_pA * dwell, np.minimum(limits.max_current_pA * dwell, limits.max_dose_pC))
    room_pC = min(scaled.end, scaled.budget) * unit
    if dose[0] > room_pC + TOLERANCE * unit:
        return blanking(_why_no_room(problem, scaled), scaled.end_dose_pC)
    if dose[0] < 0.5 * problem.min_dose_pC and room_pC < problem.min_dose_pC:
        return blanking(f"{room_pC:.3g} pC are left, too little for a frame", scaled.end_dose_pC)
    phase = np.interp(np.cumsum(dose) / unit, scaled.dose, scaled.phase)
    return Plan(
        dose, dwell, phase, blank=False, status="solved", end_dose_pC=scaled.end_dose_pC,
        linearisation_gap=gap, passes=passes,
    )  # fmt: skip


def _fallback(problem: Problem, scaled: Scaled, previous: Plan | None) -> Plan:
    if previous is None or previous.blank or not len(previous.dose_pC):
        return replace(blanking("no plan was found, and there is none before", scaled.end_dose_pC), status="failed")
    if previous.dose_pC[0] > min(scaled.end, scaled.budget) * problem.nominal_dose_pC:
        return replace(
            blanking("no plan was found, and the one before leads too far", scaled.end_dose_pC), status="failed"
        )
    return replace(previous, status="fallback", reason="no plan was found; the one before goes on")
