"""The terminal view shows what the tally holds, at any moment, and passes no commands on to the terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eelstm_stream.core.tally import Tally
from eelstm_stream.screen import block_chart, draw, sparkline
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Counters,
    Forecast,
    GuardStatus,
    Interval,
    LedgerReport,
    Message,
    QualityFlag,
    Status,
    Summary,
)
from tests.model_files import AXIS, reference_spectrum
from tests.properties import examples
from tests.wire import strategies
from tests.wire.goldens import ENVELOPE, SESSION_START, SPECTRUM, SUMMARY_FIELDS, TOLD_IN_FULL

SECOND = 1_000_000_000
SUMMARY = Summary(**ENVELOPE, **SUMMARY_FIELDS, **TOLD_IN_FULL)
FORECAST = Forecast(**ENVELOPE, **SUMMARY_FIELDS, **TOLD_IN_FULL, energy_axis=AXIS, shape=(2, AXIS.size))
COUNTS = np.stack([reference_spectrum(), reference_spectrum()])


def shown(*messages: Message, forecast: Forecast | None = None, malformed: int = 0, columns: int = 130) -> str:
    """The view as text, after messages."""
    tally = Tally("boot-1")
    for message in messages:
        tally.take(message, 123 * SECOND + 5_000_000)
    view = draw(tally, forecast, None if forecast is None else COUNTS, malformed, 123 * SECOND + 6_000_000)
    file = io.StringIO()
    Console(file=file, width=columns, force_terminal=True, color_system=None).print(view)
    return file.getvalue()


def status(**changes: object) -> Status:
    return Status(**(ENVELOPE | {"sender": "forecaster", "state": "filling", "text": "3 more spectra"} | changes))


def test_before_anything_is_heard_it_says_so():
    text = shown()
    assert "nothing heard from a forecaster yet" in text
    assert "no forecast yet" in text
    assert "no forecast has come true" in text


def test_an_alarm_is_shown_as_long_as_the_status_has_it():
    assert "ALARM: two programs publish" in shown(status(alarm="two programs publish\x1b[2J"))
    assert "ALARM" not in shown(status(alarm="two programs publish"), status())


def test_it_shows_what_controller_and_guard_do():
    envelope = {"session": "s", "seq": 0, "sent_mono_ns": 0, "clock_id": "boot-1"}
    controller = ControllerStatus(**envelope, state="controlling", text="0.2 s at 230 pA next", preset="preserve")
    ledger = LedgerReport(budget_pC=5000.0, charged_pC=1200.0, reported_pC=1000.0, left_pC=3800.0)
    guard = GuardStatus(**envelope, mode="blank_latched", text="latched\x1b[2J by an operator", ledger=ledger)
    text = shown(controller, guard)
    assert "controller controlling (preserve): 0.2 s at 230 pA next" in text
    assert "guard blank latched: latched\N{REPLACEMENT CHARACTER}[2J by an operator; 3,800 of 5,000 pC left" in text
    assert "guard" not in shown(status())


def test_it_shows_session_model_phase_errors_and_flow():
    text = shown(
        SESSION_START, SPECTRUM, status(counters=Counters(lost=5, late=7, refused=3, invalid=4)), FORECAST, malformed=2
    )
    for piece in (
        "SI-007 0.4 s dwell.dm4",
        str(SESSION_START.energy_axis),
        "dwell 0.4 s",
        "model sto-sim.1",
        "filling: 3 more spectra",
        "+0.125  [-0.125, +0.375]",
        "+8 steps +0.500  [+0.375, +0.625]",
        "182.5",
        "295.2",
        "175.0",
        "+0.62",
        "5, 7",
        "3, 4",
        "5.0, 5.0 ms",
    ):
        assert piece in text, piece


def test_a_simulation_is_never_shown_as_a_measurement():
    assert " SIMULATED " in shown(SUMMARY)
    assert " SIMULATED " in shown(SESSION_START.model_copy(update={"source": "simulation"}))
    assert "SIMULATED" not in shown(SESSION_START, SUMMARY.model_copy(update={"simulated": False}))


def test_quality_flags_stand_below_with_their_reasons():
    text = shown(SUMMARY)
    assert "! resampled: from 0.2 eV" in text
    assert "! gap in window: 1 spectrum is missing inside the window" in text


def test_the_forecast_is_drawn_with_its_edges_and_its_axis():
    text = shown(FORECAST, forecast=FORECAST, columns=80)
    assert "forecast of spectrum 49, 8 steps ahead" in text
    assert "Ti L" in text
    assert "O K" in text
    assert "435 eV" in text
    assert "625 eV" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_latency_between_unlike_clocks_is_left_open():
    assert (
        "ms" not in shown(SUMMARY.model_copy(update={"clock_id": "another-boot"})).split("latency")[1].splitlines()[0]
    )


@pytest.mark.parametrize("command", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08\x08"])
def test_a_senders_text_commands_no_terminal(command):
    text = shown(
        SESSION_START.model_copy(update={"source_name": f"a{command}b"}),
        status(text=f"c{command}d"),
        SUMMARY.model_copy(update={"quality": (QualityFlag(flag="resampled", reason=f"e{command}f"),)}),
    )
    assert command not in text
    assert all(piece in text for piece in ("a�", "c�", "e�"))


def test_a_senders_brackets_are_not_taken_for_markup():
    text = shown(
        SESSION_START.model_copy(update={"source_name": "run [red]7[/red] [/]"}), status(text="[bold]x[/bold]")
    )
    assert "run [red]7[/red] [/]" in text
    assert "[bold]x[/bold]" in text


def test_an_unknown_phase_is_said_to_be():
    assert "now      unknown" in shown(SUMMARY.model_copy(update={"phase_now": None}))


@examples(30)
@given(st.lists(strategies.summaries() | strategies.statuses | strategies.session_starts, max_size=4))
def test_whatever_the_wire_allows_can_be_shown(messages):
    shown(*messages, columns=80)


# Charts


def test_a_chart_is_as_wide_and_high_as_asked_and_highest_where_the_values_are():
    rows = block_chart(np.array([1.0, 2.0, 3.0, 2.0]), columns=4, rows=3)
    assert [len(row) for row in rows] == [4, 4, 4]
    assert rows[0] == "  █ "  # the top row is full only at the largest value
    assert rows[-1][2] == "█"
    assert rows[-1][0] != " "  # the smallest is not nothing: the base lies below it


def test_a_chart_averages_what_falls_into_a_column():
    assert block_chart(np.repeat([1.0, 5.0], 50), 2, 1) == block_chart(np.array([1.0, 5.0]), 2, 1)


@examples(100)
@given(
    st.lists(st.floats(-(2.0**43), 2.0**43, width=32), min_size=1, max_size=200).map(np.array),
    st.integers(1, 100),
    st.integers(1, 8),
)
def test_any_values_make_a_chart(values, columns, rows):
    chart = block_chart(values, columns, rows)
    assert [len(row) for row in chart] == [columns] * rows


@examples(100)
@given(st.lists(st.floats(allow_nan=False), max_size=200), st.integers(1, 50))
def test_a_sparkline_has_a_block_a_value_up_to_its_columns(values, columns):
    line = sparkline(values, columns, low=0.0, high=1.0)
    assert len(line) == min(len(values), columns)
    assert set(line) <= set("▁▂▃▄▅▆▇█")


def test_a_sparkline_goes_from_its_lowest_to_its_highest_block_between_its_limits():
    assert sparkline([-5.0, 0.0, 0.5, 1.0, 9.0], 5, low=0.0, high=1.0) == "▁▁▄██"
    assert sparkline([0.0] * 50 + [1.0] * 50, 2, low=0.0, high=1.0) == "▁█"


def test_the_history_of_the_phase_is_drawn():
    phases = [
        SUMMARY.model_copy(update={"from_seq": n, "phase_now": Interval(value=n / 9, low=0, high=1)}) for n in range(10)
    ]
    assert "▁▁▂▃▄▄▅▆▇█" in shown(*phases)
