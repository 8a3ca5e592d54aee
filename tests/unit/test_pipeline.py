"""The window holds the newest spectra that deserve it, and nothing else, whatever the stream does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eelstm_stream.core.fitness import MAX_SCALE
from eelstm_stream.core.frame_window import MAX_GAP_SPECTRA, FrameWindow
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.pipeline import (
    Accepted,
    Event,
    Lost,
    Pipeline,
    Refused,
    SessionClosed,
    SessionOpened,
    SessionRefused,
    SessionUnknown,
    Silent,
    frame_period_s,
    new_pipeline,
    step,
    tick,
)
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import (
    MAX_COUNTS,
    MAX_SEQ,
    Counters,
    EnergyAxis,
    Gap,
    Message,
    Payload,
    SessionEnd,
    SessionStart,
    Spectrum,
    Status,
)
from tests.model_files import metadata, reference_spectrum
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.5, size=80)
OTHER_AXIS = EnergyAxis(offset_eV=430.0, dispersion_eV=0.5, size=80)
WINDOW = 8
DWELL_S, CURRENT_PA = 0.4, 230.0  # the model's reference: 92 pC
STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
REFERENCE = reference_spectrum(AXIS)
SECOND = 1_000_000_000
SATURATION = 1e6
MODEL = metadata(AXIS)
BREACHES = ("negative", "nan", "short", "absurd", "scale")


@pytest.fixture
def model() -> ModelMetadata:
    return MODEL


def start(session: str = "first", **changes: Any) -> SessionStart:
    fields: dict[str, Any] = {
        "session": session,
        "seq": 0,
        "sent_mono_ns": 0,
        "instrument": "sto",
        "source": "instrument",
        "energy_axis": AXIS,
        "dwell_s": DWELL_S,
        "beam_current_pA": CURRENT_PA,
        "dose_is_relative": False,
        "started_at": STARTED,
        "clock_id": "boot-1",
    }
    return SessionStart(**(fields | changes))


def spectrum(seq: int, session: str = "first", channels: int = AXIS.size, **changes: Any) -> Spectrum:
    at = STARTED + timedelta(seconds=seq * DWELL_S)
    fields: dict[str, Any] = {
        "session": session,
        "seq": seq,
        "sent_mono_ns": seq * SECOND,
        "dtype": "<f4",
        "shape": (channels,),
        "dwell_s": DWELL_S,
        "beam_current_pA": CURRENT_PA,
        "acquired_at": at,
        "acquired_until": at + timedelta(seconds=DWELL_S),
    }
    return Spectrum(**(fields | changes))


def counts_of(seq: int) -> np.ndarray:
    """(channel,) counts: another spectrum for every number."""
    return (REFERENCE * (1 + 0.001 * seq)).astype(np.float32)


def bad_spectrum(kind: str, seq: int, session: str) -> tuple[Spectrum, np.ndarray]:
    """A spectrum of one of BREACHES."""
    counts = counts_of(seq)
    if kind == "short":
        return spectrum(seq, session, channels=AXIS.size - 1), counts[:-1]
    if kind == "scale":
        return spectrum(seq, session, dwell_s=DWELL_S / (2 * MAX_SCALE)), counts
    counts[3] = {"negative": -1.0, "nan": np.nan, "absurd": 2 * MAX_COUNTS}[kind]
    return spectrum(seq, session), counts


def gap(first_seq: int, last_seq: int, session: str = "first") -> Gap:
    return Gap(session=session, seq=1, sent_mono_ns=0, first_seq=first_seq, last_seq=last_seq, reason="held up")


def end(session: str = "first", **changes: Any) -> SessionEnd:
    return SessionEnd(
        **({"session": session, "seq": 9, "sent_mono_ns": 0, "reason": "finished", "spectra": 5} | changes)
    )


def after(
    state: Pipeline, *messages: Message | tuple[Message, Payload] | int, now_ns: int = 0
) -> tuple[Pipeline, list[Event]]:
    """The state after messages, and all events. A number stands for the good spectrum of that number."""
    events: list[Event] = []
    for message in messages:
        good = (spectrum(message), counts_of(message)) if isinstance(message, int) else message
        header, payload = good if isinstance(good, tuple) else (good, None)
        state, more = step(state, header, payload, now_ns)
        events += more
    return state, events


def accepted_in(events: list[Event]) -> list[Accepted]:
    return [event for event in events if isinstance(event, Accepted)]


def seqs_in(state: Pipeline) -> list[int]:
    assert state.session is not None
    assert isinstance(state.session.window, FrameWindow)
    return [seq for seq, _ in state.session.window.spectra]


def on_frames(model: ModelMetadata) -> Pipeline:
    """What this file is about; test_pipeline_on_dose.py has the window on dose."""
    return new_pipeline(model, "frame")


def flags(event: Accepted) -> set[str]:
    return {quality.flag for quality in event.quality}


@pytest.fixture
def opened(model) -> Pipeline:
    state, events = after(on_frames(model), start())
    assert events == [SessionOpened(start(), WINDOW)]
    return state


# The window against the obvious model of it


@dataclass
class Plainly:
    """One session as anybody would keep it: everything that was accepted, and the highest number heard of."""

    accepted: dict[int, np.ndarray] = field(default_factory=dict)  # seq to prepared counts, in order of arrival
    heard_of: int | None = None  # None before the first
    refused: int = 0
    invalid: int = 0
    lost: int = 0
    again: int = 0  # duplicate or late

    def hear_of(self, seq: int) -> None:
        if self.heard_of is not None:
            self.lost += seq - self.heard_of - 1
        self.heard_of = seq

    def window(self) -> list[int]:
        """The last accepted ones, back to the first hole that is too long."""
        window: list[int] = []
        newer = (self.heard_of or 0) + 1
        for seq in reversed(self.accepted):
            if newer - seq - 1 > MAX_GAP_SPECTRA or len(window) == WINDOW:
                break
            window.insert(0, seq)
            newer = seq
        return window


class AnyStream(RuleBasedStateMachine):
    """Everything that a stream may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state, _ = after(on_frames(MODEL), start("s0", saturation_counts=SATURATION))
        self.prepare = self.state.session.preparation
        self.sessions = 0
        self.first_seq = 0
        self.now_ns = 0
        self.previous: np.ndarray | None = None  # counts of the newest spectrum that could be one
        self.plainly = Plainly()

    @property
    def session(self) -> str:
        return f"s{self.sessions}"

    @property
    def next_seq(self) -> int:
        return self.first_seq if self.plainly.heard_of is None else self.plainly.heard_of + 1

    def take(self, message: Message, counts: np.ndarray | None = None) -> list[Event]:
        before, window_before = self.state, self.state.session.window
        self.now_ns += SECOND // 10
        self.state, events = step(before, message, counts, self.now_ns)
        assert before.session.window is window_before  # a step makes a new state and leaves the old one
        return events

    def take_without_effect(self, message: Message, counts: np.ndarray | None = None) -> list[Event]:
        window = self.state.session.window
        events = self.take(message, counts)
        assert self.state.session.window is window
        return events

    @initialize(first_seq=st.integers(0, 20))
    def joins_somewhere(self, first_seq):
        self.first_seq = first_seq

    @rule(lost=st.sampled_from([0, 0, 0, 1, 2, 3]), count=st.integers(1, 9))
    def good_spectra(self, lost, count):
        first = self.next_seq + lost
        for seq in range(first, first + count):
            counts = counts_of(seq)
            self.plainly.hear_of(seq)
            self.plainly.accepted[seq] = self.prepare(counts, 1.0).counts
            self.previous = counts
            accepted = self.take(spectrum(seq, self.session), counts)[-1]
            window = self.plainly.window()
            assert isinstance(accepted, Accepted)
            assert accepted.needed == WINDOW - len(window)
            assert (accepted.window is None) is (accepted.needed > 0)
            if accepted.window is not None:
                np.testing.assert_array_equal(accepted.window, [self.plainly.accepted[s] for s in window])
            mean = np.mean(list(self.plainly.accepted.values()), axis=0)
            np.testing.assert_allclose(accepted.history, mean, rtol=1e-5)
            assert ("gap_in_window" in flags(accepted)) is (window != list(range(window[0], window[-1] + 1)))

    @precondition(lambda self: self.plainly.heard_of is not None)
    @rule(back=st.integers(0, 30))
    def one_of_an_old_number(self, back):
        seq = max(0, self.plainly.heard_of - back)
        self.plainly.again += 1
        assert self.take_without_effect(spectrum(seq, self.session), counts_of(seq)) == []

    @rule(kind=st.sampled_from(BREACHES))
    def one_that_breaks_the_contract(self, kind):
        self.plainly.refused += 1
        (event,) = self.take_without_effect(*bad_spectrum(kind, self.next_seq, self.session))
        assert (event.seq, event.invalid) == (self.next_seq, False)

    @rule(kind=st.sampled_from(["dark", "saturated", "frozen"]))
    def one_that_is_no_measurement(self, kind):
        if kind == "frozen" and self.previous is None:
            return
        counts = {"dark": np.zeros(AXIS.size), "saturated": np.full(AXIS.size, SATURATION), "frozen": self.previous}[
            kind
        ]
        seq = self.next_seq
        self.plainly.hear_of(seq)
        self.plainly.invalid += 1
        self.previous = counts.astype(np.float32)
        (event,) = self.take(spectrum(seq, self.session), self.previous)
        assert (event.seq, event.invalid) == (seq, True)

    @rule(lost=st.integers(1, 4))
    def a_gap_that_the_instrument_announces(self, lost):
        first = self.next_seq
        self.plainly.lost += lost
        self.plainly.heard_of = first + lost - 1
        (event,) = self.take(gap(first, first + lost - 1, self.session))
        assert (event.first_seq, event.last_seq) == (first, first + lost - 1)

    @rule()
    def one_of_a_session_that_nobody_opened(self):
        self.plainly.refused += 1
        events = self.take_without_effect(spectrum(self.next_seq, "stranger"), counts_of(self.next_seq))
        assert events == [SessionUnknown("stranger")]

    @rule()
    def the_same_start_once_more(self):
        assert self.take_without_effect(start(self.session, dwell_s=7.0)) == []

    @rule()
    def a_moment_passes(self):
        self.state, events = tick(self.state, self.now_ns)
        assert events == []

    @rule()
    def a_new_session(self):
        self.sessions += 1
        self.plainly, self.previous = Plainly(), None
        (event,) = self.take(start(self.session, saturation_counts=SATURATION))
        assert isinstance(event, SessionOpened)

    @invariant()
    def window_and_counters_are_as_plainly_kept(self):
        assert seqs_in(self.state) == self.plainly.window()
        for seq, counts in self.state.session.window.spectra:
            np.testing.assert_array_equal(counts, self.plainly.accepted[seq])
        counters, plainly = self.state.counters, self.plainly
        assert (counters.spectra, counters.refused, counters.invalid, counters.lost) == (
            len(plainly.accepted),
            plainly.refused,
            plainly.invalid,
            plainly.lost,
        )
        assert counters.duplicate + counters.late == plainly.again


class TestAnyStream(AnyStream.TestCase):
    settings = settings(examples(100), stateful_step_count=40)


# Filling


def test_the_window_is_full_after_eight_spectra_and_then_slides(opened):
    _, events = after(opened, *range(12))
    accepted = accepted_in(events)
    assert [a.needed for a in accepted] == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    assert all(a.window is None for a in accepted[:7])
    assert accepted[7].window.shape == (WINDOW, AXIS.size)
    assert accepted[7].window.dtype == np.float32
    np.testing.assert_array_equal(accepted[11].window[0], accepted[4].prepared.counts)  # oldest first
    np.testing.assert_array_equal(accepted[11].window[-1], accepted[11].prepared.counts)


def test_a_program_that_joins_late_has_lost_nothing(opened):
    state, events = after(opened, 100, 101)
    assert not [e for e in events if isinstance(e, Lost)]
    assert (state.counters.lost, state.counters.spectra) == (0, 2)


# Gaps


@pytest.mark.parametrize("told", [False, True], ids=["by the numbers", "by the instrument"])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_short_gap_stays_in_the_window_and_is_flagged_until_it_has_passed(opened, lost, told):
    state, _ = after(opened, *range(8))
    resumed = 8 + lost
    announcement = [gap(8, resumed - 1)] if told else []
    state, events = after(state, *announcement, *range(resumed, resumed + WINDOW))
    assert [e for e in events if isinstance(e, Lost)] == [Lost(8, resumed - 1, window_emptied=False)]
    flagged = ["gap_in_window" in flags(a) for a in accepted_in(events)]
    assert flagged == [True] * (WINDOW - 1) + [False]
    reason = next(q.reason for q in accepted_in(events)[0].quality if q.flag == "gap_in_window")
    assert reason == f"{lost} spectra are missing inside the window"
    assert all(a.needed == 0 for a in accepted_in(events))
    assert state.counters.lost == lost


@pytest.mark.parametrize("told", [False, True], ids=["by the numbers", "by the instrument"])
def test_a_long_gap_empties_the_window(opened, told):
    state, _ = after(opened, *range(8))
    state, events = after(state, *([gap(8, 10)] if told else []), 11)
    assert events[0] == Lost(8, 10, window_emptied=True, needed=WINDOW)
    assert accepted_in(events)[0].needed == WINDOW - 1
    assert seqs_in(state) == [11]


def test_losses_one_after_the_other_add_up(opened):
    state, _ = after(opened, *range(8), gap(8, 8), gap(9, 9))
    assert len(seqs_in(state)) == WINDOW
    state, events = after(state, (spectrum(10), np.zeros(AXIS.size, np.float32)))  # no measurement: the third in a row
    assert seqs_in(state) == []
    assert isinstance(events[-1], Refused)


def test_what_was_lost_before_an_announced_gap_is_counted_too(opened):
    state, events = after(opened, *range(6), gap(8, 9))
    assert events[-1] == Lost(6, 9, window_emptied=True, needed=WINDOW)
    assert state.counters.lost == 4


def test_a_gap_that_is_known_already_is_not_counted_twice(opened):
    state, _ = after(opened, *range(4), 6)
    state, events = after(state, gap(4, 5), gap(5, 6))
    assert events == []
    state, events = after(state, gap(5, 8))
    assert events == [Lost(7, 8, window_emptied=False)]
    assert state.counters.lost == 4


def test_a_gap_of_another_session_is_none_of_ours(opened):
    state, _ = after(opened, *range(4))
    assert after(state, gap(4, 9, session="another")) == (state, [])


# Duplicates and late frames


def test_duplicates_and_late_spectra_are_counted_and_dropped(opened):
    state, _ = after(opened, *range(5), 6)
    repeated, events = after(state, 6, 3, 5)  # 5 was lost, and comes after 6
    assert events == []
    assert seqs_in(repeated) == [0, 1, 2, 3, 4, 6]
    assert (repeated.counters.duplicate, repeated.counters.late) == (2, 1)


# Refused


@pytest.mark.parametrize("kind", BREACHES)
def test_a_spectrum_that_breaks_the_contract_leaves_the_window_as_it_was(opened, kind):
    state, _ = after(opened, *range(8))
    refused, events = after(state, bad_spectrum(kind, 8, "first"))
    complaint = {
        "negative": "has negative counts (-1.0 in channel 3)",
        "nan": "holds numbers that are not finite",
        "short": "has 79 channels, and its session 80",
        "absurd": "has 2e+09 counts in channel 3, more than any camera's",
        "scale": "its dose is 5e-05 times the model's 92 pC, too far from it to be normalised",
    }[kind]
    (event,) = events
    assert isinstance(event, Refused)
    assert (event.seq, event.invalid) == (8, False)
    assert event.reason.startswith("spectrum 8")
    assert complaint in event.reason
    assert refused.session.window is state.session.window
    assert refused.session.window.sum is state.session.window.sum
    assert (refused.counters.refused, refused.counters.spectra) == (1, 8)

    good, events = after(refused, 8)  # a good copy of the same number may still come
    assert seqs_in(good) == list(range(1, 9))
    assert accepted_in(events)[0].quality == accepted_in(after(state, 8)[1])[0].quality


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_integer_counts_are_taken_as_they_are(opened, dtype):
    header = spectrum(0, dtype=np.dtype(dtype).str)
    _, events = after(opened, (header, REFERENCE.astype(dtype)))
    _, as_float = after(opened, (spectrum(0), REFERENCE.astype(dtype).astype(np.float32)))
    np.testing.assert_array_equal(accepted_in(events)[0].prepared.counts, accepted_in(as_float)[0].prepared.counts)


@pytest.mark.parametrize(
    ("counts", "dtype", "saturation", "reason"),
    [
        (np.zeros(AXIS.size), np.float32, None, "no counts in any channel"),
        (np.zeros(AXIS.size), np.uint16, None, "no counts in any channel"),
        (
            np.where(np.arange(AXIS.size) < 3, 50_000, REFERENCE),
            np.float32,
            50_000,
            "saturated: 3 channels at 50000 counts",
        ),
        (
            np.where(np.arange(AXIS.size) < 2, 65_535, REFERENCE),
            np.uint16,
            None,
            "saturated: 2 channels at 65535 counts",
        ),
        (
            np.where(np.arange(AXIS.size) < 2, 65_535, REFERENCE),
            np.uint16,
            9e9,
            "saturated: 2 channels at 65535 counts",
        ),
    ],
)
def test_a_spectrum_that_is_no_measurement_gives_no_forecast(model, counts, dtype, saturation, reason):
    state, _ = after(on_frames(model), start(saturation_counts=saturation), *range(8))
    header = spectrum(8, dtype=np.dtype(dtype).str)
    state, events = after(state, (header, counts.astype(dtype)))
    (event,) = events
    assert (event.seq, event.invalid) == (8, True)
    assert event.reason.startswith(reason)
    assert seqs_in(state) == list(range(8))
    assert (state.counters.invalid, state.counters.spectra) == (1, 8)
    _, events = after(state, 9)
    assert "gap_in_window" in flags(accepted_in(events)[0])  # its place in time is empty


def test_full_scale_of_16_bits_is_no_limit_for_32(opened):
    counts = REFERENCE.astype(np.uint32)
    counts[:2] = 65_535
    _, events = after(opened, (spectrum(0, dtype="<u4"), counts))
    assert isinstance(events[0], Accepted)


def test_a_frozen_camera_is_told_from_its_counts(opened):
    state, _ = after(opened, *range(8))
    state, events = after(state, (spectrum(8), counts_of(7)), (spectrum(9), counts_of(7)))
    assert [(e.seq, e.invalid) for e in events] == [(8, True), (9, True)]
    assert "the camera is frozen" in events[0].reason
    assert seqs_in(state) == list(range(8))
    state, events = after(state, (spectrum(10), counts_of(7)))
    assert seqs_in(state) == []  # three without a measurement are a long gap
    state, events = after(state, 11)
    assert accepted_in(events)[0].needed == WINDOW - 1


# Sessions


def test_a_new_session_is_a_clean_start(opened):
    state, _ = after(opened, *range(8), (spectrum(8), np.zeros(AXIS.size, np.float32)))
    state, events = after(state, start("second"))
    assert events == [SessionOpened(start("second"), WINDOW)]
    assert seqs_in(state) == []
    assert set(state.counters.model_dump().values()) == {0}
    state, events = after(state, (spectrum(0, "second"), counts_of(8)))
    (accepted,) = accepted_in(events)
    assert accepted.needed == WINDOW - 1
    np.testing.assert_array_equal(accepted.history, accepted.prepared.counts)


def test_the_first_spectrum_of_a_session_may_equal_the_last_of_the_one_before(opened):
    state, _ = after(opened, 0, start("second"))
    _, events = after(state, (spectrum(0, "second"), counts_of(0)))
    assert isinstance(events[0], Accepted)


def test_a_session_that_is_announced_on_another_axis_is_refused_until_it_is_announced_as_it_began(opened):
    fed, _ = after(opened, *range(WINDOW))
    state, [refused, spectrum_refused] = after(fed, start(seq=1, energy_axis=OTHER_AXIS), WINDOW)
    assert isinstance(refused, Refused)
    assert "began on 435.0 to 474.5 eV at 0.5 eV, and was announced again on 430.0 to 469.5 eV" in refused.reason
    assert isinstance(spectrum_refused, Refused)
    assert not spectrum_refused.invalid
    assert state.counters.refused == 1
    assert state.session is not None
    assert fed.session is not None
    assert state.session.window == fed.session.window
    _, [accepted] = after(state, start(seq=2), WINDOW)  # the same spectrum
    assert isinstance(accepted, Accepted)
    assert accepted.window is not None
    assert "gap_in_window" not in {flag.flag for flag in accepted.quality}


def test_a_start_heard_twice_changes_nothing(opened):
    state, _ = after(opened, *range(5))
    assert after(state, start()) == (state, [])


def test_an_ended_session_is_over(opened):
    state, events = after(opened, *range(5), end())
    assert events[-1] == SessionClosed("finished after 5 spectra")
    assert state.session is None
    late, events = after(state, 5, start(), gap(5, 6), end())  # a late spectrum, and a snapshot from before the end
    assert events == []
    assert late.session is None
    assert late.counters.late == 1
    _, events = after(state, start("second"))
    assert isinstance(events[0], SessionOpened)


def test_the_end_says_why(opened):
    _, events = after(opened, end(reason="failed", text="the camera fell out", spectra=1))
    assert events == [SessionClosed("failed after 1 spectra: the camera fell out")]
    other, events = after(opened, end("another"))
    assert (other.session, events) == (opened.session, [])


def test_a_spectrum_without_a_session_asks_for_its_start(model):
    state, events = after(on_frames(model), 3)
    assert events == [SessionUnknown("first")]
    assert state.session is None
    state, events = after(state, start(), 4)
    assert [type(e) for e in events] == [SessionOpened, Accepted]


def test_a_session_whose_axis_does_not_cover_the_model_is_refused_by_name(model):
    far = EnergyAxis(offset_eV=700.0, dispersion_eV=0.5, size=80)
    state, events = after(on_frames(model), start(energy_axis=far))
    (event,) = events
    assert isinstance(event, SessionRefused)
    assert event.reason.startswith(
        "sto (session first) covers 700.0 to 739.5 eV at 0.5 eV, and the model needs 435.0 to 474.5 eV"
    )
    state, events = after(state, 0, 1, start(energy_axis=far), gap(2, 3), 4)  # said once, and then only counted
    assert events == []
    assert state.counters.refused == 3
    state, events = after(state, start("second"))
    assert isinstance(events[0], SessionOpened)


def test_a_session_that_is_refused_ends_the_one_before(opened):
    state, _ = after(opened, *range(8))
    state, _ = after(state, start("second", energy_axis=EnergyAxis(offset_eV=700.0, dispersion_eV=0.5, size=80)))
    assert state.session is None
    _, events = after(state, 8)
    assert events == [SessionUnknown("first")]


def test_another_axis_that_covers_the_models_is_resampled_and_says_so(model):
    fine = EnergyAxis(offset_eV=430.0, dispersion_eV=0.25, size=200)
    state, _ = after(on_frames(model), start(energy_axis=fine))
    _, events = after(state, (spectrum(0, channels=200), reference_spectrum(fine)))
    (accepted,) = accepted_in(events)
    assert "resampled" in flags(accepted)
    np.testing.assert_allclose(accepted.prepared.counts[1:-1], 2 * REFERENCE[1:-1], rtol=0.01)


def test_messages_of_other_kinds_change_nothing(opened):
    state, _ = after(opened, *range(3))
    status = Status(session="first", seq=0, sent_mono_ns=0, sender="guard", state="ended", text="")
    assert after(state, status, spectrum(3)) == (state, [])  # and a spectrum without counts is none


# Dose


def test_a_change_of_dwell_leaves_the_window_in_place(opened):
    steady, _ = after(opened, *range(12))
    changed = opened
    for seq in range(12):
        dwell_s = DWELL_S if seq < 6 else DWELL_S / 4
        counts = counts_of(seq) * np.float32(dwell_s / DWELL_S)
        changed, events = after(changed, (spectrum(seq, dwell_s=dwell_s), counts))
        (accepted,) = accepted_in(events)
        assert ("dwell_differs_from_training" in flags(accepted)) is (seq >= 6)
        assert accepted.variance_over_mean == pytest.approx(4.6 if seq < 6 else 4 * 4.6)
        assert "outside_training_range" not in flags(accepted)
    for (_, as_was), (_, as_is) in zip(steady.session.window.spectra, changed.session.window.spectra, strict=True):
        np.testing.assert_allclose(as_is, as_was, rtol=1e-5)


def test_a_change_of_current_leaves_the_window_in_place(opened):
    _, (whole,) = after(opened, 0)
    _, (half,) = after(opened, (spectrum(0, beam_current_pA=CURRENT_PA / 2), counts_of(0) / 2))
    np.testing.assert_allclose(half.prepared.counts, whole.prepared.counts, rtol=1e-5)


def test_without_a_current_the_dwell_alone_is_normalised_and_every_forecast_says_so(model):
    state, _ = after(on_frames(model), start(beam_current_pA=None, dose_is_relative=True))
    for dwell_s in (DWELL_S, DWELL_S / 2):
        counts = counts_of(0) * np.float32(dwell_s / DWELL_S)
        _, (accepted,) = after(state, (spectrum(0, beam_current_pA=None, dwell_s=dwell_s), counts))
        assert "dose_is_relative" in flags(accepted)
        np.testing.assert_allclose(accepted.prepared.counts, counts_of(0), rtol=0.01)


@pytest.mark.parametrize("dwell_s", [DWELL_S / (1.01 * MAX_SCALE), DWELL_S * 1.01 * MAX_SCALE])
def test_a_dose_too_far_from_the_models_is_refused_on_either_side(opened, dwell_s):
    state, (event,) = after(opened, (spectrum(0, dwell_s=dwell_s), counts_of(0)))
    assert isinstance(event, Refused)
    assert "too far from it to be normalised" in event.reason
    assert seqs_in(state) == []


@pytest.mark.parametrize(
    ("outside", "level", "flagged"),
    [
        # Trained on 5 000 to 18 000 counts; a tenth of that range is allowed on either side, and beyond it 4 channels of 80.
        (80, 19_250, False),
        (80, 19_350, True),
        (80, 3_750, False),
        (80, 3_650, True),
        (4, 1_000, False),
        (5, 1_000, True),
    ],
)
def test_counts_far_from_the_training_data_are_flagged(opened, outside, level, flagged):
    counts = np.full(AXIS.size, 9_000, np.float32)
    counts[:outside] = level
    _, (accepted,) = after(opened, (spectrum(0), counts))
    assert flags(accepted) == {"alignment_uncertain"} | ({"outside_training_range"} if flagged else set())


def test_a_spectrum_as_in_training_has_no_flags(opened):
    _, (accepted,) = after(opened, 0)
    assert accepted.quality == ()


def test_a_spectrum_that_can_not_be_aligned_is_flagged(opened):
    _, (accepted,) = after(opened, (spectrum(0), np.full(AXIS.size, 9_000, np.float32)))
    assert "alignment_uncertain" in flags(accepted)


# Time


def test_silence_is_said_once_and_ends_with_the_next_spectrum(opened):
    state, _ = after(opened, 0, now_ns=10 * SECOND)
    assert tick(state, 12 * SECOND - 1) == (state, [])
    state, events = tick(state, 12 * SECOND)  # five dwells
    assert events == [Silent(2.0)]
    assert tick(state, 100 * SECOND) == (state, [])
    state, _ = after(state, 1, now_ns=101 * SECOND)
    assert len(seqs_in(state)) == 2  # silence alone loses nothing
    _, events = tick(state, 103 * SECOND)
    assert events == [Silent(2.0)]


def test_a_session_that_never_sends_is_silent_too(model):
    state, _ = after(on_frames(model), start(), now_ns=5 * SECOND)
    assert tick(state, 6 * SECOND)[1] == []
    assert tick(state, 7 * SECOND)[1] == [Silent(2.0)]


def test_a_fast_stream_is_silent_after_a_second_at_the_earliest(model):
    state, _ = after(on_frames(model), start(dwell_s=0.001))
    state, _ = after(state, (spectrum(0, dwell_s=0.001), counts_of(0) / 400))
    assert tick(state, SECOND - 1)[1] == []
    assert tick(state, SECOND)[1] == [Silent(1.0)]


@pytest.mark.parametrize("changed_dwell_s", [2.0, 0.1])
def test_silence_is_counted_in_the_dwell_that_the_stream_has_now(opened, changed_dwell_s):
    counts = counts_of(0) * np.float32(changed_dwell_s / DWELL_S)
    state, _ = after(opened, (spectrum(0, dwell_s=changed_dwell_s), counts))
    silent_s = max(5 * changed_dwell_s, 1.0)
    assert tick(state, round(silent_s * SECOND) - 1)[1] == []
    assert tick(state, round(silent_s * SECOND))[1] == [Silent(silent_s)]


def test_frames_with_pauses_between_them_are_silent_after_five_periods(model):
    state, _ = after(on_frames(model), start(frame_period_s=3.0), 0)
    assert tick(state, 15 * SECOND - 1)[1] == []
    assert tick(state, 15 * SECOND)[1] == [Silent(15.0)]


def test_without_a_session_nobody_is_silent(model):
    state = on_frames(model)
    assert tick(state, 10**18) == (state, [])


def test_the_wall_clock_has_no_say(opened):
    steady, events = after(opened, *range(10))
    jumping = [
        (
            spectrum(
                seq,
                acquired_at=STARTED + timedelta(hours=(-1) ** seq),
                acquired_until=STARTED - timedelta(hours=seq),
                sent_mono_ns=(7 * seq) % 5,
            ),
            counts_of(seq),
        )
        for seq in range(10)
    ]
    jumped, events_of_jumping = after(opened, *jumping)
    assert jumped.counters == steady.counters
    for accepted, other in zip(accepted_in(events), accepted_in(events_of_jumping), strict=True):
        assert accepted.quality == other.quality
        assert accepted.needed == other.needed
        np.testing.assert_array_equal(accepted.prepared.counts, other.prepared.counts)


def test_the_same_messages_at_the_same_times_give_the_same_state(opened):
    messages = [*range(5), gap(5, 6), 7, 7, bad_spectrum("nan", 8, "first"), end()]
    first, second = after(opened, *messages), after(opened, *messages)
    assert first[0].counters == second[0].counters
    assert [type(e) for e in first[1]] == [type(e) for e in second[1]]


# Models that can't be served


def test_a_model_made_for_dose_is_refused_on_frames(model):
    with pytest.raises(
        UnusableInputError, match="was made for a window on dose, and window_domain is frame: set it to"
    ):
        on_frames(model.model_copy(update={"window_domain": "dose"}))


@pytest.mark.parametrize("range_eV", [(700.0, 800.0), (464.0, 439.0), (1e308, 1.5e308)])
def test_a_model_whose_alignment_lies_off_its_axis_is_refused(model, range_eV):
    with pytest.raises(UnusableInputError, match=r"mean-of-window can't be aligned to: .* too few to align on"):
        new_pipeline(model.model_copy(update={"alignment_range_eV": range_eV}))


# What a forecast must say of the dose


def flags_of(events: list[Event]) -> set[str]:
    return {flag.flag for flag in accepted_in(events)[-1].quality}


def test_another_dose_per_spectrum_is_flagged_though_the_dwell_is_the_same(opened):
    _, usual = after(opened, 0)
    assert "dose_differs_from_training" not in flags_of(usual)
    _, tenfold = after(opened, (spectrum(0, beam_current_pA=10 * CURRENT_PA), counts_of(0)))
    assert "dose_differs_from_training" in flags_of(tenfold)


def test_a_spectrum_without_a_current_is_flagged_whatever_its_session_says(opened):
    _, events = after(opened, (spectrum(0, beam_current_pA=None), counts_of(0)))
    assert "dose_is_relative" in flags_of(events)


def test_a_model_trained_without_a_current_normalises_the_dwell_only_and_says_so(model):
    relative = model.model_copy(update={"reference_dose_pC": DWELL_S, "dose_is_relative": True})
    known, _ = after(on_frames(relative), start())
    unknown, _ = after(on_frames(relative), start(beam_current_pA=None, dose_is_relative=True))
    _, with_current = after(known, 0)
    _, without = after(unknown, (spectrum(0, beam_current_pA=None), counts_of(0)))
    np.testing.assert_array_equal(accepted_in(with_current)[0].prepared.counts, accepted_in(without)[0].prepared.counts)
    assert "dose_is_relative" in flags_of(with_current)


# What a late snapshot and an absurd gap must not do


def test_a_snapshot_of_a_session_whose_end_was_heard_does_not_displace_the_live_one(model):
    state, _ = after(on_frames(model), (spectrum(0, "old"), counts_of(0)), end("old"), start("live"))
    state, _ = after(state, (spectrum(0, "live"), counts_of(1)))
    state, events = after(state, start("old"), (spectrum(0, "old"), counts_of(0)))
    assert events == []
    assert state.session is not None
    assert state.session.start.session == "live"


def test_counters_stay_within_what_a_status_may_say(opened):
    state, _ = after(opened, gap(0, MAX_SEQ))
    assert state.counters.lost == MAX_SEQ
    Counters.model_validate(state.counters.model_dump())


def test_the_frame_period_follows_the_dwell_and_keeps_the_pause():
    with_pause = start(frame_period_s=DWELL_S + 0.09)
    assert frame_period_s(with_pause, DWELL_S) == pytest.approx(DWELL_S + 0.09)
    assert frame_period_s(with_pause, 2 * DWELL_S) == pytest.approx(2 * DWELL_S + 0.09)
    assert frame_period_s(start(), 0.1) == pytest.approx(0.1)
