"""Forecasting state of one instrument: what every message from it does to the window. Pure.

Operations: `step` takes one message in, `tick` lets time pass. Both return a new state and events; the shell infers and
publishes what the events ask for. A spectrum that is refused leaves the window as it was.

The window is a run of spectra without a long hole (`frame_window`, `dose_window`): a longer one empties it, a shorter one
stays in it and is flagged on every forecast until it has passed through.

To forecast without a wire, in a loop of your own:

    state = new_pipeline(model.metadata)                        # model: io.model_file.open_model(path)
    state, _ = step(state, session_start, None, now_ns)         # a SessionStart; without its current, the window is on frames
    state, events = step(state, spectrum, counts, now_ns)       # a Spectrum and its (channel,) counts; now_ns never falls
    for event in events:
        if isinstance(event, Accepted) and event.window is not None:
            counts, phase = model.forecast(event.window[None], event.history[None])     # (1, horizon, channel), (1, horizon)

`phase[0, i]` is then the phase of the step that ends `horizons[i]` reference doses after this spectrum's end (`event.domain` is
"dose"), or of the spectrum that many numbers on ("frame"). `event.newest` with `event.variance_over_mean` gives the phase now
(`model.metadata.phase.measure`). States are immutable: keep one, and step from it as often as you like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.alignment import Alignment
from eelstm_stream.core.fitness import contract_fault, measurement_fault, scale_fault, scale_of
from eelstm_stream.core.model_contract import ModelMetadata
from eelstm_stream.core.preparation import Preparation, Prepared
from eelstm_stream.core.quality import quality_of
from eelstm_stream.core.session_phase import SessionPhase
from eelstm_stream.core.window import Window, WindowDomain, new_window, require_servable, step_s
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import (
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

ENDED_KEPT = 16  # sessions whose end is remembered: a snapshot that comes late repeats the last, or the one before
SILENT_AFTER_PERIODS = 5.0
SILENT_AFTER_AT_LEAST_S = 1.0  # a scheduler hiccup on a fast stream is not silence
REPEATS_KEPT = 64  # newest numbers by which a spectrum that comes twice is told from one that comes late

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


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """A spectrum has entered the window."""

    session: SessionStart
    spectrum: Spectrum
    prepared: Prepared  # the spectrum by itself
    past: Window  # what the arrays here are cut from, and later steps are held against
    window: Counts | None  # (window, channel), oldest first; None while filling
    history: Counts  # (channel,): mean of the session so far, at the reference dose
    newest: Counts  # (channel,): the window's newest step, or what there is of it
    variance_over_mean: float  # of `newest`, by the model's noise model
    needed: int  # spectra until the window is full; 0 where there is a window
    quality: tuple[QualityFlag, ...]
    phase: SessionPhase | None = None  # this session's scale of phase; None where the model brings none

    @property
    def domain(self) -> Literal["frame", "dose"]:
        """What a step of the window and the horizon counts."""
        return self.past.domain

    def starts_after_s(self, horizon: int) -> float:
        """From the start of this exposure to that of the step `horizon` ahead, if dwell, current and pauses stay as they are."""
        period_s = frame_period_s(self.session, self.spectrum.dwell_s)
        return period_s + (horizon - 1) * step_s(self.past, period_s)


@dataclass(frozen=True, slots=True)
class Lost:
    """Spectra are missing, by their numbers or by the instrument's word."""

    first_seq: int
    last_seq: int
    window_emptied: bool
    needed: int = 0  # where it is: spectra until it is full


@dataclass(frozen=True, slots=True)
class Unseen:
    """The specimen received so much dose between two spectra, none of which was lost, that the window is empty."""

    before_seq: int
    needed: int  # spectra until it is full


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


Event = SessionOpened | SessionRefused | SessionClosed | SessionUnknown | Accepted | Lost | Unseen | Refused | Silent


class OpenSession(NamedTuple):
    """What holds while one session lasts.

    A tuple, since replacing a field of a frozen dataclass takes twenty times as long, and this is done at every spectrum.
    """

    start: SessionStart
    preparation: Preparation
    window: Window
    standing_flags: tuple[QualityFlag, ...]  # true of every spectrum of the session
    phase: SessionPhase | None = None
    accepted: tuple[int, ...] = ()  # newest seqs taken into the window
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
    window_domain: WindowDomain = "auto"
    session: OpenSession | None = None
    refused_session: str | None = None  # its spectra are counted and otherwise ignored
    ended_sessions: tuple[str, ...] = ()  # the newest, also of sessions that were never open here
    counters: Counters = NOTHING_YET


def new_pipeline(model: ModelMetadata, window_domain: WindowDomain = "auto") -> Pipeline:
    """A pipeline that waits for a session. Raises UnusableInputError for a model that can't be served on this window.

    window_domain: what the window runs on; `auto` is dose wherever the current is known, and frames elsewhere.
    """
    require_servable(model, window_domain)
    try:
        alignment = Alignment(
            model.alignment_reference, model.energy_axis, model.alignment_range_eV, model.alignment_max_shift_eV
        )
    except ValueError as error:
        raise UnusableInputError(f"{model.name} can't be aligned to: {error}.") from None
    return Pipeline(model, alignment, window_domain)


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
        window = new_window(state.model, start, preparation, state.window_domain)
    except UnusableInputError as error:
        refused = state._replace(session=None, refused_session=start.session, counters=NOTHING_YET)
        return refused, [SessionRefused(start, str(error))]
    flags = _standing_flags(state.model, start, preparation)
    phase = SessionPhase.new(state.model)
    session = OpenSession(start, preparation, window, flags, phase, last_arrival_ns=now_ns)
    opened = state._replace(session=session, refused_session=None, counters=NOTHING_YET)
    return opened, [SessionOpened(start, window.needed)]


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
    session, lost = _lose(session, first, gap.last_seq)
    return _count(state._replace(session=session), lost=gap.last_seq - first + 1), [lost]


def _lose(
    session: OpenSession, first_seq: int, last_seq: int, received_before: float | None = None
) -> tuple[OpenSession, Lost]:
    """The session after losing spectra, which were such as the newest. received_before: reference doses until the next one."""
    steps = (last_seq - first_seq + 1) * session.window.frame_steps
    window = session.window.skipped(last_seq, steps, received_before)
    emptied = window.is_empty and not session.window.is_empty
    lost = Lost(first_seq, last_seq, emptied, window.needed if emptied else 0)
    return session._replace(window=window, newest_seq=last_seq), lost


def _spectrum(state: Pipeline, spectrum: Spectrum, counts: Payload, now_ns: int) -> tuple[Pipeline, list[Event]]:
    session = state.session
    if session is None or session.start.session != spectrum.session:
        if spectrum.session == state.refused_session:
            return _count(state, refused=1), []
        if spectrum.session in state.ended_sessions:
            return _count(state, late=1), []
        return _count(state, refused=1), [SessionUnknown(spectrum.session)]
    if spectrum.seq <= session.newest_seq:
        seen = spectrum.seq in session.accepted
        return _count(state, duplicate=int(seen), late=int(not seen)), []

    session = session._replace(last_arrival_ns=now_ns, is_silent=False)
    scale = scale_of(state.model, spectrum)
    fault = f"spectrum {spectrum.seq}: {session.doubt}" if session.doubt is not None else None
    fault = fault or contract_fault(session.start, spectrum, counts) or scale_fault(state.model, spectrum, scale)
    if fault is not None:
        # Its number is not taken as seen: the window is as it was, and a good copy may still come.
        return _count(state._replace(session=session), refused=1), [Refused(spectrum.seq, fault)]

    events: list[Event] = []
    before = None if spectrum.dose_before_pC is None else spectrum.dose_before_pC / state.model.reference_dose_pC
    lost_before = spectrum.seq - session.newest_seq - 1
    joined_late = session.newest_seq < 0
    if lost_before and not joined_late:  # what came before this program listened is not lost
        session, lost = _lose(session, session.newest_seq + 1, spectrum.seq - 1, before)
        state = _count(state, lost=lost_before)
        events.append(lost)

    invalid = measurement_fault(session.start, counts, session.previous)
    session = session._replace(newest_seq=spectrum.seq, previous=counts)
    if invalid is not None:
        window = session.window.reached(before).skipped(spectrum.seq, 1 / scale)
        state = _count(state._replace(session=session._replace(window=window)), invalid=1)
        return state, [*events, Refused(spectrum.seq, invalid, invalid=True)]

    reached = session.window.reached(before)
    if reached.is_empty and not session.window.is_empty:
        events.append(Unseen(spectrum.seq, reached.needed))
    window, prepared = reached.take(spectrum.seq, counts, scale, session.preparation, before)
    session = session._replace(
        window=window,
        accepted=(*session.accepted, spectrum.seq)[-REPEATS_KEPT:],
        newest_dwell_s=spectrum.dwell_s,
    )
    session, accepted = _accepted(state.model, session, spectrum, prepared)
    return _count(state._replace(session=session), spectra=1), [*events, accepted]


def _accepted(
    model: ModelMetadata, session: OpenSession, spectrum: Spectrum, prepared: Prepared
) -> tuple[OpenSession, Accepted]:
    window = session.window
    counts, history = window.counts(), window.history()
    newest, variance_factor = window.newest(counts)
    phase = session.phase and session.phase.with_spectrum(
        model, spectrum, history, window.measured_steps, model.variance_over_mean
    )
    return session._replace(phase=phase), Accepted(
        session=session.start,
        spectrum=spectrum,
        prepared=prepared,
        past=window,
        window=counts,
        history=history,
        newest=newest,
        variance_over_mean=model.variance_over_mean * variance_factor,
        needed=window.needed,
        quality=(*session.standing_flags, *quality_of(model, spectrum, window, prepared.shift, newest)),
        phase=phase,
    )


def _count(state: Pipeline, **by: int) -> Pipeline:
    counters = state.counters
    return state._replace(
        counters=counters.model_copy(update={name: min(getattr(counters, name) + n, MAX_SEQ) for name, n in by.items()})
    )
