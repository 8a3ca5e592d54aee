"""What a file says about how its spectra were acquired: dwell, current, beam energy, angles, specimen.

Each format has its own places for these. rosettasciio brings most of them to HyperSpy's: some itself, in `metadata`, some as a
`mapping` from the format's own tags, which HyperSpy applies after loading and which is applied here in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eelstm_stream.io._reading import Signal

TEM = "Acquisition_instrument.TEM"
EELS = f"{TEM}.Detector.EELS"

# Digital Micrograph's time per pixel of a spectrum image, plain or put together by its stack builder. Before HyperSpy's dwell_time,
# since that is the exposure of the camera: the same within microseconds, but in the low-loss half of a dual-EELS pair a few
# microseconds, while the beam stays for the whole pixel. Dose and pace follow the beam.
PIXEL_TIME_TAGS = (
    "ImageList.TagGroup0.ImageTags.SI.Acquisition.Pixel time (s)",
    "ImageList.TagGroup0.ImageTags.source.Tags at creation.SI.Acquisition.Pixel time (s)",
)
DWELL_PLACES = (
    f"{EELS}.dwell_time",
    f"{EELS}.exposure",
    f"{TEM}.Detector.Camera.exposure",
    f"{TEM}.Camera.exposure",
    f"{TEM}.dwell_time",
)
NION_EXPOSURE_TAG = "ImageList.TagGroup0.ImageTags.hardware_source.exposure"  # a DM file written by Nion Swift

SECONDS_PER_UNIT = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs"), 1e-6),
}
PA_PER_UNIT = {"pA": 1.0, "nA": 1e3, "µA": 1e6, "uA": 1e6}


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What one signal says of itself; None where it doesn't, or says 0, which Digital Micrograph writes for unknown."""

    dwell_s: float | None
    beam_current_pA: float | None
    beam_energy_keV: float | None
    convergence_mrad: float | None
    collection_mrad: float | None
    specimen: str


def acquisition_of(signal: Signal, frame_axes: Sequence[Mapping[str, Any]], plugin: str) -> Acquisition:
    """Read the acquisition from a signal's metadata.

    frame_axes: its axes but energy; the spacing of a time axis is the last place where a dwell is looked for.
    plugin: name of the reader, since the MSA format keeps times in milliseconds.
    """
    tags = _slugged(signal.get("original_metadata") or {})
    metadata = _slugged(signal.get("metadata") or {})
    _apply_mapping(signal.get("mapping") or {}, tags, metadata)

    time_unit = "ms" if plugin == "MSA" else "s"
    dwells = [
        *(_positive(_lookup(tags, tag)) for tag in PIXEL_TIME_TAGS),
        *(_scaled(metadata, place, SECONDS_PER_UNIT, time_unit) for place in DWELL_PLACES),
        _positive(_lookup(tags, NION_EXPOSURE_TAG)),
        _time_step_s(frame_axes),
    ]
    return Acquisition(
        dwell_s=next((dwell for dwell in dwells if dwell is not None), None),
        beam_current_pA=_scaled(metadata, f"{TEM}.beam_current", PA_PER_UNIT, "nA"),
        beam_energy_keV=_positive(_lookup(metadata, f"{TEM}.beam_energy")),
        convergence_mrad=_positive(_lookup(metadata, f"{TEM}.convergence_angle")),
        collection_mrad=_positive(_lookup(metadata, f"{EELS}.collection_angle")),
        specimen=_text(_lookup(metadata, "Sample.description")),
    )


def _apply_mapping(mapping: Mapping[str, Any], tags: dict[str, Any], metadata: dict[str, Any]) -> None:
    for source, (target, convert) in mapping.items():
        value = _lookup(tags, source)
        if value is None or not target.startswith((TEM, "Sample.")):
            continue
        try:
            value = convert(value) if convert is not None else value
        except Exception:  # noqa: BLE001, S112  a tag that its own format's reader can't make sense of says nothing
            continue
        if value is None:
            continue
        *parents, leaf = target.split(".")
        node = metadata
        for parent in parents:
            below = node.setdefault(parent, {})
            if not isinstance(below, dict):
                break
            node = below
        else:
            node[leaf] = value


def _slugged(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with its keys as HyperSpy spells them, which is how the mappings know them: `Exposure (s)` is `Exposure_s`."""
    return {_slug(str(key)): _slugged(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _slug(key: str) -> str:
    return "".join(c for c in key if c.isascii() and (c.isalnum() or c in " _")).strip().replace(" ", "_")


def _lookup(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for key in path.split("."):
        if not isinstance(node, Mapping):
            return None
        node = node.get(_slug(key))
    return node


def _scaled(metadata: Mapping[str, Any], place: str, factors: Mapping[str, float], unit: str) -> float | None:
    """The value at a place, times the factor of its unit: the one beside it as `…_units`, else the one given."""
    stated = _lookup(metadata, f"{place}_units")
    factor = factors.get(str(stated) if stated else unit)
    value = _positive(_lookup(metadata, place))
    return None if value is None or factor is None else value * factor


def _time_step_s(frame_axes: Sequence[Mapping[str, Any]]) -> float | None:
    long_axes = [axis for axis in frame_axes if axis.get("size") != 1]
    if len(long_axes) != 1:
        return None
    factor = SECONDS_PER_UNIT.get(str(long_axes[0].get("units", "")).strip())
    step = _positive(long_axes[0].get("scale"))
    return None if factor is None or step is None else step * factor


def _positive(value: Any) -> float | None:
    """The value as a float where it is a finite number above zero."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _text(value: Any) -> str:
    return value.strip()[:2000] if isinstance(value, str) else ""
