"""The rows of the paper's Table I as chains: what each way of preprocessing is worth to its network.

Table I is cumulative: scaling is in every row but the first, alignment in every row but the first two, and bins and background
subtraction are tried on top of both, one at a time. All rows are cropped to the same energies, so that all errors are over the
same channels.

**What an error means.** Root mean square over channels, windows and runs, in counts: forecast and target are brought back through
the inverse of the scaling (`Chain.in_counts`), and nothing else is undone. So each row is held against its own targets, and
its error is of the counts that its chain makes:

- raw, scaling, alignment: counts of one frame. These three compare with each other directly.
- exclusive bins: counts of the mean of n frames, whose noise floor is lower by √n; but one step ahead is n frames ahead, and there
  are n times fewer windows.
- rolling bins: counts of the mean of n frames, floor lower by √n. Neighbouring bins share frames, so measure the noise floor on
  every `independent_every`-th, and forecast at least as far ahead.
- background subtraction: counts above the background. The target carries the noise of its frame and the error of its own
  background fit, which no forecast can know; far above the edge that error is the larger part (380 counts at 625 eV here).

Across rows compare the error over the row's own noise floor, not the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from eelstm_stream.core.preprocessing.background import PowerLawBackground
from eelstm_stream.core.preprocessing.bins import ExclusiveBins, RollingBins
from eelstm_stream.core.preprocessing.chain import Chain
from eelstm_stream.core.preprocessing.crop import Crop
from eelstm_stream.core.preprocessing.peak_alignment import fit_alignment
from eelstm_stream.core.preprocessing.scaling import fit_global_scaling, fit_per_channel_scaling
from eelstm_stream.wire.messages import EnergyAxis

Runs = Sequence[NDArray[Any]]  # training runs, each (frame, channel) counts at one dose


@dataclass(frozen=True, slots=True)
class TableISettings:
    """What the rows are made with. The paper's where it gives a number.

    Source: Lewis et al., Forecasting of in situ electron energy loss spectroscopy, npj Comput. Mater. 8 (2022).
    """

    crop_eV: tuple[float, float] = (435.0, 625.0)
    alignment_range_eV: tuple[float, float] = (439.0, 464.0)  # channels 150 to 400 of its camera
    alignment_max_shift_eV: float = 3.0  # ours
    bin_frames: int = 3  # 3 to 5 in the paper; 3 leaves the most windows to learn from
    background_window_eV: tuple[float, float] = (436.0, 452.0)  # ours: what the crop leaves before Ti L
    per_channel: bool = True  # as its scaler does; False: over all channels, as this project's model files do


@dataclass(frozen=True, slots=True)
class Row:
    """One way of preprocessing."""

    paper_rmse: float  # counts, as printed
    paper_rmse_sd: float | None  # over repetitions; not given for the first row
    counts_are: str  # what its error is counted in, for a table's legend
    fit: Callable[[Runs, EnergyAxis, TableISettings], Chain]  # all that is fitted is fitted on these runs

    def __call__(self, training: Runs, axis: EnergyAxis, settings: TableISettings | None = None) -> Chain:
        """The row's chain, fitted on training runs, each `(frame, channel)` counts on `axis` at one dose.

        Raises UsageError where the settings do not fit the axis, UnusableInputError where the runs can't be fitted on.
        """
        return self.fit(training, axis, settings or TableISettings())


def _raw(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    return Chain((Crop(axis, *settings.crop_eV),))


def _scaled(chain: Chain, training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    """The chain with a scaling behind it that is fitted on what it makes of the training runs."""
    made = [chain.whole(run) for run in training]
    if settings.per_channel:
        return chain.then(fit_per_channel_scaling(made, chain.target_axis or axis))
    return chain.then(fit_global_scaling(made))


def _scaling(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    return _scaled(_raw(training, axis, settings), training, axis, settings)


def _aligned(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    alignment = fit_alignment(training, axis, settings.alignment_range_eV, settings.alignment_max_shift_eV)
    return Chain((alignment, Crop(axis, *settings.crop_eV)))


def _alignment(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    return _scaled(_aligned(training, axis, settings), training, axis, settings)


def _exclusive_bins(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    chain = _aligned(training, axis, settings).then(ExclusiveBins(settings.bin_frames))
    return _scaled(chain, training, axis, settings)


def _rolling_bins(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    chain = _aligned(training, axis, settings).then(RollingBins(settings.bin_frames))
    return _scaled(chain, training, axis, settings)


def _background(training: Runs, axis: EnergyAxis, settings: TableISettings) -> Chain:
    aligned = _aligned(training, axis, settings)
    chain = aligned.then(PowerLawBackground(aligned.target_axis or axis, settings.background_window_eV))
    return _scaled(chain, training, axis, settings)


TABLE_I: Mapping[str, Row] = MappingProxyType(
    {
        "raw": Row(1958.3, None, "counts of a frame", _raw),
        "scaling": Row(295.5, 40.3, "counts of a frame", _scaling),
        "alignment": Row(217.9, 23.4, "counts of a frame", _alignment),
        "exclusive bins": Row(400.8, 154.8, "counts of the mean of n frames, each in one mean", _exclusive_bins),
        "rolling bins": Row(241.4, 63.7, "counts of the mean of the newest n frames", _rolling_bins),
        "background subtraction": Row(392.4, 177.4, "counts above the background", _background),
    }
)
