"""What is odd about a recording: what it can't be used for, and what its user should know of. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.io.recordings import Recording
from eelstm_stream.wire.messages import EnergyAxis

NEGATIVE_SIGMAS = 5.0  # a channel whose mean is so many of its own standard errors below zero does not count electrons
SPIKE_SIGMAS = 10.0  # of the run's own noise
DEAD_SHARE = 0.2  # of what the channels beside it count
NEIGHBOURS = 5  # channels on either side that a dead one is held against
FEW_COUNTS = 10.0  # below this in its neighbours, a channel of nothing may be chance


def faults_of(run: Recording) -> list[str]:
    """Why a run can't be trained on, as `… has …` goes on: each a clause without the run's name. Empty where it can be.

    A dark current that was subtracted leaves a few counts below zero, which is no fault; a mean below zero is one.
    """
    counts = np.asarray(run.counts, dtype=np.float64)
    if len(counts) > 1 and (counts == counts[0]).all():
        return [f"holds the same spectrum {len(counts)} times, so the camera or the export stood still"]
    mean, error = counts.mean(axis=0), counts.std(axis=0) / np.sqrt(len(counts))
    negative = np.flatnonzero(mean < -NEGATIVE_SIGMAS * error)
    if negative.size:
        lowest = int(negative[np.argmin(mean[negative])])
        return [
            f"has a mean below zero in {_number(negative.size, 'channel')}, down to {mean[lowest]:.1f} counts at "
            f"{energies_eV(run.energy_axis)[lowest]:.1f} eV, so too much was subtracted from its counts"
        ]
    empty = np.flatnonzero(counts.sum(axis=1) <= 0)
    if empty.size:
        return [f"has {_frames(empty)} without counts in sum, where the beam was off, which must be cut out"]
    return []


def remarks_on(run: Recording, model_axis: EnergyAxis) -> list[str]:
    """What is odd about a run that can be trained on, in the range of the model's axis: each a clause without its name."""
    inside = channel_range(run.energy_axis, model_axis.first_eV, model_axis.last_eV)
    counts = np.asarray(run.counts[:, inside], dtype=np.float64)
    energies = energies_eV(run.energy_axis)[inside]
    found = []
    dead = _dead_channels(counts)
    if dead.size:
        places = ", ".join(f"{energies[channel]:.1f}" for channel in dead[:5]) + (", …" if dead.size > 5 else "")
        found.append(f"{_number(dead.size, 'dead channel')} (at {places} eV)")
    spikes = _spikes(counts)
    if spikes.any():
        frame, channel = np.unravel_index(np.argmax(np.where(spikes, counts, -np.inf)), counts.shape)
        found.append(
            f"{_number(int(spikes.sum()), 'spike')} (the highest {counts[frame, channel]:.0f} counts in frame {frame} at "
            f"{energies[channel]:.1f} eV)"
        )
    repeated = np.flatnonzero((counts[1:] == counts[:-1]).all(axis=1)) + 1
    if repeated.size:
        found.append(f"{_frames(repeated)} equal to the one before")
    negative = int(np.count_nonzero(counts < 0))
    if negative:
        found.append(f"{_number(negative, 'count')} below zero")
    return found


def _dead_channels(counts: NDArray[np.float64]) -> NDArray[np.intp]:
    """Channels that stand still, or count far less than those beside them."""
    mean = counts.mean(axis=0)
    padded = np.pad(mean, NEIGHBOURS, mode="reflect")
    beside = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    usual = np.median(np.delete(beside, NEIGHBOURS, axis=1), axis=1)
    still = np.ptp(counts, axis=0) == 0
    return np.flatnonzero((usual > FEW_COUNTS) & (still | (mean < DEAD_SHARE * usual)))


def _spikes(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Counts of one frame that stand out from the frames before and after: `(frame, channel)`.

    Held against the median of the three. The noise is taken as proportional to the root of the mean, by the median of the
    steps from frame to frame over all channels; as if each count were an electron at least, lest in a run without noise every
    line that drifts were full of them.
    """
    if len(counts) < 3:
        return np.zeros(counts.shape, dtype=bool)
    mean = np.maximum(counts.mean(axis=0), 1.0)
    steps = np.abs(np.diff(counts, axis=0)) / np.sqrt(mean)
    noise = max(1.0, 1.4826 * float(np.median(steps)) / np.sqrt(2)) * np.sqrt(mean)
    padded = np.concatenate([counts[1:2], counts, counts[-2:-1]])
    usual = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    return np.asarray(counts - usual > np.maximum(SPIKE_SIGMAS * noise, FEW_COUNTS))


def _frames(numbers: NDArray[np.intp]) -> str:
    """A few frames by number, many by how many they are."""
    if numbers.size == 1:
        return f"frame {numbers[0]}"
    return f"{numbers.size} frames (the first is {numbers[0]})"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
