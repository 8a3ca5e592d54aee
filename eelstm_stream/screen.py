"""The terminal view of a stream: a Tally drawn with rich. Pure: it reads no clock and no socket."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eelstm_stream.core.tally import Tally
from eelstm_stream.wire.messages import Forecast, Interval, LiveSkill

BLOCKS = " ▁▂▃▄▅▆▇█"
PLOT_COLUMNS, PLOT_ROWS = 76, 6
EDGES = (("Ti L", 456.0), ("O K", 532.0))

GUARD_STYLES = {"auto": "green", "disarmed": "cyan", "override": "bold yellow", "blank_latched": "bold white on red"}
CONTROLLER_STYLES = {"controlling": "green", "advising": "green", "learning": "cyan", "waiting": "cyan", "ended": "dim"}
STATE_STYLES = {"forecasting": "green", "filling": "cyan", "waiting": "cyan", "ended": "dim"}  # any other is a warning


def draw(
    tally: Tally, forecast: Forecast | None, counts: NDArray[np.float32] | None, malformed: int, now_ns: int
) -> Group:
    """The whole view. counts: `(horizon, channel)` of the newest forecast heard, if its spectra were."""
    parts: list[RenderableType] = [heading(tally)]
    if forecast is not None and counts is not None:
        parts.append(_spectrum_panel(forecast, counts[-1]))
    parts.append(Columns([_phase_panel(tally), _errors_panel(tally.skill), _flow_panel(tally, malformed, now_ns)]))
    parts += warnings(tally)
    return Group(*parts)


def heading(tally: Tally) -> Text:
    """What is watched, and how forecaster, controller and guard stand."""
    text = Text()
    newest, start, status = tally.newest, tally.start, tally.status
    if (start is not None and start.source == "simulation") or (newest is not None and newest.simulated):
        text.append(" SIMULATED ", style="black on yellow")
        text.append(" ")
    if start is not None:
        text.append(f"{_plain(start.source_name)}  {start.energy_axis}  dwell {start.dwell_s:g} s  ", style="bold")
    if newest is not None:
        text.append(f"model {newest.model_name}", style="dim")
    if status is not None:
        text.append(f"\n{status.state}: {_plain(status.text)}", style=STATE_STYLES.get(status.state, "bold yellow"))
    else:
        text.append("\nnothing heard from a forecaster yet", style="bold yellow")
    if status is not None and status.alarm is not None:
        text.append(f"\nALARM: {_plain(status.alarm)}", style="bold white on red")
    controller, guard = tally.controller, tally.guard
    if controller is not None:
        said = f"\ncontroller {controller.state} ({controller.preset}): {_plain(controller.text)}"
        text.append(said, style=CONTROLLER_STYLES.get(controller.state, "bold yellow"))
    if guard is not None:
        left = "" if guard.ledger is None else f"; {guard.ledger.left_pC:,.0f} of {guard.ledger.budget_pC:,.0f} pC left"
        said = f"\nguard {guard.mode.replace('_', ' ')}: {_plain(guard.text)}{left}"
        text.append(said, style=GUARD_STYLES.get(guard.mode, "bold yellow"))
    return text


def _spectrum_panel(forecast: Forecast, counts: NDArray[np.float32]) -> Panel:
    axis = forecast.energy_axis
    rows = block_chart(counts, PLOT_COLUMNS, PLOT_ROWS)
    marks = [" "] * PLOT_COLUMNS
    for label, energy_eV in EDGES:
        column = int((energy_eV - axis.first_eV) / (axis.last_eV - axis.first_eV) * PLOT_COLUMNS)
        if 0 <= column <= PLOT_COLUMNS - len(label):
            marks[column : column + len(label)] = label
    ends = f"{axis.first_eV:.0f} eV".ljust(PLOT_COLUMNS - 8) + f"{axis.last_eV:.0f} eV".rjust(8)
    body = Text("\n".join([*rows, "".join(marks), ends]))
    horizon = forecast.horizons[-1]
    if forecast.window_domain == "frame":
        aim = f"spectrum {forecast.from_seq + horizon}, {horizon} steps ahead"
    else:
        aim = f"the reference dose that is {horizon} ahead of spectrum {forecast.from_seq}"
    title = f"forecast of {aim} (up to {counts.max():,.0f} counts)"
    return Panel(body, title=title, width=PLOT_COLUMNS + 4)


def _phase_panel(tally: Tally) -> Panel:
    newest = tally.newest
    table = Table.grid(padding=(0, 1))
    if newest is None:
        table.add_row("no forecast yet")
    else:
        table.add_row("now", _interval(newest.phase_now))
        for horizon, phase in list(zip(newest.horizons, newest.phase, strict=True))[-3:]:
            table.add_row(f"+{horizon} steps", _interval(phase))
        table.add_row("history", sparkline(list(tally.phases), 24, low=0.0, high=1.0))
    return Panel(table, title="phase (0 pristine, 1 transformed), 95 %", height=8)


def _errors_panel(skill: LiveSkill | None) -> Panel:
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    if skill is None:
        table.add_row("no forecast has come true yet", "")
    else:
        table.add_row("forecast", f"{skill.rmse:,.1f}")
        table.add_row("persistence", f"{skill.rmse_persistence:,.1f}")
        table.add_row("mean of window", f"{skill.rmse_window_mean:,.1f}")
        table.add_row("noise floor", "—" if skill.noise_floor is None else f"{skill.noise_floor:,.1f}")
        table.add_row("skill, persistence", _signed(skill.skill))
        table.add_row("skill, mean of window", _signed(skill.skill_against_mean))
    title = "RMSE, counts" if skill is None else f"RMSE, counts ({skill.matured:,} come true)"
    return Panel(table, title=title, height=8)


def _flow_panel(tally: Tally, malformed: int, now_ns: int) -> Panel:
    counters = None if tally.status is None else tally.status.counters
    p50, p99 = tally.latency_percentile_ms(50), tally.latency_percentile_ms(99)
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    table.add_row("forecasts", f"{tally.forecasts:,} ({tally.forecast_rate_per_s(now_ns):.1f}/s)")
    if tally.spectra:
        table.add_row("spectra", f"{tally.spectra:,} ({tally.spectrum_rate_per_s(now_ns):.1f}/s)")
    if counters is not None:
        table.add_row("lost, late", f"{counters.lost}, {counters.late}")
        table.add_row("refused, invalid", f"{counters.refused}, {counters.invalid}")
    table.add_row("malformed", f"{malformed}")
    table.add_row("latency p50, p99", "—" if p50 is None or p99 is None else f"{p50:.1f}, {p99:.1f} ms")
    return Panel(table, title="flow", height=8)


def warnings(tally: Tally) -> list[RenderableType]:
    """What the newest forecast says against itself."""
    if tally.newest is None:
        return []
    return [Text(f"! {q.flag.replace('_', ' ')}: {_plain(q.reason)}", style="yellow") for q in tally.newest.quality]


def _signed(skill: float) -> Text:
    return Text(f"{skill:+.2f}", style="green" if skill > 0.005 else "bold red")


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "unknown"
    return f"{interval.value:+.3f}  [{interval.low:+.3f}, {interval.high:+.3f}]"


def block_chart(values: NDArray[np.floating], columns: int, rows: int) -> list[str]:
    """Values `(n,)` as a filled chart of text, top row first; its base is a little below the smallest value."""
    edges = np.linspace(0, len(values), columns + 1).astype(int)
    means = np.array([values[a : max(b, a + 1)].mean() for a, b in pairwise(edges)])
    low, high = float(means.min()), float(means.max())
    base = low - 0.1 * (high - low)
    heights = (means - base) / ((high - base) or 1.0) * rows * 8
    return ["".join(BLOCKS[int(np.clip(round(h - row * 8), 0, 8))] for h in heights) for row in range(rows - 1, -1, -1)]


def sparkline(values: list[float], columns: int, *, low: float, high: float) -> str:
    """Values as one line of blocks, averaged into columns, between two limits."""
    if not values:
        return ""
    inside = np.clip(values, low, high)
    edges = np.linspace(0, len(inside), min(columns, len(inside)) + 1).astype(int)
    means = [float(inside[a:b].mean()) for a, b in pairwise(edges)]
    return "".join(BLOCKS[1 + int((m - low) / (high - low) * 7)] for m in means)


def _plain(text: str) -> str:
    """A sender's text without what a terminal would take as a command."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
