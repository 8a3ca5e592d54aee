"""Where a study is kept: by default a journal in a folder, else a database that workers on many machines reach."""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError, UsageError

# A worker on another machine counts as lost when its database has not heard of it for so long.
HEARTBEAT_S, LOST_AFTER_S = 60, 240
ATTEMPTS, BETWEEN_ATTEMPTS_S = 4, 0.5  # to open a database


@dataclass(frozen=True, slots=True)
class Place:
    """A journal file, or the URL of a database; and the name of the study in it."""

    journal: Path | None
    url: str | None
    study: str

    def __str__(self) -> str:
        """For people: without the password."""
        if self.url is None:
            return str(self.journal)
        from sqlalchemy.engine import make_url  # noqa: PLC0415

        return make_url(self.url).render_as_string(hide_password=True)


def optuna_quietly() -> Any:
    """The module `optuna`, silent about trials. Raises UsageError where it is not installed."""
    try:
        import optuna  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UsageError("tuning needs optuna: install eelstm-stream[train].") from None
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what goes wrong is raised, and said by us
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(place: Place, when_lost: Callable[[Any, Any], None]) -> Any:
    """An Optuna storage. when_lost: called with study and trial for a worker lost on another machine (databases only).

    Raises UsageError for a URL that is none or whose driver is missing, EelstmError where the storage can't be opened.
    """
    optuna = optuna_quietly()
    if place.url is None:
        if place.journal is None:
            raise ValueError("neither a journal nor a URL")
        return _journal(optuna, place.journal)
    return _database(optuna, place, when_lost)


def _database(optuna: Any, place: Place, when_lost: Callable[[Any, Any], None]) -> Any:
    import sqlalchemy.exc  # noqa: PLC0415

    for attempt in range(ATTEMPTS):
        try:
            return optuna.storages.RDBStorage(
                place.url,
                engine_kwargs={"pool_pre_ping": True},  # a database that was away for a moment
                heartbeat_interval=HEARTBEAT_S,
                grace_period=LOST_AFTER_S,
                heartbeat_stale_trial_callback=when_lost,
            )
        except sqlalchemy.exc.ArgumentError as error:
            said = f"--storage is no database that is known ({_first_line(error)}): write postgresql://…."
            raise UsageError(said) from None
        except ImportError as error:
            # Which driver stands behind `postgresql://` depends on the version of SQLAlchemy.
            driver = getattr(error.__cause__, "name", None) or "a database driver"
            raise UsageError(
                f"{place} needs {driver}: install it with pip, or name another driver, as in postgresql+psycopg2://…."
            ) from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            # Of two that make the tables of a new database at once, one fails, and finds them the next time.
            if attempt == ATTEMPTS - 1:
                raise EelstmError(f"{place} can't be opened: {_first_line(error)}.") from None
            time.sleep(BETWEEN_ATTEMPTS_S)
    raise AssertionError("the last attempt returns or raises")


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return (str(original).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _journal(optuna: Any, path: Path) -> Any:
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))
    except OSError as error:
        raise EelstmError(f"{path} can't be opened: {error.strerror or error}.") from None
    except ValueError as error:
        raise EelstmError(f"{path} is damaged ({error}): move it away, and the search begins anew.") from None


class JournalLock:
    """Lets one process at a time append to a journal.

    Optuna's own locks are files that stay when their owner is killed, and are then waited for. The kernel takes this one
    back. Whoever has it also takes off what a power cut may have left of a line: with the next line joined to it, the
    journal could never be read again.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held = os.open(
            self._journal.with_name(self._journal.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
        )
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self._take_off_half_a_line()
        return True

    def release(self) -> None:
        """Give it back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _take_off_half_a_line(self) -> None:
        with self._journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end == 0:
                return
            file.seek(end - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
