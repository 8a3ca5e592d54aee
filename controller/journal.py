"""The guard's journal: append-only lines of JSON, each of which names the hash of the one before.

Operations: `open_journal` checks all that is there and takes the file for itself; `Journal.append` adds an entry, durable before
it returns where that is asked for; `read_journal` gives the entries of a file, each checked.

Goals. What was charged is on the disk before a command leaves. A kill at any moment costs at most the last line, whose beginning
is kept beside the file. A line that was changed, left out or moved is found, and the guard doesn't start on such a file. While
the disk refuses, entries wait here, so that none is missing between those before and after.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eelstm_stream.errors import EelstmError, UnusableInputError
from eelstm_stream.io import clock

GENESIS = "0" * 64  # the hash before the first entry
MOST_WAITING = 10_000  # entries that wait for a disk that refuses; beyond them the oldest are given up, and counted
_SEAL = ',"sha256":"'
_BEGINNING = b'{"index":0,"previous":"'
_SEAL_BYTES = len(_SEAL) + 64 + len('"}')


class JournalError(EelstmError):
    """An entry could not be made durable."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a journal holds."""

    entries: int
    last_sha256: str
    marked: dict[str, Any] | None  # the newest entry with `marks`, for a guard that starts anew
    whole_bytes: int
    torn_bytes: int  # at its end, that are no entry


class Journal:
    """A journal that this process writes, and no other."""

    def __init__(self, path: Path, file: IO[bytes], found: Found) -> None:
        """Use `open_journal`."""
        self.path = path
        self._file = file
        self._size = found.whole_bytes
        self._index = found.entries
        self._previous = found.last_sha256
        self._waiting: list[dict[str, Any]] = []
        self._lost = 0
        self._torn = False  # a part of a line stands at the end

    def append(self, entry: dict[str, Any], *, durable: bool) -> None:
        """Add an entry, and all that wait. durable: on the disk when this returns. Raises JournalError; the entry waits then."""
        self._waiting.append({"at": clock.utc_now().isoformat(), **entry})
        if len(self._waiting) > MOST_WAITING:
            self._lost += 1
            del self._waiting[0]
        try:
            if self._lost:
                self._write({"kind": "lost", "entries": self._lost})
                self._lost = 0
            while self._waiting:
                self._write(self._waiting[0])
                del self._waiting[0]
            if durable:
                os.fsync(self._file.fileno())
                self._check_place()
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror or error}") from None

    def _check_place(self) -> None:
        """Whether the file is still where the next guard looks for it, else what is charged is lost with this one."""
        ours, there = os.fstat(self._file.fileno()), os.stat(self.path)
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            raise OSError(errno.ESTALE, "another file is in its place")

    def _write(self, entry: dict[str, Any]) -> None:
        line, sha256 = sealed({"index": self._index, "previous": self._previous, **entry})
        if self._torn:
            os.ftruncate(self._file.fileno(), self._size)
        self._torn = True
        if os.write(self._file.fileno(), line) != len(line):  # a disk that is full takes a part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        self._size += len(line)
        self._index += 1
        self._previous = sha256

    def close(self) -> None:
        """Leave the file, whole, to others."""
        with suppress(OSError):
            os.fsync(self._file.fileno())
            if not self._index and not os.fstat(self._file.fileno()).st_size:  # begun, and then there was no room
                self.path.unlink()
        self._file.close()


def open_journal(path: Path) -> tuple[Journal, Found]:
    """Take a journal, or begin one, and all that it holds. A torn end is moved aside, into a file beside it.

    Raises EelstmError where another guard has it or the disk refuses, UnusableInputError where it was changed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.stat().st_size:
            raise UnusableInputError(
                f"the journal {path} is empty, as no guard leaves one: what was charged in it is lost. Remove it, and start with a "
                f"budget less what the specimen has received."
            )
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - lasts as long as the guard
    except OSError as error:
        raise EelstmError(f"the journal {path} can't be opened: {error.strerror or error}.") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EelstmError(
                f"the journal {path} is in use by another guard: stop that one, or give another file with --journal."
            ) from None
        found = look_through(path)
        if found.torn_bytes:
            _move_torn_aside(path, file, found)
        _fsync_folder(path.parent)
    except OSError as error:
        file.close()
        raise EelstmError(f"the journal {path} can't be taken: {error.strerror or error}.") from None
    except BaseException:
        file.close()
        raise
    return Journal(path, file, found), found


def look_through(path: Path) -> Found:
    """Check a whole journal. Raises UnusableInputError where it's none, or an entry was changed, left out or moved."""
    found = Found(0, GENESIS, None, 0, path.stat().st_size)
    for entry, ends in read_journal(path):
        marked = entry if "marks" in entry else found.marked
        found = Found(found.entries + 1, entry["sha256"], marked, ends, path.stat().st_size - ends)
    if found.torn_bytes and not found.entries and not _begins_a_journal(path):
        raise UnusableInputError(f"{path} is no journal of a guard: give another file.")
    return found


def read_journal(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole entries of a journal, checked one by one, and where each ends, bytes. A torn end is passed over.

    Raises UnusableInputError where an entry was changed, left out or moved.
    """
    index, ends, previous = 0, 0, GENESIS
    try:
        with path.open("rb") as file:
            for line in file:
                entry = _unsealed(line)
                if entry is None and not file.peek(1):
                    return  # torn: a kill in the middle of a write, or a disk that lost its end
                fault = _fault(entry, index, previous)
                if entry is None or fault is not None:
                    raise UnusableInputError(
                        f"the journal {path} was changed: entry {index} {fault}. Keep it for whoever looks into that, and start "
                        f"with another file (--journal), with a budget less what the specimen has received."
                    )
                index, ends, previous = index + 1, ends + len(line), entry["sha256"]
                yield entry, ends
    except OSError as error:
        raise UnusableInputError(f"the journal {path} can't be read: {error.strerror or error}.") from None


def sealed(entry: dict[str, Any]) -> tuple[bytes, str]:
    """The line of an entry, and its hash, which it carries at its end. Raises ValueError for a number that is not finite."""
    body = json.dumps(entry, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    sha256 = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
    return f'{body[:-1]}{_SEAL}{sha256}"}}\n'.encode("utf-8", "surrogatepass"), sha256


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, if its hash is that of what it says."""
    if not line.endswith(b'"}\n'):
        return None
    body, seal = line[: -_SEAL_BYTES - 1] + b"}", line[-_SEAL_BYTES - 1 :]
    sha256 = hashlib.sha256(body).hexdigest()
    if seal != f'{_SEAL}{sha256}"}}\n'.encode():
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _fault(entry: dict[str, Any] | None, index: int, previous: str) -> str | None:
    if entry is None:
        return "is not what its hash says"
    if entry.get("previous") != previous:
        return "does not follow from the one before"
    if entry.get("index") != index:
        return f"has the number {entry.get('index')!r:.20}"
    return None


def _begins_a_journal(path: Path) -> bool:
    with path.open("rb") as file:
        begins = file.read(len(_BEGINNING))
    return _BEGINNING.startswith(begins)


def _move_torn_aside(path: Path, file: IO[bytes], found: Found) -> None:
    torn = path.read_bytes()[found.whole_bytes :]
    number = 0
    while (aside := path.with_name(f"{path.name}.torn{f'.{number}' if number else ''}")).exists():
        number += 1
    with aside.open("xb") as copy:
        copy.write(torn)
        copy.flush()
        os.fsync(copy.fileno())
    os.ftruncate(file.fileno(), found.whole_bytes)
    os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
