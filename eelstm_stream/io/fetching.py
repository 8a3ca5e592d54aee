"""An article's files brought into a folder, by default in the user's cache.

A file gets its name once its checksum is right; before that it is a `.part`, which the next fetch goes on with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.downloads import ACCEPTED, FORBIDDEN, NOT_FOUND, BrokenOffError, NotServedError, Web
from eelstm_stream.io.figshare import (
    API,
    PAPER_ARTICLE,
    PAPER_FILES,
    Article,
    Listing,
    PublishedFile,
    list_article,
    safe,
)

CACHE = "eelstm-stream"


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is there, its checksum right."""

    path: Path
    size: int
    md5: str
    downloaded: bool  # False where it was there before


FileReport = Callable[[PublishedFile, int], None]  # bytes of it that are there


def article_folder(article: Article) -> Path:
    """Where an article's files are kept, in the user's cache. Raises UsageError where pooch is not installed."""
    name = f"figshare-{article.number}" + ("" if article.version is None else f".v{article.version}")
    folder: Path = _pooch().os_cache(CACHE) / name
    return folder


def fetch_article(
    article: Article,
    folder: Path,
    web: Web,
    *,
    api: str = API,
    force: bool = False,
    begin: Callable[[Listing], None] = lambda _: None,
    report: FileReport = lambda _file, _bytes: None,
) -> tuple[Listing, list[FetchedFile]]:
    """Bring all of an article's files into a folder, which is made if need be.

    web: with `allowed_by(api)`. begin: told what there is before the first download; report: told of each file's bytes as they come. force: replace
    files of these names that are something else.

    Raises EelstmError, one sentence, whose remedy is the same command again or doing it by hand; UnusableInputError where
    what the API lists, or what came, can't be used; UsageError where a file of the same name is in the way.
    """
    listing = _listing(web, article, api, folder)
    begin(listing)
    _make_room(folder, listing.files)
    return listing, [_fetch(web, article, api, file, folder, force, report) for file in listing.files]


def _listing(web: Web, article: Article, api: str, folder: Path) -> Listing:
    try:
        return list_article(web, article, api)
    except BrokenOffError as error:
        raise EelstmError(f"FigShare can't be reached: {error}. {by_hand(article, folder)}") from None
    except NotServedError as error:
        if error.status == NOT_FOUND:
            version = "" if article.version is None else f" in version {article.version}"
            raise EelstmError(
                f"FigShare has no public article {article.number}{version}: look it up at {article.page}."
            ) from None
        raise EelstmError(f"FigShare's API can't be used: {safe(str(error))} {by_hand(article, folder)}") from None


def _make_room(folder: Path, files: Sequence[PublishedFile]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = sum(file.size for file in files if not (folder / file.name).exists()) - sum(
            part.stat().st_size for part in folder.glob("*.part")
        )
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise EelstmError(f"{folder} can't be used: {error.strerror or error}.") from None
    if missing > free:
        raise EelstmError(
            f"{folder} has {free / 1e6:.0f} MB free, and {missing / 1e6:.0f} MB are missing: make room, or choose "
            "another folder with -o."
        )


def _fetch(
    web: Web, article: Article, api: str, file: PublishedFile, folder: Path, force: bool, report: FileReport
) -> FetchedFile:
    path, md5 = folder / file.name, file.md5 or ""
    if path.exists():
        if path.is_file() and path.stat().st_size == file.size and _md5_of(path) == md5:
            report(file, file.size)
            return FetchedFile(path, file.size, md5, downloaded=False)
        if not force:
            raise UsageError(
                f"{path} is there and is not the file that FigShare lists: move it away, or replace it with --force."
            )
    # Named after its content too: what is left of an earlier version must not become the beginning of this one.
    part = folder / f"{file.name}.{md5[:8]}.part"
    _download(web, article, api, file, part, report)
    found = _md5_of(part)
    if found != md5:
        with suppress(OSError):
            part.unlink()
        raise UnusableInputError(
            f"{file.name} came with the MD5 {found}, and FigShare lists {md5}: it was deleted; fetch it again, and if that "
            f"doesn't help, look at {article.page}."
        )
    try:
        part.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from None
    return FetchedFile(path, file.size, md5, downloaded=True)


def _download(web: Web, article: Article, api: str, file: PublishedFile, part: Path, report: FileReport) -> None:
    """From where the API says; from the API itself where a firewall stands before that, which lets browsers through only."""
    try:
        try:
            web.download(file.download_url, part, file.size, lambda have: report(file, have))
        except NotServedError as error:
            if error.status not in (ACCEPTED, FORBIDDEN):
                raise
            web.download(f"{api}/file/download/{file.id}", part, file.size, lambda have: report(file, have))
    except BrokenOffError as error:
        have = part.stat().st_size if part.exists() else 0
        raise EelstmError(
            f"{file.name} came as far as {have / 1e6:.1f} of {file.size / 1e6:.1f} MB: {error}. The same command goes on "
            f"from there; or get it by hand from {article.page} and put it into {part.parent}."
        ) from None
    except NotServedError as error:
        raise EelstmError(
            f"{file.name} can't be fetched: {safe(str(error))} Get it by hand from {article.page} and put it into {part.parent}."
        ) from None


def _md5_of(path: Path) -> str:
    try:
        digest: str = _pooch().file_hash(str(path), alg="md5")
    except OSError as error:
        raise EelstmError(f"{path} can't be read: {error.strerror or error}.") from None
    return digest


def _pooch() -> Any:
    try:
        import pooch  # noqa: PLC0415 - only what fetches needs it
    except ModuleNotFoundError:
        raise UsageError("fetching needs pooch: install eelstm-stream[io].") from None
    return pooch


def by_hand(article: Article, folder: Path) -> str:
    """How to do without this program, in one sentence."""
    names = f" ({', '.join(PAPER_FILES)} are those at 0.4 s)" if str(article.number) == PAPER_ARTICLE else ""
    return f"By hand: download the files{names} from {article.page} in a browser, and put them into {folder}."
