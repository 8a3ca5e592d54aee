"""The specimen changes with dose as its kinetics say, and its spectrum changes as SrTiO3's does."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from acquisition_sim import specimen
from acquisition_sim.presets import load_preset
from acquisition_sim.specimen import Kinetics, SpecimenState, clean_counts, jmak_phase, phase, step
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.wire.messages import EnergyAxis

PRESET = load_preset("srtio3-300kV")
AXIS, SHAPE = PRESET.energy_axis, PRESET.specimen.spectrum
E = energies_eV(AXIS)
DOSE_pC = SHAPE.reference_dose_pC


def kinetics(**changed: float) -> Kinetics:
    usual = {
        "critical_dose_pC": 1000.0,
        "jmak_exponent": 2.0,
        "reference_current_pA": 100.0,
        "mass_loss_dose_pC": 10_000.0,
    }
    return Kinetics(**(usual | changed))


def near(energy_eV: float, width_eV: float = 0.4) -> np.ndarray:
    return np.abs(E - energy_eV) <= width_eV / 2


@pytest.mark.parametrize(
    "law",
    [kinetics(), kinetics(dose_rate_exponent=0.5), kinetics(recovery_time_s=7.0, dose_rate_exponent=-0.3)],
    ids=["dose", "dose rate", "recovery"],
)
@pytest.mark.parametrize("dose_pC", [0.0, 300.0])
def test_two_halves_do_what_the_whole_does(law, dose_pC):
    before = SpecimenState(dose_pC=800.0, effective_dose_pC=500.0)
    whole = step(before, law, dose_pC, 4.0)
    halves = step(step(before, law, dose_pC / 2, 2.0), law, dose_pC / 2, 2.0)
    assert astuple(halves) == pytest.approx(astuple(whole), rel=1e-12)


def test_jmak():
    assert jmak_phase(0.0, 10.0, 2.0) == 0
    assert jmak_phase(10.0, 10.0, 2.0) == pytest.approx(1 - math.exp(-1))
    assert jmak_phase(20.0, 10.0, 2.0) == pytest.approx(1 - math.exp(-4))
    assert jmak_phase(1e9, 10.0, 2.0) == 1


def test_to_a_stable_specimen_nothing_happens():
    law = kinetics(critical_dose_pC=math.inf, mass_loss_dose_pC=math.inf)
    state = step(SpecimenState(), law, 1e9, 100.0)
    assert phase(state, law) == 0
    assert specimen.remaining_thickness(state, law) == 1


def test_at_the_reference_current_the_dose_rate_makes_no_difference_and_above_it_hastens_the_change():
    slow, law = kinetics(), kinetics(dose_rate_exponent=0.5)
    for current_pA, faster in ((100.0, 1.0), (400.0, 2.0), (25.0, 0.5)):
        plain = step(SpecimenState(), slow, 200.0, 200.0 / current_pA).effective_dose_pC
        assert step(SpecimenState(), law, 200.0, 200.0 / current_pA).effective_dose_pC == pytest.approx(faster * plain)


def test_a_specimen_recovers_while_the_beam_is_off_but_its_mass_stays_lost():
    law = kinetics(recovery_time_s=10.0)
    damaged = step(SpecimenState(), law, 1500.0, 1.0)
    rested = step(damaged, law, 0.0, 10.0)
    assert rested.effective_dose_pC == pytest.approx(damaged.effective_dose_pC / math.e)
    assert phase(rested, law) < 0.5 * phase(damaged, law)
    assert specimen.remaining_thickness(rested, law) == specimen.remaining_thickness(damaged, law) < 1
    assert step(damaged, kinetics(), 0.0, 1e6) == damaged  # without recovery, time alone does nothing


def test_under_a_weak_beam_a_recovering_specimen_comes_to_rest_short_of_the_end():
    law = kinetics(recovery_time_s=10.0)
    weak, long = SpecimenState(), SpecimenState()
    for _ in range(100):
        weak = step(weak, law, 50.0, 1.0)
        long = step(long, kinetics(), 50.0, 1.0)
    assert phase(weak, law) == pytest.approx(jmak_phase(50 * 10.0, 1000.0, 2.0), rel=1e-3)
    assert phase(long, kinetics()) > 0.99


def test_pristine_counts_are_the_papers():
    counts = clean_counts(AXIS, SHAPE, DOSE_pC, 0.0)
    assert counts.shape == (2048,)
    assert counts[near(435)].mean() == pytest.approx(12_000, rel=0.02)
    assert counts[near(625)].mean() == pytest.approx(7_000, rel=0.02)
    assert counts[near(465, 12)].max() - counts[near(453)].mean() == pytest.approx(5_000, rel=0.05)


def test_counts_follow_the_dose_and_the_width_of_a_channel():
    counts = clean_counts(AXIS, SHAPE, DOSE_pC, 0.3)
    np.testing.assert_allclose(clean_counts(AXIS, SHAPE, 3 * DOSE_pC, 0.3), 3 * counts)
    wide = EnergyAxis(offset_eV=424.0, dispersion_eV=0.2, size=1024)
    np.testing.assert_allclose(clean_counts(wide, SHAPE, DOSE_pC, 0.3), 2 * counts[::2], rtol=1e-4)


def test_the_crystal_field_pairs_of_titanium_close_up_and_shift_down():
    def pair(at_phase: float) -> tuple[float, float]:
        """Depth of the saddle below the weaker peak of L3, and centre of mass of L3."""
        counts = clean_counts(AXIS, SHAPE, DOSE_pC, at_phase)
        window = (E > 456.5) & (E < 461.2)
        inside = counts[window]
        peaks = 1 + np.flatnonzero((inside[1:-1] > inside[:-2]) & (inside[1:-1] >= inside[2:]))
        saddle = inside[peaks[0] : peaks[-1] + 1].min()
        signal = counts - counts[near(454)].mean()
        return inside[peaks].min() - saddle, float((signal * E)[window].sum() / signal[window].sum())

    (pristine_saddle, pristine_eV), (last_saddle, last_eV) = pair(0.0), pair(1.0)
    assert pristine_saddle > 100
    assert last_saddle == 0  # one peak is left
    assert last_eV < pristine_eV - 0.5
    centres = [pair(x)[1] for x in np.linspace(0, 1, 6)]
    assert (np.diff(centres) < 0).all()


def test_the_oxygen_edge_flattens_and_weakens():
    def oxygen(at_phase: float) -> np.ndarray:
        return clean_counts(AXIS, SHAPE, DOSE_pC, at_phase)[near(555, 55)]

    pristine, last = oxygen(0.0), oxygen(1.0)
    assert np.abs(np.diff(last)).max() < 0.5 * np.abs(np.diff(pristine)).max()
    assert last.sum() < pristine.sum()


def test_a_thinner_specimen_gives_fewer_counts_and_less_plural_scattering():
    whole = clean_counts(AXIS, SHAPE, DOSE_pC, 0.0)
    thinned = clean_counts(AXIS, SHAPE, DOSE_pC, 0.0, remaining_thickness=0.5)
    assert SHAPE.thickness_mfp == 0.3
    expected = 0.5 * math.exp(0.15)  # half the atoms, and fewer electrons that lost energy otherwise
    assert thinned[near(435)].mean() / whole[near(435)].mean() == pytest.approx(expected, rel=1e-3)
    assert thinned[near(495, 10)].sum() / whole[near(495, 10)].sum() < 0.99 * expected


def test_a_plasmon_takes_its_energy_and_leaves_the_number_of_electrons():
    lines_only = SHAPE.model_copy(update={"continua": {}, "lines": {"Ti L3 eg": SHAPE.lines["Ti L3 eg"]}})
    energies = np.arange(424.0, 629.0, 0.1)
    single = specimen.edges(energies, lines_only, 0.0)
    scattered = specimen.once_more_scattered(energies, lines_only, 0.0)
    assert scattered.sum() == pytest.approx(single.sum(), rel=0.01)
    assert energies[scattered.argmax()] - energies[single.argmax()] == pytest.approx(27, abs=3)
