"""`eelstm control`: the shell around `control.step`. Sockets and the clock; it decides nothing.

One loop takes up what has come: first what the instrument and the guard say of the beam, then the newest forecast, on which it
plans at once, so that a proposal leaves as soon as it can. Of forecasts that came while it was busy, the older are skipped.
"""

from __future__ import annotations

import csv
import gc
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import zmq
from pydantic import Field, model_validator

from controller import mpc
from controller.aim import Aim, contradiction
from controller.control import step
from controller.control_events import AskForSession, Event, Malformed, Output, Propose, Say, Skipped, Tick
from controller.control_state import ControlState, status
from controller.mpc import Plan
from controller.plant import Curve
from controller.problem import Limits, Problem, ProblemError
from eelstm_stream.io import clock
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.sockets import (
    CONTROL_PUBLISH,
    DEFAULT_INSTRUMENT,
    FORECAST_PUBLISH,
    GUARD_PUBLISH,
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
from eelstm_stream.wire.codec import WireError, decode, decode_snapshot, encode, encode_snapshot_request
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Decision,
    Gap,
    GuardStatus,
    InstrumentName,
    InstrumentStatus,
    Message,
    PresetName,
    SessionEnd,
    SessionStart,
    Status,
    Summary,
)

TICK_MS = 50  # how late it may notice that time has passed
AT_ONCE = 200  # messages of one sender between two looks at the others
HEARTBEAT_S = 1.0
SNAPSHOT_RETRY_S = 1.0
NO_SESSION = "none"
STEADY = ("controlling", "advising", "learning", "fallback")  # states whose text is another at every forecast

Positive = Annotated[float, Field(gt=0)]


class ControlSettings(Settings):
    """Settings of `eelstm control`, table `[control]`."""

    TABLE: ClassVar[str] = "control"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="whose beam to propose for")
    spectra: Peer = Field(INSTRUMENT_PUBLISH, description="where the instrument publishes")
    snapshot: Peer = Field(INSTRUMENT_SNAPSHOT, description="where the instrument answers late joiners")
    forecasts: Peer = Field(FORECAST_PUBLISH, description="where the forecaster publishes")
    guard: Peer = Field(GUARD_PUBLISH, description="where the guard publishes")
    publish: Endpoint = Field(CONTROL_PUBLISH, description="where to publish proposals")
    preset: PresetName = Field("preserve", description="what is wanted")
    ceiling: float | None = Field(None, description="phase since the session's start that must not be passed")
    delta: float | None = Field(None, description="phase change within a frame, for resolve")
    track: Path | None = Field(None, description="CSV file with the columns time_s and phase, for track")
    min_dose_pC: float | None = Field(
        None, description="least dose of a frame, so that its signal stands above its noise"
    )
    min_dwell_s: float | None = None
    max_dwell_s: float | None = None
    max_current_pA: float | None = None
    start_dwell_s: float | None = Field(None, description="dwell while nothing is known yet")
    start_current_pA: float | None = Field(None, description="and current")
    learn_pC: float | None = Field(None, description="dose that may be spent without one usable forecast")
    max_lease_s: Positive = Field(2.0, description="longest lease to ask for; the guard's own limit")
    lease_slack_s: Positive = Field(0.25, description="how much longer than a few frames a lease is to last")
    accept_flagged: bool = Field(
        False, description="act on forecasts flagged alignment_uncertain or outside_training_range too"
    )
    solve_within_s: Positive = Field(0.05, description="a plan that took longer is late, and the one before goes on")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = contradiction(self.aim)
        if wrong is not None:
            raise ValueError(wrong)
        return self

    @property
    def aim(self) -> Aim:
        """What is wanted of the run. Raises ValueError for a trajectory that can't be read."""
        return Aim(
            self.preset,
            phase_ceiling=self.ceiling,
            delta=self.delta,
            track=() if self.track is None else read_track(self.track),
            **{
                name: getattr(self, name)
                for name in (
                    "min_dose_pC", "min_dwell_s", "max_dwell_s", "max_current_pA", "start_dwell_s", "start_current_pA",
                    "learn_pC", "max_lease_s", "lease_slack_s", "accept_flagged",
                )
            },
        )  # fmt: skip


def read_track(file: Path) -> tuple[tuple[float, float], ...]:
    """A trajectory from a CSV file with the columns time_s and phase. Raises ValueError, one sentence, where it is none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            if not {"time_s", "phase"} <= set(rows.fieldnames or ()):
                raise ValueError(
                    f"{file} needs the columns time_s and phase, and has {', '.join(rows.fieldnames or ()) or 'none'}"
                )
            return tuple((float(row["time_s"]), float(row["phase"])) for row in rows)
    except OSError as error:
        raise ValueError(f"{file} can't be read: {error.strerror}") from None
    except (TypeError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV file of numbers: {error}") from None


class Planner:
    """Solves, and says how long it took. What comes too late is not used."""

    def __init__(self, within_s: float) -> None:
        self.solve_ns: int | None = None
        self._within_s = within_s

    def __call__(self, problem: Problem, previous: Plan | None) -> Plan:
        """As `mpc.solve`; raises ProblemError where it took too long."""
        began_ns = clock.monotonic_ns()
        plan = mpc.solve(problem, previous)
        self.solve_ns = clock.monotonic_ns() - began_ns
        if self.solve_ns > self._within_s * 1e9:
            raise ProblemError(
                f"the solve took {self.solve_ns / 1e6:.1f} ms, and {self._within_s * 1e3:g} ms were allowed"
            )
        return plan


class Controller:
    """The controlling daemon of one instrument."""

    def __init__(self, settings: ControlSettings, *, as_json: bool = False) -> None:
        """Bind and connect. Raises EelstmError where the port is taken; nothing is bound then."""
        self._settings = settings
        self._as_json = as_json
        self._state = ControlState(settings.aim, clock.clock_id())
        self._planner = Planner(settings.solve_within_s)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._out = publisher(self._context, settings.publish)
        except Exception:
            self._context.destroy(linger=0)
            raise
        name = settings.instrument
        self._readers = Readers(name)
        self._spectra = subscriber(self._context, settings.spectra, name, ("session", "status"))
        self._guard = subscriber(self._context, settings.guard, name, ("status", "decision"))
        self._forecasts = subscriber(self._context, settings.forecasts, name, ("summary", "status"))
        self._snapshot = snapshot_client(self._context, settings.snapshot)
        # A controller that was started again must not use a number that the one before used in this session: the guard would
        # refuse it. Milliseconds since boot are ahead of whatever it has counted up to.
        self._seq: dict[str, int] = {"proposal": clock.monotonic_ns() // 1_000_000}
        self._said: tuple[object, ...] = ()
        self._next_heartbeat_ns = 0
        self._asked_ns: int | None = None

    def run(self, stop: Stop) -> None:
        """Propose until told to stop; then close every socket, with the last messages sent."""
        warm_up()
        poller = zmq.Poller()
        for socket in (self._spectra, self._guard, self._forecasts, self._snapshot, self._out):
            poller.register(socket, zmq.POLLIN)
        stop.register(poller)
        ready("control", self._as_json, publish=bound_endpoint(self._out))
        self._ask_for_session()
        try:
            while True:
                arrived = dict(poller.poll(TICK_MS))
                if stop.check(arrived):
                    break
                if self._out in arrived:
                    self._take_notice()
                if self._snapshot in arrived:
                    self._take_snapshot()
                for socket in (self._spectra, self._guard):
                    if socket in arrived:
                        self._take_all(socket)
                if self._forecasts in arrived:
                    self._take_newest()
                self._step(Tick())
                self._say_how_it_stands()
        finally:
            self._publish_status(state="ended", text="the controller has been stopped")
            for socket in (self._spectra, self._guard, self._forecasts, self._snapshot):
                socket.close(linger=0)
            self._context.destroy(linger=LINGER_MS)

    # Taking in

    def _take_notice(self) -> None:
        """A subscription has come or gone. Who asks for the status is told it at once."""
        before = self._readers.of("status")
        self._readers.count(self._out.recv())
        if self._readers.of("status") > before:
            self._publish_status()

    def _take_all(self, socket: zmq.Socket[bytes]) -> None:
        for event in self._heard(socket):
            self._step(event)

    def _take_newest(self) -> None:
        """All that the forecaster said, but for summaries that a newer one of the same session follows."""
        events = list(self._heard(self._forecasts))
        newest = max((at for at, event in enumerate(events) if isinstance(event, Summary)), default=-1)
        skipped = 0
        for at, event in enumerate(events):
            if isinstance(event, Summary) and at < newest and event.session == events[newest].session:  # type: ignore[union-attr]
                skipped += 1
                continue
            if skipped and at == newest:
                self._step(Skipped(skipped))
            self._step(event)

    def _heard(self, socket: zmq.Socket[bytes]) -> list[Event]:
        events: list[Event] = []
        for _ in range(AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                message = decode(frames).message
            except WireError as error:
                events.append(Malformed(str(error)))
                continue
            if isinstance(
                message,
                SessionStart | SessionEnd | Gap | InstrumentStatus | GuardStatus | Decision | Status | Summary,
            ):
                events.append(message)
        return events

    def _take_snapshot(self) -> None:
        try:
            told = decode_snapshot(self._snapshot.recv_multipart())
        except WireError as error:
            self._step(Malformed(str(error)))
            return
        for decoded in told:
            start = decoded.message
            # It may have been on its way while another session began.
            if isinstance(start, SessionStart) and start.session not in self._state.earlier:
                self._step(start)

    def _ask_for_session(self) -> None:
        now_ns = clock.monotonic_ns()
        if self._asked_ns is not None and now_ns - self._asked_ns < SNAPSHOT_RETRY_S * 1e9:
            return
        try:
            self._snapshot.send(encode_snapshot_request(0))
        except zmq.Again:
            return  # nobody is there yet; its session start will come by itself
        self._asked_ns = now_ns

    # Carrying out

    def _step(self, event: Event) -> None:
        self._state, outputs = step(self._state, event, clock.monotonic_ns(), self._planner)
        for output in outputs:
            self._do(output)

    def _do(self, output: Output) -> None:
        match output:
            case Propose():
                self._publish(output.message(self._number("proposal"), clock.monotonic_ns()))
            case AskForSession():
                self._ask_for_session()
            case Say(text):
                say("control", text)

    # Publishing

    def _number(self, kind: str) -> int:
        number = self._seq.get(kind, 0)
        self._seq[kind] = number + 1
        return number

    def _publish(self, message: Message) -> None:
        self._out.send_multipart(encode(self._settings.instrument, message))

    def _says(self) -> tuple[object, ...]:
        state = self._state
        text = None if state.state in STEADY else state.text
        session = state.session
        if session is None:
            return state.state, text
        return state.state, text, session.start.session, sum(session.discarded.values()), session.fallbacks

    def _say_how_it_stands(self) -> None:
        if self._says() != self._said or clock.monotonic_ns() >= self._next_heartbeat_ns:
            self._publish_status()

    def _publish_status(self, **changes: Any) -> None:
        now_ns = clock.monotonic_ns()
        self._next_heartbeat_ns = now_ns + round(HEARTBEAT_S * 1e9)
        self._said = self._says()
        session = self._state.session
        self._publish(
            ControllerStatus(
                session=NO_SESSION if session is None else session.start.session,
                seq=self._number("status"),
                sent_mono_ns=now_ns,
                clock_id=self._state.clock_id,
                solve_ns=self._planner.solve_ns,
                **(status(self._state) | changes),
            )
        )


def warm_up() -> None:
    """Solve once, so that the first plan doesn't wait for a library to load; and leave the garbage collector little to do."""
    dose_pC = np.linspace(0.0, 4000.0, 65)
    rising = dose_pC / 1e4
    level = np.full_like(dose_pC, 1e-4)
    curve = Curve(dose_pC, rising, level, level, level * 0.1)
    limits = Limits(0.1, 1.0, 1.0, 100.0, 100.0)
    mpc.solve(Problem(curve, 0.0, (), 40.0, 0.4, 40.0, 0.4, limits, phase_ceiling=0.3, stopping_s=0.1))
    gc.collect()
    gc.freeze()
