"""`corrected`: a linear forecast in principal components, which an LSTM corrects, and the run's own residual carried on.

    forecast = mean + components · (ridge forecast of the scores + unit · LSTM(standardised scores)) + carried residual

Components, ridge and network learn from the training runs without their noise and from variants of them (`variants`), with
noise drawn anew in every epoch, as large and as correlated between components as the runs' own; what they aim at has none.
They are validated on recorded spectra as those are. The last layer begins at zero, so the training begins at the linear forecast.
The components are orthonormal and the carried residual lies outside of them, so an error in counts is the error in scores and
a part that no weight can change: the network is trained on scores alone, in a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import LinearTrendInComponents, RidgeInComponents, fit_linear_trend, fit_ridge
from eelstm_stream.core.baselines.carried import weighed
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.history import running_means
from eelstm_stream.core.model_contract import HISTORY_INPUT, WINDOW_INPUT
from eelstm_stream.core.noise import noise_floor
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.training.checkpoint import Checkpoints
from eelstm_stream.training.dataset import target_frames, window_starts
from eelstm_stream.training.families.carrying import fit_carrying
from eelstm_stream.training.families.in_components import RidgeGraph
from eelstm_stream.training.fit import EpochReport, Fit
from eelstm_stream.training.learning import Batch, Lesson, begin, learn
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow
from eelstm_stream.training.variants import variants, without_noise

VARIANTS = 80  # 20 did nearly as well, and 200 no better


def fit_corrected(
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Solve for the linear forecast, and train what corrects it. See `fit.Family`."""
    begin(seed)
    try:
        smooth = [without_noise(part) for part in material.training_parts]
        random = np.random.default_rng(seed)
        courses = [*smooth, *variants(smooth, energies_eV(recipe.energy_axis), VARIANTS, random, recipe.frames_needed)]
        components = fit_linear_trend(np.concatenate(courses), recipe.components)
        noise = score_noise(components, material.training_parts)
        noise_root = np.asarray(np.linalg.cholesky(noise))
        ridge = fit_ridge(components, courses, recipe.window, recipe.horizons, noise)
        kernel = fit_carrying(_by_run(material, material.training_parts), _by_run(material, smooth), recipe)
    except ValueError as error:
        raise UnusableInputError(f"the training runs cannot be used: {error}.") from None
    training = _Drawn([components.scores(course) for course in courses], noise_root, ridge, recipe)
    validation = _windows(material.validation_parts, components, ridge, kernel, recipe)
    first = training.windows(np.random.default_rng(seed))
    deviations = np.sqrt(np.mean(np.square(first.scores, dtype=np.float64), axis=(0, 1))).astype(np.float32)
    unit = np.float32(np.sqrt(np.mean(np.square(first.residuals, dtype=np.float64))))
    network = build_correction(recipe)
    lesson = Lesson(
        training=lambda random: _shuffled(training.windows(random), deviations, unit, random, recipe),
        validation=lambda: _batches(validation, deviations, unit, np.arange(len(validation.scores)), recipe),
        counts2=float(unit) ** 2 * recipe.components / recipe.energy_axis.size,
        # What recorded targets would add to the error against noise-free ones, so that both curves are of a kind.
        training_outside_counts2=float(np.mean([noise_floor(part) ** 2 for part in material.training_parts])),
        validation_outside_counts2=validation.outside_counts2,
    )
    curve, best_epoch = learn(
        network,
        lesson,
        recipe,
        seed=seed,
        epochs=epochs,
        patience=patience,
        report=report,
        checkpoints=checkpoints,
    )
    graph = RidgeGraph(ridge, recipe.horizons)

    def forecast(window: Any, history: Any) -> Any:
        scores = graph.scores(window)
        correction = network(scores / deviations, training=False) * unit
        return graph.spectra(graph.ahead(scores) + correction) + graph.carried(history, kernel)

    return Fit(
        forecast=forecast,
        inputs=(WINDOW_INPUT, HISTORY_INPUT),
        recurrent={"LSTM": recipe.layers},
        network=network,
        curve=curve,
        best_epoch=best_epoch,
        sentence=(
            f"{recipe.layers} × LSTM of {recipe.units} units, dropout {recipe.dropout:g}, on {recipe.components} principal components, "
            f"which corrects their ridge forecast; {kernel.sum():.2f} of the residual of the run so far outside the components is "
            f"carried on; "
            f"learnt from the training runs without their noise and {VARIANTS} variants of them, with noise drawn anew; Adam at "
            f"{recipe.learning_rate:g}, batches of {recipe.batch}, mean squared error of the components' scores"
        ),
    )


def build_correction(recipe: Recipe) -> Any:
    """`(batch, window, component)` standardised scores to `(batch, horizon, component)` corrections, at first zero."""
    keras, _ = keras_and_tensorflow()
    horizons, components = len(recipe.horizons), recipe.components
    window = keras.Input((recipe.window, components), name="scores")
    signal = window
    for layer in range(recipe.layers):
        signal = keras.layers.LSTM(recipe.units, return_sequences=layer < recipe.layers - 1)(signal)
        signal = keras.layers.Dropout(recipe.dropout)(signal)
    correction = keras.layers.Dense(horizons * components, kernel_initializer="zeros")(signal)
    return keras.Model(window, keras.layers.Reshape((horizons, components))(correction))


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows in scores."""

    scores: NDArray[np.float32]  # (case, window, component)
    residuals: NDArray[np.float32]  # (case, horizon, component): of the target, over the linear forecast
    outside_counts2: float = 0.0  # mean squared error outside the components


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Noise-free courses in scores, to which noise is added as often as one likes."""

    courses: Sequence[NDArray[np.float64]]  # (frame, component) each
    noise_root: NDArray[np.float64]  # (component, component): of the noise's covariance
    ridge: RidgeInComponents
    recipe: Recipe

    def windows(self, random: np.random.Generator) -> _Windows:
        """Every window, with noise, and what it aims at, without."""
        scores, residuals = [], []
        for course in self.courses:
            noisy = course + random.normal(size=course.shape) @ self.noise_root.T
            starts = window_starts(len(course), self.recipe)
            windows = noisy[starts[:, np.newaxis] + np.arange(self.recipe.window)]
            scores.append(windows)
            residuals.append(course[target_frames(starts, self.recipe)] - _ahead(self.ridge, windows, self.recipe))
        return _Windows(np.concatenate(scores).astype(np.float32), np.concatenate(residuals).astype(np.float32))


def _by_run(material: Material, parts: Sequence[NDArray[np.float32]]) -> list[list[NDArray[np.float32]]]:
    """Training segments, gathered by the run that they are of."""
    runs: dict[int, list[NDArray[np.float32]]] = {}
    for segment, part in zip(material.training, parts, strict=True):
        runs.setdefault(segment.run, []).append(part)
    return list(runs.values())


def score_noise(components: LinearTrendInComponents, parts: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Covariance of the noise of one spectrum's scores, `(component, component)` counts², from second differences.

    Neighbouring channels share counts, and counts are noisier where there are more of them, so it's not the same for all
    components. parts: `(frame, channel)` each, recorded counts.
    """
    differences = [components.scores(part[:-2] - 2 * part[1:-1] + part[2:] + components.mean) for part in parts]
    return np.asarray(np.cov(np.concatenate(differences).T).reshape(2 * (len(components.components),)) / 6)


def _ahead(ridge: RidgeInComponents, windows: NDArray[np.floating], recipe: Recipe) -> NDArray[np.float64]:
    """The linear forecast of windows in scores: `(case, horizon, component)`."""
    flat = windows.reshape(len(windows), -1) - ridge.offset
    return np.stack([flat @ ridge.maps[h][0] + ridge.maps[h][1] for h in recipe.horizons], axis=1)


def _windows(
    parts: Sequence[NDArray[np.float32]],
    components: LinearTrendInComponents,
    ridge: RidgeInComponents,
    kernel: NDArray[np.float64],
    recipe: Recipe,
) -> _Windows:
    """Every window of recorded segments. A history begins with its segment: a block held out is no part of another's."""
    scores, residuals, outside = [], [], []
    for part in parts:
        starts = window_starts(len(part), recipe)
        aims = target_frames(starts, recipe)
        of_frames = components.scores(part)
        windows = of_frames[starts[:, np.newaxis] + np.arange(recipe.window)]
        scores.append(windows)
        residuals.append(of_frames[aims] - _ahead(ridge, windows, recipe))
        left = part - components.spectra(of_frames)
        carried = carried_residual(components, running_means(part)[starts + recipe.window - 1], kernel)
        for aim in aims.T:
            outside.append(np.mean(np.square(left[aim] - carried), axis=1))
    return _Windows(
        np.concatenate(scores).astype(np.float32),
        np.concatenate(residuals).astype(np.float32),
        float(np.mean(np.concatenate(outside))),
    )


def carried_residual(
    components: LinearTrendInComponents, history: NDArray[np.float32], kernel: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What `RidgeGraph.carried` gives, in numpy: `(case, channel)` histories to `(case, channel)` counts."""

    def outside(difference: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(difference - (difference @ components.components.T) @ components.components)

    return outside(weighed(outside(history - components.mean), kernel))


def _shuffled(
    windows: _Windows, deviations: NDArray[np.float32], unit: np.float32, random: np.random.Generator, recipe: Recipe
) -> Iterator[Batch]:
    return _batches(windows, deviations, unit, random.permutation(len(windows.scores)), recipe)


def _batches(
    windows: _Windows, deviations: NDArray[np.float32], unit: np.float32, order: NDArray[np.integer], recipe: Recipe
) -> Iterator[Batch]:
    for i in range(0, len(order), recipe.batch):
        cases = order[i : i + recipe.batch]
        yield (windows.scores[cases] / deviations,), windows.residuals[cases] / unit
