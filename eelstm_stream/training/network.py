"""The paper's network in Keras, and its training on prepared runs. The only file here, with `export`, that runs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.training.dataset import Fitted, PreparedRun, Segment, target_frames, window_starts
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

EpochReport = Callable[[int, float, float], None]  # epoch from 1, training and validation rmse in counts


def build_network(recipe: Recipe, first_guess: NDArray[np.float32]) -> Any:
    """Layers of the paper: LSTM and Dropout in turn, then Dense to the channels of each horizon.

    `(batch, window, channel)` scaled counts to `(batch, horizon, channel)` scaled counts. first_guess: `(channel,)`, where
    the last layer's bias begins; from zero the network would spend its first epochs on learning the mean spectrum.
    Dropout stands in layers of its own because `LSTM(dropout=…)` leaves noise in an exported graph.
    """
    keras, _ = keras_and_tensorflow()
    channels, horizons = recipe.energy_axis.size, len(recipe.horizons)
    window = keras.Input((recipe.window, channels), name="window")
    signal = window
    for layer in range(recipe.lstm_layers):
        last = layer == recipe.lstm_layers - 1
        signal = keras.layers.LSTM(recipe.lstm_units, return_sequences=not last)(signal)
        signal = keras.layers.Dropout(recipe.dropout)(signal)
    dense = keras.layers.Dense(horizons * channels)
    forecast = keras.layers.Reshape((horizons, channels))(dense(signal))
    network = keras.Model(window, forecast)
    dense.bias.assign(np.tile(first_guess, horizons))
    return network


def train_network(
    runs: Sequence[PreparedRun],
    training: Sequence[Segment],
    validation: Sequence[Segment],
    fitted: Fitted,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
) -> Any:
    """Train until the validation error has not fallen for `patience` epochs; return the network at its best.

    The same seed, libraries and machine give the same weights.
    """
    keras, tf = keras_and_tensorflow()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    span = fitted.high - fitted.low
    network = build_network(recipe, (fitted.mean - fitted.low) / span)
    averaging = recipe.weight_average > 0
    optimizer = keras.optimizers.Adam(
        recipe.learning_rate, use_ema=averaging, ema_momentum=recipe.weight_average if averaging else 0.99
    )
    # No jit_compile: XLA on a CPU takes longer to compile these loops than it saves.
    network.compile(optimizer, "mse", jit_compile=False)
    batches = _Batches(tf, runs, fitted, recipe)

    class Report(keras.callbacks.Callback):  # type: ignore[misc,name-defined]
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            report(epoch + 1, float(np.sqrt(logs["loss"])) * span, float(np.sqrt(logs["val_loss"])) * span)

    network.fit(
        batches.of(training, seed=seed),
        validation_data=batches.of(validation),
        epochs=epochs,
        shuffle=False,  # the batches shuffle themselves, by the seed
        verbose=0,
        callbacks=[
            # First, so that the others find the averaged weights in the network.
            *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if averaging else []),
            Report(),
            keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
        ],
    )
    return network


class _Batches:
    """Windows gathered batch by batch from one array of scaled frames: cut out beforehand they would take 8 times the memory."""

    def __init__(self, tf: Any, runs: Sequence[PreparedRun], fitted: Fitted, recipe: Recipe) -> None:
        self._tf = tf
        self._recipe = recipe
        self._offsets = np.cumsum([0] + [len(run.counts) for run in runs])
        frames = np.concatenate([run.counts for run in runs])
        self._frames = tf.constant((frames - fitted.low) / (fitted.high - fitted.low), dtype=tf.float32)

    def of(self, segments: Sequence[Segment], seed: int | None = None) -> Any:
        """A tf.data.Dataset of batches `(window, target)`; with a seed, shuffled anew each epoch."""
        tf, recipe = self._tf, self._recipe
        starts, aims = [], []
        for s in segments:
            inside = window_starts(s.last - s.first, recipe)
            at = self._offsets[s.run] + s.first
            starts.append(at + inside)
            aims.append(at + target_frames(inside, recipe))
        pairs = tf.data.Dataset.from_tensor_slices((np.concatenate(starts), np.concatenate(aims)))
        if seed is not None:
            pairs = pairs.shuffle(sum(map(len, starts)), seed=seed)
        steps = tf.range(recipe.window, dtype=tf.int64)

        def cut(start: Any, aim: Any) -> tuple[Any, Any]:
            return tf.gather(self._frames, start[:, tf.newaxis] + steps), tf.gather(self._frames, aim)

        return pairs.batch(recipe.batch).map(cut).prefetch(2)
