"""A fit as an ONNX graph from counts to counts, and the files that a model is made of."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
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
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.training.fit import Fit
from eelstm_stream.training.recipe import Recipe
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow, stderr_of_libraries_hushed

OPSET = 18
IR_VERSION = 10  # the newest that onnxruntime 1.20 reads


def counts_to_counts(fit: Fit, phase: PhaseFunctional, recipe: Recipe) -> Any:
    """The whole model as a tf.function: `(batch, window, channel)` counts to (forecast counts, phase).

    Where the model wants it, a second input is the history, `(batch, channel)` counts. The phase is the functional's of the
    forecast.
    """
    _, tf = keras_and_tensorflow()
    numerator, denominator = (np.asarray(v, dtype=np.float32) for v in (phase.numerator, phase.denominator))

    # numpy constants, not tf.constant: a tensor from outside would come out as one more input of the graph.
    def model(window: Any, history: Any = None) -> tuple[Any, Any]:
        forecast = fit.forecast(window, history)
        return forecast, tf.reduce_sum(forecast * numerator, axis=-1) / tf.reduce_sum(forecast * denominator, axis=-1)

    shapes = _input_shapes(recipe)
    # The batch left open: with a fixed one the LSTMs would come out as slow loops.
    signature = [tf.TensorSpec((None, *shapes[name]), tf.float32, name=name) for name in fit.inputs]
    return tf.function(model, input_signature=signature)


def to_onnx(fit: Fit, phase: PhaseFunctional, recipe: Recipe) -> Any:
    """The graph as an onnx.ModelProto, without metadata, its tensors named as the contract has them.

    The same fit gives the same graph to the byte. Raises EelstmError where the conversion left no real recurrent nodes (a
    loop in their place runs several times slower).
    """
    onnx = importlib.import_module("onnx")
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model = counts_to_counts(fit, phase, recipe)
    with stderr_of_libraries_hushed():
        tf2onnx = importlib.import_module("tf2onnx")
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        proto, _ = tf2onnx.convert.from_function(model, input_signature=model.input_signature, opset=OPSET)
    found = Counter(node.op_type for node in proto.graph.node)
    if found["Loop"] or any(found[kind] != number for kind, number in fit.recurrent.items()):
        wanted = " and ".join(f"{number} {kind}" for kind, number in fit.recurrent.items()) or "no"
        raise EelstmError(
            f"the export has {found['LSTM']} LSTM, {found['GRU']} GRU and {found['Loop']} Loop nodes where {wanted} "
            "nodes were meant: check tf2onnx's version."
        )
    outputs = {FORECAST_OUTPUT: (len(recipe.horizons), recipe.energy_axis.size), PHASE_OUTPUT: (len(recipe.horizons),)}
    _rename_tensors(proto, fit.inputs, tuple(outputs))
    shapes = _input_shapes(recipe) | outputs
    for tensor in (*proto.graph.input, *proto.graph.output):
        _set_shape(tensor, shapes[tensor.name])
    del proto.graph.value_info[:]  # inferred shapes with dimensions named unk__…, which onnxruntime infers again
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    onnx.checker.check_model(proto)
    return proto


def _input_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    return {WINDOW_INPUT: (recipe.window, recipe.energy_axis.size), HISTORY_INPUT: (recipe.energy_axis.size,)}


def _rename_tensors(proto: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Inputs and outputs as the contract has them, and everything inside by its number in the order of use.

    tf2onnx's own names count on within a process, and its constants are ordered by them.
    """
    graph = proto.graph
    names = {tensor.name: new for tensor, new in zip(graph.input, inputs, strict=True)}
    names |= {tensor.name: new for tensor, new in zip(graph.output, outputs, strict=True)}
    names[""] = ""  # an optional input that is not there
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for tensors in (node.input, node.output):
            for position, name in enumerate(tensors):
                tensors[position] = names.setdefault(name, f"tensor_{len(names)}")
    place = {name: number for number, name in enumerate(names)}
    constants = sorted((t for t in graph.initializer if t.name in place), key=lambda t: place[t.name])
    del graph.initializer[:]
    graph.initializer.extend(constants)
    for tensor in (*graph.input, *graph.output, *graph.initializer):
        tensor.name = names[tensor.name]
    graph.name, graph.doc_string = "eelstm", ""


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


def write_model_files(
    proto: Any, metadata: ModelMetadata, card: Callable[[str], str], path: Path, *, force: bool
) -> str:
    """Write the model, its hash in the format of sha256sum, and its card; return the hash.

    card: the card's text from the hash.

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
        card_path(path): card(sha256).encode(),
        sidecar_path(path): f"{sha256}  {path.name}\n".encode(),
        path: content,
    }
    unfinished = {file: file.with_name(f".{file.name}.unfinished") for file in files}
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
