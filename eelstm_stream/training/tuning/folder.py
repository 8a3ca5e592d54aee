"""The folder of a search: its results, written anew whenever the search has got further."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.training.tuning.differences import differences
from eelstm_stream.training.tuning.figure import draw
from eelstm_stream.training.tuning.report import Outcome, figures, recipe_text
from eelstm_stream.training.tuning.search import Search
from eelstm_stream.training.tuning.storage import Place

SUMMARY, RECIPE, FIGURE = "tuning.json", "recipe.toml", "importance.png"


def refuse_folder_of_another(folder: Path, configuration: dict[str, Any]) -> None:
    """Make the folder. Raises UsageError where it holds the results of another search, EelstmError where it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EelstmError(f"{folder} can't be made a folder: {error.strerror}.") from None
    there = [folder / name for name in (SUMMARY, RECIPE, FIGURE) if (folder / name).exists()]
    if not there:
        return
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["configuration"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{there[0]} is there and not from a search: choose another folder with -o.") from None
    otherwise = differences(found, configuration)
    if otherwise:
        raise UsageError(
            f"{folder} holds a search that was begun otherwise: {otherwise}; go on as it was begun, or choose another folder "
            "with -o."
        )


def write_results(
    outcome: Outcome, search: Search, configuration: dict[str, Any], place: Place, folder: Path
) -> dict[str, Any]:
    """Write summary, recipe and picture, each whole or not at all; returns the summary. Raises EelstmError."""
    recipe = recipe_text(outcome, search)
    files = {"summary": str(folder / SUMMARY)}
    if recipe is not None:
        files |= {"recipe": str(folder / RECIPE), "figure": str(folder / FIGURE)}
    summary = {**figures(outcome, search, configuration, str(place), place.study), "files": files}
    _write_whole(folder / SUMMARY, json.dumps(summary, indent=1).encode() + b"\n")
    if recipe is not None:
        _write_whole(folder / RECIPE, recipe.encode())
        title = f"{len(outcome.rows)} trials of {search.recipe.family} on {len(search.runs)} runs"
        _write_whole(folder / FIGURE, draw(outcome, search.space, title))
    return summary


def _write_whole(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        unfinished.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
