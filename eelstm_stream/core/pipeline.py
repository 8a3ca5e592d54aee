"""Forecasting state of one instrument: what every message from it does to the window. Pure.

Operations: `step` takes one message in, `tick` lets time pass. Both return a new state and events; the shell infers and
publishes what the events ask for. A spectrum that is refused leaves the window as it was.

The window is a run of spectra without a hole longer than MAX_GAP_SPECTRA: a longer one empties it, a shorter one stays
in it and is flagged on every forecast until it has passed through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.preparation import Preparation, Prepared
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import (
    MAX_COUNTS,
    MAX_SEQ,
    Counters,
    Gap,
    Message,
    Payload,
    QualityFlag,
    SessionEnd,
    SessionStart,
    Spectrum,
)

MAX_GAP_SPECTRA = 2  # lost spectra in a row that a window of 8 still bridges
ENDED_KEPT = 16  # sessions whose end is remembered: a snapshot that comes late repeats the last, or the one before
SILENT_AFTER_PERIODS = 5.0
SILENT_AFTER_AT_LEAST_S = 1.0  # a scheduler hiccup on a fast stream is not silence
DOSE_TOLERANCE = 0.1  # relative, as between training runs: at another dose per spectrum a step is another step
DWELL_TOLERANCE = (
    0.05  # relative; the paper found that a model fails at another dwell, the nearest of which was 1.25 times
)
MAX_SCALE = 1e4  # between a frame's dose and the reference dose; no experiment spans more, and products stay finite
RANGE_TOLERANCE = 0.1  # of the training data's range of counts, on either side
OUTSIDE_SHARE = 0.05  # of the channels, before it is worth a flag

Counts = NDArray[np.float32]
NOTHING_YET = Counters()


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A session has begun, and its spectra can be used."""

    session: SessionStart
    needed: int  # spectra until the window is full


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A session has begun whose spectra this model can't use."""

    session: SessionStart
    reason: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session has ended; the window is empty."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionUnknown:
    """A spectrum of a session whose start was not heard: the shell should ask the instrument for it."""

    session: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A spectrum has entered the window."""

    session: SessionStart
    spectrum: Spectrum
    prepared: Prepared
    variance_over_mean: float  # of the prepared counts, by the model's noise model
    window: Counts | None  # (window, channel), oldest first; None while filling
    history: Counts  # (channel,): mean of the session's prepared spectra so far
    needed: int  # spectra until the window is full; 0 where there is a window
    quality: tuple[QualityFlag, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Spectra are missing, by their numbers or by the instrument's word."""

    first_seq: int
    last_seq: int
    window_emptied: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A spectrum, or a session's new axis, that breaks the contract; `invalid` where it keeps the contract and holds no measurement."""

    seq: int
    reason: str
    invalid: bool = False


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing has come for several frame periods."""

    silent_s: float


Event = SessionOpened | SessionRefused | SessionClosed | SessionUnknown | Accepted | Lost | Refused | Silent


class OpenSession(NamedTuple):
    """What holds while one session lasts.

    A tuple, since replacing a field of a frozen dataclass takes twenty times as long, and this is done at every spectrum.
    """

    start: SessionStart
    preparation: Preparation
    standing_flags: tuple[QualityFlag, ...]  # true of every spectrum of the session
    window: tuple[tuple[int, Counts], ...] = ()  # (seq, prepared counts), oldest first, at most the model's window
    history_sum: NDArray[np.float64] | None = None  # (channel,): sum of the prepared spectra
    spectra_taken_in: int = 0
    newest_seq: int = -1
    previous: Payload | None = None  # newest accepted payload as received, to tell a frozen camera
    newest_dwell_s: float | None = None  # a controller may change it within the session
    last_arrival_ns: int = 0
    is_silent: bool = False
    doubt: str | None = None  # why its axis is in doubt: nobody knows then what a spectrum's channels mean


class Pipeline(NamedTuple):
    """Forecasting state of one instrument. No clock, no sockets, no onnxruntime."""

    model: ModelMetadata
    alignment: Alignment
    session: OpenSession | None = None
    refused_session: str | None = None  # its spectra are counted and otherwise ignored
    ended_sessions: tuple[str, ...] = ()  # the newest, also of sessions that were never open here
    counters: Counters = NOTHING_YET


def new_pipeline(model: ModelMetadata) -> Pipeline:
    """A pipeline that waits for a session. Raises UnusableInputError for a model that this version can't serve."""
    if model.window_domain != "frame":
        raise UnusableInputError(
            f"{model.name} wants its window on {model.window_domain}, and this version makes windows of frames only."
        )
    try:
        alignment = Alignment(
            model.alignment_reference, model.energy_axis, model.alignment_range_eV, model.alignment_max_shift_eV
        )
    except ValueError as error:
        raise UnusableInputError(f"{model.name} can't be aligned to: {error}.") from None
    return Pipeline(model, alignment)


def step(state: Pipeline, message: Message, payload: Payload | None, now_ns: int) -> tuple[Pipeline, list[Event]]:
    """Take one message and its payload in; say what follows from them. now_ns: the receiver's monotonic clock."""
    match message:
        case SessionStart():
            return _open(state, message, now_ns)
        case SessionEnd():
            return _close(state, message)
        case Gap():
            return _gap(state, message)
        case Spectrum() if payload is not None:
            return _spectrum(state, message, payload, now_ns)
        case _:
            return state, []  # kinds that are not the forecaster's business


def tick(state: Pipeline, now_ns: int) -> tuple[Pipeline, list[Event]]:
    """Let time pass: a source that has gone silent is said to be, once."""
    session = state.session
    if session is None or session.is_silent:
        return state, []
    period_s = frame_period_s(session.start, session.newest_dwell_s or session.start.dwell_s)
    silent_s = (now_ns - session.last_arrival_ns) / 1e9
    if silent_s < max(SILENT_AFTER_PERIODS * period_s, SILENT_AFTER_AT_LEAST_S):
        return state, []
    return state._replace(session=session._replace(is_silent=True)), [Silent(silent_s)]


def frame_period_s(start: SessionStart, dwell_s: float) -> float:
    """Start-to-start time of spectra at a dwell, s: the dwell and the pause after it, which is the session's own."""
    pause_s = 0.0 if start.frame_period_s is None else max(0.0, start.frame_period_s - start.dwell_s)
    return dwell_s + pause_s


def _open(state: Pipeline, start: SessionStart, now_ns: int) -> tuple[Pipeline, list[Event]]:
    if state.session is not None and state.session.start.session == start.session:
        return _announced_again(state, state.session, start)
    if start.session == state.refused_session:
        return state, []  # said once
    if start.session in state.ended_sessions:
        return state, []  # a snapshot taken before the end, arriving after it
    origin = f"{start.source_name or start.instrument} (session {start.session})"
    try:
        preparation = Preparation(start.energy_axis, state.model.energy_axis, state.alignment, origin=origin)
    except UnusableInputError as error:
        refused = state._replace(session=None, refused_session=start.session, counters=NOTHING_YET)
        return refused, [SessionRefused(start, str(error))]
    session = OpenSession(start, preparation, _standing_flags(state.model, start, preparation), last_arrival_ns=now_ns)
    opened = state._replace(session=session, refused_session=None, counters=NOTHING_YET)
    return opened, [SessionOpened(start, state.model.window)]


def _announced_again(state: Pipeline, session: OpenSession, start: SessionStart) -> tuple[Pipeline, list[Event]]:
    """A snapshot repeats a session's start, and changes nothing. One with another axis contradicts it, until it's repeated."""
    began_on, axis = session.start.energy_axis, start.energy_axis
    if axis == began_on:
        return state._replace(session=session._replace(doubt=None)), []
    doubt = f"its session began on {began_on}, and was announced again on {axis}"
    return state._replace(session=session._replace(doubt=doubt)), [
        Refused(start.seq, f"the session's new axis: {doubt}")
    ]


def _standing_flags(model: ModelMetadata, start: SessionStart, preparation: Preparation) -> tuple[QualityFlag, ...]:
    flags = []
    if preparation.is_resampling:
        flags.append(QualityFlag(flag="resampled", reason=f"from {start.energy_axis} to {model.energy_axis}"))
    return tuple(flags)


def _close(state: Pipeline, end: SessionEnd) -> tuple[Pipeline, list[Event]]:
    state = state._replace(ended_sessions=(*state.ended_sessions, end.session)[-ENDED_KEPT:])
    if state.session is None or state.session.start.session != end.session:
        return state, []
    text = f"{end.reason} after {end.spectra} spectra{': ' + end.text if end.text else ''}"
    return state._replace(session=None), [SessionClosed(text)]


def _gap(state: Pipeline, gap: Gap) -> tuple[Pipeline, list[Event]]:
    session = state.session
    if session is None or session.start.session != gap.session or gap.last_seq <= session.newest_seq:
        return state, []
    # Messages keep their order: what was not heard before the gap won't come after it either.
    first = gap.first_seq if session.newest_seq < 0 else session.newest_seq + 1
    session, lost = _skip(session, first, gap.last_seq)
    return _count(state._replace(session=session), lost=gap.last_seq - first + 1), [lost]


def _skip(session: OpenSession, first_seq: int, last_seq: int) -> tuple[OpenSession, Lost]:
    """The session after losing spectra first_seq to last_seq."""
    newest_in_window = session.window[-1][0] if session.window else None
    too_long = newest_in_window is not None and last_seq - newest_in_window > MAX_GAP_SPECTRA
    window = () if too_long else session.window
    return session._replace(window=window, newest_seq=last_seq), Lost(first_seq, last_seq, too_long)


def _spectrum(state: Pipeline, spectrum: Spectrum, counts: Payload, now_ns: int) -> tuple[Pipeline, list[Event]]:
    session = state.session
    if session is None or session.start.session != spectrum.session:
        if spectrum.session == state.refused_session:
            return _count(state, refused=1), []
        if spectrum.session in state.ended_sessions:
            return _count(state, late=1), []
        return _count(state, refused=1), [SessionUnknown(spectrum.session)]
    if spectrum.seq <= session.newest_seq:
        seen = any(seq == spectrum.seq for seq, _ in session.window)
        return _count(state, duplicate=int(seen), late=int(not seen)), []

    session = session._replace(last_arrival_ns=now_ns, is_silent=False)
    scale = _scale(state.model, spectrum)
    fault = _contract_fault(session, spectrum, counts) or _scale_fault(state.model, spectrum, scale)
    if fault is not None:
        # Its number is not taken as seen: the window is as it was, and a good copy may still come.
        return _count(state._replace(session=session), refused=1), [Refused(spectrum.seq, fault)]

    events: list[Event] = []
    lost_before = spectrum.seq - session.newest_seq - 1
    joined_late = session.newest_seq < 0
    if lost_before and not joined_late:  # what came before this program listened is not lost
        session, lost = _skip(session, session.newest_seq + 1, spectrum.seq - 1)
        state = _count(state, lost=lost_before)
        events.append(lost)

    invalid = _measurement_fault(session, counts)
    if invalid is not None:
        session, _ = _skip(session, spectrum.seq, spectrum.seq)
        session = session._replace(previous=counts)
        state = _count(state._replace(session=session), invalid=1)
        return state, [*events, Refused(spectrum.seq, invalid, invalid=True)]

    session, accepted = _accept(state.model, session, spectrum, counts, scale)
    return _count(state._replace(session=session), spectra=1), [*events, accepted]


def _contract_fault(session: OpenSession, spectrum: Spectrum, counts: Payload) -> str | None:
    """What makes a spectrum one that should never have been sent."""
    if session.doubt is not None:
        return f"spectrum {spectrum.seq}: {session.doubt}"
    size = session.start.energy_axis.size
    if counts.shape != (size,):
        return f"spectrum {spectrum.seq} has {counts.shape[0]} channels, and its session {size}"
    lowest, highest = int(np.argmin(counts)), int(np.argmax(counts))  # a NaN counts as the lowest and as the highest
    if counts[lowest] >= 0 and counts[highest] <= MAX_COUNTS:
        return None
    if not np.isfinite(counts).all():
        return f"spectrum {spectrum.seq} holds numbers that are not finite"
    if counts[lowest] < 0:
        return f"spectrum {spectrum.seq} has negative counts ({counts[lowest]:.1f} in channel {lowest})"
    return f"spectrum {spectrum.seq} has {counts[highest]:.3g} counts in channel {highest}, more than any camera's"


def _scale(model: ModelMetadata, spectrum: Spectrum) -> float:
    current_pA = None if model.dose_is_relative else spectrum.beam_current_pA
    return normalisation(spectrum.dwell_s, current_pA, model.reference_dwell_s, model.reference_dose_pC)


def _scale_fault(model: ModelMetadata, spectrum: Spectrum, scale: float) -> str | None:
    if 1 / MAX_SCALE <= scale <= MAX_SCALE:
        return None
    return (
        f"spectrum {spectrum.seq}: its dose is {1 / scale:.3g} times the model's {model.reference_dose_pC:g} pC, "
        f"too far from it to be normalised"
    )


def _measurement_fault(session: OpenSession, counts: Payload) -> str | None:
    """What makes a well-formed spectrum no measurement."""
    highest = float(counts.max())
    if highest <= 0:
        return "no counts in any channel: the beam is off or the camera is not read"
    limit = session.start.saturation_counts
    if counts.dtype.kind == "u":
        full = float(2 ** (8 * counts.dtype.itemsize) - 1)
        limit = full if limit is None else min(limit, full)
    if limit is not None and highest >= limit:
        return f"saturated: {int((counts >= limit).sum())} channels at {limit:g} counts"
    if session.previous is not None and np.array_equal(counts, session.previous):
        return "the same counts in every channel as the spectrum before: the camera is frozen"
    return None


def _accept(
    model: ModelMetadata, session: OpenSession, spectrum: Spectrum, counts: Payload, scale: float
) -> tuple[OpenSession, Accepted]:
    prepared = session.preparation(counts, scale)
    window = (*session.window, (spectrum.seq, prepared.counts))[-model.window :]
    counts_so_far = prepared.counts.astype(np.float64)
    if session.history_sum is not None:
        counts_so_far += session.history_sum
    taken_in = session.spectra_taken_in + 1
    session = session._replace(
        window=window,
        history_sum=counts_so_far,
        spectra_taken_in=taken_in,
        newest_seq=spectrum.seq,
        newest_dwell_s=spectrum.dwell_s,
        previous=counts,
    )
    needed = model.window - len(window)
    full = np.stack([c for _, c in window]) if needed == 0 else None
    return session, Accepted(
        session=session.start,
        spectrum=spectrum,
        prepared=prepared,
        variance_over_mean=model.variance_over_mean * scale,  # scaled counts have scale² times the variance
        window=full,
        history=(counts_so_far / taken_in).astype(np.float32),
        needed=needed,
        quality=_quality(model, session, spectrum, prepared, 1 / scale),
    )


def _quality(
    model: ModelMetadata, session: OpenSession, spectrum: Spectrum, prepared: Prepared, dose_ratio: float
) -> tuple[QualityFlag, ...]:
    flags = list(session.standing_flags)
    missing = session.window[-1][0] - session.window[0][0] + 1 - len(session.window)
    if missing:
        flags.append(QualityFlag(flag="gap_in_window", reason=f"{missing} spectra are missing inside the window"))
    if not prepared.shift.trusted:
        flags.append(
            QualityFlag(
                flag="alignment_uncertain",
                reason=f"not aligned: correlation with the reference {prepared.shift.correlation:.2f}",
            )
        )
    if abs(spectrum.dwell_s / model.reference_dwell_s - 1) > DWELL_TOLERANCE:
        flags.append(
            QualityFlag(
                flag="dwell_differs_from_training",
                reason=f"dwell {spectrum.dwell_s:g} s, trained at {model.reference_dwell_s:g} s",
            )
        )
    if model.dose_is_relative or spectrum.beam_current_pA is None:
        unknown = "the model was trained" if model.dose_is_relative else "this spectrum was taken"
        reason = f"{unknown} at an unknown beam current: only the dwell is normalised"
        flags.append(QualityFlag(flag="dose_is_relative", reason=reason))
    elif abs(dose_ratio - 1) > DOSE_TOLERANCE:
        reason = f"{dose_ratio:.3g} times the dose per spectrum of the training, {model.reference_dose_pC:g} pC"
        flags.append(QualityFlag(flag="dose_differs_from_training", reason=reason))
    margin = RANGE_TOLERANCE * (model.counts_high - model.counts_low)
    outside = (prepared.counts < model.counts_low - margin) | (prepared.counts > model.counts_high + margin)
    share = float(np.count_nonzero(outside)) / outside.size
    if share > OUTSIDE_SHARE:
        flags.append(
            QualityFlag(
                flag="outside_training_range",
                reason=f"{share:.0%} of the channels are outside the counts that the model was trained on",
            )
        )
    return tuple(flags)


def _count(state: Pipeline, **by: int) -> Pipeline:
    counters = state.counters
    return state._replace(
        counters=counters.model_copy(update={name: min(getattr(counters, name) + n, MAX_SEQ) for name, n in by.items()})
    )
