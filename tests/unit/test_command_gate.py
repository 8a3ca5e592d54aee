"""Which commands an instrument looks at: none of another session, none twice, none too late."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.command_gate import FURTHEST_AHEAD, LONGEST_TIME_TO_LIVE_S, CommandGate
from eelstm_stream.wire.messages import MAX_SEQ, Command
from tests.properties import examples

NOW_NS = 500_000_000_000
SECOND = 1_000_000_000


def command(seq: int = 0, *, session: str = "here", expires_mono_ns: int = NOW_NS + SECOND, **ordered: Any) -> Command:
    ordered = ordered or {"dwell_s": 0.1}
    return Command(session=session, seq=seq, sent_mono_ns=0, expires_mono_ns=expires_mono_ns, **ordered)


def test_a_command_of_this_session_that_is_new_and_in_time_is_admitted_and_its_number_remembered():
    gate, refused = CommandGate("here").admit(command(5), NOW_NS)
    assert refused is None
    assert gate == CommandGate("here", 5)


@pytest.mark.parametrize(
    ("late", "limit", "says"),
    [
        ({"session": "there"}, "session", "is for session there, and this is here"),
        ({"seq": 5}, "seq", "command 5 comes after 5"),
        ({"seq": 4}, "seq", "command 4 comes after 5"),
        ({"seq": 6 + FURTHEST_AHEAD}, "seq", "command 1000006 is more than 1000000 ahead of 5"),
        ({"seq": 5, "blanked": True, "dwell_s": 0.1}, "seq", "command 5 comes after 5"),
        ({"expires_mono_ns": 0, "blanked": True, "beam_current_pA": 9.0}, "expired", "expired"),
        ({"session": "there", "blanked": True}, "session", "is for session there, and this is here"),
        ({"expires_mono_ns": NOW_NS - 1}, "expired", "expired 0.000 s ago"),
        ({"expires_mono_ns": NOW_NS - 3 * SECOND}, "expired", "expired 3.000 s ago"),
        ({"expires_mono_ns": NOW_NS + 11 * SECOND}, "expires_mono_ns", "expires in 11 s by this instrument's clock"),
        ({"expires_mono_ns": 2**63 - 1}, "expires_mono_ns", "10 s are the most"),
    ],
)
def test_any_other_is_refused_by_name(late, limit, says):
    _, refused = CommandGate("here", 5).admit(command(**({"seq": 6} | late)), NOW_NS)
    assert refused is not None
    assert refused.limit == limit
    assert says in refused.reason


@pytest.mark.parametrize("expires_mono_ns", [NOW_NS, NOW_NS + round(LONGEST_TIME_TO_LIVE_S * SECOND)])
def test_the_bounds_of_the_expiry_are_in_time(expires_mono_ns):
    assert CommandGate("here").admit(command(expires_mono_ns=expires_mono_ns), NOW_NS)[1] is None


def test_an_expired_command_has_used_its_number_and_one_of_another_session_has_not():
    gate, _ = CommandGate("here").admit(command(8, expires_mono_ns=0), NOW_NS)
    assert gate.taken_seq == 8
    gate, _ = CommandGate("here").admit(command(8, session="there"), NOW_NS)
    assert gate.taken_seq is None


@pytest.mark.parametrize("seq", [0, 5, 6, 5 + FURTHEST_AHEAD, MAX_SEQ])
@pytest.mark.parametrize("expires_mono_ns", [0, NOW_NS, 2**63 - 1])
def test_what_only_blanks_acts_whatever_its_number_and_expiry(seq, expires_mono_ns):
    gate, refused = CommandGate("here", 5).admit(command(seq, expires_mono_ns=expires_mono_ns, blanked=True), NOW_NS)
    assert refused is None
    assert gate.taken_seq == (seq if 5 < seq <= 5 + FURTHEST_AHEAD else 5)


def test_a_number_far_ahead_is_refused_without_being_used():
    gate, refused = CommandGate("here").admit(command(FURTHEST_AHEAD), NOW_NS)
    assert refused is not None
    assert refused.limit == "seq"
    assert gate.taken_seq is None
    assert CommandGate("here").admit(command(FURTHEST_AHEAD - 1), NOW_NS)[1] is None


@examples(200)
@given(st.lists(st.tuples(st.integers(0, 6) | st.just(MAX_SEQ), st.booleans(), st.booleans()), max_size=30))
def test_what_is_admitted_has_numbers_that_rise_above_all_seen_before(sent):
    gate, seen = CommandGate("here"), -1
    for seq, in_time, ours in sent:
        expires_mono_ns = NOW_NS + SECOND if in_time else NOW_NS - SECOND
        ordered = command(seq, session="here" if ours else "there", expires_mono_ns=expires_mono_ns)
        gate, refused = gate.admit(ordered, NOW_NS)
        assert (refused is None) == (ours and in_time and seen < seq < MAX_SEQ)
        seen = max(seen, seq) if ours and seq < MAX_SEQ else seen
