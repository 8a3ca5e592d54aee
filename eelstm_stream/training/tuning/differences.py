"""In what two configurations differ, for a sentence."""

from __future__ import annotations

import json
from typing import Any

NAMED_AT_MOST = 5


def differences(was: Any, now: Any) -> str:
    """What is otherwise, as "seed was 0 and is 1"; empty where nothing is."""
    there, here = _flat(was), _flat(json.loads(json.dumps(now)))
    found = [
        f"{key} was {there.get(key, 'not there')} and is {here.get(key, 'not there')}"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
    return ", ".join(found[:NAMED_AT_MOST]) + more


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, of dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}
