"""What one spectrum costs before it reaches the graph: as the service prepares it, and step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.bench.raw_inference import WARM_UP, open_benchmark_model
from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.core.preprocessing import (
    Chain,
    Crop,
    DoseNormalisation,
    ExclusiveBins,
    Exposed,
    PeakAlignment,
    PowerLawBackground,
    RollingBins,
    SpikeRemoval,
    Step,
    fit_per_channel_scaling,
)
from eelstm_stream.wire.messages import EnergyAxis

BESIDE = 74  # channels that a camera of 2048 has on either side of the paper's 1900
KEPT = 64  # different spectra, over and over
BIN_FRAMES = 3


def measure_preparation(spectra: int, model: Path | None) -> dict[str, float | int]:
    """Medians and 99th percentiles, ms for one spectrum, of `Preparation` and of each step of `core.preprocessing`."""
    meta = open_benchmark_model(model).metadata
    camera = _camera_around(meta.energy_axis)
    counts = _noisy(meta, camera)
    dwell_s, dose_pC = meta.reference_dwell_s, meta.reference_dose_pC

    alignment = Alignment(
        meta.alignment_reference, meta.energy_axis, meta.alignment_range_eV, meta.alignment_max_shift_eV
    )
    preparation = Preparation(camera, meta.energy_axis, alignment)
    figures: dict[str, float | int] = {"channels": camera.size, "prepared_channels": meta.energy_axis.size}

    def prepare(spectrum: NDArray[np.float32]) -> None:
        preparation(spectrum, normalisation(dwell_s, None, dwell_s, dose_pC))

    figures |= _figures("preparation", _times_ms(prepare, counts, spectra))
    exposed = [Exposed(s, dwell_s) for s in counts]
    for name, step in _steps(meta, camera, counts).items():
        taken = exposed if isinstance(step, DoseNormalisation | Chain) else counts
        figures |= _figures(name, _times_ms(_streaming(step), taken, spectra))
    return figures | {"spectra": spectra}


def _camera_around(axis: EnergyAxis) -> EnergyAxis:
    return EnergyAxis(
        offset_eV=axis.offset_eV - BESIDE * axis.dispersion_eV,
        dispersion_eV=axis.dispersion_eV,
        size=axis.size + 2 * BESIDE,
    )


def _noisy(meta: ModelMetadata, camera: EnergyAxis) -> NDArray[np.float32]:
    """The model's reference spectrum on a camera's axis, `(frame, channel)`, with the model's noise and some drift."""
    rng = np.random.default_rng(0)
    drifts_eV = rng.uniform(-0.5, 0.5, KEPT)
    at_eV, from_eV = energies_eV(camera), energies_eV(meta.energy_axis)
    clean = np.stack([np.interp(at_eV - drift_eV, from_eV, meta.alignment_reference) for drift_eV in drifts_eV])
    noise = rng.normal(size=clean.shape) * np.sqrt(meta.variance_over_mean * np.maximum(clean, 0))
    return np.asarray(np.maximum(clean + noise, 1), dtype=np.float32)


def _steps(meta: ModelMetadata, camera: EnergyAxis, counts: NDArray[np.float32]) -> dict[str, Step[Any, Any]]:
    """Every step on the camera's axis, and what the service does, with spikes taken out, as a chain of them."""
    reference = counts.mean(axis=0)
    dose = DoseNormalisation(meta.reference_dwell_s, meta.reference_dose_pC)
    spikes = SpikeRemoval(meta.variance_over_mean)
    alignment = PeakAlignment(reference, camera, meta.alignment_range_eV, meta.alignment_max_shift_eV)
    axis = meta.energy_axis
    crop = Crop(camera, axis.offset_eV, axis.offset_eV + axis.size * axis.dispersion_eV)
    background = PowerLawBackground(camera, (camera.offset_eV, meta.alignment_range_eV[0]))
    return {
        "dose_normalisation": dose,
        "spike_removal": spikes,
        "alignment": alignment,
        "crop": crop,
        "exclusive_bins": ExclusiveBins(BIN_FRAMES),
        "rolling_bins": RollingBins(BIN_FRAMES),
        "background": background,
        "scaling": fit_per_channel_scaling([counts], camera),
        "chain": Chain((dose, spikes, alignment, crop)),
    }


def _streaming(step: Step[Any, Any]) -> Callable[[Any], None]:
    state = step.start()

    def take(spectrum: Any) -> None:
        nonlocal state
        state, _ = step.step(state, spectrum)

    return take


def _times_ms(take: Callable[[Any], None], spectra: Iterable[Any], count: int) -> NDArray[np.float64]:
    """Durations of single calls, ms, after a few that are not counted; spectra come again and again."""
    times_ms = []
    for spectrum in islice(cycle(spectra), WARM_UP + count):
        before_s = time.perf_counter()
        take(spectrum)
        times_ms.append((time.perf_counter() - before_s) * 1e3)
    return np.array(times_ms[WARM_UP:])


def _figures(name: str, times_ms: NDArray[np.float64]) -> dict[str, float | int]:
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99))
    return {f"{name}_p50_ms": round(float(p50_ms), 4), f"{name}_p99_ms": round(float(p99_ms), 4)}
