"""What every test of the wire holds bytes against: the JSON Schemas, and the one exception that decoding may raise."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import jsonschema

from eelstm_stream.wire.codec import (
    WireError,
    decode,
    decode_acknowledgement,
    decode_command,
    decode_operator_command,
    decode_operator_reply,
    decode_snapshot,
    decode_snapshot_request,
)
from eelstm_stream.wire.schemas import schema_files

_VALIDATORS = {
    schema["$id"]: jsonschema.Draft202012Validator(schema) for schema in map(json.loads, schema_files().values())
}
DECODERS: tuple[Callable[[Sequence[bytes]], object], ...] = (
    decode,
    decode_snapshot,
    decode_snapshot_request,
    decode_command,
    decode_acknowledgement,
    decode_operator_command,
    decode_operator_reply,
)
LONGEST_SENTENCE = 600  # of a WireError: it goes into logs and, for a snapshot, back to the sender


def validate_header(header: bytes) -> None:
    """Hold a header against the schema that it names. Raises jsonschema.ValidationError."""
    values = json.loads(header)
    _VALIDATORS[values["schema"]].validate(values)


def decode_or_refuse(frames: Sequence[bytes]) -> bool:
    """Give frames to every decoder: each decodes them, to what its schema allows, or raises WireError in one sentence.

    Returns whether any decoded them.
    """
    decoded = False
    for decoder in DECODERS:
        try:
            decoder(frames)
        except WireError as error:
            sentence = str(error)
            assert 0 < len(sentence) < LONGEST_SENTENCE, sentence
            assert sentence.isprintable(), sentence
        else:
            decoded = True
            validate_header(frames[1] if decoder is decode else frames[0])
    return decoded
