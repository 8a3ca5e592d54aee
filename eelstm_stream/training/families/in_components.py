"""Forecasts in principal components as TensorFlow graphs: what `linear` and `corrected` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import LinearTrendInComponents, RidgeInComponents, fit_linear_trend, fit_ridge
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow


def fit_components(material: Material, recipe: Recipe) -> tuple[LinearTrendInComponents, RidgeInComponents]:
    """Principal components of the training frames, and a ridge regression in them at each of the recipe's horizons.

    Raises UnusableInputError where the training segments are too few or too short for that.
    """
    parts = material.training_parts
    try:
        components = fit_linear_trend(np.concatenate(parts), recipe.components)
        return components, fit_ridge(components, parts, recipe.window, recipe.horizons)
    except ValueError as error:
        raise UnusableInputError(f"the training runs cannot be used: {error}.") from None


class RidgeGraph:
    """A ridge regression in components on tensors. Keeps numpy arrays only, so that it can be traced for the export."""

    def __init__(self, ridge: RidgeInComponents, horizons: Sequence[int]) -> None:
        maps = [ridge.maps[horizon] for horizon in horizons]
        self.mean = _single(ridge.mean)  # (channel,)
        self.components = _single(ridge.components)  # (component, channel)
        self._offset = _single(ridge.offset)
        self._weights = _single(np.concatenate([weights for weights, _ in maps], axis=1))
        self._centres = _single(np.concatenate([centre for _, centre in maps]))
        self._horizons = len(maps)

    def scores(self, counts: Any) -> Any:
        """Coordinates of counts `(…, channel)` in the components, `(…, component)`."""
        _, tf = keras_and_tensorflow()
        return tf.matmul(counts - self.mean, self.components.T)

    def ahead(self, scores: Any) -> Any:
        """Scores of a window, `(batch, window, component)`, to those to come, `(batch, horizon, component)`."""
        _, tf = keras_and_tensorflow()
        flat = tf.reshape(scores, (-1, len(self._offset))) - self._offset
        return tf.reshape(tf.matmul(flat, self._weights) + self._centres, (-1, self._horizons, len(self.components)))

    def spectra(self, scores: Any) -> Any:
        """Counts `(…, channel)` that have these scores, `(…, component)`."""
        _, tf = keras_and_tensorflow()
        return tf.matmul(scores, self.components) + self.mean

    def carried(self, history: Any, kernel: NDArray[np.floating]) -> Any:
        """What the components don't have of the history, weighed with its neighbours, and kept outside of the components.

        history: `(batch, channel)` counts. kernel: `(2 · reach + 1,)`. Returns `(batch, 1, channel)`, for every horizon the same.
        """
        _, tf = keras_and_tensorflow()
        outside = self._outside(history - self.mean)
        reach = len(kernel) // 2
        first, last = tf.repeat(outside[:, :1], reach, axis=1), tf.repeat(outside[:, -1:], reach, axis=1)
        padded = tf.concat([first, outside, last], axis=1)
        weights = _single(kernel)[:, np.newaxis, np.newaxis]
        carried = tf.nn.conv1d(padded[:, :, tf.newaxis], weights, stride=1, padding="VALID")
        return self._outside(carried[:, :, 0])[:, tf.newaxis]

    def _outside(self, difference: Any) -> Any:
        _, tf = keras_and_tensorflow()
        return difference - tf.matmul(tf.matmul(difference, self.components.T), self.components)


def _single(array: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
