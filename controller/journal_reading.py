"""`eelstm journal`: a journal verified, replayed through the guard's rules, or written as a table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.guard import step
from controller.guard_state import GuardState
from controller.journal import look_through, read_journal
from controller.journal_entries import effects_of, event_of, marks_of, started
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.announce import printable
from eelstm_stream.io.whole_files import write_whole

MOST_SHOWN = 5  # differences said in full
DECISION = (
    "session", "action", "outcome", "limit", "reason", "mode", "proposal_seq", "command_seq", "dwell_s", "beam_current_pA",
    "lease_s", "lease_dose_pC", "until_dose_pC", "spent_dose_pC", "budget_dose_pC",
)  # fmt: skip


def verify_journal(path: Path, *, as_json: bool) -> None:
    """Say what a journal holds. Raises UnusableInputError where it was changed."""
    if not path.is_file():
        raise UnusableInputError(f"there is no journal {path}.")
    found = look_through(path)
    charged_pC = None if found.marked is None else _charged_pC(found.marked)
    if as_json:
        figures = {
            "entries": found.entries,
            "sha256": found.last_sha256,
            "torn_bytes": found.torn_bytes,
            "charged_pC": charged_pC,
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    torn = f"; {found.torn_bytes} bytes at its end are no whole entry" if found.torn_bytes else ""
    charged = "" if charged_pC is None else f"; {charged_pC:g} pC are charged"
    sys.stdout.write(f"{path}: {found.entries} entries, each following from the one before{torn}{charged}\n")


def replay_journal(path: Path, *, as_json: bool) -> int:
    """Re-run the guard's rules on what they were given. Returns 0 where they decide the same, else 1."""
    if not path.is_file():
        raise UnusableInputError(f"there is no journal {path}.")
    steps, decisions, differences = 0, 0, []
    for entry, effects, state in _replayed(path):
        steps += 1
        decisions += sum(effect["type"] == "Decide" for effect in effects)
        if effects != entry["effects"] or marks_of(state) != entry["marks"]:
            differences.append({"index": entry["index"], "then": entry["effects"], "now": effects})
    if as_json:
        figures = {"steps": steps, "decisions": decisions, "differences": differences}
        sys.stdout.write(json.dumps(figures) + "\n")
        return 1 if differences else 0
    if not differences:
        sys.stdout.write(f"{path}: {steps} steps and {decisions} decisions, the same again\n")
        return 0
    for difference in differences[:MOST_SHOWN]:
        sys.stdout.write(
            f"entry {difference['index']}\n  then {json.dumps(difference['then'])}\n  now  {json.dumps(difference['now'])}\n"
        )
    sys.stdout.write(f"{path}: {len(differences)} of {steps} steps come out otherwise\n")
    return 1


def export_decisions(path: Path, output: Path | None) -> None:
    """Every decision as a row of CSV, with when it was taken and what it followed from."""
    if not path.is_file():
        raise UnusableInputError(f"there is no journal {path}.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("index", "at", "now_ns", "event", *DECISION))
    for entry, _ in read_journal(path):
        for effect in entry.get("effects", ()):
            if effect["type"] == "Decide":
                decision = effect["what"]
                told = [_cell(decision.get(name)) for name in DECISION]
                writer.writerow((entry["index"], entry["at"], entry["now_ns"], entry["event"]["type"], *told))
    if output is None:
        sys.stdout.write(table.getvalue())
    else:
        write_whole(output, table.getvalue().encode("utf-8", "replace"))


def _replayed(path: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], GuardState]]:
    """Each step's entry, with the effects and the state that the rules come to now."""
    state: GuardState | None = None
    for entry, _ in read_journal(path):
        try:
            if entry["kind"] == "start":
                state = started(entry)
                continue
            if entry["kind"] == "lost" or state is None:
                state = None
                continue
            event = event_of(entry)
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UnusableInputError(
                f"entry {entry['index']} of {path} is of another version than this program: {reason}."
            ) from None
        state, effects = step(state, event, entry["now_ns"])
        yield entry, effects_of(effects), state


def _charged_pC(entry: dict[str, Any]) -> float:
    marks = entry["marks"]
    charged: float = marks["closed_pC"] + max(marks["granted_pC"], marks["reported_pC"])
    return charged


def _cell(value: object) -> object:
    """Text from elsewhere, so that a spreadsheet takes it for text."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value[:1] in ("=", "+", "-", "@") else printable(value)
