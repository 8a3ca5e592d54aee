"""What a listener has heard, in numbers: rates, losses, latencies, and how the forecasts turned out. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Gap,
    GuardStatus,
    LiveSkill,
    Message,
    SessionEnd,
    SessionStart,
    Spectrum,
    Status,
    Summary,
)

RATE_OVER_S = 5.0
LATENCIES_KEPT = 200_000  # enough for exact percentiles of any benchmark here
PHASES_KEPT = 400
SESSIONS_KEPT = 10_000
FIRST_DOSES = 1000  # spectra: as many as fill a window of 8 with frames of a hundredth of its reference dose, and more
ROUNDED = 1e-6


@dataclass(slots=True)
class SessionTally:
    """Counts of one session."""

    spectra: int = 0
    forecasts: int = 0
    last_seq: int = -1
    last_from_seq: int = -1
    noise_floor: float | None = None
    window_dose_pC: float | None = None  # that fills the window, where it runs on dose
    first_doses_pC: list[float] = field(default_factory=list)  # of the session's first spectra, where they say it

    def missed(self, window: int) -> int:
        """Spectra that came when the window was full and got no forecast."""
        filling = window - 1
        if self.window_dose_pC is not None:
            doses_pC = np.cumsum(self.first_doses_pC)
            filling = int(np.count_nonzero(doses_pC < self.window_dose_pC * (1 - ROUNDED)))
        return max(0, self.spectra - filling - self.forecasts)


@dataclass(slots=True)
class Tally:
    """Running figures over everything heard. `clock_id` names the listener's own clock."""

    clock_id: str
    start: SessionStart | None = None
    end: SessionEnd | None = None
    status: Status | None = None
    controller: ControllerStatus | None = None
    guard: GuardStatus | None = None
    newest: Summary | None = None
    spectra: int = 0
    forecasts: int = 0
    lost: int = 0  # spectra that the instrument says are lost
    window: int | None = None
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    inferences_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    batches: deque[int] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))
    phases: deque[float] = field(default_factory=lambda: deque(maxlen=PHASES_KEPT))
    sessions: dict[str, SessionTally] = field(default_factory=dict)
    pairs: int = 0
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))  # forecast, persistence, mean of window
    _spectrum_times_s: deque[float] = field(default_factory=deque)
    _forecast_times_s: deque[float] = field(default_factory=deque)

    def take(self, message: Message, recv_mono_ns: int) -> None:
        """Count one message in."""
        match message:
            case SessionStart():
                self.start, self.end = message, None
                self.phases.clear()
            case SessionEnd():
                self.end = message
            case Gap():
                self.lost += message.last_seq - message.first_seq + 1
            case Spectrum():
                self.spectra += 1
                session = self._session(message.session)
                session.spectra += 1
                session.last_seq = max(session.last_seq, message.seq)
                if message.beam_current_pA is not None and len(session.first_doses_pC) < FIRST_DOSES:
                    session.first_doses_pC.append(frame_dose_pC(message.beam_current_pA, message.dwell_s))
                _remember(self._spectrum_times_s, recv_mono_ns / 1e9)
            case Summary():
                self._take_forecast(message, recv_mono_ns)
            case Status():
                self.status = message
                self.window = message.window or self.window
            case ControllerStatus():
                self.controller = message
            case GuardStatus():
                self.guard = message
            case _:
                pass

    def _take_forecast(self, message: Summary, recv_mono_ns: int) -> None:
        session = self._session(message.session)
        if message.from_seq <= session.last_from_seq:
            return  # a restarted forecaster may say again what it said before
        session.last_from_seq = message.from_seq
        session.forecasts += 1
        if message.window_domain == "dose":
            session.window_dose_pC = message.window * message.reference_dose_pC
        self.forecasts += 1
        self.window = message.window
        if self.newest is not None and self.newest.session != message.session:
            self.phases.clear()
        self.newest = message
        if message.clock_id == self.clock_id:
            self.latencies_ms.append((recv_mono_ns - message.spectrum_sent_mono_ns) / 1e6)
        self.inferences_ms.append(message.latency.inferred_ns / 1e6)
        self.batches.append(message.latency.batch)
        if message.phase_now is not None:
            self.phases.append(message.phase_now.value)
        if message.skill is not None:
            session.noise_floor = message.skill.noise_floor
        for outcome in message.came_true:
            self.pairs += 1
            self.squares += np.square([outcome.rmse, outcome.rmse_persistence, outcome.rmse_window_mean])
        _remember(self._forecast_times_s, recv_mono_ns / 1e9)

    def _session(self, uid: str) -> SessionTally:
        if uid not in self.sessions:
            if len(self.sessions) >= SESSIONS_KEPT:
                self.sessions.pop(next(iter(self.sessions)))
            self.sessions[uid] = SessionTally()
        return self.sessions[uid]

    @property
    def missed(self) -> int:
        """Spectra that should have had a forecast and had none, over all sessions. Needs spectra and forecasts heard."""
        return 0 if self.window is None else sum(s.missed(self.window) for s in self.sessions.values())

    @property
    def missed_so_far(self) -> int:
        """As `missed`, for a run broken off: the newest session's spectra since its newest forecast don't count as missed."""
        running = None if self.start is None else self.sessions.get(self.start.session)
        if running is None or self.window is None:
            return self.missed
        return self.missed - min(running.missed(self.window), max(0, running.last_seq - running.last_from_seq))

    @property
    def skill(self) -> LiveSkill | None:
        """Errors over everything heard; None until a forecast has come true."""
        if self.pairs == 0:
            return None
        mean = self.squares / self.pairs
        rmse, rmse_persistence, rmse_window_mean = (float(r) for r in np.sqrt(mean))
        floors = [s.noise_floor for s in self.sessions.values() if s.noise_floor is not None]
        return LiveSkill(
            matured=self.pairs,
            rmse=rmse,
            rmse_persistence=rmse_persistence,
            rmse_window_mean=rmse_window_mean,
            noise_floor=float(np.sqrt(np.mean(np.square(floors)))) if floors else None,
            skill=_skill(mean[0], mean[1]),
            skill_against_mean=_skill(mean[0], mean[2]),
        )

    def latency_percentile_ms(self, percent: float) -> float | None:
        """Latency from a spectrum's publication to its forecast's arrival, ms; None where clocks do not compare."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None

    def spectrum_rate_per_s(self, now_ns: int) -> float:
        """Spectra heard per second, over the last RATE_OVER_S."""
        return _rate(self._spectrum_times_s, now_ns / 1e9)

    def forecast_rate_per_s(self, now_ns: int) -> float:
        """Forecasts heard per second, over the last RATE_OVER_S."""
        return _rate(self._forecast_times_s, now_ns / 1e9)


def _skill(square: float, square_baseline: float) -> float:
    ratio = float(square) / float(square_baseline) if square_baseline > 0 else 1.0
    return 1 - ratio if math.isfinite(ratio) else 0.0


def _remember(times_s: deque[float], now_s: float) -> None:
    times_s.append(now_s)
    while now_s - times_s[0] > RATE_OVER_S:
        times_s.popleft()


def _rate(times_s: deque[float], now_s: float) -> float:
    recent = [t for t in times_s if now_s - t <= RATE_OVER_S]
    if len(recent) < 2:
        return 0.0
    return (len(recent) - 1) / (recent[-1] - recent[0]) if recent[-1] > recent[0] else 0.0
