"""The JSON Schemas in the docs are those of the code, and hold for what is on the wire."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from eelstm_stream.wire.schemas import main, schema_files
from tests.wire import goldens
from tests.wire.checking import validate_header

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
HEADERS = {name: goldens.header(name) for name in goldens.written_today()}


def test_the_documented_schemas_are_those_of_the_code():
    documented = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTED.glob("*.json")}
    assert documented == schema_files(), "messages have changed: run `make schemas` and commit what it writes"


@pytest.mark.parametrize(("name", "content"), schema_files().items())
def test_each_is_a_json_schema_that_describes_its_fields(name, content):
    schema = json.loads(content)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert name == f"{schema['$id'].replace('/', '.')}.json"
    assert schema["properties"]["schema"]["const"] == schema["$id"]
    assert "schema" in schema["required"]


@pytest.mark.parametrize("name", HEADERS)
def test_every_golden_header_keeps_to_its_schema(name):
    validate_header(HEADERS[name])


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lacks_something_does_not(name):
    header = json.loads(HEADERS[name])
    del header["schema"]
    schema = json.loads(schema_files()[f"{json.loads(HEADERS[name])['schema'].replace('/', '.')}.json"])
    assert not jsonschema.Draft202012Validator(schema).is_valid(header)


def test_writing_removes_what_is_no_message_any_more(tmp_path: Path):
    (tmp_path / "eelstm.telegram.1.json").write_text("{}")
    (tmp_path / "README.md").write_text("kept")
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*schema_files(), "README.md"}
