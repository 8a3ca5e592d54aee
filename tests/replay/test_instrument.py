"""The live instrument as a process: commands over real sockets, leases that end by themselves, recordings in closed loop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from acquisition_sim.presets import load_preset
from acquisition_sim.simulated_run import exposed
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.instrument_client import CommandResult, InstrumentClient
from eelstm_stream.io.recordings import load_recording
from eelstm_stream.io.truth import read_truth
from eelstm_stream.wire.codec import Decoded, decode_acknowledgement, encode_command, encode_snapshot_request
from eelstm_stream.wire.messages import (
    Acknowledgement,
    Command,
    Gap,
    InstrumentStatus,
    Message,
    SessionEnd,
    SessionStart,
    Spectrum,
)
from tests.programs import ANY_PORT, WITHIN_S, Ears, let_pass, pause, run

KINDS = ("session", "spectrum", "status")
PORTS = ("--publish", ANY_PORT, "--snapshot", ANY_PORT)
SPEED = 20  # the instrument's seconds in one of ours


@dataclass
class Cockpit:
    """An instrument that obeys, heard and commanded by the test."""

    simulator: Child
    at: dict[str, str]
    ears: Ears
    client: InstrumentClient
    start: SessionStart
    seq: int = 0
    heard: list[Decoded] = field(default_factory=list)

    def until(self, wanted: Any) -> list[Message]:
        self.heard += (new := self.ears.until(wanted))
        return [decoded.message for decoded in new]

    def order(self, **what: Any) -> Command:
        self.seq += 1
        now_ns = clock.monotonic_ns()
        fields = {
            "session": self.start.session,
            "seq": self.seq,
            "sent_mono_ns": now_ns,
            "expires_mono_ns": now_ns + 9_000_000_000,
        }
        return Command(**(fields | what))

    def tell(self, **what: Any) -> CommandResult:
        return self.client.command(self.order(**what), WITHIN_S)

    def accepted(self, **what: Any) -> Acknowledgement:
        result = self.tell(**what)
        assert result.result == "accepted", result
        assert result.acknowledgement is not None
        return result.acknowledgement

    def refused(self, **what: Any) -> Acknowledgement:
        result = self.tell(**what)
        assert result.result == "refused", result
        assert result.acknowledgement is not None
        return result.acknowledgement

    def until_blanked(self, after_seq: int = 0) -> list[Message]:
        """Everything up to the status that says that the beam is off, after this many frames."""

        def is_it(message: Message) -> bool:
            if not isinstance(message, InstrumentStatus) or message.beam is None:
                return False
            return message.state == "blanked" and message.beam.next_seq >= after_seq

        return self.until(is_it)


@contextmanager
def cockpit(*arguments: str, speed: float = SPEED) -> Iterator[Cockpit]:
    """An instrument that waits for its reader, the test, and is blanked."""
    with ExitStack() as stack:
        command = ("sim", *arguments, "--speed", str(speed), "--wait-readers", "1", *PORTS, "--command", ANY_PORT)
        simulator = stack.enter_context(Child(*command))
        at = simulator.wait_until_ready()
        ears = stack.enter_context(Ears(KINDS, at["publish"]))
        client = stack.enter_context(InstrumentClient(at["command"]))
        start = ears.until(lambda m: isinstance(m, SessionStart))[-1].message
        assert isinstance(start, SessionStart)
        assert client.wait_until_connected(WITHIN_S)
        yield Cockpit(simulator, at, ears, client, start)


def spectra(messages: list[Message]) -> list[Spectrum]:
    return [message for message in messages if isinstance(message, Spectrum)]


# Leases


def test_it_is_blanked_until_it_is_let_on_and_blanks_itself_when_the_lease_ends() -> None:
    with cockpit("run", "--obey", "--fixed") as flown:
        [status] = flown.until(lambda m: isinstance(m, InstrumentStatus))
        assert (status.state, status.obeys, status.text) == (
            "blanked",
            True,
            "the beam is blanked: nothing was commanded yet",
        )
        limits = flown.start.commands
        assert limits is not None
        assert (limits.min_current_pA, limits.max_current_pA, limits.max_lease_s) == (1.0, 500.0, 60.0)
        answer = flown.accepted(blanked=False, dwell_s=0.2, beam_current_pA=100.0, lease_s=2.0)
        assert answer.beam is not None
        assert answer.beam.readback.blanked
        assert not answer.beam.ordered.blanked
        assert (answer.beam.ordered.dwell_s, answer.beam.ordered.beam_current_pA) == (0.2, 100.0)
        assert answer.running_session == flown.start.session
        heard = flown.until_blanked(after_seq=1)
        taken = spectra(heard)
        # The lease of 2 s has lost 0.1 s to the delay: nine whole frames, as it was commanded, and none in part.
        assert [(s.seq, s.dwell_s, s.beam_current_pA, s.dose_pC) for s in taken] == [
            (n, 0.2, 100.0, 20.0) for n in range(9)
        ]
        assert [s.dose_before_pC for s in taken] == pytest.approx([20.0 * n for n in range(9)])
        last = heard[-1]
        assert isinstance(last, InstrumentStatus)
        assert "and a frame takes 0.2 s" in last.text
        assert last.beam is not None
        assert (last.beam.lease, last.beam.dose_pC, last.beam.next_seq) == (None, pytest.approx(180.0), 9)


def test_numbers_go_on_over_a_rest_without_a_gap_and_time_does_too() -> None:
    with cockpit("run", "--obey", "--fixed") as flown:
        flown.accepted(blanked=False, lease_s=1.0)
        before = spectra(flown.until_blanked(after_seq=1))[-1]
        flown.accepted(blanked=False, lease_s=1.0)
        heard = flown.until(lambda m: isinstance(m, Spectrum))
        assert not any(isinstance(message, Gap) for message in heard)
        after = heard[-1]
        assert isinstance(after, Spectrum)
        assert after.seq == before.seq + 1
        assert after.acquired_at > before.acquired_until


def test_a_lease_ends_with_its_dose() -> None:
    with cockpit("run", "--obey", "--fixed") as flown:
        flown.accepted(blanked=False, lease_s=60.0, lease_until_dose_pC=500.0)
        heard = flown.until_blanked(after_seq=1)
        assert len(spectra(heard)) == 5  # of 92 pC
        assert "the lease ended at 500 pC" in heard[-1].text  # type: ignore[attr-defined]
        refused = flown.refused(blanked=False, lease_s=60.0, lease_until_dose_pC=500.0)
        assert refused.limit == "lease_until_dose_pC"


def test_blanking_cuts_a_frame_which_is_a_gap_and_its_dose_counts() -> None:
    with cockpit("run", "--obey", "--fixed", speed=1) as flown:
        flown.accepted(blanked=False, dwell_s=0.5, lease_s=60.0)
        flown.until(lambda m: isinstance(m, Spectrum))
        answer = flown.accepted(dwell_s=10.0)
        assert answer.beam is not None
        long_seq = answer.beam.holds_from_seq
        flown.until(lambda m: isinstance(m, Spectrum) and m.seq == long_seq - 1)  # and so that frame has begun
        flown.accepted(blanked=True)
        heard = flown.until_blanked(after_seq=1)
        [gap] = [message for message in heard if isinstance(message, Gap)]
        assert (gap.first_seq, gap.last_seq, gap.reason) == (
            long_seq,
            long_seq,
            "the beam was blanked during this frame",
        )
        last = heard[-1]
        assert isinstance(last, InstrumentStatus)
        assert last.beam is not None
        assert last.text == "the beam is blanked: it was commanded"
        assert long_seq * 115 < (last.beam.dose_pC or 0) < long_seq * 115 + 2300


def test_a_commander_that_dies_leaves_a_beam_that_ends_by_itself() -> None:
    with cockpit("run", "--obey", "--fixed") as flown:
        flown.accepted(blanked=False, lease_s=3.0)
        flown.client.close()
        assert len(spectra(flown.until_blanked(after_seq=1))) == 7


def test_an_instrument_that_stood_still_had_its_lease_end_all_the_same() -> None:
    with cockpit("run", "--obey", "--fixed") as flown:
        flown.accepted(blanked=False, lease_s=10.0)
        flown.until(lambda m: isinstance(m, Spectrum))
        pause(flown.simulator.process)
        held_up = flown.order(blanked=False, lease_s=10.0, expires_mono_ns=clock.monotonic_ns() + 100_000_000)
        assert flown.client.submit(held_up)
        let_pass(2.0)  # 40 s of the instrument's
        os.kill(flown.simulator.process.pid, 18)  # SIGCONT
        heard = flown.until_blanked(after_seq=2)
        # What the lease covered was exposed, if not published; nothing beyond it was, and the late command did nothing.
        last = heard[-1]
        assert isinstance(last, InstrumentStatus)
        assert last.beam is not None
        assert last.beam.dose_pC == pytest.approx(24 * 92)
        lost = [(gap.first_seq, gap.last_seq) for gap in heard if isinstance(gap, Gap)]
        assert lost
        assert flown.client.socket.poll(WITHIN_S * 1000)
        late = flown.client.receive()
        assert late is not None
        assert (late.seq, late.outcome, late.limit) == (held_up.seq, "refused", "expired")


# Refusals


@pytest.fixture(scope="module")
def resting() -> Iterator[Cockpit]:
    """An instrument that stays blanked, since nobody lets it on."""
    with cockpit("run", "--obey", "--fixed", speed=1) as flown:
        yield flown


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ({"beam_current_pA": 501.0}, "max_current_pA"),
        ({"beam_current_pA": 0.5}, "min_current_pA"),
        ({"dwell_s": 10.5}, "max_dwell_s"),
        ({"dwell_s": 0.001}, "min_dwell_s"),
        ({"blanked": False, "lease_s": 61.0}, "max_lease_s"),
        ({"blanked": False, "lease_s": 0.1}, "lease_s"),
        ({"blanked": True, "session": "another"}, "session"),
        ({"dwell_s": 0.2, "seq": 0}, "seq"),
        ({"dwell_s": 0.2, "expires_mono_ns": 0}, "expired"),
        ({"dwell_s": 0.2, "expires_mono_ns": 2**62}, "expires_mono_ns"),
    ],
)
def test_what_can_not_be_obeyed_is_refused_with_its_reason_and_changes_nothing(
    resting: Cockpit, what: dict[str, Any], limit: str
) -> None:
    before = resting.accepted(beam_current_pA=200.0).beam
    answer = resting.refused(**what)
    assert answer.limit == limit
    assert len(answer.reason) > 20
    assert before is not None
    assert answer.beam is not None
    assert answer.beam.ordered == before.ordered


def test_a_command_that_was_taken_is_refused_when_it_comes_again(resting: Cockpit) -> None:
    order = resting.order(beam_current_pA=150.0)
    assert resting.client.command(order, WITHIN_S).result == "accepted"
    again = resting.client.command(order, WITHIN_S)
    assert again.acknowledgement is not None
    assert (again.result, again.acknowledgement.limit) == ("refused", "seq")


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([b""], "not a header"),
        ([b"\xff\xfe garbage"], "not a header"),
        ([b"[" * 60_000], "not a header"),
        ([b"{}"], "no named schema"),
        ([b'{"schema":"eelstm.command/2"}'], "eelstm.command/2"),
        ([b"", b'{"schema":"eelstm.command/1"}'], "1 frame"),
        ([b"x"] * 50, "1 frame"),
    ],
)
def test_garbage_is_refused_and_the_next_command_obeyed(resting: Cockpit, frames: list[bytes], said: str) -> None:
    resting.client.socket.send_multipart(frames)
    assert resting.client.socket.poll(WITHIN_S * 1000)
    answer = decode_acknowledgement(resting.client.socket.recv_multipart())
    assert (answer.outcome, answer.limit, answer.seq) == ("refused", "malformed", None)
    assert said in answer.reason
    resting.accepted(beam_current_pA=150.0)


@pytest.mark.parametrize("changes", [{"dwell_s": float("nan")}, {"beam_current_pA": 1e999}, {"slew_pA_per_s": 1.0}])
def test_a_command_that_is_malformed_is_refused_by_its_number(resting: Cockpit, changes: dict[str, Any]) -> None:
    fields = json.loads(encode_command(resting.order(dwell_s=0.4))) | changes
    resting.client.socket.send(json.dumps(fields).encode())
    assert resting.client.socket.poll(WITHIN_S * 1000)
    answer = decode_acknowledgement(resting.client.socket.recv_multipart())
    assert (answer.outcome, answer.limit, answer.seq) == ("refused", "malformed", resting.seq)


def test_an_oversize_command_ends_that_connection_and_no_other(resting: Cockpit) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(resting.at["command"])
        stranger.send(b"x" * 10_000_000)
        resting.accepted(beam_current_pA=150.0)


def test_a_flood_holds_up_neither_spectra_nor_other_commanders() -> None:
    with cockpit("run", "--obey", "--fixed") as flown, zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(flown.at["command"])
        for number in range(20_000):
            stranger.send(b"garbage" if number % 2 else encode_command(flown.order(blanked=True, session="no")))
            if number == 5000:
                flown.accepted(blanked=False, lease_s=20.0)
        flown.until(lambda m: isinstance(m, Spectrum) and m.seq == 30)
        taken = [d.message.seq for d in flown.heard if isinstance(d.message, Spectrum)]
        assert taken == list(range(31))
        assert flown.accepted(blanked=True).seq == flown.seq


def test_an_instrument_that_can_not_keep_up_with_its_time_still_answers() -> None:
    too_fast = ("sim", "run", "--frames", "1000000", "--speed", "1000000", "--wait-readers", "1")
    with Child(*too_fast, *PORTS) as simulator, zmq.Context() as context, context.socket(zmq.DEALER) as joiner:
        at = simulator.wait_until_ready()
        joiner.setsockopt(zmq.LINGER, 0)
        joiner.connect(at["snapshot"])
        with Ears(("spectrum",), at["publish"]) as ears:
            ears.until(lambda m: isinstance(m, Spectrum))
            joiner.send(encode_snapshot_request(1))
            assert joiner.poll(WITHIN_S * 1000)


# Who commands


def test_without_an_instrument_nothing_is_sent_and_it_is_not_sent_later(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/command"
    with InstrumentClient(endpoint) as client, zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        order = Command(session="s", seq=1, sent_mono_ns=0, expires_mono_ns=1, blanked=True)
        assert client.command(order, 0.1).result == "not_sent"
        server.setsockopt(zmq.LINGER, 0)
        server.bind(endpoint)
        assert client.wait_until_connected(WITHIN_S)
        later = order.model_copy(update={"seq": 2})
        assert client.command(later, 0.1).result == "unknown"
        assert server.recv_multipart()[1] == encode_command(later)
        assert not server.poll(0)


def test_without_an_answer_in_time_nothing_is_known_and_the_answer_belongs_to_no_later_command() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        server.setsockopt(zmq.LINGER, 0)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        with InstrumentClient(f"tcp://127.0.0.1:{port}") as client:
            assert client.wait_until_connected(WITHIN_S)
            first = Command(session="s", seq=1, sent_mono_ns=0, expires_mono_ns=1, blanked=True)
            assert client.command(first, 0.05).result == "unknown"
            sender, _ = server.recv_multipart()
            late = Acknowledgement(session="s", seq=1, sent_mono_ns=0, clock_id="c", outcome="accepted")
            server.send_multipart([sender, late.model_dump_json(by_alias=True, exclude_none=True).encode()])
            server.send_multipart([sender, b"garbage"])
            assert client.socket.poll(WITHIN_S * 1000)
            second = first.model_copy(update={"seq": 2})
            assert client.command(second, 0.2).result == "unknown"
            assert ([answer.seq for answer in client.late], client.malformed) == ([1], 1)
            assert not client.socket.poll(0)
            assert server.recv_multipart()[1] == encode_command(second)
            assert not server.poll(100)  # none was sent twice


# What it exposes


def test_without_obey_it_runs_as_it_is_and_the_same_seed_gives_the_recorded_bytes() -> None:
    with Child(
        "sim", "run", "--fixed", "--seed", "7", "--frames", "20", "--speed", "max", "--wait-readers", "1", *PORTS
    ) as simulator:
        at = simulator.wait_until_ready()
        assert "command" not in at
        with Ears(("session", "spectrum"), at["publish"]) as ears:
            start, *taken, end = ears.session()
        assert simulator.process.wait(WITHIN_S) == 0
    preset = load_preset("srtio3-300kV")
    recorded = exposed(preset, 7, np.full(20, preset.beam.dwell_s), preset.beam.current_pA)
    np.testing.assert_array_equal(np.array([decoded.payload for decoded in taken]), recorded.counts)
    assert isinstance(start.message, SessionStart)
    assert (start.message.commands, start.message.expected_spectra) == (None, 20)
    assert isinstance(end.message, SessionEnd)
    assert (end.message.reason, end.message.spectra) == ("finished", 20)


def test_each_session_of_a_loop_is_another_specimen() -> None:
    arguments = ("run", "--frames", "5", "--loop", "--spectra", "12", "--speed", "max", "--wait-readers", "1")
    with (
        Child("sim", *arguments, *PORTS) as simulator,
        Ears(("session", "spectrum"), simulator.wait_until_ready()["publish"]) as ears,
    ):
        sessions = [ears.session() for _ in range(3)]
        assert simulator.process.wait(WITHIN_S) == 0
    ends = [session[-1].message for session in sessions]
    assert [(end.reason, end.spectra) for end in ends if isinstance(end, SessionEnd)] == [
        ("finished", 5),
        ("finished", 5),
        ("stopped", 2),
    ]
    first, second = (session[1].payload for session in sessions[:2])
    assert first is not None
    assert second is not None
    assert not np.array_equal(first, second)


def test_the_truth_is_written_for_those_who_ask_and_is_what_was_flown(tmp_path: Path) -> None:
    truth = tmp_path / "truth.hspy"
    with cockpit("run", "--obey", "--preset", "fast", "--fixed", "--truth", str(truth)) as flown:
        flown.accepted(blanked=False, dwell_s=0.1, lease_s=2.0)
        flown.until_blanked(after_seq=1)
        flown.accepted(blanked=False, dwell_s=0.4, beam_current_pA=100.0, lease_s=2.0)
        flown.until_blanked(after_seq=20)
        flown.simulator.process.terminate()
        flown.until(lambda m: isinstance(m, SessionEnd))
        assert flown.simulator.process.wait(WITHIN_S) == 0
    recording = load_recording(truth)
    taken = [decoded for decoded in flown.heard if isinstance(decoded.message, Spectrum)]
    np.testing.assert_array_equal(recording.counts, [decoded.payload for decoded in taken])
    np.testing.assert_allclose(recording.dwell_s, [d.message.dwell_s for d in taken])  # type: ignore[union-attr]
    assert recording.phase is not None
    assert (np.diff(recording.phase) > 0).all()
    assert recording.clean_counts is not None
    outcome = read_truth(truth)
    told_pC = [
        m.beam.dose_pC for m in map(attrgetter("message"), flown.heard) if isinstance(m, InstrumentStatus) and m.beam
    ]
    assert outcome.dose_pC == pytest.approx(told_pC[-1])  # what was cut off by a blanker is in it
    assert outcome.phase > recording.phase[-1]
    assert outcome.dose_at(outcome.phase) == pytest.approx(outcome.dose_pC, rel=1e-4)
    assert outcome.dose_at(1.0) is None


# Recordings in closed loop


def test_a_recording_of_the_papers_layout_is_flown_by_dose_until_it_is_used_up(paper_recordings: list[Path]) -> None:
    arguments = ("replay", str(paper_recordings[0]), "--responsive", "--current", "230")
    recorded = load_recording(paper_recordings[0]).counts
    with cockpit(*arguments, speed=200) as flown:
        assert flown.start.commands is not None
        assert flown.start.dose_is_relative is False
        seq = 0
        for dwell_s, frames, until_dose_pC in ((0.4, 10, 920.0), (0.1, 40, 1840.0), (0.2, 20, 2760.0)):
            flown.accepted(blanked=False, dwell_s=dwell_s, lease_s=60.0, lease_until_dose_pC=until_dose_pC)
            taken = spectra(flown.until_blanked(after_seq=seq + 1))
            assert [(s.seq, s.dwell_s) for s in taken] == [(seq + n, dwell_s) for n in range(frames)]
            seq += frames
        flown.accepted(blanked=False, dwell_s=0.8, lease_s=60.0)
        end = flown.until(lambda m: isinstance(m, SessionEnd))[-1]
        assert flown.simulator.process.wait(WITHIN_S) == 0
    assert isinstance(end, SessionEnd)
    assert (end.reason, end.spectra) == ("finished", 70 + 45)
    counts = np.array([decoded.payload for decoded in flown.heard if decoded.payload is not None])
    np.testing.assert_array_equal(counts[:10], recorded[:10])
    np.testing.assert_allclose(counts[10:50].reshape(10, 4, -1).sum(axis=1), recorded[10:20], rtol=1e-5)
    np.testing.assert_allclose(counts[50:70].reshape(10, 2, -1).sum(axis=1), recorded[20:30], rtol=1e-5)
    np.testing.assert_allclose(counts[70:], recorded[30:].reshape(45, 2, -1).sum(axis=1), rtol=1e-5)


@pytest.mark.real
def test_the_real_line_scan_is_flown_without_a_current_by_dwell_alone(real_data: Path) -> None:
    file = real_data / "linescan_100x2048_high-loss.dm3"
    with cockpit("replay", str(file), "--responsive", speed=100) as flown:
        assert flown.start.dose_is_relative
        assert flown.refused(blanked=False, beam_current_pA=50.0, lease_s=60.0).limit == "dose_is_relative"
        flown.accepted(blanked=False, dwell_s=0.1, lease_s=60.0)
        heard = flown.until(lambda m: isinstance(m, SessionEnd))
        assert flown.simulator.process.wait(WITHIN_S) == 0
    taken = spectra([decoded.message for decoded in flown.heard])
    assert {(s.dwell_s, s.beam_current_pA, s.dose_pC) for s in taken} == {(0.1, None, None)}
    assert len(taken) in (199, 200)
    statuses = [message for message in heard if isinstance(message, InstrumentStatus)]
    assert "variance 4.03 × mean + 36.9²" in statuses[-1].notes[0]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "--preset", "unobtainium"), 2, "there is no preset 'unobtainium'; known are srtio3-300kV"),
        (("run", "--presets", "/nowhere.toml"), 2, "/nowhere.toml can't be read"),
        (("run", "--dwell", "60"), 2, "above the limit of 10 s"),
        (("run", "--current", "0"), 2, "below the limit of 1 pA"),
        (("run", "--current", "nan"), 2, "finite"),
        (("run", "--obey", "--speed", "max"), 2, "--obey needs a clock"),
        (("run", "--truth", "truth.npz"), 2, "ends in .hspy"),
        (("run", "--truth", "/nowhere/truth.hspy"), 2, "there is no folder /nowhere"),
        (("run", "--truth", "never-written.hspy", "--loop"), 2, "--truth holds one session"),
        (("run", "--command", "tcp://10.0.0.1:17813"), 2, "not a loopback address"),
        (("replay", "RECORDING", "--preset", "fast"), 2, "are for --responsive"),
        (("replay", "RECORDING", "--responsive", "--speed", "max"), 2, "--responsive needs a clock"),
        (("replay", "RECORDING", "--responsive", "--preset", "nothing"), 2, "there is no preset 'nothing'"),
        (("replay", "RECORDING", "--responsive", "--dwell", "5000"), 2, "no instrument exposes 5000 s"),
        (("replay", "SHORT", "--responsive"), 3, "3 spectra or more, and these are 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_not_be_flown_is_one_line_before_anything_is_bound(
    tmp_path: Path, paper_recordings: list[Path], arguments: tuple[str, ...], code: int, said: str
) -> None:
    if "SHORT" in arguments:
        from tests.paper_layout import write_dm

        write_dm(tmp_path / "short.dm4", frames=2)
    places = {"RECORDING": paper_recordings[0], "SHORT": tmp_path / "short.dm4"}
    done = run("sim", *(places.get(argument, argument) for argument in arguments), *PORTS)
    assert (done.code, done.out) == (code, "")
    [line] = done.err.splitlines()
    assert line.startswith("eelstm: ")
    assert said in line
