"""What comes of training a family of models: one type for all of them, which the export and the card are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from eelstm_stream.core.model_contract import TrainingEpoch
from eelstm_stream.training.material import Material
from eelstm_stream.training.recipe import Recipe

if TYPE_CHECKING:
    from eelstm_stream.training.checkpoint import Checkpoints

EpochReport = Callable[[int, float, float], None]  # epoch from 1, training and validation rmse in counts; may raise


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A model that can forecast, still in TensorFlow."""

    # (window (batch, window, channel), history (batch, channel)) → (batch, horizon, channel), counts as tensors. It is
    # traced for the export, so what it brings along must be numpy: a tensor would become an input of the graph.
    forecast: Callable[[Any, Any], Any]
    inputs: tuple[str, ...]  # of the graph, in the order of the contract
    recurrent: Mapping[str, int]  # recurrent nodes that the exported graph must have, as {"LSTM": 3}
    network: Any  # Keras; None where nothing was learnt step by step
    curve: tuple[TrainingEpoch, ...]
    best_epoch: int  # whose weights these are
    sentence: str  # for the card: what was trained

    @property
    def epochs(self) -> int:
        """Epochs trained, those after the best one included."""
        return len(self.curve)

    @property
    def validation_rmse(self) -> float:
        """Validation error of these weights, counts."""
        return self.curve[self.best_epoch - 1].validation_rmse


class Family(Protocol):
    """A kind of model: how it is made from prepared runs. See `families.FAMILIES`."""

    def __call__(
        self,
        material: Material,
        recipe: Recipe,
        *,
        seed: int,
        epochs: int,
        patience: int,
        report: EpochReport,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        """Train until the validation error has not fallen for `patience` epochs, `epochs` at most; the fit is the best one.

        The same seed, libraries and machine give the same weights, whether or not the training was broken off on the way
        and resumed from its checkpoints. Raises EelstmError where the error is not finite from the first epoch on.
        """
