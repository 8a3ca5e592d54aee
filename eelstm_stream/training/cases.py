"""Errors window by window, so that they can be averaged over a run, over all runs, or over a stage of the transition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.metrics import STAGES, stage_of
from eelstm_stream.core.model_contract import HorizonError

MODEL = "model"

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CaseErrors:
    """One forecaster's, with an entry a window."""

    square: Values  # (case,) counts², mean over channels
    weighted_square: Values  # (case,) counts², edges weighing more
    cosine: Values  # (case,)
    phase: Values  # (case,) forecast minus measured
    clean_square: Values | None  # (case,) counts², against the noise-free truth
    peaks: Mapping[str, Values]  # name of a white line: (case, 3) eV, counts, eV; NaN where it was not fitted

    def among(self, chosen: NDArray[np.bool_]) -> CaseErrors:
        """Those of some windows."""
        return CaseErrors(
            self.square[chosen],
            self.weighted_square[chosen],
            self.cosine[chosen],
            self.phase[chosen],
            None if self.clean_square is None else self.clean_square[chosen],
            {name: errors[chosen] for name, errors in self.peaks.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """All windows of one run, or of several, at one horizon."""

    horizon: int
    target: NDArray[np.int64]  # (case,) number of the frame that was aimed at, in its run
    phase: Values  # (case,) measured phase of that frame
    floor_square: Values  # (case,) counts², noise variance of a channel, over the whole run
    noise_square: Values  # (case,) the same of that frame alone
    errors: Mapping[str, CaseErrors]  # MODEL, and each baseline by its name

    def __len__(self) -> int:
        return len(self.target)

    @property
    def noise_floor(self) -> float:
        """Root mean square over windows of their runs' noise, counts."""
        return root_mean(self.floor_square)

    def among(self, chosen: NDArray[np.bool_]) -> Cases:
        """Some of the windows of one run. Their noise floor is that of the frames they aim at."""
        local = self.noise_square[chosen]
        floor = np.full(len(local), np.median(local) if len(local) else np.nan)
        errors = {name: e.among(chosen) for name, e in self.errors.items()}
        return Cases(self.horizon, self.target[chosen], self.phase[chosen], floor, local, errors)


def by_stage(parts: Sequence[Cases]) -> dict[str, Cases]:
    """Windows of one run or several by the stage of the transition that they aim at; each run with its own floor in each."""
    stages = [stage_of(part.phase) for part in parts]
    return {
        name: joined([part.among(stage == number) for part, stage in zip(parts, stages, strict=True)])
        for number, name in enumerate(STAGES)
    }


def joined(parts: Sequence[Cases]) -> Cases:
    """Windows of several runs, at one horizon. The truth counts as known where it is for all of them."""
    names = parts[0].errors
    return Cases(
        parts[0].horizon,
        np.concatenate([p.target for p in parts]),
        np.concatenate([p.phase for p in parts]),
        np.concatenate([p.floor_square for p in parts]),
        np.concatenate([p.noise_square for p in parts]),
        {name: _joined_errors([p.errors[name] for p in parts]) for name in names},
    )


def _joined_errors(parts: Sequence[CaseErrors]) -> CaseErrors:
    clean = [p.clean_square for p in parts if p.clean_square is not None]
    return CaseErrors(
        np.concatenate([p.square for p in parts]),
        np.concatenate([p.weighted_square for p in parts]),
        np.concatenate([p.cosine for p in parts]),
        np.concatenate([p.phase for p in parts]),
        np.concatenate(clean) if len(clean) == len(parts) else None,
        {line: np.concatenate([p.peaks[line] for p in parts]) for line in parts[0].peaks},
    )


@dataclass(frozen=True, slots=True)
class PeakScore:
    """Root mean square errors of a fitted white line, over the windows where both forecast and spectrum could be fitted."""

    position_eV: float
    height_counts: float
    width_eV: float
    fitted: int
    windows: int


@dataclass(frozen=True, slots=True)
class Score:
    """What is reported of one forecaster: averages over windows."""

    mse: float  # counts²
    rmse: float  # counts
    weighted_mse: float  # counts²
    cosine: float
    phase_rmse: float
    rmse_clean: float | None  # counts
    peaks: Mapping[str, PeakScore]


def scores(cases: Cases) -> dict[str, Score]:
    """By forecaster, the best first. Needs one window at least."""
    found = {name: _score(errors) for name, errors in cases.errors.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].rmse))


def _score(errors: CaseErrors) -> Score:
    return Score(
        mse=float(errors.square.mean()),
        rmse=root_mean(errors.square),
        weighted_mse=float(errors.weighted_square.mean()),
        cosine=float(errors.cosine.mean()),
        phase_rmse=root_mean(errors.phase**2),
        rmse_clean=None if errors.clean_square is None else root_mean(errors.clean_square),
        peaks={name: score for name, e in errors.peaks.items() if (score := _peak_score(e)) is not None},
    )


def _peak_score(errors: Values) -> PeakScore | None:
    """None where no window could be fitted."""
    fitted = errors[np.isfinite(errors).all(axis=1)]
    if not len(fitted):
        return None
    position_eV, height_counts, width_eV = (root_mean(e**2) for e in fitted.T)
    return PeakScore(position_eV, height_counts, width_eV, len(fitted), len(errors))


def horizon_error(cases: Cases) -> HorizonError:
    """What a model file says of itself at this horizon."""
    of = scores(cases)
    baselines = {name: of[name] for name in cases.errors if name != MODEL}
    return HorizonError(
        horizon=cases.horizon,
        rmse=of[MODEL].rmse,
        noise_floor=cases.noise_floor,
        baselines={name: s.rmse for name, s in baselines.items()},
        phase_rmse=of[MODEL].phase_rmse,
        phase_baselines={name: s.phase_rmse for name, s in baselines.items()},
        rmse_clean=of[MODEL].rmse_clean,
        baselines_clean={name: s.rmse_clean for name, s in baselines.items() if s.rmse_clean is not None},
    )


def root_mean(squares: Values) -> float:
    """Root of the mean; NaN of none."""
    return float(np.sqrt(squares.mean())) if len(squares) else float("nan")
