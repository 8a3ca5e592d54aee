"""What holds for every adapter: commands are obeyed whole or refused by name, and the beam is on under a lease only.

`eelstm adapter usim` and the two of the how-to stand for them: one in a few lines on top of this package, and one that shares
no code with it, written from the protocol page alone. A new one is another row of `ADAPTERS`.
"""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eelstm_stream.io.children import Child
from eelstm_stream.wire.codec import Decoded, WireError, decode_snapshot
from eelstm_stream.wire.messages import Gap, InstrumentStatus, SessionEnd, SessionStart, Spectrum
from tests.commanding import Commanding
from tests.no_commands import NO_COMMANDS
from tests.programs import ANY_PORT, WITHIN_S

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PLAIN = HOW_TO / "plain_adapter.py"

Running = tuple[dict[str, str], subprocess.Popen[Any]]  # where an adapter is bound, and its process


@contextmanager
def usim() -> Iterator[Running]:
    try:
        importlib.metadata.version("nionswift-usim")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nionswift-usim is not installed: pip install 'eelstm-stream[usim]'")
    with Child("adapter", "usim", "--publish", ANY_PORT, "--snapshot", ANY_PORT, "--command", ANY_PORT) as child:
        yield child.wait_until_ready(), child.process


@contextmanager
def mine() -> Iterator[Running]:
    [program] = re.findall(
        r"```python\n(.*?)```", (HOW_TO / "write-an-adapter.md").read_text(encoding="utf-8"), re.DOTALL
    )
    ports = {f"EELSTM_MINE_{name}": ANY_PORT for name in ("PUBLISH", "SNAPSHOT", "COMMAND")}
    with running_program(program, **ports) as running:
        yield running


@contextmanager
def plain() -> Iterator[Running]:
    program = PLAIN.read_text(encoding="utf-8")
    for port in ("17810", "17811", "17813"):
        assert port in program
        program = program.replace(port, '"*"')
    with running_program(program) as running:
        yield running


@contextmanager
def running_program(program: str, **environment: str) -> Iterator[Running]:
    """A program that says on its first line where it is bound; that, and its process."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline()), process
        finally:
            process.kill()


ADAPTERS = {"usim": usim, "mine": mine, "plain": plain}


@pytest.fixture(scope="module", params=ADAPTERS)
def commanded(request: pytest.FixtureRequest) -> Iterator[tuple[Commanding, str]]:
    """An adapter that many tests command, one after the other, since it may take seconds to start; and its command socket."""
    with ADAPTERS[request.param]() as (endpoints, _), Commanding(endpoints) as commanding:
        yield commanding, endpoints["command"]


@pytest.fixture
def microscope(commanded: tuple[Commanding, str]) -> Commanding:
    """An instrument with its beam blanked."""
    commanding, _ = commanded
    commanding.tell(blanked=True)
    return commanding


def spectrum_of(heard: Decoded) -> Spectrum:
    assert isinstance(heard.message, Spectrum)
    return heard.message


def counts_per_pC(heard: Decoded) -> float:
    assert heard.payload is not None
    dose_pC = spectrum_of(heard).dose_pC
    assert dose_pC is not None
    return float(heard.payload.mean()) / dose_pC


def test_it_begins_blanked(commanded):
    first = commanded[0].first
    assert first.obeys
    assert first.state == "blanked"
    assert (first.beam.next_seq, first.beam.dose_pC, first.beam.lease) == (0, 0.0, None)


def test_the_one_of_the_how_to_needs_nothing_of_this_project():
    tree = ast.parse(PLAIN.read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"zmq", "numpy"}


# Spectra


def test_counts_scale_with_dwell_and_current_and_are_told_with_both(microscope):
    reference = None
    for dwell_s, current_pA in ((0.1, 100.0), (0.25, 100.0), (0.1, 400.0)):
        told = microscope.tell(blanked=False, lease_s=20.0, dwell_s=dwell_s, beam_current_pA=current_pA)
        heard = microscope.spectrum(from_seq=told.beam.holds_from_seq)
        spectrum = spectrum_of(heard)
        assert (spectrum.dwell_s, spectrum.beam_current_pA) == (dwell_s, current_pA)
        assert spectrum.dose_pC == pytest.approx(dwell_s * current_pA)
        reference = reference or counts_per_pC(heard)
        assert counts_per_pC(heard) == pytest.approx(reference, rel=0.02)


def test_the_dose_is_all_that_the_specimen_got_between_frames_too(microscope):
    microscope.tell(blanked=False, lease_s=10.0, dwell_s=0.08, beam_current_pA=250.0)
    spectra = [spectrum_of(microscope.spectrum()) for _ in range(4)]
    for before, after in itertools.pairwise(spectra):
        assert after.seq == before.seq + 1
        assert after.dose_before_pC > before.dose_before_pC + before.dose_pC  # the camera needs time between frames
        on_s = (after.acquired_at - before.acquired_at).total_seconds()
        assert after.dose_before_pC - before.dose_before_pC == pytest.approx(250.0 * on_s, abs=1.0)
        assert (before.acquired_until - before.acquired_at).total_seconds() >= before.dwell_s
        assert before.acquired_until <= after.acquired_at
    blanked = microscope.tell(blanked=True).beam
    assert blanked.dose_pC >= spectra[-1].dose_before_pC + spectra[-1].dose_pC
    assert microscope.tell(blanked=True).beam.dose_pC == blanked.dose_pC


def test_a_late_joiner_gets_the_session_and_the_newest_spectra(microscope):
    microscope.tell(blanked=False, lease_s=5.0, dwell_s=0.08)
    newest = microscope.spectrum()
    microscope.tell(blanked=True)
    start, *spectra = (decoded.message for decoded in microscope.snapshot(spectra=200))
    assert isinstance(start, SessionStart)
    assert start.session == microscope.session
    assert newest.message in spectra


# Commands


def test_under_a_blanked_beam_what_is_ordered_holds_without_a_frame_and_is_read_back(microscope):
    for dwell_s, current_pA in ((0.3, 123.4), (0.1, 50.0)):
        assert microscope.tell(dwell_s=dwell_s, beam_current_pA=current_pA).outcome == "accepted"
        holds = microscope.status(dwell_s=dwell_s, beam_current_pA=current_pA)
        assert holds.state == "blanked"
        assert holds.beam.readback == holds.beam.ordered


def test_in_a_frame_the_readback_is_of_that_frame_until_the_next_begins(microscope):
    microscope.tell(blanked=False, lease_s=20.0, dwell_s=1.0, beam_current_pA=100.0)
    microscope.status(blanked=False)
    told = microscope.tell(dwell_s=0.1, beam_current_pA=50.0).beam
    assert (told.readback.dwell_s, told.readback.beam_current_pA) == (1.0, 100.0)
    assert (told.ordered.dwell_s, told.ordered.beam_current_pA) == (0.1, 50.0)
    old, new = spectrum_of(microscope.spectrum()), spectrum_of(microscope.spectrum())
    assert (old.seq, old.dwell_s, old.beam_current_pA) == (told.holds_from_seq - 1, 1.0, 100.0)
    assert (new.seq, new.dwell_s, new.beam_current_pA) == (told.holds_from_seq, 0.1, 50.0)
    holds = microscope.status(dwell_s=0.1)
    assert holds.beam.readback.beam_current_pA == 50.0
    assert holds.state == "exposing"


def test_blanking_does_not_wait_for_the_camera_and_the_frame_is_said_to_be_lost(microscope):
    microscope.tell(blanked=False, lease_s=30.0, dwell_s=0.1, beam_current_pA=100.0)
    whole = microscope.spectrum()
    microscope.tell(blanked=True)
    microscope.tell(blanked=False, lease_s=30.0, dwell_s=10.0, beam_current_pA=400.0)
    on = microscope.status(blanked=False).beam
    off = microscope.tell(blanked=True).beam
    assert off.readback.blanked
    assert off.lease is None
    assert off.dose_pC < on.dose_pC  # which counted the frame whole
    microscope.tell(blanked=False, lease_s=5.0, dwell_s=0.1, beam_current_pA=100.0)
    heard = microscope.ears.until(lambda m: isinstance(m, Spectrum))
    [gap] = [decoded.message for decoded in heard if isinstance(decoded.message, Gap)]
    assert (gap.first_seq, gap.last_seq) == (on.next_seq - 1, on.next_seq - 1)
    assert spectrum_of(heard[-1]).seq == on.next_seq
    assert counts_per_pC(heard[-1]) == pytest.approx(counts_per_pC(whole), rel=0.02)  # not of the frame that was cut


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ({"session": "another", "blanked": False, "lease_s": 1.0}, "session"),
        ({"seq": 0, "blanked": False, "lease_s": 1.0}, "seq"),
        ({"seq": 2**53 - 1, "blanked": False, "lease_s": 1.0}, "seq"),
        ({"seq": 2**53 - 1, "expires_mono_ns": 1, "dwell_s": 0.1}, "seq"),
        ({"seq": 0, "blanked": True, "dwell_s": 0.1}, "seq"),
        ({"expires_mono_ns": 2**62, "blanked": False, "lease_s": 1.0}, "expires_mono_ns"),
        ({"expires_mono_ns": 1, "blanked": False, "lease_s": 1.0}, "expired"),
        ({"dwell_s": 0.001}, "min_dwell_s"),
        ({"dwell_s": 3600.0}, "max_dwell_s"),
        ({"beam_current_pA": 0.001}, "min_current_pA"),
        ({"beam_current_pA": 1e6}, "max_current_pA"),
        ({"blanked": False, "lease_s": 3600.0}, "max_lease_s"),
        ({"blanked": False, "lease_s": 0.05}, "lease_s"),  # a frame takes longer
        ({"blanked": False, "lease_s": 5.0, "lease_until_dose_pC": 1e-3}, "lease_until_dose_pC"),
    ],
)
def test_a_command_that_must_not_act_is_refused_by_name_and_nothing_changes(microscope, what, limit):
    microscope.tell(dwell_s=0.2, beam_current_pA=100.0)
    before = microscope.status(dwell_s=0.2, beam_current_pA=100.0).beam  # a frame that was cut before may still end
    refused = microscope.tell(**what)
    assert (refused.outcome, refused.limit) == ("refused", limit)
    assert refused.reason.endswith(".")
    assert refused.beam.readback == before.readback
    assert refused.beam.ordered == before.ordered
    assert refused.beam.readback.blanked


@pytest.mark.parametrize("what", [{"seq": 0}, {"seq": 2**53 - 1}, {"expires_mono_ns": 1}, {"expires_mono_ns": 2**62}])
def test_what_only_blanks_acts_whatever_its_number_and_expiry(microscope, what):
    microscope.tell(blanked=False, lease_s=30.0, dwell_s=0.1)
    microscope.status(blanked=False)
    taken_seq = microscope.command(blanked=True).seq
    told = microscope.tell(blanked=True, **what)
    assert told.outcome == "accepted"
    assert told.beam.readback.blanked
    assert told.beam.lease is None
    assert told.beam.taken_seq in (taken_seq - 1, taken_seq, taken_seq + 1)  # and not that of a number far ahead
    assert microscope.tell(dwell_s=0.1).outcome == "accepted"


def test_the_same_command_acts_once(microscope):
    command = microscope.command(blanked=False, lease_s=5.0, dwell_s=0.1)
    assert microscope.client.command(command, WITHIN_S).result == "accepted"
    microscope.tell(blanked=True)
    again = microscope.client.command(command, WITHIN_S)
    assert again.result == "refused"
    assert again.acknowledgement.limit == "seq"
    assert again.acknowledgement.beam.readback.blanked


@pytest.mark.parametrize("damage", NO_COMMANDS.values(), ids=NO_COMMANDS)
def test_what_is_no_command_is_refused_as_malformed_and_the_next_one_obeyed(microscope, damage):
    header = json.loads(microscope.command(dwell_s=0.1).model_dump_json(by_alias=True, exclude_none=True))
    refused = microscope.say(damage(header))
    assert (refused.outcome, refused.limit) == ("refused", "malformed")
    assert refused.beam.readback.blanked
    assert microscope.tell(dwell_s=0.1).outcome == "accepted"


@pytest.mark.parametrize("damage", [NO_COMMANDS[name] for name in ("NaN", "on, by zero", "unknown field")])
def test_what_is_no_command_is_refused_by_its_number_where_that_can_be_read(microscope, damage):
    header = json.loads(microscope.command(dwell_s=0.1).model_dump_json(by_alias=True, exclude_none=True))
    refused = microscope.say(damage(header))
    assert (refused.session, refused.seq) == (header["session"], header["seq"])


def test_null_is_no_word_for_letting_the_beam_on(microscope):
    header = json.loads(microscope.command(dwell_s=0.1).model_dump_json(by_alias=True, exclude_none=True))
    answer = microscope.say(json.dumps(header | {"blanked": None, "lease_s": 5.0}).encode())
    assert answer.beam.ordered.blanked
    assert microscope.tell(dwell_s=0.1).beam.readback.blanked


@pytest.mark.parametrize("asked", [b"[" * 60_000, b'{"spectra": Infinity}', b'{"spectra": "8"}', b"7", b"", b"\xff"])
def test_what_is_no_request_of_a_late_joiner_is_refused_and_the_next_one_answered(microscope, asked):
    schema = b'{"schema": "eelstm.snapshot_request/1", "spectra": '
    for frame in (asked, asked.replace(b'{"spectra": ', schema)):
        with pytest.raises(WireError, match="refused"):
            decode_snapshot(microscope.ask(frame))
    assert microscope.start().session == microscope.session


# Leases


def silent_and_blanked(microscope: Commanding, since: InstrumentStatus) -> None:
    """Nothing is exposed until another status is sent."""
    heard = [decoded.message for decoded in microscope.ears.until(lambda m: isinstance(m, InstrumentStatus))]
    assert not any(isinstance(message, Spectrum) for message in heard)
    last = heard[-1]
    assert isinstance(last, InstrumentStatus)
    assert last.beam is not None
    assert since.beam is not None
    assert last.beam.readback.blanked
    assert (last.beam.next_seq, last.beam.dose_pC) == (since.beam.next_seq, since.beam.dose_pC)


def test_at_the_end_of_its_lease_the_beam_is_blanked_without_a_command(microscope):
    microscope.tell(blanked=False, lease_s=2.0, dwell_s=0.1)
    on = microscope.status(blanked=False)
    microscope.spectrum()
    blanked = microscope.status(blanked=True)
    assert blanked.beam.lease is None
    assert "lease" in blanked.text
    assert blanked.beam.dose_pC > on.beam.dose_pC
    silent_and_blanked(microscope, blanked)


def test_at_the_dose_of_its_lease_the_beam_is_blanked_without_a_command(microscope):
    before_pC = microscope.tell(dwell_s=0.2, beam_current_pA=100.0).beam.dose_pC
    until_pC = before_pC + 50.0
    microscope.tell(blanked=False, lease_s=30.0, lease_until_dose_pC=until_pC)
    microscope.status(blanked=False)
    blanked = microscope.status(blanked=True)
    assert before_pC + 20.0 <= blanked.beam.dose_pC < before_pC + 1000.0  # a busy machine may notice late: not by 10 s
    assert "lease" in blanked.text
    silent_and_blanked(microscope, blanked)


def test_a_lease_that_is_renewed_goes_on_without_a_pause(microscope):
    microscope.tell(blanked=False, lease_s=3.0, dwell_s=0.1)
    spectra = []
    for _ in range(6):
        assert microscope.tell(dwell_s=0.1, lease_s=3.0).outcome == "accepted"
        spectra.append(spectrum_of(microscope.spectrum()))
    assert [s.seq for s in spectra] == list(range(spectra[0].seq, spectra[0].seq + 6))


COMMANDER = """
import sys
from eelstm_stream.io import clock
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.wire.messages import Command

endpoint, session, seq = sys.argv[1], sys.argv[2], int(sys.argv[3])
with InstrumentClient(endpoint) as client:
    client.wait_until_connected(60)
    while True:
        now_ns = clock.monotonic_ns()
        stamps = {"sent_mono_ns": now_ns, "expires_mono_ns": now_ns + 5_000_000_000}
        command = Command(session=session, seq=seq, blanked=False, dwell_s=0.1, lease_s=3.0, **stamps)
        result = client.command(command, 60)
        print(result.result, flush=True)
        seq += 1
"""


def test_after_sigkill_of_its_commander_the_beam_is_blanked(microscope, commanded):
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDER, commanded[1], microscope.session, str(microscope.command(blanked=True).seq)],
        stdout=subprocess.PIPE,
        text=True,
    ) as commander:
        assert commander.stdout is not None
        assert commander.stdout.readline() == "accepted\n"
        microscope.spectrum()
        commander.kill()
    blanked = microscope.status(blanked=True)
    assert "lease" in blanked.text
    silent_and_blanked(microscope, blanked)
    microscope.follow(blanked.beam.taken_seq)


@pytest.mark.parametrize("adapter", [mine, plain])  # the simulator's has a test of its own, which looks at more
def test_at_sigterm_the_beam_is_blanked_and_the_session_ends(adapter):
    with adapter() as (endpoints, process), Commanding(endpoints) as microscope:
        microscope.tell(blanked=False, lease_s=20.0, dwell_s=10.0)
        process.terminate()
        heard = [decoded.message for decoded in microscope.ears.until(lambda m: isinstance(m, SessionEnd))]
        assert heard[-1].reason == "stopped"
        assert heard[-1].spectra == 0
        last = [message for message in heard if isinstance(message, InstrumentStatus)][-1]
        assert last.beam.readback.blanked
        assert process.wait(WITHIN_S) == 0
