"""Fixtures for all tests: recordings in the paper's layout, and the real files where they are at hand."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.paper_layout import write_paper_files


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C even where a shell started the tests in the background: ignored here, programs under test would ignore it too."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def paper_recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three DM4 files as the paper's: 120, 160 and 160 spectra of 2048 channels at 0.4 s, the EELS signal third in each."""
    return write_paper_files(tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real EELS files, from EELSTM_REAL_DATA or beside the checkout. Use with `@pytest.mark.real`."""
    folder = Path(os.environ.get("EELSTM_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "linescan_100x2048_high-loss.dm3").is_file():
        pytest.skip(f"the real EELS files are not in {folder}: set EELSTM_REAL_DATA to their folder")
    return folder
