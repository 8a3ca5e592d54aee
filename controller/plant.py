"""How the specimen's phase follows dose, learnt from the forecasts of a session so far. Pure.

Operations: take a forecast in; give phase, slope and their standard deviations at any dose; give them on a grid of doses.

Goals. All forecasts count, since the noise of each is as large as the margin that control can afford. An interval that is
too narrow costs a specimen and one that is too wide costs dose, so intervals are calibrated (tests/unit/test_plant.py).
What lies further ahead than anything seen is uncertain in both directions, and damage may speed up.

Plan. The phase that a model measures is g = g0 + (1 − g0)·x: g0 is what it reads on this specimen when pristine, which is
taken to be so at the session's start; x is the change since. For x the JMAK law with dose for time, x = 1 − exp(−(D/Dc)^m),
is the curve that is fitted: two numbers, wide priors, and no Gaussian shape assumed for what is known of them, since before
the transition begins it has none. The posterior is a grid of (u, ln m), where u = ln (Dp/Dc)^m at a pivot dose Dp near the newest
one: there the two are almost independent. g0 enters linearly, so it's integrated out in closed form at each point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.wire.messages import Interval, Summary

Floats = NDArray[np.float64]

Z_95 = 1.959964  # a 95 % interval is ±1.96 standard deviations
ABSURD_PHASE = (
    -1.0,
    2.0,
)  # 0 is pristine and 1 transformed; no measurement of either lies further out than the two are apart
WIDEST_INTERVAL = (
    4.0  # from end to end; a wider one says nothing of where between pristine and transformed a specimen is
)
MIN_DEVIATION = 1e-3  # no phase is known better from one spectrum; bounds the weight of a sender who says so

OFFSET_SD = 0.15  # prior of g0: between specimens, what a model reads on a pristine one
CALIBRATED_OFFSET_SD = 0.01  # the same where the forecaster has calibrated its phase to the session's start
UNCALIBRATED_SCALE_SD = 0.05  # of a phase that nobody calibrated, relative
EXPONENT_MEDIAN, EXPONENT_LOG_SD = 1.8, 0.4  # prior of m, log-normal: 0.8 to 4 within 95 %
EXPONENT_RANGE = (0.6, 5.0)
CRITICAL_DOSE_RANGE = (2.0, 3e4)  # prior of Dc, in reference doses
CAUTION = (
    0.5  # and in it the odds fall as Dc to minus this: who has seen nothing yet expects it sooner rather than never
)
U_RANGE = (-14.0, math.log(12.0))  # phase at the pivot from 1e-6 to 0.99999
U_POINTS, EXPONENT_POINTS = 33, 17
TARGET_NOISE_TOO = (
    2.0  # a forecast's interval is from validation against noisy spectra, and about half its variance is theirs
)
REACH_SD = 4.5  # how far the grid reaches on either side of what is known
EDGE_MASS = 2e-3  # posterior that may lie at the grid's edge before the whole range is searched anew
MAX_BINS = 96
NEGLIGIBLE = 1e-6  # of the weight of the likeliest point: all with less, together, change no digit that is shown


class UnusableSummaryError(ValueError):
    """A forecast from which nothing about the specimen can be learnt; the message says why."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Phase against cumulative dose, each `(point,)`: the mean and standard deviation of phase, and of its slope per pC."""

    dose_pC: Floats
    phase: Floats
    phase_sd: Floats
    slope: Floats
    slope_sd: Floats


@dataclass(frozen=True, slots=True)
class PhaseEstimate:
    """What is known of phase against dose in one session. Begin with `PhaseEstimate()`."""

    reference_dose_pC: float | None = None
    dose_pC: float = 0.0  # at the end of the newest spectrum
    forecasts: int = 0
    scatter: float = 0.0  # of the calibration from specimen to specimen: it's the same in all forecasts of a session
    is_calibrated: bool | None = (
        None  # whether the forecaster tells transformed fractions; else phases, as the model reads them
    )
    bins: _Bins | None = None
    posterior: _Posterior | None = None

    def with_summary(self, summary: Summary, dose_pC: float | None = None) -> PhaseEstimate:
        """What is known after one forecast more.

        dose_pC: all that the specimen received in this session by the end of the spectrum `from_seq`; without it, the
        summary's own `at_dose_pC`. Raises UnusableSummaryError, and nothing changes.
        """
        at_dose_pC = summary.at_dose_pC if dose_pC is None else dose_pC
        if at_dose_pC is None:
            raise UnusableSummaryError("it does not say at which dose it was made")
        if not math.isfinite(at_dose_pC) or at_dose_pC <= 0:
            raise UnusableSummaryError(f"its dose is {at_dose_pC:g} pC")
        reference_pC = summary.reference_dose_pC
        if self.reference_dose_pC not in (None, reference_pC):
            raise UnusableSummaryError(
                f"its reference dose is {reference_pC:g} pC, and that of those before {self.reference_dose_pC:g} pC"
            )
        if at_dose_pC <= self.dose_pC:
            raise UnusableSummaryError(
                f"it was made at {at_dose_pC:g} pC, and one at {self.dose_pC:g} pC is known already"
            )
        is_calibrated = summary.fraction_now is not None
        if self.is_calibrated not in (None, is_calibrated):
            raise UnusableSummaryError("its phase is on another scale than that of those before")
        doses, values, weights = _observations(summary, at_dose_pC, at_dose_pC - self.dose_pC, self.forecasts == 0)
        offset_sd = CALIBRATED_OFFSET_SD if is_calibrated else OFFSET_SD
        bins = (self.bins or _Bins.empty(reference_pC)).with_observations(doses, values, weights)
        pivot_pC = max(at_dose_pC, reference_pC)
        grid = _carried_grid(self.posterior, pivot_pC)
        posterior = None if grid is None else _posterior(bins, offset_sd, reference_pC, pivot_pC, *grid)
        if posterior is None or posterior.at_edge > EDGE_MASS:
            posterior = _found_anew(bins, offset_sd, reference_pC, pivot_pC)
        return replace(
            self,
            reference_dose_pC=reference_pC,
            dose_pC=at_dose_pC,
            forecasts=self.forecasts + 1,
            scatter=_scatter(summary),
            is_calibrated=is_calibrated,
            bins=bins,
            posterior=posterior,
        )

    def phase_at(self, dose_pC: float) -> tuple[float, float]:
        """Phase since the session's start at a cumulative dose, and its standard deviation."""
        curve = self.on(np.array([dose_pC]))
        return float(curve.phase[0]), float(curve.phase_sd[0])

    def slope_at(self, dose_pC: float) -> tuple[float, float]:
        """Phase per pC at a cumulative dose, never below 0, and its standard deviation."""
        curve = self.on(np.array([dose_pC]))
        return float(curve.slope[0]), float(curve.slope_sd[0])

    def curve(self, until_dose_pC: float, points: int = 65) -> Curve:
        """Phase from the newest spectrum on, up to a cumulative dose, at evenly spaced doses."""
        return self.on(np.linspace(self.dose_pC, max(until_dose_pC, self.dose_pC * (1 + 1e-9) + 1e-9), points))

    def on(self, dose_pC: Floats) -> Curve:
        """Phase and slope at given cumulative doses, `(point,)`, pC. Raises ValueError before the first forecast."""
        if self.posterior is None:
            raise ValueError("no forecast has been taken in")
        p = self.posterior
        counts = p.weight > NEGLIGIBLE * p.weight.max()
        u, exponent, weight = p.u[counts, None], p.exponent[counts, None], p.weight[counts] / p.weight[counts].sum()
        doses = np.maximum(np.asarray(dose_pC, dtype=np.float64), 1e-9 * p.pivot_pC)
        # In place, since fresh memory takes longer than the arithmetic: this is done between two frames.
        hazard = exponent * np.log(doses / p.pivot_pC)
        hazard += u
        np.exp(np.clip(hazard, -60.0, 6.0, out=hazard), out=hazard)
        x = np.exp(-hazard)
        slope = hazard  # times what is left and the exponent, and over the dose
        slope *= x
        slope *= exponent
        np.subtract(1.0, x, out=x)
        mean, mean_slope = weight @ x, weight @ slope
        scale_sd = 0.0 if self.is_calibrated else UNCALIBRATED_SCALE_SD
        variance = np.maximum(weight @ np.square(x, out=x) - mean**2, 0.0)
        slope_variance = np.maximum(weight @ np.square(slope, out=slope) - mean_slope**2, 0.0)
        return Curve(
            np.asarray(dose_pC, dtype=np.float64),
            mean,
            np.sqrt(variance + (scale_sd * mean) ** 2 + self.scatter**2),
            mean_slope / doses,
            np.sqrt(slope_variance) / doses,
        )


@dataclass(frozen=True, slots=True)
class _Bins:
    """Measured phases in bins of dose: weight (1/variance), and weighted means of dose and phase, each `(bin,)`."""

    width_pC: float
    index: NDArray[np.int64]
    weight: Floats
    dose_pC: Floats
    value: Floats

    @classmethod
    def empty(cls, width_pC: float) -> _Bins:
        none = np.zeros(0)
        return cls(width_pC, np.zeros(0, dtype=np.int64), none, none, none)

    def with_observations(self, dose_pC: Floats, value: Floats, weight: Floats) -> _Bins:
        width_pC = self.width_pC
        all_doses = np.concatenate([self.dose_pC, dose_pC])
        all_values = np.concatenate([self.value, value])
        all_weights = np.concatenate([self.weight, weight])
        while True:
            index = np.floor_divide(all_doses, width_pC).astype(np.int64)
            found, inverse = np.unique(index, return_inverse=True)
            if len(found) <= MAX_BINS:
                break
            width_pC *= 2
        sums = np.asarray(np.bincount(inverse, all_weights), dtype=np.float64)
        return _Bins(
            width_pC,
            found.astype(np.int64),
            sums,
            np.bincount(inverse, all_weights * all_doses) / sums,
            np.bincount(inverse, all_weights * all_values) / sums,
        )


@dataclass(frozen=True, slots=True)
class _Posterior:
    """Weighted points (u, m), each `(point,)`; weights sum to 1. `at_edge`: the share that lies on the grid's outermost points."""

    pivot_pC: float
    u: Floats
    exponent: Floats
    weight: Floats
    at_edge: float
    offset: float

    def moments(self) -> tuple[float, float, float, float]:
        """Mean and standard deviation of u, and of ln m."""
        log_m = np.log(self.exponent)
        u_mean, m_mean = float(self.weight @ self.u), float(self.weight @ log_m)
        u_sd = math.sqrt(max(float(self.weight @ (self.u - u_mean) ** 2), 0.0))
        m_sd = math.sqrt(max(float(self.weight @ (log_m - m_mean) ** 2), 0.0))
        return u_mean, u_sd, m_mean, m_sd


def _observations(
    summary: Summary, at_dose_pC: float, new_dose_pC: float, first: bool
) -> tuple[Floats, Floats, Floats]:
    """What a forecast says of phase: doses, values and weights, `(observation,)`.

    A spectrum is measured over a span of dose, and stands for its middle. The phases forecast come from one window that shares
    all but the newest spectrum with the window before. So together they count as one measurement for each windowful of
    new dose, and the newest spectrum, whose noise is its own, counts in full.
    """
    reference_pC = summary.reference_dose_pC
    half_pC = reference_pC / 2
    windowful = 1.0 if first else min(1.0, new_dose_pC / (summary.window * reference_pC))
    doses, values, weights = [], [], []
    now, ahead = summary.phase_now, summary.phase
    if summary.fraction_now is not None:
        now, ahead = summary.fraction_now, summary.fraction or ()
    if now is not None:
        value, deviation = _taken(now, "phase now")
        # A window on dose measures its newest step, most of which the window before had measured already.
        seen = min(1.0, new_dose_pC / reference_pC) if summary.window_domain == "dose" else 1.0
        doses.append(max(at_dose_pC - half_pC, 0.0))
        values.append(value)
        weights.append(seen / deviation**2)
    for horizon, interval in zip(summary.horizons, ahead, strict=len(ahead) > 0):
        value, deviation = _taken(interval, f"phase {horizon} ahead")
        doses.append(at_dose_pC + horizon * reference_pC - half_pC)
        values.append(value)
        weights.append(TARGET_NOISE_TOO * windowful / (len(ahead) * deviation**2))
    return np.array(doses), np.array(values), np.array(weights)


def _scatter(summary: Summary) -> float:
    """Of the calibration, as the forecaster says; none where there is no calibration, whose doubts are priors here."""
    if summary.fraction_now is None or summary.fraction_scatter is None:
        return 0.0
    if not 0 <= summary.fraction_scatter <= WIDEST_INTERVAL:
        raise UnusableSummaryError(f"the scatter of its phase is {summary.fraction_scatter:g}")
    return summary.fraction_scatter


def _taken(interval: Interval, name: str) -> tuple[float, float]:
    """Value and standard deviation of a phase; raises UnusableSummaryError where it can't be one."""
    value, low, high = interval.value, interval.low, interval.high
    if not all(map(math.isfinite, (value, low, high))):
        raise UnusableSummaryError(f"its {name} is not finite")
    if not ABSURD_PHASE[0] <= value <= ABSURD_PHASE[1]:
        raise UnusableSummaryError(f"its {name} is {value:g}, and a phase lies between 0 and 1")
    if not low <= value <= high or high - low > WIDEST_INTERVAL:
        raise UnusableSummaryError(f"its {name} is {value:g} with an interval from {low:g} to {high:g}")
    return value, max((high - low) / (2 * Z_95), MIN_DEVIATION)


def _carried_grid(before: _Posterior | None, pivot_pC: float) -> tuple[float, float, float, float] | None:
    """Limits of u and of ln m that cover what was known before, at the new pivot."""
    if before is None:
        return None
    u, u_sd, log_m, m_sd = before.moments()
    moved = math.log(pivot_pC / before.pivot_pC)
    m = math.exp(log_m)
    return _limits(u + m * moved, math.hypot(u_sd, m * m_sd * moved), log_m, m_sd)


def _limits(u: float, u_sd: float, log_m: float, m_sd: float) -> tuple[float, float, float, float]:
    reach_u, reach_m = REACH_SD * max(u_sd, 0.005), REACH_SD * max(m_sd, 0.005)
    low, high = (math.log(end) for end in EXPONENT_RANGE)
    return (
        min(max(u - reach_u, U_RANGE[0]), U_RANGE[1] - 0.01),
        max(min(u + reach_u, U_RANGE[1]), U_RANGE[0] + 0.01),
        min(max(log_m - reach_m, low), high - 0.01),
        max(min(log_m + reach_m, high), low + 0.01),
    )


def _found_anew(bins: _Bins, offset_sd: float, reference_pC: float, pivot_pC: float) -> _Posterior:
    """The posterior by search from the whole range inwards."""
    low, high = (math.log(end) for end in EXPONENT_RANGE)
    posterior = _posterior(bins, offset_sd, reference_pC, pivot_pC, *U_RANGE, low, high, finer=3)
    for _ in range(2):
        posterior = _posterior(bins, offset_sd, reference_pC, pivot_pC, *_limits(*posterior.moments()))
    return posterior


def _posterior(
    bins: _Bins,
    offset_sd: float,
    reference_pC: float,
    pivot_pC: float,
    u_low: float,
    u_high: float,
    m_low: float,
    m_high: float,
    finer: int = 1,
) -> _Posterior:
    """Posterior on an even grid of (u, ln m), given all bins; g0 integrated out.

    With r = v − x and a = 1 − x, v = x + g0·a + noise, and g0 ~ N(0, s²): the log evidence of a point is
    −(Σ w r² − (Σ w a r)² / A) / 2 − ln(A) / 2 with A = Σ w a² + 1/s².
    """
    u_axis, m_axis = np.linspace(u_low, u_high, U_POINTS * finer), np.linspace(m_low, m_high, EXPONENT_POINTS)
    u, log_m = (axis.ravel() for axis in np.meshgrid(u_axis, m_axis, indexing="ij"))
    m = np.exp(log_m)
    ratio = np.log(np.maximum(bins.dose_pC, 1e-9 * pivot_pC) / pivot_pC)
    left = np.exp(-np.exp(np.minimum(u[:, None] + m[:, None] * ratio, 6.0)))  # a = 1 − x
    residual = bins.value + left - 1.0
    weighted = left * bins.weight
    A = np.einsum("pb,pb->p", weighted, left) + 1.0 / offset_sd**2
    B = np.einsum("pb,pb->p", weighted, residual)
    log_critical = math.log(pivot_pC / reference_pC) - u / m
    outside = np.maximum(math.log(CRITICAL_DOSE_RANGE[0]) - log_critical, 0.0) + np.maximum(
        log_critical - math.log(CRITICAL_DOSE_RANGE[1]), 0.0
    )
    log_prior = (
        -0.5 * ((log_m - math.log(EXPONENT_MEDIAN)) / EXPONENT_LOG_SD) ** 2
        - log_m  # from ln Dc to u
        - CAUTION * log_critical
        - 0.5 * (outside / 0.1) ** 2
    )
    log_weight = -0.5 * ((residual * residual) @ bins.weight - B * B / A) - 0.5 * np.log(A) + log_prior
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    on_grid = weight.reshape(len(u_axis), len(m_axis))
    at_edge = 0.0
    low, high = (math.log(end) for end in EXPONENT_RANGE)
    if u_low > U_RANGE[0]:
        at_edge = max(at_edge, float(on_grid[0].sum()))
    if u_high < U_RANGE[1]:
        at_edge = max(at_edge, float(on_grid[-1].sum()))
    if m_low > low:
        at_edge = max(at_edge, float(on_grid[:, 0].sum()))
    if m_high < high:
        at_edge = max(at_edge, float(on_grid[:, -1].sum()))
    return _Posterior(pivot_pC, u, m, weight, at_edge, float(weight @ (B / A)))
