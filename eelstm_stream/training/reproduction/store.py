"""What has been trained, in a folder: the configuration that all cells share, and a line for each of them.

A line is on the disk before the next cell begins, so that a kill costs the cells that were being trained and no other. One process
has the folder at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io.whole_files import write_whole
from eelstm_stream.training.reproduction.train_cell import Result
from eelstm_stream.training.tuning.differences import differences

CONFIGURATION, CELLS, LOCK = "configuration.json", "cells.jsonl", ".lock"
SIMULATED = "simulated"  # folder of recordings that were made for want of others


class Store:
    """Results by key. Open it with `open_store`; the folder is this process's own until it is closed."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self.results = _read(folder / CELLS)

    def add(self, result: Result) -> None:
        """Keep a result: it is on the disk when this returns. Raises EelstmError where the disk refuses."""
        try:
            with (self.folder / CELLS).open("ab") as file:
                file.write(result.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EelstmError(f"{self.folder / CELLS} couldn't be written: {error.strerror}.") from None
        self.results[result.key] = result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)


def lock_folder(folder: Path) -> int:
    """Make a folder if need be and take it for this process. Returns the descriptor that holds it.

    Raises UsageError where another process has it or it holds something else, EelstmError where it can't be made.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: give a folder with -o.")
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(
            path.name for path in folder.iterdir() if path.name not in {CONFIGURATION, CELLS, LOCK, SIMULATED}
        )
        if strangers and not (folder / CONFIGURATION).exists():
            raise UsageError(f"{folder} holds {strangers[0]}, and no reproduction: choose another folder with -o.")
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EelstmError(f"{folder} can't be made a folder for results: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UsageError(
            f"another reproduction is writing to {folder}: wait for it, or choose another folder."
        ) from None
    return lock


def open_store(folder: Path, lock: int, configuration: Mapping[str, Any], *, anew: bool) -> Store:
    """The results of a configuration in a folder that `lock_folder` has taken.

    anew: throw away what is there. Raises UsageError where it belongs to another configuration, naming the differences.
    """
    path = folder / CONFIGURATION
    if anew:
        for name in (CONFIGURATION, CELLS):
            (folder / name).unlink(missing_ok=True)
    if path.exists():
        otherwise = differences(_json(path), configuration)
        if otherwise:
            raise UsageError(
                f"{folder} holds a reproduction that was begun otherwise: {otherwise}; reproduce as it was begun, choose another "
                "folder with -o, or begin anew with --force."
            )
    else:
        (folder / CELLS).unlink(missing_ok=True)  # without a configuration nobody knows what they are of
        write_whole(path, json.dumps(configuration, indent=1).encode() + b"\n")
    return Store(folder, lock)


def _read(path: Path) -> dict[str, Result]:
    """Whole lines; what a kill left of one is cut off, lest the next line be joined to it."""
    if not path.exists():
        return {}
    lines = path.read_bytes().split(b"\n")
    results: dict[str, Result] = {}
    whole = 0
    for line in lines[:-1]:
        try:
            result = Result.model_validate_json(line)
        except ValidationError:
            break
        results[result.key] = result
        whole += len(line) + 1
    os.truncate(path, whole)
    return results


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read ({error}): begin anew with --force.") from None
