"""Signals as .hspy files, written without HyperSpy: with exspy it takes seconds to import.

A signal here is the dictionary that rosettasciio's writers take, with metadata where HyperSpy and exspy look for them.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.io._reading import load_plugin
from eelstm_stream.wire.messages import EnergyAxis

FORECAST_NODE = "eelstm_forecast"  # our node in the metadata of forecasts; it tells them from recordings


def eels_signal(
    counts: NDArray[np.generic],
    axes: list[dict[str, Any]],
    energy_axis: EnergyAxis,
    *,
    title: str,
    specimen: str,
    microscope: dict[str, Any],
    nodes: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """An EELS signal.

    counts: `(…, channel)`. axes: those in front of the energy axis, see `steps_axis`. microscope: what goes under
    Acquisition_instrument.TEM, see `microscope_metadata`. nodes: further metadata, by the name of their node.
    """
    return {
        "data": counts,
        "axes": [
            *axes,
            {
                **steps_axis("Energy loss", energy_axis.size, energy_axis.offset_eV, energy_axis.dispersion_eV, "eV"),
                "navigate": False,
                "is_binned": True,  # as exspy has it: a channel holds the counts of its width
            },
        ],
        "metadata": {
            "General": {"title": title},
            "Signal": {"signal_type": "EELS", "quantity": "Intensity (Counts)"},
            "Acquisition_instrument": {"TEM": microscope},
            "Sample": {"description": specimen},
            **nodes,
        },
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": [],
        "package_info": {"package": "", "package_version": ""},
        "tmp_parameters": {},
    }


def steps_axis(name: str, size: int, offset: float = 0.0, scale: float = 1.0, units: str = "") -> dict[str, Any]:
    """An axis of equal steps to navigate by."""
    return {
        "_type": "UniformDataAxis",
        "name": name,
        "size": size,
        "offset": offset,
        "scale": scale,
        "units": units,
        "navigate": True,
        "is_binned": False,
    }


def microscope_metadata(
    *,
    beam_energy_keV: float | None,
    beam_current_pA: float | None,
    convergence_mrad: float | None,
    collection_mrad: float | None,
    dwell_s: float | None,
) -> dict[str, Any]:
    """HyperSpy's places for these; what is None is left out, since exspy asks for what is missing and believes what is there."""
    detector = {"collection_angle": collection_mrad, "dwell_time": dwell_s}
    microscope = {
        "beam_energy": beam_energy_keV,
        "beam_current": None if beam_current_pA is None else beam_current_pA / 1e3,  # HyperSpy counts in nA
        "convergence_angle": convergence_mrad,
    }
    return {
        **{key: number for key, number in microscope.items() if number is not None},
        "Detector": {"EELS": {key: number for key, number in detector.items() if number is not None}},
    }


def require_writable(path: Path, *, overwrite: bool) -> None:
    """Raises UsageError when the name doesn't end in .hspy, exists without `overwrite`, or stands in no folder."""
    if path.suffix != ".hspy":
        raise UsageError(f"{path.name}: signals are written as .hspy, so give a name that ends in it.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder: make it first.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: choose another name, or say that it may be overwritten.")


def write_hspy(signal: dict[str, Any], path: Path, *, overwrite: bool = False) -> None:
    """Write a signal. It appears under its name once it is whole: a kill on the way leaves the old file or none.

    Raises what `require_writable` raises, UsageError when rosettasciio isn't installed, EelstmError when the disk refuses.
    """
    require_writable(path, overwrite=overwrite)
    whole = _InMemory()
    load_plugin("HSPY").file_writer(whole, signal, show_progressbar=False)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the counts do
        unfinished.replace(path)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


class _InMemory(io.BytesIO):
    """A file for HDF5 that is none: on a disk that fills up, HDF5 ends in a segmentation fault, which nothing here catches.

    h5py takes it as a file object; rosettasciio asks it for its path, only to see whether it is open somewhere.
    """

    def __fspath__(self) -> str:
        return ""
