"""A trained network as an ONNX graph from counts to counts, and the files that a model is made of."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import (
    FORECAST_OUTPUT,
    HISTORY_INPUT,
    PHASE_OUTPUT,
    WINDOW_INPUT,
    ModelMetadata,
    to_properties,
)
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.training.dataset import Fitted
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow, stderr_of_libraries_hushed

OPSET = 18
IR_VERSION = 10  # the newest that onnxruntime 1.20 reads


def counts_to_counts(network: Any, fitted: Fitted, recipe: Recipe) -> Any:
    """The whole model as a tf.function: `(batch, window, channel)` counts to (forecast counts, phase).

    Scaling to [0, 1], the network, its inverse, and the phase functional on the forecast.
    """
    _, tf = keras_and_tensorflow()
    low, span = np.float32(fitted.low), np.float32(fitted.high - fitted.low)
    numerator, denominator = fitted.phase.numerator, fitted.phase.denominator

    # numpy constants, not tf.constant: a tensor from outside would come out as one more input of the graph.
    def model(window: Any) -> tuple[Any, Any]:
        forecast = network((window - low) / span, training=False) * span + low
        phase = tf.reduce_sum(forecast * numerator, axis=-1) / tf.reduce_sum(forecast * denominator, axis=-1)
        return forecast, phase

    shape = (None, recipe.window, recipe.energy_axis.size)  # with a fixed batch the LSTMs would come out as slow loops
    return tf.function(model, input_signature=[tf.TensorSpec(shape, tf.float32, name=WINDOW_INPUT)])


def to_onnx(network: Any, fitted: Fitted, recipe: Recipe) -> Any:
    """The graph as an onnx.ModelProto, without metadata, its tensors named as the contract has them.

    Raises EelstmError where the conversion left no real LSTM nodes (a loop in their place runs several times slower).
    """
    onnx = importlib.import_module("onnx")
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model = counts_to_counts(network, fitted, recipe)
    with stderr_of_libraries_hushed():
        tf2onnx = importlib.import_module("tf2onnx")
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        proto, _ = tf2onnx.convert.from_function(model, input_signature=model.input_signature, opset=OPSET)
    found = sum(node.op_type == "LSTM" for node in proto.graph.node)
    if found != recipe.lstm_layers:
        raise EelstmError(
            f"the export has {found} LSTM nodes for {recipe.lstm_layers} layers: check tf2onnx's version."
        )
    _rename_tensors(proto, [i.name for i in proto.graph.input], [WINDOW_INPUT])
    _rename_tensors(proto, [o.name for o in proto.graph.output], [FORECAST_OUTPUT, PHASE_OUTPUT])
    channels, horizons = recipe.energy_axis.size, len(recipe.horizons)
    _set_shape(proto.graph.input[0], [recipe.window, channels])
    _set_shape(proto.graph.output[0], [horizons, channels])
    _set_shape(proto.graph.output[1], [horizons])
    del proto.graph.value_info[:]  # inferred shapes with dimensions named unk__…, which onnxruntime infers again
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    onnx.checker.check_model(proto)
    return proto


def _rename_tensors(proto: Any, old: Sequence[str], new: Sequence[str]) -> None:
    names = dict(zip(old, new, strict=True))
    for node in proto.graph.node:
        for names_of_node in (node.input, node.output):
            for i, name in enumerate(names_of_node):
                names_of_node[i] = names.get(name, name)
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.name = names.get(tensor.name, tensor.name)


def _set_shape(tensor: Any, sizes: Sequence[int]) -> None:
    """(batch, …sizes): tf2onnx leaves the batch with a name like unk__123, and sometimes a size unknown."""
    shape = tensor.type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add().dim_param = "batch"
    for size in sizes:
        shape.dim.add().dim_value = size


class OnnxForecaster:
    """The exported graph itself, run on windows: what is reported of a model is what its file does."""

    def __init__(self, proto: Any, batch: int = 64) -> None:
        ort = importlib.import_module("onnxruntime")
        self._session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        self._batch = batch

    def __call__(
        self, windows: NDArray[np.float32], histories: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Forecast every window.

        windows: `(case, window, channel)`, histories: `(case, channel)`, counts. Returns counts `(case, horizon, channel)` and
        phase `(case, horizon)`.
        """
        wanted = {i.name for i in self._session.get_inputs()}
        feeds = {WINDOW_INPUT: windows, HISTORY_INPUT: histories}
        outputs = [FORECAST_OUTPUT, PHASE_OUTPUT]
        parts = [
            self._session.run(outputs, {name: a[i : i + self._batch] for name, a in feeds.items() if name in wanted})
            for i in range(0, len(windows), self._batch)
        ]
        counts, phase = (np.concatenate(part) for part in zip(*parts, strict=True))
        return counts, phase


def card_path(path: Path) -> Path:
    """Where the card of a model file stands."""
    return path.with_suffix(".md")


def sidecar_path(path: Path) -> Path:
    """Where the pinned hash of a model file stands."""
    return path.with_name(path.name + ".sha256")


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Raises UsageError where the model can't be written to `path`, which is better said before an hour of training."""
    if path.suffix != ".onnx":
        raise UsageError(f"{path.name}: a model is written as .onnx, so give a name that ends in it.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder: make it first.")
    for file in (path, sidecar_path(path), card_path(path)):
        if file.exists() and not force:
            raise UsageError(f"{file} exists: choose another name, or overwrite it with --force.")


def write_model_files(proto: Any, metadata: ModelMetadata, card: str, path: Path, *, force: bool) -> str:
    """Write the model, its hash in the format of sha256sum, and its card; return the hash.

    All three are whole before any takes its name, and the model takes its name last: a kill on the way leaves the old
    model or none, at worst beside a hash that is not its own, which is refused when it is opened.
    """
    refuse_to_overwrite(path, force)
    del proto.metadata_props[:]
    for key, value in sorted(to_properties(metadata).items()):
        proto.metadata_props.add(key=key, value=value)
    content = proto.SerializeToString(deterministic=True)
    sha256 = hashlib.sha256(content).hexdigest()
    files = {
        card_path(path): card.encode(),
        sidecar_path(path): f"{sha256}  {path.name}\n".encode(),
        path: content,
    }
    unfinished = {file: file.with_name(f".{file.name}.{os.getpid()}.unfinished") for file in files}
    try:
        for file, written in files.items():
            with unfinished[file].open("wb") as stream:
                stream.write(written)
                stream.flush()
                os.fsync(stream.fileno())
        for file, ready in unfinished.items():
            ready.replace(file)
    except OSError as error:
        raise EelstmError(f"{path} couldn't be written: {error.strerror or error}.") from error
    finally:
        for left in unfinished.values():
            left.unlink(missing_ok=True)
    return sha256
