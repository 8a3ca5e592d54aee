"""`eelstm serve` with the window on dose: what it says of its forecasts, and how it comes to be warm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.pipeline import Accepted, new_pipeline, step
from eelstm_stream.io.children import Child
from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.wire.codec import decode, encode_snapshot
from eelstm_stream.wire.messages import Forecast
from tests.model_files import WINDOW, write_model
from tests.programs import ANY_PORT, WITHIN_S, Ears, Instrument, Served, noisy_spectrum

CURRENT_PA = 230.0
KNOWN = {"dose_is_relative": False, "beam_current_pA": CURRENT_PA}
SHORT_S = 0.1  # a quarter of the model's reference dose


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx", of_history=False)


@pytest.fixture(scope="module")
def model(model_file: Path) -> Model:
    return open_model(model_file)


@pytest.fixture(scope="module")
def served(model_file: Path) -> Iterator[Served]:
    with Served(model_file) as served:
        yield served


def expose(instrument: Instrument, *seqs: int, dwell_s: float = SHORT_S, **changes: Any) -> None:
    """Frames of noisy counts as their dose gives them; each says what the specimen received before."""
    for seq in seqs:
        counts = (noisy_spectrum(seq) * dwell_s / 0.4).astype(np.float32)
        fields = {"dwell_s": dwell_s, "beam_current_pA": CURRENT_PA, "dose_before_pC": seq * dwell_s * CURRENT_PA}
        instrument.expose(seq, counts=counts, **(fields | changes))


def by_the_pipeline(instrument: Instrument, model: Model) -> dict[int, np.ndarray]:
    """from_seq to forecast `(horizon, channel)` of all that was sent in this session, through the pipeline alone."""
    state, _ = step(new_pipeline(model.metadata), instrument.start, None, 0)
    forecasts = {}
    for sent in instrument.sent.values():
        decoded = decode(sent)
        state, events = step(state, decoded.message, decoded.payload, 0)
        for event in events:
            if isinstance(event, Accepted) and event.window is not None:
                counts, _ = model.forecast(event.window[np.newaxis], event.history[np.newaxis])
                forecasts[event.spectrum.seq] = counts[0]
    return forecasts


def test_short_frames_are_forecast_by_dose(served: Served, model: Model) -> None:
    served.instrument.open(dwell_s=SHORT_S, **KNOWN)
    filling = served.ears.status(lambda s: s.state == "filling" and s.session == served.instrument.start.session)
    assert filling.needed == 4 * WINDOW
    expose(served.instrument, *range(4 * WINDOW + 4))
    heard = {}
    for seq in range(4 * WINDOW - 1, 4 * WINDOW + 4):
        decoded = served.ears.forecast(seq)
        assert isinstance(decoded.message, Forecast)
        heard[seq] = decoded
    expected = by_the_pipeline(served.instrument, model)
    assert list(expected) == list(heard)
    for seq, decoded in heard.items():
        np.testing.assert_allclose(decoded.payload, expected[seq], rtol=1e-5)
        header = decoded.message
        assert (header.window_domain, header.quality) == ("dose", ())
        acquired_at = decode(served.instrument.sent[seq]).message.acquired_at
        assert header.valid_at == (acquired_at + timedelta(seconds=0.1), acquired_at + timedelta(seconds=0.1 + 7 * 0.4))
    last = heard[4 * WINDOW + 3].message
    # What was said of the next reference dose at the first full window has come true four short frames later.
    assert [o.horizon for o in last.came_true] == [1]
    assert last.phase_now is not None


def test_dose_without_a_spectrum_empties_the_window_and_says_so(served: Served) -> None:
    start = served.instrument.open(**KNOWN)
    expose(served.instrument, *range(10), dwell_s=0.4)
    served.ears.forecast(9, start.session)
    expose(served.instrument, 10, dwell_s=0.4, dose_before_pC=13 * 92.0)
    status = served.ears.status(lambda s: s.state == "filling" and "too much dose without a spectrum" in s.text)
    assert status.needed == WINDOW
    assert status.counters.lost == 0


def test_a_forecaster_that_joins_short_frames_is_warm_at_once(model_file: Path, model: Model) -> None:
    instrument = Instrument()
    instrument.open(dwell_s=SHORT_S, **KNOWN)
    expose(instrument, *range(100))
    try:
        with (
            Child("serve", "--model", str(model_file), "--publish", ANY_PORT, *instrument.arguments) as forecaster,
            Ears(("forecast", "status"), forecaster.wait_until_ready()["publish"]) as ears,
        ):
            ears.status(lambda _: True)
            instrument.wait_for_reader()
            expose(instrument, 100)
            assert instrument.snapshots.poll(WITHIN_S * 1000)
            asker, *_ = instrument.snapshots.recv_multipart()
            newest = [instrument.sent[seq] for seq in range(20, 101)]
            instrument.snapshots.send_multipart([asker, *encode_snapshot([instrument.started, *newest])])
            heard = ears.until(lambda m: isinstance(m, Forecast))[-1].message
            assert isinstance(heard, Forecast)
            assert (heard.from_seq, heard.window_domain) == (100, "dose")  # and none of the past
    finally:
        instrument.close()


def test_frames_may_be_asked_for(model_file: Path) -> None:
    with Served(model_file, "--window-domain", "frame") as served:
        served.instrument.open(dwell_s=SHORT_S, **KNOWN)
        expose(served.instrument, *range(WINDOW))
        header = served.ears.forecast(WINDOW - 1).message
        assert isinstance(header, Forecast)
        assert header.window_domain == "frame"
        assert {flag.flag for flag in header.quality} >= {"dwell_differs_from_training", "dose_differs_from_training"}


def test_what_the_window_can_not_run_on_is_said_in_one_line(model_file: Path) -> None:
    with Child("serve", "--model", str(model_file), "--publish", ANY_PORT, "--window-domain", "time") as child:
        assert child.process.wait(WITHIN_S) == 2
        assert "window_domain" in child.last_words()
