"""A model file is opened as the one that was meant, or refused in one sentence that says what was found and what to do."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from eelstm_stream.core.model_contract import PREFIX, from_properties, to_properties
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.io import model_file
from eelstm_stream.io.model_file import MAX_FORECAST_COUNTS, InferenceError, open_model
from eelstm_stream.wire.messages import EnergyAxis
from tests.model_files import metadata, reference_spectrum, write_model

SMALL = EnergyAxis(offset_eV=435.0, dispersion_eV=0.5, size=80)
META = metadata(SMALL)
EXPORT = "export it with `eelstm train`"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", meta=META)


def refusal(path: Path, sha256: str | None = None) -> str:
    with pytest.raises(UnusableInputError) as error:
        open_model(path, sha256)
    sentence = str(error.value)
    assert error.value.exit_code == 3
    assert "\n" not in sentence
    assert path.name in sentence
    return sentence


def pin(path: Path) -> Path:
    """Pin whatever the file holds: what is refused then is not refused for its hash."""
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return path


def changed(path: Path, change: Callable[[ModelProto], object]) -> Path:
    """The model with its graph changed, and pinned again."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return pin(path)


def windows(batch: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(batch, window, channel) and (batch, channel) of an axis of SMALL's size."""
    spectra = scale * reference_spectrum(SMALL) * (1 + 0.1 * np.arange(batch, dtype=np.float32))[:, np.newaxis]
    return np.repeat(spectra[:, np.newaxis], META.window, axis=1), spectra


# A good one


def test_a_model_forecasts_what_its_graph_says(path):
    model = open_model(path)
    batch, history = windows(3)
    counts, phase = model.forecast(batch, history)
    assert counts.shape == (3, 2, SMALL.size)
    assert counts.dtype == np.float32
    np.testing.assert_allclose(counts, np.repeat(batch[:, :1], 2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(phase, META.phase(counts), rtol=1e-4)
    assert (model.path, model.metadata.name) == (path, "mean-of-window")
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_answer_to_a_window_does_not_depend_on_its_batch(path):
    model = open_model(path)
    batch, history = windows(5)
    together, _ = model.forecast(batch, history)
    alone = np.concatenate([model.forecast(batch[i : i + 1], history[i : i + 1])[0] for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_graph_that_asks_for_the_history_gets_it(path):
    def forecast_the_history(model: ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", SMALL.size]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "step"))
        model.graph.node.insert(0, helper.make_node("Unsqueeze", ["history", "step"], ["mean"]))
        del model.graph.node[1]  # the mean of the window

    model = open_model(changed(path, forecast_the_history))
    batch, history = windows(2)
    counts, _ = model.forecast(np.zeros_like(batch), history)
    np.testing.assert_allclose(counts[:, 0], history, rtol=1e-6)


# The file


def test_a_file_that_is_not_there(tmp_path):
    assert "m.onnx can't be read: No such file or directory; give the name of a model file" in refusal(
        tmp_path / "m.onnx"
    )
    (tmp_path / "folder.onnx").mkdir()
    assert "can't be read: Is a directory" in refusal(tmp_path / "folder.onnx")


def test_a_file_that_is_too_large_is_not_read(path, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_MODEL_BYTES", 1000)
    assert "m.onnx has 0 MB, and a model at most 0 MB" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model at all\n" * 100,
        b"\x89HDF\r\n\x1a\n" + bytes(2000),
        pickle.dumps({"weights": [1.0, 2.0]}),
        np.random.default_rng(0).bytes(5000),
        b"<html>404</html>",
    ],
    ids=["empty", "text", "HDF5", "pickle", "noise", "a web page"],
)
def test_a_file_that_is_no_model(tmp_path, content):
    other = tmp_path / "m.onnx"
    other.write_bytes(content)
    sentence = refusal(pin(other))
    assert "m.onnx is not an ONNX model that onnxruntime can run" in sentence
    assert EXPORT in sentence


class Explosive:
    """Ends the test run if anybody unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def test_a_pickle_is_never_unpickled(tmp_path):
    other = tmp_path / "m.onnx"
    other.write_bytes(pickle.dumps(Explosive()))
    refusal(pin(other))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "pinned one" in refusal(path)
    refusal(pin(path))  # and where the truncated one was pinned


# The hash


def test_a_file_that_was_changed_is_refused_with_both_hashes(path):
    pinned = hashlib.sha256(path.read_bytes()).hexdigest()
    model = onnx.load(path)
    model.doc_string = "harmless"
    path.write_bytes(model.SerializeToString())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    sentence = refusal(path)
    assert found[:12] in sentence.partition("pinned")[0]
    assert pinned[:12] in sentence.partition("pinned")[2]
    assert "get it again" in sentence


def test_a_hash_given_outranks_the_one_beside_the_file(path):
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("m.onnx.sha256").write_text(f"{'0' * 64}  m.onnx\n")
    assert open_model(path, right).sha256 == right
    assert "000000000000" in refusal(path)
    pin(path)
    assert "ffffffffffff" in refusal(path, "f" * 64)


def test_a_model_that_nobody_pinned_is_refused_with_the_hash_to_pin(path):
    path.with_name("m.onnx.sha256").unlink()
    sentence = refusal(path)
    assert "has no pinned hash" in sentence
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"--sha256 {found}" in sentence
    assert open_model(path, found).sha256 == found


@pytest.mark.parametrize("content", [b"", b"\n", b"abc  m.onnx\n", b"g" * 64, b"\xff" * 64, b"a" * 65])
def test_what_is_no_hash_beside_the_file(path, content):
    path.with_name("m.onnx.sha256").write_bytes(content)
    assert "sha256" in refusal(path)


def test_a_hash_in_capitals_is_the_same_hash(path):
    beside = path.with_name("m.onnx.sha256")
    beside.write_text(beside.read_text().upper())
    open_model(path)


# The metadata


def test_a_model_without_metadata_or_with_somebody_elses(tmp_path):
    for properties in ({}, {"author": "me", "eels.window": "8"}):
        path = write_model(tmp_path / "m.onnx", meta=META, properties=properties)
        sentence = refusal(path)
        assert "m.onnx has no eelstm.* metadata" in sentence
        assert EXPORT in sentence


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("window", "eight", "not JSON"),
        ("versions", "[" * 100_000, "not JSON"),
        ("window", "9" * 5000, "not JSON"),
        ("window", '"eight"', "window"),
        ("window", "null", "window"),
        ("window", "8.5", "window"),
        ("contract", "2", "contract"),
        ("energy_axis", "[435.0, 0.5, 80]", "energy_axis"),
        ("energy_axis", '{"offset_eV": 435.0, "dispersion_eV": 0.5}', "energy_axis.size"),
        ("phase_numerator", '{"0": 1}', "phase_numerator"),
        ("phase_numerator", "[[1, 2], [3]]", "phase_numerator"),
        ("phase_numerator", "null", "phase_numerator"),
        ("alignment_reference", '"' + "A" * 64 + '"', "alignment_reference has 12 channels, the axis 80"),
        ("trained_on", '"' + "x" * 5000 + '"', "trained_on"),
        ("reference_dwell_s", "1e-300", "reference_dwell_s"),
        ("reference_dose_pC", "NaN", "reference_dose_pC"),
        ("name", '"two words"', "name"),
    ],
)
def test_metadata_that_means_nothing_here(tmp_path, field, value, complaint):
    path = write_model(tmp_path / "m.onnx", meta=META, properties=to_properties(META) | {PREFIX + field: value})
    sentence = refusal(path)
    assert complaint in sentence
    assert EXPORT in sentence


def test_metadata_is_read_from_the_file_as_it_was_written(path):
    assert to_properties(open_model(path).metadata) == to_properties(META)
    stored = ort.InferenceSession(path.read_bytes()).get_modelmeta().custom_metadata_map
    assert from_properties(stored, "m").window == META.window


# The graph


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"energy_axis": EnergyAxis(offset_eV=435.0, dispersion_eV=0.5, size=79)},
            "'window' is tensor(float) ['batch', 8, 80]",
        ),
        ({"window": 9}, "'window' is tensor(float) ['batch', 8, 80]"),
    ],
)
def test_shapes_that_are_not_those_of_the_metadata(tmp_path, changes, found):
    other = metadata(changes.get("energy_axis", SMALL), **{k: v for k, v in changes.items() if k != "energy_axis"})
    sentence = refusal(write_model(tmp_path / "m.onnx", meta=META, properties=to_properties(other)))
    assert found in sentence
    assert f"by its metadata it must be tensor(float) (batch, {other.window}, {other.energy_axis.size})" in sentence
    assert EXPORT in sentence


def test_a_graph_of_another_size_than_its_metadata(tmp_path):
    assert "'window' is tensor(float) ['batch', 8, 70]" in refusal(
        write_model(tmp_path / "m.onnx", meta=META, channels=70)
    )


def test_horizons_that_are_not_those_of_the_metadata(tmp_path):
    three = metadata(SMALL, horizons=(8,), validation=META.validation[1:])
    sentence = refusal(write_model(tmp_path / "m.onnx", meta=META, properties=to_properties(three)))
    assert (
        "'forecast' is tensor(float) ['batch', 2, 80], and by its metadata it must be tensor(float) (batch, 1, 80)"
        in sentence
    )


def test_a_fixed_batch(path):
    def fix(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    assert "'window' is tensor(float) [1, 8, 80]" in refusal(changed(path, fix))


def test_another_element_type(path):
    def double(model: ModelProto) -> None:
        model.graph.output[1].name = "as_float"
        model.graph.node.append(helper.make_node("Cast", ["phase"], ["double"], to=TensorProto.DOUBLE))
        del model.graph.output[1]
        model.graph.output.append(helper.make_tensor_value_info("double", TensorProto.DOUBLE, ["batch", 2]))
        for node in model.graph.node:
            node.output[:] = [{"phase": "single", "double": "phase"}.get(name, name) for name in node.output]
            node.input[:] = [{"phase": "single"}.get(name, name) for name in node.input]
        model.graph.output[1].name = "phase"

    assert "'phase' is tensor(double)" in refusal(changed(path, double))


def test_an_unknown_input(path):
    def ask_for_more(model: ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("temperature", TensorProto.FLOAT, ["batch", 1]))

    sentence = refusal(changed(path, ask_for_more))
    assert "asks for inputs that this version does not know (temperature)" in sentence
    assert "a newer eelstm-stream" in sentence


@pytest.mark.parametrize("output", [0, 1], ids=["forecast", "phase"])
def test_a_missing_output(path, output):
    name = ("forecast", "phase")[output]

    def leave_out(model: ModelProto) -> None:
        del model.graph.output[output]

    assert f"m.onnx has no output '{name}', only" in refusal(changed(path, leave_out))


def test_a_missing_input(path):
    def rename(model: ModelProto) -> None:
        model.graph.input[0].name = "spectra"
        model.graph.node[0].input[0] = "spectra"

    assert "m.onnx has no input 'window', only spectra" in refusal(changed(path, rename))


def test_a_graph_that_answers_one_window_for_all(path):
    """Its declared shapes are right, and with one window its answer is too."""

    def take_the_first(model: ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["each" if name == "mean" else name for name in node.output]
        model.graph.initializer.append(numpy_helper.from_array(np.array([True]), "first"))
        model.graph.node.insert(1, helper.make_node("Compress", ["each", "first"], ["mean"], axis=0))

    sentence = refusal(changed(path, take_the_first))
    assert "answers two windows with the shapes (1, 2, 80) and (1, 2), not (2, 2, 80) and (2, 2)" in sentence


def test_a_graph_whose_operators_are_not_known(path):
    def invent(model: ModelProto) -> None:
        model.graph.node[0].op_type = "Prophesy"

    assert "is not an ONNX model that onnxruntime can run" in refusal(changed(path, invent))


@pytest.mark.parametrize("weight", ["initializer", "constant"])
@pytest.mark.parametrize("cwd", ["beside the weights", "elsewhere"])
def test_weights_in_a_second_file_are_not_read_wherever_the_program_was_started(path, monkeypatch, weight, cwd):
    # The hash does not cover them, so whoever can write that file could change the model.
    model = onnx.load(path)
    if weight == "constant":
        numerator = next(i for i in model.graph.initializer if i.name == "numerator")
        model.graph.initializer.remove(numerator)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["numerator"], value=numerator))
    onnx.save(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=100, convert_attribute=True
    )
    assert (path.parent / "weights.bin").stat().st_size > 0
    monkeypatch.chdir(path.parent if cwd == "beside the weights" else "/")
    sentence = refusal(pin(path))
    assert "keeps its weights in a second file, which its hash does not cover" in sentence
    assert "onnx.save" in sentence


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e30])
def test_a_model_that_forecasts_nonsense_from_its_own_reference(tmp_path, factor):
    sentence = refusal(write_model(tmp_path / "m.onnx", meta=META, factor=factor))
    assert "does not run on its own reference spectrum: mean-of-window answered with" in sentence


# While forecasting


def test_nonsense_that_comes_later_is_an_inference_error_and_no_forecast(tmp_path):
    model = open_model(write_model(tmp_path / "m.onnx", meta=META, factor=1e3))
    batch, history = windows(1)
    with pytest.raises(InferenceError, match=r"mean-of-window answered with .* counts in a channel"):
        model.forecast(batch * np.float32(MAX_FORECAST_COUNTS / 1e6), history)
    with pytest.raises(InferenceError, match="answered with numbers that are not finite"):
        model.forecast(np.full_like(batch, 3e38), history)
    with pytest.raises(InferenceError, match="not finite"):
        model.forecast(np.zeros_like(batch), history)  # no counts, and so no phase
    counts, _ = model.forecast(batch, history)  # and it goes on
    assert np.isfinite(counts).all()


def test_what_onnxruntime_refuses_is_an_inference_error_of_one_line(path):
    model = open_model(path)
    batch, history = windows(1)
    with pytest.raises(InferenceError, match="mean-of-window: onnxruntime failed: ") as error:
        model.forecast(batch[:, :5], history)
    assert "\n" not in str(error.value)
