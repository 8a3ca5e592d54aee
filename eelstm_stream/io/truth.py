"""What only a simulation can know of a session: how far its specimen was changed in truth, and how much dose it would have borne.

It stands in the file that `eelstm sim run --truth` writes, beside the frames, under a metadata node of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io._reading import read_signals

NODE = "eelstm_truth"


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Of one session's specimen, when the session ended."""

    phase: float  # transformed fraction in the end, after the last frame and whatever was cut off behind it
    dose_pC: (
        float  # all that the specimen received; a frame that was in progress when the session was stopped isn't in it
    )
    phases: NDArray[np.float64]  # (point,), rising; none where the phase doesn't follow from the dose alone
    at_dose_pC: NDArray[np.float64]  # (point,), the dose that takes this specimen to each of them

    def dose_at(self, phase: float) -> float | None:
        """Dose that takes this specimen to a phase, pC; None where that depends on how it is given, or where it isn't known."""
        if not len(self.phases) or not self.phases[0] <= phase <= self.phases[-1]:
            return None
        return float(np.interp(phase, self.phases, self.at_dose_pC))

    def as_node(self) -> dict[str, Any]:
        """For the metadata of a signal, under NODE."""
        node: dict[str, Any] = {"phase": self.phase, "dose_pC": self.dose_pC}
        if len(self.phases):
            node |= {"phases": self.phases, "at_dose_pC": self.at_dose_pC}
        return node


def read_truth(path: Path) -> Truth:
    """The truth in a file of `eelstm sim run --truth`. Raises UnusableInputError where there is none."""
    _, signals = read_signals(path)
    node = next((s["metadata"][NODE] for s in signals if NODE in s.get("metadata", {})), None)
    if node is None:
        raise UnusableInputError(f"{path.name} holds no truth of a simulation: `eelstm sim run --truth` writes it.")
    none = np.empty(0)
    return Truth(
        float(node["phase"]),
        float(node["dose_pC"]),
        np.asarray(node.get("phases", none), dtype=np.float64),
        np.asarray(node.get("at_dose_pC", none), dtype=np.float64),
    )
