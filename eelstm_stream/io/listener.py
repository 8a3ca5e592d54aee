"""Hearing messages from one or more publishers, decoded; what can't be decoded is counted and dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.sockets import subscriber
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import Decoded, WireError, decode

AT_ONCE = 1000  # messages taken up between two looks at the clock, so that a fast stream does not starve the screen


class Listener:
    """Subscribes to kinds of messages of one instrument, at any number of endpoints."""

    def __init__(self, instrument: str, stop: Stop) -> None:
        self.malformed = 0
        self._instrument = instrument
        self._stop = stop
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._poller = zmq.Poller()
        self._regardless = zmq.Poller()  # of the end that was asked for
        stop.register(self._poller)

    def subscribe(self, endpoint: str, kinds: Iterable[str]) -> None:
        """Hear these kinds from this endpoint too, as soon as somebody publishes there."""
        socket = subscriber(self._context, endpoint, self._instrument, kinds)
        self._sockets.append(socket)
        for poller in (self._poller, self._regardless):
            poller.register(socket, zmq.POLLIN)

    def hear(self, timeout_ms: int, *, regardless: bool = False) -> Iterator[tuple[Decoded, int]]:
        """What has come, with the monotonic time of arrival, ns; waits for the first for at most `timeout_ms`.

        Once the end is asked for, nothing, unless `regardless` of that.
        """
        arrived = dict((self._regardless if regardless else self._poller).poll(timeout_ms))
        if not regardless and self._stop.check(arrived):
            return
        for socket in self._sockets:
            if socket not in arrived:
                continue
            for _ in range(AT_ONCE):
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                recv_mono_ns = clock.monotonic_ns()
                try:
                    yield decode(frames), recv_mono_ns
                except WireError:
                    self.malformed += 1

    def close(self) -> None:
        """Close every socket at once."""
        self._context.destroy(linger=0)
