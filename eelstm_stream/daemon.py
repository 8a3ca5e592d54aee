"""`eelstm serve`: spectra in, forecasts out. The shell around `core.pipeline`: sockets, clock, inference, nothing else.

One loop takes up what has arrived, and one thread infers. While a batch is inferred, what comes meanwhile gathers, at most
MAX_BATCH windows, to be the next: on its own a spectrum waits for nothing, and behind a burst the cost of each falls. What
is to be said about sessions and losses waits in the same queue, so that everything is published in the order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import zmq
from numpy.typing import NDArray
from pydantic import Field

from eelstm_stream.core import pipeline
from eelstm_stream.core.forecast_message import forecast_fields
from eelstm_stream.core.pipeline import (
    Accepted,
    Lost,
    Refused,
    SessionClosed,
    SessionOpened,
    SessionRefused,
    SessionUnknown,
    Silent,
    Unseen,
)
from eelstm_stream.core.publishers import Publishers
from eelstm_stream.core.verification import Verification
from eelstm_stream.core.window import WindowDomain, filling
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io import clock
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.inference import InferenceThread, Inferred
from eelstm_stream.io.model_file import InferenceError, Model
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    FORECAST_PUBLISH,
    INSTRUMENT_PUBLISH,
    INSTRUMENT_SNAPSHOT,
    LINGER_MS,
    Endpoint,
    Peer,
    Readers,
    bound_endpoint,
    publisher,
    snapshot_client,
    subscriber,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import Decoded, WireError, decode, decode_snapshot, encode, encode_snapshot_request
from eelstm_stream.wire.messages import (
    MAX_SNAPSHOT_SPECTRA,
    MAX_TEXT,
    CameTrue,
    Counters,
    Forecast,
    InstrumentName,
    Message,
    Payload,
    SessionStart,
    Sha256,
    Spectrum,
    StageLatency,
    Status,
    Summary,
)

MAX_BATCH = 64  # beyond it a batch gains nothing more (measured), and the first in it would wait longer
HEARTBEAT_S = 1.0
SNAPSHOT_RETRY_S = 1.0
NO_SESSION = "none"


class ServeSettings(Settings):
    """Settings of `eelstm serve`, table `[serve]`."""

    TABLE: ClassVar[str] = "serve"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="whose spectra to forecast")
    spectra: Peer = Field(INSTRUMENT_PUBLISH, description="where the instrument publishes")
    snapshot: Peer = Field(INSTRUMENT_SNAPSHOT, description="where the instrument answers late joiners")
    publish: Endpoint = Field(FORECAST_PUBLISH, description="where to publish forecasts")
    model: str | None = Field(None, description="model file; the shipped one if not given")
    sha256: Sha256 | None = Field(None, description="hash that the model file must have; else the one beside it")
    window_domain: WindowDomain = Field(
        "auto", description="what a step of the window is: a frame, a reference dose, or dose wherever it is known"
    )


@dataclass(frozen=True, slots=True)
class _Due:
    """A window that wants its forecast, with the times of its spectrum."""

    accepted: Accepted
    taken_up_ns: int
    prepared_ns: int  # duration


class Forecaster:
    """The forecasting daemon of one instrument."""

    def __init__(self, settings: ServeSettings, model: Model, *, as_json: bool = False) -> None:
        """Bind and connect. Raises EelstmError where the model can't be served or the port is taken; nothing is bound then."""
        self._state = pipeline.new_pipeline(model.metadata, settings.window_domain)
        self._publishers = Publishers()
        self._settings = settings
        self._model = model
        self._as_json = as_json
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._out = publisher(self._context, settings.publish)
        except Exception:
            self._context.destroy(linger=0)
            raise
        self._readers = Readers(settings.instrument)
        self._inference = InferenceThread(model)
        self._queue: deque[list[_Due] | pipeline.Event] = deque()
        self._in_flight: list[_Due] = []
        self._spectra = subscriber(
            self._context, settings.spectra, settings.instrument, ("session", "spectrum", "status")
        )
        self._snapshot = snapshot_client(self._context, settings.snapshot)
        self._phase = model.metadata.phase
        self._clock_id = clock.clock_id()
        self._verification = Verification()
        self._status: tuple[str, str, int] = ("waiting", "waiting for a session", 0)
        self._published: tuple[str, str, int] | None = None
        self._session = (
            NO_SESSION  # the one that was last spoken of; while a batch is in flight, the pipeline may be ahead
        )
        self._forecasts = 0
        self._malformed = 0
        self._seq: dict[str, int] = {}
        self._next_heartbeat_ns = 0
        self._asked_ns: int | None = None

    def run(self, stop: Stop) -> None:
        """Forecast until told to stop; then close every socket, with the last messages sent."""
        poller = zmq.Poller()
        for socket in (self._spectra, self._snapshot, self._out):
            poller.register(socket, zmq.POLLIN)
        poller.register(self._inference.fileno(), zmq.POLLIN)
        stop.register(poller)
        ready("serve", self._as_json, publish=bound_endpoint(self._out))
        self._ask_for_snapshot()
        try:
            while True:
                poller.modify(self._spectra, zmq.POLLIN if self._has_room else 0)
                wait_ms = max(0, (self._next_heartbeat_ns - clock.monotonic_ns()) // 1_000_000)
                arrived = dict(poller.poll(wait_ms))
                if stop.check(arrived):
                    break
                if self._out in arrived:
                    self._take_notice()
                if self._inference.fileno() in arrived:
                    self._finish_batch(self._inference.take)
                if self._snapshot in arrived:
                    self._take_snapshot()
                if self._spectra in arrived:
                    self._take_spectra()
                self._advance()
                self._let_time_pass()
        finally:
            self._inference.close()
            self._set_status("ended", "the forecaster has been stopped")
            self._publish_status()
            for socket in (self._spectra, self._snapshot):
                socket.close(linger=0)  # nothing of theirs is worth waiting for an instrument that has gone
            self._context.destroy(linger=LINGER_MS)

    # Taking in

    def _take_notice(self) -> None:
        """A subscription has come or gone. Who asks for the status is told it at once."""
        before = self._readers.of("status")
        self._readers.count(self._out.recv())
        if self._readers.of("status") > before:
            self._publish_status()

    @property
    def _has_room(self) -> bool:
        """Whether the next batch can grow. Where not, spectra wait in the socket's queue, which is bounded."""
        last = self._queue[-1] if self._queue else None
        return len(self._queue) < MAX_BATCH and not (isinstance(last, list) and len(last) >= MAX_BATCH)

    def _take_spectra(self) -> None:
        while self._has_room:
            try:
                frames = self._spectra.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            taken_up_ns = clock.monotonic_ns()
            try:
                decoded = decode(frames)
            except WireError as error:
                self._count_malformed(error)
            else:
                self._watch(decoded.message)
                self._step(decoded, taken_up_ns)

    def _watch(self, message: Message) -> None:
        """Say it at once where two publish under one name, and when that is over."""
        before, self._publishers = self._publishers.alarm, self._publishers.heard(message)
        if (alarm := self._publishers.alarm) != before:
            say("serve", f"ALARM: {alarm}" if alarm else "the alarm is over: one of the two sessions has ended")
            self._publish_status()

    def _take_snapshot(self) -> None:
        try:
            decoded = decode_snapshot(self._snapshot.recv_multipart())
        except WireError as error:
            self._count_malformed(error)
            return
        for wanted in self._filling(decoded):
            self._step(wanted, clock.monotonic_ns())

    def _filling(self, snapshot: list[Decoded]) -> list[Decoded]:
        """A session's start, and of its spectra those that fill the window: older ones would give forecasts of the past."""
        start = snapshot[0].message if snapshot else None
        headers = [decoded.message for decoded in snapshot[1:] if isinstance(decoded.message, Spectrum)]
        if not isinstance(start, SessionStart) or len(headers) != len(snapshot) - 1:
            return snapshot
        try:
            needed = filling(self._model.metadata, start, headers, self._settings.window_domain)
        except UnusableInputError:
            needed = 0  # the pipeline says why
        return [snapshot[0], *snapshot[max(1, len(snapshot) - needed) :]]

    def _step(self, decoded: Decoded, taken_up_ns: int) -> None:
        """Take one message in, and queue what follows from it."""
        self._state, events = pipeline.step(self._state, decoded.message, decoded.payload, taken_up_ns)
        prepared_ns = clock.monotonic_ns() - taken_up_ns
        for event in events:
            if not isinstance(event, Accepted):
                self._queue.append(event)
                continue
            due = _Due(event, taken_up_ns, prepared_ns)
            last = self._queue[-1] if self._queue else None
            if isinstance(last, list) and len(last) < MAX_BATCH:
                last.append(due)
            else:
                self._queue.append([due])

    def _count_malformed(self, error: WireError) -> None:
        self._malformed += 1
        if self._malformed & (self._malformed - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a flood must not fill the log
            say("serve", f"dropped malformed message {self._malformed}: {error}")

    # Saying what happened

    def _report(self, event: pipeline.Event) -> None:
        match event:
            case SessionOpened(session, needed):
                self._verification = Verification()
                self._forecasts = 0
                self._session = session.session
                say(
                    "serve", f"session {session.session}: {session.source} {session.source_name}, {session.energy_axis}"
                )
                self._set_status("filling", f"the window needs {needed} more spectra", needed)
            case SessionRefused(session, reason):
                say("serve", f"refused: {reason}")
                self._session = session.session
                self._forecasts = 0
                self._set_status("refused", reason)
            case SessionClosed(reason):
                self._set_status("waiting", f"session {reason}; waiting for the next")
            case SessionUnknown(session):
                self._ask_for_snapshot()
                self._set_status("waiting", f"asking the instrument for the start of session {session}")
            case Lost(first, last, emptied, needed):
                if emptied:
                    self._set_status("filling", f"spectra {first} to {last} lost; the window starts anew", needed)
            case Unseen(before, needed):
                text = f"the specimen received too much dose without a spectrum before spectrum {before}"
                self._set_status("filling", f"{text}; the window starts anew", needed)
            case Refused(_, reason, invalid):
                self._set_status("invalid", reason if invalid else f"refused: {reason}")
            case Silent(silent_s):
                self._set_status("silent", f"nothing from the instrument for {silent_s:.1f} s")

    def _set_status(self, state: str, text: str, needed: int = 0) -> None:
        self._status = (state, text[:MAX_TEXT], needed)  # it may quote a sender's own text
        if self._status != self._published:
            self._publish_status()

    def _publish_status(self) -> None:
        state, text, needed = self._status
        self._published = self._status
        self._next_heartbeat_ns = clock.monotonic_ns() + int(HEARTBEAT_S * 1e9)
        counters = self._state.counters.model_dump() | {"forecasts": self._forecasts, "malformed": self._malformed}
        self._send(
            Status(
                **self._envelope("status", self._session),
                sender="forecaster",
                state=state,  # type: ignore[arg-type]
                text=text,
                needed=needed,
                model_name=self._model.metadata.name,
                model_sha256=self._model.sha256,
                window=self._model.metadata.window,
                counters=Counters(**counters),
                alarm=self._publishers.alarm,
            )
        )

    def _let_time_pass(self) -> None:
        now_ns = clock.monotonic_ns()
        self._state, events = pipeline.tick(self._state, now_ns)
        self._queue.extend(events)
        self._advance()
        if now_ns >= self._next_heartbeat_ns:
            self._publish_status()

    # Forecasting

    def _advance(self) -> None:
        """Work the queue off, up to the next batch that has to be inferred."""
        while self._queue and not self._inference.is_busy:
            work = self._queue.popleft()
            if not isinstance(work, list):
                self._report(work)
                continue
            windows, histories = _windows(work)
            if not windows:
                self._publish_batch(work, None)
                continue
            self._in_flight = work
            if len(windows) == 1 and not self._queue:
                # Nothing else waits, so nothing is gained by going on meanwhile.
                self._finish_batch(partial(self._inference.run_here, windows[0], histories[0]))
            else:
                self._inference.start(windows, histories)

    def _finish_batch(self, result: Callable[[], Inferred]) -> None:
        """Publish the batch in flight, given how to get its result."""
        try:
            inferred = result()
        except InferenceError as error:
            say("serve", f"forecast discarded: {error}")
            self._set_status("invalid", str(error))
            inferred = None
        batch, self._in_flight = self._in_flight, []
        following = self._queue[0] if self._queue else None
        if isinstance(following, list) and any(_windows(following)):
            # The next one is inferred while this one is published.
            self._in_flight = following
            self._queue.popleft()
            self._inference.start(*_windows(following))
        self._publish_batch(batch, inferred)

    def _publish_batch(self, batch: list[_Due], inferred: Inferred | None) -> None:
        """Publish what a batch was for, in the order of arrival."""
        row = 0
        for due in batch:
            accepted = due.accepted
            self._verification, came_true = self._verification.with_spectrum(accepted.past)
            if accepted.window is None:
                self._set_status("filling", f"the window needs {accepted.needed} more spectra", accepted.needed)
                continue
            if inferred is None:
                continue
            counts, phase = inferred.counts[row], inferred.phase[row]
            row += 1
            self._verification = self._verification.with_forecast(
                accepted.past.position, self._model.metadata.horizons, counts, accepted.window
            )
            latency = StageLatency(
                queued_ns=self._queued_ns(due),
                prepared_ns=due.prepared_ns,
                inferred_ns=inferred.inferred_ns,
                batch=len(inferred.counts),
            )
            self._publish_forecast(accepted, counts, phase, came_true, latency)

    def _queued_ns(self, due: _Due) -> int:
        """Time from the source's send to being taken up; 0 where the two clocks do not compare."""
        if due.accepted.session.clock_id != self._clock_id:
            return 0
        return max(0, due.taken_up_ns - due.accepted.spectrum.sent_mono_ns)

    def _publish_forecast(
        self,
        accepted: Accepted,
        counts: np.ndarray[Any, np.dtype[np.float32]],
        phase: np.ndarray[Any, np.dtype[np.float32]],
        came_true: tuple[CameTrue, ...],
        latency: StageLatency,
    ) -> None:
        model, start = self._model.metadata, accepted.session
        common: dict[str, Any] = forecast_fields(model, self._phase, accepted, phase) | {
            "model_sha256": self._model.sha256,
            "came_true": came_true,
            "skill": self._verification.skill,
            "latency": latency,
        }
        self._forecasts += 1
        self._status = ("forecasting", f"forecasting with {model.name}", 0)
        # What nobody has subscribed to need not be made: validating and writing a header takes longer than aligning.
        forecast_envelope, summary_envelope = (self._envelope(kind, start.session) for kind in ("forecast", "summary"))
        if self._readers.ever("forecast"):
            forecast = Forecast(**forecast_envelope, **common, energy_axis=model.energy_axis, shape=counts.shape)
            self._send(forecast, counts)
        if self._readers.ever("summary"):
            self._send(Summary(**summary_envelope, **common))
        if self._published is None or self._published[0] != "forecasting":
            self._publish_status()

    # Wire

    def _envelope(self, kind: str, session: str) -> dict[str, Any]:
        seq = self._seq.get(kind, 0)
        self._seq[kind] = seq + 1
        return {"session": session, "seq": seq, "sent_mono_ns": clock.monotonic_ns()}

    def _send(self, message: Message, payload: Payload | None = None) -> None:
        self._out.send_multipart(encode(self._settings.instrument, message, payload))

    @property
    def _spectra_to_ask_for(self) -> int:
        """Spectra that fill a window for certain; of a window on dose nobody knows beforehand how many do."""
        model = self._model.metadata
        on_frames = self._settings.window_domain == "frame" or model.dose_is_relative
        return min(model.window, MAX_SNAPSHOT_SPECTRA) if on_frames else MAX_SNAPSHOT_SPECTRA

    def _ask_for_snapshot(self) -> None:
        """Ask the instrument for its session and recent spectra, at most once in SNAPSHOT_RETRY_S."""
        now_ns = clock.monotonic_ns()
        if self._asked_ns is not None and now_ns - self._asked_ns < SNAPSHOT_RETRY_S * 1e9:
            return
        try:
            self._snapshot.send(encode_snapshot_request(self._spectra_to_ask_for))
        except zmq.Again:
            return  # no instrument there yet; its session start will come by itself
        self._asked_ns = now_ns


def _windows(batch: list[_Due]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Full windows `(window, channel)` of a batch, and the histories `(channel,)` that go with them."""
    full = [(d.accepted.window, d.accepted.history) for d in batch if d.accepted.window is not None]
    return [window for window, _ in full if window is not None], [history for _, history in full]
