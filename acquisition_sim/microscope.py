"""The simulated microscope: specimen, energy axis and camera in one, exposed frame by frame or in blocks. Pure.

`expose` takes a state and the conditions of a frame, and returns the next state and what the camera saw. The same preset,
state and conditions give the same bytes: a frame's random numbers depend on the seed and on the frame's number alone, not on
what was asked for before, nor on whether frames are exposed one by one or in blocks. Blocks are only faster.

Nothing here knows of commands or time: what a command does is in `beam.py`, and the shell hands over what then holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acquisition_sim import high_tension, specimen
from acquisition_sim.detector import Detector
from acquisition_sim.high_tension import HighTensionState
from acquisition_sim.presets import Preset
from acquisition_sim.scratch import Scratch
from acquisition_sim.specimen import SpecimenState

BLOCK = 32  # frames worked on together: enough to make numpy's overhead small, few enough to stay in the cache
PHASES = 128  # steps of the table over the phase: lines move by some 0.01 eV from one to the next


@dataclass(frozen=True, slots=True)
class MicroscopeState:
    """All that a microscope remembers from frame to frame."""

    seed: int  # of every random number of this session
    frame: int  # number of the next frame
    specimen: SpecimenState
    high_tension: HighTensionState


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame."""

    counts: NDArray[np.float32]  # (channel,), whole numbers ≥ 0
    clean_counts: NDArray[np.float32]  # (channel,), their expectation: with the frame's energy shift, without spikes
    phase: float  # at the middle of the exposure
    dose_pC: float  # that the specimen received in this frame


@dataclass(frozen=True, slots=True)
class Exposures:
    """Consecutive frames."""

    counts: NDArray[np.float32]  # (frame, channel)
    clean_counts: NDArray[np.float32]  # (frame, channel); of no frame where they were not wanted
    phase: NDArray[np.float64]  # (frame,)
    dose_pC: NDArray[np.float64]  # (frame,)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, frame: int) -> Exposure:
        return Exposure(
            self.counts[frame], self.clean_counts[frame], float(self.phase[frame]), float(self.dose_pC[frame])
        )


class Microscope:
    """An instrument with a specimen, as a preset describes them. Exposing changes nothing in it; one thread at a time.

    The first frames at a phase take up to a millisecond more each: its spectrum is worked out when it's first wanted.
    """

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self._detector = Detector(preset.detector, preset.energy_axis.size)
        self._spectra = _SpectrumTable(preset, self._detector.margin)
        self._random = _FrameRandom()

    def start(self, seed: int) -> MicroscopeState:
        """A fresh specimen at frame 0. seed: 0 to 2⁶⁴ − 1; another seed is other noise and another walk of the axis."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"a seed lies between 0 and 2^64 - 1, and this is {seed}")
        return MicroscopeState(seed, 0, SpecimenState(), high_tension.start(self.preset.high_tension))

    def expose(
        self, state: MicroscopeState, dwell_s: float, current_pA: float, blanked: bool = False
    ) -> tuple[MicroscopeState, Exposure]:
        """Take one frame. A blanked one is read out all the same: the specimen rests, and the camera sees its own noise.

        dwell_s > 0 and current_pA ≥ 0, or ValueError is raised.
        """
        state, exposures = self.expose_many(state, [dwell_s], [current_pA], [blanked])
        return state, exposures[0]

    def expose_many(
        self,
        state: MicroscopeState,
        dwell_s: ArrayLike,
        current_pA: ArrayLike,
        blanked: ArrayLike = False,
        *,
        clean: bool = True,
    ) -> tuple[MicroscopeState, Exposures]:
        """Take consecutive frames, with the same bytes as one by one.

        dwell_s: `(frame,)`, s. current_pA, pA, and blanked: `(frame,)` or one for all. clean: whether the noise-free counts
        are wanted too. Raises ValueError as `expose` does.
        """
        dwells = np.atleast_1d(np.asarray(dwell_s, dtype=np.float64))
        currents = np.broadcast_to(np.asarray(current_pA, dtype=np.float64), dwells.shape)
        blanks = np.broadcast_to(np.asarray(blanked, dtype=np.bool_), dwells.shape)
        if not (np.isfinite(dwells).all() and (dwells > 0).all()):
            raise ValueError("a dwell is a finite number of seconds above zero")
        if not (np.isfinite(currents).all() and (currents >= 0).all()):
            raise ValueError("a beam current is a finite number of pA, zero or above")
        channels = self.preset.energy_axis.size
        taken = Exposures(
            np.empty((len(dwells), channels), dtype=np.float32),
            np.empty((len(dwells) if clean else 0, channels), dtype=np.float32),
            np.empty(len(dwells)),
            np.where(blanks, 0.0, currents * dwells),
        )
        for first in range(0, len(dwells), BLOCK):
            state = self._expose_block(state, dwells, taken, slice(first, min(first + BLOCK, len(dwells))))
        return state, taken

    def _expose_block(
        self, state: MicroscopeState, dwell_s: NDArray[np.float64], taken: Exposures, block: slice
    ) -> MicroscopeState:
        preset, kinetics = self.preset, self.preset.specimen.kinetics
        frames = range(state.frame, state.frame + block.stop - block.start)
        damaged, tension = state.specimen, state.high_tension
        conditions: list[_Conditions] = []
        walks = self._random.of(state.seed, frames, _FrameRandom.AXIS)
        for index, generator in zip(range(block.start, block.stop), walks, strict=True):
            duration_s, dose_pC = float(dwell_s[index]), float(taken.dose_pC[index])
            walk, jitter = generator.standard_normal(2).tolist()
            tension = high_tension.step(tension, preset.high_tension, duration_s, walk)
            shift_eV = high_tension.shift_eV(tension, preset.high_tension, jitter)
            halfway = specimen.step(damaged, kinetics, dose_pC / 2, duration_s / 2)
            damaged = specimen.step(halfway, kinetics, dose_pC / 2, duration_s / 2)
            phase = specimen.phase(halfway, kinetics)
            taken.phase[index] = phase
            thickness = specimen.remaining_thickness(halfway, kinetics)
            conditions.append(_Conditions(phase, thickness, dose_pC, shift_eV))
        incident = self._spectra.expected(conditions)
        if len(taken.clean_counts):
            self._detector.expected(incident, taken.clean_counts[block])
        shots = self._random.of(state.seed, frames, _FrameRandom.CAMERA)
        self._detector.read(incident, dwell_s[block], shots, taken.counts[block])
        return MicroscopeState(state.seed, frames.stop, damaged, tension)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What a frame's expected counts follow from."""

    phase: float
    remaining_thickness: float
    dose_pC: float
    shift_eV: float


class _SpectrumTable:
    """The specimen's spectra over the phase, ready to be scaled and shifted.

    Between two phases it's linear, which misses less than 1e-4 of the background; a shift by a fraction of a channel is a cubic
    convolution (Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981)), good for lines of three channels and more.
    Entries are rounded to 2⁻²⁰ of the background, so that machines whose exponentials differ in the last bit agree here.
    """

    def __init__(self, preset: Preset, margin: int) -> None:
        """margin: channels wanted beyond either end of the axis."""
        axis = preset.energy_axis
        self._shape = preset.specimen.spectrum
        self._dispersion_eV = axis.dispersion_eV
        self.channels = axis.size + 2 * margin
        self._reach = math.ceil(high_tension.reach_eV(preset.high_tension) / axis.dispersion_eV) + 2
        channel = np.arange(-margin - self._reach, axis.size + margin + self._reach)
        self._energies_eV = np.asarray(axis.offset_eV + axis.dispersion_eV * channel, dtype=np.float64)
        self._single = np.empty((PHASES + 1, len(channel)), dtype=np.float32)
        self._plural = np.empty_like(self._single)
        self._tabulated = [False] * (PHASES + 1)
        self._mixed = Scratch(2, len(channel))
        self._reached = Scratch(1, self.channels + 3)
        self._counts = Scratch(2, self.channels)

    def _tabulate(self, row: int) -> None:
        """Work out a row of the table, if that has not been done."""
        if not self._tabulated[row]:
            single, plural = specimen.relative_spectra(self._energies_eV, self._shape, row / PHASES)
            self._single[row] = np.rint(single * 2**20) / 2**20
            self._plural[row] = np.rint(plural * 2**20) / 2**20
            self._tabulated[row] = True

    def expected(self, conditions: list[_Conditions]) -> NDArray[np.float32]:
        """Expected counts of frames, `(frame, channel + 2 margin)`; they hold until the next call."""
        rows: list[int] = []  # of the table: at the phase below; above it is the next one
        shares: list[tuple[float, float, float, float]] = []  # of both rows scattered once, and of both scattered more
        starts: list[int] = []  # first channel of the table that a frame's cubic reaches
        weights: list[tuple[float, float, float, float]] = []
        for at in conditions:
            thickness_mfp = self._shape.thickness_mfp * at.remaining_thickness
            scale = specimen.counts_per_eV(self._shape, at.dose_pC, thickness_mfp) * self._dispersion_eV
            below = min(int(at.phase * PHASES), PHASES - 1)
            above = at.phase * PHASES - below
            self._tabulate(below)
            self._tabulate(below + 1)
            rows.append(below)
            plural = scale * thickness_mfp
            shares.append((scale * (1 - above), scale * above, plural * (1 - above), plural * above))
            channels_up = -at.shift_eV / self._dispersion_eV
            whole = math.floor(channels_up)
            starts.append(self._reach + whole - 1)
            weights.append(_keys_weights(channels_up - whole))
        below_row = np.array(rows)
        mixture = np.array(shares, dtype=np.float32).T[:, :, np.newaxis]
        taps = np.array(weights, dtype=np.float32).T[:, :, np.newaxis]

        spectra, part = self._mixed.of(len(conditions))
        np.take(self._single, below_row, axis=0, out=spectra, mode="clip")  # the one mode that writes there at once
        spectra *= mixture[0]
        for table, row, share in (
            (self._single, below_row + 1, mixture[1]),
            (self._plural, below_row, mixture[2]),
            (self._plural, below_row + 1, mixture[3]),
        ):
            np.take(table, row, axis=0, out=part, mode="clip")
            part *= share
            spectra += part
        (reached,) = self._reached.of(len(conditions))
        for frame, start in enumerate(starts):
            reached[frame] = spectra[frame, start : start + self.channels + 3]
        counts, weighted = self._counts.of(len(conditions))
        np.multiply(reached[:, : self.channels], taps[0], out=counts)
        for distance in (1, 2, 3):
            np.multiply(reached[:, distance : distance + self.channels], taps[distance], out=weighted)
            counts += weighted
        np.maximum(counts, 0, out=counts)  # where a line is too narrow for its channels, the cubic undershoots
        return counts


def _keys_weights(fraction: float) -> tuple[float, float, float, float]:
    """Weights of the four samples at −1, 0, 1 and 2 for the value at a fraction in [0, 1): Keys' cubic, a = −1/2."""
    f = fraction
    return (
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )


class _FrameRandom:
    """Random numbers of single frames: a function of seed, frame number and purpose.

    Philox turns a key and a counter into random bits (Salmon et al., SC '11), so every frame gets a counter range of its own by
    setting it, in two microseconds. Making a generator a frame takes twenty; a stream that runs on from frame to frame would
    make a frame depend on all before it. Drawing normals, Philox is about as fast as SFC64 here.
    """

    AXIS, CAMERA = 0, 1

    def __init__(self) -> None:
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        self._seed: int | None = None

    def of(self, seed: int, frames: range, purpose: int) -> Iterator[np.random.Generator]:
        """A generator for each frame. It is one object, set anew: done with a frame's, before the next is asked for."""
        if seed != self._seed:
            self._fresh, self._seed = np.random.Philox(seed).state, seed
        fresh = self._fresh
        counter = fresh["state"]["counter"]  # 256 bits, the lowest 64 first: they count on within the frame
        for frame in frames:
            counter[2], counter[3] = purpose, frame
            self._bits.state = fresh
            yield self._generator
