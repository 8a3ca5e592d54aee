"""The background before an edge, fitted by a power law and taken off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.core.preprocessing.step import Counts, Stateless
from eelstm_stream.errors import UnusableInputError, UsageError
from eelstm_stream.wire.messages import EnergyAxis

FEWEST_CHANNELS = 8  # of a window, for a slope that noise does not decide alone
MOST_LOG_COUNTS = 100.0  # of a background anywhere on the axis, up or down: no counts, but no overflow either
REFINEMENTS = 2  # Gauss–Newton steps from the logarithms on: the second ends within a hundredth of a count


@dataclass(frozen=True, slots=True, eq=False)
class PowerLawBackground(Stateless):
    """Fits A·E^−r to the counts in a window of energies before an edge, and subtracts it from the whole spectrum.

    Least squares in counts (as hyperspy's `remove_background(fast=False)`), started from a straight line through the
    logarithms, which alone would come out low by half the counts' relative variance. What is left are counts above the
    background; far from the window they carry mostly the fit's own error, which grows with E and moves all channels together.
    Source: Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), section 4.4.
    """

    axis: EnergyAxis
    window_eV: tuple[float, float]
    channels: slice = field(init=False)
    _log_energy: Counts = field(init=False)  # (channel,), ln(E/E₀) with E₀ the window's geometric mean

    def __post_init__(self) -> None:
        """Raise UsageError for a window of too few channels, or one that reaches below 0 eV."""
        low_eV, high_eV = self.window_eV
        channels = channel_range(self.axis, low_eV, high_eV)
        energy_eV = energies_eV(self.axis)
        if channels.stop - channels.start < FEWEST_CHANNELS:
            raise UsageError(
                f"{max(0, channels.stop - channels.start)} channels of {self.axis} lie between {low_eV:g} and {high_eV:g} eV, "
                f"and a background is fitted on {FEWEST_CHANNELS} at least."
            )
        if not energy_eV[0] > 0:
            raise UsageError(f"a power law has no value at 0 eV, and the axis is {self.axis}: crop it first.")
        log_energy = np.log(energy_eV)
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "_log_energy", log_energy - log_energy[channels].mean())

    @property
    def source_axis(self) -> EnergyAxis:
        """The one given."""
        return self.axis

    def of(self, counts: NDArray[Any]) -> Counts:
        """`(…, channel)` counts above the background."""
        as_float = np.asarray(counts, dtype=np.float64)
        return np.asarray(as_float - self.background(as_float))

    def background(self, counts: NDArray[Any]) -> Counts:
        """The fitted power law at every energy, `(…, channel)` counts.

        counts: `(…, channel)`. Raises UnusableInputError where counts in the window are not above zero.
        """
        level, exponent = self.fit(counts)
        return np.asarray(np.exp(level[..., np.newaxis] - exponent[..., np.newaxis] * self._log_energy))

    def fit(self, counts: NDArray[Any]) -> tuple[Counts, Counts]:
        """Natural logarithm of the background at the window's geometric middle, and the exponent r: `(…)` each.

        counts: `(…, channel)`. Raises UnusableInputError where counts in the window are not above zero.
        """
        s = np.asarray(counts, dtype=np.float64)[..., self.channels]
        self._check_window(s)
        x = self._log_energy[self.channels]
        log_s = np.log(s)
        level, slope = log_s.mean(axis=-1), (log_s * x).sum(axis=-1) / float(x @ x)
        with np.errstate(all="ignore"):  # what diverges is refused below
            for _ in range(REFINEMENTS):
                model = np.exp(level[..., np.newaxis] + slope[..., np.newaxis] * x)
                weight, residual = model * model, model * (s - model)
                w0, w1, w2 = weight.sum(axis=-1), (weight * x).sum(axis=-1), (weight * x * x).sum(axis=-1)
                r0, r1 = residual.sum(axis=-1), (residual * x).sum(axis=-1)
                determinant = w0 * w2 - w1 * w1
                level = level + (w2 * r0 - w1 * r1) / determinant
                slope = slope + (w0 * r1 - w1 * r0) / determinant
            ends = level[..., np.newaxis] + slope[..., np.newaxis] * self._log_energy[[0, -1]]
        self._check_fit(ends)
        return np.asarray(level), np.asarray(-slope)

    def _check_fit(self, ends: Counts) -> None:
        """ends: `(…, 2)`, logarithms of the background at both ends of the axis."""
        good = np.abs(ends).max(axis=-1) < MOST_LOG_COUNTS
        if not good.all():
            frame = f"frame {int(np.argmin(good))}" if good.ndim else "this spectrum"
            low_eV, high_eV = self.window_eV
            raise UnusableInputError(
                f"{frame}: the counts between {low_eV:g} and {high_eV:g} eV follow no power law, so there is no background."
            )

    def _check_window(self, window: Counts) -> None:
        bad = ~((window > 0) & np.isfinite(window))
        if not bad.any():
            return
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        energy_eV = energies_eV(self.axis)[self.channels.start + int(where[-1])]
        frame = f"frame {where[0]}" if bad.ndim > 1 else "this spectrum"
        raise UnusableInputError(
            f"{frame} has {window[where]:g} counts at {energy_eV:.6g} eV, where the background is fitted: "
            "a power law needs counts above zero."
        )
