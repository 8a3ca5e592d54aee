"""What is no command, though it looks like one to a careless reader: the same for every instrument."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

LETS_ON = {"blanked": False, "lease_s": 5.0}
Damage = Callable[[dict[str, Any]], bytes]  # of the fields of a command that is one


def _with(**changes: Any) -> Damage:
    return lambda fields: json.dumps(fields | changes).encode()


def _without(name: str) -> Damage:
    return lambda fields: json.dumps({k: v for k, v in fields.items() if k != name}).encode()


def _raw(name: str, value: bytes) -> Damage:
    """A value that Python would not write."""
    return lambda fields: json.dumps(fields | {name: "HERE"}).encode().replace(b'"HERE"', value)


def _twice(first: bytes) -> Damage:
    """A field that stands there once more, in front."""
    return lambda fields: b"{" + first + b", " + json.dumps(fields).encode()[1:]


NO_COMMANDS: Mapping[str, Damage] = {
    # No number, or none that a clock or a camera has
    "NaN": _with(dwell_s=float("nan")),
    "infinite": _with(beam_current_pA=float("inf")),
    "overflows": _raw("dwell_s", b"1e999"),
    "negative": _with(beam_current_pA=-5.0),
    "nothing": _with(dwell_s=0),
    "dwell of 400 digits": _raw("dwell_s", b"1" * 400),
    "dwell of 5000 digits": _raw("dwell_s", b"1" * 5000),
    "lease of 400 digits": _raw("lease_s", b"1" * 400),
    "dose of 400 digits": lambda fields: _raw("lease_until_dose_pC", b"1" * 400)(fields | LETS_ON),
    "number that is infinite": _raw("seq", b"Infinity"),
    "number of 400 digits": _raw("seq", b"1" * 400),
    "number that JSON does not keep": _with(seq=2**53),
    "number below zero": _with(seq=-1),
    "number with a point": _with(seq=1e6),
    "expiry of 400 digits": _raw("expires_mono_ns", b"1" * 400),
    # Another type
    "on, by zero": _with(blanked=0, lease_s=5.0),
    "on, by nothing": _with(blanked="", lease_s=5.0),
    "a number in words": _with(dwell_s="0.1"),
    "a flag for a number": _with(dwell_s=True),
    "a flag for its number": _with(seq=True),
    "a list": _with(dwell_s=[0.1]),
    "session that is a list": _with(session=[]),
    "session that is nothing": _with(session=None),
    "session that is no name": _with(session="\n"),
    "session that is no text": _raw("session", b'"\\ud800"'),
    # What does not go together
    "no lease": _with(blanked=False),
    "blanked under a lease": _with(blanked=True, lease_s=5.0),
    "dose without a lease": _with(lease_until_dose_pC=50.0),
    "orders nothing": _without("dwell_s"),
    "only a lease": lambda fields: _without("dwell_s")(fields | {"lease_s": 5.0}),
    "without a session": _without("session"),
    "without a number": _without("seq"),
    "without an expiry": _without("expires_mono_ns"),
    "without a schema": _without("schema"),
    "unknown field": _with(blanker=False),
    "unknown version": _with(schema="eelstm.command/9"),
    "said twice": _twice(b'"dwell_s": 0.2'),
    "let on, and something else": lambda fields: _twice(b'"blanked": false')(fields | {"blanked": True}),
    # No JSON object
    "empty": lambda _: b"",
    "deep": lambda _: b"[" * 60_000,
    "deep, and whole": lambda _: b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a deep dwell": _raw("dwell_s", b"[" * 10_000 + b"]" * 10_000),
    "a number alone": lambda _: b"7",
    "null": lambda _: b"null",
    "list of commands": lambda fields: json.dumps([fields]).encode(),
    "no text": lambda _: b"\xff\xfe\x00",
}
