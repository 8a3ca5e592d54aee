"""What a listener counts is what was sent: nothing twice, nothing across sessions, no latency between unlike clocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.tally import RATE_OVER_S, SESSIONS_KEPT, Tally
from eelstm_stream.wire.messages import (
    CameTrue,
    Counters,
    Forecast,
    Gap,
    Interval,
    Message,
    SessionEnd,
    StageLatency,
    Status,
    Summary,
)
from tests.properties import examples
from tests.wire.goldens import FORECAST_AXIS, SESSION_START, SPECTRUM, SUMMARY_FIELDS, TOLD_IN_FULL

CLOCK = "boot-1"  # of SUMMARY_FIELDS too
WINDOW = 8
MS = 1_000_000
SECOND = 1000 * MS


def summary(from_seq: int, session: str = "first", **changes: Any) -> Summary:
    fields = SUMMARY_FIELDS | {"from_seq": from_seq, "session": session, "seq": from_seq, "sent_mono_ns": 0}
    return Summary(**(fields | changes))


def spectrum(seq: int, session: str = "first") -> Message:
    return SPECTRUM.model_copy(update={"seq": seq, "session": session})


def outcome(rmse: float, persistence: float, window_mean: float) -> CameTrue:
    return CameTrue(horizon=1, rmse=rmse, rmse_persistence=persistence, rmse_window_mean=window_mean)


def heard(*messages: Message, recv_mono_ns: int = 0) -> Tally:
    tally = Tally(CLOCK)
    for message in messages:
        tally.take(message, recv_mono_ns)
    return tally


def a_session(spectra: int, forecasts: range | list[int], session: str = "first") -> list[Message]:
    return [*(spectrum(seq, session) for seq in range(spectra)), *(summary(seq, session) for seq in forecasts)]


# Missed


def test_the_spectra_that_fill_the_window_need_no_forecast():
    tally = heard(*a_session(20, range(WINDOW - 1, 20)))
    assert (tally.spectra, tally.forecasts, tally.missed) == (20, 13, 0)


def test_a_forecast_that_did_not_come_is_missed():
    tally = heard(*a_session(20, [seq for seq in range(7, 20) if seq not in (9, 10, 19)]))
    assert (tally.forecasts, tally.missed) == (10, 3)


@pytest.mark.parametrize(("dose_pC", "filling"), [(92.0, 7), (88.0, 8), (1.84, 399), (184.0, 3)])
def test_a_window_on_dose_is_filled_by_dose(dose_pC, filling):
    on_dose = {"window_domain": "dose", "reference_dose_pC": 92.0}
    spectra = [
        spectrum(seq).model_copy(update={"dwell_s": 0.4, "beam_current_pA": dose_pC / 0.4}) for seq in range(450)
    ]
    every = heard(*spectra, *(summary(seq, **on_dose) for seq in range(filling, 450)))
    assert every.missed == 0
    all_but_one = heard(*spectra, *(summary(seq, **on_dose) for seq in range(filling + 1, 450)))
    assert all_but_one.missed == 1


@examples(50)
@given(st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(7, 29))), max_size=5))
def test_what_is_missed_in_one_session_is_not_made_up_for_by_another(sessions):
    messages, expected = [], 0
    for number, (spectra, forecasts) in enumerate(sessions):
        made = sorted(seq for seq in forecasts if seq < spectra)
        messages += a_session(spectra, made, f"s{number}")
        expected += max(0, spectra - (WINDOW - 1)) - len(made)
    assert heard(summary(0, "known-window"), *messages).missed == expected


def test_nothing_is_missed_before_the_window_is_known():
    tally = heard(*a_session(20, []))
    assert tally.missed == 0
    tally.take(
        Status(session="first", seq=0, sent_mono_ns=0, sender="forecaster", state="filling", text="", window=8), 0
    )
    assert tally.missed == 13


def test_a_short_session_misses_nothing():
    assert heard(summary(0, "other"), *a_session(3, [])).missed == 0


def test_a_listener_of_forecasts_alone_misses_nothing():
    assert heard(*(summary(seq) for seq in range(7, 30))).missed == 0


# Counted once


def test_a_forecast_and_its_summary_are_one():
    header = Forecast(**(SUMMARY_FIELDS | FORECAST_AXIS | {"session": "first", "seq": 0, "sent_mono_ns": 0}))
    tally = heard(header, summary(header.from_seq))
    assert tally.forecasts == 1
    assert tally.newest is header


def test_what_a_restarted_forecaster_says_again_is_not_counted_again():
    came_true = (outcome(1, 2, 3),)
    tally = heard(*(summary(seq, came_true=came_true) for seq in (7, 8, 9, 7, 8, 9, 10)))
    assert (tally.forecasts, tally.pairs) == (4, 4)


def test_a_new_session_begins_its_numbers_and_its_phases_anew():
    phase = {"phase_now": Interval(value=0.75, low=0.7, high=0.8)}
    tally = heard(summary(7, **phase), summary(8, **phase), summary(7, "second", **phase))
    assert tally.forecasts == 3
    assert list(tally.phases) == [0.75]
    tally.take(SESSION_START, 0)
    assert list(tally.phases) == []


def test_lost_spectra_are_those_of_the_gaps():
    gap = Gap(session="first", seq=1, sent_mono_ns=0, first_seq=3, last_seq=5, reason="")
    assert heard(gap, gap.model_copy(update={"first_seq": 9, "last_seq": 9})).lost == 4


def test_start_end_and_status_are_kept():
    status = Status(
        session="first", seq=0, sent_mono_ns=0, sender="forecaster", state="waiting", text="", counters=Counters(late=3)
    )
    end = SessionEnd(session="a1b2c3", seq=1, sent_mono_ns=0, reason="finished", spectra=3)
    tally = heard(SESSION_START, end, status)
    assert (tally.start, tally.end, tally.status) == (SESSION_START, end, status)
    tally.take(SESSION_START, 0)
    assert tally.end is None


def test_months_of_sessions_are_not_all_kept():
    tally = Tally(CLOCK)
    for number in range(SESSIONS_KEPT + 50):
        tally.take(spectrum(0, f"s{number}"), 0)
    assert len(tally.sessions) == SESSIONS_KEPT
    assert "s49" not in tally.sessions
    assert "s50" in tally.sessions


# Latency


def test_latency_is_counted_from_the_spectrums_own_time():
    tally = Tally(CLOCK)
    for seq, latency_ms in enumerate(range(1, 101)):
        tally.take(summary(seq, spectrum_sent_mono_ns=SECOND), SECOND + latency_ms * MS)
    assert tally.latency_percentile_ms(50) == pytest.approx(50.5)
    assert tally.latency_percentile_ms(99) == pytest.approx(99.01)
    assert tally.inferences_ms[0] == pytest.approx(0.003)


def test_two_clocks_that_do_not_compare_give_no_latency():
    tally = heard(summary(7, clock_id="another-boot"), recv_mono_ns=10**15)
    assert tally.latency_percentile_ms(50) is None
    assert tally.forecasts == 1


def test_batches_are_kept():
    latency = StageLatency(queued_ns=0, prepared_ns=0, inferred_ns=2 * MS, batch=17)
    tally = heard(summary(7, latency=latency))
    assert (list(tally.batches), list(tally.inferences_ms)) == ([17], [2.0])


# Rates


def test_rates_are_over_the_last_seconds():
    tally = Tally(CLOCK)
    for number in range(100):  # 10 a second, for 10 s
        tally.take(spectrum(number), number * SECOND // 10)
        if number % 2:
            tally.take(summary(number), number * SECOND // 10)
    assert len(tally._spectrum_times_s) <= 10 * RATE_OVER_S + 1  # no more than that is kept
    now_ns = 99 * SECOND // 10
    assert tally.spectrum_rate_per_s(now_ns) == pytest.approx(10)
    assert tally.forecast_rate_per_s(now_ns) == pytest.approx(5)
    assert tally.spectrum_rate_per_s(now_ns + round((RATE_OVER_S + 1) * SECOND)) == 0


@pytest.mark.parametrize("times_ns", [[], [5 * SECOND], [5 * SECOND, 5 * SECOND]])
def test_there_is_no_rate_without_two_times(times_ns):
    tally = Tally(CLOCK)
    for seq, time_ns in enumerate(times_ns):
        tally.take(spectrum(seq), time_ns)
    assert tally.spectrum_rate_per_s(5 * SECOND) == 0


# Errors


def test_errors_are_averaged_as_squares_over_everything_that_came_true():
    tally = heard(summary(7, came_true=(outcome(3, 6, 5), outcome(4, 8, 5))), summary(8), summary(9, came_true=()))
    skill = tally.skill
    assert skill.matured == 2
    assert skill.rmse == pytest.approx(np.sqrt(12.5))
    assert skill.rmse_persistence == pytest.approx(np.sqrt(50))
    assert skill.rmse_window_mean == pytest.approx(5)
    assert skill.skill == pytest.approx(1 - 12.5 / 50)
    assert skill.skill_against_mean == pytest.approx(1 - 12.5 / 25)
    assert skill.noise_floor is None


def test_a_forecast_that_is_worse_than_persistence_has_negative_skill():
    assert heard(summary(7, came_true=(outcome(10, 5, 5),))).skill.skill == pytest.approx(-3)


def test_there_is_no_skill_before_a_forecast_has_come_true():
    assert heard(summary(7)).skill is None


def test_the_noise_floor_is_rms_over_sessions_each_by_its_newest():
    told = TOLD_IN_FULL["skill"]
    came_true = (outcome(1, 1, 1),)

    def with_floor(from_seq: int, session: str, floor: float | None) -> Summary:
        return summary(from_seq, session, came_true=came_true, skill=told.model_copy(update={"noise_floor": floor}))

    tally = heard(
        with_floor(7, "a", 999.0), with_floor(8, "a", 30.0), with_floor(7, "b", 40.0), with_floor(7, "c", None)
    )
    assert tally.skill.noise_floor == pytest.approx(np.sqrt((30**2 + 40**2) / 2))


@pytest.mark.parametrize("baseline", [0.0, 1e-160, 5e-324])
@pytest.mark.parametrize("rmse", [0.0, 1.0, 1e15])
def test_whatever_a_sender_claims_the_skill_is_a_number(rmse, baseline):
    skill = heard(summary(7, came_true=(outcome(rmse, baseline, baseline),))).skill
    assert np.isfinite([skill.skill, skill.skill_against_mean]).all()
