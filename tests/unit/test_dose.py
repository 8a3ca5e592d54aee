"""Counts taken at any dwell and current are brought to the reference dose."""

from __future__ import annotations

import pytest
from hypothesis import given

from eelstm_stream.core.dose import ELECTRONS_PER_PC, fluence_e_per_A2, frame_dose_pC, normalisation
from tests.properties import examples
from tests.wire.strategies import picoamperes, seconds

ELEMENTARY_CHARGE_C = 1.602176634e-19  # exact, SI


def test_the_papers_frame_is_92_pC():
    assert frame_dose_pC(beam_current_pA=230, dwell_s=0.4) == pytest.approx(92)


def test_a_picocoulomb_is_six_million_electrons():
    assert pytest.approx(1e-12 / ELEMENTARY_CHARGE_C, rel=1e-5) == ELECTRONS_PER_PC
    assert fluence_e_per_A2(dose_pC=92, probe_area_A2=2) == pytest.approx(92 * 6.2415e6 / 2)


@pytest.mark.parametrize(
    ("dwell_s", "current_pA", "factor"),
    [
        (0.4, 230, 1),
        (0.1, 230, 4),
        (0.8, 230, 0.5),
        (0.4, 115, 2),
        (0.8, 115, 1),
        (0.1, None, 4),  # current unknown: taken as the reference's
        (0.4, None, 1),
    ],
)
def test_a_frame_of_less_dose_counts_for_more(dwell_s, current_pA, factor):
    assert normalisation(dwell_s, current_pA, reference_dwell_s=0.4, reference_dose_pC=92) == pytest.approx(factor)


@examples(100)
@given(seconds, picoamperes)
def test_normalised_counts_do_not_depend_on_how_the_dose_was_delivered(dwell_s, current_pA):
    counts_per_pC = 130.0
    counts = counts_per_pC * frame_dose_pC(current_pA, dwell_s)
    assert counts * normalisation(dwell_s, current_pA, 0.4, 92) == pytest.approx(counts_per_pC * 92)
