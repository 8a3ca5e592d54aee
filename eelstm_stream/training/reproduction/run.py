"""A reproduction from its arguments to its summary: find the runs, train what is not there yet, put it together."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eelstm_stream.io.figshare import PAPER_ARTICLE, article_of
from eelstm_stream.training.reproduction.cells import planned
from eelstm_stream.training.reproduction.progress import ReproductionProgress
from eelstm_stream.training.reproduction.sources import Source, described, found_in, in_cache, recorded
from eelstm_stream.training.reproduction.store import SIMULATED, lock_folder, open_store
from eelstm_stream.training.reproduction.summary import Summary, summarised
from eelstm_stream.training.reproduction.train_cell import TrainingSettings
from eelstm_stream.training.reproduction.workers import train_cells
from eelstm_stream.training.tensorflow_quietly import keras_and_tensorflow

ROW_SEEDS, FAMILY_SEEDS = 3, 5
QUICK_EPOCHS = 20
FORMAT = 1
LIBRARIES = ("tensorflow", "keras", "numpy")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    folder: Path | None = None  # that holds three recordings; None: the cache, or else simulated ones
    output: Path = Path("reproduction")
    seeds: int | None = None  # of every row and family; None: ROW_SEEDS and FAMILY_SEEDS
    quick: bool = False
    workers: int | None = None  # None: one a core
    force: bool = False


def reproduce_paper(options: Options, settings: TrainingSettings) -> Summary:
    """Train every cell that has no result in the output folder, and put all of them together.

    Raises UsageError and UnusableInputError before any training; a KeyboardInterrupt or a kill keeps what is done.
    """
    if options.folder is not None:
        found_in(options.folder)  # whether it is usable, before a folder for results is made
    keras_and_tensorflow()  # whether it is there is better said before hours of training
    row_seeds = options.seeds or (1 if options.quick else ROW_SEEDS)
    family_seeds = options.seeds or (1 if options.quick else FAMILY_SEEDS)
    lock = lock_folder(options.output)
    with ReproductionProgress() as progress:
        try:
            progress.stage("reading")
            source = _source(options, settings, family_seeds, progress)
            store = open_store(options.output, lock, _configuration(source, settings), anew=options.force)
        except BaseException:
            os.close(lock)
            raise
        with store:
            cells = planned(row_seeds, family_seeds, len(source.triples))
            missing = [cell for cell in cells if cell.key not in store.results]
            workers = max(1, min(options.workers or len(os.sched_getaffinity(0)), len(missing)))
            progress.train(len(cells) - len(missing), len(cells), workers)
            for cell, result in train_cells(missing, source.triples, settings, workers=workers, epoch=progress.epoch):
                store.add(result)
                progress.cell(cell, result)
            return summarised(cells, store.results, source, settings, quick=options.quick)


def _source(options: Options, settings: TrainingSettings, triples: int, progress: ReproductionProgress) -> Source:
    if options.folder is not None:
        return described([found_in(options.folder)], f"The three recordings in {options.folder.name}.", settings)
    fetched = in_cache()
    if fetched is not None:
        return described([fetched], f"The paper's recordings, {article_of(PAPER_ARTICLE).doi}.", settings)
    progress.stage("simulating runs in the shapes of the paper's files, which are not here")
    return described(
        recorded(options.output / SIMULATED, triples),
        "Simulated runs in the shapes of the paper's files, which are not here: get them with `eelstm fetch figshare`.",
        settings,
        made_here=True,
    )


def _configuration(source: Source, settings: TrainingSettings) -> Mapping[str, Any]:
    """What decides every cell's result, as JSON has it."""
    recipes = {
        name: dataclasses.asdict(recipe) | {"energy_axis": str(recipe.energy_axis)}
        for name, recipe in settings.recipes.items()
    }
    return {
        "format": FORMAT,
        "runs": {name: sha256[:16] for name, sha256 in zip(source.names, source.sha256s, strict=True)},
        "triples": "one a seed" if source.made_here else "one",
        "epochs": settings.epochs,
        "patience": settings.patience,
        "recipes": recipes,
        "preprocessing": dataclasses.asdict(settings.preprocessing),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
