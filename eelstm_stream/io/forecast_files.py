"""Forecasts as .hspy files that HyperSpy and exspy open as EELS spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eelstm_stream.core.forecast_series import ForecastSeries
from eelstm_stream.io.hspy import FORECAST_NODE, eels_signal, microscope_metadata, steps_axis, write_hspy

NODE_VERSION = 1


def save_forecasts(series: ForecastSeries, path: Path, *, overwrite: bool = False) -> None:
    """Write forecasts as .hspy; whole or not at all.

    Raises UsageError when the name doesn't end in .hspy, exists without `overwrite`, or stands in no folder, or when
    rosettasciio isn't installed; EelstmError when the disk refuses.
    """
    write_hspy(forecasts_as_signal(series), Path(path), overwrite=overwrite)


def forecasts_as_signal(series: ForecastSeries) -> dict[str, Any]:
    """The dictionary that rosettasciio's writers take; see `hspy`.

    Axes: the frame that a forecast was made from, where there are several; how far ahead, s or pC; energy loss, eV.
    Counts are at the reference dose, so dwell and current are those that make it, not those of the session.
    """
    session = series.session
    source = "an unknown session" if session is None else session.source_name or session.instrument
    ahead = _ahead_axis(series)
    kind = "simulated spectra" if series.simulated else "spectra"
    node: dict[str, Any] = {
        "version": NODE_VERSION,
        "model": {
            "name": series.model_name,
            "sha256": series.model_sha256,
            "trained_on": series.trained_on,
            "window": series.window,
        },
        "from_frame": series.from_seq,
        "horizons": np.array(series.horizons),
        "step_s": series.step_s,
        "window_domain": series.window_domain,
        "phase": series.phase,
        "reference_dwell_s": series.reference_dwell_s,
        "reference_dose_pC": series.reference_dose_pC,
        "simulated": series.simulated,
        "source": {"name": source},
        "quality": [
            f"{flag.flag}: {flag.reason} ({raised} of {len(series.from_seq)})" for flag, raised in series.quality
        ],
    }
    if session is not None:
        node["source"] |= {"kind": session.source, "session": session.session, "dwell_s": session.dwell_s}
        if session.beam_current_pA is not None:
            node["source"]["beam_current_pA"] = session.beam_current_pA
    signal = eels_signal(
        series.counts if len(series.from_seq) > 1 else series.counts[0],
        [*([_from_axis(series)] if len(series.from_seq) > 1 else []), ahead],
        series.energy_axis,
        title=f"Forecast of {source} by {series.model_name}",
        specimen="" if session is None else session.specimen,
        microscope=microscope_metadata(
            beam_energy_keV=None if session is None else session.beam_energy_keV,
            beam_current_pA=series.reference_current_pA,
            convergence_mrad=None if session is None else session.convergence_mrad,
            collection_mrad=None if session is None else session.collection_mrad,
            dwell_s=series.reference_dwell_s,
        ),
        nodes={FORECAST_NODE: node},
    )
    signal["metadata"]["General"]["notes"] = (
        f"A forecast from {kind}, not a measurement. Counts at the reference dose, {series.reference_dose_pC:g} pC; its "
        f"model was trained on {series.trained_on or 'data that it does not name'}."
    )
    return signal


def _from_axis(series: ForecastSeries) -> dict[str, Any]:
    """Newest frame of each window; a gap in the stream makes its steps unequal."""
    name, frames = "from frame", series.from_seq
    steps = np.diff(frames)
    if (steps == steps[0]).all():
        return steps_axis(name, len(frames), float(frames[0]), float(steps[0]))
    return _listed_axis(name, frames, "")


def _ahead_axis(series: ForecastSeries) -> dict[str, Any]:
    """How far ahead each horizon lies."""
    in_frames = series.window_domain == "frame"
    unit, step = ("s", series.step_s) if in_frames else ("pC", series.reference_dose_pC)
    horizons = np.array(series.horizons)
    steps = np.diff(horizons)
    if len(horizons) == 1:
        return steps_axis("ahead", 1, float(horizons[0]) * step, step, unit)
    if (steps == steps[0]).all():
        return steps_axis("ahead", len(horizons), float(horizons[0]) * step, float(steps[0]) * step, unit)
    return _listed_axis("ahead", horizons * step, unit)


def _listed_axis(name: str, values: np.ndarray[Any, Any], units: str) -> dict[str, Any]:
    return {
        "_type": "DataAxis",
        "name": name,
        "axis": values.astype(np.float64),
        "units": units,
        "navigate": True,
        "is_binned": False,
    }
