"""One row for each kind of message: what it carries, how often, how late it may be, and what a slow reader gets.

A topic is `<instrument>.<kind>.`; the trailing dot is there because ZeroMQ matches prefixes, and `sto1.` must not be
heard by somebody who asked for `sto`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_TOPIC = re.compile(rb"([a-z0-9][a-z0-9_-]{0,63})\.([a-z]{1,16})\.")


@dataclass(frozen=True, slots=True)
class Topic:
    """What holds for every message of one kind."""

    kind: str
    payload: str  # dtype and shape, or "none"
    rate: str  # how often it is expected
    deadline_s: float  # a reader that acts on it should not act on an older one
    high_water_mark: int  # messages queued for one reader; beyond them it loses some, and sees it by their numbers
    when_slow: Literal["take all", "may skip to newest"]  # what a reader that has fallen behind does with its queue


# The high-water mark of spectra and forecasts bounds memory: 1000 spectra of 2048 float32 channels are 8 MB a reader.
TOPICS: Mapping[str, Topic] = {
    row.kind: row
    for row in (
        Topic("session", "none", "at start, gap and end", 1.0, 1000, "take all"),
        Topic("spectrum", "float32, uint16 or uint32 (channel,)", "1/dwell: 1 to 1000 per s", 0.1, 1000, "take all"),
        Topic("forecast", "float32 (horizon, channel)", "one a spectrum", 0.1, 1000, "may skip to newest"),
        Topic("summary", "none", "one a spectrum", 0.1, 1000, "may skip to newest"),
        Topic("proposal", "none", "one a forecast", 0.05, 100, "may skip to newest"),
        Topic("decision", "none", "one a proposal", 0.05, 1000, "take all"),
        Topic("status", "none", "on change, and one a second", 2.0, 100, "may skip to newest"),
    )
}


def topic(instrument: str, kind: str) -> bytes:
    """The topic frame of a kind. Raises KeyError for a kind that is not in the table."""
    return f"{instrument}.{TOPICS[kind].kind}.".encode("ascii")


def split_topic(frame: bytes) -> tuple[str, str]:
    """Instrument and kind of a topic frame. Raises ValueError where it is no topic of this table."""
    match = _TOPIC.fullmatch(frame)
    if match is None:
        raise ValueError(f"{frame[:80]!r} is not a topic of the form <instrument>.<kind>.")
    instrument, kind = match.group(1).decode("ascii"), match.group(2).decode("ascii")
    if kind not in TOPICS:
        raise ValueError(f"unknown kind of message {kind!r}; known are {', '.join(TOPICS)}")
    return instrument, kind
