"""The whole loop as processes, with a test's ears on it and its hand on the guard: simulator, forecaster, controller, guard.

What is flown takes seconds: the instrument's time runs SPEED times as fast as the clock. Forecaster, controller and guard stay
while simulators come and go, each a session of its own, so a test brings only what goes wrong.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import zmq

from controller.operating import Operator, OperatorSettings
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.sockets import snapshot_client
from eelstm_stream.wire.codec import WireError, decode, decode_snapshot, encode_snapshot_request
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Decision,
    GuardMode,
    GuardStatus,
    InstrumentStatus,
    Message,
    OperatorCommand,
    OperatorReply,
)
from tests.programs import WITHIN_S, Ears

SPEED = "10"
HEARD = ("session", "status", "summary", "proposal", "decision")
# Leases run in the instrument's time: these last over a second by the clock, so that a busy machine doesn't end them, and
# longer than the guard waits before it holds.
SETTINGS = """
[guard]
budget_pC = 1e7
max_lease_s = 20.0
max_dwell_s = 1.0
healthy_within_s = 0.6
silent_after_s = 2.5
increase_pA_per_s = 1e5

[control]
max_lease_s = 20.0
lease_slack_s = 10.0
"""
M = TypeVar("M", bound=Message)


class Flying:
    """Forecaster, controller and guard, as processes, around simulators that come and go."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: str = SETTINGS,
        without: tuple[str, ...] = (),
        modules: Mapping[str, str] | None = None,
    ) -> None:
        """Start them. folder: a short path, since the sockets are there. without: programs that the test plays itself.
        modules: to run in place of `eelstm`, by program.
        """
        self.at = {
            name: f"ipc://{folder}/{name}"
            for name in ("publish", "snapshot", "command", "forecasts", "proposals", "guard", "operator")
        }
        self.folder = folder
        self._modules = modules or {}
        self.journal = folder / "journal"
        config = folder / "settings.toml"
        config.write_text(settings, encoding="utf-8")
        at, common = self.at, ("--config", str(config))
        instrument = ("--spectra", at["publish"], "--snapshot", at["snapshot"])
        self._lines: dict[str, tuple[str, ...]] = {
            "serve": ("serve", *common, *instrument, "--publish", at["forecasts"]),
            "control": (
                *("control", *common, *instrument, "--forecasts", at["forecasts"], "--guard", at["guard"]),
                *("--publish", at["proposals"]),
            ),
            "guard": (
                *("guard", *common, *instrument, "--command", at["command"], "--proposals", at["proposals"]),
                *("--publish", at["guard"], "--operator", at["operator"], "--journal", str(self.journal)),
            ),
        }
        self.programs: dict[str, Child] = {}
        self.heard: list[Message] = []
        self.session = ""
        with ExitStack() as stack:
            self._programs = stack.enter_context(ExitStack())
            places = (at["publish"], at["forecasts"], at["proposals"], at["guard"])
            self.ears = stack.enter_context(Ears(HEARD, *places))
            for name in self._lines:
                if name not in without:
                    self.start(name, wait=False)
            for program in self.programs.values():
                program.wait_until_ready()
            self._stack = stack.pop_all()

    # Programs

    def start(self, name: str, *, wait: bool = True) -> Child:
        """Start a program, also again after its end."""
        program = self.programs[name] = self._programs.enter_context(
            Child(*self._lines[name], module=self._modules.get(name, "eelstm_stream"))
        )
        if wait:
            program.wait_until_ready()
        return program

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.programs[name].process
        process.kill()
        process.wait(WITHIN_S)

    @contextmanager
    def standing_still(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        process = self.programs[name].process
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def instrument(self, faults: str = "", *arguments: str, preset: str = "stable") -> Iterator[Child]:
        """A simulated instrument that obeys, with a script of faults. `session` is its session."""
        script: tuple[str, ...] = ()
        if faults:
            file = self.folder / "faults.toml"
            file.write_text(faults, encoding="utf-8")
            script = ("--faults", str(file))
        at = self.at
        places = ("--publish", at["publish"], "--snapshot", at["snapshot"], "--command", at["command"])
        line = (
            "sim",
            "run",
            "--obey",
            "--preset",
            preset,
            "--seed",
            "3",
            "--speed",
            SPEED,
            *places,
            *script,
            *arguments,
        )
        with Child(*line) as simulator:
            self.programs["sim"] = simulator
            simulator.wait_until_ready()
            self.session = self.running_session()
            yield simulator

    def running_session(self) -> str:
        """The instrument's, asked from it."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            socket = snapshot_client(context, self.at["snapshot"])
            while True:
                assert socket.poll(WITHIN_S * 1000, zmq.POLLOUT)
                socket.send(encode_snapshot_request(0))
                assert socket.poll(WITHIN_S * 1000)
                told = decode_snapshot(socket.recv_multipart())
                if told:  # before the first session there is none
                    return told[0].message.session
        finally:
            context.destroy(linger=0)

    # What is heard

    def until(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
        """The next message of this sort. All that comes before is kept in `heard`; what can't be read is passed over."""
        until_ns = clock.monotonic_ns() + round(WITHIN_S * 1e9)
        while True:
            left_s = (until_ns - clock.monotonic_ns()) / 1e9
            assert left_s > 0, (
                f"not heard within {WITHIN_S:g} s; the last of {len(self.heard)} messages was {self.heard[-1:]}"
            )
            frames = self.ears.next_frames(left_s)
            with suppress(WireError):
                message = decode(frames).message
                self.heard.append(message)
                if isinstance(message, kind) and wanted(message):
                    return message

    def mode(self, *modes: GuardMode, session: str | None = None) -> GuardStatus:
        """The guard's next status in one of these modes."""
        return self.until(GuardStatus, lambda m: m.mode in modes and session in (None, m.session))

    def controller(self, state: str, text: str = "") -> ControllerStatus:
        """The controller's next status with this state and words."""
        return self.until(ControllerStatus, lambda m: m.state == state and text in m.text)

    def beam(self, *, blanked: bool) -> InstrumentStatus:
        """The instrument's next status with the beam on or off."""
        return self.until(InstrumentStatus, lambda m: m.beam is not None and m.beam.readback.blanked is blanked)

    def of(self, kind: type[M], session: str | None = None) -> list[M]:
        """All messages of a kind that were heard so far."""
        return [m for m in self.heard if isinstance(m, kind) and session in (None, m.session)]

    # The operator

    def operator(self) -> Operator:
        """A fresh connection, as each `eelstm operator` makes one: it hears how the guard stands now."""
        return Operator(OperatorSettings(guard=self.at["guard"], operator=self.at["operator"]))

    def tell(self, action: str, session: str | None = None, **fields: Any) -> OperatorReply:
        """Tell the guard one thing. session: the instrument's that runs, unless said."""
        with self.operator() as operator:
            status = operator.hear(WITHIN_S, lambda m: session is None or m.session == session)
            assert status is not None, "nothing is heard from the guard"
            taken = -1 if status.taken_operator_seq is None else status.taken_operator_seq
            now_ns = clock.monotonic_ns()
            command = OperatorCommand(
                action=action,  # type: ignore[arg-type]
                session=status.session,
                seq=taken + 1,
                sent_mono_ns=now_ns,
                expires_mono_ns=now_ns + 5_000_000_000,
                operator="a test",
                **fields,
            )
            reply = operator.send(command)
        assert reply is not None, "the guard didn't answer"
        return reply

    def arm(self) -> str:
        """Arm the guard for the instrument that runs, once it knows its beam. Returns its session."""
        session = self.session
        self.until(GuardStatus, lambda m: m.session == session and m.readback is not None)
        with self.operator() as operator:
            status = operator.hear(WITHIN_S)
        assert status is not None
        if status.mode == "blank_latched":
            assert self.tell("clear", session).outcome == "accepted"
        reply = self.tell("arm", session)
        assert reply.outcome == "accepted", reply.reason
        return session

    def take_off(self) -> str:
        """Arm, and wait until the controller controls by forecasts. Returns the session."""
        session = self.arm()
        self.until(ControllerStatus, lambda m: m.session == session and m.state == "controlling")
        self.until(Decision, lambda m: m.session == session and m.outcome != "refused" and m.action == "proposal")
        return session

    def __enter__(self) -> Flying:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def granted_pC(flying: Flying, session: str) -> float:
    """The highest dose of the session that any lease reached: as the guard decided, or, where it ended before it could say so,
    as the instrument took it.
    """
    decided = [m.until_dose_pC for m in flying.of(Decision, session)]
    taken = [m.beam.lease.until_dose_pC for m in flying.of(InstrumentStatus, session) if m.beam and m.beam.lease]
    return max((until_pC for until_pC in (*decided, *taken) if until_pC is not None), default=0.0)
