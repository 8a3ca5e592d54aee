"""What `eelstm operator` does: hears the guard's status, sends one command, and waits for what comes of it."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar

import zmq
from pydantic import Field, ValidationError

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io import clock
from eelstm_stream.io.announce import printable
from eelstm_stream.io.config import Settings
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    GUARD_OPERATOR,
    GUARD_PUBLISH,
    Peer,
    command_client,
    subscriber,
)
from eelstm_stream.wire.codec import WireError, decode, decode_operator_reply, encode_operator_command
from eelstm_stream.wire.messages import MAX_SEQ, GuardStatus, InstrumentName, OperatorCommand, OperatorReply, Text

BLANK_HEARS_S = 0.2  # for how long `blank` listens before it is sent all the same
HEARS_S = 3.0  # a guard says its status each second, and to whoever subscribes at once
ANSWERS_S = 3.0
BLANKED_WITHIN_S = 3.0
EXPIRES_S = 2.0
BY_HAND = "BLANK BY HAND, at the microscope, now"


class OperatorSettings(Settings):
    """Settings of `eelstm operator`, table `[operator]`."""

    TABLE: ClassVar[str] = "operator"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="whose guard")
    guard: Peer = Field(GUARD_PUBLISH, description="where the guard publishes")
    operator: Peer = Field(GUARD_OPERATOR, description="where the guard takes an operator's commands")
    who: Text | None = Field(None, description="who you are, for the journal; by default your login")


class Operator:
    """A connection to a guard: its status, and its ear for an operator."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._commands = command_client(self._context, settings.operator)
        self._statuses = subscriber(self._context, settings.guard, settings.instrument, ("status",))

    def hear(self, within_s: float, wanted: Callable[[GuardStatus], bool] = lambda _: True) -> GuardStatus | None:
        """The guard's next status of this sort, or None where none comes in time."""
        until_ns = clock.monotonic_ns() + round(within_s * 1e9)
        while (left_ns := until_ns - clock.monotonic_ns()) > 0 and self._statuses.poll(-(-left_ns // 1_000_000)):
            with suppress(WireError):
                message = decode(self._statuses.recv_multipart()).message
                if isinstance(message, GuardStatus) and wanted(message):
                    return message
        return None

    def send(self, command: OperatorCommand) -> OperatorReply | None:
        """Send a command once, as soon as a guard is there, and wait for its answer; None where there is none in time."""
        until_ns = clock.monotonic_ns() + round(ANSWERS_S * 1e9)
        if not self._commands.poll(round(ANSWERS_S * 1000), zmq.POLLOUT):
            return None
        self._commands.send(encode_operator_command(command))
        while (left_ns := until_ns - clock.monotonic_ns()) > 0 and self._commands.poll(-(-left_ns // 1_000_000)):
            with suppress(WireError):
                reply = decode_operator_reply(self._commands.recv_multipart())
                if reply.seq in (command.seq, None):
                    return reply
        return None

    def __enter__(self) -> Operator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)


def tell(settings: OperatorSettings, action: str, reason: str, *, as_json: bool, **fields: Any) -> int:
    """Tell the guard one thing, and say what came of it. Returns the exit code: 0 where the guard did it."""
    with Operator(settings) as guard:
        if action == "blank":
            return _blank(guard, settings, reason, as_json=as_json)
        heard = guard.hear(HEARS_S)
        if heard is None:
            raise EelstmError(
                f"no guard is heard at {settings.guard}: see whether `eelstm guard` runs there. Without one, no lease is "
                f"granted, and the instrument blanks itself."
            )
        if action == "approve" and fields.get("proposal_seq") is None:
            if heard.awaiting_approval is None:
                raise EelstmError("no proposal waits for approval.")
            fields["proposal_seq"] = heard.awaiting_approval
        command = _command(settings, action, reason, heard, **fields)
        reply = guard.send(command)
        if reply is None:
            raise EelstmError(
                f"the guard didn't answer within {ANSWERS_S:g} s, so nobody knows whether it will {action}: "
                f"`eelstm operator status` tells."
            )
        _show(reply, action, as_json)
        return 0 if reply.outcome == "accepted" else 1


def show_status(settings: OperatorSettings, *, as_json: bool) -> int:
    """Say what the guard does."""
    with Operator(settings) as guard:
        heard = guard.hear(HEARS_S)
    if heard is None:
        raise EelstmError(f"no guard is heard at {settings.guard}: see whether `eelstm guard` runs there.")
    if as_json:
        sys.stdout.write(heard.model_dump_json(by_alias=True, exclude_none=True) + "\n")
        return 0
    lines = [f"{heard.mode.replace('_', ' ')}: {heard.text}"]
    if heard.ledger is not None:
        ledger = heard.ledger
        lines.append(
            f"ledger: {ledger.charged_pC:g} of {ledger.budget_pC:g} pC charged, {ledger.reported_pC:g} pC reported, "
            f"{ledger.left_pC:g} pC left"
        )
    if heard.readback is not None:
        read = heard.readback
        lines.append(
            f"beam: {'blanked' if read.blanked else 'ON'}, {read.dwell_s:g} s a frame at {read.beam_current_pA:g} pA"
        )
    refused = ", ".join(f"{limit} {count}" for limit, count in heard.refused_by.items())
    lines.append(
        f"this session: {heard.accepted} accepted, {heard.clamped} clamped, {heard.refused} refused"
        + (f" ({refused})" if refused else "")
    )
    if heard.awaiting_approval is not None:
        lines.append(f"proposal {heard.awaiting_approval} waits: `eelstm operator approve`")
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
    return 0


def _blank(guard: Operator, settings: OperatorSettings, reason: str, *, as_json: bool) -> int:
    """The guard's status gives session and number where it's heard in time; `blank` acts without them as well."""
    heard = guard.hear(BLANK_HEARS_S)
    reply = guard.send(_command(settings, "blank", reason, heard))
    if reply is None:
        raise EelstmError(
            f"NO GUARD ANSWERS at {settings.operator}, and THE BEAM MAY BE ON: {BY_HAND}. Without its guard, the "
            f"instrument blanks itself when its lease ends, within seconds."
        )
    if reply.outcome != "accepted":
        _show(reply, "blank", as_json)
        return 1
    if reply.session is None:
        _show(reply, "blank", as_json)
        return 1
    answered_ns = reply.sent_mono_ns  # what the guard said before it may be of the beam before
    seen = guard.hear(BLANKED_WITHIN_S, lambda status: status.beam_is_off and status.sent_mono_ns >= answered_ns)
    if seen is None:
        raise EelstmError(
            f"the guard told the instrument to blank, and the instrument hasn't said that it did: {BY_HAND}, and see "
            f"`eelstm operator status`."
        )
    confirmed = "the beam is blanked, as the instrument says, and latched; when all is well, `eelstm operator clear`."
    _show(reply.model_copy(update={"reason": confirmed}), "blank", as_json)
    return 0


def _command(
    settings: OperatorSettings, action: str, reason: str, heard: GuardStatus | None, **fields: Any
) -> OperatorCommand:
    now_ns = clock.monotonic_ns()
    guard_now_ns = now_ns  # on one machine all clocks are one
    if heard is not None and heard.clock_id != clock.clock_id():
        guard_now_ns = heard.sent_mono_ns
    taken = -1 if heard is None or heard.taken_operator_seq is None else heard.taken_operator_seq
    try:
        return OperatorCommand(
            action=action,  # type: ignore[arg-type]
            session="unknown" if heard is None else heard.session,
            seq=min(taken + 1, MAX_SEQ),
            sent_mono_ns=now_ns,
            expires_mono_ns=guard_now_ns + round(EXPIRES_S * 1e9),
            operator=settings.who or _login(),
            reason=reason,
            **fields,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _show(reply: OperatorReply, action: str, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(reply.model_dump(mode="json", by_alias=True, exclude_none=True)) + "\n")
        return
    mode = reply.mode.replace("_", " ")
    if reply.outcome == "accepted":
        sys.stdout.write(f"{printable(reply.reason)} (the guard is {mode})\n")
    else:
        sys.stderr.write(
            f"eelstm: {action} was refused ({reply.limit}): {printable(reply.reason)} (the guard is {mode})\n"
        )
