"""Bytes to messages and back: `[topic][JSON header][payload]`. The only exception that decoding raises is WireError.

Three frames always; a message without a payload has an empty third frame. A payload is little-endian and in C order, its
element type and shape stand in the header. Nothing here trusts the sender: sizes are checked before anything is parsed,
numbers are finite, and a payload's length must be what the header says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eelstm_stream.errors import EelstmError
from eelstm_stream.wire.messages import MESSAGES, Forecast, Message, Payload, SnapshotReply, SnapshotRequest, Spectrum
from eelstm_stream.wire.topics import split_topic, topic

MAX_HEADER_BYTES = 64 * 1024  # the longest header, a forecast over 64 horizons, is about 20 kB
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024  # 64 horizons × 65 536 channels × 4 bytes would be 16 MiB
EMPTY = b""


class WireError(EelstmError):
    """A message that can't be encoded or decoded, in one sentence."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message taken off the wire."""

    instrument: str
    message: Message
    payload: Payload | None  # as the header's dtype and shape say; read-only, it shares the frame's memory


class _AnySchema(BaseModel):
    """Just enough of a header to say which schema its sender speaks."""

    model_config = ConfigDict(extra="ignore")
    schema_: str = Field("", alias="schema", max_length=200)


_BY_KIND: dict[str, tuple[type[Message], ...]] = {
    kind: tuple(m for m in MESSAGES if kind == m.KIND) for kind in dict.fromkeys(m.KIND for m in MESSAGES)
}


def encode(instrument: str, message: Message, payload: Payload | None = None) -> list[bytes]:
    """The three frames of a message. Raises WireError where payload and header disagree or a number is not finite."""
    if isinstance(message, Spectrum | Forecast):
        if payload is None or payload.shape != message.shape:
            raise WireError(f"{message.SCHEMA} needs a payload of shape {message.shape}")
        _check_finite(message, payload)
        body = np.ascontiguousarray(payload, dtype=message.dtype).tobytes()
    elif payload is not None:
        raise WireError(f"{message.SCHEMA} has no payload")
    else:
        body = EMPTY
    header = message.model_dump_json(by_alias=True, exclude_none=True).encode()
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
    message = _parse(kind, header)
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


def encode_snapshot_request(spectra: int) -> bytes:
    """The one frame with which a late joiner asks for the session and the newest spectra."""
    return SnapshotRequest(spectra=spectra).model_dump_json(by_alias=True).encode()


def decode_snapshot_request(frames: Sequence[bytes]) -> SnapshotRequest:
    """A late joiner's request. Raises WireError."""
    if len(frames) != 1:
        raise WireError(f"a snapshot request has 1 frame, and this one {len(frames)}")
    frame = frames[0]
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError(f"a request of {len(frame)} bytes is longer than the {MAX_HEADER_BYTES} allowed")
    try:
        return SnapshotRequest.model_validate_json(frame)
    except ValidationError as error:
        raise WireError(f"not a snapshot request: {_first_fault(error)}") from None


def encode_snapshot(messages: Sequence[Sequence[bytes]], refused: str | None = None) -> list[bytes]:
    """The answer to a late joiner: messages already encoded, behind a header that counts them."""
    header = SnapshotReply(messages=len(messages), refused=refused)
    return [header.model_dump_json(by_alias=True, exclude_none=True).encode(), *(f for m in messages for f in m)]


def decode_snapshot(frames: Sequence[bytes]) -> list[Decoded]:
    """The messages in an answer to a late joiner. Raises WireError, also where the request was refused."""
    if not frames or len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError("a snapshot without a header")
    try:
        header = SnapshotReply.model_validate_json(frames[0])
    except ValidationError as error:
        raise WireError(f"not a snapshot: {_first_fault(error)}") from None
    if header.refused is not None:
        raise WireError(f"the snapshot was refused: {header.refused}")
    if len(frames) != 1 + 3 * header.messages:
        raise WireError(
            f"a snapshot of {header.messages} messages has {1 + 3 * header.messages} frames, not {len(frames)}"
        )
    return [decode(frames[i : i + 3]) for i in range(1, len(frames), 3)]


def _parse(kind: str, header: bytes) -> Message:
    candidates = _BY_KIND[kind]
    if len(candidates) == 1:
        try:
            return candidates[0].model_validate_json(header)
        except ValidationError as error:
            raise WireError(_explain(candidates, header, error)) from None
    try:
        schema = _AnySchema.model_validate_json(header).schema_
    except ValidationError as error:
        raise WireError(_explain(candidates, header, error)) from None
    for model in candidates:
        if schema == model.SCHEMA:
            try:
                return model.model_validate_json(header)
            except ValidationError as error:
                raise WireError(_explain((model,), header, error)) from None
    raise WireError(_unknown_schema(schema, candidates))


def _explain(candidates: tuple[type[Message], ...], header: bytes, error: ValidationError) -> str:
    """Why a header was refused: a schema of another version first, since every other fault may follow from that."""
    try:
        schema = _AnySchema.model_validate_json(header).schema_
    except ValidationError:
        return f"the header is not a JSON object: {_first_fault(error)}"
    if schema not in {m.SCHEMA for m in candidates}:
        return _unknown_schema(schema, candidates)
    return f"{schema}: {_first_fault(error)}"


def _unknown_schema(schema: str, candidates: tuple[type[Message], ...]) -> str:
    return f"the sender speaks {schema or 'no named schema'!r}, and this program {' or '.join(m.SCHEMA for m in candidates)}"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _check_finite(message: Message, payload: Payload) -> None:
    if payload.dtype.kind == "f" and not np.isfinite(payload).all():
        channel = int(np.flatnonzero(~np.isfinite(payload))[0])
        raise WireError(f"{message.SCHEMA} {message.seq} is not finite at element {channel}")
