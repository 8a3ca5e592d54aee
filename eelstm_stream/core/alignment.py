"""Energy drift taken out: the shift of a spectrum against a reference, to a fraction of a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range
from eelstm_stream.wire.messages import EnergyAxis

# Below this correlation at the best shift, the reference's features are not there to align on: noise decides the maximum.
MIN_CORRELATION = 0.6


@dataclass(frozen=True, slots=True)
class Shift:
    """Where a spectrum stands against the reference."""

    shift_eV: float  # positive: its features lie higher than the reference's. Zero when not trusted.
    correlation: float  # Pearson correlation with the reference at the best shift, −1 to 1
    trusted: bool  # the maximum is distinct and lies inside the search range


class Alignment:
    """Finds the shift that best lays a spectrum over a reference, by cross-correlation in a range of energies.

    The correlation is evaluated by FFT at whole channels within ±max_shift_eV, and its maximum refined by the parabola
    through the three points around it (Céa et al., and the usual practice in drift correction; hyperspy's `align1D`
    interpolates the same curve instead). Both segments are centred and tapered, so that a sloping background does not
    correlate with itself at the ends of the range.
    """

    def __init__(
        self, reference: NDArray[np.floating], axis: EnergyAxis, range_eV: tuple[float, float], max_shift_eV: float
    ) -> None:
        """reference: `(channel,)` counts on `axis`. range_eV: low and high end of what is compared."""
        self._channels = channel_range(axis, *range_eV)
        length = self._channels.stop - self._channels.start
        self._dispersion_eV = axis.dispersion_eV
        room = min(self._channels.start, axis.size - self._channels.stop)  # the search reads that far beyond the range
        self._max_channels = min(int(max_shift_eV / axis.dispersion_eV), length // 2, room)
        if length < 8 or self._max_channels < 1:
            raise ValueError(
                f"{length} channels between {range_eV[0]:g} and {range_eV[1]:g} eV are too few to align on"
            )
        self._size = 1 << int(np.ceil(np.log2(length + self._max_channels + 1)))  # zero padding: no wrap-around
        self._taper = np.hanning(length + 2)[1:-1]
        segment = self._segment(reference)
        self._norm = float(np.linalg.norm(segment))
        self._conjugate = np.conj(np.fft.rfft(segment, self._size))

    def _segment(self, counts: NDArray[np.floating], offset: int = 0) -> NDArray[np.float64]:
        part = np.asarray(counts[self._channels.start + offset : self._channels.stop + offset], dtype=np.float64)
        weighted_mean = float(part @ self._taper) / float(self._taper.sum())
        return (part - weighted_mean) * self._taper

    def shift_of(self, counts: NDArray[np.floating]) -> Shift:
        """Shift of a spectrum, `(channel,)` counts on the reference's axis."""
        coarse, _ = self._best(counts, 0)
        # The taper stays while the features move under it, which pulls the maximum towards zero by a few per cent of the
        # shift. Taking the segment from where the features are leaves less than a channel to find, and so no bias.
        offset = round(coarse) if coarse is not None else 0
        fine, height = self._best(counts, offset)
        if fine is None or abs(offset + fine) > self._max_channels or height < MIN_CORRELATION:
            return Shift(0.0, height, trusted=False)
        return Shift((offset + fine) * self._dispersion_eV, height, trusted=True)

    def _best(self, counts: NDArray[np.floating], offset: int) -> tuple[float | None, float]:
        """Shift in channels beyond `offset`, None at the end of the search range; and the correlation there."""
        segment = self._segment(counts, offset)
        norm = float(np.linalg.norm(segment)) * self._norm
        if norm == 0.0:
            return None, 0.0
        circular = np.fft.irfft(np.fft.rfft(segment, self._size) * self._conjugate, self._size)
        most = self._max_channels
        correlation = np.concatenate([circular[-most:], circular[: most + 1]])  # at −most … +most channels
        best = int(np.argmax(correlation))
        height = float(correlation[best]) / norm
        if best in (0, 2 * most):
            return None, height
        left, top, right = (float(c) for c in correlation[best - 1 : best + 2])
        curvature = left - 2 * top + right
        return best - most + (0.5 * (left - right) / curvature if curvature < 0 else 0.0), height
