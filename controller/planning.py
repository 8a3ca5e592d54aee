"""What is asked of the planner at one step, and what a proposal of its answer says. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from controller.aim import Aim
from controller.control_state import ControlState, Session
from controller.in_flight import Ahead, Rate, ahead_of
from controller.plant import Curve
from controller.presets import problem_for
from controller.problem import Limits, Problem, ceiling_dose_pC
from eelstm_stream.wire.messages import CommandLimits, Interval

LEASE_FRAMES = 4.0  # asked for beyond what is ordered already: a few forecasts may get lost
FLOOR_OF_MAX = (
    0.5  # the SNR floor is at most this share of the largest frame: with more, there would be nothing to plan
)
Z_95 = 1.959964


def start_rate(aim: Aim, session: Session) -> Rate:
    """Of frames that are exposed while nothing is known: the session's own, or as the aim says."""
    dwell_s = aim.start_dwell_s or session.start.dwell_s
    current_pA = aim.start_current_pA or session.start.beam_current_pA or 0.0
    return within(Rate(dwell_s, current_pA), session.limits)


def within(rate: Rate, limits: CommandLimits) -> Rate:
    """A rate cut to the limits."""
    lowest_pA, highest_pA = limits.min_current_pA or 0.0, limits.max_current_pA or math.inf
    dwell_s = max(min(rate.dwell_s, longest_dwell_s(limits)), limits.min_dwell_s)
    return Rate(dwell_s, max(min(rate.current_pA, highest_pA), lowest_pA))


def longest_dwell_s(limits: CommandLimits) -> float:
    """Of a frame that a lease covers, with what else it must cover."""
    left_s = 0.9 * limits.max_lease_s - limits.delay_s
    return max(limits.min_dwell_s, min(limits.max_dwell_s, left_s / (2.0 + limits.delay_frames)))


def least_rate(limits: CommandLimits, rate: Rate) -> Rate:
    """The least dose in frames that are no shorter than they need to be."""
    if (limits.min_current_pA or 0.0) < (limits.max_current_pA or rate.current_pA):
        return within(Rate(rate.dwell_s, limits.min_current_pA or 0.0), limits)
    return Rate(limits.min_dwell_s, rate.current_pA)


def lease_s(limits: CommandLimits, rate: Rate, ahead: Ahead | None, pause_s: float, slack_s: float) -> float:
    """What to ask for: until a few frames after the new rate holds, and never above the limits."""
    period_s = rate.dwell_s + pause_s
    until_s = limits.delay_s + limits.delay_frames * period_s if ahead is None else ahead.begins_s
    wanted_s = until_s + LEASE_FRAMES * period_s + slack_s
    return min(max(wanted_s, rate.dwell_s), limits.max_lease_s)


def ahead(state: ControlState, session: Session, now_ns: int) -> Ahead | None:
    """What comes before a new order holds, from the newest forecast; None where that is not known."""
    summary, limits, beam = session.newest, session.limits, session.beam
    if summary is None or summary.at_dose_pC is None:
        return None
    age_s = 0.0
    if summary.clock_id == state.clock_id:
        age_s = max(0.0, (now_ns - summary.spectrum_sent_mono_ns) / 1e9)
    return ahead_of(
        session.orders,
        limits,
        from_seq=summary.from_seq,
        at_pC=summary.at_dose_pC,
        age_s=age_s,
        pause_s=session.pause_s,
        is_blanked=session.is_blanked,
        committed_pC=0.0 if beam is None or beam.dose_pC is None else beam.dose_pC,
    )


def problem(aim: Aim, session: Session, ahead: Ahead, stop_s: float) -> Problem:
    """The numbers of this step. stop_s: from a spectrum's end until a beam that is blanked for it is off."""
    nominal = start_rate(aim, session)
    last = session.orders.newest or nominal
    ordered_pC = ahead.frames_pC
    without_spectrum_pC = ahead.begins_pC - session.estimate.dose_pC - sum(ordered_pC)
    if without_spectrum_pC > 0:
        ordered_pC = (without_spectrum_pC, *ordered_pC)
    numbers = aim.numbers
    if aim.min_dose_pC is not None:
        floor = aim.min_dose_pC / nominal.dose_pC
        numbers = replace(
            numbers, min_dose_share=floor, max_dose_share=max(numbers.max_dose_share, floor / FLOOR_OF_MAX)
        )
    return problem_for(
        numbers,
        session.estimate,
        limits=frame_limits(session, nominal, last),
        ordered_pC=ordered_pC,
        last_dose_pC=last.dose_pC,
        last_dwell_s=last.dwell_s,
        nominal_dose_pC=nominal.dose_pC,
        nominal_dwell_s=nominal.dwell_s,
        time_s=session.exposed_s + ahead.begins_s,
        budget_pC=None if session.allowed_pC is None else max(0.0, session.allowed_pC - session.estimate.dose_pC),
        stopping_s=stop_s,
    )


def frame_limits(session: Session, nominal: Rate, last: Rate) -> Limits:
    """What a frame may be."""
    limits = session.limits
    lowest_pA, highest_pA = limits.min_current_pA or nominal.current_pA, limits.max_current_pA or nominal.current_pA
    if session.newest is not None and session.newest.window_domain == "frame":
        # Its steps are frames, so that forecasts hold for this one dwell and current only: all that is left is when to stop.
        return Limits(last.dwell_s, last.dwell_s, last.current_pA, last.current_pA, last.dose_pC)
    longest_s = longest_dwell_s(limits)
    return Limits(limits.min_dwell_s, longest_s, lowest_pA, highest_pA, highest_pA * longest_s)


def to_ceiling(curve: Curve, ceiling: float | None) -> Interval | None:
    """Dose until phase meets the ceiling, 95 %; an end that the curve doesn't reach is where the curve ends."""
    earliest, likely, latest = (ceiling_dose_pC(curve, ceiling, z) for z in (Z_95, 0.0, -Z_95))
    if math.isinf(likely):
        return None
    now_pC, last_pC = float(curve.dose_pC[0]), float(curve.dose_pC[-1])
    return Interval(value=likely - now_pC, low=min(earliest, likely) - now_pC, high=min(latest, last_pC) - now_pC)
