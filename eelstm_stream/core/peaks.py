"""White lines fitted: position, height and width of the highest line of an edge, for many spectra at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.wire.messages import EnergyAxis

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
_STEPS = 30
_DAMPING = 1e-3  # of Levenberg and Marquardt, relative to the diagonal
_SETTLED = 1e-3  # of the half width: the last step of a position that is one
_WIDEST = 8.0  # half widths of the fit; a line broader than that is no line there
_MIN_CHANNELS = 7


@dataclass(frozen=True, slots=True)
class WhiteLine:
    """Where a line is looked for, and what it stands on."""

    name: str
    range_eV: tuple[float, float]  # of its maximum
    half_width_eV: float  # of what is fitted around the maximum; its top, which neighbours hardly reach
    background_eV: tuple[float, float]  # before the edge, where the power law under it is fitted


# Of Ti L3 and L2 the crystal field makes two lines each, which close up as the specimen is reduced; the fit takes the higher
# one, eg at first. Of O K it takes the main maximum: the sharp line at the onset is gone halfway through the transition.
# Positions are those of SrTiO3, with room for a calibration that is one or two eV off.
WHITE_LINES = (
    WhiteLine("Ti L3", (455.5, 462.0), 1.0, (438.0, 452.0)),
    WhiteLine("Ti L2", (462.2, 468.5), 1.0, (438.0, 452.0)),
    WhiteLine("O K", (534.0, 542.0), 2.5, (510.0, 526.0)),
)


def lines_on(axis: EnergyAxis) -> tuple[WhiteLine, ...]:
    """The lines that an axis holds whole, with the background before their edge and channels enough to fit."""
    first_eV, last_eV = axis.offset_eV, axis.offset_eV + (axis.size - 1) * axis.dispersion_eV

    def is_held(line: WhiteLine) -> bool:
        reach_eV = line.range_eV[1] + line.half_width_eV
        fine = 2 * line.half_width_eV / axis.dispersion_eV >= _MIN_CHANNELS
        return first_eV <= line.background_eV[0] and reach_eV <= last_eV and fine

    return tuple(line for line in WHITE_LINES if is_held(line))


def fit_line(counts: NDArray[np.floating], axis: EnergyAxis, line: WhiteLine) -> NDArray[np.float64]:
    """Position (eV), height (counts over the background) and full width at half maximum (eV) of a line: `(…, 3)` float64.

    counts: `(…, channel)` on the axis. NaN where there is no maximum inside the range, or none that a Gaussian fits.

    Background: a power law A·E^−r, straight in log counts against log energy, fitted before the edge (Egerton, Electron
    Energy-Loss Spectroscopy in the Electron Microscope, 4.4). The maximum is looked for in counts averaged over the half width.
    Around it a Gaussian is fitted by least squares, from a start that is the parabola through log counts, weighted by their
    squares (Guo, IEEE Signal Process. Mag. 28 (5), 134 (2011)), by Levenberg's and Marquardt's steps.
    """
    leading = counts.shape[:-1]
    flat = np.asarray(counts, dtype=np.float64).reshape(-1, counts.shape[-1])
    energies = energies_eV(axis)
    half = int(line.half_width_eV / axis.dispersion_eV)
    region = channel_range(axis, line.range_eV[0] - line.half_width_eV, line.range_eV[1] + line.half_width_eV)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above = flat[:, region] - _power_law(flat, energies, channel_range(axis, *line.background_eV), region)
        top, inside = _maximum(above, half)
        around = top[:, np.newaxis] + np.arange(-half, half + 1)
        at_top_eV = energies[region][top]
        offset_eV = axis.dispersion_eV * np.arange(-half, half + 1, dtype=np.float64)
        fitted = _gaussian(np.take_along_axis(above, around, axis=1), offset_eV, line.half_width_eV)
    fitted[:, 0] += at_top_eV
    fitted[~(inside & np.isfinite(fitted).all(axis=1))] = np.nan
    return fitted.reshape(*leading, 3)


def _power_law(
    counts: NDArray[np.float64], energies: NDArray[np.float64], before: slice, region: slice
) -> NDArray[np.float64]:
    """Background in the region, `(spectrum, channel)`; NaN for a spectrum with counts of zero or less before the edge."""
    at = np.log(energies[before])
    centred = at - at.mean()
    logs = np.log(counts[:, before])  # NaN or −inf there, and so in what follows
    slope = logs @ centred / (centred @ centred)
    level = logs.mean(axis=1) - slope * at.mean()
    return np.asarray(np.exp(level[:, np.newaxis] + slope[:, np.newaxis] * np.log(energies[region])))


def _maximum(above: NDArray[np.float64], half: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Channel of the maximum in counts averaged over `half` channels, no nearer to an end than `half`; and whether it is one."""
    width = max(1, 2 * (half // 2) + 1)
    sums = np.cumsum(np.pad(above, [(0, 0), (1, 0)]), axis=1)
    averaged = (sums[:, width:] - sums[:, :-width]) / width
    margin = half - width // 2
    looked_at = averaged[:, margin : averaged.shape[1] - margin]
    best = np.argmax(np.nan_to_num(looked_at, nan=-np.inf), axis=1)
    inside = (best > 0) & (best < looked_at.shape[1] - 1)
    return np.asarray(best + half), np.asarray(inside)


def _gaussian(y: NDArray[np.float64], x: NDArray[np.float64], half_width: float) -> NDArray[np.float64]:
    """Centre, height and full width at half maximum of Gaussians `(spectrum, channel)` over x `(channel,)`: `(spectrum, 3)`."""
    centre, height, sigma = _start(y, x, half_width)
    going = np.flatnonzero(np.isfinite(y).all(axis=1))
    settled = np.zeros(len(y), dtype=np.bool_)
    for _ in range(_STEPS):
        move = _step(y[going], x, centre[going], height[going], sigma[going])
        along = np.clip(move[:, 0], -half_width / 2, half_width / 2)
        centre[going] += along
        height[going] += move[:, 1]
        sigma[going] = np.clip(sigma[going] + move[:, 2], sigma[going] / 2, sigma[going] * 2)
        settled[going] = (np.abs(along) < _SETTLED * half_width) & (np.abs(move[:, 2]) < _SETTLED * sigma[going])
        lost = np.abs(centre[going]) > 2 * half_width  # and a NaN is not below either
        going = going[~settled[going] & ~lost & np.isfinite(along)]
        if not going.size:
            break
    fwhm = sigma * FWHM_PER_SIGMA
    sound = settled & (np.abs(centre) <= half_width) & (height > 0) & (fwhm < _WIDEST * half_width)
    return np.where(sound[:, np.newaxis], np.stack([centre, height, fwhm], axis=1), np.nan)


def _step(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    centre: NDArray[np.float64],
    height: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Levenberg's and Marquardt's step of centre, height and sigma: `(spectrum, 3)`; NaN where there is none."""
    z = (x - centre[:, np.newaxis]) / sigma[:, np.newaxis]
    shape = np.exp(-0.5 * z * z)
    tall = height[:, np.newaxis] * shape
    by_centre = tall * z / sigma[:, np.newaxis]
    slopes = np.stack([by_centre, shape, by_centre * z], axis=1)
    scale = np.sqrt(np.einsum("sic,sic->si", slopes, slopes))
    usable = np.isfinite(scale).all(axis=1) & (scale > 0).all(axis=1)
    scale[~usable] = 1.0
    slopes = np.where(usable[:, np.newaxis, np.newaxis], slopes, 0.0) / scale[..., np.newaxis]
    # With columns of unit length and something on the diagonal this can always be solved.
    normal = slopes @ slopes.swapaxes(1, 2) + _DAMPING * np.eye(3)
    gradient = np.einsum("sic,sc->si", slopes, y - tall)
    move = np.linalg.solve(normal, gradient[..., np.newaxis])[..., 0] / scale
    return np.where(usable[:, np.newaxis], move, np.nan)


def _start(
    y: NDArray[np.float64], x: NDArray[np.float64], half_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre, height and standard deviation from ln y = a + b x + c x², weighted by y²; half the range where that is no maximum."""
    positive = y > 0
    tallest = np.where(positive, y, 0.0).max(axis=1)
    weights = np.where(positive, y / np.maximum(tallest, 1e-9)[:, np.newaxis], 0.0) ** 2
    logs = np.log(np.where(positive, y, 1.0))
    powers = np.stack([np.ones_like(x), x / half_width, (x / half_width) ** 2])
    normal = np.einsum("ic,jc,sc->sij", powers, powers, weights) + 1e-9 * np.eye(3)  # one channel alone is no parabola
    right = np.einsum("ic,sc,sc->si", powers, weights, logs)
    usable = positive.sum(axis=1) >= _MIN_CHANNELS
    normal[~usable] = np.eye(3)
    a, b, c = np.linalg.solve(normal, right[..., np.newaxis])[..., 0].T
    is_maximum = usable & (c < -1e-3) & (np.abs(b) < -4 * c)
    curvature = np.where(is_maximum, c, -0.5)
    centre = np.where(is_maximum, -b / (2 * curvature), 0.0) * half_width
    height = np.where(is_maximum, np.exp(np.where(is_maximum, a - b * b / (4 * curvature), 0.0)), tallest)
    return centre, height, np.sqrt(-0.5 / curvature) * half_width
