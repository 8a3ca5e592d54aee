"""Every message on the wire: one pydantic class a document. This module is the reference of the wire.

Rules that hold for all of them: numbers are finite and counts bounded; times are UTC; a `*_mono_ns` is read from the
sender's monotonic clock, and two of them compare only when their sessions name the same `clock_id`. Fields may be added
with defaults and are never retyped. Data messages ignore fields that they do not know; commands refuse them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_CHANNELS = 65_536  # a spectrometer camera has at most a few thousand columns; this leaves room, and bounds memory
MAX_HORIZONS = 64
MAX_COUNTS = (
    1e9  # in one channel of one frame: far above any camera's full well, far below float32's overflow when squared
)
MAX_SEQ = 2**53 - 1  # the largest integer that a JSON reader in any language keeps exact

Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFinite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Bounds that no instrument meets, so that arithmetic on what a sender says can't overflow.
MIN_S, MAX_S = 1e-9, 86_400.0
MIN_PA, MAX_PA = 1e-6, 1e9
Seconds = Annotated[float, Field(ge=MIN_S, le=MAX_S, allow_inf_nan=False)]
Picoamperes = Annotated[float, Field(ge=MIN_PA, le=MAX_PA, allow_inf_nan=False)]
RmsCounts = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Nanoseconds = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
InstrumentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
MAX_TEXT = 2000
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Payload = NDArray[np.float32] | NDArray[np.uint16] | NDArray[np.uint32]


def _within_calendar(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise ValueError("lies outside the years 1970 to 2199")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_within_calendar)]
PayloadDtype = Literal["<f4", "<u2", "<u4"]


class Document(BaseModel):
    """Base of everything in a header: immutable, strict about types, tolerant of fields from a newer sender."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)


class Message(Document):
    """What every header carries."""

    SCHEMA: ClassVar[str]  # name/version: the only value that the `schema` field takes
    KIND: ClassVar[str]  # the row of `topics.TOPICS` that it travels on

    schema_: str = Field(alias="schema", description="name and version of this message's schema, as name/version")
    session: Name = Field(description="uid of the acquisition session; a new one means a clean start")
    seq: Seq = Field(description="strictly increasing among one sender's messages of this kind within a session")
    sent_mono_ns: Nanoseconds = Field(
        description="sender's monotonic clock when the message was handed to its socket, ns"
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls.SCHEMA = cls.model_fields["schema_"].default


class EnergyAxis(Document):
    """Energy-loss axis: channel i is centred on `offset_eV + i × dispersion_eV`."""

    offset_eV: Finite = Field(ge=-1e5, le=1e6, description="energy loss at the centre of channel 0, eV")
    dispersion_eV: PositiveFinite = Field(ge=1e-5, le=1e4, description="energy per channel, eV")
    size: int = Field(ge=1, le=MAX_CHANNELS, description="number of channels")

    @property
    def first_eV(self) -> float:
        """Lower edge of the first channel, eV."""
        return self.offset_eV - self.dispersion_eV / 2

    @property
    def last_eV(self) -> float:
        """Upper edge of the last channel, eV."""
        return self.offset_eV + (self.size - 0.5) * self.dispersion_eV

    def __str__(self) -> str:
        centre_eV = self.offset_eV + (self.size - 1) * self.dispersion_eV
        return f"{self.offset_eV:.1f} to {centre_eV:.1f} eV at {self.dispersion_eV:g} eV"


class CommandLimits(Document):
    """What an instrument that takes commands accepts, and how soon it follows. A command beyond a limit is refused whole."""

    min_dwell_s: Seconds
    max_dwell_s: Seconds
    min_current_pA: Picoamperes | None = Field(
        None, description="absent, as its maximum, where no current can be ordered"
    )
    max_current_pA: Picoamperes | None = None
    max_lease_s: Seconds
    delay_frames: Count = Field(0, description="frames that still begin with the old dwell and current")
    delay_s: NonNegativeFinite = Field(0.0, description="time until a new dwell or current holds, if that is longer")
    blank_delay_s: NonNegativeFinite = Field(0.0, description="time until the blanker has moved")


class SessionStart(Message):
    """An acquisition begins: everything that a reader must know to use the spectra that follow. No payload."""

    KIND: ClassVar[str] = "session"

    schema_: Literal["eelstm.session_start/1"] = Field("eelstm.session_start/1", alias="schema")
    instrument: InstrumentName = Field(description="first part of every topic of this instrument")
    source: Literal["instrument", "replay", "simulation"] = Field(description="where the spectra come from")
    source_name: Text = Field("", description="file, preset or camera behind the source")
    specimen: Text = Field("", description="what is under the beam")
    energy_axis: EnergyAxis = Field(description="axis of every spectrum of this session")
    dwell_s: Seconds = Field(description="exposure per spectrum at the start, s")
    frame_period_s: Seconds | None = Field(None, description="start-to-start time of spectra, s; absent: the dwell")
    beam_energy_keV: PositiveFinite | None = Field(None, description="beam energy, keV; absent where unknown")
    beam_current_pA: Picoamperes | None = Field(None, description="probe current, pA; absent where unknown")
    convergence_mrad: NonNegativeFinite | None = Field(None, description="convergence semi-angle, mrad")
    collection_mrad: NonNegativeFinite | None = Field(None, description="collection semi-angle, mrad")
    probe_area_A2: PositiveFinite | None = Field(None, description="illuminated area, Å², for fluence")
    dose_is_relative: bool = Field(description="true where the current is unknown and counts as 1 in every dose")
    saturation_counts: PositiveFinite | None = Field(None, description="counts at which a channel saturates, if known")
    expected_spectra: Count | None = Field(None, description="number of spectra, where it is known beforehand")
    commands: CommandLimits | None = Field(None, description="absent where the instrument takes no commands")
    started_at: Moment = Field(description="start of the session, UTC")
    clock_id: Name = Field(
        description="names the clock behind every sent_mono_ns of this sender (one boot of one host)"
    )


class SessionEnd(Message):
    """An acquisition has ended. No payload."""

    KIND: ClassVar[str] = "session"

    schema_: Literal["eelstm.session_end/1"] = Field("eelstm.session_end/1", alias="schema")
    reason: Literal["finished", "stopped", "failed"] = Field(description="why it ended")
    text: Text = Field("", description="one sentence on the reason, where there is more to say")
    spectra: Count = Field(description="number of spectra that were published in the session")


class Gap(Message):
    """Spectra that the source knows to be lost. They are never filled in. No payload."""

    KIND: ClassVar[str] = "session"

    schema_: Literal["eelstm.gap/1"] = Field("eelstm.gap/1", alias="schema")
    first_seq: Seq = Field(description="first lost spectrum")
    last_seq: Seq = Field(description="last lost spectrum")
    reason: Text = Field(description="why they were lost")

    @model_validator(mode="after")
    def _ordered(self) -> Gap:
        if self.last_seq < self.first_seq:
            raise ValueError("last_seq is before first_seq")
        return self


class Spectrum(Message):
    """One acquired spectrum. Payload: `(channel,)` float32, uint16 or uint32 counts, little-endian."""

    KIND: ClassVar[str] = "spectrum"

    schema_: Literal["eelstm.spectrum/1"] = Field("eelstm.spectrum/1", alias="schema")
    dtype: PayloadDtype = Field(description="element type of the payload, as numpy writes it")
    shape: tuple[Annotated[int, Field(ge=1, le=MAX_CHANNELS)]] = Field(description="(channel,)")
    dwell_s: Seconds = Field(description="exposure of this frame, s")
    beam_current_pA: Picoamperes | None = Field(None, description="probe current, pA; absent where unknown")
    dose_pC: PositiveFinite | None = Field(
        None, description="beam_current_pA × dwell_s; absent where the current is unknown"
    )
    dose_before_pC: NonNegativeFinite | None = Field(
        None,
        description="all that the specimen received in this session before this frame, frames without a spectrum too",
    )
    acquired_at: Moment = Field(description="start of exposure, UTC")
    acquired_until: Moment = Field(description="end of exposure, UTC")


class Interval(Document):
    """A value with its 95 % interval."""

    value: Finite
    low: Finite
    high: Finite


class QualityFlag(Document):
    """Something that a reader should know before trusting a forecast."""

    flag: Literal[
        "gap_in_window",
        "alignment_uncertain",
        "outside_training_range",
        "dwell_differs_from_training",
        "dose_differs_from_training",
        "dose_is_relative",
        "resampled",
    ]
    reason: Text


class CameTrue(Document):
    """How the forecasts that aimed at the newest spectrum turned out. Errors over channels, counts at the reference dose."""

    horizon: int = Field(ge=1, le=MAX_HORIZONS, description="steps ahead at which the forecast was made")
    rmse: RmsCounts = Field(description="of the forecast")
    rmse_persistence: RmsCounts = Field(description="of the newest spectrum at the time of the forecast")
    rmse_window_mean: RmsCounts = Field(description="of the mean of the window at the time of the forecast")


class LiveSkill(Document):
    """Errors of this session's forecasts that have come true so far, over spectra, channels and horizons."""

    matured: Count = Field(description="number of (spectrum, horizon) pairs behind these figures")
    rmse: RmsCounts = Field(description="of the forecasts, counts at the reference dose")
    rmse_persistence: RmsCounts = Field(description="of persistence on the same pairs")
    rmse_window_mean: RmsCounts = Field(description="of the mean of the window on the same pairs")
    noise_floor: RmsCounts | None = Field(
        None,
        description="rms noise of one spectrum, from second differences of consecutive spectra; absent before three",
    )
    skill: Finite = Field(description="1 − MSE / MSE of persistence; 0 is no better, negative is worse")
    skill_against_mean: Finite = Field(
        0.0, description="1 − MSE / MSE of the mean of the window, the harder one to beat"
    )


class StageLatency(Document):
    """Where the time of one forecast went, ns."""

    queued_ns: Nanoseconds = Field(description="from the source's send to the forecaster taking it up")
    prepared_ns: Nanoseconds = Field(description="decoding, normalising, resampling, aligning")
    inferred_ns: Nanoseconds = Field(description="onnxruntime, for the whole batch")
    batch: int = Field(ge=1, le=MAX_SEQ, description="number of windows in the batch")


class Summary(Message):
    """A forecast without its spectra. No payload."""

    KIND: ClassVar[str] = "summary"

    schema_: Literal["eelstm.summary/1"] = Field("eelstm.summary/1", alias="schema")
    from_seq: Seq = Field(description="newest spectrum in the window")
    spectrum_sent_mono_ns: Nanoseconds = Field(description="that spectrum's sent_mono_ns: latency is counted from it")
    clock_id: Name = Field(description="names the clock of spectrum_sent_mono_ns, as in the session start")
    model_name: Name = Field(description="name in the model's metadata")
    model_sha256: Sha256 = Field(description="hash of the model file")
    window: Count = Field(description="number of spectra in the window")
    horizons: tuple[Annotated[int, Field(ge=1, le=MAX_HORIZONS)], ...] = Field(
        min_length=1,
        max_length=MAX_HORIZONS,
        description="steps ahead: 1 is the next spectrum, or the next reference dose where window_domain is dose",
    )
    valid_at: tuple[AwareDatetime, ...] = Field(  # unbounded: it lies a few frames after a Moment
        max_length=MAX_HORIZONS,
        description="for each horizon, when the exposure of the step that it forecasts is expected to start",
    )
    window_domain: Literal["frame", "dose"] = Field(description="what a step of the window and the horizon counts")
    reference_dose_pC: PositiveFinite = Field(
        description="dose to which all counts here are normalised, and that each step assumes"
    )
    reference_dwell_s: Seconds = Field(description="dwell that goes with it in the model's training data")
    simulated: bool = Field(description="true unless the spectra come from an instrument or a recording of one")
    trained_on: Text = Field("", description="what the model learnt from; says so when that was simulated")
    at_dose_pC: NonNegativeFinite | None = Field(
        None,
        description="all that the specimen received in this session by the end of from_seq; absent where it is not known",
    )
    phase_now: Interval | None = Field(
        None, description="damage coordinate of the newest step of the window: 0 pristine, 1 transformed"
    )
    phase: tuple[Interval, ...] = Field(max_length=MAX_HORIZONS, description="damage coordinate at each horizon")
    fraction_now: Interval | None = Field(
        None,
        description="phase of the newest spectrum, calibrated to this session's start: transformed fraction; interval "
        "from counting noise",
    )
    fraction: tuple[Interval, ...] | None = Field(
        None, max_length=MAX_HORIZONS, description="the same at each horizon; absent where the model brings no scale"
    )
    fraction_scatter: NonNegativeFinite | None = Field(
        None,
        description="standard deviation, from specimen to specimen, of the calibration's error at fraction_now: one for "
        "all forecasts of a session, so that it does not average out",
    )
    came_true: tuple[CameTrue, ...] = Field(
        (), max_length=MAX_HORIZONS, description="forecasts whose step ended with from_seq"
    )
    skill: LiveSkill | None = Field(None, description="absent until a forecast has come true")
    quality: tuple[QualityFlag, ...] = Field((), max_length=16)
    latency: StageLatency

    @model_validator(mode="after")
    def _one_value_a_horizon(self) -> Self:
        if not len(self.horizons) == len(self.valid_at) == len(self.phase):
            raise ValueError("horizons, valid_at and phase differ in length")
        return self


class Forecast(Summary):
    """A forecast. Payload: `(horizon, channel)` float32 counts at the reference dose, little-endian, C order."""

    KIND: ClassVar[str] = "forecast"

    schema_: Literal["eelstm.forecast/1"] = Field("eelstm.forecast/1", alias="schema")  # type: ignore[assignment]
    energy_axis: EnergyAxis = Field(description="axis of the payload's channels (the model's, not the camera's)")
    dtype: Literal["<f4"] = Field("<f4", description="element type of the payload, as numpy writes it")
    shape: tuple[
        Annotated[int, Field(ge=1, le=MAX_HORIZONS)],
        Annotated[int, Field(ge=1, le=MAX_CHANNELS)],
    ] = Field(description="(horizon, channel)")

    @model_validator(mode="after")
    def _consistent(self) -> Forecast:
        if self.shape != (len(self.horizons), self.energy_axis.size):
            raise ValueError("shape is not (number of horizons, size of the energy axis)")
        return self


class Counters(Document):
    """What a forecaster has seen and done in its session."""

    spectra: Count = Field(0, description="spectra taken into the window")
    forecasts: Count = Field(0, description="forecasts published")
    refused: Count = Field(0, description="spectra refused: wrong axis or shape, not finite, negative")
    invalid: Count = Field(0, description="spectra without signal or saturated: no forecast from them")
    lost: Count = Field(0, description="spectra missing by their numbers, refused ones among them")
    duplicate: Count = Field(0, description="spectra seen before")
    late: Count = Field(0, description="spectra that arrived after a newer one")
    malformed: Count = Field(0, description="messages that could not be decoded")


class Status(Message):
    """State of a process, on every change and once a second. No payload."""

    KIND: ClassVar[str] = "status"

    schema_: Literal["eelstm.status/1"] = Field("eelstm.status/1", alias="schema")
    sender: Name = Field(description="which process speaks: forecaster, simulator, controller, guard")
    state: Literal["waiting", "filling", "forecasting", "refused", "invalid", "silent", "ended"]
    text: Text = Field(description="the state in one sentence, for a person")
    needed: Count = Field(0, description="spectra that the window still needs before the first forecast")
    model_name: Name | None = Field(None, description="the model that this forecaster serves")
    model_sha256: Sha256 | None = None
    window: Count | None = Field(None, description="number of spectra in that model's window")
    counters: Counters = Counters()
    alarm: Text | None = Field(
        None, description="what is wrong beyond the state, in one sentence, such as two publishers of one name; latched"
    )


PresetName = Literal["preserve", "resolve", "track", "advise"]
GuardMode = Literal["disarmed", "auto", "hold", "override", "blank", "blank_latched"]


class Proposal(Message):
    """What the controller would like the instrument to do next. No payload; the guard decides."""

    KIND: ClassVar[str] = "proposal"

    schema_: Literal["eelstm.proposal/1"] = Field("eelstm.proposal/1", alias="schema")
    from_seq: Seq = Field(description="spectrum behind the forecast that this follows from")
    preset: PresetName
    blank: bool = Field(description="true asks for the beam to be blanked")
    dwell_s: Seconds = Field(description="dwell for the next frames, s")
    beam_current_pA: Picoamperes = Field(description="current for the next frames, pA")
    plan_dose_pC: tuple[NonNegativeFinite, ...] = Field(
        max_length=MAX_HORIZONS, description="dose of each planned frame, pC"
    )
    lease_s: Seconds = Field(description="for how long it asks to keep this rate, s")
    expires_mono_ns: Nanoseconds = Field(description="after this the guard must ignore it")
    reason: Text
    clock_id: Name | None = Field(None, description="names the clock of expires_mono_ns; absent: not known, so refused")
    spectrum_sent_mono_ns: Nanoseconds | None = Field(
        None, description="sent_mono_ns of the spectrum behind it, by the instrument's clock: age is counted from it"
    )
    plan_dwell_s: tuple[Seconds, ...] = Field((), max_length=MAX_HORIZONS, description="dwell of each planned frame, s")
    plan_phase: tuple[Finite, ...] = Field(
        (), max_length=MAX_HORIZONS, description="phase expected at the end of each planned frame, without margin"
    )


class Readback(Document):
    """What the instrument says that it does."""

    dwell_s: Seconds
    beam_current_pA: NonNegativeFinite
    blanked: bool


class Decision(Message):
    """What the guard did with a proposal or an operator's command. No payload."""

    KIND: ClassVar[str] = "decision"

    schema_: Literal["eelstm.decision/1"] = Field("eelstm.decision/1", alias="schema")
    proposal_seq: Seq | None = Field(None, description="the proposal decided on; absent for an operator's command")
    outcome: Literal["accepted", "clamped", "refused"]
    reason: Text
    mode: GuardMode
    dwell_s: Seconds | None = None
    beam_current_pA: NonNegativeFinite | None = None
    lease_dose_pC: NonNegativeFinite = Field(0.0, description="dose set aside for the lease, pC")
    lease_s: NonNegativeFinite = Field(0.0, description="time to live of the lease, s")
    spent_dose_pC: NonNegativeFinite = Field(description="ledger: dose spent and leased so far, pC")
    budget_dose_pC: PositiveFinite = Field(description="ledger: dose that may be spent in all, pC")
    readback: Readback | None = None
    limit: Name | None = Field(None, description="what was broken or clamped to, such as max_current_pA or budget")
    action: Literal["proposal", "operator", "guard"] = Field(
        "proposal", description="what was decided on: a proposal, an operator's command, or what the guard saw itself"
    )
    command_seq: Seq | None = Field(None, description="seq of the command sent to the instrument, if one was")
    until_dose_pC: PositiveFinite | None = Field(
        None, description="dose of the instrument's session at which the lease ends, pC"
    )
    proposal_sent_mono_ns: Nanoseconds | None = Field(None, description="when the proposal was sent")
    decided_mono_ns: Nanoseconds | None = Field(None, description="guard's clock when it decided")
    acknowledged_mono_ns: Nanoseconds | None = Field(
        None, description="guard's clock when the instrument's answer was there; absent where none came"
    )


class LedgerReport(Document):
    """What the guard's ledger holds, pC. `charged` is what counts against the budget, and never falls."""

    budget_pC: PositiveFinite = Field(description="what may be spent in all")
    charged_pC: NonNegativeFinite = Field(description="spent and leased, at the worst case")
    reported_pC: NonNegativeFinite = Field(description="what the instrument said that the specimen received so far")
    left_pC: NonNegativeFinite = Field(description="budget − charged")


class GuardStatus(Message):
    """State of the guard, on every change and once a second. No payload."""

    KIND: ClassVar[str] = "status"

    schema_: Literal["eelstm.guard_status/1"] = Field("eelstm.guard_status/1", alias="schema")
    sender: Name = Field("guard", description="which program speaks")
    clock_id: Name = Field(description="names the clock of sent_mono_ns, by which operator's commands expire")
    mode: GuardMode
    text: Text = Field(description="the state in one sentence, for a person, with what to do next")
    latched_by: Text | None = Field(None, description="what latched the blanking, until an operator clears it")
    ledger: LedgerReport | None = Field(None, description="absent where the ledger could not be read")
    approval: Literal["none", "each"] = Field("none", description="whether each proposal waits for an operator")
    awaiting_approval: Seq | None = Field(None, description="newest proposal that waits for approval")
    taken_operator_seq: Seq | None = Field(None, description="highest operator's seq so far; use higher ones")
    taken_proposal_seq: Seq | None = Field(
        None,
        description="highest proposal's seq of this session so far; a controller that starts anew uses higher ones",
    )
    accepted: Count = Field(0, description="proposals accepted in this session")
    clamped: Count = Field(0, description="proposals cut down to a limit")
    refused: Count = Field(0, description="proposals and operator's commands refused")
    refused_by: dict[Name, Count] = Field({}, max_length=64, description="refusals by the name of the limit")
    readback: Readback | None = Field(None, description="what the instrument last said of its beam")
    beam_is_off: bool = Field(
        False, description="the instrument has said that the beam is blanked, after all that the guard commanded"
    )


class ControllerStatus(Message):
    """State of the controller, on every change and once a second. No payload."""

    KIND: ClassVar[str] = "status"

    schema_: Literal["eelstm.controller_status/1"] = Field("eelstm.controller_status/1", alias="schema")
    sender: Name = Field("controller", description="which program speaks")
    clock_id: Name = Field(description="names the clock of sent_mono_ns")
    state: Literal["waiting", "learning", "controlling", "advising", "fallback", "blanking", "refused", "ended"]
    text: Text = Field(description="the state in one sentence, for a person")
    preset: PresetName
    phase: Interval | None = Field(None, description="phase now, since the session's start, by all forecasts so far")
    phase_ceiling: Finite | None = Field(None, description="phase that must not be passed, where the preset has one")
    dose_to_ceiling_pC: Interval | None = Field(None, description="dose until the ceiling, as forecast")
    plan_dose_pC: tuple[NonNegativeFinite, ...] = Field((), max_length=MAX_HORIZONS)
    plan_dwell_s: tuple[Seconds, ...] = Field((), max_length=MAX_HORIZONS)
    proposals: Count = Field(0, description="published in this session")
    fallbacks: Count = Field(0, description="solves that failed, so that the plan before went on")
    discarded: Count = Field(0, description="forecasts not used: stale, absurd, not finite, of another session")
    discarded_by: dict[Name, Count] = Field({}, max_length=64, description="the same by reason")
    discarded_why: Text = Field("", description="why the newest of them was not used, in one sentence")
    solve_ns: Nanoseconds | None = Field(None, description="time of the newest solve, ns")


class LeaseReport(Document):
    """Leave to keep the beam on, as the instrument enforces it: when it runs out, the beam is blanked."""

    left_s: NonNegativeFinite = Field(description="time left, s of the instrument's own time")
    ends_mono_ns: Nanoseconds | None = Field(
        None, description="its end by the instrument's clock; absent where the instrument's time doesn't follow a clock"
    )
    until_dose_pC: PositiveFinite | None = Field(None, description="session's dose at which it ends, if that is sooner")


class BeamReport(Document):
    """What an instrument that takes commands says of its beam."""

    readback: Readback = Field(description="what holds now; the current is the one that a blanked beam would have too")
    ordered: Readback = Field(description="what will hold once all that was ordered has come into force")
    holds_from_seq: Seq = Field(description="first spectrum with all that was ordered, if nothing else is ordered")
    next_seq: Seq = Field(description="number of the next frame to begin")
    taken_seq: Seq | None = Field(None, description="highest command seq of this session so far; use higher ones")
    dose_pC: NonNegativeFinite | None = Field(
        None, description="what the specimen received in this session, the frame in progress counted whole"
    )
    lease: LeaseReport | None = Field(None, description="absent: there is none, and the beam is blanked")


class InstrumentStatus(Message):
    """State of an instrument, on every change and once a second while a session lasts. No payload."""

    KIND: ClassVar[str] = "status"

    schema_: Literal["eelstm.instrument_status/1"] = Field("eelstm.instrument_status/1", alias="schema")
    sender: Name = Field("instrument", description="which program speaks")
    state: Literal["exposing", "blanked"]
    text: Text = Field(description="the state in one sentence, for a person; where the beam is blanked, why")
    clock_id: Name = Field(description="names the clock of sent_mono_ns, by which commands expire")
    obeys: bool = Field(description="whether it takes commands; then there is a beam report")
    beam: BeamReport | None = None
    accepted: Count = Field(0, description="commands accepted since the program started")
    refused: Count = Field(0, description="commands refused, malformed ones among them")
    notes: tuple[Text, ...] = Field((), max_length=16, description="what a reader should know of these spectra")


class Strict(BaseModel):
    """Base of what asks an instrument to do something: a field that it doesn't know may matter, so it's refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Command(Strict):
    """What an instrument shall do, obeyed whole or refused whole. What is absent stays as it is. A command: strict.

    No beam without a lease: it begins when the command is taken, replaces the one before, and ends by itself.
    """

    schema_: Literal["eelstm.command/1"] = Field("eelstm.command/1", alias="schema")
    session: Name = Field(description="the session that it is meant for; in any other it is refused")
    seq: Seq = Field(description="strictly increasing within a session; a number that was used never acts again")
    sent_mono_ns: Nanoseconds = Field(description="sender's monotonic clock when it was handed to its socket, ns")
    expires_mono_ns: Nanoseconds = Field(
        description="refused after this, by the INSTRUMENT's clock: the newest sent_mono_ns heard from it, and a little"
    )
    dwell_s: Seconds | None = Field(None, description="exposure per spectrum, s")
    beam_current_pA: Picoamperes | None = Field(None, description="probe current, pA")
    blanked: bool | None = Field(None, description="true blanks the beam, at once; false lets it on, under a lease")
    lease_s: Seconds | None = Field(None, description="how long the beam may be on without another command, s")
    lease_until_dose_pC: PositiveFinite | None = Field(
        None, description="and up to which dose of the session, pC, counted from its start"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.dwell_s is None and self.beam_current_pA is None and self.blanked is None:
            raise ValueError("orders nothing: give dwell_s, beam_current_pA or blanked")
        if self.blanked is False and self.lease_s is None:
            raise ValueError("blanked is false, and no beam is on without a lease: give lease_s")
        if self.blanked is True and self.lease_s is not None:
            raise ValueError("blanked is true, and needs no lease: leave lease_s out")
        if self.lease_until_dose_pC is not None and self.lease_s is None:
            raise ValueError("lease_until_dose_pC is part of a lease: give lease_s too")
        return self


class Acknowledgement(Document):
    """An instrument's answer to a command, sent once, when it has decided. No answer means that nobody knows."""

    schema_: Literal["eelstm.acknowledgement/1"] = Field("eelstm.acknowledgement/1", alias="schema")
    session: Name | None = Field(None, description="the one that the command named; absent where it could not be read")
    seq: Seq | None = Field(None, description="the command's; absent where it could not be read")
    running_session: Name | None = Field(None, description="the instrument's own; absent where none is running")
    sent_mono_ns: Nanoseconds = Field(description="instrument's monotonic clock, ns")
    clock_id: Name = Field(description="names that clock")
    outcome: Literal["accepted", "refused"]
    limit: Name | None = Field(None, description="what it broke, such as max_current_pA, seq or expired; if refused")
    reason: Text = Field("", description="why it was refused, in one sentence")
    beam: BeamReport | None = Field(None, description="after this command; absent where no session is running")


class OperatorCommand(Strict):
    """What a person tells the guard. A command: strict.

    `blank` acts whatever its session, seq and expiry say, so that it can't come too late; all others must be in time and new.
    """

    schema_: Literal["eelstm.operator_command/1"] = Field("eelstm.operator_command/1", alias="schema")
    action: Literal["arm", "disarm", "blank", "clear", "approve", "override"] = Field(
        description="arm: let the controller act; blank: blank and latch; clear: undo a latch, disarmed; override: a fixed rate"
    )
    session: Name = Field(description="the instrument's session that it is meant for")
    seq: Seq = Field(description="strictly increasing; above the guard's taken_operator_seq")
    sent_mono_ns: Nanoseconds = Field(description="sender's monotonic clock when it was handed to its socket, ns")
    expires_mono_ns: Nanoseconds = Field(
        description="refused after this, by the GUARD's clock: the newest sent_mono_ns heard from it, and a little"
    )
    operator: Text = Field("", description="who, for the journal")
    reason: Text = Field("", description="why, for the journal")
    proposal_seq: Seq | None = Field(None, description="approve: which proposal")
    dwell_s: Seconds | None = Field(None, description="override: exposure per spectrum, s")
    beam_current_pA: Picoamperes | None = Field(None, description="override: probe current, pA")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.action == "approve") != (self.proposal_seq is not None):
            raise ValueError("proposal_seq goes with approve, and approve needs it")
        rate = (self.dwell_s is not None, self.beam_current_pA is not None)
        if self.action == "override" and not all(rate):
            raise ValueError("override needs dwell_s and beam_current_pA")
        if self.action != "override" and any(rate):
            raise ValueError("dwell_s and beam_current_pA go with override only")
        return self


class OperatorReply(Document):
    """The guard's answer to an operator's command, once it has decided."""

    schema_: Literal["eelstm.operator_reply/1"] = Field("eelstm.operator_reply/1", alias="schema")
    seq: Seq | None = Field(None, description="the command's; absent where it could not be read")
    session: Name | None = Field(None, description="the instrument's session that the guard follows; absent: none")
    sent_mono_ns: Nanoseconds = Field(description="guard's monotonic clock, ns")
    clock_id: Name = Field(description="names that clock")
    outcome: Literal["accepted", "refused"]
    limit: Name | None = Field(None, description="what it broke; if refused")
    reason: Text = Field("", description="why it was refused, or what follows from it, in one sentence")
    mode: GuardMode = Field(description="after this command")
    taken_operator_seq: Seq | None = Field(None, description="use higher ones")


MAX_SNAPSHOT_SPECTRA = 256


class SnapshotRequest(Strict):
    """A late joiner asks the instrument's request socket for its session and recent spectra. A command: strict."""

    schema_: Literal["eelstm.snapshot_request/1"] = Field("eelstm.snapshot_request/1", alias="schema")
    spectra: int = Field(ge=0, le=MAX_SNAPSHOT_SPECTRA, description="how many of the newest spectra to send, at most")


class SnapshotReply(Document):
    """First frame of the answer to a SnapshotRequest; three frames follow for each message, as they stood on the wire."""

    schema_: Literal["eelstm.snapshot_reply/1"] = Field("eelstm.snapshot_reply/1", alias="schema")
    messages: int = Field(
        ge=0, le=MAX_SNAPSHOT_SPECTRA + 1, description="how many follow: the session start, then spectra"
    )
    refused: Text | None = Field(None, description="why the request was refused, in one sentence")


MESSAGES: tuple[type[Message], ...] = (
    SessionStart, SessionEnd, Gap, Spectrum, Forecast, Summary, Status, InstrumentStatus, GuardStatus, ControllerStatus,
    Proposal, Decision,
)  # fmt: skip
