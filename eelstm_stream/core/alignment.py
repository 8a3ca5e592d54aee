"""Energy drift taken out: the shift of a spectrum against a reference, to a fraction of a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range
from eelstm_stream.wire.messages import EnergyAxis

# Below this correlation at the best shift the reference's features are not there to align on: noise decides the maximum.
MIN_CORRELATION = 0.6


@dataclass(frozen=True, slots=True)
class Shift:
    """Where a spectrum stands against the reference."""

    shift_eV: float  # positive: its features lie higher than the reference's. Zero when not trusted.
    correlation: float  # weighted Pearson correlation with the reference at the best shift, −1 to 1
    trusted: bool  # the maximum is distinct and lies inside the search range


class Alignment:
    """Finds the shift that best lays a spectrum over a reference, by cross-correlation in a range of energies.

    At every whole channel within ±max_shift_eV the reference's range is held against the spectrum's, both weighted by a
    Hann taper that moves along, and their weighted Pearson correlation taken: a slope of the background cancels as far as
    both share it, and neither end of the range stands out. The maximum is refined by the parabola through the three
    correlations around it. (hyperspy's `align1D` correlates without weights and interpolates the spectra instead.)
    """

    def __init__(
        self, reference: NDArray[np.floating], axis: EnergyAxis, range_eV: tuple[float, float], max_shift_eV: float
    ) -> None:
        """reference: `(channel,)` counts on `axis`. range_eV: low and high end of what is compared.

        Raises ValueError where the range or the room beside it is too small to shift by a channel.
        """
        compared = channel_range(axis, *range_eV)
        length = compared.stop - compared.start
        room = min(compared.start, axis.size - compared.stop)
        self._most = int(min(max_shift_eV / axis.dispersion_eV + 1e-6, room))
        if length < 8 or self._most < 1:
            raise ValueError(
                f"{length} channels between {range_eV[0]:g} and {range_eV[1]:g} eV of {axis} are too few to align on"
            )
        self._dispersion_eV = axis.dispersion_eV
        # What the search reads: the compared range and the largest shift on either side of it.
        self.channels = slice(compared.start - self._most, compared.stop + self._most)
        self.search_axis = EnergyAxis(
            offset_eV=axis.offset_eV + self.channels.start * axis.dispersion_eV,
            dispersion_eV=axis.dispersion_eV,
            size=length + 2 * self._most,
        )
        self._weight = np.hanning(length + 2)[1:-1]
        self._weight /= self._weight.sum()
        segment = np.asarray(reference[compared], dtype=np.float64)
        centred = segment - float(segment @ self._weight)
        self._template = self._weight * centred
        self._variance = float(self._template @ centred)

    def shift_of(self, counts: NDArray[np.floating]) -> Shift:
        """Shift of a spectrum, `(channel,)` counts on `search_axis`."""
        s = np.asarray(counts, dtype=np.float64)
        s = s - s.mean()  # keeps the difference of squares below exact
        mean = np.correlate(s, self._weight, mode="valid")
        variance = np.correlate(s * s, self._weight, mode="valid") - mean * mean
        product = np.sqrt(np.maximum(variance, 0.0) * self._variance)
        covariance = np.correlate(s, self._template, mode="valid")  # at −most … +most channels
        correlation = np.divide(covariance, product, out=np.zeros_like(covariance), where=product > 0)
        best = int(np.argmax(correlation))
        height = float(correlation[best])
        if best in (0, 2 * self._most) or height < MIN_CORRELATION:
            return Shift(0.0, height, trusted=False)
        left, top, right = (float(c) for c in correlation[best - 1 : best + 2])
        curvature = left - 2 * top + right
        fraction = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
        return Shift((best - self._most + fraction) * self._dispersion_eV, height, trusted=True)
