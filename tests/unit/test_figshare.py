"""Files from FigShare: what is asked for, what is kept, and what is refused. The server is real, and on this machine."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.downloads import CHUNK_BYTES, LONGEST_PAUSE_S, PAUSES_S, TRIES, Web
from eelstm_stream.io.fetching import article_folder, fetch_article
from eelstm_stream.io.figshare import API, Article, allowed_by, article_of
from tests.figshare_server import ARTICLE, FigShare, cut_off, stall, status
from tests.programs import run, running

LONG = np.random.default_rng(5).bytes(5 * CHUNK_BYTES + 1234)
FILES = {"SI-007 0.4 s dwell.dm4": LONG, "read me.txt": b"three runs at 0.4 s\n", "empty.csv": b""}
FIRST = "SI-007 0.4 s dwell.dm4"


@pytest.fixture
def figshare() -> Iterator[FigShare]:
    with FigShare(dict(FILES)) as server:
        yield server


class Fetch:
    """Fetches the article into a folder, without its pauses, which are kept to be looked at."""

    def __init__(self, server: FigShare, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.pauses_s: list[float] = []

    def __call__(self, *, force: bool = False) -> list[bool]:
        """Which files were downloaded."""
        with closing(Web(allowed_by(self.server.api), lambda s, _: self.pauses_s.append(s))) as web:
            _, files = fetch_article(Article(ARTICLE), self.folder, web, api=self.server.api, force=force)
        return [file.downloaded for file in files]

    @property
    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.part"))


@pytest.fixture
def fetch(figshare: FigShare, tmp_path: Path) -> Fetch:
    return Fetch(figshare, tmp_path / "new" / "folder")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_files_of_the_article_come_into_the_folder(fetch: Fetch) -> None:
    assert fetch() == [True, True, True]
    assert contents(fetch.folder) == FILES
    assert fetch.pauses_s == []


def test_what_is_there_already_is_not_downloaded_again(fetch: Fetch) -> None:
    fetch()
    fetch.server.asked.clear()
    assert fetch() == [False, False, False]
    assert fetch.server.downloads() == []


def test_a_file_that_is_something_else_stays_unless_forced(fetch: Fetch) -> None:
    fetch()
    mine = fetch.folder / FIRST
    mine.write_bytes(b"my own notes")
    with pytest.raises(UsageError, match=r"SI-007.*move it away.*--force"):
        fetch()
    assert mine.read_bytes() == b"my own notes"
    fetch(force=True)
    assert mine.read_bytes() == LONG


def test_a_connection_that_breaks_is_taken_up_where_it_broke(fetch: Fetch) -> None:
    fetch.server.instead["/files/1"] = [cut_off(LONG, 2 * CHUNK_BYTES), cut_off_rest(LONG, 4 * CHUNK_BYTES)]
    fetch()
    assert contents(fetch.folder) == FILES
    assert [r for path, r in fetch.server.downloads() if path == "/files/1"] == [
        None,
        f"bytes={2 * CHUNK_BYTES}-",
        f"bytes={4 * CHUNK_BYTES}-",
    ]
    assert fetch.pauses_s == [PAUSES_S[0]] * 2  # something came each time, so patience starts anew


def cut_off_rest(content: bytes, until: int):
    def answer(handler) -> None:
        first = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        said = f"bytes {first}-{len(content) - 1}/{len(content)}"
        handler.head(206, len(content) - first, {"Content-Range": said})
        handler.wfile.write(content[first:until])
        handler.close_connection = True

    return answer


def test_a_fetch_that_gave_up_is_gone_on_with_by_the_next(fetch: Fetch) -> None:
    fetch.server.instead["/files/1"] = [cut_off(LONG, 3 * CHUNK_BYTES), *[status(503)] * TRIES]
    with pytest.raises(EelstmError, match=r"as far as 0\.2 of 0\.3 MB: it answers 503.*same command goes on"):
        fetch()
    assert [part.stat().st_size for part in fetch.parts] == [3 * CHUNK_BYTES]
    assert not (fetch.folder / FIRST).exists()

    fetch.server.asked.clear()
    fetch()
    assert fetch.server.downloads()[0] == ("/files/1", f"bytes={3 * CHUNK_BYTES}-")
    assert contents(fetch.folder) == FILES


def test_a_server_that_ignores_ranges_sends_it_anew(fetch: Fetch) -> None:
    fetch.server.ranges = False
    fetch.server.instead["/files/1"] = [cut_off(LONG, 3 * CHUNK_BYTES)]
    fetch()
    assert [r for path, r in fetch.server.downloads() if path == "/files/1"] == [None, f"bytes={3 * CHUNK_BYTES}-"]
    assert contents(fetch.folder) == FILES


@pytest.mark.parametrize(
    "said", [f"bytes 7-{len(LONG) - 1}/{len(LONG)}", f"bytes {CHUNK_BYTES}-9/12", "", "bytes */12"]
)
def test_a_range_other_than_the_one_asked_for_is_not_appended(fetch: Fetch, said: str) -> None:
    def wrong(handler) -> None:
        handler.whole(206, LONG[7:], {"Content-Range": said})

    fetch.server.instead["/files/1"] = [cut_off(LONG, CHUNK_BYTES), wrong]
    fetch()
    assert contents(fetch.folder) == FILES


def test_a_part_too_long_or_past_the_end_begins_anew(fetch: Fetch) -> None:
    fetch.folder.mkdir(parents=True)
    md5 = hashlib.md5(LONG).hexdigest()[:8]  # noqa: S324 - as FigShare lists
    (fetch.folder / f"{FIRST}.{md5}.part").write_bytes(b"?" * (len(LONG) + 1))
    fetch()
    assert contents(fetch.folder) == FILES

    (fetch.folder / FIRST).unlink()
    (fetch.folder / f"{FIRST}.{md5}.part").write_bytes(LONG[:CHUNK_BYTES])
    fetch.server.instead["/files/1"] = [status(416)]
    fetch()
    assert contents(fetch.folder) == FILES


def test_a_part_that_is_whole_needs_no_request(fetch: Fetch) -> None:
    fetch.folder.mkdir(parents=True)
    md5 = hashlib.md5(LONG).hexdigest()[:8]  # noqa: S324 - as FigShare lists
    (fetch.folder / f"{FIRST}.{md5}.part").write_bytes(LONG)
    fetch()
    assert "/files/1" not in [path for path, _ in fetch.server.downloads()]
    assert contents(fetch.folder) == FILES


def test_a_wrong_checksum_leaves_no_file(fetch: Fetch) -> None:
    fetch.server.changes[FIRST] = {"computed_md5": "0" * 32}
    found = hashlib.md5(LONG).hexdigest()  # noqa: S324 - as FigShare lists
    with pytest.raises(UnusableInputError, match=rf"SI-007.*{found}.*0{{32}}.*deleted"):
        fetch()
    assert list(fetch.folder.iterdir()) == []


def test_the_checksum_that_figshare_found_counts_before_the_supplied_one(fetch: Fetch) -> None:
    fetch.server.changes[FIRST] = {"supplied_md5": "0" * 32}
    fetch()
    found = hashlib.md5(FILES["read me.txt"]).hexdigest()  # noqa: S324 - as FigShare lists
    fetch.server.changes["read me.txt"] = {"computed_md5": "", "supplied_md5": found}
    assert fetch() == [False, False, False]


def test_an_article_that_is_not_there_is_one_line(fetch: Fetch) -> None:
    fetch.server.instead[f"/v2/articles/{ARTICLE}"] = [status(404)]
    with pytest.raises(EelstmError, match=rf"no public article {ARTICLE}") as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert fetch.pauses_s == []
    assert not fetch.folder.exists()


def test_a_file_that_is_not_there_says_where_to_look(fetch: Fetch) -> None:
    fetch.server.instead["/files/1"] = [status(404)]
    with pytest.raises(EelstmError, match=r"SI-007.*404.*by hand from https://doi\.org/10\.6084"):
        fetch()


@pytest.mark.parametrize("path", [f"/v2/articles/{ARTICLE}", "/files/1"])
def test_a_busy_server_is_asked_again_after_what_it_says(fetch: Fetch, path: str) -> None:
    fetch.server.instead[path] = [status(503, Retry_After="3"), status(429), status(503, Retry_After="86400")]
    fetch()
    assert contents(fetch.folder) == FILES
    assert fetch.pauses_s == [3.0, PAUSES_S[1], LONGEST_PAUSE_S]


def test_a_date_to_retry_after_is_understood(fetch: Fetch) -> None:
    dates = ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2215 07:28:00 GMT", "soon", "²"]
    fetch.server.instead["/files/1"] = [status(503, Retry_After=date) for date in dates]
    fetch()
    assert fetch.pauses_s == [0.0, LONGEST_PAUSE_S, PAUSES_S[2], PAUSES_S[3]]


@pytest.mark.parametrize("path", [f"/v2/articles/{ARTICLE}", "/files/1"])
def test_a_server_that_stays_busy_is_given_up(fetch: Fetch, path: str) -> None:
    fetch.server.instead[path] = [status(503)] * 1000
    with pytest.raises(EelstmError, match=r"503 Service Unavailable.*by hand|503.*By hand"):
        fetch()
    assert [asked for asked, _ in fetch.server.asked].count(path) == TRIES
    assert fetch.pauses_s == list(PAUSES_S)


@pytest.mark.parametrize("code", [202, 403])
def test_past_the_firewall_for_browsers_the_api_serves_the_file(fetch: Fetch, code: int) -> None:
    fetch.server.instead["/files/1"] = [status(code)]
    fetch()
    assert contents(fetch.folder) == FILES
    assert ("/v2/file/download/1", None) in fetch.server.asked


def test_where_nobody_answers_it_says_how_to_do_it_by_hand(tmp_path: Path) -> None:
    with FigShare({}) as gone:
        api = gone.api
    pauses: list[float] = []
    with (
        closing(Web(allowed_by(api), lambda s, _: pauses.append(s))) as web,
        pytest.raises(EelstmError, match="refused") as caught,
    ):
        fetch_article(Article(ARTICLE), tmp_path / "here", web, api=api)
    sentence = str(caught.value)
    for part in ("SI-007 0.4 s dwell.dm4", "SI-015 0.4 s 160 repeat.dm4", "doi.org/10.6084/m9.figshare.20288730"):
        assert part in sentence
    assert str(tmp_path / "here") in sentence
    assert "\n" not in sentence
    assert len(pauses) == TRIES - 1


def test_more_files_than_the_article_lists_are_asked_for(tmp_path: Path) -> None:
    many = {f"{number}.bin": str(number).encode() for number in range(203)}
    with FigShare(many) as server:
        fetch = Fetch(server, tmp_path)
        assert sum(fetch()) == 203
        assert contents(tmp_path) == many


def test_a_version_is_asked_for_by_its_number(figshare: FigShare, tmp_path: Path) -> None:
    with closing(Web(allowed_by(figshare.api))) as web:
        fetch_article(Article(ARTICLE, 1), tmp_path, web, api=figshare.api)
    assert figshare.asked[0][0] == f"/v2/articles/{ARTICLE}/versions/1"


def test_files_that_figshare_only_links_to_are_left_out_and_named(figshare: FigShare, tmp_path: Path) -> None:
    figshare.changes["read me.txt"] = {"is_link_only": True, "computed_md5": "", "download_url": "https://example.org"}
    with closing(Web(allowed_by(figshare.api))) as web:
        listing, files = fetch_article(Article(ARTICLE), tmp_path, web, api=figshare.api)
    assert listing.elsewhere == ("read me.txt",)
    assert [file.path.name for file in files] == [FIRST, "empty.csv"]


# What must not be trusted


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "/etc/passwd", "..", ".", "", ".bashrc", "-rf", "a\\b", "a\nb", "a\0b", "x.part", "C:x", " x", "x ",
     "n" * 201, "é" * 101, "\u202etxt.exe", "a\x1b[2Jb", "\ud800"],
)  # fmt: skip
def test_a_name_that_is_no_plain_file_name_stops_everything(fetch: Fetch, name: str) -> None:
    fetch.server.changes[FIRST] = {"name": name}
    with pytest.raises(UnusableInputError, match=r"no file name|form that is not known") as caught:
        fetch()
    assert str(caught.value).isprintable()
    assert fetch.server.downloads() == []
    assert not fetch.folder.exists()


def test_two_files_that_some_disks_hold_as_one_are_refused(fetch: Fetch) -> None:
    fetch.server.changes["read me.txt"] = {"name": FIRST.upper()}
    with pytest.raises(UnusableInputError, match="twice"):
        fetch()


@pytest.mark.parametrize(
    "change",
    [{"size": -1}, {"size": 2**60}, {"size": "many"}, {"id": 0}, {"computed_md5": "xyz"}, {"computed_md5": ""}, {"id": None}],
)  # fmt: skip
def test_a_listing_that_makes_no_sense_is_refused(fetch: Fetch, change: dict[str, object]) -> None:
    fetch.server.changes[FIRST] = change
    with pytest.raises(UnusableInputError, match=r"form that is not known|no checksum"):
        fetch()
    assert fetch.server.downloads() == []


@pytest.mark.parametrize(
    "document", [[], "files", None, {"files": 5}, {"files": ["x"]}, {"files": [[]]}, {}, {"files": []}]
)
def test_an_answer_of_another_form_is_one_line(fetch: Fetch, document: object) -> None:
    fetch.server.instead[f"/v2/articles/{ARTICLE}"] = [lambda handler: handler.json(document)]
    with pytest.raises(UnusableInputError, match=r"another form|form that is not known|holds no files"):
        fetch()


@pytest.mark.parametrize("body", [b"<html>Sign in to the hotel's network</html>", b"{" * 100_000, b"[" * 100_000])
def test_an_answer_that_is_no_json_is_one_line(fetch: Fetch, body: bytes) -> None:
    fetch.server.instead[f"/v2/articles/{ARTICLE}"] = [lambda handler: handler.whole(200, body, {})]
    with pytest.raises(EelstmError, match="JSON"):
        fetch()


def test_an_endless_listing_is_cut_short(fetch: Fetch) -> None:
    fetch.server.instead[f"/v2/articles/{ARTICLE}"] = [lambda handler: handler.whole(200, b" " * 9_000_000, {})]
    with pytest.raises(EelstmError, match="more than 8 MB"):
        fetch()


@pytest.mark.parametrize("size", [len(LONG) - 1, len(LONG) + 1, 0])
def test_a_file_of_another_size_than_listed_is_refused(fetch: Fetch, size: int) -> None:
    fetch.server.changes[FIRST] = {"size": size}
    with pytest.raises(EelstmError, match=r"are listed|MD5"):
        fetch()
    assert not (fetch.folder / FIRST).exists()


def test_more_bytes_than_listed_do_not_reach_the_disk(fetch: Fetch) -> None:
    def endless(handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(200):
            handler.wfile.write(LONG)

    fetch.server.instead["/files/1"] = [endless]
    with pytest.raises(EelstmError, match="more than the"):
        fetch()
    assert [part.stat().st_size for part in fetch.parts] == [0]


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "file:///etc/passwd", "https://example.org/x", "//example.org/x"]
)
def test_neither_a_listing_nor_a_redirect_leads_elsewhere(fetch: Fetch, target: str) -> None:
    fetch.server.instead["/files/1"] = [status(302, Location=target)]
    with pytest.raises(EelstmError, match="not an address to fetch from"):
        fetch()
    fetch.server.changes[FIRST] = {"download_url": target}
    with pytest.raises(EelstmError, match="not an address to fetch from"):
        fetch()


def test_redirects_are_followed_and_end(fetch: Fetch) -> None:
    fetch.server.instead["/files/1"] = [status(302, Location="/files/1")] * 3
    fetch()
    assert contents(fetch.folder) == FILES
    (fetch.folder / FIRST).unlink()
    fetch.server.instead["/files/1"] = [status(302, Location="/files/1")] * 100
    with pytest.raises(EelstmError, match="redirects without end"):
        fetch()


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://api.figshare.com/v2/articles/1", True),
        ("https://ndownloader.figshare.com/files/1", True),
        ("https://figshare.com:443/x", True),
        ("https://s3-eu-west-1.amazonaws.com/pfigshare-u-files/1/x?X-Amz-Signature=0", True),
        ("http://ndownloader.figshare.com/files/1", False),
        ("https://figshare.com.example.org/x", False),
        ("https://notfigshare.com/x", False),
        ("https://figshare.com@example.org/x", False),
        ("https://user@figshare.com/x", False),
        ("https://figshare.com:8443/x", False),
        ("https://[::1/x", False),
        ("https://figshare.com:x/", False),
        ("ftp://figshare.com/x", False),
        ("", False),
    ],
)
def test_what_may_be_asked(url: str, may: bool) -> None:
    assert allowed_by(API)(url) is may


@pytest.mark.parametrize(
    "api", ["http://api.figshare.com/v2", "ftp://127.0.0.1/", "http://10.0.0.1/", "api.figshare.com", ""]
)
def test_an_api_without_encryption_must_be_on_this_machine(api: str) -> None:
    with pytest.raises(UsageError, match="https"):
        allowed_by(api)


# Articles


@pytest.mark.parametrize(
    ("text", "article"),
    [
        ("20288730", Article(20288730)),
        ("10.6084/m9.figshare.20288730", Article(20288730)),
        ("10.6084/m9.figshare.20288730.v1", Article(20288730, 1)),
        ("doi:10.6084/m9.figshare.20288730.v12", Article(20288730, 12)),
        ("https://doi.org/10.6084/m9.figshare.20288730", Article(20288730)),
        ("https://figshare.com/articles/dataset/In_Situ_EELS_2022/20288730", Article(20288730)),
        ("https://figshare.com/articles/dataset/In_Situ_EELS_2022/20288730/1", Article(20288730, 1)),
        (" 20288730.v2\n", Article(20288730, 2)),
    ],
)
def test_an_article_by_any_of_its_names(text: str, article: Article) -> None:
    assert article_of(text) == article


@given(st.text(max_size=40))
@example("0")
@example("-1")
@example("٣")
@example("https://example.org/articles/20288730")
@example("10.6084/m9.figshare.c.4362224")
def test_anything_else_is_refused_or_a_number(text: str) -> None:
    try:
        article = article_of(text)
    except UsageError:
        return
    assert str(article.number) in text
    assert article.number > 0


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert article_folder(Article(5)) == tmp_path / "eelstm-stream" / "figshare-5"
    assert article_folder(Article(5, 2)) == tmp_path / "eelstm-stream" / "figshare-5.v2"


# As a program


def test_the_command_prints_what_it_fetched(figshare: FigShare, tmp_path: Path) -> None:
    done = run("fetch", "figshare", "--api", figshare.api, "--json", XDG_CACHE_HOME=str(tmp_path))
    figures = done.figures()
    folder = tmp_path / "eelstm-stream" / f"figshare-{ARTICLE}"
    assert done.code == 0
    assert figures["folder"] == str(folder)
    assert [Path(file["path"]).name for file in figures["files"]] == list(FILES)
    assert all(file["downloaded"] for file in figures["files"])
    assert contents(folder) == FILES

    again = run("fetch", "figshare", str(ARTICLE), "--api", figshare.api, "-o", folder)
    assert (again.code, again.out.count("there already")) == (0, 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_fetch_that_is_killed_is_gone_on_with(figshare: FigShare, tmp_path: Path, number: signal.Signals) -> None:
    done = threading.Event()
    figshare.instead["/files/1"] = [stall(LONG, 3 * CHUNK_BYTES, done)]
    arguments = ("fetch", "figshare", "--api", figshare.api, "-o", tmp_path)
    with running(*arguments) as (process, _):
        while not (sizes := [p.stat().st_size for p in tmp_path.glob("*.part")]) or sizes[0] < 2 * CHUNK_BYTES:
            os.sched_yield()
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    done.set()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    [part] = tmp_path.glob("*.part")
    have = part.stat().st_size
    assert 2 * CHUNK_BYTES <= have < len(LONG)

    figshare.asked.clear()
    assert run(*arguments).code == 0
    assert figshare.downloads()[0] == ("/files/1", f"bytes={have}-")
    assert contents(tmp_path) == FILES


def test_two_fetches_do_not_write_one_file(figshare: FigShare, tmp_path: Path) -> None:
    done = threading.Event()
    figshare.instead["/files/1"] = [stall(LONG, CHUNK_BYTES, done)]
    arguments = ("fetch", "figshare", "--api", figshare.api, "-o", tmp_path)
    with running(*arguments) as (first, _):
        while not list(tmp_path.glob("*.part")):
            os.sched_yield()
            assert first.poll() is None
        second = run(*arguments)
        done.set()
        assert (second.code, second.out) == (1, "")
        assert "another fetch" in second.err
        assert first.wait(60) == 0
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hello",), 2, "'hello' is no article"),
        (("--api", "http://10.0.0.1/v2"), 2, "https"),
        (("-o", "/proc/nowhere"), 1, "/proc/nowhere can't be used"),
        (("-o", __file__), 1, "can't be used"),
    ],
)
def test_what_it_cannot_do_is_one_line(figshare: FigShare, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run("fetch", "figshare", *(() if "--api" in arguments else ("--api", figshare.api)), *arguments)
    [line] = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    assert said in line
