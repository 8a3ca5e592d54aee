"""`eelstm fetch`: published recordings into the user's cache."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

if TYPE_CHECKING:
    from eelstm_stream.io.fetching import FetchedFile
    from eelstm_stream.io.figshare import Article, Listing, PublishedFile

fetch = typer.Typer(help="Fetch published recordings.", no_args_is_help=True)


@fetch.callback()
def _sources() -> None:
    """A group, though it holds one command so far: other archives may follow."""


@fetch.command()
def figshare(
    article: Annotated[
        str, typer.Argument(help="Number, DOI or page of an article; by default the paper's recordings.")
    ] = "20288730",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for its files.", show_default="the user's cache")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of the same names that are something else.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
    ] = False,
    api: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fetch an article's files from FigShare, and verify them; a fetch that was cut off goes on where it was."""
    from eelstm_stream.io.downloads import Web  # noqa: PLC0415
    from eelstm_stream.io.fetching import article_folder, fetch_article  # noqa: PLC0415
    from eelstm_stream.io.figshare import API, allowed_by, article_of  # noqa: PLC0415

    asked = article_of(article)
    folder = article_folder(asked) if output is None else output
    api = (api or API).rstrip("/")
    with _ended_by_ctrl_c(), _Progress() as progress, closing(Web(allowed_by(api), progress.pause)) as web:
        listing, files = fetch_article(
            asked, folder, web, api=api, force=force, begin=progress.begin, report=progress.report
        )
    said = json.dumps(_figures(asked, folder, listing, files)) if as_json else _report(folder, listing, files)
    sys.stdout.write(said + "\n")


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """End the process at once on Ctrl-C: what has come lies in its .part file at any moment.

    Not by an exception, which a library in whose callback it is raised may swallow, and the download stand still for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the cursor, which the bar hides
        os._exit(128 + number)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _figures(article: Article, folder: Path, listing: Listing, files: list[FetchedFile]) -> dict[str, Any]:
    return {
        "article": article.number,
        "doi": article.doi,
        "title": listing.title,
        "folder": str(folder),
        "files": [{"path": str(f.path), "bytes": f.size, "md5": f.md5, "downloaded": f.downloaded} for f in files],
        "only_linked": list(listing.elsewhere),
    }


def _report(folder: Path, listing: Listing, files: list[FetchedFile]) -> str:
    lines = [listing.title] if listing.title else []
    lines += [f"  {f.path.name}  {f.size / 1e6:.1f} MB{'' if f.downloaded else ', there already'}" for f in files]
    lines += [f"  {name}: FigShare only links to it, so it was left out" for name in listing.elsewhere]
    lines.append(f"In {folder}, with the checksums that FigShare lists.")
    return "\n".join(lines)


class _Progress:
    """A bar a file on stderr; in a log, a line a file."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[int, Any] = {}

    def begin(self, listing: Listing) -> None:
        for file in listing.files:
            self._tasks[file.id] = self._progress.add_task(file.name, total=file.size, start=False)

    def report(self, file: PublishedFile, have: int) -> None:
        task = self._tasks[file.id]
        if not self._progress.tasks[task].started:
            self._progress.start_task(task)
            if not self._console.is_terminal:
                going_on = f", from {have / 1e6:.1f} MB on" if 0 < have < file.size else ""
                self._say(f"{file.name}, {file.size / 1e6:.1f} MB{going_on}")
        self._progress.update(task, completed=have)

    def pause(self, pause_s: float, reason: str) -> None:
        self._say(f"{reason}; trying again in {pause_s:.0f} s")
        time.sleep(pause_s)

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt):
            self._say("stopped; the same command goes on where this one was")
