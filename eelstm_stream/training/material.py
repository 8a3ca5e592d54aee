"""Recordings made ready for training: prepared and split, with everything decided that does not depend on a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eelstm_stream.errors import UsageError
from eelstm_stream.io.recordings import Recording, counts_sha256
from eelstm_stream.training.conditions import Conditions, common_conditions
from eelstm_stream.training.dataset import (
    Fitted,
    PreparedRun,
    Segment,
    alignment_reference,
    fit_to,
    prepare,
    split_by_run,
)
from eelstm_stream.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is decided before a network exists."""

    conditions: Conditions
    reference: NDArray[np.float32]  # (channel,) alignment reference
    runs: list[PreparedRun]  # training and validation
    test: list[PreparedRun]
    training: list[Segment]
    validation: list[Segment]
    fitted: Fitted
    simulated: bool

    @property
    def training_parts(self) -> list[NDArray[np.float32]]:
        """Counts `(frame, channel)` of each training segment."""
        return [self.counts(segment) for segment in self.training]

    @property
    def validation_parts(self) -> list[NDArray[np.float32]]:
        """Counts `(frame, channel)` of each validation segment."""
        return [self.counts(segment) for segment in self.validation]

    def counts(self, segment: Segment) -> NDArray[np.float32]:
        """Counts `(frame, channel)` of a segment."""
        return self.runs[segment.run].counts[segment.first : segment.last]


def gather(runs: Sequence[Recording], test: Sequence[Recording], recipe: Recipe, *, resample: bool = False) -> Material:
    """Prepare and split. Test runs are prepared with what the training segments determine, and determine nothing.

    resample: whether runs of other energy axes than the first's, or than the model's, may be brought to it. Raises
    UnusableInputError, one sentence, for runs that can't be trained on or do not go together; UsageError where a recording is
    given twice, to test on what is trained on among others.
    """
    _refuse_repeated(runs, test)
    conditions = common_conditions([*runs, *test], recipe, resample=resample)
    training, validation = split_by_run([len(r.counts) for r in runs], recipe, [r.name for r in runs])
    trained_on = sorted({s.run for s in training})
    reference = alignment_reference([runs[i] for i in trained_on], conditions, recipe)
    prepared = [prepare(run, conditions, reference, recipe) for run in runs]
    tested = [prepare(run, conditions, reference, recipe) for run in test]
    return Material(
        conditions=conditions,
        reference=reference,
        runs=prepared,
        test=tested,
        training=training,
        validation=validation,
        fitted=fit_to(prepared, training),
        simulated=any(r.simulated for r in runs),
    )


def _refuse_repeated(runs: Sequence[Recording], test: Sequence[Recording]) -> None:
    seen: dict[str, str] = {}
    for given, remedy in ((runs, "give it once"), (test, "test on another run")):
        for run in given:
            content = counts_sha256(run)
            if content in seen:
                raise UsageError(f"the run {run.name} is the same recording as {seen[content]}: {remedy}.")
            seen[content] = run.name
