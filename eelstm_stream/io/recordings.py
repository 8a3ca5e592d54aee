"""A recording: consecutive EELS spectra from one file, with what is known of how they were acquired.

`load_recording` reads whatever rosettasciio reads (DM3, DM4, hspy, emd, msa, nxs, …); `save_recording` writes .hspy, which
HyperSpy opens as an EELSSpectrum with axes, dwell, current and beam energy in its usual places. What HyperSpy has no place for
(dwell and current frame by frame, the noise-free truth of a simulation) goes under a metadata node of ours.

HyperSpy itself is not imported: with exspy it takes seven seconds. rosettasciio is, once there is a file to read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io._acquisition import acquisition_of
from eelstm_stream.io._reading import Signal, read_signals
from eelstm_stream.io._signal_choice import choose_eels_signal
from eelstm_stream.io.hspy import FORECAST_NODE, eels_signal, microscope_metadata, steps_axis, write_hspy
from eelstm_stream.wire.messages import MAX_PA, MAX_S, MIN_PA, MIN_S, EnergyAxis

NODE = "eelstm_stream"  # our node in HyperSpy's metadata
NODE_VERSION = 1
# The arrays in it, with their number of dimensions out of (frame, channel).
_NODE_ARRAYS = {"dwell_s": 1, "beam_current_pA": 1, "clean_counts": 2, "phase": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Consecutive spectra on one energy axis, in the order of acquisition. Raises ValueError when shapes disagree."""

    counts: NDArray[np.float32]  # (frame, channel); below zero where a dark current was subtracted
    energy_axis: EnergyAxis
    dwell_s: NDArray[np.float64]  # (frame,), time that the beam stayed for each spectrum
    beam_current_pA: NDArray[np.float64] | None  # (frame,); None where unknown
    beam_energy_keV: float | None
    convergence_mrad: float | None
    collection_mrad: float | None
    specimen: str  # as the file says it; "" where it doesn't
    name: str  # of the file
    simulated: bool = False
    clean_counts: NDArray[np.float32] | None = None  # (frame, channel), the noise-free truth; simulated recordings only
    phase: NDArray[np.float64] | None = None  # (frame,), the true damage coordinate; simulated recordings only

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] != self.energy_axis.size:
            raise ValueError(f"counts {self.counts.shape} are not (frame, {self.energy_axis.size})")
        if not len(self.counts):
            raise ValueError("a recording has at least one spectrum")
        frames = self.counts.shape[:1]
        for name, array, shape in (
            ("dwell_s", self.dwell_s, frames),
            ("beam_current_pA", self.beam_current_pA, frames),
            ("clean_counts", self.clean_counts, self.counts.shape),
            ("phase", self.phase, frames),
        ):
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} {array.shape} does not fit counts {self.counts.shape}")


def counts_sha256(recording: Recording) -> str:
    """SHA-256 of the counts alone, float32 little-endian: the same whatever is said of their axis, dwell and current."""
    return hashlib.sha256(np.ascontiguousarray(recording.counts, "<f4").tobytes()).hexdigest()


def recording_sha256(recording: Recording) -> str:
    """SHA-256 of counts, axis, dwells and currents, little-endian: the same for one recording in any file format."""
    axis = recording.energy_axis
    digest = hashlib.sha256(np.array([axis.offset_eV, axis.dispersion_eV, axis.size], "<f8").tobytes())
    digest.update(np.ascontiguousarray(recording.counts, "<f4").tobytes())
    digest.update(np.ascontiguousarray(recording.dwell_s, "<f8").tobytes())
    if recording.beam_current_pA is not None:
        digest.update(np.ascontiguousarray(recording.beam_current_pA, "<f8").tobytes())
    return digest.hexdigest()


def load_recording(path: Path, *, dwell_s: float | None = None, beam_current_pA: float | None = None) -> Recording:
    """Read the EELS signal of a file into memory.

    dwell_s, s, and beam_current_pA, pA: from the flags --dwell and --current. They hold for every frame, and stand above
    what the file says.

    Raises UnusableInputError when the file can't be read, holds no EELS signal, or holds one without usable counts, and
    UsageError when neither file nor flag gives the dwell, when a flag is no positive number, or when rosettasciio isn't
    installed.
    """
    _require_within("--dwell", dwell_s, MIN_S, MAX_S, "s")
    _require_within("--current", beam_current_pA, MIN_PA, MAX_PA, "pA")
    path = Path(path)
    plugin, signals = read_signals(path)
    chosen = choose_eels_signal(signals, path.name)
    counts = _usable_counts(chosen.counts, path.name)
    acquisition = acquisition_of(chosen.signal, chosen.frame_axes, plugin)
    ours = _our_node(chosen.signal, counts.shape, path.name)

    dwell = _per_frame(len(counts), dwell_s, ours.get("dwell_s"), acquisition.dwell_s)
    if dwell is None:
        raise UsageError(f"{path.name} does not say how long each spectrum was exposed: give the seconds with --dwell.")
    current = _per_frame(len(counts), beam_current_pA, ours.get("beam_current_pA"), acquisition.beam_current_pA)
    _require_possible(path.name, "dwell", dwell, MIN_S, MAX_S, "s", "--dwell")
    _require_possible(path.name, "beam current", current, MIN_PA, MAX_PA, "pA", "--current")
    clean_counts = ours.get("clean_counts")
    return Recording(
        counts=counts,
        energy_axis=chosen.energy_axis,
        dwell_s=dwell,
        beam_current_pA=current,
        beam_energy_keV=acquisition.beam_energy_keV,
        convergence_mrad=acquisition.convergence_mrad,
        collection_mrad=acquisition.collection_mrad,
        specimen=acquisition.specimen,
        name=path.name,
        simulated=bool(ours.get("simulated", False)),
        clean_counts=None if clean_counts is None else clean_counts.astype(np.float32),
        phase=ours.get("phase"),
    )


def save_recording(recording: Recording, path: Path, *, overwrite: bool = False) -> None:
    """Write a recording as .hspy. It appears under its name once it is whole: a kill on the way leaves the old file or none.

    Raises UsageError when the name doesn't end in .hspy, exists without `overwrite`, or stands in no folder, or when
    rosettasciio isn't installed; EelstmError when the disk refuses.
    """
    write_hspy(recording_as_signal(recording), Path(path), overwrite=overwrite)


def recording_as_signal(recording: Recording) -> dict[str, Any]:
    """The dictionary that rosettasciio's writers take; see `hspy`."""
    # HyperSpy's places hold one number for all frames; where they differ, it is told nothing rather than a mean.
    current_pA = recording.beam_current_pA
    node: dict[str, Any] = {"version": NODE_VERSION, "simulated": recording.simulated}
    for key in _NODE_ARRAYS:
        array = getattr(recording, key)
        if array is not None:
            node[key] = array
    signal = eels_signal(
        recording.counts,
        [steps_axis("frame", len(recording.counts))],
        recording.energy_axis,
        title=recording.name,
        specimen=recording.specimen,
        microscope=microscope_metadata(
            beam_energy_keV=recording.beam_energy_keV,
            beam_current_pA=None if current_pA is None or np.ptp(current_pA) else float(current_pA[0]),
            convergence_mrad=recording.convergence_mrad,
            collection_mrad=recording.collection_mrad,
            dwell_s=None if np.ptp(recording.dwell_s) else float(recording.dwell_s[0]),
        ),
        nodes={NODE: node},
    )
    signal["metadata"]["General"]["original_filename"] = recording.name
    return signal


def _our_node(signal: Signal, shape: tuple[int, ...], name: str) -> dict[str, Any]:
    """Our metadata node, its arrays as float64 and checked against the counts; empty where a file has none.

    Somebody may have cut the recording in HyperSpy, which leaves our arrays at their old length, so they would belong to
    other frames. Raises UnusableInputError for that rather than guess.
    """
    metadata = signal.get("metadata") or {}
    if FORECAST_NODE in metadata:
        raise UnusableInputError(f"{name} holds forecasts, and what is wanted here are spectra as they were recorded.")
    stored = metadata.get(NODE)
    if not isinstance(stored, Mapping):
        return {}
    found_version = stored.get("version", NODE_VERSION)
    if found_version != NODE_VERSION:
        raise UnusableInputError(
            f"{name} was saved in version {found_version} of eelstm-stream's metadata, and version {NODE_VERSION} is read "
            "here: install the eelstm-stream that wrote it."
        )
    node: dict[str, Any] = {"simulated": stored.get("simulated", False)}
    for key, dimensions in _NODE_ARRAYS.items():
        if stored.get(key) is None:
            continue
        array = np.asarray(stored[key])
        if array.shape != shape[:dimensions]:
            raise UnusableInputError(
                f"{name} has {key} {array.shape} for counts {shape}: it was cut after it was saved, so delete "
                f"metadata.{NODE} from it in HyperSpy, or cut {key} likewise."
            )
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise UnusableInputError(f"{name} has {key} that are not all finite numbers: save the recording again.")
        if key in ("dwell_s", "beam_current_pA") and not (array > 0).all():
            raise UnusableInputError(
                f"{name} has {key} of zero or less, down to {array.min():g}: save the recording again."
            )
        node[key] = array.astype(np.float64)
    return node


def _usable_counts(found: np.ndarray[Any, Any], name: str) -> NDArray[np.float32]:
    """(frame, channel) float32 from real numbers. Raises UnusableInputError when they aren't finite, or are all zero."""
    with np.errstate(over="ignore"):  # what doesn't fit float32 becomes infinite, and is reported as that
        counts = np.ascontiguousarray(found, dtype=np.float32)
    finite = np.isfinite(counts)
    if not finite.all():
        first = int(np.argmin(finite.all(axis=1)))
        raise UnusableInputError(
            f"{name} holds {np.count_nonzero(~finite)} values that are NaN, infinite or too large, the first in frame {first} "
            f"(of 0 to {len(counts) - 1}), and counts must be finite: repair or cut those frames."
        )
    if not counts.any():
        raise UnusableInputError(
            f"{name} holds {len(counts)} spectra of zeros only: the camera or the export went wrong."
        )
    return counts


def _per_frame(frames: int, *sources: float | NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """(frame,) float64 from the first source that is there: one number for all, or one a frame."""
    source = next((source for source in sources if source is not None), None)
    return None if source is None else np.full(frames, source, dtype=np.float64)


def _require_within(flag: str, value: float | None, low: float, high: float, unit: str) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{flag} is {value} {unit}, and it must be above zero, from {low:g} to {high:g} {unit}.")


def _require_possible(
    file: str, what: str, values: NDArray[np.float64] | None, low: float, high: float, unit: str, flag: str
) -> None:
    """The same for what the file says of each frame."""
    if values is not None and not ((values >= low) & (values <= high)).all():
        raise UnusableInputError(
            f"{file} says a {what} of {values.min():g} to {values.max():g} {unit}, which can't be: give it with {flag}."
        )
