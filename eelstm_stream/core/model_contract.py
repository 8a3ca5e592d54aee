"""The contract of a model file: names of its tensors, and what its metadata must say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eelstm_stream.core.baselines import Baseline, baselines_without_fit
from eelstm_stream.core.phase import PhaseFunctional
from eelstm_stream.core.phase_scale import UNKNOWN_SCALE, PhaseScale
from eelstm_stream.core.stored_baselines import StoredBaselines
from eelstm_stream.core.vectors import Vector
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import (
    MAX_HORIZONS,
    EnergyAxis,
    Finite,
    Name,
    NonNegativeFinite,
    PositiveFinite,
    Seconds,
    Sha256,
    Text,
)

PREFIX = "eelstm."
WINDOW_INPUT = "window"  # float32 (batch, window, channel): aligned counts at the reference dose, oldest first
HISTORY_INPUT = "history"  # optional, float32 (batch, channel): mean of the session's aligned spectra so far
FORECAST_OUTPUT = "forecast"  # float32 (batch, horizon, channel): counts at the reference dose
PHASE_OUTPUT = "phase"  # float32 (batch, horizon): damage coordinate
MAX_EPOCHS = 100_000


class TrainingRun(BaseModel):
    """One recording that a model was trained on."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: Sha256 = Field(description="of counts, axis, dwells and currents, so that the file format does not matter")
    counts_sha256: Sha256 | None = Field(
        None, description="of the counts alone, which no flag and no new calibration changes; absent in older files"
    )


class HorizonError(BaseModel):
    """Errors at one horizon on runs that the model was not trained on: over frames and channels, counts at the reference dose."""

    model_config = ConfigDict(frozen=True)

    horizon: int = Field(ge=1, le=MAX_HORIZONS)
    rmse: NonNegativeFinite
    noise_floor: NonNegativeFinite
    baselines: dict[str, NonNegativeFinite] = Field(description="name of a baseline to its rmse")
    phase_rmse: NonNegativeFinite = Field(description="of the forecast phase against the measured one")
    phase_baselines: dict[str, NonNegativeFinite] = Field(
        {}, description="name of a baseline to the same of its forecast"
    )
    rmse_clean: NonNegativeFinite | None = Field(None, description="against the noise-free truth; simulated runs only")
    baselines_clean: dict[str, NonNegativeFinite] = Field({}, description="the same of each baseline")


class TrainingEpoch(BaseModel):
    """Root mean square errors at the end of one epoch, counts at the reference dose, over all horizons."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(ge=1)
    training_rmse: NonNegativeFinite = Field(description="as the network was trained, so with dropout")
    validation_rmse: NonNegativeFinite


class ModelMetadata(BaseModel):
    """What a model file says of itself, in `metadata_props` under the prefix `eelstm.`, one JSON value a field."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True, allow_inf_nan=False)
    REQUIRED_MESSAGE: ClassVar[str] = "export it with `eelstm train`, which writes them"

    contract: Literal[1] = 1
    name: Name
    family: str = Field("paper", description="kind of model; see docs/reference/training.md")
    settings: dict[str, float] = Field({}, description="numbers that a model of this family was made with")
    energy_axis: EnergyAxis
    window: int = Field(ge=1, le=1024, description="number of spectra in the window")
    horizons: tuple[Annotated[int, Field(ge=1, le=MAX_HORIZONS)], ...] = Field(min_length=1, max_length=MAX_HORIZONS)
    window_domain: Literal["frame", "dose"] = "frame"
    reference_dwell_s: Seconds
    reference_dose_pC: PositiveFinite
    dose_is_relative: bool = Field(
        False, description="trained at an unknown current, which counts as 1 in the reference dose"
    )
    simulated: bool = Field(description="whether the training data was simulated")
    trained_on: Text = Field(description="one sentence on the training data")
    training_runs: tuple[TrainingRun, ...] = Field(min_length=1)
    validation_runs: tuple[TrainingRun, ...] = Field(
        (), description="runs held out whole to stop the training by: no part of the fit, and no test either"
    )
    training_curve: tuple[TrainingEpoch, ...] = Field(
        (), max_length=MAX_EPOCHS, description="empty where nobody kept it"
    )
    preprocessing: str = Field(description="one sentence on what happens to counts before the graph")
    alignment_reference: Vector
    alignment_range_eV: tuple[Finite, Finite]
    alignment_max_shift_eV: PositiveFinite
    phase_numerator: Vector
    phase_denominator: Vector
    phase_noise: NonNegativeFinite | None = Field(
        None,
        description="standard deviation of the phase measured on one training spectrum, from counting noise; absent in older files",
    )
    phase_scale: PhaseScale | None = Field(
        None, description="transformed fraction and scatter between specimens by phase; absent in older files"
    )
    variance_over_mean: PositiveFinite = Field(
        description="noise model of the training data: the variance of counts summed over neighbouring channels = this × "
        "their mean; single channels have less where neighbours share counts"
    )
    counts_low: Finite = Field(description="smallest count in the training data; the scaler's 0")
    counts_high: Finite = Field(description="largest count in the training data; the scaler's 1")
    validation: tuple[HorizonError, ...] = Field(min_length=1)
    versions: dict[str, str] = Field(description="library name to version at training")
    fitted_baselines: StoredBaselines | None = Field(
        None, description="what the training segments determine of the baselines; absent in older files"
    )

    @model_validator(mode="after")
    def _consistent(self) -> ModelMetadata:
        for field in ("alignment_reference", "phase_numerator", "phase_denominator"):
            if getattr(self, field).shape != (self.energy_axis.size,):
                raise ValueError(f"{field} has {getattr(self, field).size} channels, the axis {self.energy_axis.size}")
        if tuple(v.horizon for v in self.validation) != self.horizons:
            raise ValueError("validation errors and horizons differ")
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError("horizons must rise")
        if self.counts_high <= self.counts_low:
            raise ValueError("counts_high must be above counts_low")
        if self.fitted_baselines is not None:
            try:
                self.fitted_baselines.fitted(self.window, self.horizons, self.energy_axis.size)
            except ValueError as error:
                raise ValueError(f"fitted_baselines: {error}") from None
        return self

    @property
    def phase(self) -> PhaseFunctional:
        """The phase functional on the model's axis, in double precision."""
        return PhaseFunctional(self.phase_numerator.astype(np.float64), self.phase_denominator.astype(np.float64))

    @property
    def scale(self) -> PhaseScale:
        """What a phase says of the transformed fraction; in an older file, with a guess at how specimens scatter."""
        return self.phase_scale or UNKNOWN_SCALE

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        """Baselines by name: all of them, or in an older file those that need no fit."""
        if self.fitted_baselines is None:
            return baselines_without_fit(self.window)
        return self.fitted_baselines.fitted(self.window, self.horizons, self.energy_axis.size).by_name()


def to_properties(metadata: ModelMetadata) -> dict[str, str]:
    """Metadata as the string properties of an ONNX file."""
    return {PREFIX + key: json.dumps(value) for key, value in metadata.model_dump(mode="json").items()}


def from_properties(properties: Mapping[str, str], origin: str) -> ModelMetadata:
    """Metadata from the properties of an ONNX file. Raises UnusableInputError that names `origin` and the fields at fault."""
    ours = {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}
    if not ours:
        raise UnusableInputError(
            f"{origin} has no {PREFIX}* metadata, so its axis, window and horizons are unknown: "
            f"{ModelMetadata.REQUIRED_MESSAGE}."
        )
    try:
        values = {key: json.loads(value) for key, value in ours.items()}
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise UnusableInputError(
            f"{origin} has metadata that is not JSON ({error}): {ModelMetadata.REQUIRED_MESSAGE}."
        ) from None
    try:
        return ModelMetadata.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'metadata'}: {e['msg']}" for e in error.errors()[:3])
        raise UnusableInputError(
            f"{origin} has unusable metadata ({faults}): {ModelMetadata.REQUIRED_MESSAGE}."
        ) from None
