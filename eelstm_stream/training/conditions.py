"""Whether recordings can be trained on together, and what they share. All that is wrong is said at once, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.core.energy_axis import covers
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.inspection import faults_of
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.wire.messages import EnergyAxis

SAME_DWELL = 0.01  # relative: what clocks and file formats round away
SAME_CURRENT = 0.1  # relative: how far a current may wander before a step of the window means something else
SAME_VOLTAGE = 0.01  # relative: the setting, not its drift
SAME_CHANNEL = 0.01  # channels: how far two axes may be apart, all along, and be one axis that was rounded differently
NAMES_SAID = 4  # of runs with the same fault
AXIS, NO_CURRENT = "energy axis", "whether the beam current is known:"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all runs of one training share. The first run's are the measure."""

    dwell_s: float
    dose_pC: float  # of the median frame; where the current is unknown it counts as 1 pA
    dose_is_relative: bool


def common_conditions(runs: Sequence[Recording], recipe: Recipe, *, resample: bool = False) -> Conditions:
    """What the runs share.

    resample: whether their energy axes may differ from each other and in width of channels from the model's. Raises
    UnusableInputError that names every run which can't be used, or else every difference between them.
    """
    faults = {run.name: found for run in runs if (found := _unfit(run, recipe, resample=resample))}
    if faults:
        said = [f"{name} {' and '.join(found)}" for name, found in faults.items()]
        more = f"; and {len(said) - NAMES_SAID} runs more" if len(said) > NAMES_SAID else ""
        raise UnusableInputError(f"{'; '.join(said[:NAMES_SAID])}{more}.")
    differences = _differences(runs, resample=resample)
    if differences:
        remedies = ["train on runs that agree in this"]
        if AXIS in differences:
            remedies.append("bring the axes together with --resample")
        if NO_CURRENT in differences:
            remedies.append("give the beam current of all with --current")
        raise UnusableInputError(
            f"the runs do not go together: {'; '.join(differences.values())}: {', or '.join(remedies)}."
        )
    first = runs[0]
    return Conditions(
        dwell_s=_dwell_s(first),
        dose_pC=float(np.median(frame_doses_pC(first))),
        dose_is_relative=first.beam_current_pA is None,
    )


def _unfit(run: Recording, recipe: Recipe, *, resample: bool) -> list[str]:
    """What keeps a run from being used at all."""
    found = []
    if len(run.counts) < recipe.frames_needed:
        found.append(
            f"has {len(run.counts)} frames, where a window of {recipe.window} with a horizon of {max(recipe.horizons)} "
            f"needs {recipe.frames_needed}"
        )
    if not covers(run.energy_axis, recipe.energy_axis):
        found.append(f"covers {run.energy_axis}, where the model needs {recipe.energy_axis}")
    elif not resample and not _same_width(run.energy_axis, recipe.energy_axis):
        found.append(
            f"has channels of {run.energy_axis.dispersion_eV:g} eV, where the model has them of "
            f"{recipe.energy_axis.dispersion_eV:g} eV, which takes --resample"
        )
    if (np.abs(run.dwell_s / _dwell_s(run) - 1) > SAME_DWELL).any():
        found.append(
            f"has dwells from {run.dwell_s.min():g} to {run.dwell_s.max():g} s, where a model holds for one dwell"
        )
    if run.beam_current_pA is not None and (np.abs(run.beam_current_pA / _current_pA(run) - 1) > SAME_CURRENT).any():
        found.append(
            f"has beam currents from {run.beam_current_pA.min():.3g} to {run.beam_current_pA.max():.3g} pA, where a step of a "
            "model means one dose"
        )
    return found + faults_of(run)


def _differences(runs: Sequence[Recording], *, resample: bool) -> dict[str, str]:
    """What the runs do not have in common: a name, and who has what."""
    known_energy = [run for run in runs if run.beam_energy_keV is not None]
    known_current = [run for run in runs if run.beam_current_pA is not None]
    compared: list[tuple[str, list[list[Recording]], Callable[[Recording], str]]] = [
        ("dwell", _groups(runs, _dwell_s, SAME_DWELL), lambda r: f"{_dwell_s(r):g} s"),
        ("beam energy", _groups(known_energy, _energy_keV, SAME_VOLTAGE), lambda r: f"{_energy_keV(r):g} keV"),
        ("beam current", _groups(known_current, _current_pA, SAME_CURRENT), lambda r: f"{_current_pA(r):.3g} pA"),
    ]
    if known_current and len(known_current) < len(runs):
        unknown = [run for run in runs if run.beam_current_pA is None]
        compared.append((NO_CURRENT, [known_current, unknown], lambda r: "unknown" if r in unknown else "known"))
    if not resample:
        compared.insert(0, (AXIS, _axis_groups(runs), lambda r: str(r.energy_axis)))
    return {
        what: f"{what} {', '.join(f'{label(group[0])} in {_named(group)}' for group in groups)}"
        for what, groups, label in compared
        if len(groups) > 1
    }


def _groups(runs: Sequence[Recording], value: Callable[[Recording], float], tolerance: float) -> list[list[Recording]]:
    """Runs by a value; alike are those within a relative tolerance of the first of their group."""
    groups: list[list[Recording]] = []
    for run in runs:
        group = next((g for g in groups if abs(value(run) / value(g[0]) - 1) <= tolerance), None)
        groups.append([run]) if group is None else group.append(run)
    return groups


def _axis_groups(runs: Sequence[Recording]) -> list[list[Recording]]:
    groups: list[list[Recording]] = []
    for run in runs:
        group = next((g for g in groups if _same_axis(g[0].energy_axis, run.energy_axis)), None)
        groups.append([run]) if group is None else group.append(run)
    return groups


def _named(runs: Sequence[Recording]) -> str:
    names = [run.name for run in runs]
    if len(names) > NAMES_SAID:
        return f"{names[0]} and {len(names) - 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _same_axis(a: EnergyAxis, b: EnergyAxis) -> bool:
    """Whether two axes are one that was written down with different rounding."""
    if a.size != b.size:
        return False
    ends_eV = [x.offset_eV + n * x.dispersion_eV for x in (a, b) for n in (0, x.size - 1)]
    return max(abs(ends_eV[0] - ends_eV[2]), abs(ends_eV[1] - ends_eV[3])) <= SAME_CHANNEL * a.dispersion_eV


def _same_width(a: EnergyAxis, b: EnergyAxis) -> bool:
    """Whether channels are of one width: over the model's range they drift apart by no more than a rounding."""
    return abs(a.dispersion_eV / b.dispersion_eV - 1) * b.size <= SAME_CHANNEL


def _dwell_s(run: Recording) -> float:
    return float(np.median(run.dwell_s))


def _energy_keV(run: Recording) -> float:
    return float(run.beam_energy_keV or np.nan)


def _current_pA(run: Recording) -> float:
    return float(np.nan if run.beam_current_pA is None else np.median(run.beam_current_pA))


def frame_doses_pC(run: Recording) -> NDArray[np.float64]:
    """Dose of each frame, `(frame,)`; where the current is unknown it counts as 1 pA."""
    current_pA = np.ones(len(run.dwell_s)) if run.beam_current_pA is None else run.beam_current_pA
    return np.array([frame_dose_pC(float(i), float(t)) for i, t in zip(current_pA, run.dwell_s, strict=True)])
