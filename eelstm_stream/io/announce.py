"""What a daemon says of itself: one line for a person on stderr, or one JSON object on stdout for a program."""

from __future__ import annotations

import json
import sys


def say(program: str, sentence: str) -> None:
    """One line for a person."""
    sys.stderr.write(f"eelstm {program}: {sentence}\n")
    sys.stderr.flush()


def ready(program: str, as_json: bool, **endpoints: str) -> None:
    """A daemon is up, its sockets bound where `endpoints` say."""
    if as_json:
        sys.stdout.write(json.dumps({"ready": program, **endpoints}) + "\n")
        sys.stdout.flush()
    say(program, "ready; " + ", ".join(f"{name} on {endpoint}" for name, endpoint in endpoints.items()))
