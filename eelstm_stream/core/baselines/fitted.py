"""All baselines of one model, fitted to the segments that the model was trained on and to nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from eelstm_stream.core.baselines.carried import Carried
from eelstm_stream.core.baselines.components import LinearTrendInComponents, fit_linear_trend
from eelstm_stream.core.baselines.dmd import DynamicModes, fit_dynamic_modes
from eelstm_stream.core.baselines.holt import Holt, fit_holt
from eelstm_stream.core.baselines.protocol import Baseline, Counts
from eelstm_stream.core.baselines.ridge import RidgeInComponents, fit_ridge
from eelstm_stream.core.baselines.without_fit import baselines_without_fit


@dataclass(frozen=True, slots=True, eq=False)
class FittedBaselines:
    """What the training segments determine of the baselines, for windows of one length and horizons from 1 to the longest."""

    window: int
    trend: LinearTrendInComponents
    ridge: RidgeInComponents
    holt: Holt
    modes: DynamicModes

    def by_name(self) -> Mapping[str, Baseline]:
        """Every baseline by the name that reports give it."""
        named = dict(baselines_without_fit(self.window))
        named["holt"] = self.holt
        in_components: dict[str, Baseline] = {"pca_ridge": self.ridge}
        if self.window > 1:
            in_components = {"pca_linear_trend": self.trend} | in_components
        named |= in_components
        named |= {f"{name}_carried": Carried(baseline, self.trend) for name, baseline in in_components.items()}
        named["dmd"] = self.modes
        return MappingProxyType(named)


def fit_baselines(runs: Sequence[Counts], window: int, horizons: Sequence[int]) -> FittedBaselines:
    """Fit every baseline to training segments, each `(frame, channel)` aligned counts at the reference dose, consecutive frames.

    Holt's constants are fitted at `horizons`; the ridge is fitted to every horizon up to the longest, so that errors can be
    drawn against the horizon for a model that has but one. Raises ValueError where no segment has a window and its horizon.
    """
    trend = fit_linear_trend(np.concatenate(runs))
    return FittedBaselines(
        window=window,
        trend=trend,
        ridge=fit_ridge(trend, runs, window, range(1, max(horizons) + 1)),
        holt=fit_holt(runs, window, horizons),
        modes=fit_dynamic_modes(trend, runs, window),
    )
