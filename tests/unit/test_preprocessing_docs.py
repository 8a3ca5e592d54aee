"""The example on the reference page runs, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from eelstm_stream.core.preprocessing import LAST, ORDER, TABLE_I

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "preprocessing.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys):
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)  # noqa: S102 - our own page
    assert "Shift(shift_eV=0.3" in capsys.readouterr().out  # 39 frames of 0.01 eV, from the mean of the first eight
    assert names["scaled"].shape == (38, 1900)
    assert names["aligned"].shape == (40, 2048)
    assert np.median(names["counts"]) > 5_000


def test_the_tables_are_those_of_the_code():
    steps = [step.__name__ for place in ORDER for step in place.steps]
    places = [PAGE.index(f"`{name}(") for name in steps]
    assert places == sorted(places)
    assert LAST.name == "scaling"
    for name, row in TABLE_I.items():
        printed = f"{row.paper_rmse}" if row.paper_rmse_sd is None else f"{row.paper_rmse} ± {row.paper_rmse_sd}"
        assert re.search(rf"^\| `{name}` \|.*\| {printed} \|$", PAGE, re.MULTILINE)
