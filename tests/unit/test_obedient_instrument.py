"""The instrument obeys whole commands, and its beam is on under a lease only, whatever it is told and whenever.

No clock, no sockets: time is a number. `Watch` is an independent account of what the beam may do, which knows nothing of the
instrument but the commands that it accepted and the leases in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition_sim.beam import MOST_PENDING, BeamParameters
from acquisition_sim.beam_report import report
from acquisition_sim.instrument import (
    Blanked,
    Event,
    InstrumentParameters,
    InstrumentState,
    Rested,
    Taken,
    Unread,
    advance,
    command,
    next_ns,
    start,
)
from eelstm_stream.core.command_gate import Refused
from eelstm_stream.wire.messages import Command
from tests.properties import examples

MS = 1_000_000
BEAM = BeamParameters(
    energy_keV=300.0,
    current_pA=100.0,
    dwell_s=0.4,
    min_current_pA=1.0,
    max_current_pA=200.0,
    min_dwell_s=0.01,
    max_dwell_s=10.0,
    max_lease_s=30.0,
)


@dataclass
class Flight:
    """An instrument flown by a test: commands at times in ms."""

    parameters: InstrumentParameters
    state: InstrumentState = field(init=False)
    events: list[Event] = field(default_factory=list)
    seq: int = 0

    def __post_init__(self) -> None:
        self.state = start(self.parameters, "s")

    def until(self, at_ms: float) -> list[Event]:
        self.state, events = advance(self.state, self.parameters, round(at_ms * MS))
        self.events += events
        return events

    def tell(self, at_ms: float, **what: Any) -> Refused | None:
        self.until(at_ms)
        self.seq += 1
        fields = {"session": "s", "seq": self.seq, "sent_mono_ns": 0, "expires_mono_ns": 1} | what
        self.state, refused = command(self.state, self.parameters, Command(**fields), mono_ns=0)
        return refused

    def frames(self) -> list[tuple[int, float, float, float]]:
        """Number, beginning and end in ms, and current of every frame taken."""
        taken = [event.frame for event in self.events if isinstance(event, Taken)]
        return [(f.seq, f.began_ns / MS, f.ends_ns / MS, f.current_pA) for f in taken]


def flight(frames: int | None = None, dose_pC: float = math.inf, obeys: bool = True, **beam: Any) -> Flight:
    parameters = BeamParameters.model_validate(BEAM.model_dump() | beam)
    return Flight(InstrumentParameters(parameters, frames=frames, dose_pC=dose_pC, obeys=obeys))


# By itself


def test_it_starts_blanked_and_stays_so_until_it_is_commanded():
    flown = flight()
    assert flown.until(1e6) == []
    assert flown.state.beam.blanked
    assert flown.state.why_blanked == "nothing was commanded yet"
    assert next_ns(flown.state) is None


def test_one_that_takes_no_commands_has_its_beam_on_and_says_so():
    flown = flight(obeys=False)
    refused = flown.tell(1000, blanked=True)
    assert refused is not None
    assert (refused.limit, refused.reason) == ("obeys", "this instrument takes no commands.")
    flown.until(2000)
    assert flown.frames() == [(n, n * 400, n * 400 + 400, 100) for n in range(5)]


def test_the_session_ends_after_its_frames_or_with_its_dose():
    flown = flight(frames=3, obeys=False)
    flown.until(1e5)
    assert [seq for seq, *_ in flown.frames()] == [0, 1, 2]
    assert (flown.state.over, flown.state.why_blanked, flown.events[-1]) == (
        True,
        "the session is over",
        Blanked(1200 * MS),
    )
    flown = flight(dose_pC=110.0, obeys=False)
    flown.until(1e5)
    assert len(flown.frames()) == 2
    assert (flown.state.over, flown.state.dose_pC) == (True, 80.0)


# Leases


def test_frames_follow_each_other_while_the_lease_covers_them_whole_and_then_it_blanks_itself():
    flown = flight(blank_delay_s=0.1)
    assert flown.tell(1000, blanked=False, lease_s=2.0) is None
    flown.until(1e5)
    assert flown.frames() == [(n, 1100 + 400 * n, 1500 + 400 * n, 100) for n in range(4)]
    assert flown.events[0] == Rested(0, 1100 * MS)
    assert flown.events[-1] == Blanked(2700 * MS)  # a fifth would end at 3100, and the lease does at 3000
    assert flown.state.why_blanked == "the lease had 0.300 s left, and a frame takes 0.4 s"
    assert flown.state.dose_pC == pytest.approx(160)


def test_a_frame_that_ends_with_the_lease_is_covered():
    flown = flight()
    flown.tell(0, blanked=False, lease_s=0.8)
    flown.until(1e5)
    assert len(flown.frames()) == 2


def test_a_lease_that_is_renewed_in_time_goes_on_without_a_pause():
    flown = flight()
    for at_ms in range(0, 4000, 500):
        assert flown.tell(at_ms, blanked=False, lease_s=1.0) is None
    flown.until(4000)
    assert flown.frames() == [(n, n * 400, n * 400 + 400, 100) for n in range(10)]


def test_renewing_too_late_does_not_let_the_beam_on_unless_it_says_so():
    flown = flight()
    flown.tell(0, blanked=False, lease_s=0.4)
    assert flown.tell(1000, dwell_s=0.1, lease_s=5.0) is None
    flown.until(2000)
    assert len(flown.frames()) == 1
    flown.tell(2000, blanked=False, lease_s=0.1)
    flown.until(3000)
    assert flown.frames()[1:] == [(1, 2000, 2100, 100)]


def test_a_dose_ends_a_lease_too_and_is_counted_from_the_start_of_the_session():
    flown = flight()
    for at_ms in range(0, 4000, 500):
        flown.tell(at_ms, blanked=False, lease_s=10.0, lease_until_dose_pC=200.0)
    flown.until(1e5)
    assert len(flown.frames()) == 5  # 40 pC each, to the last bit
    assert flown.state.why_blanked == (
        "the lease ended at 200 pC, and a frame would have brought the session from 200 to 240 pC"
    )


def test_a_frame_in_progress_keeps_the_lease_that_it_began_under():
    flown = flight()
    flown.tell(0, blanked=False, dwell_s=5.0, lease_s=5.0)
    flown.until(4000)
    flown.tell(4000, blanked=False, dwell_s=0.1, lease_s=0.3)
    flown.until(1e5)
    assert flown.frames() == [(0, 0, 5000, 100)]  # and none after it: the newer lease has ended meanwhile


def test_a_lease_that_ends_before_the_beam_is_on_never_lets_it_on():
    flown = flight(delay_s=2.0)
    assert flown.tell(0, blanked=False, dwell_s=0.1, lease_s=1.0) is None
    flown.until(5000)
    assert flown.events == []
    assert flown.state.why_blanked == "the lease ended before the beam was on"
    assert flown.state.beam.dwell_s == 0.1
    flown.tell(6000, dwell_s=0.2, lease_s=5.0)  # a lease alone is not the word for it
    flown.until(1e5)
    assert flown.events == []


# Blanking


def test_blanking_cuts_the_frame_in_progress_and_its_dose_counts():
    flown = flight(blank_delay_s=0.01)
    flown.tell(0, blanked=False, lease_s=10.0)
    flown.tell(1000, blanked=True)
    flown.until(1010)
    assert flown.state.lease is None
    flown.until(1e5)
    assert flown.events[1:] == [*flown.events[1:3], Unread(810 * MS, 1010 * MS, 100.0, 2)]
    assert flown.state.dose_pC == pytest.approx(40 + 40 + 20)
    assert (flown.state.next_seq, flown.state.lease, flown.state.why_blanked) == (3, None, "it was commanded")


def test_no_frame_begins_while_the_blanker_moves_and_what_the_specimen_gets_is_counted():
    flown = flight(blank_delay_s=0.1)
    flown.tell(0, blanked=False, lease_s=10.0)
    flown.tell(450, blanked=True)  # the frame ends at 500, the blanker closes at 550
    flown.until(1e5)
    assert flown.frames() == [(0, 100, 500, 100)]
    assert flown.events[-1] == Unread(500 * MS, 550 * MS, 100.0, None)
    assert flown.state.dose_pC == pytest.approx(45)
    assert flown.state.next_seq == 1


def test_a_frame_that_ends_as_the_blanker_closes_is_whole():
    flown = flight(blank_delay_s=0.1)
    flown.tell(0, blanked=False, lease_s=10.0)
    flown.tell(400, blanked=True)
    flown.until(1e5)
    assert flown.events[1:] == [Taken(flown.events[1].frame), Blanked(500 * MS)]


def test_blanking_cancels_what_would_have_let_the_beam_on():
    flown = flight(delay_s=1.0, blank_delay_s=0.01)
    flown.tell(0, blanked=False, beam_current_pA=50.0, lease_s=10.0)
    flown.tell(500, blanked=True)
    flown.until(1e5)
    assert flown.events == []
    assert flown.state.beam.current_pA == 50


def test_letting_the_beam_on_waits_for_the_current_that_goes_with_it():
    flown = flight(delay_s=1.0, delay_frames=3, blank_delay_s=0.01)
    flown.tell(0, beam_current_pA=2.0)
    flown.tell(100, blanked=False, dwell_s=0.1, lease_s=2.0)
    flown.until(1e5)
    assert flown.frames() == [(n, 1100 + 100 * n, 1200 + 100 * n, 2) for n in range(10)]


def test_of_blanking_and_letting_on_at_one_time_the_order_counts():
    flown = flight(blank_delay_s=0.01)
    flown.tell(0, blanked=True)
    flown.tell(0, blanked=False, lease_s=0.5)
    flown.until(1000)
    assert len(flown.frames()) == 1
    flown.tell(1000, blanked=False, lease_s=1.0)
    flown.tell(1000, blanked=True)
    flown.until(2000)
    assert len(flown.frames()) == 1
    flown.tell(2000, blanked=False, lease_s=5.0)
    flown.tell(2100, blanked=True)
    flown.tell(2100, blanked=False, lease_s=0.5)
    flown.until(1e5)
    assert [type(event) for event in flown.events[-4:]] == [Unread, Rested, Taken, Blanked]


def test_it_can_be_blanked_however_many_orders_wait():
    flown = flight(delay_s=60.0)
    flown.tell(0, blanked=False, lease_s=30.0)
    answers = [flown.tell(1, dwell_s=0.1) for _ in range(MOST_PENDING + 1)]
    refused = answers[-1]
    assert refused is not None
    assert refused.limit == "pending"
    assert all(flown.tell(2, blanked=True) is None for _ in range(1000))
    assert len(flown.state.beam.pending) <= MOST_PENDING + 1
    flown.until(3)
    assert flown.state.beam.blanked


def test_a_lease_that_is_replaced_while_the_blanker_moves_takes_back_nothing():
    flown = flight(blank_delay_s=0.1)
    flown.tell(0, blanked=False, lease_s=10.0)
    flown.tell(450, blanked=True)  # the frame ends at 500, the blanker closes at 550
    flown.tell(520, blanked=False, dwell_s=0.01, lease_s=0.01)  # which would have covered no frame at 500
    assert not flown.state.beam.blanked
    flown.until(1e5)
    assert flown.events[-1] == Unread(500 * MS, 550 * MS, 100.0, None)
    assert flown.state.dose_pC == pytest.approx(45)


def test_the_dose_that_is_reported_while_the_blanker_moves_is_what_it_will_be_then():
    flown = flight(blank_delay_s=0.1)
    flown.tell(0, blanked=False, beam_current_pA=200.0, lease_s=10.0)
    flown.tell(450, blanked=True, beam_current_pA=50.0)  # which holds as soon as the frame has ended
    flown.until(510)
    assert report(flown.state, flown.parameters).dose_pC == pytest.approx(80 + 0.05 * 50)
    refused = flown.tell(520, blanked=False, lease_s=1.0, lease_until_dose_pC=80 + 0.4 * 50)
    assert refused is not None
    assert refused.limit == "lease_until_dose_pC"
    flown.until(1e5)
    assert flown.state.dose_pC == pytest.approx(80 + 0.05 * 50)


# Dwell and current


def test_a_new_dwell_holds_from_the_frame_that_the_report_names():
    flown = flight(delay_frames=2, delay_s=0.5)
    flown.tell(0, blanked=False, lease_s=30.0)
    flown.tell(1000, dwell_s=0.1)
    seen = report(flown.state, flown.parameters)
    assert (seen.readback.dwell_s, seen.ordered.dwell_s, seen.next_seq, seen.holds_from_seq) == (0.4, 0.1, 3, 5)
    flown.until(2400)
    dwells = {seq: end - begin for seq, begin, end, _ in flown.frames()}
    assert dwells == {0: 400, 1: 400, 2: 400, 3: 400, 4: 400, 5: 100, 6: 100, 7: 100, 8: 100}


@examples(60)
@given(
    st.integers(0, 4),
    st.floats(0, 3),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(10, 300)), max_size=6, unique_by=lambda told: told[1]),
)
def test_the_report_names_that_frame_whatever_the_delays_are(delay_frames, delay_s, told):
    flown = flight(delay_frames=delay_frames, delay_s=delay_s)
    flown.tell(0, blanked=False, lease_s=30.0)
    for at_ms, dwell_ms in sorted(told):
        flown.tell(at_ms, dwell_s=dwell_ms / 1000)
    seen = report(flown.state, flown.parameters)
    flown.until(25_000)
    frames = [event.frame for event in flown.events if isinstance(event, Taken)]
    assert {frame.dwell_s for frame in frames[seen.holds_from_seq :]} == {seen.ordered.dwell_s}
    if seen.holds_from_seq > seen.next_seq:
        assert frames[seen.holds_from_seq - 1].dwell_s != seen.ordered.dwell_s


@examples(300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 900),
            st.sampled_from([None, None, False, False, True]),
            st.sampled_from(["neither", "dwell", "current", "both"]),
        ),
        max_size=9,
    ),
    st.sampled_from([0.0, 0.03, 0.35, 1.5]),
    st.sampled_from([0.0, 0.05, 0.9]),
    st.sampled_from([0, 1, 4]),
    st.integers(0, 300),
)
def test_the_first_frame_with_all_that_was_ordered_is_the_one_that_the_report_names(
    told, blank_delay_s, delay_s, delay_frames, looks_ms
):
    flown = flight(
        dwell_s=0.2, current_pA=150.0, blank_delay_s=blank_delay_s, delay_s=delay_s, delay_frames=delay_frames
    )
    at_ms = 0
    for number, (wait_ms, blanked, rates) in enumerate(told, start=1):
        at_ms += wait_ms
        what: dict[str, Any] = {} if blanked is None else {"blanked": blanked}
        what |= {"lease_s": 30.0} if blanked is False else {}  # longer than the flight
        what |= {"dwell_s": 0.2 + number / 100} if rates in ("dwell", "both") else {}  # none is ordered twice
        what |= {"beam_current_pA": 100.0 + number} if rates in ("current", "both") else {}
        if what:
            assert flown.tell(at_ms, **what) is None
    flown.until(at_ms + looks_ms)
    seen = report(flown.state, flown.parameters)
    flown.until(at_ms + looks_ms + 8000)
    begun = [e.frame for e in flown.events if isinstance(e, Taken)]
    with_all = [
        frame.seq
        for frame in [*begun, *([flown.state.frame] if flown.state.frame else [])]
        if frame.seq >= seen.next_seq
        and (frame.dwell_s, frame.current_pA) == (seen.ordered.dwell_s, seen.ordered.beam_current_pA)
    ]
    assert seen.holds_from_seq == next(iter(with_all), flown.state.next_seq)


# Refusals


@pytest.mark.parametrize(
    ("what", "limit", "says"),
    [
        ({"beam_current_pA": 201.0}, "max_current_pA", "above the limit of 200 pA"),
        ({"beam_current_pA": 0.5}, "min_current_pA", "below the limit of 1 pA"),
        ({"dwell_s": 11.0}, "max_dwell_s", "above the limit of 10 s"),
        ({"dwell_s": 0.005}, "min_dwell_s", "below the limit of 0.01 s"),
        ({"blanked": False, "lease_s": 31.0}, "max_lease_s", "above the limit of 30 s"),
        ({"blanked": False, "lease_s": 0.3}, "lease_s", "a lease of 0.3 s covers no frame of 0.4 s"),
        ({"blanked": False, "lease_s": 0.3, "dwell_s": 0.5}, "lease_s", "covers no frame of 0.5 s"),
        (
            {"blanked": False, "lease_s": 9.0, "lease_until_dose_pC": 39.0},
            "lease_until_dose_pC",
            "a lease until 39 pC covers no frame of 40 pC after 0 pC",
        ),
        ({"session": "other", "blanked": True}, "session", "is for session other"),
        ({"seq": 0, "dwell_s": 0.1}, "seq", "comes after"),
    ],
)
def test_what_can_not_be_obeyed_is_refused_whole_with_the_reason(what, limit, says):
    flown = flight()
    flown.tell(0, dwell_s=0.4)
    flown.until(0)
    before = flown.state
    refused = flown.tell(0, **({"dwell_s": 0.4} | what))
    assert refused is not None
    assert refused.limit == limit
    assert says in refused.reason
    assert (flown.state.beam, flown.state.lease) == (before.beam, before.lease)


def test_in_a_session_of_relative_dose_a_current_is_refused_and_a_dwell_is_not():
    parameters = InstrumentParameters(BEAM, current_is_known=False)
    for what in ({"beam_current_pA": 10.0}, {"blanked": False, "lease_s": 2.0, "lease_until_dose_pC": 99.0}):
        flown = Flight(parameters)
        refused = flown.tell(0, **what)
        assert refused is not None
        assert refused.limit == "dose_is_relative"
    flown = Flight(parameters)
    assert flown.tell(0, blanked=False, dwell_s=0.1, lease_s=2.0) is None
    assert report(flown.state, parameters).dose_pC is None


# Whatever it is told


@dataclass
class Watch:
    """What the beam may do, from accepted commands alone: knows leases, and who said on and off when."""

    blank_delay_ns: int
    leases: list[tuple[int, int, float]] = field(default_factory=list)  # accepted at, ends, until dose
    said: list[tuple[int, bool]] = field(default_factory=list)  # when, and whether the beam shall be blanked

    def accepted(self, at_ns: int, ordered: dict[str, Any]) -> None:
        if ordered.get("lease_s"):
            until_pC = ordered.get("lease_until_dose_pC") or math.inf
            self.leases.append((at_ns, at_ns + round(ordered["lease_s"] * 1e9), until_pC))
        if ordered["blanked"] is not None:
            self.said.append((at_ns, ordered["blanked"]))

    def may_be_on(self, began_ns: int, ended_ns: int, dose_pC: float) -> None:
        # A lease that came as a frame began holds for this frame if it came first; time alone does not tell.
        newest = [[lease for lease in self.leases if lease[0] < began_ns + tie][-1:] for tie in (0, 1)]
        assert any(
            ended_ns <= ends_ns and dose_pC <= until_pC * (1 + 1e-6)
            for (_, ends_ns, until_pC) in [*newest[0], *newest[1]]
        ), "on without a lease"
        assert any(at_ns <= began_ns and not blanked for at_ns, blanked in self.said), "on before it was let on"
        for number, (at_ns, blanked) in enumerate(self.said):
            if blanked:
                again_ns = next((at for at, off in self.said[number:] if not off), ended_ns)
                assert max(began_ns, at_ns + self.blank_delay_ns) >= min(ended_ns, again_ns), "on though blanked"

    def check(self, events: list[Event], dose_pC: float) -> None:
        given_pC, off_ns, seqs, waits_from_ns = 0.0, 0, [], -1
        for event in events:
            match event:
                case Blanked(at_ns):
                    assert at_ns == off_ns
                    commanded = any(blanked and at + self.blank_delay_ns == at_ns for at, blanked in self.said)
                    waits_from_ns = waits_from_ns if commanded else at_ns
                    continue
                case Rested(began_ns, ended_ns):
                    assert began_ns == off_ns
                    assert any(waits_from_ns <= at <= ended_ns and not blanked for at, blanked in self.said)
                    off_ns = ended_ns
                    continue
                case Taken(frame):
                    began_ns, ended_ns, current_pA = frame.began_ns, frame.ends_ns, frame.current_pA
                    assert ended_ns - began_ns == round(frame.dwell_s * 1e9)
                    seqs.append(frame.seq)
                case Unread(began_ns, ended_ns, current_pA, lost_seq):
                    seqs += [] if lost_seq is None else [lost_seq]
            assert began_ns == off_ns, "on, or off, without an account of it"
            given_pC += current_pA * (ended_ns - began_ns) / 1e9
            self.may_be_on(began_ns, ended_ns, given_pC)
            off_ns = ended_ns
        assert seqs == list(range(len(seqs)))
        assert dose_pC == pytest.approx(given_pC)


orders = st.fixed_dictionaries(
    {"blanked": st.sampled_from([None, False, False, False, True])},
    optional={
        "dwell_s": st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.4, 11.0]),
        "beam_current_pA": st.sampled_from([1.0, 50.0, 200.0, 500.0]),
        "lease_s": st.sampled_from([0.05, 0.1, 0.31, 1.0]),
        "lease_until_dose_pC": st.sampled_from([5.0, 20.0, 100.0]),
    },
)


def sensible(ordered: dict[str, Any]) -> dict[str, Any]:
    """The order with what a command must have and must not have, so that it is one."""
    ordered = dict(ordered)
    if ordered["blanked"] is True:
        ordered.pop("lease_s", None)
    elif ordered["blanked"] is False:
        ordered.setdefault("lease_s", 0.25)
    if "lease_s" not in ordered:
        ordered.pop("lease_until_dose_pC", None)
    if ordered["blanked"] is None and not {"dwell_s", "beam_current_pA"} & set(ordered):
        ordered["dwell_s"] = 0.1
    return ordered


@examples(200)
@given(
    st.lists(st.tuples(st.integers(0, 200), orders, st.integers(0, 20)), max_size=25),
    st.sampled_from([0.0, 0.003, 0.03]),
    st.sampled_from([0.0, 0.05]),
    st.integers(0, 2),
)
def test_the_beam_is_on_under_a_lease_only_whatever_it_is_told(told, blank_delay_s, delay_s, delay_frames):
    flown = flight(blank_delay_s=blank_delay_s, delay_s=delay_s, delay_frames=delay_frames)
    looked_at_often = flight(blank_delay_s=blank_delay_s, delay_s=delay_s, delay_frames=delay_frames)
    watch = Watch(round(blank_delay_s * 1e9))
    at_ms = 0.0
    for wait_ms, ordered, looks in told:
        at_ms += wait_ms
        refused = flown.tell(at_ms, **sensible(ordered))
        if refused is None:
            watch.accepted(flown.state.now_ns, sensible(ordered))
        for look in range(looks):
            looked_at_often.until(at_ms - wait_ms + wait_ms * look / looks)
        assert looked_at_often.tell(at_ms, **sensible(ordered)) == refused
    flown.until(at_ms + 5000)
    looked_at_often.until(at_ms + 5000)
    watch.check(flown.events, flown.state.dose_pC)
    assert flown.state.beam.blanked
    assert flown.state.lease is None
    assert flown.events == looked_at_often.events
    assert flown.state == looked_at_often.state


@dataclass
class Integrator:
    """Looks at the beam every millisecond and adds up what the specimen gets; what it has seen can't be taken back.

    Of the instrument it knows the accepted commands, with the leases in them, and what is read back.
    """

    blank_delay_ms: int
    received_pC: float = 0.0
    leases: list[tuple[float, float]] = field(default_factory=list)  # from, to, in ms
    blanks_ms: float | None = None  # when a blanker that was ordered last has moved; None: let on, or never told

    def accepted(self, at_ms: float, ordered: dict[str, Any]) -> None:
        if "lease_s" in ordered:
            self.leases.append((at_ms, at_ms + ordered["lease_s"] * 1000))
        if ordered["blanked"] is True and self.blanks_ms is None:
            self.blanks_ms = at_ms + self.blank_delay_ms
        elif ordered["blanked"] is False:
            self.blanks_ms = None

    def sees(self, at_ms: float, state: InstrumentState) -> None:
        """The beam at the middle of a millisecond, in which nothing changes."""
        if state.beam.blanked:
            return
        self.received_pC += state.beam.current_pA / 1000
        assert any(begins <= at_ms <= ends + self.blank_delay_ms for begins, ends in self.leases), "on without a lease"
        assert self.blanks_ms is None or at_ms < self.blanks_ms, "on though the blanker has moved"


@examples(150)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.fixed_dictionaries(
                {"blanked": st.sampled_from([None, False, True])},
                optional={
                    "dwell_s": st.sampled_from([0.01, 0.05]),
                    "beam_current_pA": st.sampled_from([50.0, 200.0]),
                    "lease_s": st.sampled_from([0.01, 0.3]),
                    "lease_until_dose_pC": st.sampled_from([5.0, 20.0, 100.0]),
                },
            ),
        ),
        max_size=10,
    ),
    st.sampled_from([0, 30]),
    st.sampled_from([0.0, 0.015]),
    st.integers(0, 1),
)
def test_whoever_looks_at_the_beam_sees_the_dose_that_is_counted(told, blank_delay_ms, delay_s, delay_frames):
    flown = flight(dwell_s=0.05, blank_delay_s=blank_delay_ms / 1000, delay_s=delay_s, delay_frames=delay_frames)
    seen = Integrator(blank_delay_ms)
    now_ms = 0
    for wait_ms, ordered in [*told, (400, {"blanked": None, "dwell_s": 0.05})]:
        for middle_ms in range(now_ms, now_ms + wait_ms):
            flown.until(middle_ms + 0.5)
            seen.sees(middle_ms + 0.5, flown.state)
            assert flown.state.committed_pC >= seen.received_pC - 1e-6
        now_ms += wait_ms
        if flown.tell(now_ms, **sensible(ordered)) is None:
            seen.accepted(now_ms, sensible(ordered))
    assert flown.state.beam.blanked
    assert flown.state.dose_pC == pytest.approx(seen.received_pC)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 200), orders), max_size=15), st.integers(1, 5))
def test_it_can_be_asked_for_a_few_events_at_a_time_and_knows_when_the_next_one_is(told, at_most):
    flown, in_parts = flight(blank_delay_s=0.01, delay_s=0.05), flight(blank_delay_s=0.01, delay_s=0.05)
    at_ms = 0.0
    for wait_ms, ordered in [*told, (5000, {"blanked": True})]:
        at_ms += wait_ms
        to_ns = round(at_ms * MS)
        while (at_ns := next_ns(in_parts.state)) is not None and at_ns <= to_ns:
            in_parts.state, events = advance(in_parts.state, in_parts.parameters, at_ns, at_most)
            in_parts.events += events
        assert flown.tell(at_ms, **sensible(ordered)) == in_parts.tell(at_ms, **sensible(ordered))
    assert in_parts.events == flown.events
