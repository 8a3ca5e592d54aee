"""What a person wants of a run: the preset and its numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from controller.presets import PRESETS, Preset
from eelstm_stream.wire.messages import CommandLimits, PresetName, SessionStart

ADVISED_DWELLS = (0.2, 5.0)  # times the session's own, where the instrument takes no commands and says no limits
ABOVE_ZERO = (
    "min_dose_pC", "min_dwell_s", "max_dwell_s", "max_current_pA", "start_dwell_s", "start_current_pA", "learn_pC", "max_lease_s", "lease_slack_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aim:
    """Of one controller. What is None is left to the preset, or to the session."""

    preset: PresetName = "preserve"
    phase_ceiling: float | None = None  # phase since the session's start that must not be passed
    min_dose_pC: float | None = None  # of a frame, so that its signal stands above its noise
    delta: float | None = None  # phase change within a frame
    track: tuple[tuple[float, float], ...] = ()  # (s of exposure since the first forecast, phase), times rising
    min_dwell_s: float | None = None
    max_dwell_s: float | None = None
    max_current_pA: float | None = None
    start_dwell_s: float | None = None  # while nothing is known yet
    start_current_pA: float | None = None
    learn_pC: float | None = None  # dose that may be spent without one usable forecast
    max_lease_s: float = 2.0  # that is asked for; as the guard's own, unless told otherwise
    lease_slack_s: float = 0.25  # that is asked for beyond a few frames
    accept_flagged: bool = False  # act on forecasts of a model that may not know this specimen

    @property
    def numbers(self) -> Preset:
        """The preset with what this aim changes in it."""
        preset = PRESETS[self.preset]
        if self.phase_ceiling is not None:
            preset = replace(preset, phase_ceiling=self.phase_ceiling)
        if self.delta is not None:
            preset = replace(preset, max_phase_step=self.delta)
        if self.track:
            preset = replace(preset, target=self.track)
        return preset


def contradiction(aim: Aim) -> str | None:
    """What is wrong with an aim by itself, in one sentence; None where nothing is. Written so that a NaN is wrong."""
    if aim.preset == "track" and not aim.track:
        return "preset track needs a trajectory of time and phase: give --track FILE"
    if aim.preset != "track" and aim.track:
        return f"a trajectory is for preset track, and the preset is {aim.preset}"
    if aim.phase_ceiling is not None and not 0 < aim.phase_ceiling <= 1:
        return f"a phase ceiling lies above 0 and at most at 1, and {aim.phase_ceiling} was given"
    if aim.delta is not None and not 0 < aim.delta <= 1:
        return f"the phase change of a frame, delta, lies above 0 and at most at 1, and {aim.delta} was given"
    for name in ABOVE_ZERO:
        value = getattr(aim, name)
        if value is not None and not 0 < value < math.inf:
            return f"{name} must be a finite number above 0, and {value} was given"
    if aim.min_dwell_s is not None and aim.max_dwell_s is not None and not aim.min_dwell_s <= aim.max_dwell_s:
        return f"min_dwell_s, {aim.min_dwell_s:g} s, is above max_dwell_s, {aim.max_dwell_s:g} s"
    return _wrong_track(aim.track)


def _wrong_track(track: tuple[tuple[float, float], ...]) -> str | None:
    for time_s, phase in track:
        if not 0 <= time_s < math.inf or not 0 <= phase <= 1:
            return f"a trajectory has times from 0 on and phases from 0 to 1, and {time_s:g} s, {phase:g} was given"
    for (before_s, before), (time_s, phase) in pairwise(track):
        if not before_s < time_s or not before <= phase:
            return (
                f"a trajectory's times rise and its phases don't fall, and {time_s:g} s, {phase:g} comes after "
                f"{before_s:g} s, {before:g}"
            )
    return None


def limits_for(aim: Aim, start: SessionStart) -> CommandLimits | str:
    """What may be proposed in a session: the instrument's limits, narrowed by the aim; or why nothing can be, in one sentence."""
    if start.dose_is_relative or start.beam_current_pA is None:
        return "the current of this session is unknown, so no dose in pC can be reckoned with: tell the instrument its current"
    instrument = start.commands
    if instrument is None:
        if aim.preset != "advise":
            return (
                "this instrument takes no commands, so there is nothing to control; preset advise says what it would do"
            )
        low, high = (factor * start.dwell_s for factor in ADVISED_DWELLS)
        instrument = CommandLimits(min_dwell_s=low, max_dwell_s=high, max_lease_s=60.0)
    current_pA = start.beam_current_pA
    lowest_pA, highest_pA = instrument.min_current_pA or current_pA, instrument.max_current_pA or current_pA
    if aim.max_current_pA is not None:
        highest_pA = min(highest_pA, aim.max_current_pA)
    lowest_s = max(instrument.min_dwell_s, aim.min_dwell_s or 0.0)
    highest_s = min(instrument.max_dwell_s, aim.max_dwell_s or math.inf)
    lease_s = min(instrument.max_lease_s, aim.max_lease_s)
    if not lowest_s <= highest_s:
        return (
            f"the instrument's dwell goes from {instrument.min_dwell_s:g} to {instrument.max_dwell_s:g} s, and the controller's "
            f"min_dwell_s and max_dwell_s leave none of that"
        )
    if not lowest_s <= lease_s:
        return f"a lease of {lease_s:g} s covers no frame of {lowest_s:g} s, the shortest"
    if not lowest_pA <= highest_pA:
        return f"the instrument's current can't go below {lowest_pA:g} pA, and the controller's max_current_pA is {highest_pA:g} pA"
    return instrument.model_copy(
        update={
            "min_dwell_s": lowest_s,
            "max_dwell_s": highest_s,
            "min_current_pA": lowest_pA,
            "max_current_pA": highest_pA,
            "max_lease_s": lease_s,
        }
    )
