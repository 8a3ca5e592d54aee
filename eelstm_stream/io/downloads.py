"""A file over HTTP that may break off at any byte: what has come stays, and the next attempt asks for the rest.

Whatever is asked for comes from hosts that the caller allows, redirects included. A server that is busy is asked again, a
bounded number of times; a connection that got something across may break as often as it likes.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from eelstm_stream.errors import EelstmError, UsageError

Report = Callable[[int], None]  # bytes of the file that are there
Wait = Callable[[float, str], None]  # make a pause of so many seconds, for this reason

TRIES = 5  # in a row without a byte gained
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE_S = 60.0  # however long a server asks for
TIMEOUT_S = (10.0, 60.0)  # to connect; between two reads
REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
MAX_JSON_BYTES = 8 * 1024 * 1024
OK, PARTIAL, ACCEPTED, FORBIDDEN, NOT_FOUND, RANGE_NOT_SATISFIABLE = 200, 206, 202, 403, 404, 416
BUSY = (408, 429, 500, 502, 503, 504)
REDIRECTED = (301, 302, 303, 307, 308)


class NotServedError(EelstmError):
    """The server answered, and will not give it: asking again won't help. `status` is its HTTP status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class BrokenOffError(EelstmError):
    """Nothing, or not all, came across: no network, a server that is busy, a connection that broke."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Web:
    """HTTP with a rule on where to; one connection pool."""

    def __init__(self, allow: Callable[[str], bool], wait: Wait = lambda pause_s, _: time.sleep(pause_s)) -> None:
        """allow: whether an address may be asked. wait: makes the pauses between attempts.

        Raises UsageError where `requests`, which comes with pooch, is not installed.
        """
        try:
            import requests  # noqa: PLC0415
        except ModuleNotFoundError:
            raise UsageError("fetching needs requests: install eelstm-stream[io].") from None
        self._requests = requests
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"eelstm-stream/{importlib.metadata.version('eelstm-stream')}"
        self._session.headers["Accept-Encoding"] = "identity"  # bytes on the wire are bytes of the file
        self._allow = allow
        self._wait = wait

    def json(self, url: str) -> Any:
        """A JSON document. Raises NotServedError or BrokenOffError."""
        return self._patiently(lambda: self._json(url), lambda: 0)

    def download(self, url: str, part: Path, size: int, report: Report = lambda _: None) -> None:
        """Fill `part` up to `size` bytes, going on from what is in it.

        Raises NotServedError; BrokenOffError once patience has run out, with what came in `part`; EelstmError where the file
        is being fetched already, or can't be written.
        """
        try:
            with part.open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise EelstmError(f"{part} is being written by another fetch: wait for it to end.") from None
                self._patiently(lambda: self._rest(url, file, size, report), lambda: _length(file))
                os.fsync(file.fileno())  # the name that it will get must not reach the disk before it
        except OSError as error:
            raise EelstmError(f"{part} couldn't be written: {error.strerror or error}.") from error

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _patiently(self, attempt: Callable[[], Any], gained: Callable[[], int]) -> Any:
        """Attempt until it succeeds, or fails TRIES times in a row with nothing gained."""
        failures, before = 0, gained()
        while True:
            try:
                return attempt()
            except BrokenOffError as broken:
                failures = 1 if gained() > before else failures + 1
                before = gained()
                if failures >= TRIES:
                    raise
                asked_for_s = broken.retry_after_s
                pause_s = PAUSES_S[failures - 1] if asked_for_s is None else asked_for_s
                self._wait(min(max(pause_s, 0.0), LONGEST_PAUSE_S), str(broken))

    def _json(self, url: str) -> Any:
        with closing(self._get(url, {})) as response:
            content = b""
            for chunk in self._chunks(response):
                content += chunk
                if len(content) > MAX_JSON_BYTES:
                    raise NotServedError(f"{url} answered with more than {MAX_JSON_BYTES / 1e6:.0f} MB.", OK)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise NotServedError(
                f"{url} did not answer in JSON: something else may stand in between, a proxy say.", OK
            ) from None

    def _rest(self, url: str, file: IO[bytes], size: int, report: Report) -> None:
        """One attempt at what is missing."""
        have = _length(file)
        if have > size:
            file.truncate(0)
            have = 0
        report(have)
        if have == size:
            return
        with closing(self._get(url, {"Range": f"bytes={have}-"} if have else {})) as response:
            if have and not _continues(response, have, size):
                file.truncate(0)
                have = 0
                if response.status_code == PARTIAL:
                    raise BrokenOffError("it sent another part of the file than was asked for")
            declared = response.headers.get("content-length", "")
            if not have and declared.isdecimal() and int(declared) != size:
                raise NotServedError(f"{url} holds {declared} bytes, and {size} are listed.", response.status_code)
            try:
                for chunk in self._chunks(response):
                    have += len(chunk)
                    if have > size:
                        file.truncate(0)
                        raise NotServedError(
                            f"{url} sends more than the {size} bytes that are listed.", response.status_code
                        )
                    file.write(chunk)
                    report(have)
            finally:
                file.flush()
        if have < size:
            raise BrokenOffError(f"it ended after {have} of {size} bytes")

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        """An open response of status 200 or 206."""
        for _ in range(REDIRECTS + 1):
            if not self._allow(url):
                raise NotServedError(
                    f"{url[:200]} is not an address to fetch from: only https, and only FigShare's hosts.", 0
                )
            try:
                response = self._session.get(
                    url, headers=headers, stream=True, timeout=TIMEOUT_S, allow_redirects=False
                )
            except self._requests.exceptions.SSLError as error:
                raise NotServedError(
                    f"{url[:200]} shows no certificate that can be trusted ({_cause(error)}).", 0
                ) from None
            except self._requests.ConnectionError as error:
                raise BrokenOffError(_cause(error)) from None
            except self._requests.Timeout:
                raise BrokenOffError("it does not answer") from None
            except (self._requests.RequestException, ValueError) as error:
                raise NotServedError(f"{url[:200]} can't be asked for: {error}.", 0) from None
            if response.status_code in REDIRECTED and "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                response.close()
                continue
            return self._usable(response, url, ranged="Range" in headers)
        raise NotServedError(f"{url[:200]} redirects without end.", 0)

    def _usable(self, response: Any, url: str, *, ranged: bool) -> Any:
        status = response.status_code
        if status == OK or (status == PARTIAL and ranged):
            return response
        response.close()
        if status == RANGE_NOT_SATISFIABLE and ranged:
            return self._get(url, {})
        if status in BUSY:
            raise BrokenOffError(
                f"it answers {status} {response.reason}", _retry_after_s(response.headers.get("retry-after"))
            )
        raise NotServedError(f"{url} answers {status} {response.reason}.", status)

    def _chunks(self, response: Any) -> Any:
        """The body as it comes over the wire. Raises BrokenOffError where it breaks off."""
        import urllib3  # noqa: PLC0415 - comes with requests

        try:
            yield from response.raw.stream(CHUNK_BYTES, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenOffError(f"the connection broke ({_cause(error)})") from None


def _length(file: IO[bytes]) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _continues(response: Any, have: int, size: int) -> bool:
    """Whether an answer begins where we left off, in a file of the length that we expect."""
    said: str = response.headers.get("content-range", "").replace(" ", "").lower()
    return response.status_code == PARTIAL and said.startswith(f"bytes{have}-") and said.endswith((f"/{size}", "/*"))


def _retry_after_s(header: str | None) -> float | None:
    """Seconds that a server asks to wait: it may give them, or a date."""
    if header is None:
        return None
    if header.strip().isdecimal() and header.isascii():
        return float(header[:9])
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _cause(error: BaseException) -> str:
    """The system's own words from deep inside a library's exception."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        arguments = [a for a in (getattr(seen, "reason", None), *seen.args) if isinstance(a, BaseException)]
        seen = seen.__cause__ or seen.__context__ or (arguments[0] if arguments else None)
    return str(error) if len(str(error)) < 120 else type(error).__name__
