"""The phase of a session is calibrated to its own start, and to nothing where the start was not seen."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from eelstm_stream.core.phase_scale import straight_scale
from eelstm_stream.core.session_phase import START_STEPS, SessionPhase
from eelstm_stream.wire.messages import Spectrum
from tests.model_files import metadata

NOISE = 0.5  # variance over mean of a reference dose in these counts


@pytest.fixture
def model():
    return metadata(phase_scale=straight_scale(0.1, 0.1))


def spectrum(model, seq: int, dose_before_pC: float | None) -> Spectrum:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Spectrum(
        session="s", seq=seq, sent_mono_ns=0, dtype="<f4", shape=(model.energy_axis.size,),
        dwell_s=model.reference_dwell_s, dose_before_pC=dose_before_pC, acquired_at=now, acquired_until=now,
    )  # fmt: skip


def mixture(model, phase: float) -> np.ndarray:
    """Counts that the model's functional reads as this phase."""
    functional = model.phase
    slope = functional.numerator - phase * functional.denominator
    counts = np.full(model.energy_axis.size, 1e6)
    return (counts - slope * (counts @ slope) / (slope @ slope)).astype(np.float32)


def test_a_specimen_that_reads_above_zero_when_pristine_is_at_zero_all_the_same(model):
    session = SessionPhase.new(model)
    session = session.with_spectrum(model, spectrum(model, 0, 0.0), mixture(model, 0.08), START_STEPS, NOISE)
    assert model.phase(mixture(model, 0.08)) == pytest.approx(0.08, abs=1e-3)
    fraction, _ = session.fraction(0.08, 0.01)
    assert fraction.value == pytest.approx(0.0, abs=0.01)
    assert fraction.low < fraction.value < fraction.high


def test_of_a_start_that_was_not_seen_nothing_is_taken(model):
    late = SessionPhase.new(model).with_spectrum(
        model, spectrum(model, 40, 40 * model.reference_dose_pC), mixture(model, 0.3), 1.0, NOISE
    )
    assert late.fraction(0.3, 0.01)[0].value == pytest.approx(0.3)
    seen = SessionPhase.new(model).with_spectrum(model, spectrum(model, 0, 0.0), mixture(model, 0.0), 1.0, NOISE)
    assert late.fraction(0.3, 0.01)[1] > seen.fraction(0.3, 0.01)[1]  # its own offset is not known


def test_what_comes_after_the_start_changes_the_scale_no_more(model):
    session = SessionPhase.new(model).with_spectrum(model, spectrum(model, 0, 0.0), mixture(model, 0.05), 1.0, NOISE)
    after_pC = (START_STEPS + 1) * model.reference_dose_pC
    later = session.with_spectrum(model, spectrum(model, 9, after_pC), mixture(model, 0.4), START_STEPS + 2, NOISE)
    assert later == session


def test_a_model_without_a_scale_gives_no_fraction():
    assert SessionPhase.new(metadata()) is None
