"""What FigShare's public API (v2) says of an article and its files.

None of it is trusted: names become names in one folder and nothing else, sizes are bounded, and addresses must be https on
FigShare's hosts or on the store that it redirects to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.announce import printable
from eelstm_stream.io.downloads import Web

API = "https://api.figshare.com/v2"
DOI_PREFIX = "10.6084/m9.figshare."
HOSTS = ("figshare.com", "amazonaws.com")  # its own, and the store where its downloads are redirected to
PAGE = 100
LISTED_WITH_ARTICLE = 10  # the API lists at most so many files with an article; the rest have to be asked for
MAX_FILES = 1000
MAX_FILE_BYTES = 64 * 1024**3  # a long spectrum image has tens of GB
MAX_NAME_BYTES = 200  # file systems end at 255, and `.part` and a checksum are added

PAPER_ARTICLE = "20288730"
PAPER_FILES = ("SI-007 0.4 s dwell.dm4", "SI-012 0.4 s 160 repeat.dm4", "SI-015 0.4 s 160 repeat.dm4")

Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$", to_lower=True)]


@dataclass(frozen=True, slots=True)
class Article:
    """An article on FigShare, in its newest version unless one is named."""

    number: int
    version: int | None = None

    @property
    def doi(self) -> str:
        """Its DOI, where it is one of figshare.com's own."""
        return f"{DOI_PREFIX}{self.number}" + ("" if self.version is None else f".v{self.version}")

    @property
    def page(self) -> str:
        """Its page in a browser."""
        return f"https://doi.org/{self.doi}"

    @property
    def path(self) -> str:
        """Its place in the API."""
        return f"articles/{self.number}" + ("" if self.version is None else f"/versions/{self.version}")


class PublishedFile(BaseModel):
    """A file as the API lists it."""

    id: int = Field(ge=1, le=2**53)
    name: str
    size: int = Field(ge=0, le=MAX_FILE_BYTES)
    is_link_only: bool = False
    download_url: str = Field("", max_length=4000)
    computed_md5: Md5 | None = None
    supplied_md5: Md5 | None = None

    @property
    def md5(self) -> str | None:
        """The checksum to hold it to: what FigShare found, rather than what its author said."""
        return self.computed_md5 or self.supplied_md5


@dataclass(frozen=True, slots=True)
class Listing:
    """What an article holds."""

    title: str
    files: tuple[PublishedFile, ...]
    elsewhere: tuple[str, ...]  # names of files that FigShare only links to, and so has no checksum of


def article_of(text: str) -> Article:
    """An article from its number, its DOI or the address of its page. Raises UsageError."""
    found = re.fullmatch(
        r"\s*(?:https?://(?:dx\.)?doi\.org/|doi:)?(?:10\.\d+/m9\.figshare\.)?([1-9]\d{0,11})(?:\.v([1-9]\d{0,3}))?\s*",
        text,
    ) or re.fullmatch(
        r"\s*https?://[\w.-]*figshare\.com/articles/(?:[^?#\s]*/)?([1-9]\d{4,11})(?:/([1-9]\d{0,3}))?/?\s*", text
    )
    if not found:
        raise UsageError(
            f"{text!r} is no article: give its number (as {PAPER_ARTICLE}), its DOI ({DOI_PREFIX}{PAPER_ARTICLE}) or its "
            "page's address."
        )
    return Article(int(found[1]), int(found[2]) if found[2] else None)


def allowed_by(api: str) -> Callable[[str], bool]:
    """Whether an address may be asked: https on FigShare's hosts, or on the API's own, which on this machine may be http.

    Raises UsageError for an API that is neither https nor on this machine.
    """
    own = urlsplit(api)
    if not own.hostname or not (own.scheme == "https" or (own.scheme == "http" and _is_this_machine(own.hostname))):
        raise UsageError(f"{api!r} can't be FigShare's API: give an https address.")

    def allowed(url: str) -> bool:
        try:
            asked = urlsplit(url)
            if (asked.scheme, asked.hostname, asked.port) == (own.scheme, own.hostname, own.port):
                return True
            host = asked.hostname or ""
            return (
                asked.scheme == "https"
                and asked.port in (None, 443)
                and asked.username is None
                and any(host == h or host.endswith(f".{h}") for h in HOSTS)
            )
        except ValueError:  # no address at all
            return False

    return allowed


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def list_article(web: Web, article: Article, api: str = API) -> Listing:
    """Title and files of an article.

    Raises what `Web.json` raises, and UnusableInputError where the answer can't be used or shouldn't be.
    """
    head = web.json(f"{api}/{article.path}")
    try:
        title, found = str(_mapping(head).get("title") or ""), list(head.get("files") or [])
        if len(found) >= LISTED_WITH_ARTICLE:
            found = []
            while len(found) <= MAX_FILES:
                page = list(web.json(f"{api}/{article.path}/files?page={len(found) // PAGE + 1}&page_size={PAGE}"))
                found += page
                if len(page) < PAGE:
                    break
    except TypeError:
        raise UnusableInputError("FigShare's API answers in another form than that of its version 2.") from None
    return _checked(article, title, found)


def _mapping(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found


def _checked(article: Article, title: str, found: Sequence[Any]) -> Listing:
    """The listing, with nothing in it that could do harm."""
    if len(found) > MAX_FILES:
        raise UnusableInputError(
            f"article {article.number} lists more than {MAX_FILES} files: get those needed by hand."
        )
    try:
        # FigShare leaves a checksum that it does not have empty, not out.
        files = TypeAdapter(list[PublishedFile]).validate_python(
            [{k: v for k, v in _mapping(file).items() if v not in ("", None)} for file in found]
        )
    except (ValidationError, TypeError) as error:
        fault = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" if fault else str(error)
        raise UnusableInputError(
            f"article {article.number} lists files in a form that is not known ({what})."
        ) from None
    here = tuple(file for file in files if not file.is_link_only)
    if not here:
        raise UnusableInputError(f"article {article.number} holds no files on FigShare: see {article.page}.")
    for file in here:
        if file.md5 is None:
            raise UnusableInputError(f"{safe(file.name)!r} has no checksum on FigShare, so it can't be verified.")
    names = [_require_harmless(file.name).casefold() for file in here]
    for name in names:
        if names.count(name) > 1:
            raise UnusableInputError(
                f"article {article.number} lists {name!r} twice, and a folder holds one of a name: get them by hand."
            )
    return Listing(safe(title), here, tuple(safe(file.name) for file in files if file.is_link_only))


def _require_harmless(name: str) -> str:
    """A name that is one file in one folder. Raises UnusableInputError."""
    harmless = (
        name.strip() == name
        and not name.startswith((".", "-", "~"))
        and not set(name) & set('/\\:*?"<>|')
        and name.isprintable()
        and 0 < len(name.encode(errors="replace")) <= MAX_NAME_BYTES
        and not name.endswith(".part")
    )
    if not harmless:
        raise UnusableInputError(f"{safe(name)!r} is no file name to write under: get that file by hand.")
    return name


def safe(text: str) -> str:
    """Text from elsewhere as part of one line."""
    return printable(text)[:200]
