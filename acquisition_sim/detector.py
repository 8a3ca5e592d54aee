"""The camera: electrons are counted, amplified, smeared over neighbouring channels, read out and digitised. Pure.

Operations: `expected` counts of many frames, and `read` them with noise. Goals: 5 000 frames of 2 048 channels a second on
one core; the same frame number and seed give the same bytes, however many frames are read in one call.

What happens to a frame, in this order:

1. Electrons arrive, Poisson with the expected number; each is worth `electron_gain` counts.
2. The scintillator and its fibres share them among neighbours, by `point_spread`. This evens single channels out but not
   sums over channels, and it makes neighbours correlate.
3. Each channel has its own sensitivity: what is left of a fixed pattern after gain correction.
4. Read-out noise, the same for all channels and all but normal; then X rays that hit the sensor itself, in one channel each.
5. The converter gives whole counts, none below zero and none above `saturation_counts`.

Plan: all but the drawing of random numbers works on blocks of frames, operation by operation, with no sums whose order a
library could choose. So a frame's bytes don't depend on the block that it is in, nor on the processor. Whole counts help:
they swallow a last bit in which two machines' logarithms differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, Strict, field_validator

from acquisition_sim.scratch import Scratch

# From this mean on, a channel's electrons are λ + √λ z + (z² − 1)/6 with z standard normal: Poisson's mean, its variance λ but
# for 1/18, and its third moment (Cornish and Fisher, Rev. Inst. Int. Stat. 5, 307 (1938)). What is lost is that electrons come
# in whole numbers, which gain and point spread hide, and a third of an excess kurtosis that is 1/λ = 2 % at most. Drawing
# normals is some five times as fast as drawing from Poisson's law.
NORMAL_FROM_ELECTRONS = 50.0

# Read-out noise is a sum of four random bytes, brought to mean 0 and the right variance: its cumulative distribution is the
# normal one to within 1 %, and ends at 3.5 σ. As normals, it would take as long as the shot noise does.
READ_NOISE_BYTES = 4
BYTES_MEAN = READ_NOISE_BYTES * 255 / 2
BYTES_DEVIATION = (READ_NOISE_BYTES * (256**2 - 1) / 12) ** 0.5

Share = Annotated[float, Field(ge=0, le=1)]


class DetectorParameters(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, strict=True):
    """What a camera does to the spectrum."""

    variance_over_mean: float = Field(
        gt=0, le=1e4, description="of single channels, where electrons alone are the noise"
    )
    point_spread: Annotated[tuple[Share, ...], Strict(False)] = Field(
        min_length=1, max_length=17, description="share of the channel itself, then of each neighbour 1, 2, … away"
    )
    read_noise_counts: float = Field(ge=0, le=1e6)
    fixed_pattern: float = Field(ge=0, le=0.2, description="standard deviation of the sensitivity between channels")
    fixed_pattern_seed: int = Field(
        0, ge=0, le=2**63 - 1, description="stands for the camera: its pattern never changes"
    )
    saturation_counts: float = Field(gt=0, le=1e9)
    spikes_per_s: float = Field(ge=0, le=1e4, description="X rays that hit the sensor, with the beam on or off")
    spike_counts: float = Field(gt=0, le=1e9, description="mean of a spike; exponentially distributed")

    @field_validator("point_spread")
    @classmethod
    def _shares_all(cls, spread: tuple[float, ...]) -> tuple[float, ...]:
        total = spread[0] + 2 * sum(spread[1:])
        if abs(total - 1) > 1e-3 or spread[0] == 0:
            raise ValueError(f"the shares of a channel and of both sides must sum to 1, and they sum to {total:g}")
        return tuple(share / total for share in spread)

    @property
    def electron_gain(self) -> float:
        """Counts for one electron: the variance that single channels show, less what sharing has evened out."""
        squares = self.point_spread[0] ** 2 + 2 * sum(share**2 for share in self.point_spread[1:])
        return self.variance_over_mean / squares


class Detector:
    """A camera of so many channels."""

    def __init__(self, parameters: DetectorParameters, channels: int) -> None:
        self.parameters = parameters
        self.channels = channels
        self.margin = len(parameters.point_spread) - 1  # channels beyond either end whose electrons reach the camera
        pattern = np.random.Generator(np.random.PCG64DXSM(parameters.fixed_pattern_seed)).standard_normal(channels)
        sensitivity = 1 + parameters.fixed_pattern * np.clip(pattern, -4, 4)
        self._sensitivity = (np.rint(sensitivity * 2**16) / 2**16).astype(np.float32)  # see "last bit" above
        self._shares = [np.float32(share) for share in parameters.point_spread]
        self._gain = np.float32(parameters.electron_gain)
        self._arrivals = Scratch(3, channels + 2 * self.margin)
        self._words = Scratch(1, -(-READ_NOISE_BYTES * channels // 8), "<u8")  # of eight random bytes
        self._shared = Scratch(1, channels)

    def expected(self, incident: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Mean counts of frames that get these counts: `(frame, channel)`, without spikes, saturation and digitising.

        incident: `(frame, channel + 2 margin)`, counts before point spread and sensitivity. out: where to put the answer.
        """
        counts = self._counts(incident, out)
        self._spread(incident, counts)
        counts *= self._sensitivity
        return counts

    def read(
        self,
        incident: NDArray[np.float32],
        dwell_s: NDArray[np.float64],
        random: Iterable[np.random.Generator],
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Counts of frames, `(frame, channel)` float32, whole numbers in [0, saturation_counts].

        incident: as for `expected`, not negative. dwell_s: `(frame,)`. random: one generator a frame, which is asked for when
        the frame before is done with its own; it may be the same object, set back. out: where to put the answer.
        """
        counts = self._counts(incident, out)
        electrons, normals, arrived = self._arrivals.of(len(incident))
        (words,) = self._words.of(len(incident))
        np.divide(incident, self._gain, out=electrons)
        exactly: dict[int, NDArray[np.int64]] = {}
        spikes: list[tuple[int, NDArray[np.int64], NDArray[np.float64]]] = []
        fewest = electrons.min(axis=1).tolist()
        read_noise = self.parameters.read_noise_counts > 0
        spikes_expected = (self.parameters.spikes_per_s * dwell_s).tolist()
        for frame, generator in enumerate(random):
            if fewest[frame] >= NORMAL_FROM_ELECTRONS:
                generator.standard_normal(dtype=np.float32, out=normals[frame])
            else:
                normals[frame] = 0
                exactly[frame] = generator.poisson(electrons[frame])
            if read_noise:
                words[frame] = generator.bit_generator.random_raw(words.shape[1])
            hits = int(generator.poisson(spikes_expected[frame]))
            if hits:
                heights = generator.exponential(self.parameters.spike_counts, hits)
                spikes.append((frame, generator.integers(self.channels, size=hits), heights))

        self._poisson_like(electrons, normals, arrived)
        for frame, number in exactly.items():
            arrived[frame] = number
        arrived *= self._gain
        self._spread(arrived, counts)
        counts *= self._sensitivity
        if read_noise:
            self._add_read_noise(words.view(np.uint8), counts)
        for frame, channels, heights in spikes:
            np.add.at(counts[frame], channels, heights.astype(np.float32))
        np.rint(counts, out=counts)
        return np.clip(counts, 0, np.float32(self.parameters.saturation_counts), out=counts)

    def _counts(self, incident: NDArray[np.float32], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return np.empty((len(incident), self.channels), dtype=np.float32) if out is None else out

    def _add_read_noise(self, random_bytes: NDArray[np.uint8], counts: NDArray[np.float32]) -> None:
        """random_bytes: `(frame, READ_NOISE_BYTES × channel)` or a few more; counts: `(frame, channel)`, which get the noise."""
        (noise,) = self._shared.of(len(counts))
        np.copyto(noise, random_bytes[:, : self.channels])
        for first in range(self.channels, READ_NOISE_BYTES * self.channels, self.channels):
            noise += random_bytes[:, first : first + self.channels]
        noise -= np.float32(BYTES_MEAN)
        noise *= np.float32(self.parameters.read_noise_counts / BYTES_DEVIATION)
        counts += noise

    @staticmethod
    def _poisson_like(mean: NDArray[np.float32], normals: NDArray[np.float32], arrived: NDArray[np.float32]) -> None:
        """λ + √λ z + (z² − 1)/6 into `arrived`. Uses up `normals`."""
        np.sqrt(mean, out=arrived)
        arrived *= normals
        arrived += mean
        normals *= normals
        normals -= np.float32(1)
        normals *= np.float32(1 / 6)
        arrived += normals

    def _spread(self, counts: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Counts shared among neighbours: `(frame, channel + 2 margin)` into `(frame, channel)`."""
        centre, stop = self.margin, self.margin + self.channels
        (both,) = self._shared.of(len(counts))
        np.multiply(counts[:, centre:stop], self._shares[0], out=out)
        for distance, share in enumerate(self._shares[1:], start=1):
            below, above = slice(centre - distance, stop - distance), slice(centre + distance, stop + distance)
            np.add(counts[:, below], counts[:, above], out=both)
            both *= share
            out += both
