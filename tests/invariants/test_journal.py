"""The journal's file: durable before a command leaves, one entry a step, and nothing of it changed, left out, moved or gone unnoticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.guard_events import Say, Tick, Write
from controller.guardd import Guard, GuardSettings
from controller.journal import Journal, JournalError, look_through, open_journal, read_journal
from eelstm_stream.errors import UnusableInputError

ANY_PORT = "tcp://127.0.0.1:*"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guard.journal"


def opened(path: Path, entries: int = 0) -> Journal:
    journal, _ = open_journal(path)
    for i in range(entries):
        journal.append({"kind": "step", "i": i}, durable=False)
    return journal


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0], lines[2], lines[3]], "does not follow from the one before"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "does not follow from the one before"),
        (lambda lines: lines[1:], "does not follow from the one before"),
        (lambda lines: [lines[0], lines[1].replace(b'"i":1', b'"i":7'), *lines[2:]], "is not what its hash says"),
    ],
)
def test_what_was_left_out_moved_or_changed_is_found(path: Path, change, says):
    opened(path, 4).close()
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UnusableInputError, match=says):
        open_journal(path)


def test_a_number_that_doesnt_count_up_is_found(path: Path):
    journal = opened(path, 2)
    journal._index = 7
    journal.append({"kind": "step"}, durable=False)
    journal.close()
    with pytest.raises(UnusableInputError, match="has the number 7"):
        list(read_journal(path))


def test_only_what_is_durable_waits_for_the_disk(path: Path, monkeypatch):
    journal = opened(path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.stat().st_size))
    journal.append({"kind": "step"}, durable=False)
    assert synced == []
    journal.append({"kind": "step"}, durable=True)
    assert synced == [path.stat().st_size]  # with the entry, and not before it
    journal.close()


def test_a_new_journals_name_and_a_cut_end_are_made_durable(path: Path, monkeypatch):
    synced: list[tuple[bool, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino == path.parent.stat().st_ino, found.st_size))

    opened(path, 2).close()
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"torn")
    monkeypatch.setattr(os, "fsync", fsync)
    journal = opened(path)
    monkeypatch.undo()
    journal.close()
    assert [size for is_folder, size in synced if not is_folder] == [len(b"torn"), whole]
    assert [is_folder for is_folder, _ in synced].count(True) == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_takes_no_lease(path: Path, replaced):
    journal = opened(path, 1)
    path.unlink()
    if replaced:
        path.write_bytes(b"")
    with pytest.raises(JournalError):
        journal.append({"kind": "step"}, durable=True)
    journal.append({"kind": "step"}, durable=False)
    journal.close()


def test_an_empty_file_is_no_new_journal(path: Path):
    path.write_bytes(b"")
    with pytest.raises(UnusableInputError, match="is empty"):
        open_journal(path)


def test_a_journal_that_was_begun_and_has_nothing_is_taken_away_again(path: Path):
    opened(path).close()
    assert not path.exists()
    opened(path, 1).close()
    assert look_through(path).entries == 1


def test_a_step_with_two_leases_is_one_entry(path: Path):
    settings = GuardSettings(budget_pC=100.0, journal=path, publish=ANY_PORT, operator=ANY_PORT)
    guard = Guard(settings)
    guard._carry_out({"kind": "step"}, Tick(), (Write("a", 1.0, 1.0), Say("one"), Write("a", 2.0, 2.0)))
    guard._carry_out({"kind": "step"}, Tick(), (Say("none"),))
    guard._context.destroy(linger=0)
    guard._client.close()
    guard._journal.close()
    assert look_through(path).entries == 3  # with the start
