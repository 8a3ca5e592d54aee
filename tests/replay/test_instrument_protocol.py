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
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.wire.codec import decode_snapshot, encode_snapshot_request
from eelstm_stream.wire.messages import Command, InstrumentStatus, SessionStart, Spectrum
from tests.programs import ANY_PORT, WITHIN_S, Ears

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "instrument-protocol.md"
INSTRUMENT, COMMANDER = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


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


def test_the_minimal_instrument_keeps_to_the_protocol(tmp_path: Path) -> None:
    places = {port: f"ipc://{tmp_path}/{port}" for port in (17810, 17811, 17813)}
    program = INSTRUMENT.replace('f"tcp://127.0.0.1:{port}"', f'f"ipc://{tmp_path}/{{port}}"')
    assert program != INSTRUMENT
    with (
        running(program),
        Ears(("session", "spectrum", "status"), places[17810]) as ears,
        InstrumentClient(places[17813]) as client,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as late,
    ):
        late.setsockopt(zmq.LINGER, 0)
        late.connect(places[17811])
        assert client.wait_until_connected(WITHIN_S)

        def snapshot() -> list[object]:
            late.send(encode_snapshot_request(8))
            assert late.poll(WITHIN_S * 1000)
            return [decoded.message for decoded in decode_snapshot(late.recv_multipart())]

        [start] = snapshot()
        assert isinstance(start, SessionStart)
        assert start.commands is not None
        status = ears.until(lambda m: isinstance(m, InstrumentStatus))[-1].message
        assert isinstance(status, InstrumentStatus)
        assert status.state == "blanked"

        def tell(seq: int, **what: object) -> tuple[str, str | None]:
            now_ns = clock.monotonic_ns()
            fields = {"session": start.session, "seq": seq, "sent_mono_ns": now_ns, "expires_mono_ns": now_ns + 10**9}
            result = client.command(Command(**(fields | what)), WITHIN_S)
            assert result.acknowledgement is not None
            assert result.acknowledgement.beam is not None
            return result.result, result.acknowledgement.limit

        assert tell(1, dwell_s=5.0) == ("refused", "max_dwell_s")
        assert tell(1, blanked=True) == ("refused", "seq")
        assert tell(2, beam_current_pA=5.0) == ("refused", "max_current_pA")
        assert tell(3, blanked=True, expires_mono_ns=0) == ("refused", "expired")
        assert tell(4, blanked=True, session="another") == ("refused", "session")
        assert tell(5, blanked=False, lease_s=0.01) == ("refused", "lease_s")
        for garbage in (b"", b"[]", b"{}", b'{"schema":"eelstm.command/1"}', b'{"schema":NaN}', b"7"):
            client.socket.send(garbage)
            assert client.socket.poll(WITHIN_S * 1000)
            answer = client.receive()
            assert answer is not None
            assert (answer.outcome, answer.limit) == ("refused", "malformed")
        assert tell(6, blanked=False, dwell_s=0.05, lease_s=10.0, lease_until_dose_pC=20.0) == ("accepted", None)
        heard = [
            decoded.message
            for decoded in ears.until(
                lambda m: (
                    isinstance(m, InstrumentStatus)
                    and m.state == "blanked"
                    and m.beam is not None
                    and m.beam.next_seq > 0
                )
            )
        ]
        spectra = [message for message in heard if isinstance(message, Spectrum)]
        assert [s.seq for s in spectra] == [0, 1, 2, 3]  # of 5 pC
        assert [s.dose_before_pC for s in spectra] == pytest.approx([0, 5, 10, 15])
        assert [m.seq for m in snapshot()[1:]] == [0, 1, 2, 3]  # type: ignore[attr-defined]


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
