"""The model that comes with the package, and where it lies."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

# The packages are installed as files, never run from an archive: onnxruntime and sha256sum want a path as well.
SHIPPED_MODEL: Path = Path(str(files(__name__) / "srtio3-sim-0.4s.onnx"))
