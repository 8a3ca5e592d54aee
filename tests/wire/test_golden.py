"""Bytes that a version has written once stay as they are, and stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

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
from eelstm_stream.wire.messages import (
    MESSAGES,
    Acknowledgement,
    Command,
    OperatorCommand,
    OperatorReply,
    SnapshotRequest,
)
from tests.wire import goldens
from tests.wire.goldens import FOLDER, GOLDENS, Golden

each_golden = pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)


@pytest.mark.parametrize("name", goldens.written_today())
def test_todays_encoder_writes_exactly_these_bytes(name):
    assert goldens.written_today()[name] == goldens.read(name), (
        f"{name} is not encoded as it was. If the change is meant: golden/README.md says how it gets a golden beside the old one"
    )


@each_golden
def test_todays_decoder_reads_what_they_meant(golden: Golden):
    decoded = decode(goldens.read(golden.name))
    assert decoded.instrument == goldens.INSTRUMENT
    assert decoded.message == golden.message
    assert type(decoded.message) is type(golden.message)
    if golden.payload is None:
        assert decoded.payload is None
    else:
        assert decoded.payload.dtype == golden.payload.dtype
        np.testing.assert_array_equal(decoded.payload, golden.payload)


def test_a_snapshot_is_read_as_the_messages_in_it():
    decoded = decode_snapshot(goldens.read(goldens.SNAPSHOT_REPLY))
    assert [d.message for d in decoded] == [golden.message for golden in goldens.in_snapshot()]
    np.testing.assert_array_equal(decoded[1].payload, goldens.in_snapshot()[1].payload)
    with pytest.raises(WireError, match="refused: 'not a request that this program knows"):
        decode_snapshot(goldens.read(goldens.SNAPSHOT_REFUSED))


def test_a_snapshot_request_is_read():
    assert decode_snapshot_request(goldens.read(goldens.SNAPSHOT_REQUEST)) == SnapshotRequest(spectra=8)


@pytest.mark.parametrize("name", goldens.ALONE)
def test_commands_and_their_answers_are_read(name):
    meant = goldens.ALONE[name]
    decoders = {
        Command: decode_command,
        Acknowledgement: decode_acknowledgement,
        OperatorCommand: decode_operator_command,
        OperatorReply: decode_operator_reply,
    }
    assert decoders[type(meant)](goldens.read(name)) == meant


def test_every_message_has_a_golden_and_every_golden_its_meaning():
    assert {type(golden.message) for golden in GOLDENS} == set(MESSAGES)
    named = {golden.name for golden in GOLDENS} | set(goldens.written_today())
    assert {path.stem for path in FOLDER.glob("*.txt")} == named, "python -m tests.wire.goldens writes what is missing"


@each_golden
def test_a_reader_without_this_program_needs_json_and_nothing_else(golden: Golden):
    topic, header, payload = goldens.read(golden.name)
    values = json.loads(header)
    assert values["schema"] == golden.message.SCHEMA
    assert topic == f"{goldens.INSTRUMENT}.{golden.message.KIND}.".encode()
    assert len(payload) == (np.prod(values["shape"]) * np.dtype(values["dtype"]).itemsize if "shape" in values else 0)


def test_adding_goldens_touches_none_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(goldens, "FOLDER", tmp_path)
    old = tmp_path / f"{GOLDENS[0].name}.txt"
    old.write_text("as it was once\n")
    added = goldens.add_missing()
    assert old.read_text() == "as it was once\n"
    assert {path.stem for path in added} == set(goldens.written_today()) - {old.stem}
    assert all(goldens.read(path.stem) == goldens.written_today()[path.stem] for path in added)
    assert goldens.add_missing() == []
