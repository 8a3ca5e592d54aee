"""Names of forecasters as reports print them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "persistence": "persistence",
        "window_mean": "mean of the window",
        "linear_extrapolation": "linear extrapolation",
        "holt": "Holt",
        "pca_linear_trend": "PCA + linear trend",
        "pca_ridge": "PCA + ridge",
        "pca_linear_trend_carried": "PCA + linear trend + carried residual",
        "pca_ridge_carried": "PCA + ridge + carried residual",
        "dmd": "dynamic mode decomposition",
    }
)


def label(name: str) -> str:
    """What reports call a baseline; a name that they don't know stands for itself."""
    return LABELS.get(name, name)
