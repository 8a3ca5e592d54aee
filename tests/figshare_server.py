"""A server on this machine that speaks FigShare's API, and fails as it is told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

ARTICLE = 20288730
PAGE_OF_FILES = 10  # as many as the real API lists with an article

Answer = Callable[["Handler"], None]


@dataclass
class FigShare:
    """An article's files by name; every request that came; and answers in place of the usual ones, by path, used up in turn."""

    files: dict[str, bytes]
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # to what is listed of a file
    instead: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    ranges: bool = True

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.figshare = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api(self) -> str:
        return f"{self.origin}/v2"

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "name": name,
                "size": len(content),
                "is_link_only": False,
                "download_url": f"{self.origin}/files/{number}",
                "supplied_md5": "",
                "computed_md5": hashlib.md5(content).hexdigest(),  # noqa: S324 - what FigShare lists
                "mimetype": "application/octet-stream",
            }
            | self.changes.get(name, {})
            for number, (name, content) in enumerate(self.files.items(), start=1)
        ]

    def downloads(self) -> list[tuple[str, str | None]]:
        return [asked for asked in self.asked if "/file" in asked[0] and "page" not in asked[0]]

    def __enter__(self) -> FigShare:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # head and body go out in two writes, and the second would wait for the first's receipt
    )

    @property
    def figshare(self) -> FigShare:
        return self.server.figshare  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        self.figshare.asked.append((self.path, self.headers.get("Range")))
        waiting = self.figshare.instead.get(self.path)
        if waiting:
            waiting.pop(0)(self)
        else:
            self.answer()

    def answer(self) -> None:
        """As FigShare would."""
        figshare, url = self.figshare, urlsplit(self.path)
        if url.path in (f"/v2/articles/{ARTICLE}", f"/v2/articles/{ARTICLE}/versions/1"):
            self.json({"id": ARTICLE, "title": "In situ EELS of SrTiO3", "files": figshare.listed()[:PAGE_OF_FILES]})
        elif url.path == f"/v2/articles/{ARTICLE}/files":
            query = parse_qs(url.query)
            page, size = int(query["page"][0]), int(query["page_size"][0])
            self.json(figshare.listed()[(page - 1) * size : page * size])
        elif url.path.startswith(("/files/", "/v2/file/download/")):
            self.file(list(figshare.files.values())[int(url.path.rsplit("/", 1)[1]) - 1])
        else:
            self.status(404)

    def json(self, document: Any) -> None:
        self.whole(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def file(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        if asked and self.figshare.ranges:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            said = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.whole(206, content[first:], {"Content-Range": said})
        else:
            self.whole(200, content, {})

    def status(self, code: int, **headers: str) -> None:
        self.whole(code, b"", {name.replace("_", "-"): value for name, value in headers.items()})

    def whole(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.head(code, len(content), headers)
        self.wfile.write(content)

    def head(self, code: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is its own."""


def status(code: int, **headers: str) -> Answer:
    """An answer without content."""
    return lambda handler: handler.status(code, **headers)


def cut_off(content: bytes, after: int) -> Answer:
    """The whole file promised, and the connection closed after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, len(content), {})
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return answer


def stall(content: bytes, after: int, until: threading.Event) -> Answer:
    """So many bytes, and no more until the event."""

    def answer(handler: Handler) -> None:
        handler.head(200, len(content), {})
        handler.wfile.write(content[:after])
        handler.wfile.flush()
        until.wait()
        handler.close_connection = True

    return answer
