"""`paper` and `gru`: recurrent layers from scaled counts to scaled counts, as the paper has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import WINDOW_INPUT
from eelstm_stream.training.checkpoint import Checkpoints
from eelstm_stream.training.dataset import target_frames, window_starts
from eelstm_stream.training.fit import EpochReport, Fit
from eelstm_stream.training.gru_in_onnx import gru
from eelstm_stream.training.learning import Batch, Lesson, begin, learn
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

CELLS = MappingProxyType({"paper": "LSTM", "gru": "GRU"})


def fit_recurrent(
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Train the network of the paper, or the same of gated recurrent units. See `fit.Family`.

    Counts are scaled by the training segments' lowest and highest to 0 and 1, inside the graph.
    """
    return fit_segments(
        material.training_parts,
        material.validation_parts,
        (material.fitted.low, material.fitted.high),
        recipe,
        seed=seed,
        epochs=epochs,
        patience=patience,
        report=report,
        checkpoints=checkpoints,
    )


def fit_segments(
    training_parts: Sequence[NDArray[np.float32]],
    validation_parts: Sequence[NDArray[np.float32]],
    limits: tuple[float, float],
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """The same for segments `(frame, channel)` however they were prepared and cut, on the recipe's axis.

    A window lies in one segment, its targets included; segments may overlap. limits: what the graph scales to 0 and 1.
    """
    keras, _ = begin(seed)
    low, span = np.float32(limits[0]), np.float32(limits[1] - limits[0])
    mean = np.concatenate(training_parts).mean(axis=0, dtype=np.float64).astype(np.float32)
    network = build_network(recipe, (mean - low) / span)
    training = _Windows([(part - low) / span for part in training_parts], recipe)
    validation = _Windows([(part - low) / span for part in validation_parts], recipe)
    lesson = Lesson(
        training=lambda random: training.batches(random.permutation(len(training))),
        validation=lambda: validation.batches(np.arange(len(validation))),
        counts2=float(span) ** 2,
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

    def forecast(window: Any, history: Any) -> Any:
        signal = (window - low) / span
        for layer in network.layers[1:]:
            signal = gru(layer, signal) if isinstance(layer, keras.layers.GRU) else layer(signal, training=False)
        return signal * span + low

    return Fit(
        forecast=forecast,
        inputs=(WINDOW_INPUT,),
        recurrent={CELLS[recipe.family]: recipe.layers},
        network=network,
        curve=curve,
        best_epoch=best_epoch,
        sentence=_sentence(recipe),
    )


def build_network(recipe: Recipe, first_guess: NDArray[np.float32]) -> Any:
    """Layers of the paper: LSTM (or GRU) and Dropout in turn, then Dense to the channels of each horizon.

    `(batch, window, channel)` scaled counts to `(batch, horizon, channel)` scaled counts. first_guess: `(channel,)`, where
    the last layer's bias begins; from zero the network would spend its first epochs on learning the mean spectrum.
    Dropout stands in layers of its own because `LSTM(dropout=…)` leaves noise in an exported graph.
    """
    keras, _ = keras_and_tensorflow()
    recurrent = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}[CELLS[recipe.family]]
    channels, horizons = recipe.energy_axis.size, len(recipe.horizons)
    window = keras.Input((recipe.window, channels), name="window")
    signal = window
    for layer in range(recipe.layers):
        signal = recurrent(recipe.units, return_sequences=layer < recipe.layers - 1)(signal)
        signal = keras.layers.Dropout(recipe.dropout)(signal)
    dense = keras.layers.Dense(horizons * channels)
    forecast = keras.layers.Reshape((horizons, channels))(dense(signal))
    network = keras.Model(window, forecast)
    dense.bias.assign(np.tile(first_guess, horizons))
    return network


class _Windows:
    """Windows gathered batch by batch from their frames: cut out beforehand they would take 8 times the memory."""

    def __init__(self, parts: list[NDArray[np.float32]], recipe: Recipe) -> None:
        """parts: `(frame, channel)` of segments; a window lies in one of them."""
        offsets = np.cumsum([0] + [len(part) for part in parts[:-1]])
        starts = [window_starts(len(part), recipe) for part in parts]
        self._frames = np.concatenate(parts)
        self._starts = np.concatenate([o + s for o, s in zip(offsets, starts, strict=True)])
        self._aims = np.concatenate([o + target_frames(s, recipe) for o, s in zip(offsets, starts, strict=True)])
        self._steps = np.arange(recipe.window)
        self._batch = recipe.batch

    def __len__(self) -> int:
        return len(self._starts)

    def batches(self, order: NDArray[np.integer]) -> Iterator[Batch]:
        """Windows and targets in this order."""
        for i in range(0, len(order), self._batch):
            cases = order[i : i + self._batch]
            yield (self._frames[self._starts[cases, np.newaxis] + self._steps],), self._frames[self._aims[cases]]


def _sentence(recipe: Recipe) -> str:
    return (
        f"{recipe.layers} × {CELLS[recipe.family]} of {recipe.units} units, dropout {recipe.dropout:g} after each, Dense to "
        f"{len(recipe.horizons)} × {recipe.energy_axis.size} channels; Adam at {recipe.learning_rate:g}, batches of {recipe.batch}, mean "
        "squared error on noisy counts scaled to [0, 1]; the last bias begins at the mean spectrum"
        + (f"; weights averaged with momentum {recipe.weight_average:g}" if recipe.weight_average else "")
    )
