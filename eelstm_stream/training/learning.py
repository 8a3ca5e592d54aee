"""Gradient descent on a Keras network, epoch by epoch, stopped when the validation error no longer falls.

Not `Model.fit`, because a training that was killed must go on as if nothing had happened: everything that changes from step to
step is held here, is written by a checkpoint, and is read back from it. What is drawn at random (the order of the windows, the
units that dropout silences) depends on seed and epoch alone, so that an epoch is the same whoever begins it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import TrainingEpoch
from eelstm_stream.errors import EelstmError
from eelstm_stream.training.checkpoint import Arrays, Checkpoints, Snapshot
from eelstm_stream.training.fit import EpochReport
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

Batch = tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]  # inputs and target, cases first


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a network learns, in its own units, and what its errors are in counts."""

    training: Callable[
        [np.random.Generator], Iterator[Batch]
    ]  # the batches of one epoch; every choice drawn from the generator
    validation: Callable[[], Iterator[Batch]]
    # Mean squared error in counts² = this × that of the network's outputs + what no output of it can change.
    counts2: float
    training_outside_counts2: float = 0.0
    validation_outside_counts2: float = 0.0

    def training_rmse(self, mean_square: float) -> float:
        """Counts."""
        return math.sqrt(self.counts2 * mean_square + self.training_outside_counts2)

    def validation_rmse(self, mean_square: float) -> float:
        """Counts."""
        return math.sqrt(self.counts2 * mean_square + self.validation_outside_counts2)


def begin(seed: int) -> tuple[Any, Any]:
    """Keras and TensorFlow, from where the same seed gives the same network and the same training."""
    keras, tf = keras_and_tensorflow()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return keras, tf


def learn(
    network: Any,
    lesson: Lesson,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None,
) -> tuple[tuple[TrainingEpoch, ...], int]:
    """Train, leave the network with its best weights, and return the errors of each epoch and the number of the best.

    Ends when the validation error has not fallen for `patience` epochs, or after `epochs` of them. Goes on from the
    checkpoint where there is one. Raises EelstmError where the error is not finite from the first epoch on.
    """
    descent = _Descent(network, recipe)
    curve: tuple[TrainingEpoch, ...] = ()
    best_epoch, best = 0, descent.weights
    stored = None if checkpoints is None else checkpoints.load(descent.state)
    if stored is not None:
        descent.restore(stored.state)
        curve, best_epoch, best = stored.curve, stored.best_epoch, stored.best
    while len(curve) < epochs and len(curve) - best_epoch < patience:
        epoch = len(curve) + 1
        random = np.random.default_rng([seed, epoch])
        descent.silence_by(random)
        training_rmse = lesson.training_rmse(descent.train(lesson.training(random)))
        with descent.averaged():
            validation_rmse = lesson.validation_rmse(descent.mean_square(lesson.validation()))
            weights = descent.weights
        report(epoch, training_rmse, validation_rmse)
        if not (math.isfinite(training_rmse) and math.isfinite(validation_rmse)):
            break  # it won't come back from there
        curve = (*curve, TrainingEpoch(epoch=epoch, training_rmse=training_rmse, validation_rmse=validation_rmse))
        if best_epoch == 0 or validation_rmse < curve[best_epoch - 1].validation_rmse:
            best_epoch, best = epoch, weights
        if checkpoints is not None:
            checkpoints.save(lambda: Snapshot(curve, best_epoch, best, descent.state))  # noqa: B023 - called at once
    if best_epoch == 0:
        raise EelstmError(
            f"the training ran away: with a learning rate of {recipe.learning_rate:g} its error is not finite after the "
            "first epoch, so give a lower one."
        )
    descent.set_weights(best)
    return curve, best_epoch


class _Descent:
    """The network, its optimizer and the running average of its weights: all that changes from step to step."""

    def __init__(self, network: Any, recipe: Recipe) -> None:
        keras, tf = keras_and_tensorflow()
        optimizer = keras.optimizers.Adam(recipe.learning_rate)
        optimizer.build(network.trainable_variables)
        averages = [tf.Variable(v.numpy()) for v in network.trainable_variables]
        self._network, self._optimizer, self._averages = network, optimizer, averages
        inputs = tuple(tf.TensorSpec(i.shape, tf.float32) for i in network.inputs)
        target = tf.TensorSpec(network.outputs[0].shape, tf.float32)

        def squares(inputs: tuple[Any, ...], target: Any, training: bool) -> Any:
            outputs = network(inputs[0] if len(inputs) == 1 else list(inputs), training=training)
            return tf.reduce_mean(tf.square(outputs - target))

        # No jit_compile: XLA on a CPU takes longer to compile these loops than it saves.
        @tf.function(input_signature=(inputs, target))  # type: ignore[untyped-decorator]
        def step(inputs: tuple[Any, ...], target: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = squares(inputs, target, training=True)
            optimizer.apply(tape.gradient(loss, network.trainable_variables))
            # In the first steps the average is shorter, lest it hold on to the weights that the network began with.
            steps = tf.cast(optimizer.iterations.value, tf.float32)
            momentum = tf.minimum(recipe.weight_average, (1 + steps) / (10 + steps))
            for average, weight in zip(averages, network.trainable_variables, strict=True):
                average.assign(momentum * average + (1 - momentum) * weight)
            return loss

        @tf.function(input_signature=(inputs, target))  # type: ignore[untyped-decorator]
        def test(inputs: tuple[Any, ...], target: Any) -> Any:
            return squares(inputs, target, training=False)

        self._step, self._test = step, test

    def silence_by(self, random: np.random.Generator) -> None:
        """Let dropout draw from here on what the generator says."""
        for layer in self._network.layers:
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                generator.state.assign([random.integers(2**31), 0])

    def train(self, batches: Iterator[Batch]) -> float:
        """A step a batch. Returns the mean squared error over them, each before its step and with dropout."""
        return _over_cases(self._step, batches)

    def mean_square(self, batches: Iterator[Batch]) -> float:
        """The mean squared error of the network as it is."""
        return _over_cases(self._test, batches)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have the averaged weights."""
        kept = self.weights
        self.set_weights([average.numpy() for average in self._averages])
        try:
            yield
        finally:
            self.set_weights(kept)

    @property
    def weights(self) -> Arrays:
        """The network's weights."""
        return [weight.numpy() for weight in self._network.trainable_variables]

    def set_weights(self, weights: Arrays) -> None:
        """Give the network other weights."""
        for variable, value in zip(self._network.trainable_variables, weights, strict=True):
            variable.assign(value)

    @property
    def state(self) -> Arrays:
        """Everything that the next step depends on."""
        return [v.numpy() for v in self._variables]

    def restore(self, state: Arrays) -> None:
        """Go back to a state."""
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)

    @property
    def _variables(self) -> list[Any]:
        return [*self._network.trainable_variables, *self._averages, *self._optimizer.variables]


def _over_cases(error: Callable[..., Any], batches: Iterator[Batch]) -> float:
    total, cases = 0.0, 0
    for inputs, target in batches:
        total += float(error(inputs, target)) * len(target)
        cases += len(target)
    return total / cases
