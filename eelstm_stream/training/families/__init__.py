"""The kinds of model that can be trained, each in one file behind one interface, `fit.Family`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from eelstm_stream.training.checkpoint import Checkpoints
from eelstm_stream.training.families.corrected import fit_corrected
from eelstm_stream.training.families.linear import fit_linear
from eelstm_stream.training.families.recurrent import fit_recurrent
from eelstm_stream.training.fit import EpochReport, Family, Fit
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {"paper": fit_recurrent, "gru": fit_recurrent, "linear": fit_linear, "corrected": fit_corrected}
)


def fit(
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Train the recipe's family on prepared runs. Touches no file but the checkpoints. See `fit.Family`."""
    return FAMILIES[recipe.family](
        material, recipe, seed=seed, epochs=epochs, patience=patience, report=report, checkpoints=checkpoints
    )
