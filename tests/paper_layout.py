"""Write recordings as the paper's were: DM4 files with a thumbnail, two survey images and, third, the EELS signal.

The paper's own files (FigShare 20288730) are modelled on its description: `hs.load(f)[2]` is the EELS signal, of shape
(120 or 160, 2048) at 0.1 eV from 424 eV and 0.4 s. Names and places of the tags are those of the real DM3 line scan in
`../shared/data`. The bytes are nionswift-io's, so what reads them here was written by somebody else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nionswift_plugin.DM_IO import dm3_image_utils, parse_dm3

PAPER_FILES = {
    "SI-007 0.4 s dwell.dm4": 120,
    "SI-012 0.4 s 160 repeat.dm4": 160,
    "SI-015 0.4 s 160 repeat.dm4": 160,
}
OFFSET_EV, DISPERSION_EV, CHANNELS, DWELL_S = 424.0, 0.1, 2048, 0.4
NOISE_VARIANCE_PER_COUNT = 4.6  # the paper's noise: about 200 counts rms at 9 000 to 12 000 counts

Counts = np.ndarray | Callable[[int, np.ndarray, np.random.Generator], np.ndarray] | None


def strontium_titanate(frames: int, energy_eV: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(frame, channel) float32 counts: a falling background, Ti L at 456 eV and O K at 532 eV, fading by a tenth; noisy."""
    background = 12_000 * (energy_eV / 435) ** -1.487  # 7 000 at 625 eV
    edges = 5_000 * np.exp(-(((energy_eV - 458) / 4) ** 2)) + 2_500 * np.exp(-(((energy_eV - 535) / 8) ** 2))
    fading = np.linspace(1.0, 0.9, frames)[:, None]
    clean = fading * (background + edges)
    return (clean + random.normal(size=clean.shape) * np.sqrt(NOISE_VARIANCE_PER_COUNT * clean)).astype(np.float32)


def write_dm(
    path: Path,
    frames: int = 120,
    counts: Counts = None,
    *,
    offset_eV: float = OFFSET_EV,
    dispersion_eV: float = DISPERSION_EV,
    channels: int = CHANNELS,
    dwell_s: float | None = DWELL_S,
    beam_current_nA: float = 0.0,
    survey_images: int = 2,
    energy_unit: str = "eV",
    energy_first: bool = False,
    seed: int = 7,
) -> np.ndarray:
    """Write a DM3 or DM4 file, by its extension, in the paper's layout; give back the counts written, (frame, channel).

    counts: the series, or a function of (frames, energy_eV, random) that makes it, or None for `strontium_titanate`. An array
        sets frames and channels itself, and may have more axes in front.
    dwell_s: None leaves every trace of it out. beam_current_nA: 0 is what Digital Micrograph writes where it doesn't know.
    energy_first: with the energy axis slowest, as in spectrum images of GMS 3.
    """
    if not isinstance(counts, np.ndarray):
        energy_eV = offset_eV + dispersion_eV * np.arange(channels)
        counts = (counts or strontium_titanate)(frames, energy_eV, np.random.default_rng(seed))
    calibrations = [(0.0, 1.0, "")] * (counts.ndim - 1) + [(offset_eV, dispersion_eV, energy_unit)]
    stored = counts
    if energy_first:
        stored, calibrations = np.moveaxis(counts, -1, 0), calibrations[-1:] + calibrations[:-1]
    eels = _image("EELS Spectrum Image", stored, calibrations, _eels_tags(dwell_s, beam_current_nA, counts.ndim > 1))
    thumbnail = _image("", np.zeros((8, 8, 3), np.uint8), [(0.0, 1.0, "")] * 2, {})
    ramp = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)
    surveys = [
        _image(name, ramp, [(0.0, 0.5, "nm")] * 2, {"Acquisition": {"Parameters": {"Detector": {"exposure (s)": 9.0}}}})
        for name in ("Survey image", "HAADF", "Dark field")[:survey_images]
    ]
    tree = {
        "ImageList": [thumbnail, *surveys, eels],
        "Thumbnails": [{"ImageIndex": 0, "SourceSize_Pixels": (64, 48)}],
        "InImageMode": True,
    }
    with path.open("w+b") as file:
        parse_dm3.dm_write_header(file, {".dm3": 3, ".dm4": 4}[path.suffix], tree)
    return counts


def write_paper_files(folder: Path, counts: Counts = None) -> list[Path]:
    """The paper's three files at 0.4 s, of 120, 160 and 160 spectra, each with noise of its own."""
    for seed, (name, frames) in enumerate(PAPER_FILES.items()):
        write_dm(folder / name, frames, counts, seed=seed)
    return [folder / name for name in PAPER_FILES]


def _image(
    name: str, pixels: np.ndarray, calibrations: list[tuple[float, float, str]], tags: dict[str, Any]
) -> dict[str, Any]:
    """One entry of a DM file's ImageList; calibrations are (offset, scale, unit) in the order of the array."""
    image = dm3_image_utils.ndarray_to_imagedatadict(np.ascontiguousarray(pixels))
    image["Calibrations"] = {
        "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
        # Digital Micrograph counts dimensions from the fastest, has an origin in pixels, and keeps both in single precision.
        "Dimension": [
            {"Origin": _single(-offset / scale), "Scale": _single(scale), "Units": unit}
            for offset, scale, unit in reversed(calibrations)
        ],
    }
    return {"ImageData": image, "ImageTags": tags, "Name": name}


def _single(number: float) -> float:
    return float(np.float32(number))


def _eels_tags(dwell_s: float | None, beam_current_nA: float, spectrum_image: bool) -> dict[str, Any]:
    tags: dict[str, Any] = {
        "EELS": {
            "Acquisition": {},
            "Experimental Conditions": {"Collection semi-angle (mrad)": 48.0, "Convergence semi-angle (mrad)": 30.0},
        },
        "Meta Data": {"Format": "Spectrum image" if spectrum_image else "Spectrum", "Signal": "EELS"},
        "Microscope Info": {
            "Illumination Mode": "STEM",
            "Probe Current (nA)": beam_current_nA,
            "Voltage": 300_000.0,
        },
        "Session Info": {"Specimen": "SrTiO3"},
    }
    if dwell_s is not None:
        # As real files have it: two exposures a pixel, which together fall a few microseconds short of the pixel's time.
        tags["EELS"]["Acquisition"] = {"Exposure (s)": dwell_s / 2 - 2.5e-6, "Number of frames": 2}
        if spectrum_image:
            tags["SI"] = {"Acquisition": {"Pixel time (s)": dwell_s, "Number of cycles": 1}}
    return tags
