"""What is encoded is decoded as the same message, and what does not fit its header is not sent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.wire.codec import (
    MAX_HEADER_BYTES,
    WireError,
    claimed,
    decode,
    decode_acknowledgement,
    decode_command,
    decode_operator_command,
    decode_operator_reply,
    decode_snapshot,
    decode_snapshot_request,
    encode,
    encode_acknowledgement,
    encode_command,
    encode_operator_command,
    encode_operator_reply,
    encode_snapshot,
    encode_snapshot_request,
)
from eelstm_stream.wire.messages import (
    MAX_SNAPSHOT_SPECTRA,
    MESSAGES,
    OperatorCommand,
    QualityFlag,
    SessionStart,
    Spectrum,
)
from tests.properties import examples
from tests.wire import goldens, strategies
from tests.wire.checking import LONGEST_SENTENCE, validate_header
from tests.wire.goldens import FORECAST_AXIS, GOLDENS, SPECTRUM, TOLD_IN_FULL

FORECAST = next(golden for golden in GOLDENS if golden.name == "eelstm.forecast.1.full")
SUMMARY = next(golden for golden in GOLDENS if golden.name == "eelstm.summary.1.full")
each_golden = pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)


def header_with(frames: list[bytes], **changes: object) -> list[bytes]:
    """The frames with fields of the header changed, or, where None, left out."""
    header = json.loads(frames[1]) | changes
    return [frames[0], json.dumps({k: v for k, v in header.items() if v is not None}).encode(), frames[2]]


# Round trips


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@examples(60)
@given(instrument=strategies.instrument_names, choice=st.data())
def test_every_message_comes_back_as_it_went_out(kind, instrument, choice):
    message, payload = choice.draw(strategies.OF_MESSAGE[kind])
    frames = encode(instrument, message, payload)
    validate_header(frames[1])
    decoded = decode(frames)
    assert (decoded.instrument, decoded.message) == (instrument, message)
    assert type(decoded.message) is type(message)
    if payload is None:
        assert frames[2] == b""
        assert decoded.payload is None
    else:
        assert decoded.payload.dtype == np.dtype(message.dtype)
        assert decoded.payload.tobytes() == payload.tobytes()
        assert decoded.payload.shape == payload.shape


@examples(20)
@given(st.lists(strategies.OF_MESSAGE[SessionStart] | strategies.OF_MESSAGE[Spectrum], max_size=4))
def test_a_snapshot_comes_back_as_the_messages_that_went_in(sent):
    decoded = decode_snapshot(encode_snapshot([encode("sto", message, payload) for message, payload in sent]))
    assert [d.message for d in decoded] == [message for message, _ in sent]
    for got, (_, payload) in zip(decoded, sent, strict=True):
        assert (got.payload is None) == (payload is None)
        if payload is not None:
            assert got.payload.tobytes() == payload.tobytes()


@pytest.mark.parametrize("spectra", [0, 8, MAX_SNAPSHOT_SPECTRA])
def test_a_snapshot_request_comes_back(spectra):
    assert decode_snapshot_request([encode_snapshot_request(spectra)]).spectra == spectra


@pytest.mark.parametrize("order", [np.array([1, 2, 3, 4], ">f4"), np.arange(8, dtype="<f4")[1:8:2], np.arange(4.0)])
def test_the_payload_is_little_endian_and_contiguous_whatever_the_array_was(order):
    frames = encode("sto", SPECTRUM, order)
    assert frames[2] == b"".join(np.float32(value).astype("<f4").tobytes() for value in order)
    np.testing.assert_array_equal(decode(frames).payload, order)


def test_integers_that_fit_go_out_as_the_header_says():
    widened = SPECTRUM.model_copy(update={"dtype": "<u4"})
    assert decode(encode("sto", widened, np.array([1, 2, 3, 65_535], np.uint16))).payload.tolist() == [1, 2, 3, 65_535]


def test_a_decoded_payload_can_not_be_written_to():
    payload = decode(encode("sto", SPECTRUM, np.ones(4, np.float32))).payload
    with pytest.raises(ValueError, match="read-only"):
        payload[0] = 2


# Encoding refuses


@pytest.mark.parametrize(
    ("dtype", "payload", "complaint"),
    [
        ("<f4", None, r"eelstm\.spectrum/1 needs a payload of shape \(4,\)"),
        ("<f4", np.ones(5, np.float32), r"needs a payload of shape \(4,\)"),
        ("<f4", np.ones((1, 4), np.float32), r"needs a payload of shape \(4,\)"),
        ("<f4", np.array([1, 2, np.nan, 4], np.float32), "is not finite at element 2"),
        ("<f4", np.array([1, np.inf, 3, 4], np.float32), "is not finite at element 1"),
        ("<f4", np.array([1, 2, 3, 1e300]), "is not finite at element 3"),
        ("<u2", np.array([1, 2, 3, 70_000], np.uint32), "payload of uint32, which <u2 does not hold"),
        ("<u2", np.array([1, 2, 3, 4.5], np.float32), "payload of float32, which <u2 does not hold"),
        ("<u4", np.array([1, 2, 3, -4], np.int32), "payload of int32, which <u4 does not hold"),
        ("<f4", np.array([1, 2, 3, 2**24 + 1], np.uint32), "payload of uint32, which <f4 does not hold"),
        ("<f4", np.array([1, 2, 3, 4j]), "payload of complex128, which <f4 does not hold"),
    ],
)
def test_a_payload_that_its_header_does_not_describe_is_not_sent(dtype, payload, complaint):
    with pytest.raises(WireError, match=complaint):
        encode("sto", SPECTRUM.model_copy(update={"dtype": dtype}), payload)


def test_a_message_without_payload_takes_none():
    with pytest.raises(WireError, match=r"eelstm\.summary/1 has no payload"):
        encode("sto", SUMMARY.message, np.ones(3, np.float32))


def test_a_header_longer_than_any_reader_takes_is_not_sent():
    flags = (QualityFlag(flag="resampled", reason="🔬" * 2000),) * 16
    with pytest.raises(WireError, match=f"has a header of .* bytes, longer than the {MAX_HEADER_BYTES} allowed"):
        encode("sto", SUMMARY.message.model_copy(update={"quality": flags}))


# Decoding refuses


@each_golden
@pytest.mark.parametrize("version", ["0", "2", "1.0"])
def test_another_version_is_refused_with_both_named(golden, version):
    spoken = golden.message.SCHEMA
    other = spoken.replace("/1", f"/{version}")
    with pytest.raises(WireError) as refusal:
        decode(header_with(golden.encoded(), schema=other))
    assert f"the sender speaks '{other}'" in str(refusal.value)
    assert spoken in str(refusal.value).partition("this program")[2]


def test_another_version_is_named_even_where_its_fields_are_others_too():
    frames = header_with(
        goldens.named("eelstm.spectrum.1.f4").encoded(), schema="eelstm.spectrum/2", dwell_s="0.4 s", shape=None
    )
    with pytest.raises(WireError, match=r"speaks 'eelstm\.spectrum/2', and this program eelstm\.spectrum/1"):
        decode(frames)


@each_golden
@pytest.mark.parametrize("schema", [None, "", "schema_"])
def test_a_header_must_name_its_schema(golden, schema):
    frames = golden.encoded()
    changed = header_with(frames, schema=schema or None)
    if schema == "schema_":  # the name of the field in Python, and of nothing on the wire
        changed = header_with(frames, schema=None, schema_=golden.message.SCHEMA)
    with pytest.raises(WireError, match="no named schema, and this program eelstm"):
        decode(changed)


@each_golden
def test_fields_that_are_not_known_here_are_passed_over(golden):
    newer = header_with(golden.encoded(), novelty={"deep": [1, None, "x"]}, another=1e400)
    assert decode(newer).message == golden.message


@each_golden
def test_fields_that_are_not_known_inside_a_field_are_passed_over(golden):
    frames = golden.encoded()
    header = json.loads(frames[1])
    maps = ("refused_by", "discarded_by")  # whose names are the sender's own
    inner = [value for name, value in header.items() if isinstance(value, dict) and name not in maps]
    for value in inner:
        value["novelty"] = 1
    assert decode([frames[0], json.dumps(header).encode(), frames[2]]).message == golden.message


@examples(100)
@given(strategies.commands, strategies.acknowledgements)
def test_commands_and_their_answers_come_back_as_they_went_out(command, answer):
    frame = encode_command(command)
    validate_header(frame)
    assert decode_command([frame]) == command
    assert claimed([frame]) == (command.session, command.seq)
    frame = encode_acknowledgement(answer)
    validate_header(frame)
    assert decode_acknowledgement([frame]) == answer


@examples(100)
@given(strategies.operator_commands, strategies.operator_replies)
def test_what_an_operator_says_and_hears_comes_back_as_it_went_out(command, reply):
    frame = encode_operator_command(command)
    validate_header(frame)
    assert decode_operator_command([frame]) == command
    frame = encode_operator_reply(reply)
    validate_header(frame)
    assert decode_operator_reply([frame]) == reply


OPERATOR_BLANKS = encode_operator_command(
    OperatorCommand(action="blank", session="a1b2c3", seq=7, sent_mono_ns=1, expires_mono_ns=2)
)


def changed_command(**changes: object) -> list[bytes]:
    """A command that lets the beam on, with fields changed, or, where None, left out."""
    fields = json.loads(goldens.read("eelstm.command.1.full")[0]) | changes
    return [json.dumps({k: v for k, v in fields.items() if v is not None}).encode()]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (changed_command(slew=1), "'slew': Extra inputs are not permitted"),
        (changed_command(schema="eelstm.command/2"), "speaks 'eelstm.command/2', and this program eelstm.command/1"),
        (changed_command(schema=None), "no named schema, and this program eelstm.command/1"),
        (changed_command(session=None), "'session': Field required"),
        (changed_command(seq=None), "'seq': Field required"),
        (changed_command(seq=True), "'seq': Input should be a valid integer"),
        (changed_command(seq=7.0), "'seq': Input should be a valid integer"),
        (changed_command(seq=2**53), "'seq': Input should be less than"),
        (changed_command(expires_mono_ns=None), "'expires_mono_ns': Field required"),
        (changed_command(expires_mono_ns=2**63), "'expires_mono_ns': Input should be less than"),
        (changed_command(dwell_s=float("nan")), "'dwell_s': Input should be"),
        (changed_command(beam_current_pA=float("inf")), "'beam_current_pA': Input should be"),
        (changed_command(beam_current_pA=-230.0), "'beam_current_pA': Input should be greater than"),
        (changed_command(dwell_s=0), "'dwell_s': Input should be greater than"),
        (changed_command(dwell_s="0.4"), "'dwell_s': Input should be a valid number"),
        (changed_command(blanked=0), "'blanked': Input should be a valid boolean"),
        (changed_command(lease_s=float("nan")), "'lease_s': Input should be"),
        (changed_command(lease_until_dose_pC=-1), "'lease_until_dose_pC': Input should be greater than"),
        (changed_command(lease_s=None, lease_until_dose_pC=None), "no beam is on without a lease"),
        (changed_command(lease_s=None, blanked=None), "lease_until_dose_pC is part of a lease"),
        (changed_command(blanked=True), "needs no lease"),
        (changed_command(blanked=None, dwell_s=None, beam_current_pA=None), "orders nothing"),
        ([*changed_command(), b""], "a command has 1 frame, and this one 2"),
        ([], "a command has 1 frame, and this one 0"),
        ([changed_command()[0] + b" " * MAX_HEADER_BYTES], "is longer than the"),
    ],
)
def test_a_command_that_is_not_wholly_understood_is_refused(frames, said):
    assert decode_command(changed_command())  # unchanged, it is one
    with pytest.raises(WireError) as refusal:
        decode_command(frames)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("frames", "claim"),
    [
        (changed_command(dwell_s=float("nan")), ("a1b2c3", 7)),
        (changed_command(schema=None, session=None), (None, 7)),
        (changed_command(seq=None), ("a1b2c3", None)),
        (changed_command(seq=-1), (None, None)),
        (changed_command(session="\n"), (None, None)),
        ([b"garbage"], (None, None)),
        ([b""], (None, None)),
        ([], (None, None)),
    ],
)
def test_session_and_number_of_a_refused_command_are_read_where_they_can_be(frames, claim):
    assert claimed(frames) == claim


def said_twice(frame: bytes, first: bytes) -> bytes:
    """A document that says something else first of what it says."""
    return b"{" + first + b"," + frame[1:]


@pytest.mark.parametrize(
    ("decoder", "frame", "first", "named"),
    [
        (decode_command, changed_command()[0], b'"dwell_s":0.4', "'dwell_s'"),
        (decode_command, changed_command()[0], b'"blanked":true', "'blanked'"),
        (decode_command, changed_command()[0], b'"dwell\\u005fs":0.4', "'dwell_s'"),
        (decode_command, changed_command()[0], b'"dwell_s":%b' % (b"9" * 4_300), "'dwell_s'"),
        (decode_command, changed_command()[0], b'"dwell_s":{"a":[[{}]]}', "'dwell_s'"),
        (decode_operator_command, OPERATOR_BLANKS, b'"action":"arm"', "'action'"),
        (decode_snapshot_request, encode_snapshot_request(8), b'"spectra":0', "'spectra'"),
    ],
    ids=["number", "flag", "escaped", "huge", "nested", "operator", "request"],
)
def test_what_says_a_thing_twice_is_refused_since_readers_differ_in_which_they_believe(decoder, frame, first, named):
    assert decoder([frame])
    with pytest.raises(WireError) as refusal:
        decoder([said_twice(frame, first)])
    assert f"{named} stands in it twice" in str(refusal.value)


def test_session_and_number_that_are_given_twice_are_not_known():
    [frame] = changed_command()
    assert claimed([said_twice(frame, b'"seq":3')]) == ("a1b2c3", None)
    assert claimed([said_twice(frame, b'"session":"other"')]) == (None, 7)


def test_an_answer_of_a_newer_instrument_is_read():
    frame = goldens.read("eelstm.acknowledgement.1.accepted")[0]
    newer = json.dumps(json.loads(frame) | {"novelty": 1}).encode()
    assert decode_acknowledgement([newer]) == goldens.ALONE["eelstm.acknowledgement.1.accepted"]


def test_a_request_with_a_field_that_is_not_known_is_refused():
    # It may ask for something that this program would not do.
    request = json.loads(encode_snapshot_request(8))
    with pytest.raises(WireError, match=r"eelstm\.snapshot_request/1: 'since': Extra inputs are not permitted"):
        decode_snapshot_request([json.dumps(request | {"since": 5}).encode()])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"spectra": MAX_SNAPSHOT_SPECTRA + 1}, "spectra"),
        ({"spectra": -1}, "spectra"),
        ({"spectra": 8.0}, "spectra"),
        ({"spectra": True}, "spectra"),
        ({"schema": "eelstm.snapshot_request/2"}, "speaks 'eelstm.snapshot_request/2', and this program"),
        ({"schema": None}, "no named schema, and this program eelstm.snapshot_request/1"),
    ],
)
def test_a_request_that_is_not_one_is_refused(changes, complaint):
    request = json.loads(encode_snapshot_request(8)) | changes
    frame = json.dumps({k: v for k, v in request.items() if v is not None}).encode()
    with pytest.raises(WireError, match=complaint):
        decode_snapshot_request([frame])
    with pytest.raises(WireError, match="has 1 frame, and this one 2"):
        decode_snapshot_request([encode_snapshot_request(8), b""])


def test_a_refusal_can_always_be_answered_however_long_what_was_refused():
    """A stranger's request must not end the instrument that answers it."""
    request = json.loads(encode_snapshot_request(8)) | {"k" * 60_000: 1}
    with pytest.raises(WireError) as refusal:
        decode_snapshot_request([json.dumps(request).encode()])
    assert len(str(refusal.value)) < LONGEST_SENTENCE
    with pytest.raises(WireError, match=r"the snapshot was refused: \"eelstm\.snapshot_request/1: 'kkk"):
        decode_snapshot(encode_snapshot([], refused=str(refusal.value)))
    with pytest.raises(WireError, match="the snapshot was refused: '🔬"):
        decode_snapshot(encode_snapshot([], refused="🔬" * 100_000))


def test_what_a_sender_wrote_commands_no_terminal_that_the_refusal_is_shown_on():
    command = "\x1b[2J\r\n"
    request = json.loads(encode_snapshot_request(8)) | {command: 1}
    reply = json.loads(encode_snapshot([])[0]) | {"refused": command * 300}
    for decoder, header in ((decode_snapshot_request, request), (decode_snapshot, reply)):
        with pytest.raises(WireError) as refusal:
            decoder([json.dumps(header).encode()])
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < LONGEST_SENTENCE
    other = header_with(SUMMARY.encoded(), schema=f"eelstm.summary/1{command}")
    with pytest.raises(WireError) as refusal:
        decode(other)
    assert str(refusal.value).isprintable()


def test_a_snapshot_must_hold_what_it_says():
    frames = goldens.read(goldens.SNAPSHOT_REPLY)
    for wrong in (frames[:-1], frames[:-3], [*frames, b""], frames[:1]):
        with pytest.raises(WireError, match="a snapshot of 2 messages has 7 frames, not"):
            decode_snapshot(wrong)
    with pytest.raises(WireError, match="a snapshot without a header"):
        decode_snapshot([])
    assert decode_snapshot(encode_snapshot([])) == []


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_message_has_three_frames(count):
    with pytest.raises(WireError, match=f"3 frames .* and this one {count}"):
        decode((GOLDENS[0].encoded() * 2)[:count])


@pytest.mark.parametrize("change", [-4, -1, 1, 4])
def test_a_payload_of_another_length_than_its_header_says_is_refused(change):
    topic, header, payload = goldens.read("eelstm.spectrum.1.f4")
    payload = payload[:change] if change < 0 else payload + b"\0" * change
    with pytest.raises(
        WireError, match=rf"has a payload of {16 + change} bytes, and its header says <f4 \(4,\), which is 16"
    ):
        decode([topic, header, payload])


def test_a_payload_where_there_is_none_is_refused():
    topic, header, _ = SUMMARY.encoded()
    with pytest.raises(WireError, match=r"eelstm\.summary/1 has no payload, and this one has 1 bytes"):
        decode([topic, header, b"\0"])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_payload_that_is_not_finite_is_refused(number):
    topic, header, _ = FORECAST.encoded()
    counts = np.ones(FORECAST_AXIS["shape"], "<f4")
    counts[1, 2] = number
    with pytest.raises(WireError, match="is not finite at element 5"):
        decode([topic, header, counts.tobytes()])


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("eelstm.spectrum.1.f4", {"seq": 1.0}, "seq"),
        ("eelstm.spectrum.1.f4", {"seq": "7"}, "seq"),
        ("eelstm.spectrum.1.f4", {"seq": True}, "seq"),
        ("eelstm.spectrum.1.f4", {"seq": 2**53}, "seq"),
        ("eelstm.spectrum.1.f4", {"seq": -1}, "seq"),
        ("eelstm.spectrum.1.f4", {"sent_mono_ns": 2**63}, "sent_mono_ns"),
        ("eelstm.spectrum.1.f4", {"session": "a b"}, "session"),
        ("eelstm.spectrum.1.f4", {"session": "a\n"}, "session"),
        ("eelstm.spectrum.1.f4", {"dtype": "<f8"}, "dtype"),
        ("eelstm.spectrum.1.f4", {"dtype": "|O"}, "dtype"),
        ("eelstm.spectrum.1.f4", {"shape": [4, 1]}, "shape"),
        ("eelstm.spectrum.1.f4", {"shape": [0]}, "shape"),
        ("eelstm.spectrum.1.f4", {"shape": [65_537]}, "shape"),
        ("eelstm.spectrum.1.f4", {"shape": 4}, "shape"),
        ("eelstm.spectrum.1.f4", {"dwell_s": 0}, "dwell_s"),
        ("eelstm.spectrum.1.f4", {"dwell_s": float("nan")}, "dwell_s"),
        ("eelstm.spectrum.1.f4", {"dwell_s": float("inf")}, "dwell_s"),
        ("eelstm.spectrum.1.f4", {"dwell_s": 10**400}, "dwell_s"),
        ("eelstm.spectrum.1.f4", {"dwell_s": 1e5}, "dwell_s"),
        ("eelstm.spectrum.1.f4", {"beam_current_pA": -230.0}, "beam_current_pA"),
        ("eelstm.spectrum.1.f4", {"acquired_at": "2026-03-04T05:06:07"}, "acquired_at"),
        ("eelstm.spectrum.1.f4", {"acquired_at": 1_772_000_000}, "acquired_at"),
        ("eelstm.spectrum.1.f4", {"acquired_at": "9999-12-31T23:59:59Z"}, "acquired_at"),
        ("eelstm.spectrum.1.f4", {"acquired_until": "0001-01-01T00:00:00+23:59"}, "acquired_until"),
        ("eelstm.session_start.1.full", {"instrument": "sto.1"}, "instrument"),
        ("eelstm.session_start.1.full", {"specimen": "x" * 2001}, "specimen"),
        (
            "eelstm.session_start.1.full",
            {"energy_axis": {"offset_eV": 0.0, "dispersion_eV": 0.0, "size": 4}},
            "dispersion",
        ),
        ("eelstm.session_start.1.full", {"energy_axis": {"offset_eV": 0.0, "dispersion_eV": 0.1, "size": 1e9}}, "size"),
        ("eelstm.gap.1.full", {"first_seq": 5, "last_seq": 4}, "last_seq is before first_seq"),
        ("eelstm.forecast.1.full", {"shape": [3, 2]}, "shape is not"),
        ("eelstm.forecast.1.full", {"dtype": "<u4"}, "dtype"),
        ("eelstm.forecast.1.full", {"horizons": []}, "horizons"),
        ("eelstm.summary.1.full", {"horizons": [0, 8]}, "horizons"),
        ("eelstm.summary.1.full", {"horizons": [1, 65]}, "horizons"),
        ("eelstm.summary.1.full", {"horizons": [1]}, "horizons, valid_at and phase differ in length"),
        ("eelstm.summary.1.full", {"phase": []}, "horizons, valid_at and phase differ in length"),
        ("eelstm.summary.1.full", {"valid_at": []}, "horizons, valid_at and phase differ in length"),
        ("eelstm.summary.1.full", {"model_sha256": "A" * 64}, "model_sha256"),
        (
            "eelstm.summary.1.full",
            {"latency": {"queued_ns": 1, "prepared_ns": 1, "inferred_ns": 1, "batch": 2**53}},
            "batch",
        ),
        ("eelstm.summary.1.full", {"skill": TOLD_IN_FULL["skill"].model_dump() | {"rmse": 1e200}}, "rmse"),
        ("eelstm.status.1.full", {"state": "armed"}, "state"),
        ("eelstm.proposal.1.full", {"blank": 0}, "blank"),
        ("eelstm.decision.1.full", {"budget_dose_pC": 0}, "budget_dose_pC"),
    ],
)
def test_a_field_out_of_its_bounds_is_refused_by_name(name, changes, field):
    with pytest.raises(WireError, match=field) as refusal:
        decode(header_with(goldens.read(name), **changes))
    assert "\n" not in str(refusal.value)
