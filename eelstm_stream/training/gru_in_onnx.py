"""A trained Keras GRU layer written out step by step, in the one form that tf2onnx makes a GRU node of.

tf2onnx knows GRUs by the operations of Keras 2. Keras 3 slices where that split and adds where it had BiasAdd, so that its GRU
comes out as an ONNX Loop, several times slower. What is computed is the same.
"""

from __future__ import annotations

from typing import Any

from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow


def gru(layer: Any, sequence: Any) -> Any:
    """What `layer(sequence)` gives, for a keras.layers.GRU with its default activations and `reset_after`.

    sequence: `(batch, step, feature)`. The reset gate acts on the recurrent product with its bias, which ONNX calls
    `linear_before_reset = 1`. Returns `(batch, step, unit)`, or the last step's `(batch, unit)`.
    """
    _, tf = keras_and_tensorflow()
    cell, steps = layer.cell, sequence.shape[1]
    kernel, recurrent_kernel = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    bias, recurrent_bias = tf.unstack(
        tf.convert_to_tensor(cell.bias)
    )  # here, since inside the loop it isn't recognised
    inputs = tf.TensorArray(tf.float32, size=steps).unstack(tf.transpose(sequence, [1, 0, 2]))
    outputs = tf.TensorArray(tf.float32, size=steps)
    nothing = tf.zeros((tf.shape(sequence)[0], cell.units))

    def step(t: Any, state: Any, outputs: Any) -> tuple[Any, Any, Any]:
        from_input = tf.nn.bias_add(tf.matmul(inputs.read(t), kernel), bias)
        from_state = tf.nn.bias_add(tf.matmul(state, recurrent_kernel), recurrent_bias)
        update_input, reset_input, candidate_input = tf.split(from_input, 3, axis=-1)
        update_state, reset_state, candidate_state = tf.split(from_state, 3, axis=-1)
        update, reset = tf.sigmoid(update_input + update_state), tf.sigmoid(reset_input + reset_state)
        candidate = tf.tanh(candidate_input + reset * candidate_state)
        state = update * state + (1 - update) * candidate
        return t + 1, state, outputs.write(t, state)

    _, last, outputs = tf.while_loop(lambda t, *_: t < steps, step, (0, nothing, outputs))
    return tf.transpose(outputs.stack(), [1, 0, 2]) if layer.return_sequences else last
