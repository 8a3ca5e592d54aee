"""Simulated microscopes with all their parameters, from one file of presets.

Each table of the file is a preset. It may be `like` another one, and then says only what differs, to any depth. Whatever
comes out must be complete and within bounds, and a key that nobody knows is an error.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from acquisition_sim import variation
from acquisition_sim.beam import BeamParameters, Order, refusal
from acquisition_sim.detector import DetectorParameters
from acquisition_sim.high_tension import HighTensionParameters
from acquisition_sim.programme import ProgrammeLimits
from acquisition_sim.specimen import Kinetics, SpectrumShape
from acquisition_sim.variation import Variation
from eelstm_stream.errors import UsageError
from eelstm_stream.wire.messages import EnergyAxis

LOWEST_ENERGY_eV = 150.0
FINEST_DISPERSION_eV = 0.005
MOST_CHANNELS = 16_384
PRESETS: Path = Path(str(files(__package__) / "presets.toml"))
DEFAULT_PRESET = "srtio3-300kV"


class SpecimenParameters(BaseModel, frozen=True, extra="forbid"):
    """The specimen: the spectra of its two states, and how dose leads from one to the other."""

    name: str = Field(min_length=1, max_length=200)
    spectrum: SpectrumShape
    kinetics: Kinetics


class Preset(BaseModel, frozen=True, extra="forbid"):
    """A microscope with a specimen in it, and how its runs differ from one another."""

    description: str = Field(min_length=1, max_length=2000)
    energy_axis: EnergyAxis
    specimen: SpecimenParameters
    beam: BeamParameters
    detector: DetectorParameters
    high_tension: HighTensionParameters
    variation: Variation
    programme: ProgrammeLimits

    @field_validator("energy_axis", mode="before")
    @classmethod
    def _known_keys(cls, axis: object) -> object:
        """On the wire an axis may have keys from a newer sender; here they're misspelt."""
        if isinstance(axis, dict) and (unknown := sorted(set(axis) - set(EnergyAxis.model_fields))):
            raise ValueError(f"{unknown[0]} is no key of an energy axis")
        return axis

    @field_validator("energy_axis")
    @classmethod
    def _core_losses(cls, axis: EnergyAxis) -> EnergyAxis:
        """The background is a power law, which has no beginning; and the table of spectra must fit into memory."""
        if axis.offset_eV < LOWEST_ENERGY_eV:
            raise ValueError(f"must begin at {LOWEST_ENERGY_eV:g} eV or above")
        if axis.dispersion_eV < FINEST_DISPERSION_eV or axis.size > MOST_CHANNELS:
            raise ValueError(f"must have {MOST_CHANNELS} channels or fewer, of {FINEST_DISPERSION_eV} eV or more")
        return axis

    @model_validator(mode="after")
    def _runs_are_possible(self) -> Self:
        for dwell_s, current_pA in zip(self.programme.dwell_s, self.programme.current_pA, strict=True):
            if refused := refusal(Order(current_pA=current_pA, dwell_s=dwell_s), self.beam):
                raise ValueError(f"programme: {refused.reason.rstrip('.')}")
        variation.require_possible(self)
        return self


def preset_names(path: Path = PRESETS) -> list[str]:
    """Names of the presets in a file, in its order. Raises UsageError where it can't be read."""
    return list(_tables(path))


def load_preset(name: str, path: Path = PRESETS) -> Preset:
    """A preset by its name. Raises UsageError, one sentence naming the key at fault."""
    tables = _tables(path)
    try:
        return Preset.model_validate(_complete(name, tables, path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise UsageError(f"{path.name}: preset {name}: {key} is no key that is known here.") from None
        if fault["type"] == "missing":
            raise UsageError(f"{path.name}: preset {name}: {key} is missing.") from None
        if fault["type"] == "value_error":
            reason = (": " if key else "") + fault["msg"].removeprefix("Value error, ")
        else:
            reason = f" is {fault['input']!r}, and it {fault['msg'].removeprefix('Input ')}"
        raise UsageError(f"{path.name}: preset {name}: {key}{reason}.") from None


def _complete(name: str, tables: dict[str, dict[str, Any]], path: Path) -> dict[str, Any]:
    """A preset with all that it takes over from those it is like."""
    chain: list[str] = []
    wanted: object = name
    while wanted is not None:
        if not isinstance(wanted, str) or wanted not in tables:
            said = f"preset {chain[-1]}: like: " if chain else ""
            raise UsageError(f"{path.name}: {said}there is no preset {wanted!r}; known are {', '.join(tables)}.")
        if wanted in chain:
            raise UsageError(f"{path.name}: preset {chain[-1]}: like: {wanted} is like {chain[-1]} already.")
        chain.append(wanted)
        wanted = tables[wanted].get("like")
    complete: dict[str, Any] = {}
    for link in reversed(chain):
        complete = _merged(complete, {key: value for key, value in tables[link].items() if key != "like"})
    return complete


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
    for name, table in content.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path.name}: {name!r} must be a table, as [{name}].")
    return content
