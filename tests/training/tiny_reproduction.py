"""A reproduction small enough for a test: few channels, few units, few epochs. Run as a program, it is one that can be killed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from eelstm_stream.core.preprocessing import TableISettings
from eelstm_stream.io.recordings import save_recording
from eelstm_stream.training.recipe import RECIPES
from eelstm_stream.training.reproduction.run import Options, reproduce_paper
from eelstm_stream.training.reproduction.train_cell import TrainingSettings
from eelstm_stream.training.reproduction.written import write_summary
from eelstm_stream.wire.messages import EnergyAxis
from tests.simulated_runs import simulated

AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=500)
QUICK_pC = 2_500.0  # transformed within 60 frames
FRAMES = (52, 60, 60)


def tiny_settings(epochs: int = 2, **paper: object) -> TrainingSettings:
    """Everything but the sizes is the real thing."""
    small = replace(RECIPES["paper"], energy_axis=AXIS, layers=1, units=4, **paper)  # type: ignore[arg-type]
    corrected = replace(RECIPES["corrected"], energy_axis=AXIS, units=4)
    return TrainingSettings(
        epochs=epochs,
        recipes={"paper": small, "corrected": corrected},
        preprocessing=TableISettings(crop_eV=(435.0, 485.0)),
    )


def write_tiny_runs(folder: Path, seed: int = 0) -> Path:
    """Three runs, on grains of their own."""
    folder.mkdir(parents=True)
    for number, frames in enumerate(FRAMES):
        run = simulated(frames, 10 * seed + number, critical_dose_pC=QUICK_pC)
        save_recording(run, folder / f"run-{number}.hspy")
    return folder


if __name__ == "__main__":
    folder, output = map(Path, sys.argv[1:3])
    write_summary(reproduce_paper(Options(folder, output, seeds=1, workers=1), tiny_settings()), output)
