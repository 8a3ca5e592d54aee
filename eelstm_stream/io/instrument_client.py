"""Commands an instrument over the wire, and never believes more than its answer.

A command that got no answer in time may have been obeyed, or not, or may still be: its result is unknown, and it is not sent
again. Who needs to know reads the instrument's status or asks with a new command, under a new number; the expiry bounds how
long the old one can still act. Numbers, leases and doses are the caller's to reckon with: nothing is counted here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import zmq

from eelstm_stream.errors import UsageError
from eelstm_stream.io import clock
from eelstm_stream.io.sockets import INSTRUMENT_COMMAND, command_client, peer_endpoint
from eelstm_stream.wire.codec import WireError, decode_acknowledgement, encode_command
from eelstm_stream.wire.messages import Acknowledgement, Command


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What is known of a command: `not_sent` certainly did nothing, `unknown` may have done all that it says."""

    result: Literal["accepted", "refused", "not_sent", "unknown"]
    acknowledgement: Acknowledgement | None  # where there was an answer


class InstrumentClient:
    """One connection to an instrument's command socket, used from one thread. Use it as a context manager, or call `close`."""

    def __init__(self, endpoint: str = INSTRUMENT_COMMAND) -> None:
        """Connect, also where nobody is there yet. Raises UsageError for an endpoint that is not on this machine."""
        try:
            self.endpoint = peer_endpoint(endpoint)
        except ValueError as error:
            raise UsageError(f"{error}.") from None
        self.malformed = 0  # answers that could not be read
        self.late: deque[Acknowledgement] = deque(maxlen=1000)  # answers that came when nobody waited for them any more
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = command_client(self._context, self.endpoint)  # to poll; read it with `receive`

    def command(self, command: Command, timeout_s: float) -> CommandResult:
        """Send a command once, and wait for its answer."""
        if not self.submit(command):
            return CommandResult("not_sent", None)
        until_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
        while (left_ns := until_ns - clock.monotonic_ns()) > 0 and self.socket.poll(-(-left_ns // 1_000_000)):
            answer = self.receive()
            if answer is None:
                continue
            if (answer.session, answer.seq) == (command.session, command.seq):
                return CommandResult(answer.outcome, answer)
            self.late.append(answer)
        return CommandResult("unknown", None)

    def submit(self, command: Command) -> bool:
        """Send a command once; whether it has left. False: nobody is connected, and it will not be sent later."""
        try:
            self.socket.send(encode_command(command))
        except zmq.Again:
            return False
        return True

    def receive(self) -> Acknowledgement | None:
        """The next answer, if one is there that can be read."""
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        try:
            return decode_acknowledgement(frames)
        except WireError:
            self.malformed += 1
            return None

    def wait_until_connected(self, timeout_s: float) -> bool:
        """Wait until an instrument is there; whether it is. Before that, `submit` sends nothing."""
        return bool(self.socket.poll(round(timeout_s * 1000), zmq.POLLOUT))

    def close(self) -> None:
        """Close the connection; nothing waits."""
        self._context.destroy(linger=0)

    def __enter__(self) -> InstrumentClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
