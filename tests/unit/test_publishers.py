"""Two programs under one name are told from one that was started again, whatever came late."""

from __future__ import annotations

from typing import Any

import pytest

from eelstm_stream.core.publishers import KEPT, Publishers
from eelstm_stream.wire.messages import Gap, InstrumentStatus, Message, SessionEnd, SessionStart, Spectrum
from tests.wire.goldens import SESSION_START, SPECTRUM


def start(uid: str, at: int, clock_id: str = "boot-1") -> SessionStart:
    return SESSION_START.model_copy(update={"session": uid, "sent_mono_ns": at, "clock_id": clock_id})


def spectrum(uid: str, at: int, seq: int = 0) -> Spectrum:
    return SPECTRUM.model_copy(update={"session": uid, "sent_mono_ns": at, "seq": seq})


def status(uid: str, at: int) -> InstrumentStatus:
    fields: dict[str, Any] = {"state": "blanked", "text": "", "clock_id": "boot-1", "obeys": True}
    return InstrumentStatus(session=uid, seq=0, sent_mono_ns=at, **fields)


def end(uid: str, at: int) -> SessionEnd:
    return SessionEnd(session=uid, seq=1, sent_mono_ns=at, reason="stopped", spectra=1)


def after(*messages: Message, state: Publishers | None = None) -> Publishers:
    state = state or Publishers()
    for message in messages:
        state = state.heard(message)
    return state


TWO = (start("a", 1), spectrum("a", 2), start("b", 3), spectrum("b", 4), spectrum("a", 5))


def test_one_that_goes_on_though_another_has_begun_is_an_alarm():
    assert after(*TWO[:-1]).alarm is None
    assert after(*TWO).alarm == ("two programs publish under this instrument's name: sessions a and b go on at once")


@pytest.mark.parametrize(
    "message", [status("a", 5), Gap(session="a", seq=2, sent_mono_ns=5, first_seq=1, last_seq=1, reason="")]
)
def test_it_goes_on_with_whatever_it_says(message):
    assert after(*TWO[:-1], message).alarm is not None


def test_a_restart_is_none_and_neither_is_what_was_held_up_on_the_way():
    restarted = (start("a", 1), spectrum("a", 2), start("b", 10), spectrum("b", 11))
    held_up = [spectrum("a", at, seq=at) for at in range(3, 10)]
    assert after(*restarted, *held_up, spectrum("b", 12), *held_up).alarm is None


def test_sessions_that_follow_each_other_are_none():
    state = Publishers()
    for number in range(50):
        uid = f"s{number}"
        state = after(start(uid, number), spectrum(uid, number), end(uid, number), state=state)
        assert state.alarm is None
        assert spectrum(uid, number + 1000).session in state.ended
        assert after(spectrum(uid, number + 1000), state=state) == state  # it has ended, and what is late is late


def test_it_stays_until_one_of_the_two_has_ended():
    quiet = [spectrum("b", at) for at in range(6, 60)]
    assert after(*TWO, *quiet).alarm == after(*TWO).alarm
    for uid in ("a", "b"):
        over = after(*TWO, *quiet, end(uid, 61))
        other = "b" if uid == "a" else "a"
        assert over.alarm is None
        assert after(spectrum(other, 62), spectrum(other, 63), state=over).alarm is None
    assert after(*TWO, end("c", 61)).alarm is not None


def test_another_pair_after_one_is_over_is_an_alarm_again():
    again = after(*TWO, end("a", 6), start("c", 7), spectrum("c", 8), spectrum("b", 9))
    assert again.pair == ("b", "c")


@pytest.mark.parametrize("clocks", [("boot-1", "boot-2"), (None, "boot-1"), (None, None)])
def test_without_a_common_clock_several_messages_tell(clocks):
    def begin(uid: str, at: int, clock_id: str | None) -> Message:
        return spectrum(uid, at) if clock_id is None else start(uid, at, clock_id)

    state = after(begin("a", 100, clocks[0]), begin("b", 1, clocks[1]))
    alarms = [(state := after(spectrum("a", 101 + n), spectrum("b", 2 + n), state=state)).alarm for n in range(3)]
    assert [alarm is not None for alarm in alarms] == [False, False, True]


def test_what_it_remembers_is_bounded():
    state = after(*(spectrum(f"s{number}", number) for number in range(1000)))
    state = after(*(end(f"e{number}", number) for number in range(1000)), state=state)
    assert (len(state.sessions), len(state.ended)) == (KEPT, KEPT)
