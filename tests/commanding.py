"""A test's hand on an instrument that takes commands: it tells, and hears what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.io.sockets import snapshot_client
from eelstm_stream.wire.codec import Decoded, decode_acknowledgement, decode_snapshot, encode_snapshot_request
from eelstm_stream.wire.messages import Acknowledgement, Command, InstrumentStatus, Message, SessionStart, Spectrum
from tests.programs import WITHIN_S, Ears

EXPIRES_NS = 5_000_000_000


class Commanding:
    """Ears on an instrument's messages, and a connection to its command socket. Numbers rise by themselves."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        with ExitStack() as stack:
            self._endpoints = endpoints
            self.ears = stack.enter_context(Ears(("session", "spectrum", "status"), endpoints["publish"]))
            self.client = stack.enter_context(InstrumentClient(endpoints["command"]))
            assert self.client.wait_until_connected(WITHIN_S)
            self._since_ns = 0  # when the instrument sent its newest answer: what it sent before is old
            self.first = self.status()  # heard: so is whatever comes from now on
            self.session = self.first.session
            taken = self.first.beam.taken_seq if self.first.beam else None
            self._seq = -1 if taken is None else taken
            self._stack = stack.pop_all()

    def command(self, **what: Any) -> Command:
        """A command under the next number, in time, for this session; `what` may say otherwise."""
        self._seq += 1
        now_ns = clock.monotonic_ns()
        fields = {
            "session": self.session,
            "seq": self._seq,
            "sent_mono_ns": now_ns,
            "expires_mono_ns": now_ns + EXPIRES_NS,
        }
        return Command(**(fields | what))

    def follow(self, taken_seq: int) -> None:
        """Number the next commands above those of another commander."""
        self._seq = taken_seq

    def tell(self, **what: Any) -> Acknowledgement:
        """Send a command, and wait for the answer."""
        result = self.client.command(self.command(**what), WITHIN_S)
        assert result.acknowledgement is not None, result.result
        self._since_ns = result.acknowledgement.sent_mono_ns
        return result.acknowledgement

    def say(self, frame: bytes) -> Acknowledgement:
        """Send any bytes to the command socket, and wait for the answer."""
        self.client.socket.send(frame)
        assert self.client.socket.poll(WITHIN_S * 1000)
        acknowledgement = decode_acknowledgement(self.client.socket.recv_multipart())
        self._since_ns = acknowledgement.sent_mono_ns
        return acknowledgement

    def status(self, **readback: Any) -> InstrumentStatus:
        """The next status, sent after the newest answer, whose readback shows this."""

        def is_it(message: Message) -> bool:
            if not isinstance(message, InstrumentStatus) or message.sent_mono_ns < self._since_ns:
                return False
            assert message.beam is not None
            shown = message.beam.readback.model_dump()
            return all(shown[name] == value for name, value in readback.items())

        message = self.ears.until(is_it)[-1].message
        assert isinstance(message, InstrumentStatus)
        return message

    def spectrum(self, from_seq: int = 0) -> Decoded:
        """The next spectrum, sent after the newest answer, but none before this number."""

        def is_it(message: Message) -> bool:
            new = message.sent_mono_ns >= self._since_ns
            return isinstance(message, Spectrum) and new and message.seq >= from_seq

        return self.ears.until(is_it)[-1]

    def snapshot(self, spectra: int = 0) -> list[Decoded]:
        """What the instrument tells a late joiner."""
        return decode_snapshot(self.ask(encode_snapshot_request(spectra)))

    def ask(self, frame: bytes) -> list[bytes]:
        """Send any bytes to the socket for late joiners, and wait for the answer."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            socket = snapshot_client(context, self._endpoints["snapshot"])
            assert socket.poll(WITHIN_S * 1000, zmq.POLLOUT)
            socket.send(frame)
            assert socket.poll(WITHIN_S * 1000)
            return socket.recv_multipart()
        finally:
            context.destroy(linger=0)

    def start(self) -> SessionStart:
        """The start of the session."""
        message = self.snapshot()[0].message
        assert isinstance(message, SessionStart)
        return message

    def __enter__(self) -> Commanding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
