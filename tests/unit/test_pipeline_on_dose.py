"""The window on dose is the window on frames at the training's own setting, and keeps its place at any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eelstm_stream.core.dose_window import MAX_GAP_STEPS, DoseWindow
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.core.pipeline import (
    Accepted,
    Event,
    Lost,
    Pipeline,
    Refused,
    SessionOpened,
    SessionRefused,
    Unseen,
    new_pipeline,
    step,
    tick,
)
from eelstm_stream.core.quality import TRIED_CURRENTS, TRIED_DWELLS
from eelstm_stream.core.verification import Verification
from eelstm_stream.errors import UnusableInputError
from eelstm_stream.wire.messages import Spectrum
from tests.model_files import reference_spectrum
from tests.properties import examples
from tests.unit.test_pipeline import (
    AXIS,
    CURRENT_PA,
    DWELL_S,
    MODEL,
    REFERENCE,
    WINDOW,
    accepted_in,
    after,
    counts_of,
    flags,
    gap,
    spectrum,
    start,
)

DOSE_PC = DWELL_S * CURRENT_PA
SLOPE = 0.01  # of the counts, from one reference dose to the next


def rate_at(dose_steps: float) -> np.ndarray:
    """(channel,) counts of one reference dose where the specimen has received so many, on average over it."""
    return REFERENCE * (1 + SLOPE * dose_steps)


class Specimen:
    """A specimen that changes with dose alone, under a beam that does as it is told."""

    def __init__(self, state: Pipeline) -> None:
        self.state = state
        self.seq = 0
        self.received = 0.0  # reference doses
        self.events: list[Event] = []

    def take(self, dwell_s: float = DWELL_S, current_pA: float = CURRENT_PA, **changes: Any) -> list[Event]:
        """Expose one frame."""
        steps = dwell_s * current_pA / DOSE_PC
        counts = steps * rate_at(self.received + steps / 2)
        header = spectrum(
            self.seq,
            dwell_s=dwell_s,
            beam_current_pA=current_pA,
            **({"dose_before_pC": self.received * DOSE_PC} | changes),
        )
        self.received += steps
        self.seq += 1
        self.state, events = step(self.state, header, counts.astype(np.float32), 0)
        self.events += events
        return events

    def until(self, received: float, dwell_s: float = DWELL_S, current_pA: float = CURRENT_PA) -> list[Accepted]:
        """Expose frames of one setting until the specimen has received so many reference doses."""
        accepted = []
        while self.received < received - 1e-9:
            accepted += accepted_in(self.take(dwell_s, current_pA))
        return accepted

    def unseen(self, steps: float) -> None:
        """The beam goes on without a frame."""
        self.received += steps


def on_dose() -> Pipeline:
    state, events = after(new_pipeline(MODEL), start())
    assert events == [SessionOpened(start(), WINDOW)]
    assert state.session is not None
    assert state.session.window.domain == "dose"
    return state


@pytest.fixture
def specimen() -> Specimen:
    return Specimen(on_dose())


def expected_window(received: float) -> np.ndarray:
    """What the eight newest reference doses showed, oldest first."""
    return np.stack([rate_at(received - age - 0.5) for age in range(WINDOW - 1, -1, -1)])


# At the training's own setting


@examples(50)
@given(st.lists(st.integers(0, 3), max_size=30), st.booleans())
def test_at_the_trainings_setting_it_is_the_window_on_frames(kinds, told):
    """Good spectra and others that are refused, dark, or come twice; without losses both windows hold the same."""
    states = [after(new_pipeline(MODEL, domain), start())[0] for domain in ("frame", "dose")]
    seq = 0
    for kind in [*kinds, 0, 0, 0]:
        before = {"dose_before_pC": seq * DOSE_PC} if told else {}
        message = {
            0: (spectrum(seq, **before), counts_of(seq)),
            1: (spectrum(seq, **before), -counts_of(seq)),
            2: (spectrum(max(0, seq - 1)), counts_of(seq)),
            3: gap(seq + 5, seq + 6, session="another"),
        }[kind]
        (frames, heard), (dose, heard_on_dose) = (after(state, message) for state in states)
        states = [frames, dose]
        assert [type(e) for e in heard] == [type(e) for e in heard_on_dose]
        assert frames.counters == dose.counters
        for one, other in zip(accepted_in(heard), accepted_in(heard_on_dose), strict=True):
            assert (one.needed, one.quality, one.domain, other.domain) == (other.needed, other.quality, "frame", "dose")
            assert (one.window is None) is (other.window is None)
            if one.window is not None:
                np.testing.assert_allclose(other.window, one.window, rtol=1e-6)
            np.testing.assert_allclose(other.history, one.history, rtol=1e-6)
            np.testing.assert_allclose(other.newest, one.newest, rtol=1e-6)
            assert other.variance_over_mean == pytest.approx(one.variance_over_mean)
            assert [other.starts_after_s(h) for h in (1, 8)] == pytest.approx([one.starts_after_s(h) for h in (1, 8)])
            seq += 1


# At other settings


@pytest.mark.parametrize(
    ("dwell_s", "current_pA"), [(0.08, 230), (0.8, 230), (0.4, 23), (0.08, 23), (0.4, 500), (0.37, 219), (0.8, 41)]
)
def test_the_window_holds_the_newest_reference_doses_whatever_the_frames(specimen, dwell_s, current_pA):
    for accepted in specimen.until(16, dwell_s, current_pA):
        doses = accepted.past.position
        assert (accepted.window is None) is (doses < WINDOW - 1e-6)
        if accepted.window is not None:
            # A long frame says what it showed on average: half of it is at most half a step too early or too late.
            off = SLOPE * max(0.0, dwell_s * current_pA / DOSE_PC - 1) / 2 + 2e-3
            np.testing.assert_allclose(accepted.window, expected_window(doses), rtol=off)
        np.testing.assert_allclose(accepted.history, rate_at(doses / 2), rtol=2e-3)
        assert not flags(accepted)


def test_a_change_in_mid_run_leaves_the_window_in_place(specimen):
    specimen.until(10)
    for setting in ((0.1, 230.0), (0.08, 23.0), (0.8, 115.0), (0.2, 460.0)):
        for accepted in specimen.until(specimen.received + 3, *setting):
            np.testing.assert_allclose(accepted.window, expected_window(accepted.past.position), rtol=0.3 * SLOPE)


def test_every_spectrum_gives_a_forecast_and_short_ones_need_as_many_as_fill_the_window(specimen):
    accepted = specimen.until(9, 0.1, 230)
    assert [a.needed for a in accepted] == [*range(31, 0, -1), 0, 0, 0, 0, 0]
    assert accepted[0].past.frame_steps == pytest.approx(0.25)
    _, events = after(new_pipeline(MODEL), start(dwell_s=0.04))
    assert [e.needed for e in events if isinstance(e, SessionOpened)] == [80]


def test_what_a_window_keeps_is_bounded_however_short_the_frames(specimen):
    for _ in range(3000):
        specimen.take(0.004, 115.0)  # 1/200 of a reference dose
    window = specimen.state.session.window
    assert isinstance(window, DoseWindow)
    assert len(window.aligned.marks) < 64 * (WINDOW + 1) + 4
    assert len(window.compared.marks) < 64 * 2 + 4
    np.testing.assert_allclose(window.counts(), expected_window(window.position), rtol=1e-3)


# Alignment of short frames


def moved(by_eV: float) -> np.ndarray:
    """(channel,) counts of one reference dose with the axis off by this much."""
    return np.interp(energies_eV(AXIS) - by_eV, energies_eV(AXIS), reference_spectrum(AXIS))


def aligned_at(dwell_s: float, frames: int, seed: int) -> list[Accepted]:
    """Noisy frames of a specimen that stays as it is, under an axis that is off by 0.4 eV."""
    random = np.random.default_rng(seed)
    state, accepted = on_dose(), []
    for seq in range(frames):
        counts = moved(0.4) * dwell_s / DWELL_S
        noisy = np.maximum(0, counts + random.normal(size=AXIS.size) * np.sqrt(10 * counts))
        state, events = after(state, (spectrum(seq, dwell_s=dwell_s), noisy.astype(np.float32)))
        accepted += accepted_in(events)
    return accepted


def test_frames_too_short_to_be_aligned_alone_are_aligned_by_the_newest_step():
    one_step = np.std([a.prepared.shift.shift_eV for a in aligned_at(DWELL_S, 40, 1)])
    shifts = [a.prepared.shift for a in aligned_at(DWELL_S / 50, 300, 2)]
    assert all(shift.trusted for shift in shifts[50:])
    of_short = np.array([shift.shift_eV for shift in shifts[50:]])
    assert np.abs(of_short - 0.4).max() < 6 * one_step + 0.05


# Dose without a spectrum


def test_dose_between_frames_is_left_out_of_the_counts_and_not_of_the_dose(specimen):
    """A camera that reads out for a fifth of the time, with the beam on."""
    for _ in range(20):
        specimen.take(DWELL_S * 0.8)
        specimen.unseen(0.2)
    accepted = accepted_in(specimen.take(DWELL_S * 0.8))[0]
    np.testing.assert_allclose(accepted.window, expected_window(specimen.received), rtol=2e-3)
    assert flags(accepted) == set()
    assert accepted.past.steps_a_period == pytest.approx(1.0)


@pytest.mark.parametrize("hole", [0.5, 1.0, 1.3, 2.0, 2.4])
def test_a_hole_keeps_its_place_in_the_window_and_is_flagged_until_it_has_passed(specimen, hole):
    specimen.until(12)
    specimen.unseen(hole)
    for accepted in specimen.until(specimen.received + 12):
        ends = accepted.past.position
        assert ends == pytest.approx(specimen.received, abs=13)
        np.testing.assert_allclose(accepted.window, expected_window(ends), rtol=0.6 * SLOPE)
        passed = ends - WINDOW >= 12 + hole - 1e-6
        assert ("gap_in_window" in flags(accepted)) is not passed
    assert specimen.seq == 24


def test_a_hole_that_is_too_long_empties_the_window(specimen):
    specimen.until(12)
    specimen.unseen(MAX_GAP_STEPS + 0.1)
    unseen, accepted = specimen.take()
    assert unseen == Unseen(12, WINDOW)
    assert isinstance(accepted, Accepted)
    assert (accepted.needed, accepted.window) == (WINDOW - 1, None)
    again = specimen.until(specimen.received + 10)
    np.testing.assert_allclose(again[-1].window, expected_window(specimen.received), rtol=1e-3)
    assert flags(again[-1]) == set()


def test_many_short_spectra_may_be_lost_before_the_window_is(specimen):
    specimen.until(12, 0.04, 230)
    lost = 15  # one and a half reference doses
    specimen.seq += lost
    specimen.unseen(0.1 * lost)
    events = specimen.take(0.04, 230)
    assert events[0] == Lost(120, 134, window_emptied=False)
    assert "gap_in_window" in flags(events[1])
    assert events[1].past.position == pytest.approx(13.6)


def test_one_short_spectrum_that_is_lost_is_flagged_though_it_matters_little(specimen):
    specimen.until(12, 0.04, 230)
    specimen.seq += 1
    specimen.unseen(0.1)
    flagged = ["gap_in_window" in flags(accepted) for accepted in specimen.until(21, 0.04, 230)]
    assert flagged == [True] * 79 + [False] * (len(flagged) - 79)


@pytest.mark.parametrize("current", [0.9, 1.0, 1.1])  # by which runs of one experiment may differ
@pytest.mark.parametrize(("lost", "emptied"), [(2, False), (3, True)])
def test_two_lost_frames_of_about_a_step_are_bridged_and_three_are_not(specimen, current, lost, emptied):
    specimen.until(10, DWELL_S, current * CURRENT_PA)
    specimen.seq += lost
    specimen.unseen(lost * current)
    assert specimen.take(DWELL_S, current * CURRENT_PA)[0].window_emptied is emptied


@pytest.mark.parametrize(("lost", "emptied"), [(2, False), (3, True)])
def test_without_word_of_the_dose_lost_spectra_are_taken_to_be_as_the_newest(specimen, lost, emptied):
    specimen.until(10)
    _, events = after(specimen.state, gap(10, 9 + lost), (spectrum(10 + lost), counts_of(10 + lost)))
    assert events[0] == Lost(10, 9 + lost, emptied, WINDOW if emptied else 0)
    assert events[1].past.position == pytest.approx(11 + lost)
    assert events[1].needed == (WINDOW - 1 if emptied else 0)


def test_spectra_lost_under_a_blanked_beam_cost_no_dose_and_so_no_window(specimen):
    specimen.until(10)
    specimen.seq += 40
    lost, accepted = specimen.take()
    assert lost == Lost(10, 49, window_emptied=False)
    np.testing.assert_allclose(accepted.window, expected_window(11), rtol=1e-3)


def test_a_dose_that_falls_back_is_no_hole(specimen):
    specimen.until(10)
    accepted = accepted_in(specimen.take(dose_before_pC=3.0))[0]
    assert accepted.past.position == pytest.approx(11)
    assert flags(accepted) == set()


def test_a_spectrum_that_is_no_measurement_leaves_a_hole_of_its_dose(specimen):
    specimen.until(10)
    state, [refused] = after(specimen.state, (spectrum(10, dwell_s=0.2), np.zeros(AXIS.size, np.float32)))
    assert isinstance(refused, Refused)
    _, [accepted] = after(state, (spectrum(11), counts_of(11)))
    assert accepted.past.position == pytest.approx(11.5)
    assert "gap_in_window" in flags(accepted)


def test_too_little_of_the_newest_step_gives_no_forecast(specimen):
    specimen.until(12)
    specimen.unseen(1.5)
    needed = [accepted_in(specimen.take(0.04, 230))[0].needed for _ in range(4)]
    assert needed == [2, 1, 0, 0]  # a quarter of a step, of which each brings a tenth


# What a forecast says


def test_within_what_was_tried_no_flag_is_raised_and_beyond_it_is(specimen):
    for dwell_s in (0.08, 0.8):
        for current_pA in (23.0, 230.0, 500.0):
            assert flags(accepted_in(specimen.take(dwell_s, current_pA))[0]) == set()
    beyond = {
        "dwell_differs_from_training": [
            (0.9 * TRIED_DWELLS[0] * DWELL_S, 230.0),
            (1.1 * TRIED_DWELLS[1] * DWELL_S, 230.0),
        ],
        "dose_differs_from_training": [
            (0.4, 0.8 * TRIED_CURRENTS[0] * CURRENT_PA),
            (0.4, 1.2 * TRIED_CURRENTS[1] * CURRENT_PA),
        ],
    }
    for flag, settings in beyond.items():
        for setting in settings:
            assert flags(accepted_in(specimen.take(*setting))[0]) == {flag}


@pytest.mark.parametrize(
    ("dwell_s", "current_pA", "pause_s", "starts_s"),
    [
        (0.4, 230.0, 0.0, (0.4, 0.8, 3.2)),
        (0.1, 230.0, 0.0, (0.1, 0.5, 2.9)),  # a reference dose takes 0.4 s at this current
        (0.4, 46.0, 0.0, (0.4, 2.4, 14.4)),
        (0.8, 230.0, 0.0, (0.8, 1.2, 3.6)),
        (0.1, 230.0, 0.1, (0.2, 1.0, 5.8)),  # and twice as long with a pause as long as the frame
    ],
)
def test_when_a_step_begins_follows_from_the_dose_rate_and_the_pauses(dwell_s, current_pA, pause_s, starts_s):
    opened = start(dwell_s=dwell_s, beam_current_pA=current_pA, frame_period_s=dwell_s + pause_s)
    specimen = Specimen(after(new_pipeline(MODEL), opened)[0])
    accepted = specimen.until(9, dwell_s, current_pA)[-1]
    assert [accepted.starts_after_s(horizon) for horizon in (1, 2, 8)] == pytest.approx(starts_s)


@pytest.mark.parametrize(
    ("dwell_s", "factor"), [(0.4, 1.0), (0.2, 1.0), (0.8, 0.5), (0.1, 1.0), (0.3, (1 / 3) ** 2 * 0.75 + 0.75)]
)
def test_the_noise_of_the_newest_step_is_that_of_the_frames_it_is_made_of(specimen, dwell_s, factor):
    accepted = specimen.until(9, dwell_s)[-1]
    assert accepted.variance_over_mean == pytest.approx(MODEL.variance_over_mean * factor)


def test_before_a_step_is_measured_its_noise_is_larger(specimen):
    [first] = accepted_in(specimen.take(0.1))
    assert first.variance_over_mean == pytest.approx(4 * MODEL.variance_over_mean)
    np.testing.assert_allclose(first.newest, rate_at(0.125), rtol=1e-3)


# Which window


@pytest.mark.parametrize(
    ("wanted", "model", "session", "domain"),
    [
        ("auto", {}, {}, "dose"),
        ("auto", {}, {"beam_current_pA": None, "dose_is_relative": True}, "frame"),
        ("auto", {}, {"dose_is_relative": True}, "frame"),
        ("auto", {"dose_is_relative": True, "reference_dose_pC": DWELL_S}, {}, "frame"),
        ("auto", {"window_domain": "dose"}, {}, "dose"),
        ("frame", {}, {}, "frame"),
        ("dose", {}, {}, "dose"),
    ],
)
def test_the_window_runs_on_dose_where_model_and_session_know_the_current(wanted, model, session, domain):
    state, _ = after(new_pipeline(MODEL.model_copy(update=model), wanted), start(**session))
    assert state.session.window.domain == domain


@pytest.mark.parametrize(
    ("wanted", "model", "why"),
    [
        ("dose", {}, "session first does not say its beam current, and window_domain is dose"),
        ("auto", {"window_domain": "dose"}, "and mean-of-window was made for a window on dose"),
    ],
)
def test_a_session_without_a_current_is_refused_where_the_window_must_run_on_dose(wanted, model, why):
    pipeline = new_pipeline(MODEL.model_copy(update=model), wanted)
    state, [refused] = after(pipeline, start(beam_current_pA=None, dose_is_relative=True))
    assert isinstance(refused, SessionRefused)
    assert why in refused.reason
    assert state.session is None


def test_a_model_without_a_current_is_refused_on_dose():
    relative = MODEL.model_copy(update={"dose_is_relative": True})
    with pytest.raises(
        UnusableInputError, match="trained at an unknown beam current, so nobody knows its reference dose"
    ):
        new_pipeline(relative, "dose")


def test_a_single_spectrum_without_a_current_is_flagged(specimen):
    specimen.until(9)
    _, [accepted] = after(specimen.state, (spectrum(9, beam_current_pA=None), counts_of(9)))
    assert flags(accepted) == {"dose_is_relative"}
    assert accepted.past.position == pytest.approx(10)


# Forecasts that come true


def verified(settings: list[tuple[float, float, float]], error: float = 0.0) -> tuple[Verification, list]:
    """A stream under settings (until, dwell_s, current_pA), with a forecast of what will come at every spectrum."""
    specimen, verification, outcomes = Specimen(on_dose()), Verification(), []
    for until, dwell_s, current_pA in settings:
        for accepted in specimen.until(until, dwell_s, current_pA):
            verification, came_true = verification.with_spectrum(accepted.past)
            outcomes += came_true
            if accepted.window is not None:
                now = accepted.past.position
                ahead = np.stack([rate_at(now + horizon - 0.5) for horizon in (1, 8)]).astype(np.float32)
                verification = verification.with_forecast(now, (1, 8), ahead + error, accepted.window)
                assert len(verification.pending) <= 40
    return verification, outcomes


@pytest.mark.parametrize("setting", [(0.4, 230.0), (0.1, 230.0), (0.08, 23.0), (0.37, 219.0)])
def test_a_forecast_is_held_against_the_reference_dose_that_it_aimed_at(setting):
    verification, outcomes = verified([(30, *setting)])
    assert max(o.rmse for o in outcomes) < 0.1 * SLOPE * REFERENCE.mean()
    by_horizon = {o.horizon: o.rmse_persistence for o in outcomes}
    assert by_horizon[8] == pytest.approx(8 * by_horizon[1], rel=0.1)
    steps = [o.horizon for o in outcomes]
    assert 15 <= steps.count(8) <= 2 * 15  # at most twice a reference dose, however short the frames
    assert verification.skill.matured == len(outcomes)


def test_a_forecast_comes_true_though_dwell_and_current_change_before(specimen):
    _, outcomes = verified([(12, 0.4, 230.0), (16, 0.08, 46.0), (24, 0.2, 230.0), (30, 0.8, 115.0)], error=100.0)
    assert [o.rmse for o in outcomes] == pytest.approx(
        [100.0] * len(outcomes), rel=0.2
    )  # an eighth of a step at a change
    assert {o.horizon for o in outcomes} == {1, 8}


def test_a_forecast_of_what_nobody_measured_is_forgotten(specimen):
    specimen.until(10)
    state, verification = specimen.state, Verification()
    position = state.session.window.position
    verification = verification.with_forecast(
        position, (1, 2, 3), np.zeros((3, AXIS.size), np.float32), counts_of(0)[None]
    )
    specimen.unseen(1.9)  # all of the first step, and nearly all of the second
    accepted = accepted_in(specimen.until(14.9))
    _, outcomes = verification.with_spectrum(accepted[0].past) if accepted else (None, ())
    assert [o.horizon for o in outcomes] == []


@pytest.mark.parametrize("dwell_s", [0.4, 0.04, 0.8, 0.2, 0.388, 0.3])
def test_the_noise_floor_is_the_least_error_that_a_forecast_can_have(dwell_s):
    """A perfect forecast's error is the noise of what came, which depends on how frames lie on the steps."""
    random = np.random.default_rng(4)
    state, verification, seq = on_dose(), Verification(), 0
    steps = dwell_s / DWELL_S
    while state.session.window.position < 60:
        counts = steps * REFERENCE + random.normal(size=AXIS.size) * np.sqrt(4.6 * steps * REFERENCE)
        state, [accepted] = after(state, (spectrum(seq, dwell_s=dwell_s), counts.astype(np.float32)))
        verification, _ = verification.with_spectrum(accepted.past)
        if accepted.window is not None:
            perfect = np.stack([REFERENCE] * 8)
            verification = verification.with_forecast(
                accepted.past.position, tuple(range(1, 9)), perfect, accepted.window
            )
        seq += 1
    assert verification.noise_floor == pytest.approx(verification.skill.rmse, rel=0.12)


def test_silence_is_counted_in_frames_and_not_in_doses(specimen):
    specimen.take(0.08, 23.0)
    assert tick(specimen.state, 900_000_000)[1] == []
    assert len(tick(specimen.state, 1_100_000_000)[1]) == 1


def test_the_state_before_stays_as_it_was(specimen):
    specimen.until(12, 0.1)
    before = specimen.state
    kept = before.session.window.counts()
    first = accepted_in(step(before, *_next(specimen))[1])[0]
    again = accepted_in(step(before, *_next(specimen))[1])[0]
    np.testing.assert_array_equal(first.window, again.window)
    np.testing.assert_array_equal(before.session.window.counts(), kept)


def _next(specimen: Specimen) -> tuple[Spectrum, np.ndarray, int]:
    return spectrum(specimen.seq, dwell_s=0.1), counts_of(specimen.seq) / 4, 0
