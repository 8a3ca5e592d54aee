"""A model file opened for inference: its hash checked against the pinned one, its contract against its graph."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from eelstm_stream.core.model_contract import (
    FORECAST_OUTPUT,
    HISTORY_INPUT,
    PHASE_OUTPUT,
    WINDOW_INPUT,
    ModelMetadata,
    from_properties,
)
from eelstm_stream.errors import EelstmError, UnusableInputError
from eelstm_stream.wire.messages import MAX_COUNTS

MAX_MODEL_BYTES = 512 * 1024 * 1024
MAX_FORECAST_COUNTS = 1e4 * MAX_COUNTS  # absurd, and its square must not overflow
_REMEDY = "export it with `eelstm train`, which makes it as it must be"
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class InferenceError(EelstmError):
    """The model answered with something that is no forecast."""


class Model:
    """A model ready to forecast. Open it with `open_model`."""

    def __init__(self, session: ort.InferenceSession, metadata: ModelMetadata, sha256: str, path: Path) -> None:
        self.metadata = metadata
        self.sha256 = sha256
        self.path = path
        self._session = session
        self._wants_history = any(i.name == HISTORY_INPUT for i in session.get_inputs())

    def forecast(
        self, windows: NDArray[np.float32], history: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Forecast a batch.

        windows: `(batch, window, channel)` and history: `(batch, channel)` float32, aligned counts at the reference dose.
        Returns counts `(batch, horizon, channel)` and phase `(batch, horizon)`, float32.
        Raises InferenceError where the answer is not finite or onnxruntime fails.
        """
        feed = {WINDOW_INPUT: windows}
        if self._wants_history:
            feed[HISTORY_INPUT] = history
        try:
            counts, phase = self._session.run([FORECAST_OUTPUT, PHASE_OUTPUT], feed)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base of their own
            raise InferenceError(f"{self.metadata.name}: onnxruntime failed: {_first_line(error)}") from None
        if not (np.isfinite(counts).all() and np.isfinite(phase).all()):
            raise InferenceError(f"{self.metadata.name} answered with numbers that are not finite.")
        if np.abs(counts).max() > MAX_FORECAST_COUNTS:
            raise InferenceError(f"{self.metadata.name} answered with {np.abs(counts).max():.3g} counts in a channel.")
        return counts, phase


def open_model(path: Path, sha256: str | None = None) -> Model:
    """Open a model file.

    sha256: the hash that the file must have; where it is not given, the one in `<path>.sha256` beside it, as `sha256sum`
    writes it. Raises UnusableInputError, one sentence, for a file that is missing, not the pinned one, not ONNX, without
    metadata, or whose graph is not what its metadata says.
    """
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    pinned = sha256 or _pinned_hash(path, found)
    if pinned != found:
        raise UnusableInputError(
            f"{path.name} has the SHA-256 {found[:12]}…, and the pinned one is {pinned[:12]}…: it is not the file that was "
            f"meant, or it was changed since; get it again, or pin the new hash if you trust it."
        )
    session = _session(path, content)
    metadata = from_properties(session.get_modelmeta().custom_metadata_map, path.name)
    _check_graph(path, session, metadata)
    model = Model(session, metadata, found, path)
    _try_out(model)
    return model


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise UnusableInputError(
                f"{path} has {size / 1e6:.0f} MB, and a model at most {MAX_MODEL_BYTES / 1e6:.0f} MB."
            )
        return path.read_bytes()
    except OSError as error:
        raise UnusableInputError(f"{path} can't be read: {error.strerror}; give the name of a model file.") from None


def _pinned_hash(path: Path, found: str) -> str:
    beside = path.with_name(path.name + ".sha256")
    try:
        words = beside.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(
            f"{path.name} has no pinned hash: if you trust the file, give `--sha256 {found}` or write that hash to {beside.name}."
        ) from None
    if not words or not _SHA256.match(words[0].lower()):
        raise UnusableInputError(f"{beside.name} does not hold a SHA-256; write it with `sha256sum {path.name}`.")
    return words[0].lower()


def _session(path: Path, content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One thread: the network is bound by memory, and a second thread that spins steals the core from everything else.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what it would log comes as an exception too
    # Weights in a second file would not be covered by the hash; without this they are looked for in the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        # From bytes, not from the path: what was hashed is what is loaded.
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base of their own
        if "external data" in str(error).lower():
            raise UnusableInputError(
                f"{path.name} keeps its weights in a second file, which its hash does not cover: "
                f"write the model into one file, as `onnx.save` does by itself."
            ) from None
        raise UnusableInputError(
            f"{path.name} is not an ONNX model that onnxruntime can run ({_first_line(error)}): {_REMEDY}."
        ) from None


def _check_graph(path: Path, session: ort.InferenceSession, metadata: ModelMetadata) -> None:
    channel, horizon = metadata.energy_axis.size, len(metadata.horizons)
    inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    wanted: list[tuple[str, dict[str, tuple[str, list[object]]], list[int]]] = [
        (WINDOW_INPUT, inputs, [metadata.window, channel]),
        (FORECAST_OUTPUT, outputs, [horizon, channel]),
        (PHASE_OUTPUT, outputs, [horizon]),
    ]
    if HISTORY_INPUT in inputs:
        wanted.append((HISTORY_INPUT, inputs, [channel]))
    for name, tensors, shape in wanted:
        if name not in tensors:
            raise UnusableInputError(
                f"{path.name} has no {'input' if tensors is inputs else 'output'} {name!r}, only {', '.join(tensors)}: "
                f"{_REMEDY}."
            )
        kind, found = tensors[name]
        sizes_differ = len(found) != len(shape) + 1 or any(
            isinstance(have, int) and have != want for have, want in zip(found[1:], shape, strict=True)
        )
        if kind != "tensor(float)" or sizes_differ or isinstance(found[0], int):
            raise UnusableInputError(
                f"{path.name}: {name!r} is {kind} {found}, and by its metadata it must be tensor(float) (batch, {str(shape)[1:-1]}): "
                f"{_REMEDY}."
            )
    unknown = set(inputs) - {WINDOW_INPUT, HISTORY_INPUT}
    if unknown:
        raise UnusableInputError(
            f"{path.name} asks for inputs that this version does not know ({', '.join(sorted(unknown))}): "
            f"it needs a newer eelstm-stream, or a model that takes {WINDOW_INPUT!r} and {HISTORY_INPUT!r} only."
        )


def _try_out(model: Model) -> None:
    """Two forecasts from the reference spectrum: what is wrong with the graph comes out now, and the first real one is warm.

    Two, since a graph that lost its batch axis answers one window well.
    """
    reference = np.stack([model.metadata.alignment_reference] * 2)
    try:
        counts, phase = model.forecast(np.stack([reference] * model.metadata.window, axis=1), reference)
    except InferenceError as error:
        raise UnusableInputError(f"{model.path.name} does not run on its own reference spectrum: {error}") from None
    expected = (2, len(model.metadata.horizons), model.metadata.energy_axis.size)
    if counts.shape != expected or phase.shape != expected[:2]:
        raise UnusableInputError(
            f"{model.path.name} answers two windows with the shapes {counts.shape} and {phase.shape}, "
            f"not {expected} and {expected[:2]}: {_REMEDY}."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
