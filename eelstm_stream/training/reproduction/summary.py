"""Results put together: what the tables, the figures and the JSON of a reproduction all say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from eelstm_stream.core.preprocessing import TABLE_I
from eelstm_stream.training.labels import label
from eelstm_stream.training.reproduction.cells import FAMILIES, Cell, FamilyCell, RowCell
from eelstm_stream.training.reproduction.paper import CHOSEN_ROW, CHOSEN_SCENARIO, FIGURE_4, SCENARIOS
from eelstm_stream.training.reproduction.protocols import HONEST, NOTEBOOK, PROTOCOLS
from eelstm_stream.training.reproduction.sources import Source
from eelstm_stream.training.reproduction.train_cell import Moment, Result, TrainingSettings


class Spread(BaseModel):
    """A number over several trainings."""

    mean: float
    sd: float | None  # of the trainings; None of one
    trainings: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.sd is None else f" ± {self.sd:.1f}")


class Measured(BaseModel):
    """An error with what it must be seen beside."""

    rmse: Spread  # counts
    noise_floor: float  # counts
    best_baseline: str
    best_baseline_rmse: float  # counts, on the same windows
    windows: int  # trained on


class TableIRow(BaseModel):
    """A row of Table I."""

    row: str
    counts_are: str
    paper_rmse: float
    paper_rmse_sd: float | None
    honest: Measured
    notebook: Measured


class ScenarioRow(BaseModel):
    """A scenario of Figure 3."""

    window: int
    horizon: int
    paper: str
    honest: Measured
    notebook: Measured


class MomentRow(BaseModel):
    """A forecast of Figure 4."""

    when: str
    time_s: float
    paper_rmse: float
    honest: Spread
    notebook: Spread


class TrapRow(BaseModel):
    """One trap stepped into, or none, or all."""

    trap: str
    meaning: str
    measured: Measured
    change_percent: float  # of the error, against the honest way's


class Forecaster(BaseModel):
    """One line of the comparison of families with the baselines."""

    name: str
    kind: Literal["family", "baseline"]
    rmse: Spread  # counts
    over_noise_floor: float  # mean over seeds of each seed's ratio
    rmse_clean: Spread | None  # counts, against the noise-free truth
    rmse_by_seed: list[float]
    rmse_clean_by_seed: list[float] | None


class FamilyTable(BaseModel):
    """A family among all baselines, on the same targets: those that its own alignment makes."""

    family: str
    noise_floor: float
    alignment_range_eV: tuple[float, float]
    forecasters: list[Forecaster]  # the least error first
    verdict: list[str]


class Worth(BaseModel):
    """Whether the LSTM is worth it."""

    seeds: int
    families: list[FamilyTable]


class Summary(BaseModel):
    """Everything that a reproduction found."""

    simulated: bool
    origin: str
    runs: list[str]  # of the first triple; the last is tested on
    triples: int
    quick: bool
    trainings: int
    training_minutes: float  # of all cells, one after the other
    table_i: list[TableIRow]
    scenarios: list[ScenarioRow]
    figure_4: list[MomentRow]
    traps: list[TrapRow]
    worth: Worth
    shown: dict[str, dict[str, Moment]]  # protocol: moment, with the spectra that the figure draws


def summarised(
    cells: Sequence[Cell], results: Mapping[str, Result], source: Source, settings: TrainingSettings, *, quick: bool
) -> Summary:
    """Put the results of all cells together."""
    rows = [cell for cell in cells if isinstance(cell, RowCell)]

    def of(row: str, protocol: str, scenario: tuple[int, int] = CHOSEN_SCENARIO) -> list[Result]:
        return [
            results[cell.key]
            for cell in rows
            if (cell.row, cell.protocol, (cell.window, cell.horizon)) == (row, protocol, scenario)
        ]

    return Summary(
        simulated=source.simulated,
        origin=source.origin,
        runs=list(source.names),
        triples=len(source.triples),
        quick=quick,
        trainings=len(cells),
        training_minutes=round(sum(results[cell.key].seconds for cell in cells) / 60, 1),
        table_i=[
            TableIRow(
                row=name,
                counts_are=row.counts_are,
                paper_rmse=row.paper_rmse,
                paper_rmse_sd=row.paper_rmse_sd,
                honest=measured(of(name, HONEST)),
                notebook=measured(of(name, NOTEBOOK)),
            )
            for name, row in TABLE_I.items()
        ],
        scenarios=[
            ScenarioRow(
                window=scenario[0],
                horizon=scenario[1],
                paper=said,
                honest=measured(of(CHOSEN_ROW, HONEST, scenario)),
                notebook=measured(of(CHOSEN_ROW, NOTEBOOK, scenario)),
            )
            for scenario, said in SCENARIOS.items()
        ],
        figure_4=[_moment_row(name, paper, of) for name, _, _, paper in FIGURE_4],
        traps=_traps(of),
        worth=_worth([cell for cell in cells if isinstance(cell, FamilyCell)], results, settings),
        shown={protocol: of(CHOSEN_ROW, protocol)[0].moments for protocol in (HONEST, NOTEBOOK)},
    )


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation."""
    return Spread(
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        trainings=len(values),
    )


def measured(results: Sequence[Result]) -> Measured:
    """One error over the seeds; the best baseline is that of the least mean."""
    baselines = {name: statistics.fmean(result.baselines[name] for result in results) for name in results[0].baselines}
    best = min(baselines, key=lambda name: baselines[name])
    return Measured(
        rmse=spread([result.rmse for result in results]),
        noise_floor=statistics.fmean(result.noise_floor for result in results),
        best_baseline=best,
        best_baseline_rmse=baselines[best],
        windows=results[0].windows[0],
    )


def _moment_row(name: str, paper_rmse: float, of: Callable[[str, str], list[Result]]) -> MomentRow:
    found = {protocol: [result.moments[name] for result in of(CHOSEN_ROW, protocol)] for protocol in (HONEST, NOTEBOOK)}
    return MomentRow(
        when=name,
        time_s=found[HONEST][0].time_s,
        paper_rmse=paper_rmse,
        honest=spread([moment.rmse for moment in found[HONEST]]),
        notebook=spread([moment.rmse for moment in found[NOTEBOOK]]),
    )


def _traps(of: Callable[[str, str], list[Result]]) -> list[TrapRow]:
    honest = measured(of(CHOSEN_ROW, HONEST)).rmse.mean
    alone = [name for name in PROTOCOLS if name not in (HONEST, NOTEBOOK)]
    rows = []
    for name in (HONEST, *alone, NOTEBOOK):
        found = measured(of(CHOSEN_ROW, name))
        rows.append(
            TrapRow(
                trap=PROTOCOLS[name].title,
                meaning=PROTOCOLS[name].meaning,
                measured=found,
                change_percent=100 * (found.rmse.mean / honest - 1),
            )
        )
    return rows


def _worth(cells: Sequence[FamilyCell], results: Mapping[str, Result], settings: TrainingSettings) -> Worth:
    found = {family: [results[cell.key] for cell in cells if cell.family == family] for family in FAMILIES}
    return Worth(
        seeds=len(found[FAMILIES[0]]),
        families=[
            _family_table(family, of_family, settings.recipes[family].alignment_range_eV)
            for family, of_family in found.items()
        ],
    )


def _family_table(family: str, results: Sequence[Result], alignment_range_eV: tuple[float, float]) -> FamilyTable:
    floors = [result.noise_floor for result in results]
    clean_known = all(result.rmse_clean is not None for result in results)

    def line(name: str, kind: Literal["family", "baseline"], rmse: list[float], clean: list[float]) -> Forecaster:
        return Forecaster(
            name=name,
            kind=kind,
            rmse=spread(rmse),
            over_noise_floor=statistics.fmean(e / floor for e, floor in zip(rmse, floors, strict=True)),
            rmse_clean=spread(clean) if clean_known else None,
            rmse_by_seed=rmse,
            rmse_clean_by_seed=clean if clean_known else None,
        )

    own = line(family, "family", [r.rmse for r in results], [r.rmse_clean or 0.0 for r in results])
    baselines = [
        line(
            name, "baseline", [r.baselines[name] for r in results], [r.baselines_clean.get(name, 0.0) for r in results]
        )
        for name in results[0].baselines
    ]
    return FamilyTable(
        family=family,
        noise_floor=statistics.fmean(floors),
        alignment_range_eV=alignment_range_eV,
        forecasters=sorted([own, *baselines], key=lambda forecaster: forecaster.rmse.mean),
        verdict=_verdict(own, baselines),
    )


def _verdict(own: Forecaster, baselines: Sequence[Forecaster]) -> list[str]:
    """Plain words: against the spectra that came, and against the truth where it is known."""
    best = min(baselines, key=lambda line: line.rmse.mean)
    said = [
        _compared(own.name, "", own.rmse_by_seed, best.rmse_by_seed, best.name)
        + f" Over the noise floor that is {own.over_noise_floor:.3f} against {best.over_noise_floor:.3f}."
    ]
    if own.rmse_clean_by_seed is not None:
        clean = {line.name: line.rmse_clean_by_seed or [] for line in baselines}
        name = min(clean, key=lambda name: statistics.fmean(clean[name]))
        said.append(_compared(own.name, " against the noise-free truth", own.rmse_clean_by_seed, clean[name], name))
    return said


def _compared(family: str, against: str, own: Sequence[float], theirs: Sequence[float], baseline: str) -> str:
    ours, best = statistics.fmean(own), statistics.fmean(theirs)
    wins = sum(a < b for a, b in zip(own, theirs, strict=True))
    verb = "beats" if ours < best else "does not beat"
    seeds = "on the one seed there is" if len(own) == 1 else f"ahead in {wins} of {len(own)} seeds"
    return (
        f"{family} {verb} the best baseline{against}, {label(baseline)}: {ours:.1f} counts against {best:.1f}, {seeds}."
    )
