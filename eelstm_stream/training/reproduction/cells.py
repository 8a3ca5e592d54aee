"""What is to be trained: one cell is one training, and one number in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eelstm_stream.core.preprocessing import TABLE_I
from eelstm_stream.training.reproduction.paper import CHOSEN_ROW, CHOSEN_SCENARIO, SCENARIOS
from eelstm_stream.training.reproduction.protocols import HONEST, NOTEBOOK, PROTOCOLS

FAMILIES = ("paper", "corrected")


@dataclass(frozen=True, slots=True)
class RowCell:
    """The paper's network behind one preprocessing, under one protocol."""

    row: str  # of Table I
    protocol: str
    window: int
    horizon: int
    seed: int

    @property
    def key(self) -> str:
        """Names it among the results."""
        return f"row|{self.row}|{self.protocol}|{self.window}|{self.horizon}|{self.seed}"

    @property
    def triple(self) -> int:
        """Number of the three runs that it is trained and tested on."""
        return 0

    def __str__(self) -> str:
        return f"{self.row}, {PROTOCOLS[self.protocol].title}, window {self.window}, horizon {self.horizon}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class FamilyCell:
    """A family of models as `eelstm train` makes it, beside every baseline: train on two runs, test on the third."""

    family: str
    triple: int
    seed: int

    @property
    def key(self) -> str:
        """Names it among the results."""
        return f"family|{self.family}|{self.triple}|{self.seed}"

    def __str__(self) -> str:
        return f"{self.family}, as eelstm train makes it, seed {self.seed}"


Cell = RowCell | FamilyCell


def planned(row_seeds: int, family_seeds: int, triples: int) -> list[Cell]:
    """Every cell, seed by seed, so that what is done by any time gives a whole picture.

    triples: how many sets of three runs there are; with more than one, each seed of a family takes the next.
    """
    cells: list[Cell] = []
    for seed in range(max(row_seeds, family_seeds)):
        if seed < row_seeds:
            cells += _rows(seed)
        if seed < family_seeds:
            cells += [FamilyCell(family, seed % triples, seed) for family in FAMILIES]
    return cells


def _rows(seed: int) -> Sequence[RowCell]:
    both = (HONEST, NOTEBOOK)
    table = [RowCell(row, protocol, *CHOSEN_SCENARIO, seed) for row in TABLE_I for protocol in both]
    scenarios = [
        RowCell(CHOSEN_ROW, protocol, *scenario, seed)
        for scenario in SCENARIOS
        if scenario != CHOSEN_SCENARIO
        for protocol in both
    ]
    traps = [RowCell(CHOSEN_ROW, protocol, *CHOSEN_SCENARIO, seed) for protocol in PROTOCOLS if protocol not in both]
    return table + scenarios + traps
