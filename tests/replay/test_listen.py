"""`eelstm listen`: what is on the wire, in lines for programs or live for people."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from eelstm_stream.io.children import Child
from eelstm_stream.wire.messages import MESSAGES, Message
from tests.model_files import write_model
from tests.programs import ANY_PORT, NOWHERE, WITHIN_S, Finished, on_terminal, run, run_all, running

BY_SCHEMA: dict[str, type[Message]] = {message.SCHEMA: message for message in MESSAGES}
WAIT = ("--timeout", str(WITHIN_S))


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the spectra and the forecasts of a pipeline are, that runs and runs."""
    model = write_model(tmp_path_factory.mktemp("model") / "mean.onnx")
    source = ("sim", "run", "--frames", "20", "--loop", "--speed", "20", "--wait-readers", "1")
    with Child(*source, "--publish", ANY_PORT, "--snapshot", ANY_PORT) as simulator:
        places = simulator.wait_until_ready()
        serve = ("serve", "--model", str(model), "--publish", ANY_PORT)
        with Child(*serve, "--spectra", places["publish"], "--snapshot", places["snapshot"]) as forecaster:
            yield {"spectra": places["publish"], "forecasts": forecaster.wait_until_ready()["publish"]}


KINDS = {
    "session": ("spectra", {"eelstm.session_start/1", "eelstm.session_end/1"}),
    "spectrum": ("spectra", {"eelstm.spectrum/1"}),
    "forecast": ("forecasts", {"eelstm.forecast/1"}),
    "summary": ("forecasts", {"eelstm.summary/1"}),
    "status": ("forecasts", {"eelstm.status/1"}),
}


@pytest.fixture(scope="module")
def heard(at: dict[str, str]) -> dict[str, Finished]:
    """What was heard of each kind, and in other ways."""
    lines: dict[str, tuple[str, ...]] = {
        kind: ("listen", kind, "--json", "--connect", at[where], "--count", "3", *WAIT)
        for kind, (where, _) in KINDS.items()
    }
    lines["in lines"] = ("listen", "summary", "--connect", at["forecasts"], "--count", "2", *WAIT)
    lines["no kind"] = ("listen", "--json", "--connect", at["forecasts"], "--count", "40", *WAIT)
    lines["nothing there"] = ("listen", "--connect", NOWHERE, "--timeout", "0.1")
    lines["too few"] = ("listen", "decision", "--connect", at["forecasts"], "--count", "1", "--timeout", "0.1")
    another = ("--instrument", "micro")
    lines["another instrument"] = ("listen", "forecast", *another, "--connect", at["forecasts"], "--timeout", "0.5")
    return run_all(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_each_line_of_json_is_the_header_of_a_message_of_that_kind(
    heard: dict[str, Finished], at: dict[str, str], kind: str
) -> None:
    where, schemas = KINDS[kind]
    assert heard[kind].code == 0
    assert heard[kind].err == f"eelstm listen: {kind} of microscope on {at[where]}\n"
    lines = heard[kind].out.splitlines()
    found = [json.loads(line)["schema"] for line in lines]
    assert len(found) == 3
    assert set(found) <= schemas
    for line, schema in zip(lines, found, strict=True):
        BY_SCHEMA[schema].model_validate_json(line)


def test_without_json_each_line_begins_with_the_topic(heard: dict[str, Finished]) -> None:
    assert heard["in lines"].code == 0
    for line in heard["in lines"].out.splitlines():
        assert line.startswith('microscope.summary {"schema":"eelstm.summary/1"')


def test_with_no_kind_named_it_tells_forecasts_and_statuses(heard: dict[str, Finished]) -> None:
    found = {json.loads(line)["schema"] for line in heard["no kind"].out.splitlines()}
    assert found == {"eelstm.forecast/1", "eelstm.status/1"}


def test_in_a_terminal_it_shows_the_view(at: dict[str, str]) -> None:
    code, screen = on_terminal("listen", "--connect", at["forecasts"], "--count", "60", *WAIT)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert code == 0
    for shown in (
        "phase",
        "RMSE",
        "skill",
        "persistence",
        "SIMULATED",
        "mean-of-window",
        "latency p50, p99",
        "forecasts",
    ):
        assert shown in screen


def test_where_nothing_comes_it_ends_with_1_and_says_so(heard: dict[str, Finished]) -> None:
    done = heard["nothing there"]
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == "eelstm listen: nothing came for 0.1 s; 0 messages in all"


def test_where_fewer_come_than_were_wanted_it_ends_with_1(heard: dict[str, Finished]) -> None:
    assert (heard["too few"].code, heard["too few"].out) == (1, "")


def test_another_instruments_messages_are_not_heard(heard: dict[str, Finished]) -> None:
    assert (heard["another instrument"].code, heard["another instrument"].out) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_exits_with_0(at: dict[str, str], number: signal.Signals) -> None:
    with running("listen", "spectrum", "--json", "--connect", at["spectra"]) as (listener, _):
        assert listener.stdout is not None
        assert listener.stdout.readline()
        listener.send_signal(number)
        _, err = listener.communicate(timeout=WITHIN_S)
        assert listener.returncode == 0
        assert len(err.splitlines()) == 1


def test_a_reader_that_closes_the_pipe_ends_it_without_a_traceback(at: dict[str, str]) -> None:
    read, write = os.pipe()
    with running("listen", "spectrum", "--json", "--connect", at["spectra"], stdout=write) as (listener, _):
        os.close(write)
        with os.fdopen(read) as pipe:
            assert pipe.readline()
        assert listener.wait(WITHIN_S) == 0
        assert listener.stderr is not None
        assert len(listener.stderr.read().splitlines()) == 1


def test_it_listens_where_a_toml_file_says(at: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "eelstm.toml").write_text(f'[listen]\nkind = "summary"\nconnect = "{at["forecasts"]}"\ncount = 1\n')
    done = run("listen", "--config", tmp_path / "eelstm.toml", *WAIT)
    assert (done.code, done.out.count("\n")) == (0, 1)


def test_flags_stand_above_the_environment_and_that_above_the_file(at: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "eelstm.toml").write_text(f'[listen]\nkind = "session"\ncount = 100\nconnect = "{NOWHERE}"\n')
    arguments = ("listen", "--config", tmp_path / "eelstm.toml", "--count", "2", "--json", *WAIT)
    done = run(*arguments, EELSTM_LISTEN_KIND="status", EELSTM_LISTEN_COUNT="50", EELSTM_LISTEN_CONNECT=at["forecasts"])
    assert [json.loads(line)["schema"] for line in done.out.splitlines()] == ["eelstm.status/1"] * 2
