"""Whatever bytes come, decoding answers with a message that keeps to its schema, or with WireError and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import examples
from tests.wire import goldens
from tests.wire.checking import decode_or_refuse

GOLDEN_FRAMES = {name: goldens.read(name) for name in goldens.written_today()}
TOPICS = sorted({frames[0] for frames in GOLDEN_FRAMES.values() if len(frames) == 3})

golden_frames = st.sampled_from(sorted(GOLDEN_FRAMES)).map(lambda name: list(GOLDEN_FRAMES[name]))
# JSON with everything in it that Python writes, NaN and Infinity among them, and numbers that no machine holds.
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, 5e-324, -0.0, float("nan"), float("inf")])
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@examples(200)
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_random_frames(frames):
    decode_or_refuse(frames)


@examples(200)
@given(
    st.sampled_from(TOPICS), st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode()), st.binary()
)
def test_random_headers_on_real_topics(topic, header, payload):
    decode_or_refuse([topic, header, payload])


@examples(400)
@given(st.data())
def test_goldens_with_a_field_of_another_value(choice):
    """As a careless sender has it: the right fields, one of them wrong."""
    frames = choice.draw(golden_frames)
    at = choice.draw(st.sampled_from([i for i, frame in enumerate(frames) if frame.startswith(b"{")]))
    header = json.loads(frames[at])
    inside = choice.draw(st.sampled_from([header, *(v for v in header.values() if isinstance(v, dict))]))
    key = choice.draw(st.sampled_from(sorted(inside) or [""]) | st.text(max_size=10))
    if choice.draw(st.integers(0, 9)) == 0:
        inside.pop(key, None)
    else:
        inside[key] = choice.draw(json_values)
    frames[at] = json.dumps(header).encode()
    decode_or_refuse(frames)


@examples(500)
@given(st.data())
def test_goldens_damaged_on_the_way(choice):
    frames = choice.draw(golden_frames)
    for _ in range(choice.draw(st.integers(1, 3))):
        at = choice.draw(st.integers(0, len(frames) - 1))
        frame = frames[at]
        where = choice.draw(st.integers(0, len(frame)))
        damage = choice.draw(st.sampled_from(["flip", "cut", "extend", "insert", "duplicate", "drop", "swap"]))
        if damage == "flip" and where < len(frame):
            frames[at] = (
                frame[:where] + bytes([frame[where] ^ 1 << choice.draw(st.integers(0, 7))]) + frame[where + 1 :]
            )
        elif damage == "cut":
            frames[at] = frame[:where]
        elif damage == "extend":
            frames[at] = frame + choice.draw(st.binary(min_size=1, max_size=20))
        elif damage == "insert":
            frames[at] = frame[:where] + choice.draw(st.binary(min_size=1, max_size=4)) + frame[where:]
        elif damage == "duplicate":
            frames.insert(at, frame)
        elif damage == "drop" and len(frames) > 1:
            del frames[at]
        elif damage == "swap":
            other = choice.draw(st.integers(0, len(frames) - 1))
            frames[at], frames[other] = frames[other], frames[at]
    decode_or_refuse(frames)


@pytest.mark.parametrize("name", sorted(GOLDEN_FRAMES))
def test_a_golden_cut_anywhere_is_refused(name):
    whole = GOLDEN_FRAMES[name]
    for at, frame in enumerate(whole):
        for length in range(len(frame)):
            cut = [*whole[:at], frame[:length], *whole[at + 1 :]]
            assert not decode_or_refuse(cut), cut
    for count in range(len(whole)):
        assert not decode_or_refuse(whole[:count])


SPECTRUM_TOPIC, SPECTRUM_HEADER, SPECTRUM_PAYLOAD = GOLDEN_FRAMES["eelstm.spectrum.1.f4"]
REQUEST = GOLDEN_FRAMES[goldens.SNAPSHOT_REQUEST][0]


@pytest.mark.parametrize("header", [SPECTRUM_HEADER, REQUEST], ids=["spectrum", "request"])
@pytest.mark.parametrize(
    "unwanted",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"[" * 30_000 + b"]" * 30_000,
        b"9" * 60_000,
        b"-1e" + b"9" * 60_000,
        b"0." + b"0" * 60_000 + b"1",
        b"NaN",
        b"-Infinity",
        b'"' + b"\\ud800" * 10_000 + b'"',
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b"tru",
        b"/* */ 1",
        b"0x10",
        b'"' + "🔬".encode() * 15_000 + b'"',
    ],
    ids=lambda unwanted: f"{len(unwanted)} {unwanted[:8]!r}",
)
@pytest.mark.parametrize("key", [b'"seq"', b'"novelty"', b'"shape"', b'"schema"', None], ids=str)
def test_values_that_break_careless_parsers(header, unwanted, key):
    hostile = unwanted if key is None else header[:-1] + b"," + key + b":" + unwanted + b"}"
    decode_or_refuse([hostile])
    decode_or_refuse([SPECTRUM_TOPIC, hostile, SPECTRUM_PAYLOAD])
    decode_or_refuse([hostile, hostile, hostile])


def test_a_header_longer_than_allowed_is_not_even_parsed():
    padded = SPECTRUM_HEADER + b" " * 70_000
    assert not decode_or_refuse([SPECTRUM_TOPIC, padded, SPECTRUM_PAYLOAD])
    assert not decode_or_refuse([REQUEST + b" " * 70_000])
    assert decode_or_refuse([SPECTRUM_TOPIC, SPECTRUM_HEADER + b" " * 10_000, SPECTRUM_PAYLOAD])


@pytest.mark.parametrize("name", sorted(GOLDEN_FRAMES))
def test_every_golden_itself_is_decoded(name):
    assert decode_or_refuse(GOLDEN_FRAMES[name]) is (name != goldens.SNAPSHOT_REFUSED)
