"""Forecasts against what then came: live errors, their baselines, and the noise floor of the stream."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.wire.messages import CameTrue, LiveSkill

NOISE_SAMPLES = 101  # second differences kept for the median: steady to 1 %, and quick to sort at every spectrum

Counts = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pending:
    """A forecast for one spectrum that is still to come; all of them `(channel,)` counts at the reference dose."""

    horizon: int
    forecast: Counts
    persistence: Counts  # the newest spectrum when the forecast was made
    window_mean: Counts  # the mean of the window then


@dataclass(frozen=True, slots=True)
class SquaredErrors:
    """Sums over pairs of (spectrum, horizon) of errors already averaged over channels."""

    pairs: int = 0
    forecast: float = 0.0
    persistence: float = 0.0
    window_mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """Pure bookkeeping of one session: what was forecast for which spectrum, and how it turned out.

    The noise floor is the rms of the second difference of three consecutive spectra over √6, and its median over the
    last NOISE_SAMPLES of them: a change that is steady over three spectra cancels in it, a jump is rare enough for the median, and the
    correlation of neighbouring channels does not matter. It is measured on the stream itself, so it holds for any
    detector; what it can't tell from noise is a change faster than three spectra.
    """

    pending: Mapping[int, tuple[Pending, ...]] = field(default_factory=lambda: MappingProxyType({}))
    recent: tuple[tuple[int, Counts], ...] = ()  # at most two (seq, counts) before the newest
    noise_squares: tuple[float, ...] = ()
    errors: SquaredErrors = SquaredErrors()

    def with_spectrum(self, seq: int, counts: Counts) -> tuple[Verification, tuple[CameTrue, ...]]:
        """Take a prepared spectrum in, `(channel,)`; say how the forecasts that aimed at it turned out."""
        matured = self.pending.get(seq, ())
        outcomes = tuple(
            CameTrue(
                horizon=p.horizon,
                rmse=_rms(p.forecast - counts),
                rmse_persistence=_rms(p.persistence - counts),
                rmse_window_mean=_rms(p.window_mean - counts),
            )
            for p in matured
        )
        errors = SquaredErrors(
            self.errors.pairs + len(outcomes),
            self.errors.forecast + sum(o.rmse**2 for o in outcomes),
            self.errors.persistence + sum(o.rmse_persistence**2 for o in outcomes),
            self.errors.window_mean + sum(o.rmse_window_mean**2 for o in outcomes),
        )
        noise = self.noise_squares
        if len(self.recent) == 2 and [s for s, _ in self.recent] == [seq - 2, seq - 1]:
            (_, first), (_, second) = self.recent
            noise = (*noise, _rms(first - 2 * second + counts) ** 2 / 6)[-NOISE_SAMPLES:]
        return Verification(
            MappingProxyType({target: p for target, p in self.pending.items() if target > seq}),
            (*self.recent[-1:], (seq, counts)),
            noise,
            errors,
        ), outcomes

    def with_forecast(self, from_seq: int, horizons: tuple[int, ...], forecast: Counts, window: Counts) -> Verification:
        """Remember a forecast, `(horizon, channel)`, made from a window, `(window, channel)`."""
        mean = np.full(len(window), 1 / len(window), dtype=np.float32) @ window
        pending = dict(self.pending)
        for row, horizon in enumerate(horizons):
            promise = Pending(horizon, forecast[row], window[-1], mean)
            pending[from_seq + horizon] = (*pending.get(from_seq + horizon, ()), promise)
        return replace(self, pending=MappingProxyType(pending))

    @property
    def noise_floor(self) -> float | None:
        """Root mean square noise of one spectrum, counts at the reference dose; None before three consecutive ones."""
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
