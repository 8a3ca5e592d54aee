"""The microscope as a whole: reproducible to the byte, true to its specimen, and as noisy as the paper's."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from acquisition_sim import specimen
from acquisition_sim.high_tension import HighTensionParameters
from acquisition_sim.microscope import BLOCK, Microscope
from acquisition_sim.presets import Preset, load_preset
from eelstm_stream.core.energy_axis import energies_eV

HASHED_WITH = "2.4.6"  # numpy's streams may change between its versions, and then this hash does
HASH = "40b3ebba963cfab847f93163233e13874a1b86d8f277ea9d19ac34e3dcae5134"


def without(preset: Preset, *, tension: bool = False, pattern: bool = False, spread: bool = False) -> Preset:
    """A preset whose axis stands still, whose camera has no fixed pattern, or smears nothing."""
    detector = preset.detector
    if not pattern:
        detector = detector.model_copy(update={"fixed_pattern": 0.0, "spikes_per_s": 0.0})
    if not spread:
        detector = detector.model_copy(update={"point_spread": (1.0,)})
    changed = {"detector": detector, "high_tension": preset.high_tension if tension else HighTensionParameters()}
    return preset.model_copy(update=changed)


@pytest.fixture(scope="module")
def usual() -> Microscope:
    return Microscope(load_preset("srtio3-300kV"))


@pytest.fixture(scope="module")
def steady() -> Microscope:
    return Microscope(without(load_preset("srtio3-300kV")))


E = energies_eV(load_preset("srtio3-300kV").energy_axis)
PROGRAMME = {
    "dwell_s": np.tile([0.4, 0.1, 0.4, 0.8, 0.02], 9),  # the shortest have few enough electrons for Poisson's exact law
    "current_pA": np.repeat([230.0, 100.0, 20.0], 15),
    "blanked": np.arange(45) % 7 == 3,
}


def near(energy_eV: float, width_eV: float = 0.4) -> np.ndarray:
    return np.abs(E - energy_eV) <= width_eV / 2


def test_frames_are_the_same_one_by_one_and_in_blocks_of_any_size(usual):
    assert len(PROGRAMME["dwell_s"]) > BLOCK
    end, together = usual.expose_many(usual.start(5), **PROGRAMME)
    state = usual.start(5)
    for frame in range(len(together)):
        conditions = {key: values[frame] for key, values in PROGRAMME.items()}
        state, apart = usual.expose(state, **conditions)
        assert apart.counts.tobytes() == together[frame].counts.tobytes()
        assert apart.clean_counts.tobytes() == together[frame].clean_counts.tobytes()
        assert (apart.phase, apart.dose_pC) == (together[frame].phase, together[frame].dose_pC)
    assert state == end


def test_the_same_state_gives_the_same_frame_however_often_it_is_asked(usual):
    state = usual.start(1)
    _, first = usual.expose(state, 0.4, 230.0)
    usual.expose_many(usual.start(2), np.full(3, 0.1), 100.0)
    _, again = Microscope(usual.preset).expose(state, 0.4, 230.0)
    assert first.counts.tobytes() == again.counts.tobytes()


def test_a_frames_noise_does_not_depend_on_what_was_exposed_before(steady):
    def noise(dwells: list[float]) -> np.ndarray:
        _, taken = steady.expose_many(steady.start(8), dwells, 1e-9)  # no damage to speak of, and no light
        return taken.counts[-1]

    np.testing.assert_array_equal(noise([0.4, 0.4, 0.4]), noise([0.1, 0.9, 0.4]))


def test_seeds_and_frames_differ(usual):
    _, one = usual.expose_many(usual.start(1), np.full(2, 0.4), 230.0)
    _, two = usual.expose_many(usual.start(2), np.full(2, 0.4), 230.0)
    for other in (two.counts[0], one.counts[1]):
        both = np.stack([one.counts[0] - one.clean_counts[0], other - one.clean_counts[0]])
        assert abs(np.corrcoef(both)[0, 1]) < 0.2


def test_the_bytes_of_a_seed_are_known(usual):
    if np.__version__ != HASHED_WITH:
        pytest.skip(f"the hash was taken with numpy {HASHED_WITH}, and this is {np.__version__}")
    _, taken = usual.expose_many(usual.start(2022), **PROGRAMME)
    found = hashlib.sha256(taken.counts.tobytes() + taken.clean_counts.tobytes() + taken.phase.tobytes())
    assert found.hexdigest() == HASH


@pytest.mark.parametrize("dose_pC", [0.0, 500.0, 5_000.0, 9_000.0, 40_000.0])
def test_clean_counts_are_the_specimens(steady, dose_pC):
    preset = steady.preset
    state = steady.start(0)
    if dose_pC:
        state, _ = steady.expose(state, dose_pC / 230.0, 230.0)
    _, frame = steady.expose(state, 0.4, 230.0)
    left = math.exp(-(dose_pC + 46) / preset.specimen.kinetics.mass_loss_dose_pC)
    exact = specimen.clean_counts(preset.energy_axis, preset.specimen.spectrum, 92.0, frame.phase, left)
    np.testing.assert_allclose(frame.clean_counts, exact, atol=0.5)  # of some 10 000, with noise of 200


def test_a_shift_of_the_axis_moves_the_spectrum_and_nothing_else(steady):
    moved = without(steady.preset).model_copy(update={"high_tension": HighTensionParameters(offset_eV=0.537)})
    microscope = Microscope(moved)
    _, frame = microscope.expose(microscope.start(0), 0.4, 230.0)
    shape = steady.preset.specimen.spectrum
    axis = steady.preset.energy_axis
    shifted = axis.model_copy(update={"offset_eV": axis.offset_eV - 0.537})
    left = math.exp(-46 / steady.preset.specimen.kinetics.mass_loss_dose_pC)
    exact = specimen.clean_counts(shifted, shape, 92.0, frame.phase, left)
    np.testing.assert_allclose(frame.clean_counts, exact, atol=0.5)


def test_counts_scatter_about_the_clean_ones_as_in_the_paper(usual):
    _, taken = usual.expose_many(usual.start(3), np.full(100, 0.4), 230.0)
    noise = taken.counts.astype(np.float64) - taken.clean_counts
    noise = noise[np.abs(noise).max(axis=1) < 2_000]  # without the frames that an X ray hit
    assert len(noise) > 90
    assert np.mean(noise**2) / taken.clean_counts.mean() == pytest.approx(4.6, rel=0.02)
    assert abs(noise.mean()) < 1.5
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2) == pytest.approx(0.24, abs=0.02)


@pytest.mark.parametrize(("name", "seconds"), [("srtio3-300kV", 60.0), ("fast", 5.0)])
def test_the_transition_takes_as_long_as_the_preset_says(name, seconds):
    microscope = Microscope(load_preset(name))
    dwell_s = seconds / 100
    _, taken = microscope.expose_many(microscope.start(0), np.full(100, dwell_s), 230.0)
    assert taken.phase[0] < 0.001
    assert 0.25 < taken.phase[49] < 0.75
    assert taken.phase[-1] > 0.94
    assert (np.diff(taken.phase) > 0).all()


def test_a_stable_specimen_stays_as_it_is():
    microscope = Microscope(without(load_preset("stable")))
    _, taken = microscope.expose_many(microscope.start(0), np.full(50, 10.0), 230.0)
    assert (taken.phase == 0).all()
    np.testing.assert_array_equal(taken.clean_counts[0], taken.clean_counts[-1])


def test_a_recovering_specimen_heals_under_a_blanked_beam_and_the_camera_sees_nothing():
    microscope = Microscope(load_preset("recovering"))
    blanked = np.repeat([False, True], 60)
    _, taken = microscope.expose_many(microscope.start(0), np.full(120, 1.0), 230.0, blanked)
    assert taken.phase[59] > 0.7
    assert taken.phase[-1] < 0.5 * taken.phase[59]
    assert (taken.dose_pC[60:] == 0).all()
    assert (taken.clean_counts[60:] == 0).all()
    assert np.median(taken.counts[60:]) < 20
    assert taken.counts[60:].any()  # read-out noise


def test_the_same_dose_does_the_same_whatever_dwell_and_current_deliver_it(steady):
    _, slow = steady.expose_many(steady.start(0), np.full(40, 0.4), 115.0)
    _, quick = steady.expose_many(steady.start(1), np.full(40, 0.1), 460.0)
    np.testing.assert_allclose(quick.phase, slow.phase)
    np.testing.assert_allclose(quick.clean_counts, slow.clean_counts, rtol=1e-5)


def test_a_fragile_specimen_suffers_more_from_the_same_dose_when_it_comes_fast():
    microscope = Microscope(load_preset("fragile"))
    _, gentle = microscope.expose_many(microscope.start(0), np.full(20, 1.0), 115.0)
    _, rough = microscope.expose_many(microscope.start(0), np.full(20, 0.25), 460.0)
    assert rough.phase[-1] > gentle.phase[-1] + 0.2


def test_a_frame_has_the_phase_of_its_middle(steady):
    _, frame = steady.expose(steady.start(0), 20.0, 230.0)
    kinetics = steady.preset.specimen.kinetics
    assert frame.phase == pytest.approx(
        specimen.jmak_phase(10.0 * 230.0, kinetics.critical_dose_pC, kinetics.jmak_exponent)
    )


@pytest.mark.parametrize(
    ("dwell_s", "current_pA"),
    [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (0.4, -1.0), (0.4, math.nan), (0.4, math.inf)],
)
def test_impossible_conditions_are_refused(usual, dwell_s, current_pA):
    with pytest.raises(ValueError, match="finite number"):
        usual.expose(usual.start(0), dwell_s, current_pA)


def test_a_seed_must_be_one(usual):
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            usual.start(seed)
