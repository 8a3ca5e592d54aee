"""Forecasts that need no network: what a model must beat to be worth having.

Against noisy targets persistence is a low bar, since the mean of a window already halves its own noise. The bar is set by
forecasts in a few principal components, which have training data to learn from as a network has, and highest by those that
also carry on what the run has of its own.
"""

from eelstm_stream.core.baselines.carried import Carried
from eelstm_stream.core.baselines.components import COMPONENTS, LinearTrendInComponents, fit_linear_trend
from eelstm_stream.core.baselines.dmd import DynamicModes, fit_dynamic_modes
from eelstm_stream.core.baselines.fitted import FittedBaselines, fit_baselines
from eelstm_stream.core.baselines.holt import Holt, fit_holt, holt_weights
from eelstm_stream.core.baselines.protocol import Baseline, Counts
from eelstm_stream.core.baselines.ridge import RidgeInComponents, fit_ridge
from eelstm_stream.core.baselines.without_fit import (
    baselines_without_fit,
    linear_extrapolation,
    persistence,
    trend_weights,
    window_mean,
)

__all__ = [
    "COMPONENTS",
    "Baseline",
    "Carried",
    "Counts",
    "DynamicModes",
    "FittedBaselines",
    "Holt",
    "LinearTrendInComponents",
    "RidgeInComponents",
    "baselines_without_fit",
    "fit_baselines",
    "fit_dynamic_modes",
    "fit_holt",
    "fit_linear_trend",
    "fit_ridge",
    "holt_weights",
    "linear_extrapolation",
    "persistence",
    "trend_weights",
    "window_mean",
]
