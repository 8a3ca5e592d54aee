"""Topics are heard by those who asked for them, and by nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.wire.messages import MESSAGES
from eelstm_stream.wire.topics import TOPICS, split_topic, topic
from tests.properties import examples
from tests.wire.strategies import instrument_names

kinds = st.sampled_from(sorted(TOPICS))


@examples(100)
@given(instrument_names, kinds)
def test_a_topic_is_instrument_and_kind_with_a_dot_behind_each(instrument, kind):
    frame = topic(instrument, kind)
    assert frame == f"{instrument}.{kind}.".encode()
    assert split_topic(frame) == (instrument, kind)


@examples(200)
@given(instrument_names, instrument_names, kinds, kinds)
def test_no_topic_is_a_prefix_of_another(one, other, kind, another_kind):
    # ZeroMQ matches subscriptions as prefixes: that is what the trailing dot is there for.
    if (one, kind) != (other, another_kind):
        assert not topic(other, another_kind).startswith(topic(one, kind))


@pytest.mark.parametrize("longer", ["sto1", "sto-1", "sto_1", "stoo"])
def test_an_instrument_whose_name_goes_on_is_another(longer):
    assert longer.startswith("sto")
    for subscription in (b"sto.", topic("sto", "spectrum")):
        assert not topic(longer, "spectrum").startswith(subscription)


def test_every_message_travels_on_a_row_of_the_table_and_every_row_carries_one():
    assert {message.KIND for message in MESSAGES} == set(TOPICS)


def test_rows_say_payload_for_the_kinds_that_have_one():
    assert {kind for kind, row in TOPICS.items() if row.payload != "none"} == {"spectrum", "forecast"}
    assert all(row.high_water_mark > 0 and row.deadline_s > 0 for row in TOPICS.values())


def test_an_unknown_kind_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match="unknown kind of message 'commands'; known are session, spectrum, forecast"):
        split_topic(b"sto.commands.")
    with pytest.raises(KeyError):
        topic("sto", "commands")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b".",
        b"..",
        b"sto.spectrum",
        b"sto.spectrum.\n",
        b"\nsto.spectrum.",
        b"sto.spectrum. ",
        b"sto.spectrum.1.",
        b"STO.spectrum.",
        b"sto.Spectrum.",
        b"-sto.spectrum.",
        b"a" * 65 + b".spectrum.",
        b"st\xc3\xb6.spectrum.",
        b"sto\x00.spectrum.",
        b"spectrum.",
    ],
)
def test_what_is_no_topic_is_refused(frame):
    with pytest.raises(ValueError, match=r"is not a topic of the form <instrument>\.<kind>\."):
        split_topic(frame)
