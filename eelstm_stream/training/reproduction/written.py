"""A summary on the disk: the page for people, the JSON for programs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from eelstm_stream.errors import UsageError
from eelstm_stream.io.whole_files import write_whole
from eelstm_stream.training.report.page import NEEDED
from eelstm_stream.training.reproduction.summary import Summary

PAGE, FIGURES = "reproduction.html", "reproduction.json"


def require_drawing() -> None:
    """Raises UsageError where a page can't be made, which is better said before hours of training."""
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"the page needs {package}: install eelstm-stream[io].")


def write_summary(summary: Summary, folder: Path) -> dict[str, Any]:
    """Write page and JSON, over those of before; returns the JSON object. Raises EelstmError where the disk refuses."""
    from eelstm_stream.training.reproduction.page import render  # noqa: PLC0415 - draws with matplotlib

    page = folder / PAGE
    # The spectra of Figure 4 are drawn on the page; in the JSON they would be most of it.
    figures = summary.model_dump(mode="json", exclude={"shown"}) | {"page": str(page)}
    write_whole(page, render(summary).encode())
    write_whole(folder / FIGURES, json.dumps(figures, indent=1, allow_nan=False).encode() + b"\n")
    return figures
