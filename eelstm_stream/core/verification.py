"""Forecasts against what then came: live errors, their baselines, and the noise floor of the stream."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.window import Window
from eelstm_stream.wire.messages import MAX_HORIZONS, CameTrue, LiveSkill

SAME = 1e-6  # steps: a step that the stream has reached to within rounding is reached
APART = 0.5  # steps: forecasts from spectra closer to each other share nearly all of their windows, and are one
NOISE_SAMPLES = 101  # second differences kept for the median: steady to 1 %, and quick to sort at every spectrum

Counts = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast for one step that is still to come; all of them `(channel,)` counts at the reference dose."""

    horizon: int
    forecast: Counts
    persistence: Counts  # the newest step when the forecast was made
    window_mean: Counts  # the mean of the window then


@dataclass(frozen=True, slots=True)
class SquaredErrors:
    """Sums over pairs of (step, horizon) of errors already averaged over channels."""

    pairs: int = 0
    forecast: float = 0.0
    persistence: float = 0.0
    window_mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """Pure bookkeeping of one session: what was forecast for which step, and how it turned out.

    A step is a spectrum or a reference dose, as the window counts. A forecast is held against what was measured of the step that
    it aimed at, once the stream has passed the end of it. Where spectra come several to a step, forecasts APART steps are taken:
    the others say the same.

    The noise floor is the rms of the second difference of three steps over √6, and its median over the last NOISE_SAMPLES of
    them: a change that is steady over the three cancels in it, a jump is rare enough for the median, and the correlation of
    neighbouring channels does not matter. It is measured on the stream itself, so it holds for any detector; what it can't
    tell from noise is a change faster than three steps. Where frames don't lie on steps, a step that is cut out of two of them has
    less noise than one that is a single frame. So it is measured on the steps that forecasts aimed at, one after the other.
    """

    pending: Mapping[float, tuple[Pending, ...]] = field(default_factory=lambda: MappingProxyType({}))
    taken_at: float = -math.inf  # position of the newest forecast that is remembered
    noise_at: float = -math.inf  # position of the newest sample of the noise
    noise_squares: tuple[float, ...] = ()
    errors: SquaredErrors = SquaredErrors()

    def with_spectrum(self, past: Window) -> tuple[Verification, tuple[CameTrue, ...]]:
        """Take the window with its newest spectrum in; say how the forecasts turned out that aimed at steps now complete."""
        position = past.position
        outcomes: list[CameTrue] = []
        due = [target for target in self.pending if target <= position + SAME]
        for target, counts in zip(due, past.ending_at(due), strict=True):
            if counts is None:
                continue  # nobody knows what came then
            outcomes += [
                CameTrue(
                    horizon=p.horizon,
                    rmse=_rms(p.forecast - counts),
                    rmse_persistence=_rms(p.persistence - counts),
                    rmse_window_mean=_rms(p.window_mean - counts),
                )
                for p in self.pending[target]
            ]
        errors = SquaredErrors(
            self.errors.pairs + len(outcomes),
            self.errors.forecast + sum(o.rmse**2 for o in outcomes),
            self.errors.persistence + sum(o.rmse_persistence**2 for o in outcomes),
            self.errors.window_mean + sum(o.rmse_window_mean**2 for o in outcomes),
        )
        noise, noise_at = self.noise_squares, self.noise_at
        sampled = due[int(position) % len(due)] if due else position
        three = past.for_noise(sampled) if position - noise_at >= APART else None
        if three is not None:
            noise_at = position
            noise = (*noise, _rms(three[0] - 2 * three[1] + three[2]) ** 2 / 6)[-NOISE_SAMPLES:]
        return Verification(
            MappingProxyType({target: p for target, p in self.pending.items() if target > position + SAME}),
            self.taken_at,
            noise_at,
            noise,
            errors,
        ), tuple(outcomes[-MAX_HORIZONS:])

    def with_forecast(
        self, position: float, horizons: tuple[int, ...], forecast: Counts, window: Counts
    ) -> Verification:
        """Remember a forecast, `(horizon, channel)`, made where the stream stood, from a window, `(window, channel)`."""
        if position - self.taken_at < APART:
            return self
        mean = np.full(len(window), 1 / len(window), dtype=np.float32) @ window
        pending = dict(self.pending)
        for row, horizon in enumerate(horizons):
            promise = Pending(horizon, forecast[row], window[-1], mean)
            pending[position + horizon] = (*pending.get(position + horizon, ()), promise)
        return replace(self, pending=MappingProxyType(pending), taken_at=position)

    @property
    def noise_floor(self) -> float | None:
        """Root mean square noise of one step, counts at the reference dose; None before three of them."""
        return math.sqrt(statistics.median(self.noise_squares)) if self.noise_squares else None

    @property
    def skill(self) -> LiveSkill | None:
        """Errors so far; None until a forecast has come true."""
        sums = self.errors
        if sums.pairs == 0:
            return None
        return LiveSkill(
            matured=sums.pairs,
            rmse=float(np.sqrt(sums.forecast / sums.pairs)),
            rmse_persistence=float(np.sqrt(sums.persistence / sums.pairs)),
            rmse_window_mean=float(np.sqrt(sums.window_mean / sums.pairs)),
            noise_floor=self.noise_floor,
            skill=1 - sums.forecast / sums.persistence if sums.persistence > 0 else 0.0,
            skill_against_mean=1 - sums.forecast / sums.window_mean if sums.window_mean > 0 else 0.0,
        )


def _rms(difference: Counts) -> float:
    return math.sqrt(float(difference @ difference) / difference.size)
