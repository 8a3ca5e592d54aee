"""What a hostile newcomer types: one line that says what was found, the right exit code, and nothing half-started.

Every command line runs as a process of its own. Those of `serve` and `sim` that must fail before anything is bound are
given a port that is taken: had they tried to bind, they would have failed with another code.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eelstm_stream.io.sockets import local_endpoint, peer_endpoint
from eelstm_stream.wire.messages import EnergyAxis
from tests.model_files import metadata, write_model
from tests.paper_layout import strontium_titanate, write_dm
from tests.programs import ANY_PORT, WITHIN_S, Finished, Served, command, marked_environment, run, run_all, running

FAR = "tcp://192.168.1.7:17810"


class Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self._path),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to give to the programs, most of them bad."""
    folder = tmp_path_factory.mktemp("bad")
    energy_eV = 424.0 + 0.1 * np.arange(2048)
    counts = strontium_titanate(12, energy_eV, np.random.default_rng(1))
    write_dm(folder / "good.dm4", counts=counts)
    content = (folder / "good.dm4").read_bytes()
    (folder / "cut.dm4").write_bytes(content[: len(content) // 2])
    (folder / "empty.dm4").write_bytes(b"")
    (folder / "text.dm4").write_text("channel,counts\n" * 100)
    (folder / "spectra.xyz").write_bytes(content)
    (folder / "folder.dm4").mkdir()
    (folder / "two\nlines.dm4").write_text("no recording")
    write_dm(folder / "image.dm4", counts=counts, energy_unit="nm")
    write_dm(folder / "one.dm4", counts=counts[:1])
    write_dm(folder / "no dwell.dm4", counts=counts, dwell_s=None)
    counts[7, 99] = np.nan
    write_dm(folder / "nan.dm4", counts=counts)
    np.save(folder / "objects.npy", np.array([Touch(folder / "pwned")], dtype=object), allow_pickle=True)

    write_model(folder / "good.onnx")
    good = (folder / "good.onnx").read_bytes()
    for name, bad in (("cut.onnx", good[:-5000]), ("text.onnx", b"no model\n" * 99)):
        (folder / name).write_bytes(bad)
        (folder / f"{name}.sha256").write_text(hashlib.sha256(bad).hexdigest())
    write_model(folder / "unpinned.onnx", pin=False)
    write_model(folder / "tampered.onnx", factor=2.0)
    (folder / "tampered.onnx.sha256").write_text(hashlib.sha256(good).hexdigest())
    write_model(folder / "no metadata.onnx", properties={})
    write_model(folder / "other graph.onnx", channels=100)
    elsewhere = EnergyAxis(offset_eV=1200.0, dispersion_eV=0.1, size=1900)
    write_model(folder / "elsewhere.onnx", meta=metadata(elsewhere, alignment_range_eV=(1210.0, 1240.0)))

    (folder / "not toml.toml").write_text("[serve\n")
    (folder / "unknown key.toml").write_text('[serve]\npublisher = "tcp://127.0.0.1:1"\n')
    (folder / "unknown table.toml").write_text("[server]\n")
    (folder / "wrong type.toml").write_text("[serve]\nspectra = 17812\n")
    (folder / "far.toml").write_text(f'[serve]\nsnapshot = "{FAR}"\n')
    (folder / "sim nan.toml").write_text("[sim]\nspeed = nan\n")
    return folder


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """An endpoint on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


REPLAY = ("sim", "replay")
GOOD_MODEL = ("--model", "{folder}/good.onnx")
SIM = ("sim", "run")

# What is typed, the exit code, and what its one line must say.
TABLE: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    # recordings
    "missing": ((*REPLAY, "{folder}/nothing.dm4"), 3, ("nothing.dm4", "does not exist")),
    "cut short": ((*REPLAY, "{folder}/cut.dm4"), 3, ("cut.dm4", "cut short", "bytes")),
    "empty": ((*REPLAY, "{folder}/empty.dm4"), 3, ("empty.dm4", "0 bytes")),
    "text": ((*REPLAY, "{folder}/text.dm4"), 3, ("text.dm4", "can't be read as DigitalMicrograph")),
    "unknown extension": ((*REPLAY, "{folder}/spectra.xyz"), 3, ("spectra.xyz", ".xyz", "dm4", "hspy")),
    "a folder": ((*REPLAY, "{folder}/folder.dm4"), 3, ("folder.dm4", "folder")),
    "not EELS": ((*REPLAY, "{folder}/image.dm4"), 3, ("image.dm4", "no signal with an energy axis in eV")),
    "not a number": ((*REPLAY, "{folder}/nan.dm4"), 3, ("nan.dm4", "1 values", "frame 7", "must be finite")),
    "no dwell": ((*REPLAY, "{folder}/no dwell.dm4"), 2, ("no dwell.dm4", "--dwell")),
    "two lines": ((*REPLAY, "{folder}/two\nlines.dm4"), 3, ("two lines.dm4",)),
    "pickled objects": ((*REPLAY, "{folder}/objects.npy"), 3, ("objects.npy",)),
    "one frame": (("demo", *GOOD_MODEL, "--recording", "{folder}/one.dm4"), 3, ("one.dm4", "1 spectrum", "needs 8")),
    # models
    "no model": (("serve", "--model", "{folder}/nothing.onnx"), 3, ("nothing.onnx", "No such file", "name of a model file")),
    "cut model": (("serve", "--model", "{folder}/cut.onnx"), 3, ("cut.onnx", "not an ONNX model")),
    "text for a model": (("serve", "--model", "{folder}/text.onnx"), 3, ("text.onnx", "not an ONNX model")),
    "unpinned model": (("serve", "--model", "{folder}/unpinned.onnx"), 3, ("unpinned.onnx", "--sha256 {good}")),
    "tampered model": (("serve", "--model", "{folder}/tampered.onnx"), 3, ("tampered.onnx", "{good:.12}", "pinned")),
    "another hash": (("serve", *GOOD_MODEL, "--sha256", "0" * 64), 3, ("good.onnx", "{good:.12}", "000000000000")),
    "no metadata": (("serve", "--model", "{folder}/no metadata.onnx"), 3, ("no metadata.onnx", "eelstm train")),
    "other graph": (("serve", "--model", "{folder}/other graph.onnx"), 3, ("other graph.onnx", "100", "1900")),
    "other axis": (
        ("demo", "--model", "{folder}/elsewhere.onnx", "--recording", "{folder}/good.dm4"),
        3,
        ("good.dm4", "424.0 to 628.7 eV", "1200.0 to 1389.9 eV"),
    ),
    # ports
    "serve: port taken": (("serve", *GOOD_MODEL, "--publish", "{taken}"), 1, ("{taken}", "taken")),
    "sim: port taken": ((*SIM, "--frames", "1", "--publish", "{taken}", "--snapshot", ANY_PORT), 1, ("{taken}",)),
    "sim: other port taken": ((*SIM, "--frames", "1", "--publish", ANY_PORT, "--snapshot", "{taken}"), 1, ("{taken}",)),
    "serve: a file": (("serve", *GOOD_MODEL, "--publish", "ipc://{folder}/good.dm4"), 2, ("good.dm4", "a file")),
    # addresses
    "serve publishes": (("serve", "--publish", "tcp://0.0.0.0:17812"), 2, ("publish", "'tcp://0.0.0.0:17812'", "CURVE")),
    "serve's spectra": (("serve", "--spectra", FAR), 2, ("spectra", FAR, "not a loopback address")),
    "serve's snapshot": (("serve", "--snapshot", "tcp://[::]:1"), 2, ("snapshot", "'tcp://[::]:1'")),
    "sim publishes": ((*SIM, "--publish", "tcp://*:17810"), 2, ("publish", "'tcp://*:17810'")),
    "sim answers": ((*SIM, "--snapshot", "tcp://example.org:1"), 2, ("snapshot", "'tcp://example.org:1'")),
    "replay publishes": ((*REPLAY, "{folder}/good.dm4", "--publish", FAR), 2, ("publish", FAR)),
    "replay answers": ((*REPLAY, "{folder}/good.dm4", "--snapshot", "udp://127.0.0.1:1"), 2, ("'udp://127.0.0.1:1'",)),
    "listen connects": (("listen", "--connect", FAR), 2, ("connect", FAR, "SSH")),
    "connect to anywhere": (("listen", "--connect", "tcp://127.0.0.1:*"), 2, ("'tcp://127.0.0.1:*'",)),
    # options
    "unknown command": (("predict",), 2, ("'predict'",)),
    "unknown option of serve": (("serve", "--port", "17812"), 2, ("--port",)),
    "nothing to replay": (REPLAY, 2, ("file",)),
    "unknown kind": (("listen", "gossip"), 2, ("'gossip'", "forecast, summary")),
    "speed 0": ((*SIM, "--speed", "0"), 2, ("speed", "'0'")),
    "speed -1": ((*SIM, "--speed", "-1"), 2, ("speed", "'-1'")),
    "speed nan": ((*SIM, "--speed", "nan"), 2, ("speed", "'nan'")),
    "speed abc": ((*REPLAY, "{folder}/good.dm4", "--speed", "abc"), 2, ("speed", "'abc'")),
    "demo speed abc": (("demo", *GOOD_MODEL, "--speed", "abc", "--json"), 2, ("speed", "'abc'")),
    "demo of no time": (("demo", "--seconds", "0"), 2, ("--seconds",)),
    "demo of nan": (("demo", *GOOD_MODEL, "--seconds", "nan"), 2, ("--seconds",)),
    "dwell of nan": ((*REPLAY, "{folder}/good.dm4", "--dwell", "nan"), 2, ("--dwell is nan s",)),
    "an instrument's name": ((*SIM, "--instrument", "My Scope"), 2, ("instrument", "'My Scope'")),
    "a hash that is none": (("serve", "--sha256", "abc"), 2, ("sha256", "'abc'")),
    "a picture of no kind": (("demo", "--figure", "{folder}/a.exe"), 2, ("a.exe", ".png")),
    # configuration
    "no TOML file": (("serve", "--config", "{folder}/nothing.toml"), 2, ("nothing.toml", "No such file")),
    "not TOML": (("serve", "--config", "{folder}/not toml.toml"), 2, ("not toml.toml", "line 1")),
    "unknown key": (("serve", "--config", "{folder}/unknown key.toml"), 2, ("publisher", "known are instrument")),
    "unknown table": (("serve", "--config", "{folder}/unknown table.toml"), 2, ("'server'", "serve, sim")),
    "wrong type": (("serve", "--config", "{folder}/wrong type.toml"), 2, ("spectra", "string", "'17812'")),
    "far in TOML": (("serve", "--config", "{folder}/far.toml"), 2, ("snapshot", FAR)),
    "nan in TOML": ((*SIM, "--config", "{folder}/sim nan.toml"), 2, ("speed", "'nan'")),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(folder: Path, taken: str) -> dict[str, Finished]:
    """Every command line of the table, run."""

    lines = {}
    for name, (typed, code, _) in TABLE.items():
        lines[name] = [argument.format(folder=folder, taken=taken) for argument in typed]
        if code != 1 and typed[0] in ("serve", "sim") and len(typed) > 2 and "--publish" not in typed:
            lines[name] += ["--publish", taken]
    return run_all(lines)


@pytest.mark.parametrize("name", TABLE)
def test_it_says_what_it_found_in_one_line_and_starts_nothing(
    outcomes: dict[str, Finished], folder: Path, taken: str, name: str
) -> None:
    _, code, said = TABLE[name]
    good = hashlib.sha256((folder / ("unpinned.onnx" if "unpinned" in name else "good.onnx")).read_bytes()).hexdigest()
    done = outcomes[name]
    assert done.out == ""
    [line] = done.err.splitlines()
    assert line.startswith("eelstm: ")
    for part in said:
        assert part.format(folder=folder, taken=taken, good=good) in line
    assert "mistake of the program" not in line
    assert (done.code, done.left_behind) == (code, [])


def test_nothing_was_unpickled_and_no_file_touched(outcomes: dict[str, Finished], folder: Path) -> None:
    assert len(outcomes) == len(TABLE)
    assert not (folder / "pwned").exists()
    assert (folder / "good.dm4").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EELSTM_SERVE_PUBLISH", FAR, ("publish", FAR)),
        ("EELSTM_SERVE_PUBLISHER", "x", ("EELSTM_SERVE_PUBLISHER", "known are")),
    ],
)
def test_the_environment_is_held_to_the_same_rules(variable: str, value: str, said: tuple[str, ...]) -> None:
    done = run("serve", **{variable: value})
    [line] = done.err.splitlines()
    for part in said:
        assert part in line
    assert (done.code, done.out) == (2, "")


def test_a_socket_file_that_is_in_use_is_not_taken_from_its_owner(folder: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(tmp_path / "owned"))
        owner.listen()
        done = run("serve", "--model", folder / "good.onnx", "--publish", f"ipc://{tmp_path}/owned")
        [line] = done.err.splitlines()
        assert (done.code, done.out) == (1, "")
        assert "taken" in line
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "owned"))  # it is still its owner's


def test_a_port_that_a_forecaster_holds_is_not_taken_from_it(folder: Path) -> None:
    with Served(folder / "good.onnx") as served:
        done = run("serve", "--model", folder / "good.onnx", "--publish", served.endpoint)
        [line] = done.err.splitlines()
        assert (done.code, done.out) == (1, "")
        assert served.endpoint in line
        assert served.ears.status(lambda _: True).state == "waiting"


@pytest.mark.parametrize("arguments", [(), ("sim",)])
def test_a_program_without_arguments_shows_its_help(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Usage: eelstm" in done.out + done.err
    assert "eelstm: " not in done.err


@pytest.mark.parametrize(
    "endpoint",
    [
        *("tcp://127.0.0.1:17810", "tcp://127.8.9.10:1", "tcp://[::1]:65535", "ipc:///run/eelstm/spectra"),
        *("tcp://127.0.0.1:*", "ipc://@abstract"),
    ],
)
def test_what_stays_on_this_machine_is_an_endpoint(endpoint: str) -> None:
    assert local_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        *("tcp://128.0.0.1:1", "tcp://10.0.0.1:1", "tcp://0.0.0.0:*", "tcp://*:1", "tcp://[::]:1", "tcp://[::2]:1"),
        *("tcp://eth0:1", "tcp://localhost.example.org:1", "tcp://127.0.0.1.example.org:1", "tcp://2130706433:1"),
        *("tcp://0x7f000001:1", "tcp://127.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536"),
        *("tcp://127.0.0.1:1;tcp://10.0.0.1:1", "tcp://127.0.0.1:1\n", " tcp://127.0.0.1:1", "tcp://127.0.0.1:1/x"),
        *(
            "tcp://10.0.0.1:1;127.0.0.1:1",
            "tcp://:1",
            "",
            "ipc://",
            "inproc://x",
            "pgm://127.0.0.1:1",
            "ws://127.0.0.1:1",
        ),
        *("TCP://127.0.0.1:1", "tcp://127.0.0.1:١", "tcp://[::ffff:10.0.0.1]:1", "ipc://" + "x" * 108),
    ],
)
def test_what_may_leave_this_machine_or_is_none_is_no_endpoint(endpoint: str) -> None:
    for check in (local_endpoint, peer_endpoint):
        with pytest.raises(ValueError, match=r"endpoint|loopback|port|longer"):
            check(endpoint)


# What is loaded

HEAVY = {"tensorflow", "keras", "hyperspy", "exspy", "rsciio", "onnxruntime", "numpy", "zmq", "scipy", "matplotlib"}


def imported_by(*arguments: str | Path) -> set[str]:
    """The top-level packages that a command line imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command(*arguments)[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=marked_environment("imports"),
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments", [("--help",), ("serve", "--help"), ("demo", "--help"), ("sim", "replay", "--help")]
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported_by(*arguments) & HEAVY == set()


def test_a_forecaster_loads_what_it_serves_with_and_no_more(folder: Path, taken: str) -> None:
    imported = imported_by("serve", "--model", folder / "good.onnx", "--publish", taken)
    assert imported & HEAVY == {"numpy", "zmq", "onnxruntime"}


def test_where_its_output_cannot_be_written_it_says_so_and_ends(folder: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        serve = ("serve", "--json", "--model", folder / "good.onnx", "--publish", ANY_PORT)
        with running(*serve, stdout=full) as (forecaster, _):
            _, err = forecaster.communicate(timeout=WITHIN_S)
    assert (forecaster.returncode, err) == (1, "eelstm: [Errno 28] No space left on device\n")
