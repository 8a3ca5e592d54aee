"""An instrument's side of the wire, on real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.instrument_server import InstrumentServer
from eelstm_stream.io.sockets import subscriber
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import decode
from eelstm_stream.wire.messages import Gap
from tests.programs import ANY_PORT

GENEROUS_MS = 60_000


@pytest.fixture
def server() -> Iterator[InstrumentServer]:
    with Stop() as stop:
        instrument = InstrumentServer("bench", stop, publish=ANY_PORT, snapshot=ANY_PORT)
        yield instrument
        instrument.close()


@pytest.fixture
def reader(server: InstrumentServer) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context:
        socket = subscriber(context, server.endpoints["publish"], "bench", ("session",))
        while not server.readers.ever("session"):
            server.look(1000)
        yield socket
        socket.close(linger=0)


def gap(seq: int) -> Gap:
    now = clock.monotonic_ns()
    return Gap(session="s", seq=seq, sent_mono_ns=now, first_seq=seq, last_seq=seq, reason="a test")


def heard(reader: zmq.Socket[bytes], messages: int) -> list[int]:
    seqs = []
    for _ in range(messages):
        assert reader.poll(GENEROUS_MS)
        seqs.append(decode(reader.recv_multipart()).message.seq)
    return seqs


def test_what_is_published_together_goes_out_at_the_end_in_its_order(server, reader):
    server.publish(gap(0))
    with server.together():
        for seq in range(1, 40):
            server.publish(gap(seq))
        assert heard(reader, 1) == [0]
        assert not reader.poll(100)
    server.publish(gap(40))
    assert heard(reader, 40) == list(range(1, 41))


def test_what_was_published_before_an_error_is_sent(server, reader):
    def fail() -> None:
        with server.together():
            server.publish(gap(0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    server.publish(gap(1))
    assert heard(reader, 2) == [0, 1]
