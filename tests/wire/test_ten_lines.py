"""The decoder that the documentation shows needs nothing of this project, and reads what this project sends."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from eelstm_stream.io.sockets import FORECAST_PUBLISH, INSTRUMENT_PUBLISH, bound_endpoint, publisher
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.topics import topic
from tests.wire import goldens
from tests.wire.goldens import GOLDENS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "read-forecasts-in-ten-lines.md"
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
PATIENCE_MS = 60_000  # for a process to start on a busy machine

FORECAST = next(golden for golden in GOLDENS if golden.name == "eelstm.forecast.1.full")
SPECTRUM = next(golden for golden in GOLDENS if golden.name == "eelstm.spectrum.1.u2")


@pytest.fixture
def source() -> Iterator[zmq.Socket[bytes]]:
    """A publisher as the forecaster has it, on a free port."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield publisher(context, "tcp://127.0.0.1:*")
    finally:
        context.destroy(linger=0)


def first_line_of(program: str, source: zmq.Socket[bytes], subscription: bytes, *messages: list[bytes]) -> str:
    """Start a program, send it messages once it has subscribed, and give back the first line that it prints."""
    reader = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert source.poll(PATIENCE_MS), "the program did not subscribe"
        assert source.recv() == b"\x01" + subscription
        for frames in messages:
            source.send_multipart(frames)
        assert reader.stdout is not None
        return reader.stdout.readline()
    finally:
        reader.kill()
        reader.communicate()


def test_it_is_ten_lines_of_json_numpy_and_pyzmq():
    assert len([line for line in PROGRAM.splitlines() if line.strip()]) <= 10
    imports = [node for node in ast.walk(ast.parse(PROGRAM)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert sorted(name.name for node in imports for name in node.names) == ["json", "numpy", "zmq"]


def test_it_asks_where_a_forecaster_publishes():
    assert f'"{FORECAST_PUBLISH}"' in PROGRAM
    assert f'"{topic("microscope", "forecast").decode()}"' in PROGRAM


def test_it_reads_a_forecast(source):
    another = encode("microscope2", FORECAST.message, FORECAST.payload)  # whose topic must not be heard
    program = PROGRAM.replace(FORECAST_PUBLISH, bound_endpoint(source))
    sent = encode("microscope", FORECAST.message, FORECAST.payload)
    line = first_line_of(program, source, b"microscope.forecast.", another, sent)
    assert line == f"41 [1, 8] {FORECAST.payload.max(axis=1)}\n"


def test_with_port_and_topic_of_its_table_it_reads_spectra(source):
    rows = set(re.findall(r"\| (\d+) \| `microscope\.(\w+)\.` \|", PAGE.read_text(encoding="utf-8")))
    assert rows == {
        *((FORECAST_PUBLISH[-5:], kind) for kind in ("forecast", "summary", "status")),
        *((INSTRUMENT_PUBLISH[-5:], kind) for kind in ("spectrum", "session")),
    }
    program = (
        PROGRAM.replace(FORECAST_PUBLISH, bound_endpoint(source))
        .replace("microscope.forecast.", "microscope.spectrum.")
        .replace('print(forecast["from_seq"], forecast["horizons"], counts.max(axis=1))', "print(counts.tolist())")
    )
    sent = encode("microscope", SPECTRUM.message, SPECTRUM.payload)
    line = first_line_of(program, source, b"microscope.spectrum.", sent)
    assert line == f"{SPECTRUM.payload.tolist()}\n"


def test_what_the_page_says_of_the_header_is_in_it():
    said = set(re.findall(r'forecast\["(\w+)"\]', PAGE.read_text(encoding="utf-8")))
    assert said == {"dtype", "shape", "from_seq", "horizons", "energy_axis", "quality"}
    header = goldens.read(FORECAST.name)[1].decode()
    assert all(f'"{field}":' in header for field in said | {"offset_eV", "dispersion_eV"})
