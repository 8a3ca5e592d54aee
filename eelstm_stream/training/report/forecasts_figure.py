"""The paper's Figure 4: a forecast early in the transition, and a late one, beside what came."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.core.metrics import EDGES_eV
from eelstm_stream.training.cases import root_mean
from eelstm_stream.training.report.shown_run import ShownRun
from eelstm_stream.training.report.style import CAME, FAINT, FORECAST, TRUTH, figure_of, grid

# Where the paper shows its two forecasts; of a run that does not reach so far, shares of its forecasts.
TIMES_S, SHARES = (15.0, 60.0), (0.25, 0.9)

CAPTION = (
    "Forecasts against what came, early and late. Light: the window that the forecast was made from. The spectrum that came "
    "carries its own noise, which no forecast can know; where the run is simulated, the noise-free truth is drawn too. Below: forecast "
    "minus spectrum, and forecast minus truth."
)


def draw_forecasts(shown: ShownRun) -> Figure:
    """Two columns: spectrum with insets, error below."""
    with figure_of(shown.assessment, [shown.run], 6.6) as figure:
        places = grid(figure, 2, 2, height_ratios=(2.6, 1), between_in=(0.85, 0.15))
        for column, case in enumerate(shown.cases_at(TIMES_S, SHARES)):
            above = figure.add_subplot(places[0, column])
            below = figure.add_subplot(places[1, column], sharex=above)
            _draw(above, below, shown, case, "early" if column == 0 else "late")
    return figure


def _draw(above: Axes, below: Axes, shown: ShownRun, case: int, when: str) -> None:
    prepared, axis = shown.run.prepared, shown.assessment.metadata.energy_axis
    energies = energies_eV(axis)
    target = int(shown.targets[case])
    came, forecast = prepared.counts[target], shown.counts[case]
    truth = None if prepared.clean_counts is None else prepared.clean_counts[target]
    ahead = shown.assessment.metadata.horizons[-1]

    def spectra(axes: Axes, channels: slice, width: float) -> None:
        for spectrum in shown.windows.counts[case]:
            axes.plot(energies[channels], spectrum[channels], color=FAINT, lw=0.4)
        axes.plot(energies[channels], came[channels], color=CAME, lw=0.6)
        if truth is not None:
            axes.plot(energies[channels], truth[channels], color=TRUTH, lw=width, ls="--")
        axes.plot(energies[channels], forecast[channels], color=FORECAST, lw=width)

    spectra(above, slice(None), 0.9)
    low, high = float(came.min()), float(came.max())
    above.set_ylim(low - 0.05 * (high - low), low + 2.1 * (high - low))  # room for the insets above the spectrum
    above.set_title(
        f"{when}: frame {target}, {shown.time_s[target]:.1f} s, forecast {ahead} step{'s' if ahead > 1 else ''} before"
    )
    above.set_ylabel("counts at the reference dose")
    above.tick_params(labelbottom=False)
    for name, colour, style in (
        ("window", FAINT, "-"),
        ("spectrum that came", CAME, "-"),
        *([("noise-free truth", TRUTH, "--")] if truth is not None else []),
        ("forecast", FORECAST, "-"),
    ):
        above.plot([], [], color=colour, ls=style, lw=1.5, label=name)
    above.legend(loc="lower left", ncols=2)
    for number, (name, edge_eV) in enumerate(EDGES_eV.items()):
        channels = channel_range(axis, *edge_eV)
        if channels.stop - channels.start < 10:
            continue
        inset = above.inset_axes((0.12 + 0.5 * number, 0.57, 0.37, 0.36))
        spectra(inset, channels, 1.2)
        inset.set_title(f"{name} (eV)", fontsize=8, pad=2)
        inset.tick_params(labelsize=6)

    below.plot(energies, forecast - came, color=CAME, lw=0.4, label=f"minus the spectrum: RMSE {shown.rmse(case):.0f}")
    if truth is not None:
        apart = np.asarray(forecast - truth, dtype=np.float64)
        rmse = root_mean(apart**2)
        below.plot(energies, apart, color=FORECAST, lw=0.8, label=f"minus the truth: RMSE {rmse:.0f}")
    below.axhline(0, color="0.5", lw=0.5)
    limit = 1.6 * float(np.percentile(np.abs(forecast - came), 99.9))
    below.set_ylim(-limit, 1.4 * limit)
    below.set(xlabel="energy loss (eV)", ylabel="forecast minus … (counts)")
    below.legend(loc="upper right", ncols=2)
