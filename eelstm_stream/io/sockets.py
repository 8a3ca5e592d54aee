"""ZeroMQ sockets with this project's limits: loopback only, bounded queues, bounded messages.

An address that is not loopback is refused: it would need CURVE keys on both sides, which this version does not have.
"""

from __future__ import annotations

import ipaddress
import re
import socket as unix
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import zmq
from pydantic import AfterValidator

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.wire.codec import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES
from eelstm_stream.wire.topics import TOPICS, topic

DEFAULT_INSTRUMENT = "microscope"
# Base port 17810: clear of Nion Swift, hyperspy's and the detector vendors' usual ports.
INSTRUMENT_PUBLISH = "tcp://127.0.0.1:17810"
INSTRUMENT_SNAPSHOT = "tcp://127.0.0.1:17811"
FORECAST_PUBLISH = "tcp://127.0.0.1:17812"
INSTRUMENT_COMMAND = "tcp://127.0.0.1:17813"
CONTROL_PUBLISH = "tcp://127.0.0.1:17814"
GUARD_PUBLISH = "tcp://127.0.0.1:17815"
GUARD_OPERATOR = "tcp://127.0.0.1:17816"

LINGER_MS = 2000  # how long a closing program waits for its last messages to leave
COMMANDS_WAITING = 100  # of one sender, unread; more would be out of date before their turn
RECONNECT_MS = 100
RECONNECT_MAX_MS = 1000
MAX_FRAME_BYTES = max(MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]+\]|[^:/]+):(?P<port>[0-9]{1,5}|\*)")


def local_endpoint(endpoint: str) -> str:
    """The endpoint itself, if it reaches this machine only. Raises ValueError, one sentence, if not.

    `tcp://` on 127.0.0.0/8, [::1] or localhost, with a port or `*` (any free port, for binding), and `ipc://` paths.
    """
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
        if len(endpoint.encode()) > len("ipc://") + zmq.IPC_PATH_MAX_LEN:
            raise ValueError(
                f"{endpoint!r} is longer than the {zmq.IPC_PATH_MAX_LEN} bytes that the path of a socket may have"
            )
        return endpoint
    match = _TCP.fullmatch(endpoint)
    if match is None:
        raise ValueError(f"{endpoint!r} is not an endpoint such as {INSTRUMENT_PUBLISH}")
    host, port = match["host"], match["port"]
    if port != "*" and not 0 < int(port) < 65536:
        raise ValueError(f"{endpoint!r}: a port lies between 1 and 65535")
    if host != "localhost":
        try:
            loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(
                f"{endpoint!r} is not a loopback address; others would need CURVE keys, which this version can't use: "
                f"give 127.0.0.1, or tunnel the port over SSH"
            )
    return endpoint.replace("localhost", "127.0.0.1", 1)


def peer_endpoint(endpoint: str) -> str:
    """As `local_endpoint`, for connecting: `*` is nowhere. Raises ValueError."""
    if endpoint.endswith(":*"):
        raise ValueError(f"{endpoint!r} is no place to connect to: give the port that the other program announces")
    return local_endpoint(endpoint)


Endpoint = Annotated[str, AfterValidator(local_endpoint)]  # to bind
Peer = Annotated[str, AfterValidator(peer_endpoint)]  # to connect to


def publisher(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, *, wait_for_readers: bool = False
) -> zmq.Socket[bytes]:
    """A bound XPUB socket, which hears of its subscribers.

    A reader whose queue is full loses messages, and sees it by their numbers. With `wait_for_readers`, sending waits for
    the slowest reader instead (EAGAIN after SNDTIMEO): right for a replay with no clock, wrong for an instrument.
    """
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # every subscription is told, so that they can be counted
    socket.setsockopt(zmq.SNDHWM, TOPICS["spectrum"].high_water_mark)
    socket.setsockopt(zmq.MAXMSGSIZE, 1024)  # readers only ever send subscriptions
    if wait_for_readers:
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.SNDTIMEO, 100)
    _configure(socket, endpoint)
    return _bind(socket, endpoint)


class Readers:
    """How many readers have subscribed to each kind of message, as an XPUB socket hears it."""

    def __init__(self, instrument: str) -> None:
        self._topics = {kind: topic(instrument, kind) for kind in TOPICS}
        self._counts = dict.fromkeys(TOPICS, 0)
        self._ever: set[str] = set()

    def count(self, notice: bytes) -> None:
        """Take one notice in: 1 and a prefix for a subscription, 0 and the prefix for its end."""
        if notice[:1] not in (b"\0", b"\1"):
            return  # not a subscription: a message that a stranger sent upstream
        for kind, full_topic in self._topics.items():
            if full_topic.startswith(notice[1:]):
                self._counts[kind] += 1 if notice[0] == 1 else -1
                if notice[0] == 1:
                    self._ever.add(kind)

    def of(self, kind: str) -> int:
        """Number of subscriptions that cover a kind; a peer may send an end that it never began, so it may be too few."""
        return self._counts[kind]

    def ever(self, kind: str) -> bool:
        """Whether anybody has subscribed to a kind since the start. No peer can take that back from the others."""
        return kind in self._ever


def subscriber(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, instrument: str, kinds: Iterable[str]
) -> zmq.Socket[bytes]:
    """A SUB socket connected to a publisher that need not be there yet; it reconnects by itself."""
    socket = context.socket(zmq.SUB)
    prepare_subscriber(socket, endpoint, instrument, kinds)
    return socket


def prepare_subscriber(socket: zmq.Socket[Any], endpoint: str, instrument: str, kinds: Iterable[str]) -> None:
    """Limits, subscriptions and connection of a SUB socket, also of one from `zmq.asyncio`."""
    kinds = tuple(kinds)
    socket.setsockopt(zmq.RCVHWM, max(TOPICS[kind].high_water_mark for kind in kinds))
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    _configure(socket, endpoint)
    for kind in kinds:
        socket.setsockopt(zmq.SUBSCRIBE, topic(instrument, kind))
    socket.connect(endpoint)


def snapshot_server(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A bound ROUTER socket for late joiners."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    socket.setsockopt(zmq.SNDTIMEO, 0)  # a reader that does not take its answer loses it
    socket.setsockopt(zmq.SNDHWM, 2)  # answers waiting for one reader, 2 MB each: more would be memory for a stranger
    _configure(socket, endpoint)
    return _bind(socket, endpoint)


def snapshot_client(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A DEALER socket connected to an instrument's snapshot server. Requests are not queued for a server that is absent."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.SNDTIMEO, 0)
    _configure(socket, endpoint)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def command_server(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A bound ROUTER socket for commands. It takes turns among senders, so that a flood from one leaves the others heard."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    socket.setsockopt(zmq.RCVHWM, COMMANDS_WAITING)
    socket.setsockopt(zmq.SNDHWM, COMMANDS_WAITING)
    socket.setsockopt(zmq.SNDTIMEO, 0)  # a sender that does not take its answers loses them
    _configure(socket, endpoint)
    return _bind(socket, endpoint)


def command_client(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A DEALER socket connected to an instrument's command server. Nothing is queued for an instrument that is absent."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.SNDHWM, COMMANDS_WAITING)
    socket.setsockopt(zmq.SNDTIMEO, 0)
    _configure(socket, endpoint)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def bound_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Where a socket is bound, with the port that `*` became."""
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _configure(socket: zmq.Socket[Any], endpoint: str) -> None:
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    # No ZMTP heartbeats: behind a full receive queue they go unread, so that libzmq first drops the healthy connection
    # and then aborts the process (docs/decisions/0003). Silence is told by the status messages instead.
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> zmq.Socket[bytes]:
    try:
        if endpoint.startswith("ipc://"):
            _refuse_taken_path(endpoint)
        socket.bind(endpoint)
    except EelstmError:
        socket.close(linger=0)
        raise
    except zmq.ZMQError as error:
        socket.close(linger=0)
        if error.errno == zmq.EADDRINUSE:
            raise EelstmError(
                f"{endpoint} is taken by another program: stop it, or choose another port (`*` takes any that is free)."
            ) from None
        raise UsageError(f"{endpoint} can't be bound: {zmq.strerror(error.errno or 0)}.") from None
    return socket


def _refuse_taken_path(endpoint: str) -> None:
    """Libzmq deletes whatever stands at the path before it binds: a recording, or the socket of a program that runs."""
    path = Path(endpoint.removeprefix("ipc://"))
    if path.is_socket():
        with unix.socket(unix.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise EelstmError(f"{endpoint} is taken by another program: stop it, or choose another path.")
    elif path.exists():
        raise UsageError(f"{endpoint} is a file or a folder, and a socket can't take its place: choose another path.")
