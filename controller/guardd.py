"""`eelstm guard`: the shell around `guard.step`. Sockets, the clock and the journal; it decides nothing.

One loop serves the operator first, then the instrument's answers, then everything else a little at a time, so that an operator's
`blank` waits for a handful of messages at most. Each step is carried out in the order of its effects: where one says `Write`, the
entry is on the disk before what comes after it, and what comes after it is not done where the disk refuses.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import zmq
from pydantic import Field, model_validator

from controller.guard import step
from controller.guard_events import (
    Acknowledged,
    Decide,
    Effect,
    Event,
    JournalFailed,
    Malformed,
    Reply,
    Say,
    Send,
    Sender,
    Stopping,
    Tick,
    Write,
)
from controller.guard_report import sentence, status
from controller.guard_state import GuardState
from controller.journal import JournalError, open_journal
from controller.journal_entries import start_entry, step_entry
from controller.limits import Limits, contradiction
from controller.recovery import recover
from eelstm_stream.io import clock
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.io.sockets import (
    CONTROL_PUBLISH,
    DEFAULT_INSTRUMENT,
    GUARD_OPERATOR,
    GUARD_PUBLISH,
    INSTRUMENT_COMMAND,
    INSTRUMENT_PUBLISH,
    INSTRUMENT_SNAPSHOT,
    LINGER_MS,
    Endpoint,
    Peer,
    Readers,
    bound_endpoint,
    command_server,
    publisher,
    snapshot_client,
    subscriber,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import (
    MAX_HEADER_BYTES,
    WireError,
    claimed,
    decode,
    decode_operator_command,
    decode_snapshot,
    encode,
    encode_operator_reply,
    encode_snapshot_request,
)
from eelstm_stream.wire.messages import (
    InstrumentName,
    InstrumentStatus,
    Message,
    OperatorReply,
    Proposal,
    SessionEnd,
    SessionStart,
)

TICK_MS = 50  # how late the guard may notice that time has passed
AT_ONCE = 10  # messages of one sender between two looks at the operator
HEARTBEAT_S = 1.0
SNAPSHOT_RETRY_S = 1.0
LAST_ANSWER_MS = 500  # how long an ending guard waits to hear that the beam is blanked

Positive = Annotated[float, Field(gt=0)]


class GuardSettings(Settings):
    """Settings of `eelstm guard`, table `[guard]`."""

    TABLE: ClassVar[str] = "guard"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="whose beam to guard")
    spectra: Peer = Field(INSTRUMENT_PUBLISH, description="where the instrument publishes")
    snapshot: Peer = Field(INSTRUMENT_SNAPSHOT, description="where the instrument answers late joiners")
    command: Peer = Field(INSTRUMENT_COMMAND, description="where the instrument takes commands")
    proposals: Peer = Field(CONTROL_PUBLISH, description="where the controller publishes")
    publish: Endpoint = Field(GUARD_PUBLISH, description="where to publish decisions and status")
    operator: Endpoint = Field(GUARD_OPERATOR, description="where to take an operator's commands")
    journal: Path | None = Field(None, description="the journal's file; one for each specimen's budget")
    approve: Literal["none", "each"] = Field("none", description="whether each proposal waits for an operator")
    budget_pC: Positive | None = Field(None, description="dose that may be spent in all, by this journal")
    max_current_pA: Positive = 500.0
    min_dwell_s: Positive = 0.001
    max_dwell_s: Positive = 1.0
    max_lease_s: Positive = 2.0
    increase_pA_per_s: Positive = 100.0
    healthy_within_s: Positive = 2.0
    silent_after_s: Positive = 3.0
    spectrum_within_s: Positive = 10.0
    command_within_s: Annotated[float, Field(gt=0, le=5)] = 0.5
    approve_within_s: Positive = 30.0
    readback_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _sound(self) -> Self:
        broken = contradiction(self.limits)
        if broken is not None:
            raise ValueError(broken.reason)
        return self

    @property
    def limits(self) -> Limits:
        """The limits among these settings. Raises ValueError where no budget is given."""
        if self.budget_pC is None:
            raise ValueError(
                "budget_pC is not given: say what dose the specimen may receive in all, pC, as --budget 5000 or in [guard]"
            )
        return Limits(**{name: getattr(self, name) for name in Limits.__dataclass_fields__})

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        if self.journal is not None:
            return self.journal
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "eelstm" / f"guard-{self.instrument}.journal"


class Guard:
    """The guarding daemon of one instrument."""

    def __init__(self, settings: GuardSettings, *, as_json: bool = False) -> None:
        """Take the journal, bind and connect. Raises EelstmError where a journal or a port can't be had; nothing is bound then."""
        self._settings = settings
        self._as_json = as_json
        self._journal, found = open_journal(settings.journal_path)
        torn = found.torn_bytes > 0
        self._state: GuardState = recover(
            found.marked,
            settings.limits,
            torn=torn,
            clock_id=clock.clock_id(),
            now_ns=clock.monotonic_ns(),
            approve_each=settings.approve == "each",
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._journal.append(start_entry(self._state, settings.instrument, torn=torn), durable=True)
            self._operator = command_server(self._context, settings.operator)
            self._out = publisher(self._context, settings.publish)
        except Exception:
            self._context.destroy(linger=0)
            self._journal.close()
            raise
        if torn:
            say(
                "guard",
                f"the journal's last entry was torn: {found.torn_bytes} bytes are moved aside, a longest lease is charged",
            )
        self._readers = Readers(settings.instrument)
        self._client = InstrumentClient(settings.command)
        self._spectra = subscriber(self._context, settings.spectra, settings.instrument, ("session", "status"))
        self._proposals = subscriber(self._context, settings.proposals, settings.instrument, ("proposal",))
        self._snapshot = snapshot_client(self._context, settings.snapshot)
        self._next: deque[Event] = deque()  # what followed from carrying effects out
        self._asking: list[bytes] = []  # the operator whose command is being taken
        self._seq: dict[str, int] = {}
        self._said: tuple[object, ...] = ()
        self._next_heartbeat_ns = 0
        self._next_malformed_ns = 0
        self._asked_ns: int | None = None
        self._unread: Malformed | None = None  # what came since the heartbeat and couldn't be read, counted
        self._malformed_are_told = False  # since the heartbeat

    def run(self, stop: Stop) -> None:
        """Guard until told to stop; then blank, and close every socket with the last messages sent."""
        poller = zmq.Poller()
        for socket in (self._operator, self._client.socket, self._spectra, self._proposals, self._snapshot, self._out):
            poller.register(socket, zmq.POLLIN)
        stop.register(poller)
        ready("guard", self._as_json, publish=bound_endpoint(self._out), operator=bound_endpoint(self._operator))
        say("guard", f"the journal is {self._journal.path}; {sentence(self._state)}")
        try:
            while True:
                arrived = dict(poller.poll(TICK_MS))
                self._take_operator()
                if stop.check(arrived):
                    break
                self._take_answers()
                if self._out in arrived:
                    self._take_notice()
                if self._snapshot in arrived:
                    self._take_snapshot()
                self._take_messages(self._spectra, "instrument")
                self._take_messages(self._proposals, "controller")
                self._step(Tick())
                self._ask_for_session()
                self._heartbeat()
        finally:
            self._end(poller)

    def _end(self, poller: zmq.Poller) -> None:
        self._step(Stopping())
        until_ns = clock.monotonic_ns() + LAST_ANSWER_MS * 1_000_000
        while self._state.pending and clock.monotonic_ns() < until_ns and self._client.socket.poll(LAST_ANSWER_MS):
            self._take_answers()
        self._publish_status()
        say("guard", f"ended; {sentence(self._state)}")
        self._client.close()
        self._journal.close()
        for socket in (self._spectra, self._proposals, self._snapshot):
            socket.close(linger=0)
        self._context.destroy(linger=LINGER_MS)

    # Taking in

    def _take_operator(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sender, *frames = self._operator.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._asking = [sender]
            if len(frames) == 2 and not frames[0]:  # a REQ socket's delimiter
                self._asking.append(frames.pop(0))
            try:
                command = decode_operator_command(frames)
            except WireError as error:
                self._refuse_malformed(frames, error)
                continue
            self._step(command)

    def _refuse_malformed(self, frames: list[bytes], error: WireError) -> None:
        self._count_malformed("operator", str(error))
        reply = OperatorReply(
            seq=claimed(frames)[1],
            session=self._state.session,
            sent_mono_ns=clock.monotonic_ns(),
            clock_id=self._state.clock_id,
            outcome="refused",
            limit="malformed",
            reason=str(error),
            mode=_plain(self._state),
            taken_operator_seq=self._state.operator_seq,
        )
        self._answer(reply)

    def _take_answers(self) -> None:
        for _ in range(AT_ONCE):
            if not self._client.socket.poll(0):
                return
            answer = self._client.receive()
            if answer is not None and answer.seq is not None:
                self._step(Acknowledged(answer.seq, answer.outcome, answer))

    def _take_notice(self) -> None:
        """A subscription has come or gone. Who asks for the status is told it at once."""
        before = self._readers.of("status")
        self._readers.count(self._out.recv())
        if self._readers.of("status") > before:
            self._publish_status()

    def _take_snapshot(self) -> None:
        try:
            told = decode_snapshot(self._snapshot.recv_multipart())
        except WireError as error:
            self._count_malformed("instrument", str(error))
            return
        for decoded in told:
            start = decoded.message
            # It may have been on its way while another session began.
            if isinstance(start, SessionStart) and start.session not in self._state.earlier_sessions:
                self._step(start)

    def _take_messages(self, socket: zmq.Socket[bytes], sender: Sender) -> None:
        for _ in range(AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frames).message
            except WireError as error:
                self._count_malformed(sender, str(error), not_finite=_holds_no_number(frames))
                continue
            if isinstance(message, SessionStart | SessionEnd | InstrumentStatus | Proposal):
                self._step(message)
                self._ask_for_session()
            if self._operator.poll(0):
                return

    def _count_malformed(self, sender: Sender, reason: str, *, not_finite: bool = False) -> None:
        """One that latches at once; of others the first, and then all of a second together: each step is an entry of the journal."""
        self._unread = Malformed(sender, reason, not_finite, 1 + (0 if self._unread is None else self._unread.count))
        if not_finite or not self._malformed_are_told:
            self._tell_malformed()

    def _tell_malformed(self) -> None:
        if self._unread is not None:
            unread, self._unread = self._unread, None
            self._malformed_are_told = True
            self._step(unread)

    def _ask_for_session(self) -> None:
        """Of the session that runs, where its start wasn't heard."""
        unknown = self._state.session is None or (
            self._state.bounds is None and self._state.unfit is not None and not self._state.beam_ended
        )
        now_ns = clock.monotonic_ns()
        if not unknown or (self._asked_ns is not None and now_ns - self._asked_ns < SNAPSHOT_RETRY_S * 1e9):
            return
        try:
            self._snapshot.send(encode_snapshot_request(0))
        except zmq.Again:
            return  # nobody is there yet
        self._asked_ns = now_ns

    # Carrying out

    def _step(self, event: Event) -> None:
        self._next.append(event)
        while self._next:
            event = self._next.popleft()
            now_ns = clock.monotonic_ns()
            before = self._state
            self._state, effects = step(before, event, now_ns)
            if isinstance(event, Tick) and not effects and self._state is before:
                continue
            self._carry_out(step_entry(event, now_ns, effects, self._state), event, effects)
        self._publish_if_changed()

    def _carry_out(self, entry: dict[str, Any], event: Event, effects: tuple[Effect, ...]) -> None:
        written = False
        for effect in effects:
            if isinstance(effect, Write):
                if written:
                    continue  # the entry is of the whole step
                written = True
                if not self._write(entry, event, durable=True):
                    return
                continue
            self._do(effect)
        if not written:
            self._write(entry, event, durable=False)

    def _write(self, entry: dict[str, Any], event: Event, *, durable: bool) -> bool:
        try:
            self._journal.append(entry, durable=durable)
        except JournalError as error:
            if not isinstance(event, JournalFailed):
                self._next.append(JournalFailed(str(error)))
            return False
        return True

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(command):
                if not self._client.submit(command):
                    self._next.append(Acknowledged(command.seq, "not_sent"))
            case Decide():
                self._publish(effect.message(self._number("decision"), clock.monotonic_ns()))
            case Reply():
                self._answer(effect.message(clock.monotonic_ns(), self._state.clock_id))
            case Say(text):
                say("guard", text)

    def _answer(self, reply: OperatorReply) -> None:
        try:
            self._operator.send_multipart([*self._asking, encode_operator_reply(reply)])
        except zmq.ZMQError:
            return  # the operator has gone

    # Publishing

    def _number(self, kind: str) -> int:
        number = self._seq.get(kind, 0)
        self._seq[kind] = number + 1
        return number

    def _publish(self, message: Message) -> None:
        self._out.send_multipart(encode(self._settings.instrument, message))

    def _publish_status(self) -> None:
        self._next_heartbeat_ns = clock.monotonic_ns() + round(HEARTBEAT_S * 1e9)
        self._said = self._says()
        self._publish(status(self._state, self._number("status"), clock.monotonic_ns()))

    def _says(self) -> tuple[object, ...]:
        state = self._state
        awaiting = None if state.awaiting is None else state.awaiting.seq
        blanked = None if state.beam is None else state.beam.readback.blanked
        return (
            state.session,
            state.mode,
            state.latched_by,
            state.unfit,
            state.source_lost,
            awaiting,
            state.operator_seq,
            blanked,
            state.beam_is_off,
        )

    def _publish_if_changed(self) -> None:
        if self._says() != self._said:
            self._publish_status()

    def _heartbeat(self) -> None:
        if clock.monotonic_ns() >= self._next_malformed_ns:
            self._next_malformed_ns = clock.monotonic_ns() + round(HEARTBEAT_S * 1e9)
            self._malformed_are_told = False
            self._tell_malformed()
        if clock.monotonic_ns() >= self._next_heartbeat_ns:
            self._publish_status()


def _holds_no_number(frames: list[bytes]) -> bool:
    """Whether a header that was refused is JSON but for a NaN or an infinity in it."""
    if len(frames) != 3 or len(frames[1]) > MAX_HEADER_BYTES:
        return False
    found: list[str] = []

    def constant(text: str) -> float:
        found.append(text)
        return 0.0

    def number(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            found.append(text)
        return value

    try:
        json.loads(frames[1], parse_constant=constant, parse_float=number)
    except (ValueError, RecursionError):
        return False
    return bool(found)


def _plain(state: GuardState) -> Any:
    return state.mode.value
