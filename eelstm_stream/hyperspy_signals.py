"""Forecasts and recordings as HyperSpy signals in memory, for exspy's tools: backgrounds, edges, models, quantification.

`import exspy` takes seconds, so it is imported when the first signal is made, and never by a daemon. What should become a
file needs none of it: see `eelstm forecast`, `save_forecasts` and `save_recording`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.forecast_series import ForecastSeries, series_of
from eelstm_stream.errors import UsageError
from eelstm_stream.io.forecast_files import forecasts_as_signal
from eelstm_stream.io.recordings import Recording, recording_as_signal
from eelstm_stream.wire.messages import Forecast, SessionStart


def forecast_signal(
    forecasts: ForecastSeries | Sequence[tuple[Forecast, NDArray[np.float32]]], session: SessionStart | None = None
) -> Any:
    """An exspy `EELSSpectrum` of forecasts: `(from frame, ahead, channel)`, or `(ahead, channel)` for a single one.

    forecasts: from `forecast_recording`, or headers with payloads as a `ForecastClient` receives them. session: the start
    of their session where they came over the wire; without it the signal lacks beam energy, angles and current.

    Counts are at the reference dose. What was forecast, by which model and from what is in `metadata.eelstm_forecast`.
    Raises UsageError where exspy is not installed, ValueError for forecasts that don't belong together.
    """
    series = forecasts if isinstance(forecasts, ForecastSeries) else series_of(forecasts, session)
    return _eels_spectrum(forecasts_as_signal(series))


def recording_signal(recording: Recording) -> Any:
    """An exspy `EELSSpectrum` of a recording, `(frame, channel)`. Raises UsageError where exspy is not installed."""
    return _eels_spectrum(recording_as_signal(recording))


def _eels_spectrum(signal: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of its own imports is not for our users
            from exspy.signals import EELSSpectrum  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(f"a HyperSpy signal needs {error.name}: install eelstm-stream[hyperspy].") from None
    axes = [{key: value for key, value in axis.items() if key != "_type"} for axis in signal["axes"]]
    return EELSSpectrum(signal["data"], axes=axes, metadata=signal["metadata"])
