"""Forecast messages of specimens whose kinetics are known: what a forecaster would say of them, noise and all, without spectra."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from acquisition_sim.specimen import jmak_phase
from eelstm_stream.wire.messages import Interval, StageLatency, Summary

REFERENCE_PC = 92.0
NOISE = 0.027  # of a transformed fraction, from the spectrum of one reference dose
FORECAST_SD = 0.03
SCATTER = 0.0065
WINDOW = HORIZONS = 8
NO_TIME = StageLatency(queued_ns=0, prepared_ns=0, inferred_ns=0, batch=1)
SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def interval(value: float, deviation: float) -> Interval:
    return Interval(value=value, low=value - 1.959964 * deviation, high=value + 1.959964 * deviation)


def summary(seq: int, dose_pC: float | None, now: float, ahead: tuple[float, ...] = (), **changes: Any) -> Summary:
    """A forecast that tells the transformed fraction now and ahead."""
    fractions = tuple(interval(x, FORECAST_SD) for x in ahead or (now,) * HORIZONS)
    fields: dict[str, Any] = {
        "session": "s",
        "seq": seq,
        "sent_mono_ns": seq,
        "from_seq": seq,
        "spectrum_sent_mono_ns": seq,
        "clock_id": "clock",
        "model_name": "model",
        "model_sha256": "0" * 64,
        "window": WINDOW,
        "horizons": tuple(range(1, HORIZONS + 1)),
        "valid_at": (SOME_DAY,) * HORIZONS,
        "window_domain": "dose",
        "reference_dose_pC": REFERENCE_PC,
        "reference_dwell_s": 0.4,
        "simulated": True,
        "phase_now": interval(now, NOISE),
        "phase": fractions,
        "fraction_now": interval(now, NOISE),
        "fraction": fractions,
        "fraction_scatter": SCATTER,
        "at_dose_pC": dose_pC,
        "latency": NO_TIME,
    }
    return Summary(**{**fields, **changes})


@dataclass
class Told:
    """One specimen, and what is told of it frame by frame. Frames shorter than a reference dose share a measured step."""

    critical_dose_pC: float
    exponent: float
    seed: int
    noise: float = NOISE

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.calibration = self.random.normal(0, SCATTER)  # common to all forecasts of the specimen
        self.shrinkage = self.random.normal(0, 0.02)  # of its far horizons
        self.dose_pC = 0.0
        self.frames: list[tuple[float, float]] = []  # dose, measured fraction

    def truth(self, dose_pC: float) -> float:
        return jmak_phase(dose_pC, self.critical_dose_pC, self.exponent)

    def expose(self, dose_pC: float) -> Summary | None:
        """One frame; the forecast that follows from it, once the window is full."""
        between = (self.truth(self.dose_pC) + self.truth(self.dose_pC + dose_pC)) / 2
        deviation = self.noise * (REFERENCE_PC / dose_pC) ** 0.5
        self.frames.append((dose_pC, between + self.calibration + self.random.normal(0, deviation)))
        self.dose_pC += dose_pC
        if self.dose_pC < WINDOW * REFERENCE_PC * (1 - 1e-9):
            return None
        ahead = tuple(
            self.truth(self.dose_pC + (h - 0.5) * REFERENCE_PC) + self.calibration + self.shrinkage * h / HORIZONS
            for h in range(1, HORIZONS + 1)
        )
        return summary(len(self.frames), self.dose_pC, self._newest_step(), ahead)

    def _newest_step(self) -> float:
        left, total = REFERENCE_PC, 0.0
        for dose_pC, measured in reversed(self.frames):
            part = min(dose_pC, left)
            total += part * measured
            left -= part
            if left <= 0:
                break
        return total / (REFERENCE_PC - left)
