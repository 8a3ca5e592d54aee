"""The guard's journal: on the disk when it says so, and no line of it can be changed, left out, moved or slipped in unnoticed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import journal as journal_module
from controller.guardd import Guard, GuardSettings
from controller.journal import Journal, JournalError, open_journal, read_journal, sealed
from eelstm_stream.errors import EelstmError, UnusableInputError
from eelstm_stream.io import clock
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.wire.messages import (
    BeamReport,
    CommandLimits,
    EnergyAxis,
    InstrumentStatus,
    OperatorCommand,
    Readback,
    SessionStart,
)
from tests.programs import ANY_PORT
from tests.properties import examples
from tests.wire.goldens import STARTED

ENTRIES = 5


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    journal, _ = open_journal(path)
    try:
        yield journal
    finally:
        journal.close()


def says(path: Path) -> list[Any]:
    return [entry.get("says", entry["kind"]) for entry, _ in read_journal(path)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of five entries, two of which have marks."""
    path = tmp_path / "guard.journal"
    with opened(path) as journal:
        for number in range(ENTRIES):
            marks = {"marks": {"n": number}} if number in (1, 3) else {}
            journal.append({"kind": "step", "says": number, **marks}, durable=True)
    return path


def test_what_was_appended_is_read_again_each_after_the_one_before(written):
    entries = [entry for entry, _ in read_journal(written)]
    assert [(entry["index"], entry["says"]) for entry in entries] == [(n, n) for n in range(ENTRIES)]
    assert [entry["previous"] for entry in entries] == ["0" * 64, *(entry["sha256"] for entry in entries[:-1])]
    assert [ends for _, ends in read_journal(written)][-1] == written.stat().st_size
    journal, found = open_journal(written)
    journal.close()
    assert (found.entries, found.torn_bytes, found.last_sha256) == (ENTRIES, 0, entries[-1]["sha256"])
    assert found.marked is not None
    assert found.marked["says"] == 3  # the newest of those with marks


# Changed


def sealed_again(line: bytes, **changes: Any) -> bytes:
    """An entry changed by somebody who knows how an entry is sealed."""
    entry = json.loads(line) | changes
    del entry["sha256"]
    return sealed(entry)[0]


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, Change] = {
    "the first left out": lambda lines: lines[1:],
    "one left out": lambda lines: [*lines[:2], *lines[3:]],
    "two moved": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "one twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "one changed": lambda lines: [*lines[:2], lines[2].replace(b'"says":2', b'"says":7'), *lines[3:]],
    "one changed and sealed again": lambda lines: [*lines[:2], sealed_again(lines[2], says=7), *lines[3:]],
    "the last sealed again, after another": lambda lines: [*lines[:4], sealed_again(lines[4], previous="1" * 64)],
    "the last sealed again, with another number": lambda lines: [*lines[:4], sealed_again(lines[4], index=7)],
    "an end of a line left out": lambda lines: [*lines[:2], lines[2].rstrip(b"\n"), *lines[3:]],
    "a line slipped in": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "an entry that is no object": lambda lines: [*lines[:2], b'[1,"sha256":"' + b"0" * 64 + b'"}\n', *lines[2:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_journal_that_was_changed_is_not_taken_and_stays_as_it_is(written, change):
    lines = change(written.read_bytes().splitlines(keepends=True))
    written.write_bytes(b"".join(lines))
    with pytest.raises(UnusableInputError, match=r"was changed: entry \d .*Keep it"):
        open_journal(written)
    assert written.read_bytes() == b"".join(lines)
    written.unlink()
    with opened(written):  # whoever failed holds nothing: another guard may have the path
        pass


def test_a_file_that_is_no_journal_is_not_taken(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("specimen 4, very beam-sensitive", '{"index":1,'):
        path.write_text(text)
        with pytest.raises(UnusableInputError, match="is no journal of a guard"):
            open_journal(path)
        assert path.read_text() == text


def test_two_guards_do_not_write_one_journal(written):
    with opened(written), pytest.raises(EelstmError, match="in use by another guard"):
        open_journal(written)
    with opened(written):
        pass


# Cut


@examples(80)
@given(st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_entries_and_the_rest_beside_it_and_goes_on(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "guard.journal"
    with opened(path) as journal:
        for number in range(3):
            journal.append({"kind": "step", "says": number}, durable=False)
    whole = path.read_bytes()
    ends = [0, *(ends for _, ends in read_journal(path))]
    cut = data.draw(st.integers(1, len(whole)) | st.sampled_from([*ends[1:], *(end - 1 for end in ends[1:])]))
    path.write_bytes(whole[:cut])
    kept = max(end for end in ends if end <= cut)
    with opened(path) as journal:
        assert path.read_bytes() == whole[:kept]
        torn = sorted(path.parent.glob("*.torn*"))
        assert [file.read_bytes() for file in torn] == ([whole[kept:cut]] if cut > kept else [])
        journal.append({"kind": "step", "says": "on"}, durable=True)
    # A cut where an entry ends looks like a journal that ended there: nothing in the file can tell.
    assert says(path) == [*range(ends.index(kept)), "on"]


def test_what_was_torn_before_is_kept_too(written):
    for number in range(3):
        with written.open("ab") as file:
            file.write(f'{{"index":{number}'.encode())
        with opened(written):
            pass
    torn = sorted(written.parent.glob("*.torn*"))
    assert [file.read_text() for file in torn] == [f'{{"index":{number}' for number in range(3)]


# On the disk


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is done to files from now on, in its order: writes, cuts and syncs, each with the name of its file."""
    log: list[tuple[str, str]] = []

    def recorded(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(descriptor: int, *rest: Any) -> Any:
            log.append((name, Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
            return real(descriptor, *rest)

        return call

    for name in ("write", "fsync", "ftruncate"):
        monkeypatch.setattr(os, name, recorded(name))
    return log


def test_a_durable_entry_is_on_the_disk_with_all_before_it_when_append_returns(tmp_path, done):
    path = tmp_path / "guard.journal"
    with opened(path) as journal:
        done.clear()
        journal.append({"kind": "step"}, durable=False)
        assert done == [("write", path.name)]
        journal.append({"kind": "step"}, durable=True)
        assert done == [("write", path.name)] * 2 + [("fsync", path.name)]


def test_a_journal_that_was_begun_is_found_again_after_the_power_failed(tmp_path, done):
    with opened(tmp_path / "guard.journal"):
        assert ("fsync", tmp_path.name) in done  # the folder, which has the name


def test_a_torn_end_is_safe_beside_before_it_is_cut_and_the_cut_is_on_the_disk_before_it_is_written_to(written, done):
    with written.open("ab") as file:
        file.write(b'{"index":5')
    with opened(written) as journal:
        journal.append({"kind": "step"}, durable=False)
    aside = done.index(("fsync", f"{written.name}.torn"))
    cut = done.index(("ftruncate", written.name))
    synced = done.index(("fsync", written.name))
    wrote = done.index(("write", written.name))
    assert aside < cut < synced < wrote


def test_a_lease_is_on_the_disk_before_its_command_leaves(tmp_path, done, monkeypatch):
    submit = InstrumentClient.submit

    def recorded(client: InstrumentClient, command: Any) -> bool:
        done.append(("send", "blanks" if command.blanked else "lease"))
        return submit(client, command)

    monkeypatch.setattr(InstrumentClient, "submit", recorded)
    path = tmp_path / "guard.journal"
    nobody = {name: f"ipc://{tmp_path}/{name}" for name in ("spectra", "snapshot", "command", "proposals")}
    guard = Guard(GuardSettings(budget_pC=1000.0, journal=path, publish=ANY_PORT, operator=ANY_PORT, **nobody))
    try:
        now_ns = clock.monotonic_ns()
        says_of_itself: dict[str, Any] = {"session": "s", "sent_mono_ns": now_ns, "clock_id": "c"}
        axis = EnergyAxis(offset_eV=0.0, dispersion_eV=1.0, size=4)
        limits = CommandLimits(
            min_dwell_s=0.1, max_dwell_s=1.0, min_current_pA=1.0, max_current_pA=200.0, max_lease_s=9.0
        )
        read = Readback(dwell_s=0.1, beam_current_pA=50.0, blanked=True)
        beam = BeamReport(readback=read, ordered=read, holds_from_seq=0, next_seq=0, dose_pC=0.0)
        about: dict[str, Any] = {"source": "simulation", "energy_axis": axis, "commands": limits, "started_at": STARTED}
        guard._step(
            SessionStart(
                seq=0,
                instrument="m",
                dwell_s=0.1,
                beam_current_pA=50.0,
                dose_is_relative=False,
                **about,
                **says_of_itself,
            )
        )
        guard._step(InstrumentStatus(seq=0, state="blanked", text="", obeys=True, beam=beam, **says_of_itself))
        done.clear()
        guard._step(
            OperatorCommand(
                action="override",
                session="s",
                seq=0,
                sent_mono_ns=now_ns,
                expires_mono_ns=clock.monotonic_ns() + 9_000_000_000,
                dwell_s=0.1,
                beam_current_pA=50.0,
            )
        )
        sent = done.index(("send", "lease"))
        assert done[:sent].count(("write", path.name)) >= 1
        assert done[sent - 1] == ("fsync", path.name)
        charged = [entry for entry, _ in read_journal(path)][-1]
        assert charged["charged_pC"] > 0
    finally:
        guard._client.close()
        guard._journal.close()
        guard._context.destroy(linger=0)


# A disk that refuses


class Full:
    """A disk that takes only a part of what is written, until there is room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: int) -> None:
        self.takes: int | None = takes
        write = os.write
        monkeypatch.setattr(
            journal_module.os, "write", lambda fd, line: write(fd, line if self.takes is None else line[: self.takes])
        )


@pytest.mark.parametrize("takes", [0, 1, 40])
def test_while_the_disk_refuses_entries_wait_and_none_is_missing_afterwards(written, monkeypatch, takes):
    with opened(written) as journal:
        disk = Full(monkeypatch, takes)
        for number in (5, 6):
            with pytest.raises(JournalError, match="No space left on device"):
                journal.append({"kind": "step", "says": number}, durable=True)
        disk.takes = None
        journal.append({"kind": "step", "says": 7}, durable=True)
    assert says(written) == list(range(8))


def test_a_sync_that_fails_is_no_success(written, monkeypatch):
    with opened(written) as journal:

        def fails(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fails)
            with pytest.raises(JournalError, match="Input/output error"):
                journal.append({"kind": "step", "says": 5}, durable=True)
        journal.append({"kind": "step", "says": 6}, durable=True)
    assert says(written) == list(range(7))


def test_more_entries_than_can_wait_are_given_up_from_the_oldest_and_counted(written, monkeypatch):
    monkeypatch.setattr(journal_module, "MOST_WAITING", 3)
    with opened(written) as journal:
        disk = Full(monkeypatch, 1)
        for number in range(5, 10):
            with pytest.raises(JournalError):
                journal.append({"kind": "step", "says": number}, durable=False)
        disk.takes = None
        journal.append({"kind": "step", "says": 10}, durable=False)
        journal.append({"kind": "step", "says": 11}, durable=False)
    assert says(written) == [*range(5), "lost", 8, 9, 10, 11]
    assert [e["entries"] for e, _ in read_journal(written) if e["kind"] == "lost"] == [3]


def test_no_number_that_is_none_is_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        sealed({"index": 0, "charged_pC": float("nan")})


def test_what_was_said_in_any_letters_is_read_again(tmp_path):
    path = tmp_path / "guard.journal"
    with opened(path) as journal:
        for text in ("Å\n\u2028", "\ud800 alone", "\x00"):
            journal.append({"kind": "step", "says": text}, durable=True)
    assert says(path) == ["Å\n\u2028", "\ud800 alone", "\x00"]
