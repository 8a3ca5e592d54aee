"""How far a forecast is from what came: figures of one spectrum each, to be averaged over whatever is asked for.

Forecast and target are `(…, channel)` counts at the reference dose on one axis; results are `(…)` float64. Averages and roots are
the caller's, since a root mean square over windows is not the mean of the windows' roots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range
from eelstm_stream.wire.messages import EnergyAxis

Counts = NDArray[np.floating]

EDGES_eV = {"Ti L": (452.0, 472.0), "O K": (528.0, 550.0)}
# Of a channel inside an edge against one outside: so the two edges, a fifth of the paper's axis, weigh about as much as the
# rest of it, whose smooth background is easily forecast.
EDGE_WEIGHT = 4.0

# The transition by measured phase. Phase noise is some 0.03 a spectrum, so the limits stand well clear of 0 and 1.
STAGES = ("early", "during", "late")
STAGE_LIMITS = (0.2, 0.8)


def mean_square(forecast: Counts, target: Counts) -> NDArray[np.float64]:
    """Σ (f − y)² / channels, counts²."""
    return np.asarray(np.mean(np.square(forecast - target, dtype=np.float64), axis=-1))


def cosine_similarity(forecast: Counts, target: Counts) -> NDArray[np.float64]:
    """f·y / (|f| |y|): 1 where one is a multiple of the other. Counts are all positive, so it never strays far from 1."""
    f, y = np.asarray(forecast, dtype=np.float64), np.asarray(target, dtype=np.float64)
    product = np.einsum("...c,...c->...", f, y)
    lengths = np.sqrt(np.einsum("...c,...c->...", f, f) * np.einsum("...c,...c->...", y, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(product / lengths)


def edge_weights(axis: EnergyAxis) -> NDArray[np.float64]:
    """Weight of each channel, `(channel,)`, with a mean of 1: EDGE_WEIGHT inside the edges to 1 outside."""
    weights = np.ones(axis.size)
    for low_eV, high_eV in EDGES_eV.values():
        weights[channel_range(axis, low_eV, high_eV)] = EDGE_WEIGHT
    return np.asarray(weights / weights.mean())


def weighted_mean_square(forecast: Counts, target: Counts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ w (f − y)² / Σ w, counts²; weights `(channel,)`."""
    return np.asarray(np.square(forecast - target, dtype=np.float64) @ weights / weights.sum())


def stage_of(phase: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which of STAGES measured phases belong to, as its number: `(…)`. One that is not a number belongs to none: −1."""
    stage = np.searchsorted(STAGE_LIMITS, phase, side="right")
    return np.asarray(np.where(np.isfinite(phase), stage, -1))
