"""What control is asked for, as numbers of the one problem in `problem.py`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.plant import PhaseEstimate
from controller.problem import HORIZON, Limits, Problem, Weights, furthest_dose_pC
from eelstm_stream.wire.messages import PresetName


@dataclass(frozen=True, slots=True)
class Preset:
    """A way of spending dose. Doses of a frame are shares of the nominal frame: the session's own dwell and current."""

    name: PresetName
    meaning: str  # for a person
    commands: bool = True  # False: proposals are published, and the guard is asked for nothing
    phase_ceiling: float | None = None
    # A bench on other specimens says how much margin is missing or left over: of any sign. Of the standard deviation, 1.2: the
    # phase at the stop scatters by 0.015 where 0.0125 is said, and 0.01 may be passed, so that 95 % of runs keep to it.
    phase_margin: float = 0.0
    margin_sd: float = 1.2
    slowing_sd: float = 1.2
    approach: float = 1.5
    approach_frames: float = 6.0
    # A specimen whose calibration is off by some per cent is off in its slope too, and the fit doesn't know.
    max_phase_step: float | None = None
    phase_step_sd: float = 2.0
    phase_step_share: float = 0.88
    min_dose_share: float = 0.1
    max_dose_share: float = 1.0
    # Of the nominal dwell. 1 keeps it, so that the current alone varies, where it can be ordered: latency counts frames.
    min_dwell_share: float = 0.0
    target: tuple[tuple[float, float], ...] = ()  # (time since the session's start, s; phase)
    weights: Weights = field(default_factory=Weights)


PRESETS: dict[PresetName, Preset] = {
    "preserve": Preset(
        "preserve", "stay below the phase ceiling, and collect the most signal", phase_ceiling=0.3, min_dwell_share=1.0
    ),
    "resolve": Preset(
        "resolve",
        "spend the dose where the change is: no frame may change the specimen by more than the phase step",
        max_phase_step=0.005,
    ),
    "track": Preset("track", "follow a given phase over time", weights=Weights(track=100.0)),
    "advise": Preset(
        "advise",
        "publish the proposals of preserve, and command nothing",
        commands=False,
        phase_ceiling=0.3,
        min_dwell_share=1.0,
    ),
}


def problem_for(
    preset: Preset,
    estimate: PhaseEstimate,
    *,
    limits: Limits,
    ordered_pC: tuple[float, ...],
    last_dose_pC: float,
    last_dwell_s: float,
    nominal_dose_pC: float,
    nominal_dwell_s: float,
    time_s: float = 0.0,
    budget_pC: float | None = None,
    stopping_frames: float = 0.0,
    stopping_s: float = 0.0,
    horizon: int = HORIZON,
) -> Problem:
    """The problem of one step of a preset, at the newest spectrum of `estimate`.

    limits: the instrument's; the preset's share caps a frame's dose further. time_s: since the session's start, of the start of
    the first frame that can still be ordered; for `track`. The rest is as in `Problem`.
    Raises ValueError before the first forecast.
    """
    min_dwell_s = limits.min_dwell_s
    if limits.min_current_pA < limits.max_current_pA:
        min_dwell_s = min(max(min_dwell_s, preset.min_dwell_share * nominal_dwell_s), limits.max_dwell_s)
    narrowed = Limits(
        min_dwell_s=min_dwell_s,
        max_dwell_s=limits.max_dwell_s,
        min_current_pA=limits.min_current_pA,
        max_current_pA=limits.max_current_pA,
        max_dose_pC=max(
            min(limits.max_dose_pC, preset.max_dose_share * nominal_dose_pC), limits.min_current_pA * min_dwell_s
        ),
        dose_rise_pC=limits.dose_rise_pC,
        dwell_rise_s=limits.dwell_rise_s,
    )
    until_pC = furthest_dose_pC(estimate.dose_pC, ordered_pC, narrowed, horizon, stopping_frames)
    return Problem(
        curve=estimate.curve(until_pC),
        dose_pC=estimate.dose_pC,
        ordered_pC=ordered_pC,
        last_dose_pC=last_dose_pC,
        last_dwell_s=last_dwell_s,
        nominal_dose_pC=nominal_dose_pC,
        nominal_dwell_s=nominal_dwell_s,
        limits=narrowed,
        weights=preset.weights,
        budget_pC=budget_pC,
        phase_ceiling=preset.phase_ceiling,
        phase_margin=preset.phase_margin,
        margin_sd=preset.margin_sd,
        slowing_sd=preset.slowing_sd,
        stopping_frames=stopping_frames,
        stopping_s=stopping_s,
        approach=preset.approach,
        approach_frames=preset.approach_frames,
        max_phase_step=None if preset.max_phase_step is None else preset.phase_step_share * preset.max_phase_step,
        phase_step_sd=preset.phase_step_sd,
        min_dose_pC=min(preset.min_dose_share * nominal_dose_pC, narrowed.max_dose_pC),
        target=tuple((at_s - time_s, phase) for at_s, phase in preset.target),
        horizon=horizon,
    )
