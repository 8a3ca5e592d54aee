"""The forecaster of one session, without its sockets: spectra in, summaries out, by the pipeline and the model that are served."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core import pipeline
from eelstm_stream.core.forecast_message import forecast_fields
from eelstm_stream.core.pipeline import Accepted
from eelstm_stream.io.model_file import Model
from eelstm_stream.wire.messages import SessionStart, Spectrum, StageLatency, Status, Summary

NO_TIME = StageLatency(queued_ns=0, prepared_ns=0, inferred_ns=0, batch=1)


class Forecasting:
    """What `eelstm serve` does in one session."""

    def __init__(self, model: Model, start: SessionStart) -> None:
        self._model = model
        self._functional = model.metadata.phase
        self._start = start
        self._state, _ = pipeline.step(pipeline.new_pipeline(model.metadata), start, None, start.sent_mono_ns)
        self._needed = model.metadata.window
        self._summaries = 0

    def take(self, spectrum: Spectrum, counts: NDArray[np.float32], now_ns: int) -> Summary | None:
        """Take a spectrum in. Returns what is forecast from it; None while the window fills, or where it's of no use."""
        self._state, events = pipeline.step(self._state, spectrum, counts, now_ns)
        accepted = next((event for event in events if isinstance(event, Accepted)), None)
        if accepted is None:
            return None
        self._needed = accepted.needed
        return None if accepted.window is None else self._summary(accepted, accepted.window, now_ns)

    def status(self, now_ns: int) -> Status:
        """What the forecaster says of itself once a second."""
        return Status(
            session=self._start.session,
            seq=0,
            sent_mono_ns=now_ns,
            sender="forecaster",
            state="filling" if self._needed else "forecasting",
            text="",
            needed=self._needed,
        )

    def _summary(self, accepted: Accepted, window: NDArray[np.float32], now_ns: int) -> Summary:
        metadata = self._model.metadata
        _, phase = self._model.forecast(window[np.newaxis], accepted.history[np.newaxis])
        fields = forecast_fields(metadata, self._functional, accepted, phase[0])
        seq, self._summaries = self._summaries, self._summaries + 1
        return Summary(
            session=self._start.session,
            seq=seq,
            sent_mono_ns=now_ns,
            model_sha256=self._model.sha256,
            latency=NO_TIME,
            **fields,
        )
