"""Find the EELS signal among all that a file holds, and the energy axis among the axes of that signal.

Position says nothing: survey images come before or after, and a reader may hand the energy axis first or last. What says it
is the unit of the axis, so the energy axis is the one in eV, and the EELS signal one that has such an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io._reading import Signal
from eelstm_stream.wire.messages import MAX_CHANNELS, EnergyAxis

# Spelled out, because upper case matters: meV is a thousandth, and MeV no energy loss of this field.
EV_PER_UNIT = {
    **dict.fromkeys(("eV", "ev", "EV", "electronvolt", "electronvolts"), 1.0),
    **dict.fromkeys(("keV", "kev", "KEV", "kiloelectronvolt"), 1e3),
    **dict.fromkeys(("meV", "millielectronvolt"), 1e-3),
}
EELS_TYPES = ("EELS", "")  # by preference; many files leave it open, and one that says EDS or CL means it
UNIFORM_WITHIN = 0.05  # of a channel: an axis stored as numbers may be off by this much and still count as uniform
LISTED_AT_MOST = 6


@dataclass(frozen=True, slots=True, eq=False)
class EelsSignal:
    """The chosen signal, with its energy axis last and rising.

    `counts` is (frame, channel) in the type of the file; the other axes are flattened in C order, which is the order of
    acquisition (rows of a scan one after the other, repeats outside). `frame_axes` are those axes as the reader gave them.
    """

    counts: np.ndarray[Any, Any]
    energy_axis: EnergyAxis
    frame_axes: tuple[dict[str, Any], ...]
    signal: Signal


def choose_eels_signal(signals: Sequence[Signal], name: str) -> EelsSignal:
    """The EELS signal of a file: of those with an energy axis the one typed EELS, then the one with the most spectra.

    name: of the file, for the sentence. Raises UnusableInputError when there is none, when two are equally good, and when
    the one found has no usable energy axis or no numbers.
    """
    if not signals:
        raise UnusableInputError(f"{name} holds no signal at all, and a recording needs one with an energy axis in eV.")
    found = [signal for signal in signals if _type_of(signal) in EELS_TYPES and _energy_axes(signal)]
    if not found:
        held = _join([describe(signal) for signal in signals])
        raise UnusableInputError(f"{name} holds {held}, and no signal with an energy axis in eV.")
    found.sort(key=_preference, reverse=True)
    if len(found) > 1 and _preference(found[0]) == _preference(found[1]):
        rivals = [signal for signal in found if _preference(signal) == _preference(found[0])]
        titles = _join([f'"{_title_of(signal)}" {np.shape(signal["data"])}' for signal in rivals])
        raise UnusableInputError(
            f"{name} holds {len(rivals)} equally likely EELS signals, {titles}: save the one to use in a file of its own."
        )
    return _with_energy_last(found[0], name)


def describe(signal: Signal) -> str:
    """A signal in a few words, by kind and shape, as in "an image (512, 512)"."""
    axes = _axes(signal)
    plotted = sum(1 for axis in axes if not axis.get("navigate"))
    kind = {1: "line plot", 2: "image"}.get(plotted, "array")
    series = any(axis.get("navigate") for axis in axes)
    if _type_of(signal) == "EELS":
        text = "an EELS signal without an axis in eV"
    elif _type_of(signal):
        text = f"a signal of type {_type_of(signal)}"
    elif series:
        text = f"a series of {kind}s"
    else:
        text = f"{'a' if kind == 'line plot' else 'an'} {kind}"
    return f"{text} {np.shape(signal['data'])}"


def _with_energy_last(signal: Signal, name: str) -> EelsSignal:
    energy_axes = _energy_axes(signal)
    if len(energy_axes) > 1:
        raise UnusableInputError(
            f"{name} holds a signal {np.shape(signal['data'])} with {len(energy_axes)} axes in eV, and spectra have one."
        )
    place, axis = energy_axes[0]
    counts = np.asarray(signal["data"])
    if counts.size == 0:
        raise UnusableInputError(f"{name} holds an empty EELS signal, {counts.shape}: export it again.")
    if counts.dtype.kind not in "iuf":
        raise UnusableInputError(
            f"{name} holds an EELS signal of type {counts.dtype}, and spectra are real numbers of counts."
        )
    channels = counts.shape[place]
    counts = np.moveaxis(counts, place, -1).reshape(-1, channels)
    offset_eV, dispersion_eV = _calibration(axis, channels, name)
    if dispersion_eV < 0:
        offset_eV, dispersion_eV = offset_eV + (channels - 1) * dispersion_eV, -dispersion_eV
        counts = counts[:, ::-1]
    try:
        energy_axis = EnergyAxis(offset_eV=offset_eV, dispersion_eV=dispersion_eV, size=channels)
    except ValidationError:
        raise UnusableInputError(
            f"{name} has an energy axis of {channels} channels from {offset_eV} eV by {dispersion_eV} eV, and it must be "
            f"finite, of at most {MAX_CHANNELS} channels, and not stand still: calibrate it again."
        ) from None
    others = tuple(other for index, other in enumerate(_axes(signal)) if index != place)
    return EelsSignal(counts=counts, energy_axis=energy_axis, frame_axes=others, signal=signal)


def _calibration(axis: dict[str, Any], channels: int, name: str) -> tuple[float, float]:
    """Offset and dispersion of an axis, eV. Raises UnusableInputError when its channels are not evenly spaced."""
    factor = EV_PER_UNIT[_unit_of(axis)]
    if "scale" in axis:
        return float(axis.get("offset", 0.0)) * factor, float(axis["scale"]) * factor
    energies = np.asarray(axis.get("axis", ()), dtype=np.float64) * factor  # a table of energies, or a formula
    if energies.shape != (channels,) or channels < 2:
        raise UnusableInputError(
            f"{name} has an energy axis that is no offset and dispersion: resample it to even channels."
        )
    dispersion_eV = float(energies[-1] - energies[0]) / (channels - 1)
    uneven = np.abs(energies - (energies[0] + dispersion_eV * np.arange(channels))).max()
    if not uneven <= UNIFORM_WITHIN * abs(dispersion_eV):
        raise UnusableInputError(
            f"{name} has an energy axis with uneven channels (off by up to {uneven:.3g} eV at {abs(dispersion_eV):.3g} eV per "
            "channel on average): resample it to even channels."
        )
    return float(energies[0]), dispersion_eV


def _axes(signal: Signal) -> list[dict[str, Any]]:
    """The axes in the order of the array; none when they don't fit it."""
    axes = [axis for axis in signal.get("axes") or () if isinstance(axis, dict)]
    axes = [axis for _, axis in sorted(enumerate(axes), key=lambda pair: pair[1].get("index_in_array", pair[0]))]
    return axes if len(axes) == np.ndim(signal["data"]) else []


def _energy_axes(signal: Signal) -> list[tuple[int, dict[str, Any]]]:
    return [(place, axis) for place, axis in enumerate(_axes(signal)) if _unit_of(axis) in EV_PER_UNIT]


def _unit_of(axis: dict[str, Any]) -> str:
    return str(axis.get("units", "")).strip().strip("[]").replace("_", "")  # EMD files write [e_V]


def _type_of(signal: Signal) -> str:
    return str(_section(signal, "Signal").get("signal_type") or "")


def _title_of(signal: Signal) -> str:
    return str(_section(signal, "General").get("title") or "untitled")


def _section(signal: Signal, name: str) -> dict[str, Any]:
    section = (signal.get("metadata") or {}).get(name)
    return section if isinstance(section, dict) else {}


def _preference(signal: Signal) -> tuple[int, int]:
    place, _ = _energy_axes(signal)[0]
    shape = np.shape(signal["data"])
    return -EELS_TYPES.index(_type_of(signal)), int(np.prod(shape[:place] + shape[place + 1 :]))


def _join(parts: Sequence[str]) -> str:
    shown = list(parts[:LISTED_AT_MOST])
    if len(parts) > LISTED_AT_MOST:
        shown.append(f"{len(parts) - LISTED_AT_MOST} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
