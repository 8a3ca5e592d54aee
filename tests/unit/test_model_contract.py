"""A model file's metadata goes out and comes back whole, and what is missing or wrong is said by name."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from pydantic import ValidationError

from eelstm_stream.core.baselines import fit_baselines
from eelstm_stream.core.model_contract import PREFIX, HorizonError, ModelMetadata, from_properties, to_properties
from eelstm_stream.core.stored_baselines import stored
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis
from tests.model_files import metadata


@pytest.fixture(scope="module")
def meta() -> ModelMetadata:
    return metadata()


def test_metadata_survives_the_file(meta):
    properties = to_properties(meta)
    assert all(key.startswith(PREFIX) and isinstance(value, str) for key, value in properties.items())
    back = from_properties(properties | {"producer": "somebody else's"}, "m.onnx")
    assert to_properties(back) == properties
    np.testing.assert_array_equal(back.alignment_reference, meta.alignment_reference)
    assert back.energy_axis == meta.energy_axis
    assert back.phase(meta.alignment_reference) == meta.phase(meta.alignment_reference)


def test_every_value_is_json_for_a_reader_in_any_language(meta):
    values = {key: json.loads(value) for key, value in to_properties(meta).items()}
    assert values["eelstm.contract"] == 1
    assert values["eelstm.horizons"] == [1, 8]
    assert values["eelstm.energy_axis"] == {"offset_eV": 435.0, "dispersion_eV": 0.1, "size": 1900}


def test_a_field_that_is_not_known_here_is_passed_over(meta):
    assert from_properties(to_properties(meta) | {PREFIX + "novelty": "3"}, "m.onnx").name == meta.name


def test_errors_against_the_truth_are_there_where_it_is_known():
    known = HorizonError(
        horizon=8,
        rmse=180,
        noise_floor=175,
        baselines={"persistence": 258},
        phase_rmse=0.03,
        phase_baselines={"persistence": 0.1},
        rmse_clean=40,
        baselines_clean={"persistence": 190},
    )
    meta = metadata(horizons=(8,), validation=(known,))
    assert from_properties(to_properties(meta), "m.onnx").validation == (known,)


def test_a_file_without_our_metadata_is_refused():
    with pytest.raises(UnusableInputError, match=r"m\.onnx has no eelstm\.\* metadata.*eelstm train"):
        from_properties({"author": "me"}, "m.onnx")


@pytest.mark.parametrize("field", sorted(k for k, f in ModelMetadata.model_fields.items() if f.is_required()))
def test_each_required_field_is_missed_by_name(meta, field):
    properties = to_properties(meta)
    del properties[PREFIX + field]
    with pytest.raises(UnusableInputError, match=field):
        from_properties(properties, "m.onnx")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("contract", "2", "contract"),
        ("window", "0", "window"),
        ("horizons", "[]", "horizons"),
        ("horizons", "[8, 1]", "validation errors and horizons differ|horizons must rise"),
        ("reference_dwell_s", "NaN", "reference_dwell_s"),
        ("reference_dose_pC", "-1", "reference_dose_pC"),
        ("counts_high", "0", "counts_high"),
        ("alignment_reference", '"AAAA"', "alignment_reference"),
        ("alignment_reference", '"not base64!"', "alignment_reference"),
        ("phase_numerator", '"AADAfw=="', "phase_numerator"),  # one NaN
        ("energy_axis", '{"offset_eV": 435.0, "dispersion_eV": 0.1, "size": 100}', "has 1900 channels, the axis 100"),
        ("name", '"../evil"', "name"),
        ("training_runs", '[{"name": "a", "sha256": "short"}]', "sha256"),
        ("simulated", "{", "not JSON"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(meta, field, value, complaint):
    with pytest.raises(UnusableInputError, match=complaint) as refusal:
        from_properties(to_properties(meta) | {PREFIX + field: value}, "m.onnx")
    assert str(refusal.value).startswith("m.onnx")
    assert "\n" not in str(refusal.value)


def test_horizons_must_rise():
    errors = tuple(HorizonError(horizon=h, rmse=1, noise_floor=1, baselines={}, phase_rmse=0) for h in (8, 1))
    with pytest.raises(ValidationError, match="must rise"):
        metadata(horizons=(8, 1), validation=errors)


# --- fitted baselines -----------------------------------------------------------------------------------------------

SMALL = EnergyAxis(offset_eV=435.0, dispersion_eV=1.0, size=190)


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(3)
    runs = [9_000 + random.normal(scale=200, size=(40, SMALL.size)) for _ in range(2)]
    return fit_baselines(runs, 8, (1, 8))


@pytest.fixture(scope="module")
def with_baselines(fitted) -> ModelMetadata:
    return metadata(SMALL, fitted_baselines=stored(fitted))


def test_baselines_in_the_file_forecast_as_those_that_went_in(fitted, with_baselines):
    back = from_properties(to_properties(with_baselines), "m.onnx").baselines
    random = np.random.default_rng(4)
    windows = 9_000 + random.normal(scale=200, size=(3, 8, SMALL.size))
    histories = windows.mean(axis=1)
    assert set(back) == set(fitted.by_name())
    for name, baseline in fitted.by_name().items():
        for horizon in (1, 5, 8):
            before, after = baseline(windows, histories, horizon), back[name](windows, histories, horizon)
            np.testing.assert_allclose(after, before, atol=0.05, err_msg=name)


def test_an_older_file_has_the_baselines_that_need_no_fit(meta):
    properties = to_properties(meta)
    del properties["eelstm.fitted_baselines"]
    assert set(from_properties(properties, "m.onnx").baselines) == {
        "persistence",
        "window_mean",
        "linear_extrapolation",
    }


@pytest.mark.parametrize(
    ("field", "change", "complaint"),
    [
        ("mean", lambda a: a[:-1], "mean has 189 channels, the axis 190"),
        ("components", lambda a: a[:-1], "components has 1139 numbers"),
        ("components", lambda a: 2 * a, "components are not orthonormal"),
        ("components", lambda a: a[:0], "0 components"),
        ("ridge_offset", lambda a: a[1:], "ridge_offset"),
        ("ridge_maps", lambda a: a[: a.size // 2], "ridge_maps"),
        ("ridge_centres", lambda a: a[6:], "ridge_centres"),
        ("delay_modes", lambda a: a[1:], "delay_modes"),
        ("delay_modes", lambda a: a[:0], "delay_modes are not orthonormal"),
        ("delay_operator", lambda a: a[1:], "delay_operator"),
        ("mean", lambda a: np.where(np.arange(a.size) == 3, np.nan, a), "finite"),
    ],
)
def test_baselines_that_do_not_fit_the_model_are_refused_by_name(with_baselines, field, change, complaint):
    properties = to_properties(with_baselines)
    arrays = json.loads(properties["eelstm.fitted_baselines"])
    changed = change(getattr(with_baselines.fitted_baselines, field))
    arrays[field] = base64.b64encode(changed.astype("<f4").tobytes()).decode()
    with pytest.raises(UnusableInputError, match=f"m.onnx.*{complaint}") as refusal:
        from_properties(properties | {"eelstm.fitted_baselines": json.dumps(arrays)}, "m.onnx")
    assert "\n" not in str(refusal.value)


def test_holts_constants_are_shares(with_baselines):
    properties = to_properties(with_baselines)
    arrays = json.loads(properties["eelstm.fitted_baselines"]) | {"holt": [0.5, 1.5]}
    with pytest.raises(UnusableInputError, match="holt"):
        from_properties(properties | {"eelstm.fitted_baselines": json.dumps(arrays)}, "m.onnx")
