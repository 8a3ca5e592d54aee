"""The terminal view of a controlled flight: phase against its ceiling, the plan, the guard and its ledger. Pure."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eelstm_stream.core.flight_log import FlightLog
from eelstm_stream.core.tally import Tally
from eelstm_stream.screen import GUARD_STYLES, heading, sparkline, warnings
from eelstm_stream.wire.messages import Interval, LedgerReport

BAR_COLUMNS = 60
LEDGER_COLUMNS = 24
WIDTH = 80
MOST = 1.0
OVER_CEILING = 1.6  # of the ceiling: how far the scale of the phase goes


def draw(tally: Tally, log: FlightLog, malformed: int, now_ns: int) -> Group:
    """The whole view."""
    parts: list[RenderableType] = [
        heading(tally),
        _phase_panel(log),
        Columns([_beam_panel(log), _ledger_panel(log)]),
        Columns([_guard_panel(log), _flow_panel(tally, log, malformed, now_ns)]),
        *warnings(tally),
    ]
    return Group(*parts)


def _phase_panel(log: FlightLog) -> Panel:
    controller = log.controller
    ceiling = None if controller is None else controller.phase_ceiling
    phase = None if controller is None else controller.phase
    top = MOST if ceiling is None else min(MOST, OVER_CEILING * ceiling)
    body = Text()
    body.append_text(phase_bar(phase, ceiling, top, BAR_COLUMNS))
    body.append(f" {top:.2f}\n")
    said = "not known yet" if phase is None else f"{phase.value:.3f}, 95 %: {phase.low:.3f} to {phase.high:.3f}"
    body.append(said.ljust(40))
    body.append("no ceiling" if ceiling is None else f"ceiling {ceiling:g}", style="" if ceiling is None else "red")
    if controller is not None and controller.dose_to_ceiling_pC is not None:
        body.append(f", in {controller.dose_to_ceiling_pC.value:,.0f} pC")
    return Panel(
        body, title="phase since the start (0 pristine, 1 transformed), as the controller sees it", width=WIDTH
    )


def phase_bar(phase: Interval | None, ceiling: float | None, top: float, columns: int) -> Text:
    """A bar from 0 to `top`: filled up to the interval's lower end, shaded through the interval, with a mark at the ceiling."""

    def column(value: float) -> int:
        return max(0, min(columns, round(value / top * columns)))

    cells = [" "] * columns
    if phase is not None:
        low, high = column(phase.low), column(phase.high)
        cells[:low] = "█" * low
        cells[low:high] = "▒" * (high - low)
    bar = Text("".join(cells), style="cyan")
    if ceiling is not None:
        at = min(columns - 1, column(ceiling))
        bar = Text.assemble(bar[:at], ("┃", "bold red"), bar[at + 1 :])
    return bar


def _beam_panel(log: FlightLog) -> Panel:
    table = _grid()
    beam = None if log.beam is None else log.beam.beam
    if beam is None:
        table.add_row("beam", "nothing heard yet")
    else:
        on = Text("blanked", style="cyan") if beam.readback.blanked else Text("ON", style="bold yellow")
        table.add_row("beam", on)
        table.add_row("dwell", f"{beam.readback.dwell_s * 1e3:,.0f} ms")
        table.add_row("current", f"{beam.readback.beam_current_pA:,.1f} pA")
    plan = () if log.controller is None else log.controller.plan_dose_pC
    table.add_row("plan, pC", " ".join(f"{dose:.3g}" for dose in plan[:5]) or "—")
    doses = [frame.dose_pC for frame in log.frames]
    table.add_row("pC a frame", sparkline(doses, 22, low=0.0, high=max(doses, default=1.0) or 1.0))
    return Panel(table, title="beam and plan", width=WIDTH // 2, height=7)


def _ledger_panel(log: FlightLog) -> Panel:
    table = _grid()
    ledger = None if log.guard is None else log.guard.ledger
    if ledger is None:
        table.add_row("nothing heard yet", "")
    else:
        table.add_row("", ledger_bar(ledger, LEDGER_COLUMNS))
        table.add_row("spent", f"{ledger.reported_pC:,.0f} pC")
        table.add_row("leased", f"{max(0.0, ledger.charged_pC - ledger.reported_pC):,.0f} pC")
        table.add_row("left", f"{ledger.left_pC:,.0f} pC of {ledger.budget_pC:,.0f} pC")
    return Panel(table, title="dose ledger", width=WIDTH // 2 - 1, height=7)


def ledger_bar(ledger: LedgerReport, columns: int) -> Text:
    """The budget as a bar: filled where it's spent, shaded where it's leased."""
    spent = min(columns, round(ledger.reported_pC / ledger.budget_pC * columns))
    charged = max(spent, min(columns, round(ledger.charged_pC / ledger.budget_pC * columns)))
    return Text("█" * spent + "▒" * (charged - spent) + "·" * (columns - charged), style="yellow")


def _guard_panel(log: FlightLog) -> Panel:
    table = _grid()
    guard = log.guard
    if guard is None:
        table.add_row("nothing heard yet", "")
    else:
        table.add_row("mode", Text(guard.mode.replace("_", " "), style=GUARD_STYLES.get(guard.mode, "bold yellow")))
        table.add_row("accepted", f"{guard.accepted:,}")
        table.add_row("cut down", f"{guard.clamped:,}")
        by = ", ".join(f"{limit} {count}" for limit, count in guard.refused_by.items())
        table.add_row("refused", f"{guard.refused:,}" + (f" ({by})" if by else ""))
    return Panel(table, title="guard", width=WIDTH // 2, height=6)


def _flow_panel(tally: Tally, log: FlightLog, malformed: int, now_ns: int) -> Panel:
    table = _grid()
    table.add_row("spectra", f"{tally.spectra:,} ({tally.spectrum_rate_per_s(now_ns):.1f}/s)")
    table.add_row("forecasts", f"{tally.forecasts:,}, malformed {malformed}")
    for name, percentile in (("to forecast", tally.latency_percentile_ms), ("to command", log.latency_percentile_ms)):
        p50, p99 = percentile(50), percentile(99)
        table.add_row(name, "—" if p50 is None or p99 is None else f"p50 {p50:.1f}, p99 {p99:.1f} ms")
    return Panel(table, title="flow", width=WIDTH // 2 - 1, height=6)


def _grid() -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column()
    return table
