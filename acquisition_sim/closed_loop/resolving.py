"""How well `resolve` spreads a transition over frames, beside frames of one dwell with the same dose. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from acquisition_sim.closed_loop.results import ResolveRow
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.closed_loop.under_control import Flown

BEGINS, ENDS = 0.05, 0.95  # phases between which a specimen counts as changing
ROUNDING = 1e-9


def resolve_rows(
    specimens: Sequence[Specimen], flights: Sequence[Flown], *, delta: float, floor_pC: Sequence[float]
) -> tuple[ResolveRow, ResolveRow]:
    """Under control, and with the same total dose in as many frames of one dwell.

    floor_pC: of each specimen, the least dose of a frame whose signal stands above its noise.
    """
    controlled = [flown.frame_dose_pC for flown in flights]
    fixed = [np.full(len(doses), doses.mean()) for doses in controlled]
    times_s = [flown.time_s for flown in flights]
    return (
        _row("resolve", specimens, controlled, times_s, delta, floor_pC),
        _row("fixed dwell", specimens, fixed, times_s, delta, floor_pC),
    )


def _row(
    name: str,
    specimens: Sequence[Specimen],
    doses: Sequence[NDArray[np.float64]],
    times_s: Sequence[float],
    delta: float,
    floor_pC: Sequence[float],
) -> ResolveRow:
    within = below = frames = 0
    largest = []
    for specimen, dose, floor in zip(specimens, doses, floor_pC, strict=True):
        after = np.cumsum(dose)
        ends, begins = specimen.phase_at(after), specimen.phase_at(after - dose)
        changing = (begins >= BEGINS) & (ends <= ENDS)
        change, is_bright = (ends - begins)[changing], dose[changing] >= floor * (1 - ROUNDING)
        within += int(((change <= delta) & is_bright).sum())
        below += int((~is_bright).sum())
        frames += int(changing.sum())
        largest.append(float(change.max()) if len(change) else 0.0)
    return ResolveRow(
        strategy=name,
        share_within_delta=round(within / max(1, frames), 4),
        share_below_floor=round(below / max(1, frames), 4),
        largest_change_p95=round(float(np.quantile(largest, 0.95, method="higher")), 5) if largest else 0.0,
        frames=round(frames / max(1, len(specimens)), 1),
        time_s=round(float(np.mean(times_s)), 1) if len(times_s) else 0.0,
    )
