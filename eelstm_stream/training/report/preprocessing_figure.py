"""The paper's Figure 2: what happens to a run before the network sees it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.training.dataset import alignment_to
from eelstm_stream.training.report.shown_run import ShownRun
from eelstm_stream.training.report.style import BLUE, FORECAST, figure_of, grid
from eelstm_stream.wire.messages import EnergyAxis

FIRST = 16  # frames out of which two are laid over each other
ZOOM_eV = (454.0, 468.0)  # Ti L, where a shift shows

CAPTION = (
    "Preprocessing. Above: the run as it was recorded, and as the model gets it: normalised to the reference dose, aligned "
    "to the reference spectrum, cropped to the model's axis. Below: two early spectra at Ti L before and after "
    "alignment, the shift that was taken out of each frame, and the first and the last spectrum scaled to [0, 1], which is the last step and lies inside the "
    "model."
)


def draw_preprocessing(shown: ShownRun) -> Figure:
    """Six panels."""
    recording, prepared = shown.run.recording, shown.run.prepared
    metadata = shown.assessment.metadata
    raw_axis, axis = recording.energy_axis, metadata.energy_axis
    with figure_of(shown.assessment, [shown.run], 6.8) as figure:
        places = grid(figure, 2, 48, between_in=(0.0, 0.85))
        left, right = (figure.add_subplot(places[0, first : first + 18]) for first in (0, 26))
        _image(left, recording.counts, raw_axis, shown.time_s, "as recorded", "counts")
        _image(
            right, prepared.counts, axis, shown.time_s, "normalised, aligned, cropped", "counts at the reference dose"
        )
        shifts_eV, trusted = _shifts_of(shown)
        apart = _furthest_apart(shifts_eV, trusted)
        before, after, drift, scaled = (figure.add_subplot(places[1, first : first + 9]) for first in (0, 13, 26, 39))
        _zoom(before, recording.counts, raw_axis, apart, "two frames, raw")
        _zoom(after, prepared.counts, axis, apart, "aligned")
        _draw_shifts(drift, shown.time_s, shifts_eV, trusted)
        span = metadata.counts_high - metadata.counts_low
        for frame, colour, name in ((0, BLUE, "first"), (-1, FORECAST, "last")):
            values = (prepared.counts[frame] - metadata.counts_low) / span
            scaled.plot(energies_eV(axis), values, color=colour, lw=0.5, label=name)
        scaled.set(title="scaled", xlabel="energy loss (eV)", ylabel="scaled to [0, 1]")
        scaled.legend(loc="upper right")
    return figure


def _image(
    axes: Axes, counts: NDArray[np.floating], axis: EnergyAxis, time_s: NDArray[np.float64], title: str, unit: str
) -> None:
    last_s = float(time_s[-1] + (time_s[-1] - time_s[-2]))
    low, high = np.percentile(counts, (0.5, 99.5))
    shown = axes.imshow(
        counts,
        aspect="auto",
        origin="lower",
        extent=(axis.first_eV, axis.last_eV, 0.0, last_s),
        vmin=low,
        vmax=high,
        cmap="viridis",
        interpolation="nearest",
    )
    axes.set(title=title, xlabel="energy loss (eV)", ylabel="time (s)")
    bar = shown.get_figure(root=True).colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.03, 1)))  # type: ignore[union-attr]
    bar.set_label(unit)


def _furthest_apart(shifts_eV: NDArray[np.float64], trusted: NDArray[np.bool_]) -> tuple[int, int]:
    """Of the first frames the two with the least and the greatest shift: there the specimen is the same, and drift shows."""
    early = np.where(trusted, shifts_eV, np.nan)[:FIRST]
    if not np.isfinite(early).any():
        return 0, 1
    return int(np.nanargmin(early)), int(np.nanargmax(early))


def _zoom(axes: Axes, counts: NDArray[np.floating], axis: EnergyAxis, frames: tuple[int, int], title: str) -> None:
    channels = channel_range(axis, *ZOOM_eV)
    for frame, colour in zip(frames, (BLUE, FORECAST), strict=True):
        axes.plot(energies_eV(axis)[channels], counts[frame, channels], lw=0.8, color=colour, label=f"frame {frame}")
    axes.set(title=title, xlabel="energy loss (eV)", ylabel="counts")
    axes.legend(loc="upper right", handlelength=1.0)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))


def _shifts_of(shown: ShownRun) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Shift of each frame, eV, and whether it was taken out."""
    metadata, recording = shown.assessment.metadata, shown.run.recording
    preparation = Preparation(
        recording.energy_axis, metadata.energy_axis, alignment_to(metadata.alignment_reference, metadata)
    )
    shifts = [preparation(counts, 1.0).shift for counts in recording.counts]
    return np.array([s.shift_eV for s in shifts]), np.array([s.trusted for s in shifts])


def _draw_shifts(
    axes: Axes, time_s: NDArray[np.float64], shifts_eV: NDArray[np.float64], trusted: NDArray[np.bool_]
) -> None:
    axes.plot(time_s[trusted], shifts_eV[trusted], ".", color=BLUE, ms=3)
    if not trusted.all():
        axes.plot(time_s[~trusted], shifts_eV[~trusted], "x", color=FORECAST, ms=4, label="not aligned")
        axes.legend()
    axes.set(title="shift taken out", xlabel="time (s)", ylabel="shift (eV)")
