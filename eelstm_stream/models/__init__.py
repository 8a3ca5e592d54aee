"""The models that come with the package, and where they lie."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

# The packages are installed as files, never run from an archive: onnxruntime and sha256sum want a path as well.
SHIPPED_MODEL: Path = Path(str(files(__name__) / "srtio3-sim-0.4s.onnx"))
# The paper's network, trained on the same runs: to compare with, and what benchmarks load, since it costs 100 times as much.
PAPER_MODEL: Path = Path(str(files(__name__) / "srtio3-sim-0.4s-paper.onnx"))
