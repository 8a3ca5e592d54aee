"""`linear`: principal components, and a ridge regression at each horizon, as a graph. Nothing in it is learnt step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.core.baselines import RidgeInComponents
from eelstm_stream.core.model_contract import WINDOW_INPUT, TrainingEpoch
from eelstm_stream.training.checkpoint import Checkpoints
from eelstm_stream.training.dataset import windows_and_targets
from eelstm_stream.training.families.in_components import RidgeGraph, fit_components
from eelstm_stream.training.fit import EpochReport, Fit
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe


def fit_linear(
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int,
    patience: int,
    report: EpochReport,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Solve for the ridge, which takes no epochs: one is reported. See `fit.Family`."""
    _, ridge = fit_components(material, recipe)
    solved = TrainingEpoch(
        epoch=1,
        training_rmse=_rmse(ridge, material.training_parts, recipe),
        validation_rmse=_rmse(ridge, material.validation_parts, recipe),
    )
    report(1, solved.training_rmse, solved.validation_rmse)
    graph = RidgeGraph(ridge, recipe.horizons)

    def forecast(window: Any, history: Any) -> Any:
        return graph.spectra(graph.ahead(graph.scores(window)))

    return Fit(
        forecast=forecast,
        inputs=(WINDOW_INPUT,),
        recurrent={},
        network=None,
        curve=(solved,),
        best_epoch=1,
        sentence=(
            f"none: ridge regression on the {recipe.components} principal components of each of {recipe.window} spectra, "
            f"to those of the spectrum at each horizon; its penalty is the noise of the components"
        ),
    )


def _rmse(ridge: RidgeInComponents, parts: Sequence[NDArray[np.float32]], recipe: Recipe) -> float:
    """Root mean square error over all windows of segments and all horizons, counts."""
    squares: list[NDArray[np.float64]] = []
    for part in parts:
        windows, targets = windows_and_targets(part, recipe)
        for row, horizon in enumerate(recipe.horizons):
            difference = ridge(windows, windows[:, -1], horizon) - targets[:, row]
            squares.append(np.mean(np.square(difference, dtype=np.float64), axis=1))
    return float(np.sqrt(np.mean(np.concatenate(squares))))
