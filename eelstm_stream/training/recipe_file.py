"""A recipe as a TOML file: what `eelstm tune` writes, and `eelstm train --recipe` takes."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from eelstm_stream.errors import UsageError
from eelstm_stream.training.recipe import RECIPES, USED, Recipe
from eelstm_stream.wire.messages import MAX_HORIZONS

OF_ALL = ("family", "window", "horizons", "alignment_range_eV", "alignment_max_shift_eV", "energy_axis")
AT_LEAST = {
    "window": 1,
    "layers": 1,
    "units": 1,
    "batch": 1,
    "components": 1,
    "alignment_max_shift_eV": 0,
    "dropout": 0,
}
BELOW = {"dropout": 1, "weight_average": 1}


def recipe_toml(recipe: Recipe, remarks: tuple[str, ...] = ()) -> str:
    """The text of a recipe file: everything that its family uses. remarks: lines of comment above it."""
    values: dict[str, Any] = asdict(recipe) | {"energy_axis": recipe.energy_axis.model_dump()}
    lines = [f"# {remark}" for remark in remarks]
    lines += [f"{name} = {_toml(values[name])}" for name in (*OF_ALL, *USED[recipe.family])]
    return "\n".join(lines) + "\n"


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file. What it leaves out is as in the family's own recipe.

    Raises UsageError, one sentence, where it can't be read, names no family, or holds what no recipe has.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
    family = given.get("family")
    if not isinstance(family, str) or family not in RECIPES:
        raise UsageError(f"{path} must have a `family`, one of {', '.join(RECIPES)}.")
    known = [field.name for field in fields(Recipe)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(f"{path} has {unknown[0]!r}, and a recipe has {', '.join(known)}.")
    standard = asdict(RECIPES[family]) | {"energy_axis": RECIPES[family].energy_axis.model_dump()}
    try:
        recipe = TypeAdapter(Recipe).validate_python(standard | given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(
            f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}, and {str(fault['input'])[:80]!r} was given."
        ) from None
    _require_sensible(recipe, path)
    return recipe


def _require_sensible(recipe: Recipe, path: Path) -> None:
    for name, low in AT_LEAST.items():
        if not getattr(recipe, name) >= low:
            raise UsageError(f"{path}: {name} is {getattr(recipe, name)}, and must be {low} at least.")
    for name, high in BELOW.items():
        if not getattr(recipe, name) < high:
            raise UsageError(f"{path}: {name} is {getattr(recipe, name)}, and must be below {high}.")
    if not 0 < recipe.learning_rate < float("inf"):
        raise UsageError(f"{path}: learning_rate is {recipe.learning_rate}, and must be above 0.")
    rising = list(recipe.horizons) == sorted(set(recipe.horizons))
    if not recipe.horizons or not rising or not 1 <= recipe.horizons[0] <= recipe.horizons[-1] <= MAX_HORIZONS:
        raise UsageError(f"{path}: horizons are {list(recipe.horizons)}, and must rise within 1 to {MAX_HORIZONS}.")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # numbers and plain strings are written alike
