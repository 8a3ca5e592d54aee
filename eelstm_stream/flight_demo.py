"""`eelstm demo` with the loop closed: a specimen is flown to its ceiling, and the beam is blanked in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eelstm_stream import flight_screen
from eelstm_stream.core.flight_log import FlightLog
from eelstm_stream.core.tally import Tally
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.flight_report import FlightReport
from eelstm_stream.io import clock
from eelstm_stream.io.announce import say
from eelstm_stream.io.recordings import load_recording
from eelstm_stream.io.stopping import Stop
from eelstm_stream.io.truth import read_truth
from eelstm_stream.listen import FRAMES_PER_S
from eelstm_stream.live import live_view
from eelstm_stream.loop_rig import LoopRig

BUDGET_PC = {"preserve": 9000.0, "resolve": 12000.0}  # more than these aims take: a budget is there for what goes wrong
PATIENCE_S = 15.0  # with the beam off for no reason that would end a flight
STARTS_WITHIN_S = 60.0
LAST_WORDS_S = 10.0  # how long to wait for the instrument's word that the beam is off
LEASE_S = 2.0  # at the pace of a clock, as the programs have it by themselves
LEASE_SLACK_S = 0.25
INCREASE_PA_PER_S = 100.0


@dataclass(frozen=True, slots=True)
class FlightOptions:
    """What to fly, and how."""

    preset: str = "preserve"
    ceiling: float | None = None
    budget_pC: float | None = None
    accept_flagged: bool = False
    seed: int = 1
    recording: Path | None = None
    dwell_s: float | None = None
    current_pA: float | None = None
    speed: float = 2.0
    seconds: float | None = None
    model: Path | None = None
    journal: Path | None = None


@dataclass(frozen=True, slots=True)
class Flown:
    """A flight that is over."""

    report: FlightReport
    tally: Tally
    missed: int


def fly(options: FlightOptions, *, quiet: bool, figure: Path | None) -> Flown:
    """Fly until the ceiling or the budget is reached, the time is up, or Ctrl-C; the beam is blanked before anything else ends.

    quiet: no live view. figure: a picture of the flight goes there.
    Raises UnusableInputError where the recording can't be flown; EelstmError where a process fails; KeyboardInterrupt where it's
    stopped before anything flies.
    """
    draw = None
    if figure is not None:
        try:
            from eelstm_stream.figures import require_picture  # noqa: PLC0415 - matplotlib only when asked for
            from eelstm_stream.flight_figure import draw_flight  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise UsageError(f"a figure needs {error.name}: install eelstm-stream[io].") from None
        require_picture(figure)
        draw = draw_flight
    log = FlightLog(options.speed)
    with (
        Stop() as stop,
        LoopRig(
            _source(options),
            stop=stop,
            settings=_settings(options),
            model=options.model,
            journal=options.journal,
            with_truth=options.recording is None,
        ) as loop,
    ):
        ended = _until_over(loop, log, stop, options, quiet=quiet)
        loop.blank()
        _hear_out(loop, log)
        loop.land()
        file = loop.truth_file
        truth = read_truth(file) if file.exists() else None
        report = FlightReport(log, options.preset, log.is_blanked or not log.was_on, ended, truth)
        tally = loop.rig.tally
        if draw is not None and figure is not None:
            draw(report, None if truth is None else load_recording(file), figure)
            say("demo", f"drew {figure}")
        kept = f"kept in {options.journal}" if options.journal else "in a temporary folder, which is removed now"
        say("demo", f"the guard's journal was {kept}")
    return Flown(report, tally, tally.missed_so_far)


def _until_over(loop: LoopRig, log: FlightLog, stop: Stop, options: FlightOptions, *, quiet: bool) -> str:
    """Fly. Returns why it's over."""
    began_ns = clock.monotonic_ns()
    armed = False
    with live_view(quiet) as live:
        while not stop.requested:
            for decoded in loop.rig.hear(1000 // FRAMES_PER_S):
                log.take(decoded.message)
            now_ns = clock.monotonic_ns()
            if live is not None:
                live.update(flight_screen.draw(loop.rig.tally, log, loop.rig.malformed, now_ns), refresh=True)
            over = log.over(now_ns, PATIENCE_S)
            if over is not None:
                return over
            loop.check()
            _require_controllable(log)
            since_s = (now_ns - began_ns) / 1e9
            if options.seconds is not None and since_s > options.seconds:
                return f"{options.seconds:g} s are over"
            if not armed and (log.can_be_armed or log.was_armed):
                armed = loop.arm()
                if armed:
                    words = " ".join(("eelstm operator arm", *loop.operator_options))
                    say("demo", f"armed the guard, as an operator does with `{words}`")
            if not log.was_on and since_s > STARTS_WITHIN_S + 2 * (options.seconds or 0):
                raise EelstmError(f"no frame was taken within {STARTS_WITHIN_S:g} s{_why(log)}.")
    return "stopped by Ctrl-C"


def _require_controllable(log: FlightLog) -> None:
    if log.start is not None and log.start.dose_is_relative:
        raise UnusableInputError(
            f"{log.start.source_name} doesn't say its beam current, and control reckons with dose in pC: give --current."
        )
    if log.controller is not None and log.controller.state == "refused":
        raise UnusableInputError(log.controller.text)


def _why(log: FlightLog) -> str:
    said = [
        f"the {who}: {status.text}" for who, status in (("controller", log.controller), ("guard", log.guard)) if status
    ]
    return f" ({'; '.join(said)})" if said else ""


def _hear_out(loop: LoopRig, log: FlightLog) -> None:
    """What the guard said last, and the instrument's word that the beam is off."""
    until_ns = clock.monotonic_ns() + round(LAST_WORDS_S * 1e9)
    while clock.monotonic_ns() < until_ns:
        heard = False
        for decoded in loop.rig.hear(100, regardless=True):
            log.take(decoded.message)
            heard = True
        if not heard and (log.is_blanked or not log.was_on or log.end is not None):
            return


def _source(options: FlightOptions) -> list[str]:
    """Arguments of `eelstm sim`, but for its endpoints."""
    what = ["run", "--obey"] if options.recording is None else ["replay", str(options.recording), "--responsive"]
    what += ["--seed", str(options.seed), "--speed", f"{options.speed:g}"]
    for flag, value in (("--dwell", options.dwell_s), ("--current", options.current_pA)):
        if value is not None:
            what += [flag, str(value)]
    return what


def _settings(options: FlightOptions) -> dict[str, dict[str, Any]]:
    """Of guard and controller. Leases run in the instrument's time and end by the clock, so a faster one needs longer ones."""
    faster = max(1.0, options.speed)
    lease = {"max_lease_s": LEASE_S * faster}
    budget_pC = BUDGET_PC[options.preset] if options.budget_pC is None else options.budget_pC
    return {
        "guard": {"budget_pC": budget_pC, "increase_pA_per_s": INCREASE_PA_PER_S * faster, **lease},
        "control": {
            "preset": options.preset,
            "ceiling": options.ceiling,
            "accept_flagged": options.accept_flagged,
            "lease_slack_s": LEASE_SLACK_S * faster,
            **lease,
        },
    }


def require_possible(options: FlightOptions) -> None:
    """Raises UsageError for what no process would notice, or would say in words that aren't the demo's."""
    if options.preset not in BUDGET_PC:
        raise UsageError(
            f"--preset {options.preset}: the demo flies {' or '.join(BUDGET_PC)}; `eelstm control --preset` knows advise and track too."
        )
    if options.seconds is not None and not math.isfinite(options.seconds):
        raise UsageError(f"--seconds {options.seconds}: give a finite number of seconds.")
    if options.journal is not None and not options.journal.parent.is_dir():
        raise UsageError(f"--journal {options.journal}: there is no folder {options.journal.parent}.")
