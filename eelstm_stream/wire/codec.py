"""Bytes to messages and back: `[topic][JSON header][payload]`. The only exception that decoding raises is WireError.

Three frames always; a message without a payload has an empty third frame. A payload is little-endian and in C order, its
element type and shape stand in the header. Nothing here trusts the sender: sizes are checked before anything is parsed,
numbers are finite, and a payload's length must be what the header says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eelstm_stream.errors import EelstmError
from eelstm_stream.wire.messages import (
    MESSAGES,
    Acknowledgement,
    Command,
    Forecast,
    Message,
    Name,
    OperatorCommand,
    OperatorReply,
    Payload,
    Seq,
    SnapshotReply,
    SnapshotRequest,
    Spectrum,
    Strict,
)
from eelstm_stream.wire.topics import split_topic, topic

MAX_HEADER_BYTES = 64 * 1024  # the longest header, a forecast over 64 horizons, is about 20 kB
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024  # 64 horizons × 65 536 channels × 4 bytes would be 16 MiB
MAX_QUOTED = 200  # characters of what a sender wrote that go into a sentence about it
MAX_REASON = 500  # characters of a refusal that go back to the one who is refused
EMPTY = b""


class WireError(EelstmError):
    """A message that can't be encoded or decoded, in one sentence."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message taken off the wire."""

    instrument: str
    message: Message
    payload: Payload | None  # as the header's dtype and shape say; read-only, it shares the frame's memory


D = TypeVar("D", bound=BaseModel)


class _AnySchema(BaseModel):
    """Just enough of a header to say which schema its sender speaks."""

    model_config = ConfigDict(extra="ignore")
    schema_: str = Field("", alias="schema", max_length=200)


class _AnyCommand(BaseModel):
    """Just enough of a command to say which one it is."""

    model_config = ConfigDict(extra="ignore", strict=True)
    session: Name | None = None
    seq: Seq | None = None


_BY_KIND: dict[str, tuple[type[Message], ...]] = {
    kind: tuple(m for m in MESSAGES if kind == m.KIND) for kind in dict.fromkeys(m.KIND for m in MESSAGES)
}


def encode(instrument: str, message: Message, payload: Payload | None = None) -> list[bytes]:
    """The three frames of a message. Raises WireError where payload and header disagree or a number is not finite."""
    if isinstance(message, Spectrum | Forecast):
        if payload is None or payload.shape != message.shape:
            raise WireError(f"{message.SCHEMA} needs a payload of shape {message.shape}")
        body = _on_the_wire(message, payload).tobytes()
    elif payload is not None:
        raise WireError(f"{message.SCHEMA} has no payload")
    else:
        body = EMPTY
    header = message.model_dump_json(by_alias=True, exclude_none=True).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(
            f"{message.SCHEMA} has a header of {len(header)} bytes, longer than the {MAX_HEADER_BYTES} allowed"
        )
    return [topic(instrument, message.KIND), header, body]


def decode(frames: Sequence[bytes]) -> Decoded:
    """A message from its frames. Raises WireError, and nothing else, whatever the bytes are."""
    if len(frames) != 3:
        raise WireError(f"a message has 3 frames (topic, header, payload), and this one {len(frames)}")
    topic_frame, header, body = frames
    try:
        instrument, kind = split_topic(topic_frame)
    except ValueError as error:
        raise WireError(str(error)) from None
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(header)} bytes is longer than the {MAX_HEADER_BYTES} allowed")
    message = _parse(_BY_KIND[kind], header)
    if not isinstance(message, Spectrum | Forecast):
        if body:
            raise WireError(f"{message.SCHEMA} has no payload, and this one has {len(body)} bytes")
        return Decoded(instrument, message, None)
    dtype = np.dtype(message.dtype)
    expected = int(np.prod(message.shape, dtype=np.int64)) * dtype.itemsize
    if len(body) != expected:
        raise WireError(
            f"{message.SCHEMA} {message.seq} has a payload of {len(body)} bytes, and its header says "
            f"{message.dtype} {message.shape}, which is {expected}"
        )
    payload: Payload = np.frombuffer(body, dtype=dtype).reshape(message.shape)
    _check_finite(message, payload)
    return Decoded(instrument, message, payload)


def encode_command(command: Command) -> bytes:
    """The one frame with which an instrument is commanded."""
    return command.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_command(frames: Sequence[bytes]) -> Command:
    """A command. Raises WireError."""
    return _parse((Command,), _single(frames, "a command"))


def claimed(frames: Sequence[bytes]) -> tuple[str | None, int | None]:
    """Session and number that a command gives itself, if that much of it can be read: so that its sender can be told."""
    try:
        header = _single(frames, "a command")
        claim = _AnyCommand.model_validate_json(header)
    except (WireError, ValidationError):
        return None, None
    twice = _said_twice(header)
    return None if "session" in twice else claim.session, None if "seq" in twice else claim.seq


def encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    """The one frame with which an instrument answers a command."""
    return acknowledgement.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_acknowledgement(frames: Sequence[bytes]) -> Acknowledgement:
    """An instrument's answer to a command. Raises WireError."""
    return _parse((Acknowledgement,), _single(frames, "an acknowledgement"))


def encode_operator_command(command: OperatorCommand) -> bytes:
    """The one frame with which a person tells the guard something."""
    return command.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_operator_command(frames: Sequence[bytes]) -> OperatorCommand:
    """An operator's command. Raises WireError."""
    return _parse((OperatorCommand,), _single(frames, "an operator's command"))


def encode_operator_reply(reply: OperatorReply) -> bytes:
    """The one frame with which the guard answers an operator."""
    return reply.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_operator_reply(frames: Sequence[bytes]) -> OperatorReply:
    """The guard's answer to an operator's command. Raises WireError."""
    return _parse((OperatorReply,), _single(frames, "an operator's reply"))


def encode_snapshot_request(spectra: int) -> bytes:
    """The one frame with which a late joiner asks for the session and the newest spectra."""
    return SnapshotRequest(spectra=spectra).model_dump_json(by_alias=True).encode()


def decode_snapshot_request(frames: Sequence[bytes]) -> SnapshotRequest:
    """A late joiner's request. Raises WireError."""
    return _parse((SnapshotRequest,), _single(frames, "a request"))


def encode_snapshot(messages: Sequence[Sequence[bytes]], refused: str | None = None) -> list[bytes]:
    """The answer to a late joiner: messages already encoded, behind a header that counts them."""
    header = SnapshotReply(messages=len(messages), refused=None if refused is None else refused[:MAX_REASON])
    return [header.model_dump_json(by_alias=True, exclude_none=True).encode(), *(f for m in messages for f in m)]


def decode_snapshot(frames: Sequence[bytes]) -> list[Decoded]:
    """The messages in an answer to a late joiner. Raises WireError, also where the request was refused."""
    if not frames or len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError("a snapshot without a header")
    header = _parse((SnapshotReply,), frames[0])
    if header.refused is not None:
        raise WireError(f"the snapshot was refused: {header.refused!r:.{MAX_QUOTED}}")
    if len(frames) != 1 + 3 * header.messages:
        raise WireError(
            f"a snapshot of {header.messages} messages has {1 + 3 * header.messages} frames, not {len(frames)}"
        )
    return [decode(frames[i : i + 3]) for i in range(1, len(frames), 3)]


def _single(frames: Sequence[bytes], what: str) -> bytes:
    if len(frames) != 1:
        raise WireError(f"{what} has 1 frame, and this one {len(frames)}")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError(f"{what} of {len(frames[0])} bytes is longer than the {MAX_HEADER_BYTES} allowed")
    return frames[0]


def _parse(candidates: tuple[type[D], ...], header: bytes) -> D:
    """A header as the one of `candidates` whose schema it names."""
    model = candidates[0] if len(candidates) == 1 else _named(candidates, header)
    try:
        message = model.model_validate_json(header, by_alias=True, by_name=False)
    except ValidationError as error:
        _named(candidates, header)  # another version first, since every other fault may follow from that
        raise WireError(f"{model.model_fields['schema_'].default}: {_first_fault(error)}") from None
    if "schema_" not in message.model_fields_set:
        raise WireError(_unknown_schema("", candidates))
    if isinstance(message, Strict) and (twice := _said_twice(header)):
        raise WireError(f"{model.model_fields['schema_'].default}: {twice[0]!a:.{MAX_QUOTED}} stands in it twice")
    return message


def _said_twice(header: bytes) -> list[str]:
    """Fields that stand twice in a header that was understood: readers differ in which of the two they believe."""
    twice: list[str] = []

    def count(pairs: list[tuple[str, object]]) -> None:
        often = Counter(key for key, _ in pairs)
        twice.extend(key for key, times in often.items() if times > 1)

    json.loads(header, object_pairs_hook=count, parse_int=str)  # as str, since Python refuses to read long integers
    return twice


def _named(candidates: tuple[type[D], ...], header: bytes) -> type[D]:
    try:
        schema = _AnySchema.model_validate_json(header).schema_
    except ValidationError as error:
        raise WireError(f"not a header: {_first_fault(error)}") from None
    for model in candidates:
        if schema == model.model_fields["schema_"].default:
            return model
    raise WireError(_unknown_schema(schema, candidates))


def _unknown_schema(schema: str, candidates: tuple[type[D], ...]) -> str:
    quoted = f"{schema!r:.{MAX_QUOTED}}" if schema else "no named schema"
    known = " or ".join(m.model_fields["schema_"].default for m in candidates)
    return f"the sender speaks {quoted}, and this program {known}"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))  # a refused key may be as long as the header, and hold what it likes
    return f"{where!a:.{MAX_QUOTED}}: {fault['msg']}" if where else fault["msg"]


def _on_the_wire(message: Spectrum | Forecast, payload: Payload) -> Payload:
    """The payload in the header's element type, in C order. Raises WireError where its counts would change."""
    dtype = np.dtype(message.dtype)
    if payload.dtype == dtype and payload.flags.c_contiguous:  # as nearly always: a fifth of an encoding's time
        _check_finite(message, payload)
        return payload
    if not (np.can_cast(payload.dtype, dtype) or payload.dtype.kind == dtype.kind == "f"):
        raise WireError(f"{message.SCHEMA} has a payload of {payload.dtype}, which {message.dtype} does not hold")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as that
        body: Payload = np.ascontiguousarray(payload, dtype=dtype)
    _check_finite(message, body)
    return body


def _check_finite(message: Message, payload: Payload) -> None:
    if payload.dtype.kind == "f" and not np.isfinite(payload).all():
        channel = int(np.flatnonzero(~np.isfinite(payload))[0])
        raise WireError(f"{message.SCHEMA} {message.seq} is not finite at element {channel}")
