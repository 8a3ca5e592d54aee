"""The programs on the protocol's page do what the page says, and need nothing of this project."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eelstm_stream.io.children import Child
from eelstm_stream.wire.messages import InstrumentStatus, Message, SessionEnd, Spectrum
from tests.commanding import Commanding
from tests.no_commands import NO_COMMANDS
from tests.programs import ANY_PORT, WITHIN_S, Ears

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "instrument-protocol.md"
INSTRUMENT, COMMANDER = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
PORTS = {"publish": 17810, "snapshot": 17811, "command": 17813}


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("program", [INSTRUMENT, COMMANDER], ids=["instrument", "commander"])
def test_they_need_json_numpy_and_pyzmq(program: str) -> None:
    names = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert names <= {*sys.stdlib_module_names, "numpy", "zmq"}


@contextmanager
def minimal(tmp_path: Path) -> Iterator[tuple[Commanding, subprocess.Popen[str]]]:
    """The page's instrument, on sockets of this test, and its process."""
    program = INSTRUMENT.replace('f"tcp://127.0.0.1:{port}"', f'f"ipc://{tmp_path}/{{port}}"')
    assert program != INSTRUMENT
    places = {name: f"ipc://{tmp_path}/{port}" for name, port in PORTS.items()}
    with running(program) as process, Commanding(places) as commanding:
        yield commanding, process


def test_the_minimal_instrument_keeps_to_the_protocol(tmp_path: Path) -> None:
    with minimal(tmp_path) as (microscope, _):
        start = microscope.start()
        assert start.commands is not None
        assert (start.session, microscope.first.state) == (microscope.session, "blanked")
        for what, limit in (
            ({"dwell_s": 5.0}, "max_dwell_s"),
            ({"dwell_s": 0.001}, "min_dwell_s"),
            ({"dwell_s": 0.1, "seq": 1}, "seq"),
            ({"dwell_s": 0.1, "seq": 2**53 - 1}, "seq"),
            ({"beam_current_pA": 5.0}, "max_current_pA"),
            ({"dwell_s": 0.1, "expires_mono_ns": 0}, "expired"),
            ({"dwell_s": 0.1, "expires_mono_ns": 2**62}, "expires_mono_ns"),
            ({"blanked": True, "session": "another"}, "session"),
            ({"blanked": False, "lease_s": 11.0}, "max_lease_s"),
            ({"blanked": False, "lease_s": 0.01}, "lease_s"),
            ({"blanked": False, "lease_s": 5.0, "lease_until_dose_pC": 1.0}, "lease_until_dose_pC"),
        ):
            refused = microscope.tell(**what)
            assert (refused.outcome, refused.limit) == ("refused", limit)
        for stamp in ({"seq": 1}, {"seq": 2**53 - 1}, {"expires_mono_ns": 0}, {"expires_mono_ns": 2**62}):
            assert microscope.tell(blanked=True, **stamp).outcome == "accepted"
        told = microscope.tell(blanked=False, dwell_s=0.05, lease_s=10.0, lease_until_dose_pC=20.0)
        assert (told.outcome, told.beam.lease.until_dose_pC) == ("accepted", 20.0)

        def is_over(message: Message) -> bool:
            return isinstance(message, InstrumentStatus) and message.state == "blanked" and message.beam.next_seq > 0

        heard = [decoded.message for decoded in microscope.ears.until(is_over)]
        spectra = [message for message in heard if isinstance(message, Spectrum)]
        assert [s.seq for s in spectra] == [0, 1, 2, 3]  # of 5 pC
        assert [s.dose_before_pC for s in spectra] == pytest.approx([0, 5, 10, 15])
        assert [decoded.message.seq for decoded in microscope.snapshot(8)[1:]] == [0, 1, 2, 3]


def test_the_minimal_instrument_refuses_what_is_no_command_and_lives_on(tmp_path: Path) -> None:
    with minimal(tmp_path) as (microscope, _):
        for name, damage in NO_COMMANDS.items():
            header = json.loads(microscope.command(dwell_s=0.1).model_dump_json(by_alias=True, exclude_none=True))
            refused = microscope.say(damage(header))
            assert (refused.outcome, refused.limit) == ("refused", "malformed"), name
            assert refused.beam.readback.blanked, name
            assert microscope.tell(dwell_s=0.1).outcome == "accepted", name
        on_by_null = microscope.command(dwell_s=0.1, lease_s=5.0).model_dump_json(by_alias=True)
        assert '"blanked":null' in on_by_null
        assert microscope.say(on_by_null.encode()).beam.readback.blanked


def test_a_lease_of_the_minimal_instrument_is_renewed_and_gone_once_the_beam_is_blanked(tmp_path: Path) -> None:
    with minimal(tmp_path) as (microscope, _):
        microscope.tell(blanked=False, dwell_s=0.05, lease_s=5.0, lease_until_dose_pC=1e6)
        renewed = microscope.tell(dwell_s=0.05, lease_s=10.0).beam
        assert not renewed.readback.blanked
        assert 5.0 < renewed.lease.left_s <= 10.0
        assert renewed.lease.until_dose_pC is None
        assert microscope.tell(blanked=True).beam.lease is None
        rests = microscope.tell(dwell_s=0.1, lease_s=10.0)  # a lease alone is not the word for it
        assert (rests.outcome, rests.beam.readback.blanked, rests.beam.lease) == ("accepted", True, None)
        on = microscope.tell(blanked=False, dwell_s=0.4, lease_s=0.5).beam
        assert not on.readback.blanked
        assert microscope.status(blanked=True).beam.lease is None
        assert microscope.tell(dwell_s=0.1).beam.readback.blanked


def test_the_minimal_instrument_ends_blanked(tmp_path: Path) -> None:
    with minimal(tmp_path) as (microscope, process):
        microscope.tell(blanked=False, dwell_s=0.5, lease_s=10.0)
        microscope.status(blanked=False)
        process.terminate()
        heard = [decoded.message for decoded in microscope.ears.until(lambda m: isinstance(m, SessionEnd))]
        last = [message for message in heard if isinstance(message, InstrumentStatus)][-1]
        assert (last.state, last.beam.lease) == ("blanked", None)
        assert process.wait(WITHIN_S) == 0


def test_the_commander_lets_the_simulators_beam_on() -> None:
    places = ("--publish", ANY_PORT, "--snapshot", ANY_PORT, "--command", ANY_PORT)
    with Child("sim", "run", "--obey", *places) as simulator:
        at = simulator.wait_until_ready()
        program = COMMANDER.replace("tcp://127.0.0.1:17811", at["snapshot"]).replace(
            "tcp://127.0.0.1:17813", at["command"]
        )
        with Ears(("spectrum",), at["publish"]) as ears, running(program) as commander:
            out, _ = commander.communicate(timeout=WITHIN_S)
            answer = json.loads(out)
            assert (answer["outcome"], answer["seq"]) == ("accepted", 1)
            assert answer["beam"]["lease"]["left_s"] == pytest.approx(5)
            ears.until(lambda m: isinstance(m, Spectrum))
