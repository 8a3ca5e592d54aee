"""Every step, and every chain of steps, makes the same of a run as of its spectra one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.preprocessing import (
    Chain,
    Crop,
    DoseNormalisation,
    ExclusiveBins,
    Exposed,
    PeakAlignment,
    PowerLawBackground,
    RollingBins,
    SpikeRemoval,
    Step,
    fit_global_scaling,
    fit_per_channel_scaling,
    one_by_one,
)
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import EnergyAxis
from tests.properties import examples

AXIS = EnergyAxis(offset_eV=424.0, dispersion_eV=0.5, size=120)
CROPPED = EnergyAxis(offset_eV=435.0, dispersion_eV=0.5, size=90)
DTYPES = (np.uint16, np.uint32, np.float32, np.float64)


def spectrum(shift_eV: float = 0.0, axis: EnergyAxis = AXIS) -> np.ndarray:
    e = energies_eV(axis) - shift_eV
    return 3_000 * (e / 435) ** -2.0 + 2_000 * np.exp(-(((e - 458) / 2) ** 2))


def noisy_run(frames: int, seed: int, dtype: Any = np.float64) -> np.ndarray:
    """(frame, channel) counts that drift, jump in time, and have spikes: what makes the steps do something."""
    rng = np.random.default_rng(seed)
    clean = np.stack([spectrum(shift_eV) for shift_eV in rng.uniform(-2, 2, frames)]) if frames else np.empty((0, 120))
    counts = clean * rng.uniform(0.7, 1.3, (frames, 1)) + rng.normal(0, 60, clean.shape)
    hits = rng.random(clean.shape) < 0.01
    return np.maximum(counts + hits * rng.exponential(4000, clean.shape), 1).astype(dtype)


def steps_on(axis: EnergyAxis) -> dict[str, Step[Any, Any]]:
    """All steps that take plain counts."""
    training = [noisy_run(12, 99)[:, : axis.size]]
    return {
        "spikes": SpikeRemoval(1.5, threshold=4),
        "alignment": PeakAlignment(spectrum(axis=axis), axis, (446.0, 470.0), 3.0),
        "crop": Crop(axis, 440.0, 470.0),
        "exclusive": ExclusiveBins(3),
        "rolling": RollingBins(4),
        "background": PowerLawBackground(axis, (436.0, 450.0)),
        "global scaling": fit_global_scaling(training),
        "per-channel scaling": fit_per_channel_scaling(training, axis),
    }


def assert_same(step: Step[Any, Any], run: Any, spectra: Any) -> np.ndarray:
    whole = step.whole(run)
    given_one_by_one = one_by_one(step, spectra)
    assert whole.dtype == np.float64
    assert len(whole) == len(given_one_by_one)
    np.testing.assert_allclose(np.stack(given_one_by_one), whole, rtol=1e-12, atol=1e-9)
    return whole


frames_and_seeds = {"frames": st.integers(1, 14), "seed": st.integers(0, 2**32 - 1), "dtype": st.sampled_from(DTYPES)}


@pytest.mark.parametrize("name", steps_on(AXIS))
@examples(25)
@given(**frames_and_seeds)
def test_a_step_alone(name, frames, seed, dtype):
    step = steps_on(AXIS)[name]
    assume(frames >= getattr(step, "frames", 1))
    run = noisy_run(frames, seed, dtype)
    before = run.copy()
    whole = assert_same(step, run, run)
    np.testing.assert_array_equal(run, before)  # nothing is done in place
    target = step.target_axis or AXIS
    assert whole.shape[1] == target.size


@pytest.mark.parametrize("name", [n for n in steps_on(AXIS) if n != "crop"])
def test_the_runs_of_these_tests_make_every_step_do_something(name):
    step, run = steps_on(AXIS)[name], noisy_run(14, 0)
    whole = step.whole(run)
    assert np.mean(np.abs(whole - run[: len(whole)]) > 1) > (0.001 if name == "spikes" else 0.5)


exposures = st.fixed_dictionaries(
    {"dwell_s": st.floats(1e-3, 10), "current_pA": st.one_of(st.none(), st.floats(1, 1e4))}
)


@examples(50)
@given(**frames_and_seeds, exposure=exposures, varies=st.booleans())
def test_dose_normalisation(frames, seed, dtype, exposure, varies):
    counts = noisy_run(frames, seed, dtype)
    factor = np.random.default_rng(seed).uniform(0.5, 2, frames) if varies else np.ones(frames)
    current_pA = None if exposure["current_pA"] is None else exposure["current_pA"] * factor[::-1]
    run = Exposed(counts, exposure["dwell_s"] * factor, current_pA)
    assert_same(DoseNormalisation(0.4, 92.0), run, run.frames())


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Any selection of steps in order, cropped or not, anywhere."""
    crop_at = draw(st.sampled_from([None, "first", "behind alignment", "behind bins"]))
    made: list[Step[Any, Any]] = [DoseNormalisation(0.4, 92.0)] if draw(st.booleans()) else []
    axis = AXIS

    def crop_if(here: str) -> None:
        nonlocal axis
        if crop_at == here:
            made.append(Crop(axis, 435.0, 480.0))
            axis = made[-1].target_axis

    crop_if("first")
    if draw(st.booleans()):
        made.append(steps_on(axis)["spikes"])
    if draw(st.booleans()):
        made.append(steps_on(axis)["alignment"])
    crop_if("behind alignment")
    bins = draw(st.sampled_from([None, ExclusiveBins, RollingBins]))
    if bins is not None:
        made.append(bins(draw(st.integers(1, 5))))
    crop_if("behind bins")
    if draw(st.booleans()):
        made.append(steps_on(axis)["background"])
    scaling = draw(st.sampled_from([None, "global scaling", "per-channel scaling"]))
    if scaling is not None:
        made.append(steps_on(axis)[scaling])
    return Chain(tuple(made))


@examples(150)
@given(chain=chains(), **frames_and_seeds)
def test_a_chain(chain, frames, seed, dtype):
    frames += 4  # the longest bin is 5
    counts = noisy_run(frames, seed, dtype)
    run: Any = counts
    spectra: Any = counts
    if chain.steps and isinstance(chain.steps[0], DoseNormalisation):
        run = Exposed(counts, np.random.default_rng(seed).uniform(0.3, 0.5, frames))
        spectra = run.frames()
    try:
        whole = chain.whole(run)
    except UnusableInputError:  # a background below zero; the stream must refuse it as well
        with pytest.raises(UnusableInputError):
            one_by_one(chain, spectra)
        return
    given_one_by_one = one_by_one(chain, spectra)
    np.testing.assert_allclose(np.stack(given_one_by_one), whole, rtol=1e-12, atol=1e-9)
    assert whole.shape[1] == (chain.target_axis or AXIS).size


@pytest.mark.parametrize("name", [*steps_on(AXIS), "chain"])
def test_a_state_can_be_gone_back_to(name):
    """A state is a value: a spectrum that was refused downstream can be taken back, and a buffer may be filled anew."""
    step: Step[Any, Any] = steps_on(AXIS)[name] if name != "chain" else Chain(tuple(_one_of_each()))
    run = noisy_run(9, 5)
    expected = one_by_one(step, run)
    state, given, buffer = step.start(), [], np.empty(AXIS.size)
    for counts in run:
        buffer[:] = counts
        step.step(state, np.full(AXIS.size, 5e4))  # astray, and forgotten
        state, out = step.step(state, buffer)
        if out is not None:
            given.append(out.copy())
    np.testing.assert_array_equal(given, expected)


def _one_of_each() -> list[Step[Any, Any]]:
    steps = steps_on(AXIS)
    return [steps[name] for name in ("spikes", "alignment", "rolling", "background", "per-channel scaling")]


def test_a_spectrum_that_is_refused_leaves_the_stream_as_it_was():
    chain = Chain(tuple(_one_of_each()))
    run = noisy_run(9, 6)
    state, given = chain.start(), []
    for counts in run:
        with pytest.raises(UnusableInputError):
            chain.step(state, counts[:-1])
        state, out = chain.step(state, counts)
        if out is not None:
            given.append(out)
    np.testing.assert_array_equal(given, one_by_one(chain, run))


@pytest.mark.parametrize("step", [*steps_on(AXIS).values(), Chain()], ids=lambda step: type(step).__name__)
def test_what_is_no_run_and_no_spectrum_is_refused_with_its_shape(step):
    frames = np.ones((2, 3, 120))
    with pytest.raises(UnusableInputError, match=r"^a run is \(frame, channel\), and this is \(2, 3, 120\)\.$"):
        step.whole(frames)
    with pytest.raises(UnusableInputError, match=r"^a spectrum is \(channel,\), and this is \(3, 120\)\.$"):
        step.step(step.start(), frames[0])


@pytest.mark.parametrize("name", ["alignment", "crop", "background", "per-channel scaling"])
def test_spectra_of_another_axis_are_refused_by_name(name):
    with pytest.raises(UnusableInputError, match=r"^these spectra have 119 channels, and 424\.0 to .* has 120\.$"):
        steps_on(AXIS)[name].whole(noisy_run(3, 0)[:, 1:])
