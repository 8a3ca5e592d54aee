"""JSON Schemas of every message, generated from the classes: `python -m eelstm_stream.wire.schemas FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from eelstm_stream.wire.messages import (
    MESSAGES,
    Acknowledgement,
    Command,
    OperatorCommand,
    OperatorReply,
    SnapshotReply,
    SnapshotRequest,
)


def schema_files() -> dict[str, str]:
    """File name to content, one for each message, e.g. `eelstm.spectrum.1.json`."""
    files = {}
    models: tuple[type[BaseModel], ...] = (
        *MESSAGES, SnapshotRequest, SnapshotReply, Command, Acknowledgement, OperatorCommand, OperatorReply,
    )  # fmt: skip
    for model in models:
        name = model.model_fields["schema_"].default
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": name}
        schema |= model.model_json_schema(by_alias=True)
        # It has a default for those who make messages; on the wire it is always there, and the codec insists on it.
        schema["required"] = ["schema", *schema.get("required", [])]
        files[f"{name.replace('/', '.')}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return files


def main(folder: Path) -> None:
    """Write the schemas into a folder and remove those of messages that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    files = schema_files()
    for stale in set(folder.glob("*.json")) - {folder / name for name in files}:
        stale.unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
