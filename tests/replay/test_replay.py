"""`eelstm sim replay`: a recording on the wire, whole, in order, and in its own time."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.recordings import load_recording, save_recording
from eelstm_stream.wire.codec import Decoded, decode, encode_snapshot_request
from eelstm_stream.wire.messages import Gap, SessionEnd, SessionStart, SnapshotReply, Spectrum
from tests.paper_layout import PAPER_FILES, strontium_titanate
from tests.programs import ANY_PORT, WITHIN_S, Ears, let_pass, pause
from tests.simulated_runs import simulated

INSTRUMENT = ("session", "spectrum")


@contextmanager
def replay(file: Path, *arguments: str) -> Iterator[tuple[Child, dict[str, str]]]:
    """A running replay, and where it publishes and answers."""
    with Child("sim", "replay", str(file), "--publish", ANY_PORT, "--snapshot", ANY_PORT, *arguments) as simulator:
        yield simulator, simulator.wait_until_ready()


@contextmanager
def heard_replay(file: Path, *arguments: str) -> Iterator[tuple[Child, dict[str, str], Ears]]:
    """A replay that starts when the test listens."""
    with replay(file, "--wait-readers", "1", *arguments) as (simulator, at), Ears(INSTRUMENT, at["publish"]) as ears:
        yield simulator, at, ears


def parts(heard: list[Decoded]) -> tuple[SessionStart, list[Spectrum], np.ndarray, SessionEnd]:
    """Start, spectra, their counts and end of a session without gaps."""
    start, *middle, end = (decoded.message for decoded in heard)
    spectra = [message for message in middle if isinstance(message, Spectrum)]
    assert isinstance(start, SessionStart)
    assert isinstance(end, SessionEnd)
    assert len(spectra) == len(middle)
    assert {message.session for message in (*spectra, end)} == {start.session}
    return start, spectra, np.array([d.payload for d in heard if d.payload is not None]), end


# What is played


@pytest.mark.parametrize("number", range(3))
def test_the_papers_recordings_come_whole_and_in_order(paper_recordings: list[Path], number: int) -> None:
    frames = list(PAPER_FILES.values())[number]
    with heard_replay(paper_recordings[number], "--speed", "max") as (simulator, _, ears):
        start, spectra, counts, end = parts(ears.session())
        assert simulator.process.wait(WITHIN_S) == 0
    energies_eV = 424.0 + 0.1 * np.arange(2048)
    written = strontium_titanate(frames, energies_eV, np.random.default_rng(number))
    np.testing.assert_array_equal(counts, written)
    assert [s.seq for s in spectra] == list(range(frames))
    assert {(s.dwell_s, s.beam_current_pA, s.dose_pC, s.dtype) for s in spectra} == {(0.4, None, None, "<f4")}
    assert (end.reason, end.spectra) == ("finished", frames)
    assert start.source == "replay"
    assert start.source_name == paper_recordings[number].name
    assert start.instrument == "microscope"
    assert start.specimen == "SrTiO3"
    assert (start.energy_axis.offset_eV, start.energy_axis.size) == (pytest.approx(424.0, abs=1e-4), 2048)
    assert start.energy_axis.dispersion_eV == pytest.approx(0.1)
    assert (start.dwell_s, start.beam_energy_keV, start.expected_spectra) == (0.4, 300.0, frames)
    assert (start.convergence_mrad, start.collection_mrad) == (30.0, 48.0)
    assert start.beam_current_pA is None
    assert start.dose_is_relative
    assert start.clock_id == clock.clock_id()


@pytest.mark.real
def test_a_real_line_scan_comes_whole_and_in_order(real_data: Path) -> None:
    file = real_data / "linescan_100x2048_high-loss.dm3"
    with heard_replay(file, "--speed", "max") as (_, _, ears):
        start, spectra, counts, end = parts(ears.session())
    np.testing.assert_array_equal(counts, load_recording(file).counts)
    assert [s.seq for s in spectra] == list(range(100))
    assert (start.energy_axis.offset_eV, start.energy_axis.dispersion_eV) == (pytest.approx(400.0), pytest.approx(0.25))
    assert (start.dwell_s, start.beam_energy_keV) == (pytest.approx(0.2, abs=1e-4), pytest.approx(300.0))
    assert (end.reason, end.spectra) == ("finished", 100)


def test_current_and_dwell_can_be_given_and_make_the_dose(paper_recordings: list[Path]) -> None:
    arguments = ("--speed", "max", "--spectra", "3", "--dwell", "0.5", "--current", "200")
    with heard_replay(paper_recordings[0], *arguments) as (_, _, ears):
        start, spectra, _, _ = parts(ears.session())
    assert (start.dwell_s, start.beam_current_pA, start.dose_is_relative) == (0.5, 200.0, False)
    assert {(s.dwell_s, s.beam_current_pA, s.dose_pC) for s in spectra} == {(0.5, 200.0, 100.0)}


def test_each_pass_of_a_loop_is_a_session_of_its_own(paper_recordings: list[Path]) -> None:
    with heard_replay(paper_recordings[0], "--speed", "max", "--loop", "--spectra", "300") as (simulator, _, ears):
        sessions = [parts(ears.session()) for _ in range(3)]
        assert simulator.process.wait(WITHIN_S) == 0
    assert [len(spectra) for _, spectra, _, _ in sessions] == [120, 120, 60]
    assert [(end.reason, end.spectra) for *_, end in sessions] == [
        ("finished", 120),
        ("finished", 120),
        ("stopped", 60),
    ]
    assert len({start.session for start, *_ in sessions}) == 3
    np.testing.assert_array_equal(sessions[1][2], sessions[0][2])


def test_a_time_limit_ends_it_in_the_middle_of_an_exposure(paper_recordings: list[Path]) -> None:
    with heard_replay(paper_recordings[0], "--dwell", "3600", "--seconds", "0.2") as (simulator, _, ears):
        _, spectra, _, end = parts(ears.session())
        assert simulator.process.wait(WITHIN_S) == 0
    assert (spectra, end.reason, end.spectra) == ([], "stopped", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_the_session_and_itself(paper_recordings: list[Path], number: signal.Signals) -> None:
    with heard_replay(paper_recordings[0], "--loop", "--speed", "20") as (simulator, _, ears):
        ears.until(lambda m: isinstance(m, Spectrum) and m.seq == 3)
        simulator.process.send_signal(number)
        end = ears.until(lambda m: isinstance(m, SessionEnd))[-1].message
        assert simulator.process.wait(WITHIN_S) == 0
    assert isinstance(end, SessionEnd)
    assert end.reason == "stopped"


# When it is played


def test_it_waits_for_as_many_readers_as_it_was_told(paper_recordings: list[Path]) -> None:
    arguments = ("--speed", "max", "--spectra", "20", "--wait-readers", "2")
    with replay(paper_recordings[0], *arguments) as (_, at), Ears(INSTRUMENT, at["publish"]) as first:
        reply, messages = snapshot(at, encode_snapshot_request(8))
        assert (reply.messages, reply.refused, messages) == (0, None, [])
        with Ears(INSTRUMENT, at["publish"]) as second:
            for ears in (first, second):
                _, spectra, _, _ = parts(ears.session())
                assert [s.seq for s in spectra] == list(range(20))


def test_spectra_come_at_the_end_of_their_exposures_on_deadlines_that_do_not_drift(tmp_path: Path) -> None:
    series = simulated(30, seed=1)
    dwells_s = np.tile([0.4, 0.1, 0.8], 10)
    currents_pA = np.tile([230.0, 100.0], 15)
    save_recording(replace(series, dwell_s=dwells_s, beam_current_pA=currents_pA), tmp_path / "varied.hspy")
    with heard_replay(tmp_path / "varied.hspy", "--speed", "10") as (_, _, ears):
        start, *heard = ears.session()
    assert isinstance(start.message, SessionStart)
    assert start.message.source == "simulation"  # a recording of a simulation stays one
    ends_s = np.cumsum(dwells_s)
    published = [
        d for d in heard if isinstance(d.message, Spectrum)
    ]  # all, unless this machine stood still for a second
    for decoded in published:
        spectrum = decoded.message
        end_s, dwell_s, current_pA = ends_s[spectrum.seq], dwells_s[spectrum.seq], currents_pA[spectrum.seq]
        assert abs(spectrum.acquired_until - start.message.started_at - timedelta(seconds=end_s)) <= TWO_US
        assert abs(spectrum.acquired_until - spectrum.acquired_at - timedelta(seconds=dwell_s)) <= TWO_US
        assert (spectrum.dwell_s, spectrum.beam_current_pA) == (dwell_s, current_pA)
        assert spectrum.dose_pC == pytest.approx(dwell_s * current_pA)
        assert spectrum.sent_mono_ns - start.message.sent_mono_ns >= end_s / 10 * 1e9  # not before its exposure is over
        np.testing.assert_array_equal(decoded.payload, series.counts[spectrum.seq])
    assert published


TWO_US = timedelta(microseconds=2)  # times on the wire are whole microseconds


def test_what_the_instruments_time_passed_over_is_said_to_be_a_gap(paper_recordings: list[Path]) -> None:
    speed, pause_s, frames = 20, 1.5, 120
    with heard_replay(paper_recordings[0], "--speed", str(speed)) as (simulator, _, ears):
        heard = ears.until(lambda m: isinstance(m, Spectrum) and m.seq == 5)
        pause(simulator.process)
        let_pass(pause_s)
        simulator.process.send_signal(signal.SIGCONT)
        heard += ears.until(lambda m: isinstance(m, SessionEnd))
    start, *middle, end = (decoded.message for decoded in heard)
    covered: list[int] = []
    gaps = [message for message in middle if isinstance(message, Gap)]
    for message in middle:
        if isinstance(message, Gap):
            covered += range(message.first_seq, message.last_seq + 1)
        else:
            covered.append(message.seq)
            assert message.sent_mono_ns - start.sent_mono_ns >= (message.seq + 1) * 0.4 / speed * 1e9
    assert covered == list(range(frames))  # each once, in order: published or said to be lost
    longest = max(gap.last_seq - gap.first_seq + 1 for gap in gaps)
    assert longest >= min(int(pause_s * speed / 0.4) - 1, frames - gaps[-1].first_seq)
    announcements = [message.seq for message in (start, *gaps, end)]
    assert all(later > earlier for earlier, later in pairwise(announcements))
    assert isinstance(end, SessionEnd)
    assert (end.reason, end.spectra) == ("finished", len(middle) - len(gaps))


def test_at_full_speed_a_slow_reader_loses_nothing(paper_recordings: list[Path]) -> None:
    passes = 30
    arguments = ("--speed", "max", "--loop", "--spectra", str(passes * 120), "--wait-readers", "1")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with replay(paper_recordings[0], *arguments) as (simulator, at):
        slow = context.socket(zmq.SUB)
        slow.setsockopt(zmq.RCVHWM, 10)
        slow.setsockopt(zmq.SUBSCRIBE, b"microscope.session.")
        slow.setsockopt(zmq.SUBSCRIBE, b"microscope.spectrum.")
        slow.connect(at["publish"])
        before = None
        while (newest := newest_known(at)) is None or newest != before:  # until it stands still
            before = newest
            let_pass(0.3)
        assert simulator.is_running
        numbers = []
        for _ in range(passes):
            session = []
            while not session or not isinstance(session[-1].message, SessionEnd):
                assert slow.poll(WITHIN_S * 1000)
                session.append(decode(slow.recv_multipart()))
            numbers.append([s.seq for s in parts(session)[1]])
        assert simulator.process.wait(WITHIN_S) == 0
    context.destroy(linger=0)
    assert numbers == [list(range(120))] * passes


def newest_known(at: dict[str, str]) -> tuple[str, int] | None:
    """Session and number of the newest spectrum that the simulator has sent."""
    _, messages = snapshot(at, encode_snapshot_request(1))
    return (messages[-1].message.session, messages[-1].message.seq) if len(messages) == 2 else None


# Late joiners


def snapshot(at: dict[str, str], *request: bytes) -> tuple[SnapshotReply, list[Decoded]]:
    """What the simulator answers."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as asker:
        asker.setsockopt(zmq.LINGER, 0)
        asker.connect(at["snapshot"])
        asker.send_multipart(request)
        assert asker.poll(WITHIN_S * 1000), "no answer"
        header, *frames = asker.recv_multipart()
    messages = [decode(frames[i : i + 3]) for i in range(0, len(frames), 3)]
    return SnapshotReply.model_validate_json(header), messages


@pytest.fixture(scope="module")
def long_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[np.ndarray, dict[str, str]]]:
    """A session in which 300 spectra have come, and the next one won't for an hour."""
    series = simulated(302, seed=1)
    dwell_s = np.full(302, 0.001)
    dwell_s[300:] = 3600.0
    file = tmp_path_factory.mktemp("long") / "long.hspy"
    save_recording(replace(series, dwell_s=dwell_s), file)
    with heard_replay(file) as (_, at, ears):
        ears.until(lambda m: isinstance(m, Spectrum) and m.seq == 299)
        yield series.counts, at


@pytest.mark.parametrize("wanted", [0, 1, 8, 256])
def test_a_late_joiner_is_told_the_session_and_its_newest_spectra(
    long_session: tuple[np.ndarray, dict[str, str]], wanted: int
) -> None:
    counts, at = long_session
    reply, [start, *spectra] = snapshot(at, encode_snapshot_request(wanted))
    assert (reply.messages, reply.refused) == (1 + wanted, None)
    assert isinstance(start.message, SessionStart)
    assert [decoded.message.seq for decoded in spectra] == list(range(300 - wanted, 300))
    assert {decoded.message.session for decoded in spectra} <= {start.message.session}
    for decoded in spectra:
        np.testing.assert_array_equal(decoded.payload, counts[decoded.message.seq])


def request(**changes: Any) -> bytes:
    return json.dumps({"schema": "eelstm.snapshot_request/1", "spectra": 8} | changes).encode()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([b""], "not a header"),
        ([b"\xff\xfe\x00garbage"], "not a header"),
        ([b"[" * 30_000], "not a header"),
        ([b"null"], "not a header"),
        ([b"{}"], "no named schema"),
        ([request(schema="eelstm.snapshot_request/2")], "eelstm.snapshot_request/2"),
        ([request(spectra=-1)], "spectra"),
        ([request(spectra=257)], "spectra"),
        ([request(spectra=1e400)], "spectra"),
        ([request(spectra="8")], "spectra"),
        ([request(spectrum=8)], "spectrum"),  # a field that it doesn't know: this is a command
        ([request(), b""], "1 frame"),
        ([request()] * 50, "1 frame"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason_and_the_next_one_answered(
    long_session: tuple[np.ndarray, dict[str, str]], frames: list[bytes], said: str
) -> None:
    _, at = long_session
    reply, messages = snapshot(at, *frames)
    assert (reply.messages, messages) == (0, [])
    assert said in (reply.refused or "")
    assert snapshot(at, request())[0].messages == 9


def test_a_reader_that_goes_away_or_never_reads_harms_nobody(
    long_session: tuple[np.ndarray, dict[str, str]],
) -> None:
    _, at = long_session
    with zmq.Context() as context:
        for _ in range(20):
            with context.socket(zmq.DEALER) as asker:
                asker.setsockopt(zmq.LINGER, 0)
                asker.setsockopt(zmq.RCVHWM, 1)
                asker.connect(at["snapshot"])
                for _ in range(20):
                    asker.send(request(spectra=256))
    assert snapshot(at, request())[0].messages == 9


# Ends


def test_without_a_reader_it_plays_all_the_same(paper_recordings: list[Path]) -> None:
    with replay(paper_recordings[0], "--speed", "max") as (simulator, _):
        assert simulator.process.wait(WITHIN_S) == 0
        assert simulator.last_words() == "eelstm sim: ended after 120 spectra"


def test_it_ends_with_the_program_that_started_it(paper_recordings: list[Path]) -> None:
    with heard_replay(paper_recordings[0], "--loop") as (simulator, _, ears):
        ears.next_frames()
        assert simulator.process.stdin is not None
        simulator.process.stdin.close()
        assert simulator.process.wait(WITHIN_S) == 0
