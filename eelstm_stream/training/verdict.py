"""Whether a model is worth using, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eelstm_stream.core.model_contract import HorizonError
from eelstm_stream.training.cases import MODEL, Cases, root_mean
from eelstm_stream.training.labels import label

LEVEL = 1e-4  # relative: what the arithmetic of a graph in single precision makes of one and the same forecast

NOTHING = 0.005  # counts: less of a margin than is printed


def verdict(errors: HorizonError, *, all_baselines: bool = True) -> list[str]:
    """Where it wins and where it loses, a sentence a target. all_baselines: whether those that need a fit are there too."""
    every = "every baseline" if all_baselines else "every baseline that needs no fit"
    sentences = [_compared("noisy spectra", errors.rmse, errors.baselines, every)]
    if errors.rmse_clean is not None:
        sentences.append(_compared("the noise-free truth", errors.rmse_clean, errors.baselines_clean, every))
    if errors.phase_baselines:
        sentences.append(_compared("the measured phase", errors.phase_rmse, errors.phase_baselines, every))
    return sentences


def _compared(target: str, error: float, baselines: Mapping[str, float], every: str) -> str:
    by_error = sorted(baselines, key=baselines.__getitem__)
    level = [name for name in by_error if abs(baselines[name] - error) <= LEVEL * error]
    better = [name for name in by_error if baselines[name] < error and name not in level]
    beaten = len(baselines) - len(level) - len(better)
    if not (level or better):
        return f"Against {target} it beats {every}."
    clauses = [f"is level with {listed([label(n) for n in level])}"] if level else []
    if better:
        clauses.insert(0, f"loses to {listed([label(n) for n in better])}")
    if beaten:
        clauses.append(f"beats the other {beaten}" if beaten > 1 else "beats the other one")
    return f"Against {target} it {', '.join(clauses[:-1])}{', and ' if clauses[1:] else ''}{clauses[-1]}."


def listed(names: Sequence[str]) -> str:
    """One, two and three."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


@dataclass(frozen=True, slots=True)
class Margin:
    """How far a model is ahead of the best baseline in rmse, counts; below zero where it is behind."""

    baseline: str
    counts: float
    standard_error: float | None  # None where there are too few windows to tell

    @property
    def sentence(self) -> str:
        """In words, with the chance that it is luck."""
        if abs(self.counts) < NOTHING:
            return f"In rmse it is level with the best baseline, {label(self.baseline)}."
        way = "ahead of" if self.counts >= 0 else "behind"
        digits = 1 if self.standard_error is None else int(np.clip(-np.log10(self.standard_error + 1e-9) + 1, 1, 3))
        chance = "" if self.standard_error is None else f" ± {self.standard_error:.{digits}f}"
        said = f"It is {abs(self.counts):.{digits}f}{chance} counts {way} the best baseline, {label(self.baseline)}"
        if self.standard_error is not None and abs(self.counts) < 2 * self.standard_error:
            return f"{said}: on these windows chance alone may make as much."
        return f"{said}."


def margin(cases: Cases, window: int) -> Margin:
    """Against the baseline with the least error on the same windows.

    The standard error is that of the mean of the paired differences of squares, carried to the root. Neighbouring windows share
    frames, so they are averaged over blocks of one window and one horizon first, which count as independent.
    """
    best = min((name for name in cases.errors if name != MODEL), key=lambda name: cases.errors[name].square.mean())
    ours, theirs = cases.errors[MODEL].square, cases.errors[best].square
    apart = root_mean(theirs) - root_mean(ours)
    blocks = len(ours) // (window + cases.horizon)
    if blocks < 3:
        return Margin(best, apart, None)
    means = np.array([part.mean() for part in np.array_split(theirs - ours, blocks)])
    of_squares = float(means.std(ddof=1)) / np.sqrt(blocks)
    return Margin(best, apart, float(of_squares / (root_mean(theirs) + root_mean(ours))))
