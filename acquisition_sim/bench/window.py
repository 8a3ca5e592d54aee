"""`eelstm bench window`: what forecasts are worth while dwell and current are others than in training.

Each specimen is flown under every setting, through the service's own pipeline and model, once with the window on dose and once
on frames. A forecast is held against the noise-free truth of what it aims at: the reference dose that is so many reference
doses ahead, or the spectrum that is so many spectra ahead, both at the reference dose. The truth is the simulation's expected
counts, aligned as the spectra are, but without their noise in the shift. It is the same for all settings, so the figure that
counts is a setting's error over that at the nominal setting.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from acquisition_sim.bench.flown import Frame, fly
from acquisition_sim.bench.settings import NOMINAL, NOMINAL_DWELL_S, SETTINGS, Setting
from acquisition_sim.presets import Preset, load_preset
from acquisition_sim.variation import varied
from eelstm_stream.core import pipeline
from eelstm_stream.core.counts_by_dose import SAME, CountsByDose
from eelstm_stream.core.pipeline import Accepted, Pipeline, Refused
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.core.window import WindowDomain
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.models import SHIPPED_MODEL
from eelstm_stream.wire.messages import SessionStart, Spectrum

FIRST_SEED = 2000  # the test runs of the shipped model: it was trained on the seeds from 1000 to 1039
DOSES = 120.0  # reference doses that a specimen is given: of most, until little is left to happen
APART = 0.5  # reference doses from one forecast to the next that is looked at: those between say the same
DOMAINS: tuple[WindowDomain, ...] = ("dose", "frame")
SOME_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)  # nothing here depends on it


@dataclass(slots=True)
class Errors:
    """Sums over forecasts."""

    squares: NDArray[np.float64]  # (horizon,) of counts, averaged over channels
    phase_squares: NDArray[np.float64]  # (horizon,)
    compared: NDArray[np.int64]  # (horizon,)
    refused: int = 0  # spectra

    @classmethod
    def none(cls, horizons: int) -> Errors:
        """Before the first forecast."""
        return cls(np.zeros(horizons), np.zeros(horizons), np.zeros(horizons, np.int64))

    def take(self, row: int, forecast: NDArray[np.float32], truth: NDArray[np.float32], phase: float) -> None:
        """A forecast and the truth, `(channel,)`, at the horizon of a row, and how far off its phase is."""
        difference = forecast - truth
        self.squares[row] += float(difference @ difference) / difference.size
        self.phase_squares[row] += phase**2
        self.compared[row] += 1

    def rmse(self) -> NDArray[np.float64]:
        """By horizon, counts at the reference dose."""
        return np.sqrt(self.squares / np.maximum(self.compared, 1))

    def phase_rmse(self) -> float:
        """Over all horizons."""
        return float(np.sqrt(self.phase_squares.sum() / max(1, self.compared.sum())))


@dataclass(slots=True)
class Forecasting:
    """One pipeline on one flight, and its forecasts whose time has not come."""

    model: Model
    state: Pipeline
    domain: WindowDomain
    errors: Errors
    taken_at: float = -np.inf  # reference doses, of the newest forecast looked at
    pending: list[tuple[float, NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=list)

    def take(self, spectrum: Spectrum, counts: NDArray[np.float32], doses: float) -> None:
        """Take a spectrum in that ends after so many reference doses."""
        self.state, events = pipeline.step(self.state, spectrum, counts, spectrum.seq)
        for event in events:
            if isinstance(event, Refused):
                self.errors.refused += 1
            if not isinstance(event, Accepted) or event.window is None or doses - self.taken_at < APART - SAME:
                continue
            forecast, phase = self.model.forecast(event.window[np.newaxis], event.history[np.newaxis])
            self.taken_at = doses
            self.pending.append((doses if self.domain == "dose" else spectrum.seq, forecast[0], phase[0]))

    def come_true(self, position: float, truth_at: Callable[[float], NDArray[np.float32] | None]) -> None:
        """Hold what aimed at steps up to a position, doses or numbers, against the truth of each."""
        measure, horizons = self.model.metadata.phase, self.model.metadata.horizons
        for made_at, forecast, phase in self.pending:
            for row, horizon in enumerate(horizons):
                if self._newly(made_at + horizon, position) and (truth := truth_at(made_at + horizon)) is not None:
                    self.errors.take(row, forecast[row], truth, float(phase[row]) - float(measure(truth)))
        self.pending = [p for p in self.pending if p[0] + horizons[-1] > position + SAME]
        self._reached = position

    _reached: float = -np.inf

    def _newly(self, target: float, position: float) -> bool:
        return self._reached + SAME < target <= position + SAME


def measure_window(
    runs: int,
    model: Model,
    settings: tuple[Setting, ...] = SETTINGS,
    *,
    doses: float = DOSES,
    report: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Figures of every setting over so many specimens, NOMINAL among the settings.

    doses: reference doses that each specimen is given. report: told which share is done. Raises UnusableInputError for a model
    that no window on dose can serve, or that does not cover the simulated camera.
    """
    preset = load_preset("srtio3-300kV")
    began_s = time.perf_counter()
    if model.metadata.dose_is_relative:
        raise UnusableInputError(
            f"{model.metadata.name} was trained at an unknown current: no window on dose serves it."
        )
    rows = []
    for number, setting in enumerate(settings):
        errors = {domain: Errors.none(len(model.metadata.horizons)) for domain in DOMAINS}
        for run in range(runs):
            _fly_one(varied(preset, FIRST_SEED + run), FIRST_SEED + run, setting, model, errors, doses)
            report((number + (run + 1) / runs) / len(settings))
        rows.append(_row(setting, model, errors))
    nominal = next(row for row in rows if row["setting"] == NOMINAL.name)
    for row in rows:
        for kind in ("", "_frames"):
            # The window on frames is compared with itself: what it costs to leave the nominal setting.
            per_horizon = np.array(row[f"rmse{kind}"]) / np.array(nominal[f"rmse{kind}"])
            row[f"ratio{kind}"] = [round(float(r), 3) for r in per_horizon]
            row[f"worst_ratio{kind}"] = max(row[f"ratio{kind}"])
    return {
        "runs": runs,
        "first_seed": FIRST_SEED,
        "model": model.metadata.name,
        "horizons": list(model.metadata.horizons),
        "worst_ratio": max(row["worst_ratio"] for row in rows),
        "seconds": round(time.perf_counter() - began_s, 1),
        "rows": rows,
    }


def _fly_one(
    preset: Preset, seed: int, setting: Setting, model: Model, errors: dict[WindowDomain, Errors], doses: float
) -> None:
    meta = model.metadata
    start = _session_start(preset, seed)
    flown = []
    for domain in DOMAINS:
        state, _ = pipeline.step(pipeline.new_pipeline(meta, domain), start, None, 0)
        flown.append(Forecasting(model, state, domain, errors[domain]))
    by_dose, by_frame = flown
    prepare = Preparation(preset.energy_axis, meta.energy_axis, by_dose.state.alignment)
    truth = CountsByDose.empty(meta.energy_axis.size)
    for seq, frame in enumerate(fly(preset, seed, setting, doses, meta.reference_dose_pC)):
        steps = frame.dwell_s * frame.current_pA / meta.reference_dose_pC
        for part in frame.clean_parts:
            clean = prepare(part, len(frame.clean_parts) / steps).counts
            truth = truth.with_frame(steps / len(frame.clean_parts), clean * (steps / len(frame.clean_parts)))
        spectrum = _spectrum(frame, seq, start)
        by_dose.come_true(truth.newest, lambda end, so_far=truth: _step_of(so_far, end))  # type: ignore[misc]
        by_frame.come_true(seq, lambda _, so_far=truth, steps=steps: _step_of(so_far, so_far.newest, steps))  # type: ignore[misc]
        for forecasting in flown:
            forecasting.take(spectrum, frame.counts, truth.newest)
        truth = truth.kept_from(truth.newest - 1 - steps)


def _step_of(truth: CountsByDose, end: float, steps: float = 1.0) -> NDArray[np.float32]:
    """Expected counts at the reference dose of the dose that ended there."""
    return (truth.between(end - steps, end) / truth.measured_between(end - steps, end)).astype(np.float32)


def _row(setting: Setting, model: Model, errors: dict[WindowDomain, Errors]) -> dict[str, Any]:
    dose, frame = errors["dose"], errors["frame"]
    return {
        "setting": setting.name,
        "forecasts": int(dose.compared.max()),
        "refused": dose.refused,
        "rmse": [round(float(r), 2) for r in dose.rmse()],
        "rmse_frames": [round(float(r), 2) for r in frame.rmse()],
        "phase_rmse": round(dose.phase_rmse(), 4),
        "phase_rmse_frames": round(frame.phase_rmse(), 4),
    }


def _session_start(preset: Preset, seed: int) -> SessionStart:
    return SessionStart(
        session=f"seed-{seed}",
        seq=0,
        sent_mono_ns=0,
        instrument="simulated",
        source="simulation",
        energy_axis=preset.energy_axis,
        dwell_s=NOMINAL_DWELL_S,
        beam_current_pA=preset.beam.current_pA,
        dose_is_relative=False,
        saturation_counts=preset.detector.saturation_counts,
        started_at=SOME_MOMENT,
        clock_id="none",
    )


def _spectrum(frame: Frame, seq: int, start: SessionStart) -> Spectrum:
    return Spectrum(
        session=start.session,
        seq=seq,
        sent_mono_ns=0,
        dtype="<f4",
        shape=frame.counts.shape,
        dwell_s=frame.dwell_s,
        beam_current_pA=frame.current_pA,
        dose_pC=frame.dwell_s * frame.current_pA,
        dose_before_pC=frame.dose_before_pC,
        acquired_at=SOME_MOMENT,
        acquired_until=SOME_MOMENT,
    )


def print_window_benchmark(runs: int, model_file: Path | None, *, as_json: bool) -> None:
    """Measure and print."""
    model = open_model(model_file or SHIPPED_MODEL)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{runs} specimens under {len(SETTINGS)} settings", total=1.0)
        figures = measure_window(runs, model, report=lambda share: progress.update(task, completed=share))
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    Console().print(_table(figures))


def _table(figures: dict[str, Any]) -> Table:
    first, last = figures["horizons"][0], figures["horizons"][-1]
    table = Table(
        title=f"{figures['model']}: RMSE in counts against the noise-free truth; {figures['runs']} specimens",
        caption=f"ratio: the worst horizon's, over that at {NOMINAL.name}; phase: its rms error",
        box=None,  # nine columns are to fit into a terminal of 80
        padding=(0, 1, 0, 0),
    )
    table.add_column("setting", no_wrap=True)
    for window in ("dose", "frames"):
        for name in (f"+{first}", f"+{last}", "ratio", "phase"):
            table.add_column(f"{window}\n{name}", justify="right", no_wrap=True)
    for row in figures["rows"]:
        cells = [row["setting"]]
        for kind in ("", "_frames"):
            rmse = row[f"rmse{kind}"]
            cells += [
                f"{rmse[0]:.1f}",
                f"{rmse[-1]:.1f}",
                f"{row[f'worst_ratio{kind}']:.2f}",
                f"{row[f'phase_rmse{kind}']:.3f}",
            ]
        table.add_row(*cells)
    return table
