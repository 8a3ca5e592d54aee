"""Settings come from file, environment and flags in rising order, and a wrong one is one sentence before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from acquisition_sim.simd import SimSettings
from eelstm_stream.daemon import ServeSettings
from eelstm_stream.errors import UsageError
from eelstm_stream.io.config import TABLES, load_settings
from eelstm_stream.listen import ListenSettings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith("EELSTM_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def toml(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "eelstm.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refusal(settings, config: Path | None = None, **flags: object) -> str:
    with pytest.raises(UsageError) as error:
        load_settings(settings, config, **flags)
    sentence = str(error.value)
    assert error.value.exit_code == 2
    assert "\n" not in sentence
    return sentence


def test_without_anything_the_defaults_hold():
    settings = load_settings(ServeSettings, None)
    assert settings.instrument == "microscope"
    assert (settings.spectra, settings.snapshot, settings.publish) == tuple(
        f"tcp://127.0.0.1:{port}" for port in (17810, 17811, 17812)
    )
    assert settings.model is None


def test_the_environment_overrides_the_file_and_a_flag_both(toml, monkeypatch):
    config = toml('[serve]\ninstrument = "of-file"\nmodel = "file.onnx"\npublish = "tcp://127.0.0.1:1"\n')
    monkeypatch.setenv("EELSTM_SERVE_MODEL", "environment.onnx")
    monkeypatch.setenv("EELSTM_SERVE_PUBLISH", "tcp://127.0.0.1:2")
    settings = load_settings(ServeSettings, config, publish="tcp://127.0.0.1:3", spectra=None)
    assert settings.instrument == "of-file"
    assert settings.model == "environment.onnx"
    assert settings.publish == "tcp://127.0.0.1:3"
    assert settings.spectra == "tcp://127.0.0.1:17810"  # a flag that was not given overrides nothing


def test_each_program_reads_its_own_table_and_its_own_variables(toml, monkeypatch):
    config = toml('[serve]\ninstrument = "s"\n[sim]\ninstrument = "i"\nspeed = 50\n[listen]\nkind = "status"\n')
    monkeypatch.setenv("EELSTM_SIM_WAIT_READERS", "3")
    assert load_settings(ServeSettings, config).instrument == "s"
    assert load_settings(ListenSettings, config).kind == "status"
    sim = load_settings(SimSettings, config)
    assert (sim.instrument, sim.speed, sim.wait_readers) == ("i", 50.0, 3)


def test_settings_of_one_call_are_not_left_over_for_the_next(toml):
    load_settings(ServeSettings, toml('[serve]\ninstrument = "s"\n'))
    assert load_settings(ServeSettings, None).instrument == "microscope"


def test_settings_do_not_change_afterwards():
    settings = load_settings(ServeSettings, None)
    with pytest.raises(ValidationError, match="frozen"):
        settings.instrument = "other"


@pytest.mark.parametrize("value", ["max", "2.5"])
def test_speed_is_a_number_or_max_wherever_it_comes_from(toml, monkeypatch, value):
    expected = None if value == "max" else 2.5
    assert load_settings(SimSettings, None, speed=value).speed == expected
    assert load_settings(SimSettings, toml(f'[sim]\nspeed = "{value}"\n')).speed == expected
    monkeypatch.setenv("EELSTM_SIM_SPEED", value)
    assert load_settings(SimSettings, None).speed == expected


# Unknown


def test_an_unknown_key_is_named_beside_the_known_ones(toml):
    sentence = refusal(ServeSettings, toml('[serve]\npublsh = "tcp://127.0.0.1:1"\n'))
    assert sentence.startswith("serve: publsh: ")
    assert "publish" in sentence.partition("known are")[2]


def test_an_unknown_table_is_named_beside_the_known_ones(toml):
    sentence = refusal(ServeSettings, toml('[server]\ninstrument = "s"\n'))
    assert "'server'" in sentence
    assert all(table in sentence for table in TABLES)


def test_a_key_outside_any_table_is_unknown(toml):
    assert "'instrument'" in refusal(ServeSettings, toml('instrument = "s"\n'))


@pytest.mark.parametrize("variable", ["EELSTM_SERVE_PUBLSH", "eelstm_serve_port"])
def test_an_unknown_variable_is_an_error_like_an_unknown_key(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    sentence = refusal(ServeSettings)
    assert variable in sentence
    assert "publish" in sentence.partition("known are")[2]
    load_settings(SimSettings, None)  # another program's variables are that program's


def test_variables_of_other_purposes_are_left_alone(monkeypatch):
    monkeypatch.setenv("EELSTM_REAL_DATA", "/somewhere")
    monkeypatch.setenv("PUBLISH", "nonsense")
    assert load_settings(ServeSettings, None).publish == "tcp://127.0.0.1:17812"


# Values


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0", "-1"])
@pytest.mark.parametrize("key", ["speed", "seconds"])
def test_what_must_be_a_positive_number_is_one(toml, monkeypatch, key, number):
    for sentence in (
        refusal(SimSettings, toml(f"[sim]\n{key} = {number}\n")),
        refusal(SimSettings, None, **{key: float(number)}),
        refusal(SimSettings, None, **{key: number}),
    ):
        assert sentence.startswith(f"sim: {key}")
    monkeypatch.setenv(f"EELSTM_SIM_{key.upper()}", number)
    assert refusal(SimSettings).startswith(f"sim: {key}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wait_readers", "-1"),
        ("wait_readers", "1.5"),
        ("wait_readers", '"many"'),
        ("spectra", "0"),
        ("spectra", "[1]"),
        ("speed", '"fast"'),
        ("instrument", '"STO"'),
        ("instrument", '"a.b"'),
        ("instrument", '""'),
        ("instrument", "7"),
        ("publish", "17810"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(toml, key, value):
    assert refusal(SimSettings, toml(f"[sim]\n{key} = {value}\n")).startswith(f"sim: {key}")


def test_a_hash_is_64_hexadecimal_digits():
    assert refusal(ServeSettings, None, sha256="abc").startswith("serve: sha256")
    assert load_settings(ServeSettings, None, sha256="a" * 64).sha256 == "a" * 64


def test_a_kind_is_one_that_there_is():
    assert "'telegram' is no kind of message; known are session, spectrum" in refusal(
        ListenSettings, None, kind="telegram"
    )


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:17810",
        "tcp://192.168.1.5:17810",
        "tcp://8.8.8.8:17810",
        "tcp://[::]:17810",
        "tcp://[2001:db8::1]:17810",
        "tcp://microscope.example.org:17810",
        "tcp://localhost.example.org:17810",
        "tcp://eth0:17810",
    ],
)
def test_an_address_beyond_this_machine_is_refused_with_what_to_do(endpoint):
    for key in ("spectra", "snapshot", "publish"):
        sentence = refusal(ServeSettings, None, **{key: endpoint})
        assert sentence.startswith(f"serve: {key}: '{endpoint}' is not a loopback address")
        assert "127.0.0.1" in sentence


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_is_one_that_there_is(port):
    assert "a port lies between 1 and 65535" in refusal(ServeSettings, None, publish=f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "17810",
        "127.0.0.1:17810",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:17810\n",
        "tcp://127.0.0.1:178100",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:-1",
        "tcp://:17810",
        "tcp://127.0.0.1;eth0:17810",
        "udp://127.0.0.1:17810",
        "inproc://spectra",
        "ipc://",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint):
    assert refusal(ServeSettings, None, publish=endpoint).startswith("serve: publish: ")


@pytest.mark.parametrize(
    ("endpoint", "meant"),
    [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://127.9.9.9:65535", "tcp://127.9.9.9:65535"),
        ("tcp://localhost:17810", "tcp://127.0.0.1:17810"),
        ("tcp://[::1]:17810", "tcp://[::1]:17810"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("ipc:///run/eelstm/spectra", "ipc:///run/eelstm/spectra"),
    ],
)
def test_an_address_on_this_machine_is_taken(endpoint, meant):
    assert load_settings(ServeSettings, None, publish=endpoint).publish == meant


# Files


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    assert refusal(ServeSettings, tmp_path / "none.toml").endswith(
        "none.toml can't be read: No such file or directory."
    )
    assert "can't be read: Is a directory" in refusal(ServeSettings, tmp_path)


@pytest.mark.parametrize(
    "content", ["[serve", "serve: {}", "[serve]\nmodel = x", b"\xff\xfe[\x00s\x00", "[serve]\n[serve]"]
)
def test_a_file_that_is_not_toml_is_said_to_be(toml, content):
    assert "is not TOML" in refusal(ServeSettings, toml(content))


def test_a_table_must_be_a_table(toml):
    assert "'serve' must be a table, as [serve]" in refusal(ServeSettings, toml("serve = 3\n"))
    assert "'serve' must be a table, as [serve]" in refusal(ServeSettings, toml("[[serve]]\n"))


def test_an_empty_file_sets_nothing(toml):
    assert load_settings(ServeSettings, toml("")).model_dump() == load_settings(ServeSettings, None).model_dump()
