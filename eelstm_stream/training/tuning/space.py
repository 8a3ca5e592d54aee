"""What is searched: the paper's Table II, as ranges that may be narrowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from eelstm_stream.errors import UsageError
from eelstm_stream.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Range:
    """Values of one hyperparameter, both ends included."""

    low: float
    high: float
    whole: bool = False  # whole numbers only
    by_magnitude: bool = False  # searched by its logarithm

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


Space = Mapping[str, Range]

# Source: Lewis et al., Forecasting of In Situ Electron Energy Loss Spectroscopy (2022), Table II.
TABLE_II: Space = MappingProxyType(
    {
        "learning_rate": Range(1e-6, 1e-1, by_magnitude=True),
        "layers": Range(1, 4, whole=True),
        "units": Range(64, 512, whole=True),
        "dropout": Range(0.01, 0.3),
        "window": Range(3, 15, whole=True),
        "batch": Range(20, 100, whole=True),
    }
)
# What a network can be made with at all; beyond these a range is a slip of the pen.
POSSIBLE: Space = MappingProxyType(
    {
        "learning_rate": Range(1e-9, 10),
        "layers": Range(1, 16),
        "units": Range(1, 4096),
        "dropout": Range(0, 0.9),
        "window": Range(2, 256),
        "batch": Range(1, 8192),
    }
)
_NUMBER = r"[-+.\w]+?"
_TEXT = re.compile(rf"\s*(\w+)\s*=\s*({_NUMBER})\s*(?:\.\.\s*({_NUMBER})\s*)?")


def space_with(ranges: Sequence[str]) -> Space:
    """Table II with ranges in place of some of its own, each written as `units=64..128`, or `layers=2` for one value.

    Raises UsageError, one sentence, for what is none.
    """
    space = dict(TABLE_II)
    for text in ranges:
        found = _TEXT.fullmatch(text)
        if found is None:
            raise UsageError(f"--range {text!r} is no range: write it as units=64..128.")
        name, low, high = found[1], found[2], found[3] or found[2]
        if name not in space:
            raise UsageError(f"--range {text!r}: what is searched are {', '.join(space)}.")
        space[name] = _range(text, space[name], POSSIBLE[name], low, high)
    return MappingProxyType(space)


def _range(text: str, of: Range, possible: Range, low: str, high: str) -> Range:
    try:
        first, last = float(low), float(high)
    except ValueError:
        raise UsageError(f"--range {text!r} has something in it that is no number.") from None
    if not first <= last or first not in possible or last not in possible:
        raise UsageError(f"--range {text!r} must rise, and lie within {possible}.")
    if of.whole and not (first.is_integer() and last.is_integer()):
        raise UsageError(f"--range {text!r} must have whole numbers.")
    return replace(of, low=first, high=last)


def suggested(trial: Any, space: Space, recipe: Recipe) -> Recipe:
    """The recipe with what the sampler proposes for an Optuna trial."""
    chosen: dict[str, Any] = {}
    for name, r in space.items():
        if r.whole:
            chosen[name] = trial.suggest_int(name, int(r.low), int(r.high))
        else:
            chosen[name] = trial.suggest_float(name, r.low, r.high, log=r.by_magnitude)
    return replace(recipe, **chosen)


def parameters(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Of a recipe, what is searched."""
    return {name: getattr(recipe, name) for name in space}
