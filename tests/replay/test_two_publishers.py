"""A forecaster that hears two instruments under one name says so, and goes on saying it until one of them has ended."""

from __future__ import annotations

from pathlib import Path

from tests.model_files import write_model
from tests.programs import Served


def test_two_sessions_at_once_raise_an_alarm_that_stays_and_one_that_follows_another_does_not(tmp_path: Path) -> None:
    with Served(write_model(tmp_path / "mean.onnx")) as served:
        instrument = served.instrument
        killed = instrument.open()  # and no end of it
        instrument.expose(0, 1)
        first = instrument.open()
        instrument.expose(0, 1)
        calm = served.ears.status(lambda status: status.session == first.session and status.counters.spectra == 2)
        assert calm.alarm is None

        second = instrument.open()
        instrument.expose(0, 1)
        instrument.start = first
        instrument.expose(2)
        alarmed = served.ears.status(lambda status: status.alarm is not None)
        assert first.session in alarmed.alarm
        assert second.session in alarmed.alarm
        assert killed.session not in alarmed.alarm

        instrument.start = second
        instrument.expose(2, 3, 4)
        until = served.ears.status(lambda status: status.sent_mono_ns > alarmed.sent_mono_ns + 2_000_000_000)
        assert until.alarm == alarmed.alarm  # though the other one is quiet
        instrument.end()
        served.ears.status(lambda status: status.alarm is None)
