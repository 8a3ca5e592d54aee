"""Small real ONNX models for tests: a mean-of-window forecaster in the model file's contract, and variants that break it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.model_contract import HorizonError, ModelMetadata, TrainingRun, to_properties
from eelstm_stream.wire.messages import EnergyAxis

AXIS = EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=1900)
WINDOW = 8


def reference_spectrum(axis: EnergyAxis = AXIS) -> np.ndarray:
    """(channel,) counts like SrTiO3's: falling background, Ti L and O K."""
    e = energies_eV(axis)
    counts = 12_000 * (e / 435) ** -1.5
    for centre_eV, height, width_eV in ((456.5, 4000, 1.0), (459.0, 5000, 1.2), (464.5, 4000, 1.5), (535.0, 3000, 4.0)):
        counts = counts + height * np.exp(-(((e - centre_eV) / width_eV) ** 2))
    return counts.astype(np.float32)


def metadata(axis: EnergyAxis = AXIS, **changes: Any) -> ModelMetadata:
    fields: dict[str, Any] = {
        "name": "mean-of-window",
        "energy_axis": axis,
        "window": WINDOW,
        "horizons": (1, 8),
        "reference_dwell_s": 0.4,
        "reference_dose_pC": 92.0,
        "simulated": True,
        "trained_on": "nothing: it is the mean of the window",
        "training_runs": (TrainingRun(name="none", sha256="0" * 64),),
        "preprocessing": "none",
        "alignment_reference": reference_spectrum(axis),
        "alignment_range_eV": (439.0, 464.0),
        "alignment_max_shift_eV": 3.0,
        "phase_numerator": np.linspace(-1, 1, axis.size, dtype=np.float32),
        "phase_denominator": np.ones(axis.size, dtype=np.float32),
        "variance_over_mean": 4.6,
        "counts_low": 5_000.0,
        "counts_high": 18_000.0,
        "validation": tuple(
            HorizonError(horizon=h, rmse=200, noise_floor=175, baselines={"persistence": 250.0}, phase_rmse=0.02)
            for h in (1, 8)
        ),
        "versions": {"onnx": onnx.__version__},
    }
    return ModelMetadata(**(fields | changes))


def write_model(
    path: Path,
    *,
    meta: ModelMetadata | None = None,
    properties: dict[str, str] | None = None,
    channels: int | None = None,
    factor: float = 1.0,
    pin: bool = True,
    of_history: bool = False,
) -> Path:
    """Write a model whose forecast at every horizon is `factor` × the mean of the window, or of the history.

    properties replaces the metadata as it stands in the file; channels makes the graph's size differ from it.
    """
    meta = meta or metadata()
    size = channels or meta.energy_axis.size
    horizon = len(meta.horizons)
    mean = (
        helper.make_node("Unsqueeze", ["history", "time"], ["mean"])
        if of_history
        else helper.make_node("ReduceMean", ["window", "time"], ["mean"], keepdims=1)
    )
    nodes = [
        mean,
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Expand", ["scaled", "horizons"], ["forecast"]),
        helper.make_node("MatMul", ["forecast", "numerator"], ["above"]),
        helper.make_node("ReduceSum", ["forecast", "channel"], ["below"], keepdims=0),
        helper.make_node("Div", ["above", "below"], ["phase"]),
    ]
    constants = {
        "time": np.array([1], np.int64),
        "channel": np.array([2], np.int64),
        "factor": np.array(factor, np.float32),
        "horizons": np.array([1, horizon, 1], np.int64),
        "numerator": np.resize(meta.phase_numerator, size).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "mean_of_window",
        [
            helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", meta.window, size]),
            *([helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", size])] if of_history else []),
        ],
        [
            helper.make_tensor_value_info("forecast", TensorProto.FLOAT, ["batch", horizon, size]),
            helper.make_tensor_value_info("phase", TensorProto.FLOAT, ["batch", horizon]),
        ],
        [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (to_properties(meta) if properties is None else properties).items():
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    path.write_bytes(content)
    if pin:
        path.with_name(path.name + ".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    return path
