"""The planner: its solutions against another solver's, its limits, its delay, its presets, and what it does with bad numbers."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from unittest import mock

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller import cone_program, mpc
from controller.cone_program import Scaled, Shape, filled_program, structure
from controller.mpc import Limits, Plan, Problem, ProblemError, Weights, solve
from controller.plant import Curve
from controller.presets import PRESETS

NOMINAL_PC, NOMINAL_S = 92.0, 0.4
LIMITS = Limits(min_dwell_s=0.005, max_dwell_s=2.0, min_current_pA=1.0, max_current_pA=230.0, max_dose_pC=92.0)


def jmak(critical_pC=7500.0, exponent=1.9, sd=0.01, begin_pC=3000.0, until_pC=20_000.0, points=129) -> Curve:
    dose = np.linspace(begin_pC, until_pC, points)
    hazard = (dose / critical_pC) ** exponent
    slope = np.exp(-hazard) * hazard * exponent / dose
    return Curve(dose, 1 - np.exp(-hazard), np.full(points, sd), slope, 0.1 * slope)


def problem(**changes) -> Problem:
    usual = Problem(
        curve=jmak(),
        dose_pC=3000.0,
        ordered_pC=(),
        last_dose_pC=92.0,
        last_dwell_s=0.4,
        nominal_dose_pC=NOMINAL_PC,
        nominal_dwell_s=NOMINAL_S,
        limits=LIMITS,
        phase_ceiling=0.3,
        min_dose_pC=9.2,
    )
    return replace(usual, **changes)


def ceiling_pC(asked: Problem) -> float:
    margin = asked.phase_margin + asked.margin_sd * asked.curve.phase_sd
    return float(np.interp(asked.phase_ceiling, asked.curve.phase + margin, asked.curve.dose_pC))


@st.composite
def problems(draw, kinds=("preserve", "resolve", "track", "all"), is_linear=False) -> Problem:
    """Problems of every preset, with limits that leave something to choose. is_linear: nothing depends on a nominal plan."""
    kind = draw(st.sampled_from(kinds))
    delay = draw(st.integers(0, 12))
    begin = draw(st.floats(500, 4000))
    max_current = draw(st.floats(100, 500))
    limits = Limits(
        min_dwell_s=draw(st.floats(0.005, 0.2)),
        max_dwell_s=draw(st.floats(0.5, 3.0)),
        min_current_pA=draw(st.floats(0.5, 20)),
        max_current_pA=max_current,
        max_dose_pC=draw(st.floats(60, 200)),
        dose_rise_pC=draw(st.sampled_from([math.inf, 5.0, 40.0])),
        dwell_rise_s=draw(st.sampled_from([math.inf, 0.05])),
    )
    return problem(
        curve=jmak(draw(st.floats(4000, 12_000)), draw(st.floats(1.1, 2.6)), begin_pC=begin, until_pC=begin + 12_000),
        dose_pC=begin,
        ordered_pC=tuple([draw(st.floats(1, 92))] * delay),
        last_dose_pC=draw(st.floats(5, 92)),
        last_dwell_s=draw(st.floats(0.1, 0.4)),
        limits=limits,
        phase_ceiling=draw(st.floats(0.2, 0.6)) if kind in ("preserve", "all") else None,
        max_phase_step=draw(st.floats(0.002, 0.02)) if kind in ("resolve", "all") else None,
        target=((0.0, 0.1), (4.0, 0.3), (20.0, 0.9)) if kind in ("track", "all") else (),
        budget_pC=draw(st.sampled_from([None, 600.0, 5000.0])),
        min_dose_pC=draw(st.floats(0, 20)),
        stopping_frames=float(delay),
        stopping_s=0.0 if is_linear else draw(st.sampled_from([0.0, 0.5])),
        weights=Weights(
            damage=0.0 if is_linear else draw(st.sampled_from([0.0, 5.0])),
            rate=draw(st.floats(0.005, 0.1)),
            time=draw(st.floats(0.005, 0.1)),
            track=100.0 if kind in ("track", "all") else 0.0,
        ),
        horizon=draw(st.sampled_from([1, 5, 8])),
    )


def by_cvxpy(asked: Problem, scaled: Scaled, nominal, solver=cp.CLARABEL) -> float:  # noqa: PLR0912 - as many as the problem has parts
    """The least cost by the text of docs/explanation/control.md, written down once more and put into cones by cvxpy."""
    H, q, s = asked.horizon, asked.nominal_dose_pC, asked.nominal_dwell_s
    lim, w = asked.limits, asked.weights
    n, tau = cp.Variable(H), cp.Variable(H)
    N, T = cp.cumsum(n), cp.cumsum(tau)
    short, over_budget = cp.Variable(H, nonneg=True), cp.Variable(nonneg=True)
    rate = sum(cp.quad_over_lin(n[k], tau[k]) for k in range(H))
    high = np.full(H, lim.max_current_pA * s / q)
    before = np.concatenate([[0.0], nominal[0][:-1]])
    if asked.stopping_s and asked.phase_ceiling is not None and math.isfinite(scaled.slowing):
        needed = min(max(lim.min_current_pA * s / q, asked.min_dose_pC / q), high[0])
        left = np.maximum(scaled.slowing - before, 0)
        high = np.clip(left * s / (asked.approach * asked.stopping_s), needed, high)
    held = [
        tau[0] >= lim.min_dwell_s / s,
        tau >= 0,
        tau <= lim.max_dwell_s / s,
        n >= lim.min_current_pA * s / q * tau,
        n <= cp.multiply(high, tau),
        n <= lim.max_dose_pC / q,
        n >= asked.min_dose_pC / q - short,
    ]
    least = lim.min_current_pA * lim.min_dwell_s
    if math.isfinite(lim.dose_rise_pC):
        held += [n[0] <= max(asked.last_dose_pC + lim.dose_rise_pC, least) / q]
        held += [n[k] - n[k - 1] <= lim.dose_rise_pC / q for k in range(1, H)]
    if math.isfinite(lim.dwell_rise_s):
        held += [tau[0] <= max(asked.last_dwell_s + lim.dwell_rise_s, lim.min_dwell_s) / s]
        held += [tau[k] - tau[k - 1] <= lim.dwell_rise_s / s for k in range(1, H)]
    if asked.budget_pC is not None:
        held += [cp.sum(n) <= (asked.budget_pC - sum(asked.ordered_pC)) / q + over_budget]
    later = cone_program.LATER_COUNTS_LESS ** np.arange(H)
    cost = -cp.sum(cp.sqrt(n)) + w.rate * rate + w.time * T[-1]
    cost += (
        cone_program.FLOOR_PRICE * cone_program.FLOOR_LATER ** np.arange(H) @ short
        + cone_program.CEILING_PRICE * over_budget
    )
    slope = np.interp(nominal[0], scaled.dose, scaled.slope)
    cost += w.damage * slope[-1] * N[-1]
    if asked.phase_ceiling is not None:
        over, over_stopping = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        stopping = max(asked.approach * asked.stopping_frames, asked.approach_frames)
        if math.isfinite(scaled.end):
            held += [N[-1] <= scaled.end + over]
        if math.isfinite(scaled.slowing):
            held += [N + stopping * n <= scaled.slowing + over_stopping]
        cost += cone_program.CEILING_PRICE * over + cone_program.STOPPING_PRICE / (H + stopping) * over_stopping
    if asked.max_phase_step is not None:
        blurred = cp.Variable(H, nonneg=True)

        def change(at):
            return np.interp(at, scaled.dose, scaled.change)

        def steep(at):
            return np.interp(at, scaled.dose, scaled.steep)

        for k in range(H):
            step = change(nominal[0][k]) - change(before[k]) + steep(nominal[0][k]) * (N[k] - nominal[0][k])
            if k:
                step -= steep(before[k]) * (N[k - 1] - before[k])
            held += [step <= asked.max_phase_step * (1 + blurred[k])]
        cost += cone_program.RESOLUTION_PRICE * later @ blurred
    if w.track > 0:
        at_s, wanted = np.array(asked.target).T
        now, soon = (np.interp((nominal[1] + later_by) * s, at_s, wanted) for later_by in (0.0, 1e-3))
        x = np.interp(nominal[0], scaled.dose, scaled.phase) + cp.multiply(slope, N - nominal[0])
        cost += w.track * cp.norm1(x - now - cp.multiply((soon - now) / 1e-3, T - nominal[1]))
    asked_again = cp.Problem(cp.Minimize(cost), held)
    if solver == cp.CLARABEL:
        asked_again.solve(solver=solver, tol_gap_rel=1e-9, tol_gap_abs=1e-9)
    else:
        asked_again.solve(solver=solver, eps_abs=1e-6, eps_rel=1e-6, max_iters=100_000)
    assert asked_again.status == cp.OPTIMAL
    return float(asked_again.value)


def one_pass(asked: Problem):
    """Program of the first pass, its solution, and the nominal plan that it is linearised about."""
    import clarabel

    scaled = Scaled.of(asked)
    nominal = mpc._first_nominal(asked, scaled, None)
    program = filled_program(asked, scaled, nominal)
    cones, quadratic, settings_ = mpc._cones(Shape.of(asked))
    solution = clarabel.DefaultSolver(quadratic, program.cost, program.a, program.b, cones, settings_).solve()
    assert solution.status == clarabel.SolverStatus.Solved
    return scaled, nominal, program, np.asarray(solution.x)


def possible(asked: Problem) -> Problem:
    try:
        mpc.require_possible(asked)
    except ProblemError:
        assume(False)
    return asked


@settings(max_examples=60, deadline=None)
@given(problems())
def test_costs_agree_with_cvxpy_s_and_the_constraints_hold(asked):
    scaled, nominal, program, x = one_pass(possible(asked))
    assert mpc.holds(program, x)
    assert program.cost @ x == pytest.approx(by_cvxpy(asked, scaled, nominal), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"stopping_frames": 8.0},
        {"phase_ceiling": None, "max_phase_step": 0.005},
        {"phase_ceiling": None, "target": ((0.0, 0.2), (9.0, 0.5)), "weights": Weights(track=100.0)},
    ],
)
def test_costs_agree_with_a_solver_of_another_kind(changes):
    """SCS is a first-order method and shares nothing with the interior-point one."""
    asked = problem(**changes)
    scaled, nominal, program, x = one_pass(asked)
    assert program.cost @ x == pytest.approx(by_cvxpy(asked, scaled, nominal, cp.SCS), rel=1e-3, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_what_is_ordered_next_keeps_every_limit(asked):
    plan = solve(possible(asked))
    if plan.blank:
        return
    lim = asked.limits
    dose_pC, dwell_s = float(plan.dose_pC[0]), float(plan.dwell_s[0])
    assert lim.min_dwell_s <= dwell_s <= lim.max_dwell_s
    assert lim.min_current_pA * dwell_s * (1 - 1e-9) <= dose_pC <= lim.max_current_pA * dwell_s * (1 + 1e-9)
    assert dose_pC <= lim.max_dose_pC
    slack_pC = 1e-4 * NOMINAL_PC
    assert dose_pC <= max(asked.last_dose_pC + lim.dose_rise_pC, lim.min_current_pA * lim.min_dwell_s) + slack_pC
    assert dwell_s <= max(asked.last_dwell_s + lim.dwell_rise_s, lim.min_dwell_s) + 1e-4
    begin_pC = asked.dose_pC + sum(asked.ordered_pC)
    if asked.phase_ceiling is not None and asked.curve.phase[-1] > asked.phase_ceiling:
        assert begin_pC + dose_pC <= ceiling_pC(asked) + slack_pC
    if asked.budget_pC is not None:
        assert sum(asked.ordered_pC) + dose_pC <= asked.budget_pC + slack_pC


def test_all_planned_frames_stay_below_the_ceiling_and_use_what_is_there():
    asked = problem(curve=jmak(begin_pC=4000.0), dose_pC=4000.0, approach_frames=0.0)
    plan = solve(asked)
    end_pC = asked.dose_pC + plan.dose_pC.sum()
    assert end_pC <= ceiling_pC(asked) + 0.01
    assert end_pC > ceiling_pC(asked) - 10
    assert plan.end_dose_pC == pytest.approx(ceiling_pC(asked), abs=0.5)
    assert plan.phase[-1] < 0.3


def test_the_last_frames_are_flown_at_the_floor_and_end_below_the_ceiling():
    """Past where the stopping distance can be kept: the floor goes before it, and the ceiling before the floor."""
    begin_pC = ceiling_pC(problem()) - 30.0
    asked = problem(curve=jmak(begin_pC=begin_pC), dose_pC=begin_pC, stopping_frames=8.0)
    plan = solve(asked)
    assert plan.dose_pC[:2] == pytest.approx([9.2, 9.2], rel=0.02)
    assert plan.dose_pC.sum() <= 30.0 + 0.5


def test_the_stopping_distance_slows_it_down_well_before_the_ceiling():
    """With eight frames to stop, a frame is a thirteenth of what is left, also where all eight would still fit."""
    free = solve(problem(curve=jmak(begin_pC=3600.0), dose_pC=3600.0, approach_frames=0.0))
    slow = solve(problem(curve=jmak(begin_pC=3600.0), dose_pC=3600.0, approach_frames=0.0, stopping_frames=8.0))
    left_pC = ceiling_pC(problem()) - 3600.0
    assert free.dose_pC[0] > 0.8 * left_pC / 8
    assert slow.dose_pC[0] == pytest.approx(left_pC / (1 + 1.5 * 8), rel=0.02)


def test_a_stopping_time_caps_the_current():
    asked = problem(curve=jmak(begin_pC=3600.0), dose_pC=3600.0, approach_frames=0.0, stopping_s=3.2)
    plan = solve(asked)
    assert plan.current_pA[0] <= (ceiling_pC(asked) - 3600.0) / (1.5 * 3.2) * (1 + 1e-6)
    assert plan.dose_pC[0] > 9.2 * (1 - 1e-3)


def test_the_wider_of_two_margins_slows_and_the_narrower_stops():
    asked = problem(curve=jmak(begin_pC=4100.0, sd=0.02), dose_pC=4100.0, margin_sd=0.5, slowing_sd=1.5)
    plan = solve(asked)
    assert asked.curve.phase[0] > 0.3 - 1.5 * 0.02
    assert not plan.blank
    assert plan.dose_pC[0] == pytest.approx(asked.min_dose_pC, rel=0.02)


def test_frames_already_ordered_are_flown_first():
    """The plan after a delay of five frames is the plan without delay from where those five lead."""
    asked = problem(ordered_pC=(92.0,) * 5)
    later = problem(curve=jmak(begin_pC=3460.0), dose_pC=3460.0)
    assert solve(asked).dose_pC == pytest.approx(solve(later).dose_pC, rel=2e-3)


def test_where_what_is_ordered_leads_past_the_ceiling_it_blanks_at_once():
    plan = solve(problem(curve=jmak(begin_pC=3800.0), dose_pC=3800.0, ordered_pC=(92.0,) * 8))
    assert plan.blank
    assert "ceiling of 0.3" in plan.reason
    assert not len(plan.dose_pC)


def test_a_ceiling_below_the_present_phase_blanks_and_says_so():
    plan = solve(problem(curve=jmak(begin_pC=8000.0), dose_pC=8000.0, phase_ceiling=0.1))
    assert plan.blank
    assert "reaches the ceiling of 0.1" in plan.reason


@pytest.mark.parametrize("budget_pC", [0.0, 3.0])
def test_a_spent_budget_blanks_and_says_so(budget_pC):
    plan = solve(problem(budget_pC=budget_pC))
    assert plan.blank
    assert "left of the budget" in plan.reason or "too little for a frame" in plan.reason


def test_a_budget_is_never_overdrawn():
    plan = solve(problem(budget_pC=300.0, ordered_pC=(92.0,)))
    assert plan.dose_pC.sum() <= 208.0 + 0.01


@settings(max_examples=40, deadline=None)
@given(problems(kinds=("preserve",), is_linear=True), st.floats(0.0, 0.1))
def test_a_lower_ceiling_never_asks_for_more_dose(asked, lower):
    high, low = solve(possible(asked)), solve(replace(asked, phase_ceiling=asked.phase_ceiling - lower))
    assert low.dose_pC.sum() <= high.dose_pC.sum() + 1e-2 * NOMINAL_PC


@settings(max_examples=40, deadline=None)
@given(problems(kinds=("preserve",), is_linear=True), st.floats(100.0, 3000.0), st.floats(0.0, 1.0))
def test_a_smaller_budget_never_asks_for_more_dose(asked, budget_pC, share):
    high, low = (solve(replace(possible(asked), budget_pC=budget)) for budget in (budget_pC, share * budget_pC))
    assert low.dose_pC.sum() <= high.dose_pC.sum() + 1e-2 * NOMINAL_PC


@settings(max_examples=60, deadline=None)
@given(problems())
def test_there_is_always_an_answer_and_blanking_is_one(asked):
    """However contradictory what is wanted: a plan that holds, or blanking with a reason. Never neither."""
    plan = solve(possible(asked))
    assert plan.status in ("solved", "blank")
    assert plan.blank == (len(plan.dose_pC) == 0) == (plan.status == "blank") == bool(plan.reason)
    assert np.isfinite(plan.dose_pC).all()
    assert (plan.dwell_s > 0).all()


def test_what_will_be_known_better_in_time_slows_down_and_does_not_blank():
    """Sixteen frames on their way lead into what is uncertain now; they will be measured before the next one is flown."""
    curve = jmak(begin_pC=2400.0)
    unsure_later = replace(curve, phase_sd=0.01 + 0.1 * (curve.dose_pC - 2400.0) / 2400.0)
    asked = problem(curve=unsure_later, dose_pC=2400.0, ordered_pC=(92.0,) * 16, stopping_frames=16.0)
    plan = solve(asked)
    assert not plan.blank
    assert plan.dose_pC[0] == pytest.approx(asked.min_dose_pC, rel=0.02)
    assert solve(replace(asked, curve=replace(curve, phase_sd=np.full(129, 0.08)))).blank  # as unsure already now


def test_more_uncertainty_means_less_dose():
    sure, unsure = (solve(problem(curve=jmak(sd=sd), stopping_frames=8.0)) for sd in (0.005, 0.05))
    assert unsure.dose_pC.sum() < 0.9 * sure.dose_pC.sum()


# Resolution and target: what is linearised


def steepest() -> Problem:
    return problem(curve=jmak(begin_pC=2500.0, sd=0.0), dose_pC=2500.0, phase_ceiling=None, max_phase_step=0.004)


def test_no_frame_changes_the_specimen_by_more_than_the_phase_step():
    asked = steepest()
    plan = solve(asked)
    dose = asked.dose_pC + np.concatenate([[0.0], np.cumsum(plan.dose_pC)])
    change = np.diff(np.interp(dose, asked.curve.dose_pC, asked.curve.phase))
    assert change.max() < 0.004
    assert change.min() > 0.8 * 0.004  # and what the margin leaves is used


def test_where_the_change_is_slow_frames_are_whole():
    asked = replace(steepest(), curve=jmak(begin_pC=200.0, sd=0.0), dose_pC=200.0)
    assert solve(asked).dose_pC[0] > 0.99 * NOMINAL_PC


def test_the_phase_step_goes_before_the_floor():
    asked = replace(steepest(), min_dose_pC=80.0)
    plan = solve(asked)
    assert plan.dose_pC[0] < 0.6 * 80.0


def test_the_dwell_shortens_with_the_dose_at_the_current_that_the_weights_like():
    plan = solve(replace(steepest(), weights=Weights(rate=0.02, time=0.02 * 0.25)))
    assert plan.current_pA[0] == pytest.approx(0.5 * NOMINAL_PC / NOMINAL_S, rel=0.02)
    assert plan.dwell_s[0] == pytest.approx(plan.dose_pC[0] / plan.current_pA[0])


def test_a_target_is_followed():
    now = float(jmak().phase[0])
    asked = problem(phase_ceiling=None, target=((0.0, now), (10.0, now + 0.1)), weights=Weights(track=1000.0))
    plan = solve(asked)
    assert plan.phase == pytest.approx(now + 0.01 * np.cumsum(plan.dwell_s), abs=2e-3)


def test_a_target_already_passed_asks_for_as_little_as_may_be():
    asked = problem(
        phase_ceiling=None, target=((0.0, 0.01), (10.0, 0.02)), weights=Weights(track=1000.0), min_dose_pC=0.0
    )
    assert solve(asked).current_pA[0] < 20


@settings(max_examples=40, deadline=None)
@given(problems())
def test_passes_come_together(asked):
    """Once the nominal plan is a solution, so is the next: the passes have somewhere to come to."""
    plan = solve(possible(asked))
    for _ in range(3):
        assume(not plan.blank)
        plan = solve(asked, plan)
    assume(not plan.blank)
    assert plan.linearisation_gap < 0.05


def test_passes_end_as_soon_as_nothing_moves():
    asked = steepest()
    first = solve(asked)
    again = solve(asked, first)
    assert 1 <= again.passes <= first.passes <= mpc.PASSES
    assert again.linearisation_gap < mpc.CONVERGED
    assert solve(problem()).passes == 1  # nothing in it is linearised


# Bad numbers

NUMBERS = [
    "dose_pC", "last_dose_pC", "last_dwell_s", "nominal_dose_pC", "nominal_dwell_s", "budget_pC", "phase_ceiling",
    "phase_margin", "margin_sd", "slowing_sd", "stopping_frames", "stopping_s", "approach", "approach_frames",
    "max_phase_step", "phase_step_sd", "min_dose_pC",
]  # fmt: skip


def test_every_number_of_a_problem_is_among_those_tried_here():
    others = {"curve", "ordered_pC", "limits", "weights", "target", "horizon"}
    assert {field.name for field in fields(Problem)} == {*NUMBERS, *others}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_named(name, value):
    with pytest.raises(ProblemError, match=name):
        solve(problem(**{name: value}))


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in ("phase_ceiling", "phase_margin")])
def test_a_number_below_zero_is_named(name):
    with pytest.raises(ProblemError, match=name):
        solve(problem(**{name: -1.0}))


@pytest.mark.parametrize("value", [math.nan, -1.0])
@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_that_is_none_is_named(name, value):
    with pytest.raises(ProblemError, match=name):
        solve(problem(limits=replace(LIMITS, **{name: value})))


@pytest.mark.parametrize("value", [math.nan, -1.0])
@pytest.mark.parametrize("name", [field.name for field in fields(Weights)])
def test_a_weight_that_is_none_is_named(name, value):
    with pytest.raises(ProblemError, match=name):
        solve(problem(weights=replace(Weights(), **{name: value})))


CONTRADICTIONS = {
    "dwells": ({"limits": replace(LIMITS, min_dwell_s=3.0)}, "min_dwell_s 3 is above max_dwell_s 2"),
    "currents": ({"limits": replace(LIMITS, min_current_pA=300.0)}, "min_current_pA 300 is above"),
    "least dose": ({"limits": replace(LIMITS, min_current_pA=200.0, min_dwell_s=1.0)}, "max_dose_pC 92 is below"),
    "floor": ({"min_dose_pC": 100.0}, "min_dose_pC 100 is above max_dose_pC 92"),
    "margins": ({"margin_sd": 2.0}, "slowing_sd 1 is below margin_sd 2"),
    "ordered": ({"ordered_pC": (92.0, math.nan)}, "ordered_pC"),
    "horizon": ({"horizon": 0}, "horizon is 0"),
    "no current": ({"limits": replace(LIMITS, min_current_pA=0.0, max_current_pA=0.0)}, "max_current_pA is 0"),
    "short curve": ({"curve": jmak(until_pC=3100.0)}, "the phase curve ends at 3100 pC"),
    "late curve": ({"dose_pC": 2000.0}, "begins after the newest spectrum"),
    "curve of NaN": ({"curve": replace(jmak(), phase=np.full(129, math.nan))}, "curve is not finite"),
    "falling curve": ({"curve": replace(jmak(), slope=np.full(129, -1e-5))}, "falls"),
    "doses fall": ({"curve": replace(jmak(), dose_pC=jmak().dose_pC[::-1].copy())}, "do not rise"),
    "uneven curve": ({"curve": replace(jmak(), slope=np.zeros(3))}, "differ in length"),
    "target back in time": ({"target": ((1.0, 0.1), (0.0, 0.2)), "weights": Weights(track=1.0)}, "times do not rise"),
    "no target": ({"weights": Weights(track=1.0)}, "there is no target"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_numbers_that_contradict_each_other_are_named(what):
    changes, message = CONTRADICTIONS[what]
    with pytest.raises(ProblemError, match=message):
        solve(problem(**changes))


# Where the solver fails


def failing(asked: Problem, previous: Plan | None, iterations: int = 1) -> Plan:
    """A solve whose solver gives up after so many iterations, with an iterate that has not converged."""
    cones, quadratic, _ = mpc._cones(Shape.of(asked))
    import clarabel

    hasty = clarabel.DefaultSettings()
    hasty.verbose, hasty.max_iter = False, iterations
    with mock.patch.object(mpc, "_cones", return_value=(cones, quadratic, hasty)):
        return solve(asked, previous)


def test_a_failed_solve_lets_the_plan_before_go_on():
    asked = problem()
    before = solve(asked).shifted(1)
    plan = failing(asked, before)
    assert plan.status == "fallback"
    assert "goes on" in plan.reason
    assert (plan.dose_pC == before.dose_pC).all()


@pytest.mark.parametrize("iterations", range(2, 10))
def test_an_iterate_that_keeps_to_every_constraint_is_not_a_plan_either(iterations):
    assert failing(problem(), None, iterations).blank


def test_a_failed_solve_without_a_plan_before_blanks():
    assert failing(problem(), None).blank


def test_a_plan_before_that_leads_past_the_ceiling_does_not_go_on():
    before = solve(problem()).shifted(1)
    end_pC = ceiling_pC(problem())
    asked = problem(curve=jmak(begin_pC=end_pC - 20.0), dose_pC=end_pC - 20.0)
    assert failing(asked, before).blank


def test_a_plan_runs_out_into_blanking():
    plan = solve(problem())
    assert len(plan.shifted(3).dose_pC) == 5
    assert plan.shifted(8).blank
    assert plan.shifted(8).shifted(1).blank
    with pytest.raises(ValueError, match="shifted"):
        plan.shifted(-1)


def test_a_solution_that_breaks_any_row_is_not_believed():
    _, _, program, x = one_pass(problem(max_phase_step=0.005))
    assert mpc.holds(program, x)
    tight = program.b - program.a @ x
    for row in range(program.inequalities):
        b = program.b.copy()
        b[row] -= tight[row] + 1e-3
        assert not mpc.holds(replace(program, b=b), x), row
    for k in range(8):
        further = x.copy()
        further[structure(Shape(8, True, True, False)).variables["u"].start + k] += 0.01
        assert not mpc.holds(program, further)
    assert not mpc.holds(program, np.full_like(x, math.nan))


def test_presets_make_problems_that_are_possible():
    from controller.plant import PhaseEstimate
    from controller.presets import problem_for
    from tests.summaries import Told

    specimen, estimate = Told(7500.0, 1.9, seed=1), PhaseEstimate()
    for _ in range(30):
        said = specimen.expose(92.0)
        estimate = estimate if said is None else estimate.with_summary(said)
    for preset in PRESETS.values():
        asked = problem_for(
            replace(preset, target=((0.0, 0.0), (60.0, 0.5))) if preset.name == "track" else preset,
            estimate,
            limits=LIMITS,
            ordered_pC=(92.0,),
            last_dose_pC=92.0,
            last_dwell_s=0.4,
            nominal_dose_pC=92.0,
            nominal_dwell_s=0.4,
            time_s=12.0,
        )
        plan = solve(asked)
        assert not plan.blank, preset.name
        assert plan.dose_pC[0] <= 92.0 * preset.max_dose_share * (1 + 1e-9)
