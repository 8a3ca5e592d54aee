"""The reproduction as one page with its pictures inside, that needs no network and runs nothing."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from eelstm_stream.training.labels import label
from eelstm_stream.training.report.page import Picture
from eelstm_stream.training.report.style import as_svg
from eelstm_stream.training.reproduction import figures
from eelstm_stream.training.reproduction.notes import NOTES, origin, scope, trap_sentence
from eelstm_stream.training.reproduction.summary import Summary

TEMPLATE = "reproduction.html.j2"


def render(summary: Summary) -> str:
    """The page as HTML. What comes from files (names) is escaped by the template."""
    environment = Environment(
        loader=PackageLoader("eelstm_stream.training.reproduction", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {
        "table_i": Picture(
            "Table I",
            "Error bars: standard deviation over trainings. The paper gives none for raw counts.",
            as_svg(figures.draw_table_i(summary)),
        ),
        "scenarios": Picture(
            "Scenarios and traps",
            "Left: the paper's three scenarios. Right: each trap alone, and all at once; dotted: the honest error.",
            as_svg(figures.draw_scenarios_and_traps(summary)),
        ),
        "moments": Picture(
            "Figure 4",
            "Forecasts of the third run, eight steps ahead: the honest network has never seen it, the notebook's was trained on most "
            "of its windows. Errors are over the spectra within a second.",
            as_svg(figures.draw_moments(summary)),
        ),
        "worth": Picture(
            "Families and baselines",
            "A dot a seed, a bar for their mean. Raw linear extrapolation lies far to the right and is left out.",
            as_svg(figures.draw_worth(summary)),
        ),
    }
    return environment.get_template(TEMPLATE).render(
        s=summary,
        pictures=pictures,
        origin=origin(summary),
        scope=scope(summary),
        trap_sentence=trap_sentence(summary),
        notes=NOTES,
        label=label,
    )
