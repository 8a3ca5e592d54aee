"""An adapter's orders: whole commands within limits, frames within leases, and a time at which the beam is off whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.command_gate import CommandGate
from eelstm_stream.core.lease import Lease
from eelstm_stream.core.orders import Orders, blanks, not_covered, off_by_ns, report, take, undone
from eelstm_stream.wire.messages import Command, CommandLimits, Readback
from tests.properties import examples

S = 1_000_000_000
NOW_NS = 1000 * S
AFTER_S, BLANK_S = 0.01, 0.004  # until the beam is off after a dwell, and what of it the blanker takes
LIMITS = CommandLimits(min_dwell_s=0.1, max_dwell_s=5.0, min_current_pA=1.0, max_current_pA=200.0, max_lease_s=30.0)
BLANKED = Orders(CommandGate("here", 5), dwell_s=0.5, current_pA=100.0)
ON = Orders(CommandGate("here", 5), 0.5, 100.0, let_on=True, lease=Lease(NOW_NS + 2 * S, 1000.0))


def told(orders: Orders, *, limits: CommandLimits = LIMITS, dose_pC: float = 0.0, **what: Any):
    fields = {"session": "here", "seq": 6, "sent_mono_ns": 0, "expires_mono_ns": NOW_NS + S} | what
    return take(orders, Command(**fields), limits, now_ns=NOW_NS, dose_pC=dose_pC, after_dwell_s=AFTER_S)


def test_the_beam_is_let_on_with_what_was_ordered_and_a_lease_from_now_on():
    orders, refused = told(
        BLANKED, blanked=False, lease_s=3.0, lease_until_dose_pC=500.0, dwell_s=0.2, beam_current_pA=50.0
    )
    assert refused is None
    assert (orders.dwell_s, orders.current_pA, orders.let_on) == (0.2, 50.0, True)
    assert orders.lease == Lease(NOW_NS + 3 * S, 500.0)


def test_what_a_command_leaves_out_stays_as_it_was():
    orders, refused = told(ON, dwell_s=0.25)
    assert refused is None
    assert (orders.dwell_s, orders.current_pA, orders.let_on, orders.lease) == (0.25, 100.0, True, ON.lease)


def test_a_newer_lease_takes_the_place_of_the_older_also_where_it_is_shorter():
    orders, refused = told(ON, dwell_s=0.5, lease_s=1.0)
    assert refused is None
    assert orders.lease == Lease(NOW_NS + S)


def test_a_lease_alone_lets_no_blanked_beam_on():
    orders, refused = told(BLANKED, dwell_s=0.2, lease_s=3.0)
    assert refused is None
    assert (orders.let_on, orders.why_blanked) == (False, "nothing was commanded yet")


def test_blanking_ends_the_lease_and_says_why():
    orders, refused = told(ON, blanked=True)
    assert refused is None
    assert (orders.let_on, orders.lease, orders.why_blanked) == (False, None, "it was commanded")


@pytest.mark.parametrize(
    ("what", "limit", "says"),
    [
        ({"dwell_s": 0.09}, "min_dwell_s", "the dwell ordered, 0.09 s, is below the limit of 0.1 s."),
        ({"dwell_s": 5.1}, "max_dwell_s", "the dwell ordered, 5.1 s, is above the limit of 5 s."),
        ({"beam_current_pA": 0.5}, "min_current_pA", "the current ordered, 0.5 pA, is below the limit of 1 pA."),
        ({"beam_current_pA": 201.0}, "max_current_pA", "the current ordered, 201 pA, is above the limit of 200 pA."),
        ({"blanked": False, "lease_s": 31.0}, "max_lease_s", "the lease ordered, 31 s, is above the limit of 30 s."),
        ({"blanked": False, "lease_s": 0.505}, "lease_s", "the lease has 0.505 s left, and a frame takes 0.51 s"),
        (
            {"blanked": False, "lease_s": 3.0, "lease_until_dose_pC": 60.0},
            "lease_until_dose_pC",
            "the lease ends at 60 pC, and a frame, until the beam is off, would bring the session from 10 to 61 pC",
        ),
        ({"blanked": False, "lease_s": 1.0, "dwell_s": 2.0}, "lease_s", "a frame takes 2.01 s"),
        ({"session": "there", "blanked": True}, "session", "for session there"),
        ({"seq": 5, "blanked": True}, "seq", "command 5 comes after 5"),
        ({"expires_mono_ns": NOW_NS - 1, "blanked": True}, "expired", "expired"),
    ],
)
@pytest.mark.parametrize("before", [BLANKED, ON])
def test_a_command_that_breaks_a_limit_is_refused_by_its_name_and_changes_nothing(before, what, limit, says):
    with_more = {"beam_current_pA": 100.0, "dwell_s": 0.5} | what
    after, refused = told(before, dose_pC=10.0, **with_more)
    assert refused is not None
    assert refused.limit == limit
    assert says in refused.reason
    assert (after.dwell_s, after.current_pA, after.let_on, after.lease) == (
        before.dwell_s,
        before.current_pA,
        before.let_on,
        before.lease,
    )


def command(seq: int, **what: Any) -> Command:
    return Command(**({"session": "here", "seq": seq, "sent_mono_ns": 0, "expires_mono_ns": NOW_NS + S} | what))


@pytest.mark.parametrize(
    ("batch", "blanked"),
    [
        ([command(6, dwell_s=0.2), command(7, blanked=True)], True),
        ([command(6, blanked=True), command(7, blanked=False, lease_s=1.0)], True),
        ([command(6, blanked=False, lease_s=1.0)], False),
        ([command(7, dwell_s=0.2), command(6, blanked=True)], True),  # whatever its number
        ([command(7, dwell_s=0.2), command(6, blanked=True, dwell_s=0.2)], False),  # a number that is used does not act
        ([command(6, blanked=True, session="there")], False),
        ([command(6, blanked=True, dwell_s=99.0)], False),  # refused whole
        ([], False),
    ],
)
def test_it_is_known_of_commands_before_they_are_taken_whether_one_blanks(batch, blanked):
    assert blanks(ON, batch, LIMITS, now_ns=NOW_NS) is blanked


def test_a_frame_is_reckoned_as_it_is_measured_where_that_is_more():
    what = {"blanked": False, "lease_s": 5.0, "lease_until_dose_pC": 52.0}
    measured = Readback(dwell_s=0.5, beam_current_pA=110.0, blanked=True)
    for ordered, limit in (
        (what, "lease_until_dose_pC"),  # 56.1 pC
        (what | {"beam_current_pA": 99.0}, None),  # of which nothing is measured yet
    ):
        given = {"now_ns": NOW_NS, "dose_pC": 0.0, "after_dwell_s": AFTER_S}
        assert take(BLANKED, command(6, **ordered), LIMITS, **given)[1] is None
        _, refused = take(BLANKED, command(6, **ordered), LIMITS, **given, measured=measured)
        assert (refused and refused.limit) == limit


def test_what_turned_out_not_to_be_possible_is_undone_unless_something_else_was_ordered_since():
    what = {"dwell_s": 0.2, "beam_current_pA": 50.0, "blanked": False, "lease_s": 1.0}
    given = {"now_ns": NOW_NS, "dose_pC": 0.0, "after_dwell_s": AFTER_S}
    after, _ = take(BLANKED, command(6, **what), LIMITS, **given)
    assert (undone(after, command(6, **what), BLANKED).dwell_s, after.dwell_s) == (0.5, 0.2)
    since, _ = take(after, command(7, dwell_s=0.3), LIMITS, **given)
    left = undone(since, command(6, **what), BLANKED)
    assert (left.dwell_s, left.current_pA, left.gate.taken_seq) == (0.3, 100.0, 7)


def test_a_refused_command_has_used_its_number():
    orders, refused = told(ON, dwell_s=99.0)
    assert refused is not None
    _, refused = told(orders, dwell_s=0.5)
    assert refused is not None
    assert refused.limit == "seq"


def test_where_no_current_can_be_ordered_one_that_is_ordered_is_refused():
    limits = LIMITS.model_copy(update={"min_current_pA": None, "max_current_pA": None})
    _, refused = told(ON, limits=limits, beam_current_pA=100.0)
    assert refused is not None
    assert refused.limit == "max_current_pA"


@pytest.mark.parametrize(
    ("dose_pC", "off_ns"),
    [
        (0.0, NOW_NS + 2 * S),  # 10 s of 100 pA are left of the dose
        (900.0, NOW_NS + S),
        (995.0, NOW_NS + S // 20),
        (1000.0, NOW_NS),
        (1200.0, NOW_NS),
    ],
)
@pytest.mark.parametrize("takes_ms", [0, 20, 100])
def test_blanking_begins_so_early_that_the_beam_is_off_where_its_lease_ends_or_its_dose_is_given(
    dose_pC, off_ns, takes_ms
):
    begins_ns = off_by_ns(ON.lease, now_ns=NOW_NS, dose_pC=dose_pC, current_pA=100.0, takes_s=takes_ms / 1000)
    assert begins_ns == max(NOW_NS, off_ns - takes_ms * S // 1000)


def test_a_beam_without_a_current_is_off_where_its_lease_ends():
    begins_ns = off_by_ns(ON.lease, now_ns=NOW_NS, dose_pC=2000.0, current_pA=0.0, takes_s=0.5)
    assert begins_ns == ON.lease.ends_ns - S // 2


@examples(200)
@given(
    lease_s=st.floats(0.01, 30),
    until_pC=st.none() | st.floats(0.1, 1e4),
    dose_pC=st.floats(0, 1e4),
    dwell_s=st.floats(0.1, 5),
    current_pA=st.floats(1, 200),
)
def test_a_frame_that_may_begin_is_read_out_before_blanking_begins(lease_s, until_pC, dose_pC, dwell_s, current_pA):
    what = {"blanked": False, "lease_s": lease_s, "dwell_s": dwell_s, "beam_current_pA": current_pA}
    orders, refused = told(BLANKED, dose_pC=dose_pC, lease_until_dose_pC=until_pC, **what)
    if refused is not None:
        assert refused.limit in {"lease_s", "lease_until_dose_pC"}
        return
    assert not_covered(orders, orders.lease, now_ns=NOW_NS, dose_pC=dose_pC, after_dwell_s=AFTER_S) is None
    off_ns = off_by_ns(orders.lease, now_ns=NOW_NS, dose_pC=dose_pC, current_pA=current_pA, takes_s=BLANK_S)
    rounding_ns = 2 + 1e-8 * dose_pC / current_pA * S
    assert off_ns >= NOW_NS + (dwell_s + AFTER_S - BLANK_S) * S - rounding_ns
    assert off_ns <= orders.lease.ends_ns - BLANK_S * S


def test_it_reports_what_holds_beside_what_was_ordered():
    read = Readback(dwell_s=0.4, beam_current_pA=99.5, blanked=False)
    beam = report(ON, read, next_seq=7, dose_pC=123.0, now_ns=NOW_NS)
    assert beam.readback == read
    assert beam.ordered == Readback(dwell_s=0.5, beam_current_pA=100.0, blanked=False)
    assert (beam.next_seq, beam.taken_seq, beam.dose_pC) == (7, 5, 123.0)
    assert beam.lease is not None
    assert (beam.lease.left_s, beam.lease.ends_mono_ns, beam.lease.until_dose_pC) == (2.0, NOW_NS + 2 * S, 1000.0)
    assert report(BLANKED, read, next_seq=0, dose_pC=0.0, now_ns=NOW_NS).lease is None
