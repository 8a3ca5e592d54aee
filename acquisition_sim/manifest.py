"""What a folder of simulated runs holds, and how each run was made: `manifest.json`.

It is there once the data set is whole, and not before. Until then `manifest.unfinished.jsonl` has a line for each run that is
done, so that a recording that was killed can be gone on with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from eelstm_stream.errors import EelstmError, UnusableInputError

MANIFEST = "manifest.json"
UNFINISHED = "manifest.unfinished.jsonl"


class ProgrammeStep(BaseModel, frozen=True):
    """What holds from one frame on, until the next step."""

    from_frame: int
    dwell_s: float
    beam_current_pA: float


class RunEntry(BaseModel, frozen=True):
    """One run."""

    file: str = Field(description="its name in this folder")
    seed: int = Field(description="of all that is random in it")
    frames: int
    final_phase: float = Field(description="true phase of its last frame")
    sha256: str = Field(description="of the file")
    content_sha256: str = Field(description="of counts, energy axis, dwells and currents; models name their runs by it")
    made_from: str = Field(
        description="SHA-256 of preset, programme, frames and versions: all that it follows from but the seed"
    )
    programme: tuple[ProgrammeStep, ...] = Field(description="its dwells and currents")
    drawn: dict[str, float | tuple[float | None, ...] | None] = Field(
        description="what held in it of all that can vary; null stands for never"
    )


class Manifest(BaseModel, frozen=True):
    """A data set. All its runs come from one preset."""

    manifest: Literal[1] = Field(1, description="version of this format")
    preset: str = Field(description="name of the preset")
    programme: Literal["constant", "varied"] = Field(description="of the dose")
    versions: dict[str, str] = Field(description="of what the bytes follow from, beside the preset")
    preset_parameters: dict[str, Any] = Field(
        description="the preset as it was, with the limits of its variation; null stands for never"
    )
    runs: tuple[RunEntry, ...]


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write it, a run a line; it appears under its name once it is whole. Raises EelstmError where the disk refuses."""
    head = json.dumps(manifest.model_dump(mode="json", exclude={"runs"}), indent=1).removesuffix("\n}")
    runs = ",\n".join(f"  {run.model_dump_json()}" for run in manifest.runs)
    path = folder / MANIFEST
    _write_whole(path, f'{head},\n "runs": [\n{runs}\n ]\n}}\n')
    return path


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none. Raises UnusableInputError where it can't be made out."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableInputError(f"{path} can't be read: {error.strerror}.") from None
    except ValidationError:
        raise UnusableInputError(
            f"{path} is no manifest of a data set: move it away, or choose another folder."
        ) from None


class Unfinished:
    """The runs of a folder that are done, while others are not: a line each."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / UNFINISHED

    def read(self) -> list[RunEntry]:
        """The runs noted so far. What a kill left of a last line counts for nothing."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnusableInputError(f"{self.path} can't be read: {error.strerror}.") from None
        runs = []
        for line in lines:
            with suppress(ValidationError):
                runs.append(RunEntry.model_validate_json(line))
        return runs

    def begin(self, runs: Iterable[RunEntry]) -> None:
        """Note these runs, and no others."""
        _write_whole(self.path, "".join(f"{run.model_dump_json()}\n" for run in runs))

    def note(self, run: RunEntry) -> None:
        """Note one run more. Raises EelstmError where the disk refuses."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{run.model_dump_json()}\n")
        except OSError as error:
            raise EelstmError(f"{self.path} couldn't be written: {error.strerror or error}.") from None

    def end(self) -> None:
        """All is done: the manifest says it from now on."""
        self.path.unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from None
