"""What a daemon says of itself: one line for a person on stderr, or one JSON object on stdout for a program."""

from __future__ import annotations

import json
import sys


def printable(text: str) -> str:
    """Text from elsewhere without control characters, which could write over a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def say(program: str, sentence: str) -> None:
    """One line for a person."""
    sys.stderr.write(f"eelstm {program}: {printable(sentence)}\n")
    sys.stderr.flush()


def ready(program: str, as_json: bool, **endpoints: str) -> None:
    """A daemon is up, its sockets bound where `endpoints` say."""
    if as_json:
        sys.stdout.write(json.dumps({"ready": program, **endpoints}) + "\n")
        sys.stdout.flush()
    say(program, "ready; " + ", ".join(f"{name} on {endpoint}" for name, endpoint in endpoints.items()))
