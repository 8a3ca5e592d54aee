"""A script of faults: read from TOML, and fitted to the session that it is for before anything of that begins.

    seed = 1

    [[fault]]
    kind = "dropped"
    frame = 20
    frames = 3

Whatever can't come to pass as it's written is refused, in one sentence that names the fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from acquisition_sim.faults import (
    KINDS,
    BadCounts,
    Fault,
    Frozen,
    OtherThanOrdered,
    Restart,
    Silence,
    WrongAxis,
    WrongShape,
)
from acquisition_sim.faults.fault import SAME_TIME
from eelstm_stream.errors import UsageError
from eelstm_stream.wire.messages import EnergyAxis

MOST_FAULTS = 1000
MOST_SEED = 2**63 - 1
NOTHING_BEFORE = (Frozen, Restart)


@dataclass(frozen=True, slots=True)
class FaultScript:
    """Faults, in the order in which they are applied. The same seed, faults and session give the same bytes."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    name: str = "faults"

    def named(self, number: int) -> str:
        """How a sentence about a fault begins."""
        return f"{self.name}: fault {number + 1} ({self.faults[number].KIND})"


NO_FAULTS = FaultScript()


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What is known of a session before it begins."""

    energy_axis: EnergyAxis
    frames: int | None  # None: nobody knows
    ends_s: Sequence[float] | None  # end of each frame, s since the start; None where the dwell may be commanded
    obeys: bool = False
    current_is_known: bool = True


def script_for(path: Path | None, plan: SessionPlan) -> FaultScript:
    """The script in a file, if one is given, fitted to a session. Raises UsageError."""
    return NO_FAULTS if path is None else fitted(read_script(path), plan)


def read_script(path: Path) -> FaultScript:
    """A script from its file. Raises UsageError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
    if unknown := sorted(set(content) - {"seed", "fault"}):
        raise UsageError(
            f"{path.name}: {unknown[0]!r} is nothing that a script of faults has: seed, and [[fault]] tables."
        )
    seed, tables = content.get("seed", 0), content.get("fault", [])
    if type(seed) is not int or not 0 <= seed <= MOST_SEED:
        raise UsageError(f"{path.name}: seed is {seed!r}, and it must be a whole number from 0 to {MOST_SEED}.")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path.name}: 'fault' must be tables, each begun by [[fault]].")
    if not 1 <= len(tables) <= MOST_FAULTS:
        raise UsageError(
            f"{path.name} has {len(tables)} faults, and a script has 1 to {MOST_FAULTS}, each a [[fault]]."
        )
    return FaultScript(tuple(_fault(path.name, *numbered) for numbered in enumerate(tables)), seed, path.name)


def _fault(script: str, number: int, table: dict[str, Any]) -> Fault:
    named = f"{script}: fault {number + 1}"
    kind, values = table.get("kind"), {key: value for key, value in table.items() if key != "kind"}
    if kind is None:
        raise UsageError(f"{named}: kind is missing; known are {', '.join(KINDS)}.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"{named}: there is no fault {kind!r}; known are {', '.join(KINDS)}.")
    model = KINDS[kind]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        reason = f"{key} is {wrong['input']!r:.80}, and {wrong['msg'].replace('Input', 'it', 1)}"
        if wrong["type"] == "extra_forbidden":
            reason = f"{key} is no key of this fault; known are {', '.join(model.model_fields)}"
        elif wrong["type"] == "missing":
            reason = f"{key} is missing"
        elif wrong["type"] == "value_error":
            reason = (f"{key}: " if key else "") + wrong["msg"].removeprefix("Value error, ")
        raise UsageError(f"{named} ({kind}): {reason}.") from None


def fitted(script: FaultScript, plan: SessionPlan) -> FaultScript:
    """The script for a session: times turned into frames where the dwell is known, and everything possible.

    Where the dwell may be commanded, times stay times. Then nobody knows which frames they mean, and whether two faults meet.
    Raises UsageError where a fault can't come to pass.
    """
    placed = []
    for number, fault in enumerate(script.faults):
        named = script.named(number)
        if (reason := _impossible(fault, plan)) is not None:
            raise UsageError(f"{named}: {reason}.")
        in_frames = fault if plan.ends_s is None else _in_frames(named, fault, plan.ends_s)
        _require_reachable(named, in_frames, plan)
        placed.append(in_frames)
    script = replace(script, faults=tuple(placed))
    _require_apart(script)
    return script


def _impossible(fault: Fault, plan: SessionPlan) -> str | None:
    """Why a fault makes no sense in a session, wherever in it."""
    match fault:
        case WrongShape(channels=plan.energy_axis.size):
            return f"channels is {fault.channels}, as in the session: nothing would be wrong"
        case WrongAxis(energy_axis=plan.energy_axis):
            return f"energy_axis is the session's, {fault.energy_axis}: nothing would be wrong"
        case BadCounts() if fault.in_channels > plan.energy_axis.size:
            return f"in_channels is {fault.in_channels}, and the session has {plan.energy_axis.size} channels"
        case OtherThanOrdered() if not plan.obeys:
            return "this instrument takes no commands: give --obey, or --responsive for a recording"
        case OtherThanOrdered() if fault.current_factor != 1 and not plan.current_is_known:
            return "current_factor is given, and the current is unknown here, so none can be ordered"
    return None


def _in_frames(named: str, fault: Fault, ends_s: Sequence[float]) -> Fault:
    """A fault by frames alone."""
    ends = np.asarray(ends_s)
    if fault.at_s is not None:
        frame = int(np.searchsorted(ends, fault.at_s * SAME_TIME, side="left"))
        if frame >= len(ends):
            raise UsageError(f"{named}: at_s is {fault.at_s:g}, and the session ends after {ends[-1]:g} s.")
        fault = fault.model_copy(update={"frame": frame, "at_s": None})
    if not isinstance(fault, Silence) or fault.for_s is None or fault.frame is None or fault.frame >= len(ends):
        return fault
    until_s = float(ends[fault.frame]) + fault.for_s
    frames = int(np.searchsorted(ends, until_s * SAME_TIME, side="left")) - fault.frame
    if fault.frame + frames == len(ends) and until_s * SAME_TIME > ends[-1] + np.diff(ends, prepend=0.0)[-1]:
        raise UsageError(f"{named}: it lasts until {until_s:g} s, and the session ends after {ends[-1]:g} s.")
    return fault.model_copy(update={"frames": frames, "for_s": None})


def _require_reachable(named: str, fault: Fault, plan: SessionPlan) -> None:
    if isinstance(fault, NOTHING_BEFORE) and fault.frame == 0:
        raise UsageError(f"{named}: it falls on frame 0, and needs one before it.")
    if fault.frame is None or plan.frames is None or fault.frame + fault.reach <= plan.frames:
        return
    raise UsageError(f"{named}: it takes {_span(fault)}, and the session's last is {plan.frames - 1}.")


def _span(fault: Fault) -> str:
    assert fault.frame is not None  # noqa: S101 - it was placed
    last = fault.frame + fault.reach - 1
    return f"frame {fault.frame}" if last == fault.frame else f"frames {fault.frame} to {last}"


def _require_apart(script: FaultScript) -> None:
    """No frame may be touched by two faults. What falls on commands and what falls on frames don't touch."""
    for of_commands in (False, True):
        placed = [
            (fault.frame, number)
            for number, fault in enumerate(script.faults)
            if fault.frame is not None and isinstance(fault, OtherThanOrdered) is of_commands
        ]
        for (_, one), (begins, other) in pairwise(sorted(placed)):
            before = script.faults[one]
            assert before.frame is not None  # noqa: S101 - it was placed
            if begins < before.frame + before.reach:
                first, second = sorted((one, other))
                spans = _span(script.faults[second]), _span(script.faults[first])
                raise UsageError(
                    f"{script.named(second)}: {spans[0]} overlaps with fault {first + 1} "
                    f"({script.faults[first].KIND}), which takes {spans[1]}."
                )
