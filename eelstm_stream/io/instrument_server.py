"""An instrument's side of the wire: it publishes, answers late joiners, and takes commands. For simulators and adapters.

Who uses it brings the instrument: it says what is under the beam, when a frame begins and ends, and which command is obeyed.
The rules for that are in `core/command_gate.py` and `core/lease.py`, and on the page docs/reference/instrument-protocol.md.
"""

from __future__ import annotations

import socket as unix
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.sockets import (
    LINGER_MS,
    Readers,
    bound_endpoint,
    command_server,
    publisher,
    snapshot_server,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import (
    WireError,
    claimed,
    decode_command,
    decode_snapshot_request,
    encode,
    encode_acknowledgement,
    encode_snapshot,
)
from eelstm_stream.wire.messages import (
    MAX_SNAPSHOT_SPECTRA,
    Acknowledgement,
    Command,
    Message,
    Payload,
    SessionEnd,
    SessionStart,
    Spectrum,
)

PATIENT_LINGER_MS = 60_000
_MORE = int(zmq.SNDMORE)
MOST_AT_ONCE = 16  # requests and commands taken up between two looks at the time: a flood must not hold up the spectra


@dataclass(frozen=True, slots=True)
class Received:
    """A command that came, or what came in its place."""

    sender: bytes
    command: Command | None
    malformed: str  # why it is none; "" where it is one
    session: str | None  # that it names, and its number, as far as they can be read
    seq: int | None


class InstrumentServer:
    """The sockets of an instrument, and the session that is running."""

    def __init__(
        self,
        instrument: str,
        stop: Stop,
        *,
        publish: str,
        snapshot: str,
        command: str | None = None,
        wait_for_readers: bool = False,
    ) -> None:
        """Bind. command: None for an instrument that takes none. wait_for_readers: send as fast as the slowest reader.

        Raises EelstmError where a port is taken; nothing is left bound then.
        """
        self.instrument = instrument
        self.readers = Readers(instrument)
        self.start: SessionStart | None = None  # of the session that is running
        # What a message and its frames become on their way out, for a simulator of faults. A message that is None is sent, and
        # not remembered for late joiners.
        self.on_the_way: Callable[[Message, list[bytes]], list[tuple[Message | None, list[bytes]]]] | None = None
        self._stop = stop
        self._patient = wait_for_readers
        self._start_frames: list[bytes] = []
        self._newest: deque[list[bytes]] = deque(maxlen=MAX_SNAPSHOT_SPECTRA)
        self._held: list[list[bytes]] | None = None  # what waits for the end of `together`
        self._commands: list[Received] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._out = publisher(self._context, publish, wait_for_readers=wait_for_readers)
            self._snapshots = snapshot_server(self._context, snapshot)
            self._orders = None if command is None else command_server(self._context, command)
        except Exception:
            self._context.destroy(linger=0)
            raise
        self._poller = zmq.Poller()
        for socket in self._sockets().values():
            self._poller.register(socket, zmq.POLLIN)
        stop.register(self._poller)
        self._woken = False
        self._ear, self._mouth = unix.socketpair()  # of `wake`
        self._mouth.setblocking(False)
        self._poller.register(self._ear.fileno(), zmq.POLLIN)

    def _sockets(self) -> dict[str, zmq.Socket[bytes]]:
        sockets = {"publish": self._out, "snapshot": self._snapshots}
        return sockets if self._orders is None else sockets | {"command": self._orders}

    @property
    def endpoints(self) -> dict[str, str]:
        """Where it is bound: publish, snapshot, and command if it takes any."""
        return {name: bound_endpoint(socket) for name, socket in self._sockets().items()}

    # Out

    def publish(self, message: Message, payload: Payload | None = None) -> None:
        """Send a message to all readers. Session start and end are remembered for late joiners, spectra too."""
        frames = encode(self.instrument, message, payload)
        if self.on_the_way is None:
            self._publish(message, frames)
            return
        for told, sent in self.on_the_way(message, frames):
            self._publish(told, sent)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is published within is sent at its end, in the same order.

        The thread that sends then is woken once for all of them, where waking it for each takes as long as encoding does.
        """
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for frames in held:
                self._send(frames)

    def _publish(self, message: Message | None, frames: list[bytes]) -> None:
        if isinstance(message, SessionStart):
            self.start, self._start_frames = message, frames
            self._newest.clear()
        elif isinstance(message, SessionEnd):
            self.start = None
        elif isinstance(message, Spectrum):
            self._newest.append(frames)
        if self._held is None:
            self._send(frames)
        else:
            self._held.append(frames)

    def _send(self, frames: list[bytes]) -> None:
        """Send; where readers are waited for, wait for the slowest, yet still end when asked to."""
        while True:
            try:
                # One by one, since send_multipart takes longer over its flags than over sending: all parts go or none.
                for frame in frames[:-1]:
                    self._out.send(frame, _MORE)
                self._out.send(frames[-1])
            except zmq.Again:
                self.look(0)
                if self._stop.requested:
                    return
            else:
                return

    def acknowledge(self, received: Received, acknowledgement: Acknowledgement) -> None:
        """Answer the sender of a command, who may have gone."""
        assert self._orders is not None  # noqa: S101 - a command came from there
        try:
            self._orders.send_multipart([received.sender, encode_acknowledgement(acknowledgement)])
        except zmq.ZMQError:
            return  # it has gone, or does not read: its loss

    # In

    def wait(self, until_ns: int | None) -> bool:
        """Serve the sockets until a time by the monotonic clock, to the microsecond; None looks once, and waits for nothing.

        Returns True early where commands have come, `wake` was called, or the end was asked for.
        """
        if until_ns is None:
            self.look(0)
            return self._is_called()
        while not self._is_called():
            remaining_ns = until_ns - clock.monotonic_ns()
            if remaining_ns < 2_000_000:
                self.look(0)
                if not self._commands and not self._woken:
                    self._stop.wait((until_ns - clock.monotonic_ns()) / 1e9, self._ear)  # zmq polls to the millisecond
                return self._is_called()
            self.look(remaining_ns // 1_000_000 - 1)
        return True

    def _is_called(self) -> bool:
        """Whether there's a reason not to wait; a `wake` is one once."""
        woken, self._woken = self._woken, False
        return bool(self._commands) or woken or self._stop.requested

    def wake(self) -> None:
        """Let `wait` return now, or the next time that it's called. The one method that another thread may call."""
        with suppress(OSError):  # it's closed, or has been told so often enough
            self._mouth.send(b".")

    def wait_for_readers(self, spectra: int) -> None:
        """Serve the sockets until so many readers have subscribed to spectra, or the end is asked for."""
        while self.readers.of("spectrum") < spectra and not self._stop.requested:
            self.look(1000)

    def look(self, timeout_ms: int) -> None:
        """Take in what has come: subscriptions, requests, which are answered, and commands, which wait to be taken."""
        arrived = dict(self._poller.poll(timeout_ms))
        if self._stop.check(arrived):
            return
        for _ in range(MOST_AT_ONCE):
            if self._ear.fileno() in arrived:
                self._woken = bool(self._ear.recv(4096))
            if self._out in arrived:
                self.readers.count(self._out.recv())
            if self._snapshots in arrived:
                self._answer_late_joiner(self._snapshots.recv_multipart())
            if self._orders is not None and self._orders in arrived:
                self._take(self._orders.recv_multipart())
            if not (arrived := dict(self._poller.poll(0))):
                return

    def commands(self) -> list[Received]:
        """The commands that have come since the last call, in their order."""
        taken, self._commands = self._commands, []
        return taken

    def _take(self, frames: list[bytes]) -> None:
        sender, *told = frames
        try:
            command = decode_command(told)
        except WireError as error:
            self._commands.append(Received(sender, None, str(error), *claimed(told)))
        else:
            self._commands.append(Received(sender, command, "", command.session, command.seq))

    def _answer_late_joiner(self, frames: list[bytes]) -> None:
        identity, *request = frames
        try:
            wanted = decode_snapshot_request(request).spectra
            known = [] if self.start is None else [self._start_frames]
            newest = list(self._newest)[-wanted:] if known and wanted else []
            answer = encode_snapshot([*known, *newest])
        except WireError as error:
            answer = encode_snapshot([], refused=str(error))
        try:
            self._snapshots.send_multipart([identity, *answer])
        except zmq.ZMQError:
            return  # the asker has gone, or does not read: its loss

    def close(self) -> None:
        """Close the sockets, with the last messages sent: where readers are waited for, to all, unless told to stop."""
        self._ear.close()
        self._mouth.close()
        patient = self._patient and not self._stop.requested
        self._context.destroy(linger=PATIENT_LINGER_MS if patient else LINGER_MS)
