"""Steps one after the other, in an order that makes sense. A chain is a step itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.preprocessing.background import PowerLawBackground
from eelstm_stream.core.preprocessing.bins import ExclusiveBins, RollingBins
from eelstm_stream.core.preprocessing.dose_normalisation import DoseNormalisation, Exposed
from eelstm_stream.core.preprocessing.peak_alignment import PeakAlignment
from eelstm_stream.core.preprocessing.scaling import MinMaxScaling
from eelstm_stream.core.preprocessing.spikes import SpikeRemoval
from eelstm_stream.core.preprocessing.step import Counts, Step, as_run, as_spectrum
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis


class Place(NamedTuple):
    """A place in the order, for one step at most."""

    name: str
    steps: tuple[type, ...]
    reason: str  # why it comes before all that follow


# The order, stated once. A step of another kind, as a crop, may stand anywhere before scaling, and more than once. (Behind the
# alignment, a crop cuts off what shifts have brought in at the ends.)
ORDER: tuple[Place, ...] = (
    Place("dose normalisation", (DoseNormalisation,), "all other steps compare frames, which must be of one dose"),
    Place("spike removal", (SpikeRemoval,), "a shift spreads a spike over two channels, and a bin over its frames"),
    Place("alignment", (PeakAlignment,), "bins blur lines that move, and a background's window moves off its energies"),
    Place("bins", (ExclusiveBins, RollingBins), "a background is better fitted to counts with less noise"),
    Place("background subtraction", (PowerLawBackground,), "a power law is of counts, not of scaled ones"),
)
LAST = Place("scaling", (MinMaxScaling,), "its limits are those of what the network sees")


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Steps in the order of `ORDER`, with scaling last; an empty chain gives counts as they come.

    It takes `Exposed` where its first step is a dose normalisation, and else plain counts.
    """

    steps: tuple[Step[Any, Any], ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError where steps are out of order, or one takes another axis than it gets."""
        flat = tuple(s for step in self.steps for s in (step.steps if isinstance(step, Chain) else (step,)))
        _check_order(flat)
        _axis_behind(flat)
        object.__setattr__(self, "steps", flat)

    def then(self, *steps: Step[Any, Any]) -> Chain:
        """Add steps behind those of this chain."""
        return Chain((*self.steps, *steps))

    @property
    def source_axis(self) -> EnergyAxis | None:
        """Axis of what it takes; None where any will do."""
        return next((step.source_axis for step in self.steps if step.source_axis is not None), None)

    @property
    def target_axis(self) -> EnergyAxis | None:
        """Axis of what it gives; None where it is that of what it takes, and any will do."""
        return _axis_behind(self.steps)

    @property
    def independent_every(self) -> int:
        """Spectra that it gives share frames unless they are so many apart: n with rolling bins of n, and else 1.

        Noise is to be measured on every so-many-th, and a forecast nearer than that aims at what the window has seen a part of.
        """
        return max((step.frames for step in self.steps if isinstance(step, RollingBins)), default=1)

    def start(self) -> tuple[Any, ...]:
        """State of every step."""
        return tuple(step.start() for step in self.steps)

    def step(self, state: tuple[Any, ...], spectrum: NDArray[Any] | Exposed) -> tuple[tuple[Any, ...], Counts | None]:
        """Take one spectrum, `(channel,)`. Gives `(channel,)`, or None where bins need more of them first."""
        self._check_exposure(spectrum)
        if not self.steps:
            return state, as_spectrum(_counts(spectrum))
        after, given = list(state), spectrum
        for place, step in enumerate(self.steps):
            after[place], out = step.step(state[place], given)
            if out is None:
                return tuple(after), None
            given = out
        return tuple(after), _counts(given)

    def whole(self, run: NDArray[Any] | Exposed) -> Counts:
        """Take a run, `(frame, channel)`."""
        self._check_exposure(run)
        given = run
        for step in self.steps:
            given = step.whole(given)
        return as_run(_counts(given))

    def in_counts(self, spectra: NDArray[Any]) -> Counts:
        """What the chain gives, or a forecast of it, `(…, channel)`, with the scaling undone.

        Nothing else is undone, since it can't be: these are counts as the steps before the scaling leave them.
        """
        if self.steps and isinstance(self.steps[-1], MinMaxScaling):
            return self.steps[-1].inverse(spectra)
        return np.asarray(spectra, dtype=np.float64)

    def _check_exposure(self, spectra: NDArray[Any] | Exposed) -> None:
        normalises = bool(self.steps) and isinstance(self.steps[0], DoseNormalisation)
        if normalises and not isinstance(spectra, Exposed):
            raise UnusableInputError(
                "this chain normalises dose: give spectra as Exposed(counts, dwell_s, beam_current_pA)."
            )
        if isinstance(spectra, Exposed) and not normalises:
            raise UnusableInputError("this chain does not normalise dose: give counts without their exposure.")


def _counts(spectra: NDArray[Any] | Exposed) -> NDArray[Any]:
    return spectra.counts if isinstance(spectra, Exposed) else spectra


def _check_order(steps: Sequence[Step[Any, Any]]) -> None:
    reached: tuple[int, Place] | None = None
    for step in steps:
        here = next(((n, p) for n, p in enumerate((*ORDER, LAST)) if isinstance(step, p.steps)), None)
        if reached is not None:
            reached_at, before = reached
            if before is LAST:
                name = here[1].name if here is not None else type(step).__name__.lower()
                raise UsageError(f"{name} comes after scaling, and scaling is always last: {LAST.reason}.")
            if here is not None and here[0] == reached_at:
                raise UsageError(f"{before.name} is there twice: once is enough.")
            if here is not None and here[0] < reached_at:
                raise UsageError(f"{here[1].name} comes after {before.name}, and must come before: {here[1].reason}.")
        reached = here or reached


def _axis_behind(steps: Sequence[Step[Any, Any]]) -> EnergyAxis | None:
    """Axis that the last step gives, where it is known. Raises UsageError where one takes another axis than it gets."""
    axis: EnergyAxis | None = None
    for step in steps:
        if None not in (axis, step.source_axis) and step.source_axis != axis:
            name = type(step).__name__
            raise UsageError(f"{name} takes spectra of {step.source_axis}, and the steps before it give {axis}.")
        axis = step.target_axis or step.source_axis or axis
    return axis
