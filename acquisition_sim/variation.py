"""How repeats of one experiment differ: the spread of a preset, and one run's draw from it. Pure.

Repeats have the same kind of specimen under the same instrument, another grain each time. So each quantity has limits, and
every value between them is as likely as any other: the runs that a model trains on reach as far as those that it will meet.
`±` stands for "added or taken away, up to"; `×/÷` for "multiplied or divided, by up to", with even odds on a logarithmic scale.

A run's draw follows from its own seed and nothing else. Drawn numbers have six digits, so that they are the same on machines
whose exponentials differ in the last bit, and read well in a manifest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from acquisition_sim.specimen import intensity

if TYPE_CHECKING:
    from acquisition_sim.presets import Preset

OF_THE_RUN = 0x5EED  # beside the seed: keeps this stream apart from any other that is made from a seed

Part = TypeVar("Part", bound=BaseModel)
Factor = Annotated[float, Field(ge=1, le=10)]
Share = Annotated[float, Field(ge=0, lt=0.9)]


class Variation(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """Limits of what differs from run to run. The defaults let nothing differ."""

    critical_dose_factor: Factor = Field(1.0, description="×/÷, of the critical dose")
    jmak_exponent: float = Field(0.0, ge=0, le=5, description="±")
    mass_loss_dose_factor: Factor = Field(1.0, description="×/÷, of the dose of the mass loss")
    thickness: Share = Field(0.0, description="±, share of the thickness at the start; intensity follows")
    background_exponent: float = Field(0.0, ge=0, le=5, description="±")
    edge_strength: Share = Field(0.0, description="±, share of all edges over the background")
    line_height: Share = Field(0.0, description="±, share of each line's height, at phase 0 and at phase 1")
    current: Share = Field(0.0, description="±, share of the probe current; the recording says the current that flowed")
    calibration_eV: float = Field(0.0, ge=0, le=20, description="±, of the energy axis at the start")
    drift_eV_per_s: float = Field(0.0, ge=0, le=1, description="±, of the energy axis")
    walk_factor: Factor = Field(1.0, description="×/÷, of the random walk of the energy axis")
    jitter_factor: Factor = Field(1.0, description="×/÷, of the jitter of the energy axis")
    variance_over_mean: Share = Field(0.0, description="±, share of the camera's variance over mean")


NONE = Variation()


def varied(preset: Preset, seed: int) -> Preset:
    """The preset of one run: every quantity that varies drawn anew, by the run's seed alone."""
    # The order in which things are drawn is part of what a seed means: append to it, and never insert.
    random = np.random.Generator(np.random.PCG64DXSM([OF_THE_RUN, seed]))
    return _with(preset, lambda: float(random.uniform(-1, 1)))


def require_possible(preset: Preset) -> None:
    """Raise ValueError, with the reason, where a run at the limits of the variation would be impossible."""
    for end in (-1.0, 1.0):
        try:
            _with(preset, lambda end=end: end)  # type: ignore[misc]
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            reason = fault["msg"].removeprefix("Value error, ")
            if fault["type"] != "value_error":
                key = ".".join(map(str, fault["loc"]))
                reason = f"{key} would be {fault['input']!r}, and it {reason.removeprefix('Input ')}"
            raise ValueError(f"at the limits of the variation, {reason}") from None


def drawn_values(preset: Preset) -> dict[str, float | tuple[float | None, ...] | None]:
    """What holds for one run of all that can vary, by name with units; lines' heights as (at phase 0, at phase 1)."""
    spectrum, kinetics = preset.specimen.spectrum, preset.specimen.kinetics
    tension = preset.high_tension
    return {
        "critical_dose_pC": kinetics.critical_dose_pC,
        "jmak_exponent": kinetics.jmak_exponent,
        "mass_loss_dose_pC": kinetics.mass_loss_dose_pC,
        "thickness_mfp": spectrum.thickness_mfp,
        "background_counts_per_eV": spectrum.background_counts_per_eV,
        "background_exponent": spectrum.background_exponent,
        "edge_strength": spectrum.edge_strength,
        "current_pA": preset.beam.current_pA,
        "calibration_eV": tension.offset_eV,
        "drift_eV_per_s": tension.drift_eV_per_s,
        "walk_eV_per_root_s": tension.walk_eV_per_root_s,
        "jitter_eV": tension.jitter_eV,
        "variance_over_mean": preset.detector.variance_over_mean,
        **{f"height of {name}": line.height for name, line in spectrum.lines.items()},
    }


def _with(preset: Preset, unit: Callable[[], float]) -> Preset:
    """The preset with what `unit` draws, from −1 to 1, one after the other. Its parts are validated again."""
    limits = preset.variation

    def factor(limit: float) -> float:
        return math.exp(unit() * math.log(limit))

    def share(limit: float) -> float:
        return 1 + unit() * limit

    def added(limit: float) -> float:
        return unit() * limit

    kinetics, spectrum = preset.specimen.kinetics, preset.specimen.spectrum
    varied_kinetics = _changed(
        kinetics,
        critical_dose_pC=_six_digits(kinetics.critical_dose_pC * factor(limits.critical_dose_factor)),
        jmak_exponent=_six_digits(kinetics.jmak_exponent + added(limits.jmak_exponent)),
        mass_loss_dose_pC=_six_digits(kinetics.mass_loss_dose_pC * factor(limits.mass_loss_dose_factor)),
    )
    thickness_mfp = _six_digits(spectrum.thickness_mfp * share(limits.thickness))
    brighter = intensity(thickness_mfp) / intensity(spectrum.thickness_mfp)
    varied_spectrum = _changed(
        spectrum,
        thickness_mfp=thickness_mfp,
        background_counts_per_eV=_six_digits(spectrum.background_counts_per_eV * brighter),
        background_exponent=_six_digits(spectrum.background_exponent + added(limits.background_exponent)),
        edge_strength=_six_digits(spectrum.edge_strength * share(limits.edge_strength)),
        lines={
            name: _changed(
                line, height=tuple(_six_digits(height * share(limits.line_height)) for height in line.height)
            )
            for name, line in spectrum.lines.items()
        },
    )
    current_pA = _six_digits(preset.beam.current_pA * share(limits.current))
    tension, detector = preset.high_tension, preset.detector
    varied_tension = _changed(
        tension,
        offset_eV=_six_digits(tension.offset_eV + added(limits.calibration_eV)),
        drift_eV_per_s=_six_digits(tension.drift_eV_per_s + added(limits.drift_eV_per_s)),
        walk_eV_per_root_s=_six_digits(tension.walk_eV_per_root_s * factor(limits.walk_factor)),
        jitter_eV=_six_digits(tension.jitter_eV * factor(limits.jitter_factor)),
    )
    variance_over_mean = _six_digits(detector.variance_over_mean * share(limits.variance_over_mean))
    return preset.model_copy(
        update={
            "specimen": preset.specimen.model_copy(update={"kinetics": varied_kinetics, "spectrum": varied_spectrum}),
            "beam": _changed(preset.beam, current_pA=current_pA),
            "high_tension": varied_tension,
            "detector": _changed(detector, variance_over_mean=variance_over_mean),
            "variation": NONE,
        }
    )


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _changed(part: Part, **values: Any) -> Part:
    """A part of the preset with other values, validated as a whole."""
    return type(part).model_validate({**dict(part), **values})
