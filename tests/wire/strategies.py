"""Hypothesis strategies for every message: whatever its class allows, extremes and absent fields included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eelstm_stream.wire.messages import (
    MAX_COUNTS,
    MAX_HORIZONS,
    MAX_SEQ,
    Acknowledgement,
    BeamReport,
    CameTrue,
    Command,
    CommandLimits,
    ControllerStatus,
    Counters,
    Decision,
    EnergyAxis,
    Forecast,
    Gap,
    GuardStatus,
    InstrumentStatus,
    Interval,
    LeaseReport,
    LedgerReport,
    LiveSkill,
    Message,
    OperatorCommand,
    OperatorReply,
    Proposal,
    QualityFlag,
    Readback,
    SessionEnd,
    SessionStart,
    Spectrum,
    StageLatency,
    Status,
    Summary,
)

# Numbers: hypothesis tries their bounds, and the smallest and largest of their kind, first.
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
non_negative = st.floats(min_value=0, allow_infinity=False)
seconds = st.floats(1e-9, 86_400)
picoamperes = st.floats(1e-6, 1e9)
rms_counts = st.floats(0, 1e15)
seqs = st.integers(0, MAX_SEQ)
counts_of_things = st.integers(0, MAX_SEQ)
nanoseconds = st.integers(0, 2**63 - 1)
horizon_numbers = st.integers(1, MAX_HORIZONS)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
instrument_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
texts = st.text(max_size=40) | st.sampled_from(["", "x" * 2000, "🔬" * 2000, "\x00\x1b[31m\n\u2028“\\/", "ﬀ́"])

offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    datetime(1970, 1, 1),
    datetime(2199, 12, 31, 23, 59, 59, 999_999),
    timezones=st.just(UTC) | offsets,
)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """The field, or its absence."""
    return st.none() | strategy


def tuples_of(strategy: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy:
    """A tuple field of any length that it may have, short ones mostly."""
    return st.lists(strategy, min_size=least, max_size=most).map(tuple)


envelope = {"session": names, "seq": seqs, "sent_mono_ns": nanoseconds}
energy_axes = st.builds(
    EnergyAxis,
    offset_eV=st.floats(-1e5, 1e6),
    dispersion_eV=st.floats(1e-5, 1e4),
    size=st.integers(1, 65_536),
)
intervals = st.builds(Interval, value=finite, low=finite, high=finite)
came_true = st.builds(
    CameTrue, horizon=horizon_numbers, rmse=rms_counts, rmse_persistence=rms_counts, rmse_window_mean=rms_counts
)
live_skill = st.builds(
    LiveSkill,
    matured=counts_of_things,
    rmse=rms_counts,
    rmse_persistence=rms_counts,
    rmse_window_mean=rms_counts,
    noise_floor=maybe(rms_counts),
    skill=finite,
    skill_against_mean=finite,
)
quality_flags = st.builds(
    QualityFlag,
    flag=st.sampled_from(
        [
            "gap_in_window",
            "alignment_uncertain",
            "outside_training_range",
            "dwell_differs_from_training",
            "dose_differs_from_training",
            "dose_is_relative",
            "resampled",
        ]
    ),
    reason=texts,
)
latencies = st.builds(
    StageLatency,
    queued_ns=nanoseconds,
    prepared_ns=nanoseconds,
    inferred_ns=nanoseconds,
    batch=st.integers(1, MAX_SEQ),
)

command_limits = st.builds(
    CommandLimits,
    **dict.fromkeys(("min_dwell_s", "max_dwell_s", "max_lease_s"), seconds),
    **dict.fromkeys(("min_current_pA", "max_current_pA"), maybe(picoamperes)),
    **dict.fromkeys(("delay_s", "blank_delay_s"), non_negative),
    delay_frames=counts_of_things,
)
session_starts = st.builds(
    SessionStart,
    **envelope,
    instrument=instrument_names,
    source=st.sampled_from(["instrument", "replay", "simulation"]),
    source_name=texts,
    specimen=texts,
    energy_axis=energy_axes,
    dwell_s=seconds,
    frame_period_s=maybe(seconds),
    beam_energy_keV=maybe(positive),
    beam_current_pA=maybe(picoamperes),
    convergence_mrad=maybe(non_negative),
    collection_mrad=maybe(non_negative),
    probe_area_A2=maybe(positive),
    dose_is_relative=st.booleans(),
    saturation_counts=maybe(positive),
    expected_spectra=maybe(counts_of_things),
    commands=maybe(command_limits),
    started_at=moments,
    clock_id=names,
)
session_ends = st.builds(
    SessionEnd,
    **envelope,
    reason=st.sampled_from(["finished", "stopped", "failed"]),
    text=texts,
    spectra=counts_of_things,
)
gaps = st.tuples(seqs, seqs).flatmap(
    lambda ends: st.builds(Gap, **envelope, first_seq=st.just(min(ends)), last_seq=st.just(max(ends)), reason=texts)
)
statuses = st.builds(
    Status,
    **envelope,
    sender=names,
    state=st.sampled_from(["waiting", "filling", "forecasting", "refused", "invalid", "silent", "ended"]),
    text=texts,
    needed=counts_of_things,
    model_name=maybe(names),
    model_sha256=maybe(hashes),
    window=maybe(counts_of_things),
    counters=st.builds(Counters, **dict.fromkeys(Counters.model_fields, counts_of_things)),
)
readbacks = st.builds(Readback, dwell_s=seconds, beam_current_pA=non_negative, blanked=st.booleans())
beam_reports = st.builds(
    BeamReport,
    readback=readbacks,
    ordered=readbacks,
    holds_from_seq=seqs,
    next_seq=seqs,
    taken_seq=maybe(seqs),
    dose_pC=maybe(non_negative),
    lease=maybe(
        st.builds(LeaseReport, left_s=non_negative, ends_mono_ns=maybe(nanoseconds), until_dose_pC=maybe(positive))
    ),
)
instrument_statuses = st.builds(
    InstrumentStatus,
    **envelope,
    sender=names,
    state=st.sampled_from(["exposing", "blanked"]),
    text=texts,
    clock_id=names,
    obeys=st.booleans(),
    beam=maybe(beam_reports),
    accepted=counts_of_things,
    refused=counts_of_things,
    notes=tuples_of(texts),
)
commands = st.fixed_dictionaries(
    {"blanked": st.sampled_from([None, False, True]), "dwell_s": maybe(seconds), "beam_current_pA": maybe(picoamperes)}
    | {"lease_s": seconds, "lease_until_dose_pC": maybe(positive), "expires_mono_ns": nanoseconds}
    | envelope
).flatmap(
    lambda f: st.just(
        Command(
            **f
            | ({"lease_s": None, "lease_until_dose_pC": None} if f["blanked"] else {})
            | ({"dwell_s": 0.5} if f["blanked"] is f["dwell_s"] is f["beam_current_pA"] is None else {})
        )
    )
)
acknowledgements = st.builds(
    Acknowledgement,
    session=maybe(names),
    seq=maybe(seqs),
    running_session=maybe(names),
    sent_mono_ns=nanoseconds,
    clock_id=names,
    outcome=st.sampled_from(["accepted", "refused"]),
    limit=maybe(names),
    reason=texts,
    beam=maybe(beam_reports),
)
proposals = st.builds(
    Proposal,
    **envelope,
    from_seq=seqs,
    preset=st.sampled_from(["preserve", "resolve", "track", "advise"]),
    blank=st.booleans(),
    dwell_s=seconds,
    beam_current_pA=picoamperes,
    plan_dose_pC=tuples_of(non_negative) | st.just((1.7e308,) * MAX_HORIZONS),
    lease_s=seconds,
    expires_mono_ns=nanoseconds,
    reason=texts,
    clock_id=maybe(names),
    spectrum_sent_mono_ns=maybe(nanoseconds),
    plan_dwell_s=tuples_of(seconds),
    plan_phase=tuples_of(finite),
)
guard_modes = st.sampled_from(["disarmed", "auto", "hold", "override", "blank", "blank_latched"])
decisions = st.builds(
    Decision,
    **envelope,
    proposal_seq=maybe(seqs),
    outcome=st.sampled_from(["accepted", "clamped", "refused"]),
    reason=texts,
    mode=guard_modes,
    dwell_s=maybe(seconds),
    beam_current_pA=maybe(non_negative),
    lease_dose_pC=non_negative,
    lease_s=non_negative,
    spent_dose_pC=non_negative,
    budget_dose_pC=positive,
    readback=maybe(readbacks),
    limit=maybe(names),
    action=st.sampled_from(["proposal", "operator", "guard"]),
    command_seq=maybe(seqs),
    until_dose_pC=maybe(positive),
    **dict.fromkeys(("proposal_sent_mono_ns", "decided_mono_ns", "acknowledged_mono_ns"), maybe(nanoseconds)),
)
guard_statuses = st.builds(
    GuardStatus,
    **envelope,
    sender=names,
    clock_id=names,
    mode=guard_modes,
    text=texts,
    latched_by=maybe(texts),
    ledger=maybe(
        st.builds(
            LedgerReport,
            budget_pC=positive,
            **dict.fromkeys(("charged_pC", "reported_pC", "left_pC"), non_negative),
        )
    ),
    approval=st.sampled_from(["none", "each"]),
    **dict.fromkeys(("awaiting_approval", "taken_operator_seq", "taken_proposal_seq"), maybe(seqs)),
    **dict.fromkeys(("accepted", "clamped", "refused"), counts_of_things),
    refused_by=st.dictionaries(names, counts_of_things, max_size=3),
    readback=maybe(readbacks),
)
controller_statuses = st.builds(
    ControllerStatus,
    **envelope,
    sender=names,
    clock_id=names,
    state=st.sampled_from(
        ["waiting", "learning", "controlling", "advising", "fallback", "blanking", "refused", "ended"]
    ),
    text=texts,
    preset=st.sampled_from(["preserve", "resolve", "track", "advise"]),
    phase=maybe(intervals),
    phase_ceiling=maybe(finite),
    dose_to_ceiling_pC=maybe(intervals),
    plan_dose_pC=tuples_of(non_negative),
    plan_dwell_s=tuples_of(seconds),
    **dict.fromkeys(("proposals", "fallbacks", "discarded"), counts_of_things),
    discarded_by=st.dictionaries(names, counts_of_things, max_size=3),
    solve_ns=maybe(nanoseconds),
)
operator_commands = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["arm", "disarm", "blank", "clear", "approve", "override"]),
        "expires_mono_ns": nanoseconds,
        "operator": texts,
        "reason": texts,
        "proposal_seq": seqs,
        "dwell_s": seconds,
        "beam_current_pA": picoamperes,
    }
    | envelope
).map(
    lambda f: OperatorCommand(
        **f
        | ({} if f["action"] == "approve" else {"proposal_seq": None})
        | ({} if f["action"] == "override" else {"dwell_s": None, "beam_current_pA": None})
    )
)
operator_replies = st.builds(
    OperatorReply,
    seq=maybe(seqs),
    session=maybe(names),
    sent_mono_ns=nanoseconds,
    clock_id=names,
    outcome=st.sampled_from(["accepted", "refused"]),
    limit=maybe(names),
    reason=texts,
    mode=guard_modes,
    taken_operator_seq=maybe(seqs),
)


@st.composite
def spectra(draw: st.DrawFn) -> tuple[Spectrum, np.ndarray]:
    """A spectrum with its payload in any of the wire's element types."""
    dtype = draw(st.sampled_from(["<f4", "<u2", "<u4"]))
    channels = draw(st.integers(1, 12) | st.sampled_from([2048, 65_536]))
    some = draw(arrays.arrays(np.dtype(dtype), min(channels, 12)))
    payload = np.resize(np.nan_to_num(some, posinf=MAX_COUNTS, neginf=-MAX_COUNTS), channels)
    message = draw(
        st.builds(
            Spectrum,
            **envelope,
            dtype=st.just(dtype),
            shape=st.just((channels,)),
            dwell_s=seconds,
            beam_current_pA=maybe(picoamperes),
            dose_pC=maybe(positive),
            dose_before_pC=maybe(non_negative),
            acquired_at=moments,
            acquired_until=moments,
        )
    )
    return message, payload


@st.composite
def _of_a_forecast(draw: st.DrawFn) -> dict[str, st.SearchStrategy]:
    horizons = draw(st.lists(horizon_numbers, min_size=1, max_size=3) | st.just(list(range(1, MAX_HORIZONS + 1))))
    each = len(horizons)
    return envelope | {
        "from_seq": seqs,
        "spectrum_sent_mono_ns": nanoseconds,
        "clock_id": names,
        "model_name": names,
        "model_sha256": hashes,
        "window": counts_of_things,
        "at_dose_pC": maybe(non_negative),
        "horizons": st.just(tuple(horizons)),
        "valid_at": moments.map(lambda moment: (moment,) * each),
        "window_domain": st.sampled_from(["frame", "dose"]),
        "reference_dose_pC": positive,
        "reference_dwell_s": seconds,
        "simulated": st.booleans(),
        "trained_on": texts,
        "phase_now": maybe(intervals),
        "phase": intervals.map(lambda interval: (interval,) * each),
        "came_true": tuples_of(came_true),
        "skill": maybe(live_skill),
        "quality": tuples_of(quality_flags, most=2),
        "latency": latencies,
    }


@st.composite
def summaries(draw: st.DrawFn) -> Summary:
    """A summary: as many times and phases as horizons."""
    return draw(st.builds(Summary, **draw(_of_a_forecast())))


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[Forecast, np.ndarray]:
    """A forecast with its payload, on an axis of its size."""
    fields = draw(_of_a_forecast())
    axis = draw(energy_axes.map(lambda axis: axis.model_copy(update={"size": 1 + axis.size % 9})))
    message = draw(
        fields["horizons"].flatmap(
            lambda horizons: st.builds(
                Forecast, **fields, energy_axis=st.just(axis), shape=st.just((len(horizons), axis.size))
            )
        )
    )
    payload = draw(
        arrays.arrays(
            np.dtype("<f4"), message.shape, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        )
    )
    return message, payload


def _alone(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return strategy.map(lambda message: (message, None))


# Each gives a message and its payload, or None.
OF_MESSAGE: dict[type[Message], st.SearchStrategy] = {
    SessionStart: _alone(session_starts),
    SessionEnd: _alone(session_ends),
    Gap: _alone(gaps),
    Spectrum: spectra(),
    Forecast: forecasts(),
    Summary: _alone(summaries()),
    Status: _alone(statuses),
    InstrumentStatus: _alone(instrument_statuses),
    Proposal: _alone(proposals),
    Decision: _alone(decisions),
    GuardStatus: _alone(guard_statuses),
    ControllerStatus: _alone(controller_statuses),
}
