"""Draw the simulated specimen, and compare it with the real files where they are at hand.

    python docs/images/simulated_specimen.py                      the figure of docs/explanation/simulated-specimen.md
    python docs/images/simulated_specimen.py --compare FILE.png   real beside simulated; keep FILE.png out of the project

Both print the tables of that page. Real files are looked for in ../shared/data or where EELSTM_REAL_DATA says.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from acquisition_sim import specimen
from acquisition_sim.detector import Detector
from acquisition_sim.microscope import Microscope
from acquisition_sim.presets import load_preset
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.io.recordings import load_recording

Array = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
REAL_DATA = Path(os.environ.get("EELSTM_REAL_DATA") or HERE.parents[2] / "shared" / "data")
PRISTINE_FILE = "STO_pristine_pyTEMlib.dm3"
LINE_SCAN_FILE = "linescan_100x2048_high-loss.dm3"

# Where the real spectrum's axis is pinned: usual energies of the first peaks of Ti L3 and of O K in SrTiO3. Published axes differ
# among each other by some tenths of an eV.
TI_ANCHOR_eV = 457.8
O_ANCHOR_eV = 531.0
TI_ANCHOR_IN_FILE_eV = 454.0  # roughly: where to look
O_ANCHOR_IN_FILE_eV = 524.7

TI_LINES_eV = {"Ti L3 t2g": 457.8, "Ti L3 eg": 460.1, "Ti L2 t2g": 463.1, "Ti L2 eg": 465.5}
O_LINES_eV = {"O K, first peak": 531.0, "O K, Sr 4d": 537.1, "O K, Ti 4sp": 543.6}
BELOW_TI_eV = (430.0, 452.0)  # where the background is fitted
BELOW_O_eV = (
    512.0,
    528.0,
)  # close to the edge: the file's camera was not gain-normalised, and its background undulates
NOISE_WINDOWS_eV = ((400.0, 500.0), (600.0, 700.0), (740.0, 900.0))  # without edges in the line scan
LAGS = (1, 2, 3)


# Measures: the same functions for real and simulated spectra


def feature_eV(energies: Array, counts: Array, near_eV: float, smoothed_eV: float = 0.5) -> float:
    """Where a line stands, peak or shoulder: the strongest downward curvature within 1.2 eV, smoothed by a Gaussian."""
    channel_eV = energies[1] - energies[0]
    reach = int(np.ceil(5 * smoothed_eV / channel_eV))
    u = np.arange(-reach, reach + 1) * channel_eV / smoothed_eV
    curvature = np.convolve(counts, (1 - u**2) * np.exp(-(u**2) / 2), mode="same")  # minus the second derivative
    near = np.flatnonzero(np.abs(energies - near_eV) <= 1.2)
    top = near[np.argmax(curvature[near])]
    left, middle, right = curvature[top - 1 : top + 2]
    return float(energies[top] + channel_eV * (left - right) / (2 * (left - 2 * middle + right)))


def above_power_law(energies: Array, counts: Array, low_eV: float, high_eV: float) -> Array:
    """Counts above the power law fitted between two energies (Egerton, 4.4.1)."""
    window = (energies >= low_eV) & (energies <= high_eV)
    slope, level = np.polyfit(np.log(energies[window]), np.log(counts[window]), 1)
    return np.asarray(counts - np.exp(level) * energies**slope)


def height(energies: Array, signal: Array, at_eV: float, half_width_eV: float = 0.4) -> float:
    """Mean signal about an energy."""
    return float(signal[np.abs(energies - at_eV) <= half_width_eV].mean())


@dataclass(frozen=True)
class Pristine:
    """What is compared of a spectrum of pristine SrTiO3."""

    positions_eV: dict[str, float]
    ratios: dict[str, float]
    onset_eV: float  # of O K: half of its first rise


def pristine_measures(energies: Array, counts: Array) -> Pristine:
    """energies: `(channel,)`, calibrated."""
    positions = {name: feature_eV(energies, counts, at) for name, at in TI_LINES_eV.items()}
    positions |= {name: feature_eV(energies, counts, at, smoothed_eV=1.0) for name, at in O_LINES_eV.items()}
    titanium = above_power_law(energies, counts, *BELOW_TI_eV)
    oxygen = above_power_law(energies, counts, *BELOW_O_eV)
    lines = {name: height(energies, titanium, positions[name]) for name in TI_LINES_eV}
    first_peak = height(energies, oxygen, positions["O K, first peak"])
    rising = (energies > 527) & (energies < positions["O K, first peak"])
    smooth = np.convolve(oxygen, np.ones(3) / 3, mode="same")[rising]
    above = int(np.flatnonzero(smooth < first_peak / 2)[-1])
    onset_eV = np.interp(first_peak / 2, smooth[above : above + 2], energies[rising][above : above + 2])
    ratios = {
        "Ti L3, t2g : eg": lines["Ti L3 t2g"] / lines["Ti L3 eg"],
        "Ti L2, t2g : eg": lines["Ti L2 t2g"] / lines["Ti L2 eg"],
        "Ti eg, L3 : L2": lines["Ti L3 eg"] / lines["Ti L2 eg"],
        "Ti L3 valley : eg": height(energies, titanium, 461.6) / lines["Ti L3 eg"],
        "O K first peak : Ti L3 eg": first_peak / lines["Ti L3 eg"],
        "O K Sr 4d : first peak": height(energies, oxygen, positions["O K, Sr 4d"]) / first_peak,
        "O K, 530 to 560 eV : Ti L3 eg": height(energies, oxygen, 545, 15) / lines["Ti L3 eg"],
    }
    return Pristine(positions, ratios, float(onset_eV))


@dataclass(frozen=True)
class Noise:
    """What is compared of a series' noise in a window of energies."""

    variance_over_mean: float
    correlation: tuple[float, ...]  # of channels 1, 2 and 3 apart


def noise_measures(counts: Array) -> Noise:
    """counts: `(frame, channel)`, without edges.

    From second differences of three consecutive frames, from which a cubic over the channels is taken out, since intensity
    changes there too; the median over frames keeps jumps out.
    """
    differences = (counts[:-2] - 2 * counts[1:-1] + counts[2:]) / np.sqrt(6)
    channels = counts.shape[1]
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, channels), 3))
    differences = differences - (differences @ basis) @ basis.T
    squares = (differences**2).sum(axis=1)
    means = (counts[:-2] + 4 * counts[1:-1] + counts[2:]).mean(axis=1) / 6
    correlation = [np.median((differences[:, lag:] * differences[:, :-lag]).sum(axis=1) / squares) for lag in LAGS]
    return Noise(float(np.median(squares / (channels - 4) / means)), tuple(map(float, correlation)))


# What is compared


def simulated_pristine() -> tuple[Array, Array]:
    """Energies and noise-free counts of the preset srtio3-300kV before any dose."""
    preset = load_preset("srtio3-300kV")
    shape = preset.specimen.spectrum
    return energies_eV(preset.energy_axis), specimen.clean_counts(
        preset.energy_axis, shape, shape.reference_dose_pC, 0.0
    )


def real_pristine(folder: Path) -> tuple[Array, Array]:
    """Energies and counts of the real spectrum, its axis stretched and shifted so that the two anchors are where they belong."""
    recording = load_recording(folder / PRISTINE_FILE, dwell_s=20.0)
    raw = energies_eV(recording.energy_axis)
    counts = recording.counts[0].astype(np.float64)
    titanium_eV = feature_eV(raw, counts, TI_ANCHOR_IN_FILE_eV)
    oxygen_eV = feature_eV(raw, counts, O_ANCHOR_IN_FILE_eV, smoothed_eV=1.0)
    stretch = (O_ANCHOR_eV - TI_ANCHOR_eV) / (oxygen_eV - titanium_eV)
    return TI_ANCHOR_eV + (raw - titanium_eV) * stretch, counts


def real_line_scan(folder: Path) -> Array:
    """Counts of the real line scan, `(frame, channel)`."""
    return load_recording(folder / LINE_SCAN_FILE).counts.astype(np.float64)


def simulated_line_scan(scan: Array, frames: int = 400, seed: int = 0) -> Array:
    """Frames by the preset's camera, shown the real scan's mean spectrum, smoothed over 10 eV, again and again."""
    preset = load_preset("line-scan-camera")
    camera = Detector(preset.detector, scan.shape[1])
    mean = np.pad(scan.mean(axis=0), 20 + camera.margin, mode="edge")
    incident = np.convolve(mean, np.ones(41) / 41, mode="valid").astype(np.float32)
    generator = np.random.Generator(np.random.PCG64DXSM(seed))
    return camera.read(
        np.tile(incident, (frames, 1)), np.full(frames, preset.beam.dwell_s), [generator] * frames
    ).astype(np.float64)


def window(scan: Array, low_eV: float, high_eV: float) -> Array:
    """Channels of a line scan between two energies."""
    energies = energies_eV(load_preset("line-scan-camera").energy_axis)
    return scan[:, (energies >= low_eV) & (energies < high_eV)]


def print_comparison(folder: Path) -> None:
    real, simulated = pristine_measures(*real_pristine(folder)), pristine_measures(*simulated_pristine())
    print("| pristine SrTiO3 | real | simulated | difference |\n|---|---|---|---|")
    for name, real_eV in real.positions_eV.items():
        at_eV = simulated.positions_eV[name]
        print(f"| {name} | {real_eV:.2f} eV | {at_eV:.2f} eV | {at_eV - real_eV:+.2f} eV |")
    shift_eV = simulated.onset_eV - real.onset_eV
    print(
        f"| O K onset, half of the rise | {real.onset_eV:.2f} eV | {simulated.onset_eV:.2f} eV | {shift_eV:+.2f} eV |"
    )
    for name, ratio in real.ratios.items():
        print(f"| {name} | {ratio:.3f} | {simulated.ratios[name]:.3f} | {simulated.ratios[name] / ratio - 1:+.1%} |")
    scan = real_line_scan(folder)
    camera = simulated_line_scan(scan)
    print("\n| line scan, noise | real | simulated | difference |\n|---|---|---|---|")
    for low_eV, high_eV in NOISE_WINDOWS_eV:
        measured = [noise_measures(window(counts, low_eV, high_eV)) for counts in (scan, camera)]
        _print_noise(f"{low_eV:.0f} to {high_eV:.0f} eV", *measured)
    _print_noise("mean of the three", mean_noise(scan), mean_noise(camera))


def mean_noise(scan: Array) -> Noise:
    """Mean over the windows without edges."""
    measured = [noise_measures(window(scan, low_eV, high_eV)) for low_eV, high_eV in NOISE_WINDOWS_eV]
    correlation = np.mean([noise.correlation for noise in measured], axis=0)
    return Noise(float(np.mean([noise.variance_over_mean for noise in measured])), tuple(correlation.tolist()))


def _print_noise(where: str, real: Noise, simulated: Noise) -> None:
    names = ["variance over mean", *(f"correlation at lag {lag}" for lag in LAGS)]
    pairs = zip(
        (real.variance_over_mean, *real.correlation),
        (simulated.variance_over_mean, *simulated.correlation),
        strict=True,
    )
    for name, (theirs, ours) in zip(names, pairs, strict=True):
        print(f"| {name}, {where} | {theirs:.3f} | {ours:.3f} | {ours / theirs - 1:+.1%} |")


def draw(path: Path) -> None:
    """The figure of the docs: simulated curves only."""
    preset = load_preset("srtio3-300kV")
    shape, energies = preset.specimen.spectrum, energies_eV(preset.energy_axis)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (whole, kinetics), (titanium, oxygen) = figure.subplots(2, 2)
    for phase in (0.0, 0.25, 0.5, 0.75, 1.0):
        counts = specimen.clean_counts(preset.energy_axis, shape, shape.reference_dose_pC, phase)
        colour = colormaps["viridis"](0.9 * phase)
        for axes, low_eV, high_eV in ((titanium, 452, 476), (oxygen, 524, 556)):
            part = (energies >= low_eV) & (energies <= high_eV)
            axes.plot(energies[part], counts[part], color=colour, label=f"phase {phase:g}")
    titanium.set_title("Ti L2,3: the crystal-field pairs close up and shift down")
    oxygen.set_title("O K flattens")
    titanium.legend(frameon=False)
    microscope = Microscope(preset)
    _, taken = microscope.expose_many(microscope.start(0), np.full(150, 0.4), 230.0)
    for frame, colour in ((0, "#3b528b"), (149, "#35a36b")):
        label = f"{(frame + 1) * 0.4:.0f} s" if frame else "first frame"
        whole.plot(energies, taken.counts[frame], color=colour, linewidth=0.5, label=label)
        whole.plot(energies, taken.clean_counts[frame], color="black", linewidth=0.8)
    whole.set_title("two frames with their noise, and without")
    whole.legend(frameon=False)
    for axes in (whole, titanium, oxygen):
        axes.set_xlabel("energy loss, eV")
        axes.set_ylabel("counts")
    for name in ("srtio3-300kV", "fast", "fragile", "recovering", "stable"):
        seconds, phases = _programme(name)
        kinetics.plot(seconds, phases, label=name)
    kinetics.axvspan(60, 90, color="0.9")
    kinetics.text(75, 1.03, "blanked", ha="center", fontsize=8)
    kinetics.set_title("presets at 230 pA, blanked from 60 to 90 s")
    kinetics.set_xlabel("time, s")
    kinetics.set_ylabel("phase")
    kinetics.set_ylim(-0.03, 1.1)
    kinetics.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.05), ncols=2)
    figure.savefig(path, dpi=100)
    print(f"{path} drawn")


def _programme(name: str) -> tuple[Array, Array]:
    kinetics = load_preset(name).specimen.kinetics
    state, phases = specimen.SpecimenState(), []
    seconds = np.arange(0.1, 120, 0.1)
    for second in seconds:
        state = specimen.step(state, kinetics, 0.0 if 60 < second <= 90 else 23.0, 0.1)
        phases.append(specimen.phase(state, kinetics))
    return seconds, np.array(phases)


def draw_comparison(path: Path, folder: Path) -> None:
    """Real beside simulated, for whoever has the real file. Not for the project: some of the files carry no licence."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for label, (energies, counts) in {"real": real_pristine(folder), "simulated": simulated_pristine()}.items():
        titanium = above_power_law(energies, counts, *BELOW_TI_eV)
        scale = height(energies, titanium, TI_LINES_eV["Ti L3 eg"], 0.4)
        oxygen = above_power_law(energies, counts, *BELOW_O_eV)
        for panel, signal, low_eV, high_eV in ((axes[0], titanium, 450, 485), (axes[1], oxygen, 515, 580)):
            part = (energies >= low_eV) & (energies <= high_eV)
            panel.plot(energies[part], signal[part] / scale, label=label)
            panel.set_xlabel("energy loss, eV")
            panel.set_ylabel("over background, Ti L3 eg = 1")
            panel.legend(frameon=False)
    figure.savefig(path, dpi=100)
    print(f"{path} drawn")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, metavar="FILE.png")
    chosen: Any = parser.parse_args(arguments)
    if chosen.compare is None:
        draw(HERE / "simulated_specimen.png")
    if (REAL_DATA / PRISTINE_FILE).is_file():
        print_comparison(REAL_DATA)
        if chosen.compare is not None:
            draw_comparison(chosen.compare, REAL_DATA)
    else:
        print(f"The real files are not in {REAL_DATA}: nothing to compare with.")


if __name__ == "__main__":
    main()
