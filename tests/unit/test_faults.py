"""Faults by script: each does what it says, on its frames, and nothing else; the same seed gives the same faults."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition_sim.faults import (
    KINDS,
    BadCounts,
    Burst,
    Dropped,
    Duplicated,
    Fault,
    Frozen,
    Late,
    OtherThanOrdered,
    RandomBytes,
    Reordered,
    Restart,
    Saturated,
    SecondPublisher,
    Silence,
    Truncated,
    WrongAxis,
    WrongDtype,
    WrongShape,
    Zero,
)
from acquisition_sim.faults.fault import SAME_TIME
from acquisition_sim.faults.script import FaultScript, SessionPlan, fitted, read_script, script_for
from acquisition_sim.faults.stream import FaultyStream
from acquisition_sim.presets import load_preset
from eelstm_stream.errors import UsageError
from eelstm_stream.wire.codec import Decoded, WireError, decode, encode
from eelstm_stream.wire.messages import (
    Command,
    EnergyAxis,
    Gap,
    InstrumentStatus,
    Message,
    SessionEnd,
    SessionStart,
    Spectrum,
)
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=424.0, dispersion_eV=0.1, size=16)
OTHER_AXIS = EnergyAxis(offset_eV=400.0, dispersion_eV=0.1, size=16)
DWELL_S = 0.4
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FRAMES = 40
ENDS_S = [DWELL_S * (frame + 1) for frame in range(FRAMES)]
PLAN = SessionPlan(AXIS, FRAMES, ENDS_S)
COMMANDED = SessionPlan(AXIS, None, None, obeys=True)


@dataclass(frozen=True)
class Said:
    """What the instrument sends, and at which time of its own."""

    message: Message
    frames: list[bytes]
    now_s: float


def said(message: Message, now_s: float, counts: np.ndarray | None = None) -> Said:
    return Said(message, encode("microscope", message, counts), now_s)


def counts(seq: int) -> np.ndarray:
    """Counts that no other frame has."""
    return (1000.0 + 20.0 * seq + np.arange(AXIS.size)).astype("<f4")


@cache
def session(
    frames: int = FRAMES, name: str = "session", *, saturation_counts: float | None = None, ended: bool = True
) -> tuple[Said, ...]:
    """A whole session: its start, a status before every tenth spectrum, spectra, and its end."""
    common: dict[str, Any] = {"session": name, "sent_mono_ns": 1}
    start = SessionStart(
        **common, seq=0, instrument="microscope", source="simulation", energy_axis=AXIS, dwell_s=DWELL_S,
        dose_is_relative=False, started_at=BEGAN, clock_id="clock", saturation_counts=saturation_counts,
    )  # fmt: skip
    messages = [said(start, 0.0)]
    for seq in range(frames):
        if seq % 10 == 0:
            status = InstrumentStatus(**common, seq=seq // 10, state="exposing", text="", clock_id="clock", obeys=False)
            messages.append(said(status, DWELL_S * seq))
        at = BEGAN + timedelta(seconds=DWELL_S * seq)
        spectrum = Spectrum(
            **common, seq=seq, dtype="<f4", shape=(AXIS.size,), dwell_s=DWELL_S,
            acquired_at=at, acquired_until=at + timedelta(seconds=DWELL_S),
        )  # fmt: skip
        messages.append(said(spectrum, DWELL_S * (seq + 1), counts(seq)))
    end = SessionEnd(**common, seq=1, reason="finished", spectra=frames)
    return (*messages, said(end, DWELL_S * frames)) if ended else tuple(messages)


@dataclass
class Heard:
    """What a reader gets of a session."""

    frames: list[list[bytes]]
    decoded: list[Decoded] = field(default_factory=list)
    malformed: int = 0

    def __post_init__(self) -> None:
        for frames in self.frames:
            try:
                self.decoded.append(decode(frames))
            except WireError:
                self.malformed += 1

    def spectra(self, of: str = "session") -> list[tuple[int, np.ndarray]]:
        """Number and counts of each spectrum, in the order in which they come."""
        return [
            (d.message.seq, d.payload)
            for d in self.decoded
            if isinstance(d.message, Spectrum) and d.message.session == of and d.payload is not None
        ]

    def seqs(self) -> list[int]:
        return [seq for seq, _ in self.spectra()]

    def of(self, kind: type[Message]) -> list[Any]:
        return [d.message for d in self.decoded if isinstance(d.message, kind)]


def heard(*faults: Fault, seed: int = 0, **how: Any) -> Heard:
    """A session through faults that are fitted to it."""
    script = fitted(FaultScript(faults, seed), PLAN)
    stream = FaultyStream(script)
    return Heard([s.frames for m in session(**how) for s in stream.take(m.message, m.frames, m.now_s)])


def every_frame_but(*gone: int) -> list[int]:
    return [seq for seq in range(FRAMES) if seq not in gone]


UNDISTURBED = [m.frames for m in session()]


# Nothing but what they say


FEW, TWO = st.integers(1, 4), st.integers(2, 5)
ANYTHING: dict[type[Fault], dict[str, st.SearchStrategy[Any]]] = {  # that the instrument's messages show
    RandomBytes: {"frames": FEW, "messages": FEW},
    Truncated: {"frames": FEW, "part": st.sampled_from(["payload", "header"])},
    WrongDtype: {"frames": FEW, "dtype": st.sampled_from(["<f8", "<u2", "<u4", ">f4"])},
    WrongShape: {"frames": FEW, "channels": st.sampled_from([1, 15, 17, 100])},
    WrongAxis: {"frames": FEW, "energy_axis": st.just(OTHER_AXIS)},
    BadCounts: {"frames": FEW, "value": st.sampled_from(["nan", "inf", "-inf", "negative"])},
    Saturated: {"frames": FEW},
    Zero: {"frames": FEW},
    Frozen: {"frames": FEW},
    Duplicated: {"frames": FEW, "copies": FEW},
    Dropped: {"frames": FEW, "said": st.booleans()},
    Late: {"frames": FEW, "by_frames": FEW},
    Reordered: {"frames": TWO},
    Burst: {"frames": TWO},
    SecondPublisher: {"frames": FEW},
    Silence: {"frames": FEW},
}


@st.composite
def scripts(draw: st.DrawFn) -> FaultScript:
    """Scripts for the session, of faults that keep apart."""
    faults: list[Fault] = []
    frame = draw(st.integers(1, 5))
    while frame < FRAMES - 10:
        kind = draw(st.sampled_from(list(ANYTHING)))
        values = {name: draw(of) for name, of in ANYTHING[kind].items()}
        faults.append(kind.model_validate({"frame": frame, **values}))
        frame += faults[-1].reach + draw(st.integers(0, 15))
    order = draw(st.permutations(faults))
    return FaultScript(tuple(order), draw(st.integers(0, 2**63 - 1)))


def touched(script: FaultScript) -> set[int]:
    return {fault.frame + n for fault in script.faults if fault.frame is not None for n in range(fault.reach)}


def through(script: FaultScript) -> list[list[bytes]]:
    stream = FaultyStream(script)
    return [sent.frames for m in session() for sent in stream.take(m.message, m.frames, m.now_s)]


@given(scripts())
@examples(150)
def test_frames_on_which_no_fault_falls_pass_byte_for_byte_in_their_order(script: FaultScript) -> None:
    spared = [m.frames for m in session() if isinstance(m.message, Spectrum) and m.message.seq not in touched(script)]
    assert [frames for frames in through(fitted(script, PLAN)) if frames in spared] == spared


@given(scripts())
@examples(50)
def test_the_same_seed_gives_the_same_bytes(script: FaultScript) -> None:
    assert through(fitted(script, PLAN)) == through(fitted(script, PLAN))


@given(scripts())
@examples(50)
def test_what_is_no_spectrum_passes_but_for_the_numbers_that_added_messages_need(script: FaultScript) -> None:
    silent = {
        f.frame + n for f in script.faults if isinstance(f, Silence) and f.frame is not None for n in range(f.reach)
    }
    heard = Heard(through(fitted(script, PLAN)))
    statuses = [m.message for m in session() if isinstance(m.message, InstrumentStatus)]
    passed = [s for s in statuses if not {10 * s.seq - 1, 10 * s.seq} <= silent]
    assert heard.of(InstrumentStatus) == passed
    about = [m for d in heard.decoded if (m := d.message).session == "session" and m.KIND == "session"]
    assert [m.seq for m in about] == list(range(len(about)))
    assert isinstance(about[0], SessionStart)
    assert isinstance(about[-1], SessionEnd)


def test_without_faults_the_stream_is_unchanged_byte_for_byte() -> None:
    assert through(FaultScript()) == UNDISTURBED


# Bytes


@pytest.mark.parametrize("part", ["payload", "header"])
def test_a_truncated_spectrum_cannot_be_decoded(part: Any) -> None:
    reader = heard(Truncated(frame=5, frames=20, part=part))
    assert (reader.malformed, reader.seqs()) == (20, every_frame_but(*range(5, 25)))
    cut = [frames for frames in reader.frames if frames not in UNDISTURBED]
    number = 2 if part == "payload" else 1
    whole = [m.frames[number] for m in session() if isinstance(m.message, Spectrum)][5:25]
    assert all(w.startswith(c[number]) and len(c[number]) < len(w) for c, w in zip(cut, whole, strict=True))
    assert len({len(c[number]) for c in cut}) > 5  # anywhere in it


def test_random_bytes_come_beside_the_spectra_and_no_message_among_them() -> None:
    reader = heard(RandomBytes(frame=3, frames=2, messages=50))
    assert (reader.malformed, reader.seqs()) == (100, every_frame_but())
    assert {frames[0] for frames in reader.frames if frames not in UNDISTURBED} == {
        b"microscope.spectrum.",
        b"microscope.session.",
    }
    assert heard(RandomBytes(frame=3), seed=1).frames != heard(RandomBytes(frame=3), seed=2).frames


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4", "<u2"])
def test_a_wrong_dtype_is_said_over_the_same_counts(dtype: Any) -> None:
    reader = heard(WrongDtype(frame=5, dtype=dtype))
    assert (reader.malformed, reader.seqs()) == (1, every_frame_but(5))
    [(_, header, payload)] = [frames for frames in reader.frames if frames not in UNDISTURBED]
    assert (json.loads(header)["dtype"], payload) == (dtype, counts(5).tobytes())


def test_counts_under_a_wrong_dtype_of_the_same_length_are_more_than_any_cameras() -> None:
    _, payload = heard(WrongDtype(frame=5, dtype="<u4")).spectra()[5]
    assert payload.min() > 1e9


@pytest.mark.parametrize("channels", [1, 15, 20])
def test_a_spectrum_of_another_shape_agrees_with_its_own_header(channels: int) -> None:
    reader = heard(WrongShape(frame=5, channels=channels))
    assert reader.seqs() == every_frame_but()
    np.testing.assert_array_equal(reader.spectra()[5][1], np.resize(np.append(counts(5), np.zeros(4)), channels))


def test_the_session_is_announced_with_another_axis_and_then_again_as_it_was() -> None:
    reader = heard(WrongAxis(frame=5, frames=3, energy_axis=OTHER_AXIS))
    assert [s.energy_axis for s in reader.of(SessionStart)] == [AXIS, OTHER_AXIS, AXIS]
    assert [d.message.seq for d in reader.decoded[1:] if isinstance(d.message, SessionStart)] == [1, 2]
    kinds = [type(d.message) for d in reader.decoded if not isinstance(d.message, InstrumentStatus)]
    assert [number for number, kind in enumerate(kinds) if kind is SessionStart] == [0, 6, 10]
    assert reader.of(SessionEnd)[0].seq == 3
    assert reader.seqs() == every_frame_but()


# Counts


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_channels_drawn_by_lot_are_not_finite(value: Any) -> None:
    reader = heard(BadCounts(frame=5, frames=10, value=value, in_channels=3))
    assert (reader.malformed, reader.seqs()) == (10, every_frame_but(*range(5, 15)))
    hits = set()
    for seq, (_, header, payload) in enumerate([f for f in reader.frames if f not in UNDISTURBED], 5):
        wrong = np.frombuffer(payload, "<f4")
        hit = np.flatnonzero(~np.isfinite(wrong))
        np.testing.assert_array_equal(wrong[hit], np.full(3, float(value)))
        np.testing.assert_array_equal(np.delete(wrong, hit), np.delete(counts(seq), hit))
        assert json.loads(header)["seq"] == seq
        hits.add(tuple(hit))
    assert len(hits) > 5


def test_negative_counts_are_negative_and_well_formed() -> None:
    _, wrong = heard(BadCounts(frame=5, value="negative", in_channels=2)).spectra()[5]
    assert (int((wrong < 0).sum()), int((wrong == counts(5)).sum())) == (2, 14)


@pytest.mark.parametrize(("said_counts", "limit", "dtype"), [(50_000.0, 50_000, "<f4"), (None, 65_535, "<u2")])
def test_a_saturated_spectrum_is_at_the_limit_that_a_reader_knows(said_counts: Any, limit: int, dtype: str) -> None:
    reader = heard(Saturated(frame=5, frames=2), saturation_counts=said_counts)
    assert reader.malformed == 0
    for _, payload in reader.spectra()[5:7]:
        assert payload.dtype.str == dtype
        np.testing.assert_array_equal(payload, np.full(AXIS.size, limit))


def test_a_zero_spectrum_has_no_counts() -> None:
    assert [seq for seq, payload in heard(Zero(frame=5, frames=2)).spectra() if not payload.any()] == [5, 6]


def test_frozen_spectra_repeat_the_counts_before_under_numbers_that_rise() -> None:
    reader = heard(Frozen(frame=5, frames=4))
    assert reader.seqs() == every_frame_but()
    for seq, payload in reader.spectra():
        np.testing.assert_array_equal(payload, counts(4 if 5 <= seq < 9 else seq))


def test_where_two_fall_on_the_same_frame_the_second_falls_on_what_the_first_has_made() -> None:
    negative = BadCounts(at_s=2.0, value="negative", in_channels=16)
    for faults, expected in [((Zero(at_s=2.0), negative), -1.0), ((negative, Zero(at_s=2.0)), 0.0)]:
        stream = FaultyStream(fitted(FaultScript(faults), COMMANDED))
        reader = Heard([s.frames for m in session() for s in stream.take(m.message, m.frames, m.now_s)])
        np.testing.assert_array_equal(reader.spectra()[4][1], np.full(AXIS.size, expected))
    stream = FaultyStream(fitted(FaultScript((Truncated(at_s=2.0), Zero(at_s=2.0, frames=2))), COMMANDED))
    reader = Heard([s.frames for m in session() for s in stream.take(m.message, m.frames, m.now_s)])
    assert (reader.malformed, reader.seqs()) == (1, every_frame_but(4))


# Order


def test_a_duplicate_is_the_same_bytes_again() -> None:
    reader = heard(Duplicated(frame=5, frames=2, copies=3))
    assert reader.seqs() == [*range(5), 5, 5, 5, 5, 6, 6, 6, 6, *range(7, FRAMES)]
    assert (
        reader.frames.count(next(m.frames for m in session() if m.message.seq == 5 and m.message.KIND == "spectrum"))
        == 4
    )


@pytest.mark.parametrize("is_said", [False, True])
def test_dropped_spectra_are_missing_and_said_to_be_if_so_ordered(is_said: bool) -> None:
    reader = heard(Dropped(frame=5, frames=3, said=is_said))
    assert reader.seqs() == every_frame_but(5, 6, 7)
    assert [(g.first_seq, g.last_seq, g.seq) for g in reader.of(Gap)] == is_said * [(5, 5, 1), (6, 6, 2), (7, 7, 3)]
    assert [(e.spectra, e.seq) for e in reader.of(SessionEnd)] == [(FRAMES, 4 if is_said else 1)]


def test_late_spectra_come_after_those_that_overtake_them() -> None:
    assert heard(Late(frame=5, frames=2, by_frames=3)).seqs() == [*range(5), 7, 8, 9, 5, 6, *range(10, FRAMES)]


@given(st.integers(0, 2**63 - 1), st.integers(2, 6))
@examples(100)
def test_reordered_spectra_come_all_and_never_in_their_own_order(seed: int, frames: int) -> None:
    seqs = heard(Reordered(frame=5, frames=frames), seed=seed).seqs()
    assert (sorted(seqs), seqs[:5], seqs[5 + frames :]) == (
        every_frame_but(),
        [*range(5)],
        [*range(5 + frames, FRAMES)],
    )
    assert seqs != sorted(seqs)


def test_a_burst_comes_with_its_last_frame() -> None:
    stream = FaultyStream(FaultScript((Burst(frame=8, frames=4),)))
    came = [len(stream.take(m.message, m.frames, m.now_s)) for m in session()[9:18]]
    assert came == [1, 0, 0, 0, 0, 5, 1, 1, 1]  # a status comes before frame 10, and waits too
    assert heard(Burst(frame=8, frames=4)).frames == UNDISTURBED


@pytest.mark.parametrize("fault", [Late(frame=5, by_frames=9), Reordered(frame=4, frames=9), Burst(frame=4, frames=9)])
def test_what_is_held_when_a_session_ends_early_comes_before_its_end(fault: Fault) -> None:
    stream = FaultyStream(FaultScript((fault,)))
    reader = Heard([s.frames for m in session(8) for s in stream.take(m.message, m.frames, m.now_s)])
    assert sorted(reader.seqs()) == list(range(8))
    assert isinstance(reader.decoded[-1].message, SessionEnd)


@pytest.mark.parametrize("fault", [Reordered(frame=5, frames=3), Burst(frame=5, frames=3), Late(frame=5, by_frames=2)])
def test_what_is_held_for_a_frame_that_is_never_taken_comes_with_the_next(fault: Fault) -> None:
    stream = FaultyStream(FaultScript((fault,)))
    taken = [m for m in session() if not (isinstance(m.message, Spectrum) and m.message.seq == 7)]
    reader = Heard([s.frames for m in taken for s in stream.take(m.message, m.frames, m.now_s)])
    assert sorted(reader.seqs()[:9]) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


# The source


@pytest.mark.parametrize("how", [{"frame": 8, "frames": 5}, {"frame": 8, "for_s": 2.0}, {"at_s": 3.5, "for_s": 2.0}])
@pytest.mark.parametrize("dwell_may_change", [False, True])
def test_in_a_silence_nothing_comes_statuses_neither(how: dict[str, Any], dwell_may_change: bool) -> None:
    plan = COMMANDED if dwell_may_change else PLAN
    stream = FaultyStream(fitted(FaultScript((Silence(**how),)), plan))
    reader = Heard([s.frames for m in session() for s in stream.take(m.message, m.frames, m.now_s)])
    assert reader.seqs() == every_frame_but(*range(8, 13))
    assert [s.seq for s in reader.of(InstrumentStatus)] == [0, 2, 3]  # the one before frame 10 is not heard


def test_a_silence_up_to_the_last_frame_takes_the_end_of_the_session_with_it() -> None:
    reader = heard(Silence(frame=30, frames=10))
    assert (reader.seqs(), reader.of(SessionEnd)) == (list(range(30)), [])


def test_a_silence_by_time_ends_without_a_spectrum() -> None:
    """An instrument that is blanked meanwhile takes no frame that would tell."""
    stream = FaultyStream(fitted(FaultScript((Silence(frame=5, for_s=2.0),)), COMMANDED))
    status = next(m for m in session() if isinstance(m.message, InstrumentStatus))
    for m in session(8, ended=False):
        stream.take(m.message, m.frames, m.now_s)
    passed = [bool(stream.take(status.message, status.frames, now_s)) for now_s in (4.0, 4.3, 4.5)]
    assert passed == [False, False, True]  # it began with frame 5, at 2.4 s


def test_a_second_publisher_has_a_session_of_its_own_under_the_same_name() -> None:
    reader = heard(SecondPublisher(frame=5, frames=4))
    ours, theirs = reader.of(SessionStart)
    assert (theirs.instrument, theirs.energy_axis) == (ours.instrument, AXIS)
    assert theirs.session != ours.session
    assert [frames for frames in reader.frames if frames in UNDISTURBED] == UNDISTURBED
    assert [seq for seq, _ in reader.spectra(theirs.session)] == [0, 1, 2, 3]
    assert {frames[0] for frames in reader.frames} == {frames[0] for frames in UNDISTURBED}
    order = [(m.session, m.seq) for m in reader.of(Spectrum)][4:10]
    assert order == [
        *[("session", 4), ("session", 5), (theirs.session, 0), ("session", 6), (theirs.session, 1), ("session", 7)]
    ]


def test_what_is_not_the_instruments_own_is_not_told_to_late_joiners() -> None:
    faults = (
        *(SecondPublisher(frame=5), RandomBytes(frame=7), Truncated(frame=9), BadCounts(frame=11), Dropped(frame=13)),
        *(WrongAxis(frame=15, energy_axis=OTHER_AXIS), Zero(frame=17), Duplicated(frame=19)),
    )
    stream = FaultyStream(fitted(FaultScript(faults), PLAN))
    sent = [s for m in session() for s in stream.take(m.message, m.frames, m.now_s)]
    told = [s.message for s in sent if s.remembered and s.message is not None]
    assert [m.session for m in told if isinstance(m, SessionStart)] == ["session"]
    assert {m.energy_axis for m in told if isinstance(m, SessionStart)} == {AXIS}
    seqs = [m.seq for m in told if isinstance(m, Spectrum)]
    assert seqs == [*every_frame_but(9, 11, 13, *range(20, FRAMES)), 19, *range(20, FRAMES)]
    assert {m.session for m in told if isinstance(m, Spectrum)} == {"session"}
    for one in sent:
        if one.message is not None:
            assert decode(one.frames).message == one.message


def test_frames_and_times_count_on_over_a_restart() -> None:
    script = FaultScript((Restart(frame=10), Dropped(frame=12), Restart(frame=15), Zero(at_s=7.0), Dropped(frame=20)))
    stream = FaultyStream(script)
    sent = []
    assert (stream.restart_frame, stream.restart_s) == (10, None)
    for number, (frames, until) in enumerate([(10, 5), (5, None), (10, None)]):
        messages = session(frames, f"session-{number}", ended=False)
        sent += [s.frames for m in messages for s in stream.take(m.message, m.frames, m.now_s)]
        if number < 2:
            stream.restarted(frames, DWELL_S * frames)
        assert stream.restart_frame == until
    reader = Heard(sent)
    assert [seq for seq, _ in reader.spectra("session-0")] == [*range(10)]
    assert [seq for seq, _ in reader.spectra("session-1")] == [0, 1, 3, 4]
    assert [seq for seq, _ in reader.spectra("session-2")] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [seq for seq, payload in reader.spectra("session-2") if not payload.any()] == [2]  # frame 17 ends at 7.2 s


def test_a_restart_by_time_counts_from_the_session_before_it() -> None:
    stream = FaultyStream(FaultScript((Restart(at_s=8.0), Restart(at_s=2.0))))
    assert (stream.restart_frame, stream.restart_s) == (None, 2.0)
    stream.restarted(4, 2.0)
    assert stream.restart_s == 6.0


def test_what_a_dying_instrument_holds_back_never_comes() -> None:
    stream = FaultyStream(FaultScript((Late(frame=3, by_frames=20), Restart(frame=5))))
    for m in session(5, ended=False):
        stream.take(m.message, m.frames, m.now_s)
    stream.restarted(5, 2.0)
    reader = Heard([s.frames for m in session(5, "anew") for s in stream.take(m.message, m.frames, m.now_s)])
    assert {m.session for m in reader.of(Spectrum)} == {"anew"}


def ordered(**what: Any) -> Command:
    return Command(session="session", seq=0, sent_mono_ns=0, expires_mono_ns=1, **what)


def test_commands_are_misheard_on_its_frames_and_where_they_order_something() -> None:
    stream = FaultyStream(FaultScript((OtherThanOrdered(frame=5, frames=2, dwell_factor=2.0, current_factor=0.5),)))
    both = ordered(dwell_s=0.4, beam_current_pA=100.0, blanked=False, lease_s=9.0)
    misheard = both.model_copy(update={"dwell_s": 0.8, "beam_current_pA": 50.0})
    assert [stream.misheard(both, frame, 0.0) for frame in (4, 5, 6, 7)] == [both, misheard, misheard, both]
    blank = ordered(blanked=True)
    assert stream.misheard(blank, 5, 0.0) == blank


def test_by_time_commands_are_misheard_from_that_time_on() -> None:
    stream = FaultyStream(FaultScript((OtherThanOrdered(at_s=3.0, frames=2, dwell_factor=2.0),)))
    order = ordered(dwell_s=0.4)
    dwells = [stream.misheard(order, frame, now_s).dwell_s for frame, now_s in [(6, 2.9), (7, 3.0), (8, 3.3), (9, 3.7)]]
    assert dwells == [0.4, 0.8, 0.8, 0.4]


# What comes into force is said


def test_each_fault_is_said_once_when_it_comes_into_force() -> None:
    stream = FaultyStream(FaultScript((Zero(frame=9), Dropped(frame=3, frames=2))))
    lines = []
    for m in session():
        stream.take(m.message, m.frames, m.now_s)
        lines += stream.begun()
    assert lines == ["fault 2 (dropped): from frame 3 on", "fault 1 (zero): from frame 9 on"]


# Times


@given(st.floats(0, ENDS_S[-1]))
@examples(100)
def test_a_time_means_the_first_frame_that_ends_at_it_or_after(at_s: float) -> None:
    expected = next(frame for frame, end_s in enumerate(ENDS_S) if end_s >= at_s * SAME_TIME)
    assert fitted(FaultScript((Zero(at_s=at_s),)), PLAN).faults[0].frame == expected
    met = FaultyStream(FaultScript((Zero(at_s=at_s),)))  # where the dwell may change, it is met as it comes
    reader = Heard([s.frames for m in session() for s in met.take(m.message, m.frames, m.now_s)])
    assert [seq for seq, payload in reader.spectra() if not payload.any()] == [expected]


@pytest.mark.parametrize("dwell_s", [0.1, 0.4, 0.08, 1 / 3])
def test_rounded_sums_of_dwells_are_the_times_that_one_reckons_with(dwell_s: float) -> None:
    plan = SessionPlan(AXIS, 200, np.cumsum(np.full(200, dwell_s)).tolist())
    for frame in range(1, 150):
        silence = Silence(at_s=(frame + 1) * dwell_s, for_s=50 * dwell_s)
        [placed] = fitted(FaultScript((silence,)), plan).faults
        assert isinstance(placed, Silence)
        assert (placed.frame, placed.frames) == (frame, 50)


# Scripts


def written(folder: Path, text: str) -> Path:
    file = folder / "faults.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_script_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        seed = 7
        [[fault]]
        kind = "dropped"
        frame = 20
        frames = 3
        [[fault]]
        kind = "silence"
        at_s = 12
        for_s = 1.5
        [[fault]]
        kind = "wrong_axis"
        frame = 2
        energy_axis = { offset_eV = 400.0, dispersion_eV = 0.1, size = 16 }
        """,
    )
    script = read_script(file)
    assert (script.seed, script.name) == (7, "faults.toml")
    assert script.faults == (
        *(Dropped(frame=20, frames=3), Silence(at_s=12.0, for_s=1.5)),
        WrongAxis(frame=2, energy_axis=OTHER_AXIS),
    )
    assert script_for(None, PLAN) == FaultScript()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "faults.toml has 0 faults"),
        ("[[fault]", "is not TOML"),
        ("seed = -1\n[[fault]]\nkind='zero'\nframe=1", "seed is -1"),
        ("seed = true\n[[fault]]\nkind='zero'\nframe=1", "seed is True"),
        ("fault = 3", "'fault' must be tables"),
        ("faults = 3", "'faults' is nothing that a script of faults has"),
        ("[[fault]]\nframe = 1", "fault 1: kind is missing; known are random_bytes"),
        ("[[fault]]\nkind = 'droped'\nframe = 1", "fault 1: there is no fault 'droped'; known are random_bytes"),
        ("[[fault]]\nkind = 3\nframe = 1", "fault 1: there is no fault 3"),
        ("[[fault]]\nkind='zero'\nframe=1\n[[fault]]\nkind='zero'\nfram=9", "fault 2 (zero): fram is no key of this"),
        ("[[fault]]\nkind = 'zero'", "fault 1 (zero): give frame or at_s, one of the two."),
        ("[[fault]]\nkind = 'zero'\nframe = 1\nat_s = 1.0", "fault 1 (zero): give frame or at_s, one of the two."),
        ("[[fault]]\nkind = 'zero'\nframe = -1", "fault 1 (zero): frame is -1, and it should be greater"),
        ("[[fault]]\nkind = 'zero'\nframe = 1.5", "fault 1 (zero): frame is 1.5"),
        ("[[fault]]\nkind = 'zero'\nframe = true", "fault 1 (zero): frame is True"),
        ("[[fault]]\nkind = 'zero'\nframe = '1'", "fault 1 (zero): frame is '1'"),
        ("[[fault]]\nkind = 'zero'\nat_s = nan", "fault 1 (zero): at_s is nan"),
        ("[[fault]]\nkind = 'zero'\nat_s = inf", "fault 1 (zero): at_s is inf"),
        ("[[fault]]\nkind = 'zero'\nframe = 1\nframes = 0", "fault 1 (zero): frames is 0"),
        ("[[fault]]\nkind = 'reordered'\nframe = 1\nframes = 1", "fault 1 (reordered): frames is 1"),
        ("[[fault]]\nkind = 'burst'\nframe = 1", "fault 1 (burst): frames is missing."),
        ("[[fault]]\nkind = 'restart'\nframe = 1\nframes = 2", "fault 1 (restart): frames is no key of this fault"),
        ("[[fault]]\nkind = 'silence'\nframe = 1", "fault 1 (silence): give frames or for_s, one of the two."),
        ("[[fault]]\nkind = 'silence'\nframe = 1\nfor_s = 0", "fault 1 (silence): for_s is 0"),
        ("[[fault]]\nkind = 'bad_counts'\nframe = 1\nvalue = 'big'", "fault 1 (bad_counts): value is 'big'"),
        ("[[fault]]\nkind = 'wrong_shape'\nframe = 1", "fault 1 (wrong_shape): channels is missing."),
        (
            "[[fault]]\nkind = 'wrong_axis'\nframe = 1\nenergy_axis = { offset_ev = 1.0 }",
            "fault 1 (wrong_axis): energy_axis: offset_ev is no key of an energy axis.",
        ),
        (
            "[[fault]]\nkind = 'other_than_ordered'\nframe = 1",
            "(other_than_ordered): give dwell_factor or current_factor",
        ),
        ("[[fault]]\nkind = 'other_than_ordered'\nframe = 1\ndwell_factor = nan", "dwell_factor is nan"),
    ],
)
def test_a_script_that_says_something_else_is_refused_in_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_script(written(tmp_path, text))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_script_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml can't be read: No such file"):
        read_script(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("faults", "plan", "sentence"),
    [
        ([Zero(frame=40)], PLAN, "fault 1 (zero): it takes frame 40, and the session's last is 39."),
        ([Zero(frame=39, frames=2)], PLAN, "fault 1 (zero): it takes frames 39 to 40, and the session's last is 39."),
        (
            [Late(frame=38, by_frames=2)],
            PLAN,
            "fault 1 (late): it takes frames 38 to 40, and the session's last is 39.",
        ),
        ([Zero(at_s=16.1)], PLAN, "fault 1 (zero): at_s is 16.1, and the session ends after 16 s."),
        (
            [Silence(frame=30, for_s=5.0)],
            PLAN,
            "fault 1 (silence): it lasts until 17.4 s, and the session ends after 16 s.",
        ),
        ([Frozen(frame=0)], PLAN, "fault 1 (frozen): it falls on frame 0, and needs one before it."),
        ([Restart(at_s=0.3)], PLAN, "fault 1 (restart): it falls on frame 0, and needs one before it."),
        ([Restart(frame=0)], COMMANDED, "fault 1 (restart): it falls on frame 0, and needs one before it."),
        (
            [Zero(frame=20, frames=5), Dropped(frame=10), Late(frame=16, frames=2, by_frames=3)],
            PLAN,
            "fault 3 (late): frames 16 to 20 overlaps with fault 1 (zero), which takes frames 20 to 24.",
        ),
        (
            [Zero(frame=20), Dropped(at_s=8.4)],
            PLAN,
            "fault 2 (dropped): frame 20 overlaps with fault 1 (zero), which takes frame 20.",
        ),
        (
            [Silence(at_s=4.0, for_s=2.0), Zero(frame=13)],
            PLAN,
            "fault 2 (zero): frame 13 overlaps with fault 1 (silence), which takes frames 9 to 13.",
        ),
        (
            [Zero(frame=20, frames=9), Dropped(frame=28)],
            COMMANDED,
            "fault 2 (dropped): frame 28 overlaps with fault 1 (zero), which takes frames 20 to 28.",
        ),
        (
            [OtherThanOrdered(frame=1, frames=3, dwell_factor=2.0), OtherThanOrdered(frame=3, dwell_factor=2.0)],
            COMMANDED,
            "fault 2 (other_than_ordered): frame 3 overlaps with fault 1 (other_than_ordered), which takes frames 1 to 3.",
        ),
        (
            [WrongShape(frame=1, channels=16)],
            PLAN,
            "fault 1 (wrong_shape): channels is 16, as in the session: nothing would be wrong.",
        ),
        (
            [WrongAxis(frame=1, energy_axis=AXIS)],
            PLAN,
            "fault 1 (wrong_axis): energy_axis is the session's, 424.0 to 425.5 eV at 0.1 eV: nothing would be wrong.",
        ),
        (
            [BadCounts(frame=1, in_channels=17)],
            PLAN,
            "fault 1 (bad_counts): in_channels is 17, and the session has 16 channels.",
        ),
        (
            [OtherThanOrdered(frame=1, dwell_factor=2.0)],
            PLAN,
            "fault 1 (other_than_ordered): this instrument takes no commands: give --obey, or --responsive for a recording.",
        ),
        (
            [OtherThanOrdered(frame=1, current_factor=2.0)],
            SessionPlan(AXIS, None, None, obeys=True, current_is_known=False),
            "fault 1 (other_than_ordered): current_factor is given, and the current is unknown here, so none can be ordered.",
        ),
    ],
)
def test_what_cannot_come_to_pass_in_a_session_is_refused(
    faults: list[Fault], plan: SessionPlan, sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        fitted(FaultScript(tuple(faults), name="faults.toml"), plan)
    assert str(refused.value) == f"faults.toml: {sentence}"


@pytest.mark.parametrize(
    "faults",
    [
        [Zero(frame=39)],
        [Zero(at_s=16.0)],
        [Late(frame=38, by_frames=1)],
        [Silence(frame=30, for_s=4.0)],
        [Dropped(frame=10, frames=5), Zero(frame=15), Late(frame=5, frames=2, by_frames=3)],
    ],
)
def test_what_just_fits_is_taken(faults: list[Fault]) -> None:
    fitted(FaultScript(tuple(faults)), PLAN)


def test_commands_and_spectra_may_go_wrong_on_the_same_frame() -> None:
    fitted(FaultScript((Zero(frame=5), OtherThanOrdered(frame=5, dwell_factor=2.0))), COMMANDED)


def test_where_the_dwell_may_change_times_stay_times() -> None:
    script = FaultScript((Zero(at_s=1.0), Silence(at_s=1e6, for_s=5.0), Dropped(at_s=1.0)))
    assert fitted(script, COMMANDED) == script


def test_every_kind_of_fault_is_known_by_its_own_name() -> None:
    assert {kind: fault.KIND for kind, fault in KINDS.items()} == {kind: kind for kind in KINDS}
    assert len(KINDS) == 18


PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "try-faults.md").read_text(encoding="utf-8")


def test_the_script_on_the_page_can_be_flown(tmp_path: Path) -> None:
    text = PAGE.split("```toml\n")[1].split("```")[0]
    plan = SessionPlan(load_preset("srtio3-300kV").energy_axis, 160, np.cumsum(np.full(160, 0.4)).tolist())
    script = fitted(read_script(written(tmp_path, text)), plan)
    assert [(fault.KIND, fault.frame) for fault in script.faults] == [
        *(("dropped", 20), ("dropped", 40), ("bad_counts", 60), ("frozen", 80), ("restart", 110))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_tells_of_every_kind_and_all_that_it_takes(kind: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}`")]
    own = set(KINDS[kind].model_fields) - {"frame", "at_s", "frames"}
    assert [name for name in own if f"`{name}`" not in row] == []
