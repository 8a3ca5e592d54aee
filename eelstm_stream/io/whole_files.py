"""Files that take their names once they are whole and on the disk: a kill leaves the file from before, or none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from eelstm_stream.errors import EelstmError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, over what is there. Raises EelstmError where the disk refuses."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes do
        unfinished.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
