"""Presets load, differ as they say, and are refused in one sentence naming the key."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from acquisition_sim.presets import PRESETS, load_preset, preset_names
from eelstm_stream.errors import UsageError

SHIPPED = ["srtio3-300kV", "fast", "fragile", "stable", "recovering", "line-scan-camera"]


@pytest.fixture
def edited(tmp_path: Path):
    """The shipped file with one text replaced."""

    def edit(old: str, new: str) -> Path:
        text = PRESETS.read_text(encoding="utf-8")
        assert text.count(old) >= 1
        path = tmp_path / "presets.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return edit


def test_the_shipped_presets_are_there_and_whole():
    assert preset_names() == SHIPPED
    for name in SHIPPED:
        preset = load_preset(name)
        assert preset.description
        assert preset.energy_axis.size == 2048


def test_a_preset_that_is_like_another_differs_in_what_it_says_and_nothing_else():
    usual, fast = load_preset("srtio3-300kV"), load_preset("fast")
    assert fast.specimen.kinetics.critical_dose_pC == usual.specimen.kinetics.critical_dose_pC / 12
    assert fast.specimen.kinetics.jmak_exponent == usual.specimen.kinetics.jmak_exponent
    assert (fast.specimen.spectrum, fast.beam, fast.detector) == (usual.specimen.spectrum, usual.beam, usual.detector)


def test_never_is_written_as_infinity_where_that_makes_sense():
    assert load_preset("stable").specimen.kinetics.critical_dose_pC == math.inf


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("variance_over_mean = 4.6", "variance_over_mean = -4.6", "detector.variance_over_mean is -4.6"),
        ("read_noise_counts = 12.0", "read_noise_counts = nan", "detector.read_noise_counts is nan"),
        ("read_noise_counts = 12.0", "read_noise_counts = inf", "detector.read_noise_counts is inf"),
        ("critical_dose_pC = 7500.0", "critical_dose_pC = nan", "specimen.kinetics.critical_dose_pC is nan"),
        ("jmak_exponent = 1.9", 'jmak_exponent = "1.9"', "specimen.kinetics.jmak_exponent is '1.9'"),
        ("jmak_exponent = 1.9", "jmak_exponent = true", "specimen.kinetics.jmak_exponent is True"),
        ("jmak_exponent = 1.9", "jmak_exponnt = 1.9", "jmak_exponent is missing"),
        ("jitter_eV = 0.04", "jitter_eV = 0.04\njiter_eV = 1", "high_tension.jiter_eV is no key"),
        ("point_spread = [0.8, 0.1]", "point_spread = [0.8, 0.2]", "sum to 1.2"),
        ("point_spread = [0.8, 0.1]", "point_spread = [1.2, -0.1]", "detector.point_spread.0 is 1.2"),
        ("dispersion_eV = 0.1,", "dispersion_eV = 0.0,", "energy_axis.dispersion_eV is 0.0"),
        ("dispersion_eV = 0.1,", "dispersion_eV = 0.1, unit = 1,", "unit is no key of an energy axis"),
        ("offset_eV = 424.0,", "offset_eV = 10.0,", "energy_axis: must begin at 150 eV or above"),
        ("size = 2048", "size = 20000", "energy_axis: must have 16384 channels or fewer"),
        ("\ncurrent_pA = 230.0", "\ncurrent_pA = 600.0", "max_current_pA"),
        ("fwhm_eV = [1.83, 2.4]", "fwhm_eV = [1.83]", 'lines.Ti L3 t2g.fwhm_eV'),
        ("fwhm_eV = [1.83, 2.4]", "fwhm_eV = [0.0, 2.4]", 'lines.Ti L3 t2g.fwhm_eV.0 is 0.0'),
        ("jmak_exponent = 0.3 ", "jmak_exponent = 1.85 ", "limits of the variation, jmak_exponent would be 0.05, and it should"),
        ("thickness = 0.15 ", "thickness = 1.0 ", "variation.thickness is 1.0"),
        ("critical_dose_factor = 1.4 ", "critical_dose_factor = 0.5 ", "variation.critical_dose_factor is 0.5"),
        ("current = 0.045 ", "curent = 0.045 ", "variation.curent is no key"),
        ("max_current_pA = 500.0", "max_current_pA = 235.0", "limits of the variation, current_pA must lie between"),
        ("dwell_s = [0.08, 0.8]", "dwell_s = [0.001, 0.8]", "programme: the dwell ordered, 0.001 s, is below the limit"),
        ("frames = [10, 40]", "frames = [40, 10]", "programme: frames must be [lowest, highest], and it is [40, 10]"),
        ("[srtio3-300kV.high_tension]", "[srtio3-300kV.high_tensions]", "high_tension is missing"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_by_its_key(edited, old, new, says):
    with pytest.raises(UsageError) as refused:
        load_preset("srtio3-300kV", edited(old, new))
    sentence = str(refused.value)
    assert sentence.startswith("presets.toml: preset srtio3-300kV: ")
    assert says in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert refused.value.exit_code == 2


def test_what_a_preset_takes_over_is_checked_with_it(edited):
    with pytest.raises(UsageError, match=r"preset fast: detector.variance_over_mean is 0.0"):
        load_preset("fast", edited("variance_over_mean = 4.6", "variance_over_mean = 0.0"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('like = "srtio3-300kV"', 'like = "srtio4"', "there is no preset 'srtio4'; known are srtio3-300kV, fast"),
        ('like = "srtio3-300kV"', 'like = "fast"', "fast is like fast already"),
        ('like = "srtio3-300kV"', "like = 3", "there is no preset 3"),
    ],
)
def test_a_preset_must_be_like_one_that_exists_and_not_like_itself(edited, old, new, says):
    with pytest.raises(UsageError) as refused:
        load_preset("fast", edited(old, new))
    assert says in str(refused.value)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no preset 'srtio3'; known are srtio3-300kV, fast, fragile"):
        load_preset("srtio3")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"[fast\n", "is not TOML"), (b"\xff\xfe", "is not TOML"), (b"fast = 3\n", "'fast' must be a table, as [fast]")],
)
def test_a_file_that_is_none_is_refused(tmp_path, content, says):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        load_preset("fast", path)
    assert says in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        preset_names(tmp_path / "none.toml")
