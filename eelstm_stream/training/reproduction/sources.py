"""Where the three runs come from: a folder of the user's, the cache that `eelstm fetch figshare` fills, or the simulator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eelstm_stream.errors import EelstmError, UnusableInputError, UsageError
from eelstm_stream.io.fetching import article_folder
from eelstm_stream.io.figshare import PAPER_ARTICLE, PAPER_FILES, article_of
from eelstm_stream.io.recordings import load_recording
from eelstm_stream.training.material import gather
from eelstm_stream.training.reproduction.paper import CHOSEN_SCENARIO
from eelstm_stream.training.reproduction.protocols import NOTEBOOK, PROTOCOLS, TEST, aimed_at
from eelstm_stream.training.reproduction.train_cell import TrainingSettings

RUNS = 3
KNOWN = frozenset({".dm3", ".dm4", ".hspy", ".zspy", ".emd", ".nxs", ".msa", ".h5", ".hdf5"})


@dataclass(frozen=True, slots=True)
class Source:
    """Sets of three runs, each in the order that they are used in: the third is tested on."""

    triples: tuple[tuple[Path, ...], ...]
    simulated: bool
    made_here: bool  # simulated for this reproduction, a triple a seed
    origin: str  # a sentence
    names: tuple[str, ...]  # of the first three
    sha256s: tuple[str, ...]  # of what those hold, see `recording_sha256`


def found_in(folder: Path) -> tuple[Path, ...]:
    """The three files of a folder: the paper's by their names, and else the three recordings that it holds.

    Raises UsageError, one sentence, where it holds another number of them.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give one that holds three recordings.")
    by_name = tuple(folder / name for name in PAPER_FILES)
    if all(path.is_file() for path in by_name):
        return by_name
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in KNOWN and not path.name.startswith("."))
    if len(found) != RUNS:
        held = f"{len(found)} recordings" if found else "no recording"
        raise UsageError(
            f"{folder} holds {held}, and three are needed, the third to test on: put them into a folder of their own."
        )
    return tuple(found)


def in_cache() -> tuple[Path, ...] | None:
    """The paper's files where `eelstm fetch figshare` puts them; None where they are not all there."""
    try:
        folder = article_folder(article_of(PAPER_ARTICLE))
    except UsageError:  # pooch is not installed, so nothing was fetched
        return None
    paths = tuple(folder / name for name in PAPER_FILES)
    return paths if all(path.is_file() for path in paths) else None


def recorded(folder: Path, triples: int) -> tuple[tuple[Path, ...], ...]:
    """Simulated runs in the shape of the paper's files, in folders of their own; those that are there already are kept.

    The simulator is a program of its own: nothing here knows it but by its command line. Raises EelstmError where it fails.
    """
    made = []
    for number in range(triples):
        place = folder / f"triple-{number}"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "eelstm_stream", "sim", "record", "--paper"),
                *("--seed", str(number), "--resume", "-o", str(place), "--json"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("eelstm: ")
            raise EelstmError(f"three runs could not be simulated: {words}")
        made.append(found_in(place))
    return tuple(made)


def described(
    triples: Sequence[tuple[Path, ...]], origin: str, settings: TrainingSettings, *, made_here: bool = False
) -> Source:
    """The source that these files are.

    Reads the first three, and raises what reading them raises; UsageError and UnusableInputError, one sentence, where they
    can't be trained on together or are too short for every row, which is better said before hours of training.
    """
    runs = [load_recording(path) for path in triples[0]]
    window, horizon = CHOSEN_SCENARIO
    needed = (window + aimed_at(horizon, PROTOCOLS[NOTEBOOK])) * settings.preprocessing.bin_frames
    for run in runs:
        if len(run.counts) < needed:
            raise UnusableInputError(
                f"{run.name} has {len(run.counts)} frames, and a window with its horizon in bins of "
                f"{settings.preprocessing.bin_frames} takes {needed}: give longer runs."
            )
    material = gather(
        [run for number, run in enumerate(runs) if number != TEST], [runs[TEST]], settings.recipes["paper"]
    )
    return Source(
        triples=tuple(triples),
        simulated=any(run.simulated for run in runs),
        made_here=made_here,
        origin=origin,
        names=tuple(run.name for run in runs),
        sha256s=tuple(run.sha256 for run in (*material.runs, *material.test)),
    )
