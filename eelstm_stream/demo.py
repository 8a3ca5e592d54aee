"""`eelstm demo`: all programs as processes on loopback, live in one terminal; a flight under control, or a recording watched."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eelstm_stream.core.tally import Tally
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io import clock
from eelstm_stream.io.announce import printable, say
from eelstm_stream.io.model_file import open_model
from eelstm_stream.io.stopping import Stop
from eelstm_stream.listen import FRAMES_PER_S, View
from eelstm_stream.live import live_view
from eelstm_stream.models import SHIPPED_MODEL
from eelstm_stream.rig import Rig
from eelstm_stream.wire.messages import Status

if TYPE_CHECKING:
    from eelstm_stream.flight_demo import FlightOptions


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to watch, and for how long."""

    recording: Path
    seconds: float | None
    speed: str
    dwell_s: float | None = None
    current_pA: float | None = None
    model: Path | None = None


def run_demo(options: DemoOptions, *, as_json: bool, figure: Path | None) -> int:
    """Watch until the recording ends, the time is up, or Ctrl-C; then print a summary.

    Raises UnusableInputError where the recording can't be forecast; EelstmError where a process fails.
    """
    recorder = None
    if figure is not None:
        try:
            from eelstm_stream.figures import ComeTrueFigure  # noqa: PLC0415 - matplotlib only when asked for
        except ModuleNotFoundError as error:
            raise UsageError(f"a figure needs {error.name}: install eelstm-stream[io].") from None

        recorder = ComeTrueFigure(figure)
    with Stop() as stop, Rig(_source(options), stop=stop, kinds=("forecast",), model=options.model) as rig:
        view = View(rig.tally)
        refusal = "the forecaster did not say why"
        with live_view(as_json) as live:
            while not stop.requested and not rig.is_over:
                for decoded in rig.hear(1000 // FRAMES_PER_S):
                    view.show(decoded)
                    if isinstance(decoded.message, Status) and decoded.message.state == "invalid":
                        refusal = decoded.message.text
                    if recorder is not None:
                        recorder.take(decoded)
                rig.check()
                if live is not None:
                    live.update(view.draw(rig.malformed, clock.monotonic_ns()), refresh=True)
        tally = rig.tally
    if tally.forecasts == 0 and tally.status is not None and tally.status.counters.refused:
        refused = tally.status.counters.refused
        raise UnusableInputError(f"every spectrum was refused, {refused} in all: {refusal.removeprefix('refused: ')}.")
    _print_summary(tally, tally.missed_so_far if stop.requested else tally.missed, as_json=as_json)
    if recorder is not None:
        drawn = recorder.save(open_model(options.model or SHIPPED_MODEL).metadata)
        say("demo", f"drew {figure}" if drawn else f"did not draw {figure}: no forecast has come true")
    return 0


def _source(options: DemoOptions) -> list[str]:
    """Arguments of `eelstm sim`."""
    arguments = ["replay", str(options.recording), "--speed", options.speed]
    for flag, value in (("--dwell", options.dwell_s), ("--current", options.current_pA)):
        if value is not None:
            arguments += [flag, str(value)]
    if options.seconds is not None:
        arguments += ["--loop", "--seconds", str(options.seconds)]
    return arguments


def run_flight(options: FlightOptions, *, as_json: bool, figure: Path | None) -> int:
    """Fly a specimen in closed loop, and say what that was worth. Raises as `flight_demo.fly` does."""
    from eelstm_stream.flight_demo import fly, require_possible  # noqa: PLC0415 - it isn't for those who only watch

    require_possible(options)
    flown = fly(options, quiet=as_json, figure=figure)
    if as_json:
        figures = _figures(flown.tally, flown.missed) | flown.report.figures()
        sys.stdout.write(json.dumps(figures) + "\n")
        return 0
    tally = flown.tally
    lines = [
        _heard(tally, flown.missed),
        *_worth_of_forecasts(tally),
        *_about_the_model(tally),
        "",
        *flown.report.lines(),
    ]
    sys.stdout.write("\n".join(map(printable, lines)) + "\n")
    return 0


def _figures(tally: Tally, missed: int) -> dict[str, Any]:
    skill = tally.skill
    p50, p99 = tally.latency_percentile_ms(50), tally.latency_percentile_ms(99)
    return {
        "spectra": tally.spectra,
        "forecasts": tally.forecasts,
        "missed": missed,
        "rmse": skill and round(skill.rmse, 2),
        "rmse_persistence": skill and round(skill.rmse_persistence, 2),
        "rmse_window_mean": skill and round(skill.rmse_window_mean, 2),
        "noise_floor": skill and skill.noise_floor and round(skill.noise_floor, 2),
        "latency_p50_ms": p50 and round(p50, 3),
        "latency_p99_ms": p99 and round(p99, 3),
        "simulated": tally.newest.simulated if tally.newest else None,
        "trained_on": tally.newest.trained_on if tally.newest else None,
    }


def _heard(tally: Tally, missed: int) -> str:
    said = f"{tally.spectra} spectra, {tally.forecasts} forecasts, {missed} missed"
    if tally.start is not None:
        kind = "SIMULATED data" if tally.start.source == "simulation" else "a recording"
        said += f", from {tally.start.source_name} ({kind})"
    return said


def _print_summary(tally: Tally, missed: int, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_figures(tally, missed)) + "\n")
        return
    lines = [_heard(tally, missed), *_worth_of_forecasts(tally)]
    p50, p99 = tally.latency_percentile_ms(50), tally.latency_percentile_ms(99)
    if p50 is not None and p99 is not None:
        lines.append(f"latency from spectrum to forecast: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    lines += _about_the_model(tally)
    sys.stdout.write("\n".join(map(printable, lines)) + "\n")


def _worth_of_forecasts(tally: Tally) -> list[str]:
    skill = tally.skill
    if skill is None:
        return ["No forecast has come true yet: let it run for longer."]
    floor = "unknown" if skill.noise_floor is None else f"{skill.noise_floor:.1f}"
    lines = [
        f"RMSE {skill.rmse:.1f} counts; persistence {skill.rmse_persistence:.1f}, mean of the window "
        f"{skill.rmse_window_mean:.1f}, noise floor {floor}; skill {skill.skill:+.2f} against persistence, "
        f"{skill.skill_against_mean:+.2f} against the mean"
    ]
    if skill.rmse > 1.005 * min(skill.rmse_persistence, skill.rmse_window_mean):
        lines.append("The model does WORSE here than a baseline without any model: do not act on these forecasts.")
    return lines


def _about_the_model(tally: Tally) -> list[str]:
    if tally.newest is None:
        return []
    notes = [f"note: {q.flag.replace('_', ' ')}: {q.reason}" for q in tally.newest.quality]
    return [*notes, f"model {tally.newest.model_name}, trained on {tally.newest.trained_on}"]
