"""Forecasts of a recording, without a wire: every spectrum takes the way that it would take in `eelstm serve`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core import pipeline
from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.forecast_series import ForecastSeries, flags_of
from eelstm_stream.core.pipeline import Accepted, Refused, SessionRefused
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.core.window import WindowDomain
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.io.announce import printable
from eelstm_stream.io.model_file import Model
from eelstm_stream.io.recordings import Recording, recording_sha256
from eelstm_stream.wire.messages import MAX_TEXT, QualityFlag, SessionStart, Spectrum

BATCH = 64
SOME_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)  # recordings don't say when; nothing here depends on it


@dataclass(frozen=True, slots=True)
class RefusedFrame:
    """A frame that no forecast was made from."""

    frame: int
    reason: str


def forecast_recording(
    model: Model,
    recording: Recording,
    *,
    at: int | None = None,
    window_domain: WindowDomain = "auto",
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[ForecastSeries, tuple[RefusedFrame, ...]]:
    """Forecast from every window of a recording, or from the one that ends `at` a frame (from 0).

    window_domain: as the service's setting. The second of the pair are frames that the service would refuse. report: told how many frames are done, of how many.
    Raises UnusableInputError where the model can't use the recording or no forecast comes of it, UsageError for a frame
    that is not there.
    """
    _require_frame(at, recording)
    start = _session_start(recording)
    state, events = pipeline.step(pipeline.new_pipeline(model.metadata, window_domain), start, None, 0)
    for event in events:
        if isinstance(event, SessionRefused):
            raise UnusableInputError(event.reason)
    needed = 0  # spectra until the window is full
    frames = len(recording.counts) if at is None else at + 1
    refused: list[RefusedFrame] = []
    made = _Made(model)
    for frame in range(frames):
        state, events = pipeline.step(state, _spectrum(recording, frame, start), recording.counts[frame], frame)
        for event in events:
            if isinstance(event, Refused):
                refused.append(RefusedFrame(frame, event.reason))
            elif isinstance(event, Accepted):
                needed = event.needed
                if at in (None, frame):
                    made.take(event)
        report(frame + 1, frames)
    made.infer()
    if not made.from_seq:
        if at is not None and needed and not refused:
            window = f"the window of {model.metadata.name}, {model.metadata.window} steps"
            raise UsageError(f"--at is {at}, and {window}, is full {needed} frame{'s' if needed > 1 else ''} later.")
        raise UnusableInputError(_why_none(recording, model, refused, at, needed))
    meta = model.metadata
    series = ForecastSeries(
        counts=np.concatenate(made.counts),
        phase=np.concatenate(made.phase).astype(np.float64),
        from_seq=np.array(made.from_seq, dtype=np.int64),
        horizons=meta.horizons,
        energy_axis=meta.energy_axis,
        model_name=meta.name,
        model_sha256=model.sha256,
        trained_on=meta.trained_on,
        window=meta.window,
        window_domain=made.domain,
        reference_dwell_s=meta.reference_dwell_s,
        reference_dose_pC=meta.reference_dose_pC,
        simulated=recording.simulated,
        session=start,
        quality=flags_of(made.quality),
    )
    return series, tuple(refused)


def prepared_recording(model: Model, recording: Recording) -> Recording:
    """A recording as the model sees it: at the reference dose, on the model's energy axis, aligned to its reference.

    What a window on frames forecasts is such spectra, so this is what to hold its forecasts against; with the window on dose,
    as long as the frames have about the reference dose. Raises UnusableInputError where the recording
    does not cover the model's axis.
    """
    meta = model.metadata
    preparation = Preparation(
        recording.energy_axis, meta.energy_axis, pipeline.new_pipeline(meta).alignment, origin=recording.name
    )
    current_pA = None if meta.dose_is_relative else recording.beam_current_pA
    frames = len(recording.counts)
    scales = [
        normalisation(
            float(recording.dwell_s[frame]),
            None if current_pA is None else float(current_pA[frame]),
            meta.reference_dwell_s,
            meta.reference_dose_pC,
        )
        for frame in range(frames)
    ]
    prepared = [preparation(counts, scale) for counts, scale in zip(recording.counts, scales, strict=True)]
    return replace(
        recording,
        counts=np.stack([frame.counts for frame in prepared]),
        energy_axis=meta.energy_axis,
        dwell_s=np.full(frames, meta.reference_dwell_s),
        beam_current_pA=None
        if current_pA is None
        else np.full(frames, meta.reference_dose_pC / meta.reference_dwell_s),
        clean_counts=None,
    )


class _Made:
    """The forecasts made so far, in batches: what the batch at hand is made from is let go once it is."""

    def __init__(self, model: Model) -> None:
        self.from_seq: list[int] = []
        self.quality: list[tuple[QualityFlag, ...]] = []
        self.counts: list[NDArray[np.float32]] = []  # (batch, horizon, channel) each
        self.phase: list[NDArray[np.float32]] = []  # (batch, horizon) each
        self.domain: Literal["frame", "dose"] = "frame"
        self._model = model
        self._windows: list[NDArray[np.float32]] = []
        self._histories: list[NDArray[np.float32]] = []

    def take(self, accepted: Accepted) -> None:
        if accepted.window is None:
            return
        self.domain = accepted.domain
        self.from_seq.append(accepted.spectrum.seq)
        self.quality.append(accepted.quality)
        self._windows.append(accepted.window)
        self._histories.append(accepted.history)
        if len(self._windows) == BATCH:
            self.infer()

    def infer(self) -> None:
        if not self._windows:
            return
        counts, phase = self._model.forecast(np.stack(self._windows), np.stack(self._histories))
        self.counts.append(counts)
        self.phase.append(phase)
        self._windows, self._histories = [], []


def _require_frame(at: int | None, recording: Recording) -> None:
    frames = len(recording.counts)
    if at is not None and not 0 <= at < frames:
        raise UsageError(f"--at is {at}, and {recording.name} has the frames 0 to {frames - 1}.")


def _why_none(recording: Recording, model: Model, refused: list[RefusedFrame], at: int | None, needed: int) -> str:
    if at is not None and refused:
        return f"there is no forecast at frame {at} of {recording.name}: {refused[-1].reason}."
    frames = len(recording.counts)
    if refused:
        why = f"{len(refused)} of {frames} were refused; the first: {refused[0].reason}"
    else:
        why = f"it lacks {needed} more like the last"
    return (
        f"{recording.name} has {frames} frames, and nowhere enough usable ones in a row for a window of "
        f"{model.metadata.name}, {model.metadata.window} steps: {why}."
    )


def _session_start(recording: Recording) -> SessionStart:
    """What an instrument that plays this recording would say of it."""
    current_pA = recording.beam_current_pA
    return SessionStart(
        session=recording_sha256(recording)[:16],
        seq=0,
        sent_mono_ns=0,
        instrument="recording",
        source="simulation" if recording.simulated else "replay",
        source_name=printable(recording.name)[:MAX_TEXT],
        specimen=printable(recording.specimen)[:MAX_TEXT],
        energy_axis=recording.energy_axis,
        dwell_s=float(recording.dwell_s[0]),
        beam_energy_keV=recording.beam_energy_keV,
        beam_current_pA=None if current_pA is None else float(current_pA[0]),
        convergence_mrad=recording.convergence_mrad,
        collection_mrad=recording.collection_mrad,
        dose_is_relative=current_pA is None,
        expected_spectra=len(recording.counts),
        started_at=SOME_MOMENT,
        clock_id="recording",
    )


def _spectrum(recording: Recording, frame: int, start: SessionStart) -> Spectrum:
    current_pA = recording.beam_current_pA
    return Spectrum(
        session=start.session,
        seq=frame,
        sent_mono_ns=0,
        dtype="<f4",
        shape=(recording.energy_axis.size,),
        dwell_s=float(recording.dwell_s[frame]),
        beam_current_pA=None if current_pA is None else float(current_pA[frame]),
        acquired_at=SOME_MOMENT,
        acquired_until=SOME_MOMENT,
    )
