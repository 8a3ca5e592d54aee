"""What the paper printed. Table I stands in `core.preprocessing.table_i`, row by row.

Source: Lewis et al., Forecasting of in situ electron energy loss spectroscopy, npj Comput. Mater. 8 (2022), figures 3 and 4. Figure 4
calls its errors MSE; the notebook that made it shows that they are root mean squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The paper's words for window and horizon; it gives no errors.
SCENARIOS: Mapping[tuple[int, int], str] = MappingProxyType(
    {(8, 1): "deceptively good", (3, 8): "poor", (8, 8): "chosen"}
)
CHOSEN_ROW = "alignment"  # of Table I: the preprocessing that everything else in the paper is done with
CHOSEN_SCENARIO = (8, 8)

# Name of a moment, its time, s, the share of a run's windows where it is looked for if the run ends before, and the error printed.
FIGURE_4: tuple[tuple[str, float, float, float], ...] = (("early", 15.0, 0.25, 216.7), ("late", 60.0, 0.9, 181.4))
