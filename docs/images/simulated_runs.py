"""Draw twelve runs of `eelstm sim record`: how repeats of one simulated experiment differ.

    python docs/images/simulated_runs.py     the figure of docs/explanation/simulated-specimen.md

They are the runs that `eelstm sim record --runs 12 -o FOLDER` writes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from acquisition_sim.simulated_run import preset_for_runs, simulate_run
from eelstm_stream.core.energy_axis import energies_eV

RUNS, FRAMES = 12, 160


def main() -> None:
    preset = preset_for_runs()
    energies = energies_eV(preset.energy_axis)
    runs = [simulate_run(preset, FRAMES, seed) for seed in range(RUNS)]
    runs.sort(key=lambda run: run.final_phase)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (kinetics, whole), (titanium, oxygen) = figure.subplots(2, 2)
    for rank, run in enumerate(runs):
        recording, colour = run.recording, colormaps["viridis"](0.92 * rank / (RUNS - 1))
        dose_nC = np.cumsum(recording.dwell_s * recording.beam_current_pA) / 1e3
        kinetics.plot(dose_nC, recording.phase, color=colour, label=f"seed {recording.name.rsplit(' ', 1)[-1]}")
        for axes, low_eV, high_eV in ((whole, 424, 629), (titanium, 452, 474), (oxygen, 526, 556)):
            part = (energies >= low_eV) & (energies <= high_eV)
            axes.plot(energies[part], recording.clean_counts[-1][part], color=colour, linewidth=0.8)
            if axes is not whole:
                axes.plot(energies[part], recording.clean_counts[0][part], color=colour, linewidth=0.5, alpha=0.6)
    kinetics.set_title("phase against dose")
    kinetics.set_xlabel("dose, nC")
    kinetics.set_ylabel("phase")
    kinetics.legend(frameon=False, fontsize=8, ncols=2)
    whole.set_title("last frame, without noise")
    titanium.set_title("Ti L2,3: first frame (thin) and last")
    oxygen.set_title("O K: first frame (thin) and last")
    for axes in (whole, titanium, oxygen):
        axes.set_xlabel("energy loss, eV")
        axes.set_ylabel("counts")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=100)
    print(f"{path} drawn")


if __name__ == "__main__":
    main()
