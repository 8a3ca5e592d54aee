"""Checkpoints of a training, in a folder beside the model that it is to become: what a killed training goes on from.

The folder holds `training.json`, which says what is trained on what, and `checkpoint.npz`, the newest state. Each is written
whole under another name before it takes its own, so that a kill leaves the state before or the state after. Arrays and JSON
only: nothing in them can run. One process has the folder at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import TrainingEpoch
from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError

FORMAT = 1
SUFFIX = ".training"
# The state of the paper's network takes half a second to write, and an epoch on two runs one: not after every such epoch.
EVERY_S = 5.0
_CONFIGURATION, _STATE, _LOCK, _UNFINISHED = "training.json", "checkpoint.npz", "lock", ".unfinished"

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """How far a training has come."""

    curve: tuple[TrainingEpoch, ...]
    best_epoch: int
    best: Arrays  # weights after the best epoch
    state: Arrays  # everything that the next step depends on


def checkpoint_folder(model: Path) -> Path:
    """Where the checkpoints of a model file are kept while it is trained."""
    return model.with_name(model.name + SUFFIX)


class Checkpoints:
    """The checkpoints of one training. Open them with `open_checkpoints`; they are the process's own until closed."""

    def __init__(self, folder: Path, lock: int, snapshot: Path | None, every_s: float) -> None:
        self.folder = folder
        self._lock = lock
        self._snapshot = snapshot
        self._every_s = every_s
        self._saved_s = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.saved:
            self.discard()
        os.close(self._lock)

    @property
    def saved(self) -> bool:
        """Whether there is a state to go on from."""
        return (self.folder / _STATE).is_file()

    @property
    def curve(self) -> tuple[TrainingEpoch, ...]:
        """Errors of the epochs that were trained before; none where there is nothing to go on from."""
        return () if self._snapshot is None else self._read(with_arrays=False).curve

    def load(self, like: Sequence[NDArray[Any]]) -> Snapshot | None:
        """The newest state; None where there is none to go on from. like: arrays of the shapes that a state must have.

        Raises UnusableInputError where the file is damaged or holds another state than this training's.
        """
        if self._snapshot is None:
            return None
        found = self._read(with_arrays=True)
        wanted = [array.shape for array in like]
        weights = len(found.best)
        if [a.shape for a in found.state] != wanted or [a.shape for a in found.best] != wanted[:weights]:
            raise UnusableInputError(f"{self._snapshot} is not of this network: begin anew with --force.")
        return found

    def _read(self, *, with_arrays: bool) -> Snapshot:
        assert self._snapshot is not None  # noqa: S101 - for mypy
        try:
            # Opened here: where it is no archive, np.load would leave it open.
            with self._snapshot.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                said = json.loads(bytes(stored["training"]))
                curve = tuple(TrainingEpoch.model_validate(epoch) for epoch in said["curve"])
                state = [stored[f"state_{i}"] for i in range(said["states"] if with_arrays else 0)]
                best = [stored[f"best_{i}"] for i in range(said["bests"] if with_arrays else 0)]
                return Snapshot(curve, int(said["best_epoch"]), best, state)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UnusableInputError(f"{self._snapshot} is damaged ({error}): begin anew with --force.") from None

    def save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Keep the state, unless one was kept less than EVERY_S ago. Raises EelstmError where the disk refuses."""
        if time.monotonic() - self._saved_s < self._every_s:
            return
        now = snapshot()
        said = {
            "curve": [epoch.model_dump() for epoch in now.curve],
            "best_epoch": now.best_epoch,
            "states": len(now.state),
            "bests": len(now.best),
        }
        arrays: dict[str, Any] = {f"state_{i}": a for i, a in enumerate(now.state)} | {
            f"best_{i}": a for i, a in enumerate(now.best)
        }
        arrays["training"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
        _write_whole(self.folder / _STATE, lambda file: np.savez(file, **arrays))
        self._saved_s = time.monotonic()

    def discard(self) -> None:
        """Remove what is here; the folder too, unless somebody put something else into it."""
        _remove_ours(self.folder)


def refuse_to_begin_over(folder: Path) -> None:
    """Raises UsageError where a training that was broken off is there: better said before the recordings are read."""
    if _is_broken_off(folder):
        raise UsageError(
            f"{folder} holds a training that was broken off: go on with --resume, or begin anew with --force."
        )


def open_checkpoints(
    folder: Path, configuration: Mapping[str, Any], *, resume: bool, anew: bool, every_s: float = EVERY_S
) -> Checkpoints:
    """Take the checkpoint folder of a training, which is made where there is none.

    configuration: what decides the weights, as JSON has it. resume: go on from what is there, if anything is. anew: throw it
    away. Raises UsageError where something is there and neither is asked for, or where it belongs to another configuration,
    naming the differences; EelstmError where another process has it.
    """
    configuration = {"format": FORMAT, **json.loads(json.dumps(configuration))}
    if not (resume or anew):
        refuse_to_begin_over(folder)
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EelstmError(f"{folder} can't be made: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EelstmError(
                f"another training is writing to {folder}: wait for it, or choose another name."
            ) from None
        if resume and _is_broken_off(folder):
            _refuse_another(folder, configuration)
            return Checkpoints(folder, lock, folder / _STATE, every_s)
        _remove_ours(folder, keep=_LOCK)
        _write_whole(
            folder / _CONFIGURATION, lambda file: file.write(json.dumps(configuration, indent=1).encode() + b"\n")
        )
    except BaseException:
        os.close(lock)
        raise
    return Checkpoints(folder, lock, None, every_s)


def _is_broken_off(folder: Path) -> bool:
    return (folder / _CONFIGURATION).is_file() and (folder / _STATE).is_file()


def _refuse_another(folder: Path, configuration: Mapping[str, Any]) -> None:
    try:
        found = json.loads((folder / _CONFIGURATION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableInputError(
            f"{folder / _CONFIGURATION} can't be read ({error}): begin anew with --force."
        ) from None
    there, here = _flat(found), _flat(configuration)
    differences = [
        f"{key} was {there.get(key, 'not there')} and is {here.get(key, 'not there')}"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise UsageError(
            f"{folder} holds another training: {', '.join(differences[:5])}{more}; "
            "train as it was begun, or begin anew with --force."
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, of dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}


def _write_whole(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file that takes its name once it is on the disk."""
    unfinished = path.with_name(path.name + _UNFINISHED)
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        unfinished.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _remove_ours(folder: Path, keep: str | None = None) -> None:
    # The configuration first: without it, what a kill leaves here counts as nothing.
    for name in (_CONFIGURATION, _STATE, _CONFIGURATION + _UNFINISHED, _STATE + _UNFINISHED, _LOCK):
        if name != keep:
            (folder / name).unlink(missing_ok=True)
    if keep is None:
        with suppress(OSError):
            folder.rmdir()
