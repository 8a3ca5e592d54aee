"""One cell trained and measured. Touches no file, and says all that tables and figures need of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.history import running_means
from eelstm_stream.core.metrics import mean_square
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.core.preprocessing import TABLE_I, TableISettings
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io.recordings import Recording
from eelstm_stream.training.cases import root_mean
from eelstm_stream.training.dataset import Segment
from eelstm_stream.training.evaluation import BATCH, evaluate
from eelstm_stream.training.families import fit
from eelstm_stream.training.families.recurrent import fit_segments
from eelstm_stream.training.fit import Fit
from eelstm_stream.training.material import gather
from eelstm_stream.training.recipe import RECIPES, Recipe
from eelstm_stream.training.reproduction.cells import Cell, FamilyCell, RowCell
from eelstm_stream.training.reproduction.paper import CHOSEN_ROW, CHOSEN_SCENARIO, FIGURE_4
from eelstm_stream.training.reproduction.protocols import PROTOCOLS, TEST, aimed_at, fitted_on, split

ABOUT_S = 1.0  # of a moment of Figure 4: forecasts of the spectra within so much of it are averaged
SHOWN_SEED = 0  # whose forecasts are kept for the figure

Frames = NDArray[np.float32]
Report = Callable[[int], None]  # an epoch is done, from 1


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What all cells of one reproduction are trained with."""

    # Early stopping ends the honest rows after some 30 to 90. Shuffled windows and raw counts go on gaining a little for ever.
    epochs: int = 150
    patience: int = 10
    recipes: Mapping[str, Recipe] = field(
        default_factory=lambda: {name: RECIPES[name] for name in ("paper", "corrected")}
    )
    preprocessing: TableISettings = field(default_factory=TableISettings)


class Moment(BaseModel):
    """Forecasts of the third run about one time."""

    time_s: float  # of the spectrum in the middle
    rmse: float  # counts, over the spectra within ABOUT_S
    forecast: list[float] | None = None  # (channel,) counts, of the spectrum in the middle
    came: list[float] | None = None  # (channel,) counts


class Result(BaseModel):
    """What is kept of a cell."""

    key: str
    rmse: float  # counts
    noise_floor: float  # counts
    baselines: dict[str, float]  # rmse on the same windows, fitted on the same training segments
    rmse_clean: float | None = None  # against the noise-free truth, where it is known
    baselines_clean: dict[str, float] = {}
    moments: dict[str, Moment] = {}
    windows: tuple[int, int, int] = (0, 0, 0)  # trained on, validated on, tested on
    epochs: int = 0
    best_epoch: int = 0
    seconds: float = 0.0


def train_cell(cell: Cell, runs: Sequence[Recording], settings: TrainingSettings, report: Report) -> Result:
    """Train on the runs as the cell says, test as it says. runs: three, the third of which the honest way tests on.

    Raises UnusableInputError where the runs don't allow it, EelstmError where the training runs away.
    """
    began = time.monotonic()
    train = _train_row if isinstance(cell, RowCell) else _train_family
    result = train(cell, runs, settings, report)  # type: ignore[arg-type]
    return result.model_copy(update={"seconds": round(time.monotonic() - began, 2)})


def _train_row(cell: RowCell, runs: Sequence[Recording], settings: TrainingSettings, report: Report) -> Result:
    protocol = PROTOCOLS[cell.protocol]
    row, axis = TABLE_I[cell.row], runs[0].energy_axis
    chain = row([runs[number].counts for number in fitted_on(protocol)], axis, settings.preprocessing)
    lengths = [len(chain.whole(run.counts)) for run in runs]
    recipe = replace(
        settings.recipes["paper"],
        energy_axis=chain.target_axis or runs[0].energy_axis,
        window=cell.window,
        horizons=(aimed_at(cell.horizon, protocol),),
    )
    parts = split(lengths, recipe.frames_needed, protocol, cell.seed, apart=chain.independent_every - 1)
    if not (
        protocol.shuffled or protocol.fitted_on_test
    ):  # then what is held out to stop by is no part of the fit either
        in_bin = settings.preprocessing.bin_frames if "bins" in cell.row else 1
        chain = row(_recorded(runs, parts.training, lengths, in_bin), axis, settings.preprocessing)
    made = [chain.whole(run.counts) for run in runs]
    scaled: list[Frames] = [run.astype(np.float32) for run in made]
    counts: list[Frames] = [chain.in_counts(run).astype(np.float32) for run in made]
    fitted = fit_segments(
        _cut(scaled, parts.training),
        _cut(scaled, parts.validation),
        (0.0, 1.0),  # the chain has scaled already, or in the first row is not meant to
        recipe,
        seed=cell.seed,
        epochs=settings.epochs,
        patience=settings.patience,
        report=lambda epoch, *_: report(epoch),
    )
    tested = windows_of(parts.test, recipe)
    forecasts = np.asarray(chain.in_counts(_forecast(fitted, _windows(scaled, tested, recipe))), np.float32)
    targets = np.stack([counts[run][start + recipe.frames_needed - 1] for run, start in tested])
    try:
        baselines = fit_baselines(_cut(counts, parts.training), recipe.window, recipe.horizons).by_name()
        floors = [noise_floor(run[:: chain.independent_every]) for run in counts]
    except ValueError as error:
        raise UnusableInputError(f"the runs can't be used for {cell}: {error}.") from None
    windows = _windows(counts, tested, recipe)
    histories = _histories(counts, tested, recipe)
    return Result(
        key=cell.key,
        rmse=_rmse(forecasts, targets),
        noise_floor=root_mean(np.array([floors[run] ** 2 for run, _ in tested])),
        baselines={
            name: _rmse(baseline(windows, histories, recipe.horizons[0]), targets)
            for name, baseline in baselines.items()
        },
        moments=_moments(cell, fitted, chain, scaled[TEST], counts[TEST], runs[TEST], recipe),
        windows=(
            len(windows_of(parts.training, recipe)),
            len(windows_of(parts.validation, recipe)),
            len(tested),
        ),
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
    )


def _train_family(cell: FamilyCell, runs: Sequence[Recording], settings: TrainingSettings, report: Report) -> Result:
    recipe = settings.recipes[cell.family]
    material = gather([run for number, run in enumerate(runs) if number != TEST], [runs[TEST]], recipe)
    fitted = fit(
        material,
        recipe,
        seed=cell.seed,
        epochs=settings.epochs,
        patience=settings.patience,
        report=lambda epoch, *_: report(epoch),
    )
    phase = material.fitted.phase

    def forecaster(windows: Frames, histories: Frames) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        counts = np.asarray(fitted.forecast(windows, histories))
        return counts, phase(counts)

    longest = replace(recipe, horizons=(max(recipe.horizons),))

    def at_longest(windows: Frames, histories: Frames) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        counts, phases = forecaster(windows, histories)
        return counts[:, -1:], phases[:, -1:]

    baselines = fit_baselines(material.training_parts, recipe.window, longest.horizons).by_name()
    [errors] = evaluate(at_longest, baselines, phase, material.test, longest).pooled
    return Result(
        key=cell.key,
        rmse=errors.rmse,
        noise_floor=errors.noise_floor,
        baselines=dict(errors.baselines),
        rmse_clean=errors.rmse_clean,
        baselines_clean=dict(errors.baselines_clean),
        windows=(
            len(windows_of(material.training, recipe)),
            len(windows_of(material.validation, recipe)),
            len(windows_of([Segment(0, 0, len(run.counts)) for run in material.test], recipe)),
        ),
        epochs=fitted.epochs,
        best_epoch=fitted.best_epoch,
    )


def windows_of(segments: Sequence[Segment], recipe: Recipe) -> list[tuple[int, int]]:
    """Run and first frame of every window that lies, with what it aims at, in a segment."""
    return [(s.run, first) for s in segments for first in range(s.first, s.last - recipe.frames_needed + 1)]


def _recorded(
    runs: Sequence[Recording], segments: Sequence[Segment], lengths: Sequence[int], in_bin: int
) -> list[NDArray[np.float32]]:
    """Of each run the recorded frames that some segments of its preprocessed ones are made of, in their order.

    lengths: of the runs when preprocessed; in_bin: recorded frames that one preprocessed frame is made of.
    """
    frames: dict[int, list[NDArray[np.float32]]] = {}
    for segment in segments:
        counts = runs[segment.run].counts
        every = max(1, len(counts) // lengths[segment.run])
        frames.setdefault(segment.run, []).append(counts[segment.first * every : (segment.last - 1) * every + in_bin])
    return [np.concatenate(parts) for parts in frames.values()]


def _cut(runs: Sequence[Frames], segments: Sequence[Segment]) -> list[Frames]:
    return [runs[s.run][s.first : s.last] for s in segments]


def _windows(runs: Sequence[Frames], starts: Sequence[tuple[int, int]], recipe: Recipe) -> Frames:
    """`(case, window, channel)`."""
    return np.stack([runs[run][first : first + recipe.window] for run, first in starts])


def _histories(runs: Sequence[Frames], starts: Sequence[tuple[int, int]], recipe: Recipe) -> Frames:
    """Mean of each run up to the end of each window, `(case, channel)`."""
    means = [running_means(run) for run in runs]
    return np.stack([means[run][first + recipe.window - 1] for run, first in starts])


def _forecast(fitted: Fit, windows: Frames) -> Frames:
    """`(case, channel)` at the recipe's one horizon, scaled as the windows are."""
    batches = [windows[i : i + BATCH] for i in range(0, len(windows), BATCH)]
    return np.concatenate([np.asarray(fitted.forecast(batch, None))[:, 0] for batch in batches])


def _moments(
    cell: RowCell, fitted: Fit, chain: Any, scaled: Frames, counts: Frames, run: Recording, recipe: Recipe
) -> dict[str, Moment]:
    """Figure 4's, on the third run, whether or not it was trained on; none for other cells than the chosen."""
    if cell.row != CHOSEN_ROW or (cell.window, cell.horizon) != CHOSEN_SCENARIO:
        return {}
    times_s = np.cumsum(run.dwell_s) - run.dwell_s
    starts = [(0, first) for first in range(len(scaled) - recipe.frames_needed + 1)]
    aims = np.array([first + recipe.frames_needed - 1 for _, first in starts])
    moments = {}
    for name, time_s, share, _ in FIGURE_4:
        middle = _case_at(times_s[aims], time_s, share)
        cases = [case for case, aim in enumerate(aims) if abs(times_s[aim] - times_s[aims[middle]]) <= ABOUT_S]
        windows = _windows([scaled], [starts[case] for case in cases], recipe)
        forecasts = np.asarray(chain.in_counts(_forecast(fitted, windows)), np.float32)
        shown = cell.seed == SHOWN_SEED
        moments[name] = Moment(
            time_s=round(float(times_s[aims[middle]]), 3),
            rmse=_rmse(forecasts, counts[aims[cases]]),
            forecast=_rounded(forecasts[cases.index(middle)]) if shown else None,
            came=_rounded(counts[aims[middle]]) if shown else None,
        )
    return moments


def _case_at(times_s: NDArray[np.float64], time_s: float, share: float) -> int:
    """The case that aims at a time, or where the run is too short at a share of all cases."""
    if times_s[0] <= time_s <= times_s[-1]:
        return int(np.argmin(np.abs(times_s - time_s)))
    return int(share * (len(times_s) - 1))


def _rounded(spectrum: Frames) -> list[float]:
    return [round(float(counts), 1) for counts in spectrum]


def _rmse(forecasts: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    return root_mean(mean_square(forecasts, targets))
