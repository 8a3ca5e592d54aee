"""Forecasts of one session, or of one recording, in order: what is kept of them once they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.core.pipeline import frame_period_s
from eelstm_stream.wire.messages import EnergyAxis, Forecast, QualityFlag, SessionStart


@dataclass(frozen=True, slots=True, eq=False)
class ForecastSeries:
    """Forecasts by one model from consecutive windows. Raises ValueError when shapes disagree, or there is no forecast."""

    counts: NDArray[np.float32]  # (forecast, horizon, channel), counts at the reference dose
    phase: NDArray[np.float64]  # (forecast, horizon), damage coordinate
    from_seq: NDArray[np.int64]  # (forecast,), newest spectrum of each window, rising
    horizons: tuple[int, ...]  # steps ahead; 1 is the next spectrum, or the next reference dose
    energy_axis: EnergyAxis
    model_name: str
    model_sha256: str
    trained_on: str
    window: int
    window_domain: Literal["frame", "dose"]
    reference_dwell_s: float
    reference_dose_pC: float
    simulated: bool  # whether the spectra that were forecast from are
    session: SessionStart | None  # None where its start was not heard
    quality: tuple[tuple[QualityFlag, int], ...]  # each flag as first raised, and on how many forecasts

    def __post_init__(self) -> None:
        shape = (len(self.from_seq), len(self.horizons), self.energy_axis.size)
        if not len(self.from_seq):
            raise ValueError("there is no forecast")
        if self.counts.shape != shape or self.phase.shape != shape[:2]:
            raise ValueError(f"counts {self.counts.shape} and phase {self.phase.shape} are not those of {shape}")
        if (np.diff(self.from_seq) <= 0).any():
            raise ValueError("the forecasts are not in the order of their spectra")

    @property
    def step_s(self) -> float:
        """Time that a step takes as the session began, s; where it is unknown, the dwell that the model was trained at."""
        if self.session is None:
            return self.reference_dwell_s
        period_s = frame_period_s(self.session, self.session.dwell_s)
        if self.window_domain == "frame" or self.session.beam_current_pA is None:
            return period_s
        return period_s * self.reference_dose_pC / frame_dose_pC(self.session.beam_current_pA, self.session.dwell_s)

    @property
    def reference_current_pA(self) -> float | None:
        """Current that makes the reference dose in the reference dwell; None where doses are relative, so that it means nothing."""
        relative = any(flag.flag == "dose_is_relative" for flag, _ in self.quality)
        if relative or self.session is None or self.session.dose_is_relative:
            return None
        return self.reference_dose_pC / self.reference_dwell_s


def series_of(
    forecasts: Sequence[tuple[Forecast, NDArray[np.float32]]], session: SessionStart | None = None
) -> ForecastSeries:
    """Forecasts as they came over the wire, with their payloads `(horizon, channel)`.

    session: the start of their session, for the conditions that forecasts don't repeat: energy, current, angles.
    Raises ValueError when there are none, or they are of several sessions or models.
    """
    if not forecasts:
        raise ValueError("there is no forecast")
    first = forecasts[0][0]
    for header, _ in forecasts:
        if (header.session, header.model_sha256) != (first.session, first.model_sha256):
            raise ValueError(f"forecast {header.seq} is of another session or model than forecast {first.seq}")
    if session is not None and session.session != first.session:
        raise ValueError(f"the forecasts are of session {first.session}, and the start given is of {session.session}")
    return ForecastSeries(
        counts=np.stack([np.asarray(counts, dtype=np.float32) for _, counts in forecasts]),
        phase=np.array([[interval.value for interval in header.phase] for header, _ in forecasts]),
        from_seq=np.array([header.from_seq for header, _ in forecasts], dtype=np.int64),
        horizons=first.horizons,
        energy_axis=first.energy_axis,
        model_name=first.model_name,
        model_sha256=first.model_sha256,
        trained_on=first.trained_on,
        window=first.window,
        window_domain=first.window_domain,
        reference_dwell_s=first.reference_dwell_s,
        reference_dose_pC=first.reference_dose_pC,
        simulated=first.simulated,
        session=session,
        quality=flags_of([header.quality for header, _ in forecasts]),
    )


def flags_of(quality: Sequence[Sequence[QualityFlag]]) -> tuple[tuple[QualityFlag, int], ...]:
    """Each flag that forecasts carry, as first raised, and how many carry it."""
    first: dict[str, QualityFlag] = {}
    raised: dict[str, int] = {}
    for flags in quality:
        for flag in flags:
            first.setdefault(flag.flag, flag)
            raised[flag.flag] = raised.get(flag.flag, 0) + 1
    return tuple((flag, raised[name]) for name, flag in first.items())
