"""The benchmark of control as a figure: utilisation and time against latency, and how the overshoot was kept."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acquisition_sim.closed_loop.results import Results, Row
from acquisition_sim.closed_loop.scoring import OVERSHOOT, SHARE_WITHIN

# Colours that the colour-blind tell apart: Okabe and Ito, Color Universal Design (2008).
LOOKS = {
    "oracle": ("oracle: knows the kinetics", "0.35", "--", "D"),
    "mpc": ("controller", "#D55E00", "-", "o"),
    "reactive": ("reactive threshold", "#0072B2", "-", "s"),
    "fixed": ("dose fixed beforehand", "#009E73", "-", "^"),
}
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def draw(results: Results, path: Path) -> None:
    """Write the figure; its format follows from the file's name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        used, overshoot, times = figure.subplots(1, 3, width_ratios=[1.7, 1, 1])
        for strategy, (label, colour, dashes, marker) in LOOKS.items():
            rows = sorted((r for r in results.rows if r.strategy == strategy), key=lambda r: r.latency_steps)
            if not rows:
                continue
            look = {"color": colour, "ls": dashes, "marker": marker, "ms": 5, "lw": 1.8 if strategy == "mpc" else 1.3}
            latencies = [r.latency_steps for r in rows]
            used.plot(latencies, [100 * r.utilisation for r in rows], label=label, **look)
            _mark_missed(used, rows, colour)
            overshoot.plot(latencies, [r.overshoot_p95 for r in rows], **look)
            times.plot(latencies, [r.time_s for r in rows], **look)
        used.set(xlabel="actuator latency, frames of 0.4 s", ylabel="dose used below the ceiling, % of what it bears")
        used.set_title(f"Utilisation, mean of {results.specimens} specimens", loc="left")
        used.set_ylim(bottom=_utilisation_bottom(results))
        used.legend(loc="lower left", fontsize=8, ncols=2)
        overshoot.axhline(OVERSHOOT, color="0.6", lw=1, ls=":")
        overshoot.annotate(
            f"meant: {OVERSHOOT:g} in {SHARE_WITHIN:.0%}", (0.98, OVERSHOOT), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=8, color="0.4",
        )  # fmt: skip
        overshoot.set(xlabel="latency, frames", ylabel="phase")
        overshoot.set_ylim(0, _overshoot_top(results))
        overshoot.set_title("Overshoot, 95th percentile", loc="left")
        times.set(xlabel="latency, frames", ylabel="s")
        times.set_ylim(bottom=0)
        times.set_title("Beam time until blanked", loc="left")
        for axes in (used, overshoot, times):
            axes.set_xticks(sorted({r.latency_steps for r in results.rows}))
            axes.grid(axis="y", color="0.92")
        figure.supxlabel(
            f"Simulated SrTiO3, 300 kV; ceiling {results.phase_ceiling:g}; each strategy tuned on {results.tuning_specimens} "
            f"other specimens; hollow: overshoots too often",
            fontsize=8, color="0.4",
        )  # fmt: skip
        figure.savefig(path, dpi=150)


def _mark_missed(axes: Axes, rows: list[Row], colour: str) -> None:
    """Hollow where fewer runs than meant kept within the overshoot: there its utilisation is not to be compared."""
    missed = [r for r in rows if r.overshoot_p95 > OVERSHOOT]
    axes.plot(
        [r.latency_steps for r in missed], [100 * r.utilisation for r in missed], ls="", marker="o", ms=8,
        mfc="white", mec=colour, zorder=5,
    )  # fmt: skip


def _utilisation_bottom(results: Results) -> float:
    """Low enough for the legend to lie below everything."""
    lowest = 100 * min(row.utilisation for row in results.rows)
    return lowest - 0.25 * (100 - lowest)


def _overshoot_top(results: Results) -> float:
    """High enough for all that can be compared; a strategy that fails leaves the picture upwards."""
    return min(0.05, max(0.02, 1.15 * max(r.overshoot_p95 for r in results.rows)))
