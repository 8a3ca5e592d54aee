"""The second-order cone program of one pass: minimise cost·x where b − A·x lies in a product of cones. Pure.

Variables, in blocks of H: cumulative dose N and time T after each frame, from frame 0 on; u ≤ √n; r ≥ n²/τ; slack of the SNR
floor; slack of the resolution; distance from the target. Then the slack of ceiling, budget and stopping distance. All are in
units of a nominal frame. Where an entry of A stands depends on H alone, so that is worked out once; its numbers are filled in at
every pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.plant import Floats
from controller.problem import Problem, end_dose_pC, slowing_dose_pC

LATER_COUNTS_LESS = 0.9  # per frame, of the resolution: the first frames are those that will be flown
FLOOR_LATER = 0.5  # of the floor: where not all frames can meet it, some shall, and not all of them nearly

# Prices of slack: a nominal frame's signal is 1. A price forbids what costs more than it brings, and each lies above what could
# be gained by breaking its constraint: signal and the prices below it. Larger ones than needed cost the solver accuracy.
CEILING_PRICE = 500.0  # also of the budget, per nominal dose
RESOLUTION_PRICE = 100.0  # per δ
FLOOR_PRICE = 150.0  # per nominal dose
STOPPING_PRICE = 60.0  # per nominal dose and frame of the plan with its stopping distance


@dataclass(frozen=True, slots=True)
class Scaled:
    """The problem in units of a nominal frame, with doses counted from the end of the last ordered frame."""

    begin_pC: float  # cumulative dose at the start of frame 0
    end: float  # ceiling with margin, infinite where there is none
    slowing: float  # ceiling with the wider margin
    budget: float
    room: float  # what frame 0 may be at most, by ceiling and budget, less the least that a frame can be
    end_dose_pC: float
    dose: Floats  # grid of the curve
    phase: Floats
    slope: Floats  # per nominal frame
    steep: Floats  # slope with its margin
    change: Floats  # its integral: phase change with margin

    @classmethod
    def of(cls, problem: Problem) -> Scaled:
        """The problem in those units."""
        unit = problem.nominal_dose_pC
        curve = problem.curve
        end_pC = end_dose_pC(problem)
        begin_pC = problem.dose_pC + sum(problem.ordered_pC)
        budget_pC = math.inf if problem.budget_pC is None else problem.dose_pC + problem.budget_pC - begin_pC
        dose = (curve.dose_pC - begin_pC) / unit
        steep = (curve.slope + problem.phase_step_sd * curve.slope_sd) * unit
        change = np.concatenate([[0.0], np.cumsum((steep[1:] + steep[:-1]) / 2 * np.diff(dose))])
        least_pC = max(
            problem.limits.min_current_pA * problem.limits.min_dwell_s,
            min(problem.min_dose_pC, 0.01 * unit),
            1e-3 * unit,
        )
        return cls(
            begin_pC=begin_pC,
            end=(end_pC - begin_pC) / unit,
            slowing=(slowing_dose_pC(problem) - begin_pC) / unit,
            budget=budget_pC / unit,
            room=(min(end_pC - begin_pC, budget_pC) - least_pC) / unit,
            end_dose_pC=end_pC,
            dose=dose,
            phase=curve.phase,
            slope=curve.slope * unit,
            steep=steep,
            change=change,
        )


class Shape(NamedTuple):
    """What a program is made of. Where its entries stand follows from this alone."""

    frames: int
    ceiling: bool
    resolution: bool
    target: bool

    @classmethod
    def of(cls, problem: Problem) -> Shape:
        """The shape of a problem's program."""
        return cls(
            problem.horizon,
            problem.phase_ceiling is not None,
            problem.max_phase_step is not None,
            problem.weights.track > 0,
        )

    @property
    def depends_on_nominal(self) -> bool:
        """Whether anything in it is linearised."""
        return self.resolution or self.target


@dataclass(frozen=True, slots=True)
class Structure:
    """Where the numbers of a program of a given shape go: built once, filled at every pass."""

    rows: int
    variables: dict[str, slice]
    columns: int
    order: NDArray[np.intp]  # entries as they are filled, into the order of the compressed columns
    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    fixed: Floats  # entries that never change, and placeholders for the rest
    filled: dict[str, NDArray[np.intp]]  # name of a group of entries to their places
    bound: dict[str, slice]  # name of a group of rows to its place in b
    inequalities: int


class _Builder:
    """Collects rows of A, in the order in which they're added."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.filled: dict[str, list[int]] = {}
        self.bound: dict[str, slice] = {}
        self.rows = 0

    def add(self, name: str, rows: list[list[tuple[int, float | str]]]) -> None:
        """Rows under one name; an entry's value is a number, or the name of the group that it's filled from."""
        self.bound[name] = slice(self.rows, self.rows + len(rows))
        for entries in rows:
            for column, value in entries:
                if isinstance(value, str):
                    self.filled.setdefault(value, []).append(len(self.value))
                self.row.append(self.rows)
                self.column.append(column)
                self.value.append(1.0 if isinstance(value, str) else value)
            self.rows += 1


class _Variables:
    """Hands out columns."""

    def __init__(self) -> None:
        self.columns = 0
        self.slices: dict[str, slice] = {}

    def add(self, name: str, count: int) -> range:
        block = range(self.columns, self.columns + count)
        self.slices[name] = slice(block.start, block.stop)
        self.columns += count
        return block


@lru_cache(maxsize=32)
def structure(shape: Shape) -> Structure:
    """Which entries a program of this shape has."""
    H = shape.frames
    x = _Variables()
    N, T, U, R, short = (x.add(name, H) for name in ("N", "T", "u", "r", "short of floor"))
    (over_budget,) = x.add("over budget", 1)
    frames = range(H)

    def step(block: range, k: int, now: float | str, before: float | str) -> list[tuple[int, float | str]]:
        """Now × (value after frame k) + before × (value after the frame before it), which is 0 for the first."""
        return [(block[k], now)] + ([(block[k - 1], before)] if k else [])

    def rise(block: range, k: int) -> list[tuple[int, float | str]]:
        """Step k less step k − 1; of frame 0, less the last frame ordered, which stands in b."""
        entries: list[tuple[int, float | str]] = [(block[k], 1.0)]
        if k >= 1:
            entries.append((block[k - 1], -2.0))
        if k >= 2:
            entries.append((block[k - 2], 1.0))
        return entries

    a = _Builder()  # rows of A x ≤ b
    a.add("min dwell", [step(T, k, -1.0, 1.0) for k in frames])
    a.add("max dwell", [step(T, k, 1.0, -1.0) for k in frames])
    a.add("min current", [step(N, k, -1.0, 1.0) + step(T, k, "min current", "-min current") for k in frames])
    a.add("max current", [step(N, k, 1.0, -1.0) + step(T, k, "-max current", "max current") for k in frames])
    a.add("max dose", [step(N, k, 1.0, -1.0) for k in frames])
    a.add("dose rise", [rise(N, k) for k in frames])
    a.add("dwell rise", [rise(T, k) for k in frames])
    a.add("floor", [[*step(N, k, -1.0, 1.0), (short[k], -1.0)] for k in frames])
    a.add("budget", [[(N[-1], 1.0), (over_budget, -1.0)]])
    slacks = [*short, over_budget]
    if shape.ceiling:
        (over_ceiling,) = x.add("over ceiling", 1)
        (over_stopping,) = x.add("over stopping", 1)
        a.add("ceiling", [[(N[-1], 1.0), (over_ceiling, -1.0)]])
        a.add("stopping", [[*step(N, k, "1+stopping", "-stopping"), (over_stopping, -1.0)] for k in frames])
        slacks += [over_ceiling, over_stopping]
    if shape.resolution:
        blurred = x.add("blurred", H)
        a.add("resolution", [[*step(N, k, "steep", "-steep before"), (blurred[k], -1.0)] for k in frames])
        slacks += blurred
    if shape.target:
        away = x.add("away", H)
        a.add("above target", [[(N[k], "slope"), (T[k], "-target rate"), (away[k], -1.0)] for k in frames])
        a.add("below target", [[(N[k], "-slope"), (T[k], "target rate"), (away[k], -1.0)] for k in frames])
    a.add("slack", [[(slack, -1.0)] for slack in slacks])
    inequalities = a.rows
    # u² ≤ n·1: (n + 1, n − 1, 2u) in the cone.  n² ≤ r·τ: (r + τ, r − τ, 2n).
    for k in frames:
        a.add(f"signal {k}", [step(N, k, -1.0, 1.0), step(N, k, -1.0, 1.0), [(U[k], -2.0)]])
    for k in frames:
        a.add(
            f"rate {k}",
            [
                [(R[k], -1.0), *step(T, k, -1.0, 1.0)],
                [(R[k], -1.0), *step(T, k, 1.0, -1.0)],
                step(N, k, -2.0, 2.0),
            ],
        )
    order = np.lexsort((a.row, a.column))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(a.column, minlength=x.columns))])
    return Structure(
        rows=a.rows,
        variables=x.slices,
        columns=x.columns,
        order=order,
        indices=np.array(a.row, dtype=np.int32)[order],
        indptr=indptr.astype(np.int32),
        fixed=np.array(a.value, dtype=np.float64),
        filled={name: np.array(places, dtype=np.intp) for name, places in a.filled.items()},
        bound=a.bound,
        inequalities=inequalities,
    )


@dataclass(frozen=True, slots=True)
class Program:
    """Minimise cost·x where b − A·x ≥ 0 in the first `inequalities` rows, and in second-order cones of 3 rows after them."""

    a: Any  # scipy's csc_matrix, (row, column)
    b: Floats
    cost: Floats
    inequalities: int


class _Numbers:
    """The numbers of one pass on their way into the structure."""

    def __init__(self, problem: Problem, scaled: Scaled, nominal: tuple[Floats, Floats]) -> None:
        self.problem, self.scaled = problem, scaled
        self.H = problem.horizon
        self.shape = Shape.of(problem)
        self.structure = structure(self.shape)
        self.N, self.T = nominal
        self.before = np.concatenate([[0.0], self.N[:-1]])
        self.slope = np.interp(self.N, scaled.dose, scaled.slope)
        self.entries = self.structure.fixed.copy()
        self.b = np.zeros(self.structure.rows)
        self.unit, self.second = problem.nominal_dose_pC, problem.nominal_dwell_s
        self.none = 2.0 * (self.H * problem.limits.max_dose_pC / self.unit + 1.0)  # a bound on dose that no plan meets

    def fill(self, entries: str, values: Floats | float) -> None:
        if entries in self.structure.filled:  # a plan of one frame has no frame before another
            self.entries[self.structure.filled[entries]] = values

    def bound(self, rows: str, values: Floats | float) -> None:
        self.b[self.structure.bound[rows]] = values

    def bound_first(self, rows: str, value: float) -> None:
        self.b[self.structure.bound[rows].start] = value

    def limits(self) -> None:
        limits = self.problem.limits
        self.bound_first("min dwell", -limits.min_dwell_s / self.second)
        self.bound("max dwell", limits.max_dwell_s / self.second)
        ampere = self.unit / self.second
        low = limits.min_current_pA / ampere
        self.fill("min current", low)
        self.fill("-min current", -low)
        high = np.full(self.H, limits.max_current_pA / ampere)
        stopping_s = self.problem.approach * self.problem.stopping_s
        if stopping_s > 0 and math.isfinite(self.scaled.slowing):
            # Blanking takes so long at the frame's current: no more of it than brings the specimen to the ceiling, unless it is
            # needed for the floor in a nominal dwell.
            left = np.maximum(self.scaled.slowing - self.before, 0.0)
            needed = min(max(low, self.problem.min_dose_pC / self.unit), high[0])
            high = np.clip(left * self.second / stopping_s, needed, high)
        self.fill("-max current", -high)
        self.fill("max current", high[1:])
        self.bound("max dose", limits.max_dose_pC / self.unit)

    def rises(self) -> None:
        """Limits on rises never forbid the least frame that the other limits allow."""
        problem, limits = self.problem, self.problem.limits
        least = limits.min_current_pA * limits.min_dwell_s / self.unit
        dose = min(limits.dose_rise_pC / self.unit, self.none)
        self.bound("dose rise", dose)
        self.bound_first("dose rise", max(problem.last_dose_pC / self.unit + dose, least))
        dwell_s = min(limits.dwell_rise_s, limits.max_dwell_s)
        self.bound("dwell rise", dwell_s / self.second)
        self.bound_first("dwell rise", max(problem.last_dwell_s + dwell_s, limits.min_dwell_s) / self.second)

    def spending(self) -> None:
        """Ceiling, budget, and where the beam would come to rest if blanking were ordered during each frame."""
        self.bound("budget", min(self.scaled.budget, self.none))
        self.bound("floor", -self.problem.min_dose_pC / self.unit)
        if not self.shape.ceiling:
            return
        stopping = self._stopping_frames()
        self.bound("ceiling", min(self.scaled.end, self.none))
        self.fill("1+stopping", 1.0 + stopping)
        self.fill("-stopping", -stopping)
        self.bound("stopping", min(self.scaled.slowing, self.none * (1.0 + stopping)))

    def resolution(self) -> None:
        """X(N_k) − X(N_k−1) ≤ δ to first order, in units of δ; X is phase with its margin."""
        if self.problem.max_phase_step is None:
            return
        scaled, per_step = self.scaled, 1.0 / self.problem.max_phase_step
        change = np.interp(self.N, scaled.dose, scaled.change) - np.interp(self.before, scaled.dose, scaled.change)
        steep, steep_before = (np.interp(at, scaled.dose, scaled.steep) for at in (self.N, self.before))
        self.fill("steep", steep * per_step)
        self.fill("-steep before", -steep_before[1:] * per_step)
        self.bound("resolution", 1.0 - (change - steep * self.N + steep_before * self.before) * per_step)

    def target(self) -> None:
        """Distance from the `target`: at least |x − wanted|, to first order in dose and time."""
        if not self.shape.target:
            return
        at_s, wanted = (np.array(column) for column in zip(*self.problem.target, strict=True))
        soon = 1e-3
        target = np.interp(self.T * self.second, at_s, wanted)
        rate = (np.interp((self.T + soon) * self.second, at_s, wanted) - target) / soon
        offset = np.interp(self.N, self.scaled.dose, self.scaled.phase) - self.slope * self.N - (target - rate * self.T)
        self.fill("slope", self.slope)
        self.fill("-slope", -self.slope)
        self.fill("target rate", rate)
        self.fill("-target rate", -rate)
        self.bound("above target", -offset)
        self.bound("below target", offset)

    def cones(self) -> None:
        for k in range(self.H):
            first = self.structure.bound[f"signal {k}"].start
            self.b[first], self.b[first + 1] = 1.0, -1.0

    def _stopping_frames(self) -> float:
        return max(self.problem.approach * self.problem.stopping_frames, self.problem.approach_frames)

    def cost(self) -> Floats:
        weights, at = self.problem.weights, self.structure.variables
        later = LATER_COUNTS_LESS ** np.arange(self.H)
        cost = np.zeros(self.structure.columns)
        cost[at["u"]] = -1.0
        cost[at["r"]] = weights.rate
        cost[at["T"].stop - 1] = weights.time
        cost[at["N"].stop - 1] = weights.damage * self.slope[-1]  # Σ n·x' is the plan's phase change, to first order
        cost[at["short of floor"]] = FLOOR_PRICE * FLOOR_LATER ** np.arange(self.H)
        cost[at["over budget"]] = CEILING_PRICE
        if self.shape.ceiling:
            cost[at["over ceiling"]] = CEILING_PRICE
            cost[at["over stopping"]] = STOPPING_PRICE / (self.H + self._stopping_frames())
        if self.shape.resolution:
            cost[at["blurred"]] = RESOLUTION_PRICE * later
        if self.shape.target:
            cost[at["away"]] = weights.track
        return cost


def filled_program(problem: Problem, scaled: Scaled, nominal: tuple[Floats, Floats]) -> Program:
    """The program of one pass, linearised about a nominal plan: cumulative dose and time, `(frame,)` each, scaled."""
    numbers = _Numbers(problem, scaled, nominal)
    numbers.limits()
    numbers.rises()
    numbers.spending()
    numbers.resolution()
    numbers.target()
    numbers.cones()
    s = numbers.structure
    from scipy import sparse  # noqa: PLC0415 - whoever only reads plans doesn't load it

    a = sparse.csc_matrix((numbers.entries[s.order], s.indices, s.indptr), shape=(s.rows, s.columns))
    return Program(a, numbers.b, numbers.cost(), s.inequalities)
