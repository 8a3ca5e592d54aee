"""`eelstm serve`: a forecast for every spectrum once the window is full, whatever else happens on the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from eelstm_stream.core.dose import normalisation
from eelstm_stream.core.energy_axis import edges_eV
from eelstm_stream.core.pipeline import new_pipeline
from eelstm_stream.core.preparation import Preparation
from eelstm_stream.io.children import Child
from eelstm_stream.io.model_file import Model, open_model
from eelstm_stream.io.stopping import Stop
from eelstm_stream.models import SHIPPED_MODEL
from eelstm_stream.rig import Rig
from eelstm_stream.wire.codec import Decoded, decode, decode_snapshot_request, encode, encode_snapshot
from eelstm_stream.wire.messages import (
    MAX_SEQ,
    MAX_SNAPSHOT_SPECTRA,
    MAX_TEXT,
    Counters,
    EnergyAxis,
    Forecast,
    SessionEnd,
    SessionStart,
    Spectrum,
)
from tests.model_files import WINDOW, write_model
from tests.paper_layout import write_dm
from tests.programs import (
    ANY_PORT,
    CAMERA,
    NOWHERE,
    WITHIN_S,
    Ears,
    Instrument,
    Served,
    marked_environment,
    noisy_spectrum,
    wait_until_gone,
    watched,
)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx")


@pytest.fixture(scope="module")
def model(model_file: Path) -> Model:
    return open_model(model_file)


@pytest.fixture(scope="module")
def one_forecaster(model_file: Path) -> Iterator[Served]:
    with Served(model_file) as served:
        yield served


@pytest.fixture
def served(one_forecaster: Served) -> Served:
    """A forecaster for many tests: each opens a session of its own, which is a clean start."""
    assert one_forecaster.forecaster.is_running
    return one_forecaster


def by_hand(model: Model, start: SessionStart, spectra: list[Spectrum], counts: list[Any]) -> dict[int, np.ndarray]:
    """The model applied to a session's windows without the service: from_seq to `(horizon, channel)`."""
    meta = model.metadata
    prepare = Preparation(start.energy_axis, meta.energy_axis, new_pipeline(meta).alignment)
    prepared = []
    for spectrum, payload in zip(spectra, counts, strict=True):
        scale = normalisation(
            spectrum.dwell_s, spectrum.beam_current_pA, meta.reference_dwell_s, meta.reference_dose_pC
        )
        prepared.append(prepare(payload, scale).counts)
    forecasts = {}
    for last in range(meta.window - 1, len(prepared)):
        window = np.stack(prepared[last - meta.window + 1 : last + 1])
        history = np.mean(prepared[: last + 1], axis=0, dtype=np.float64).astype(np.float32)
        forecasts[spectra[last].seq] = model.forecast(window[np.newaxis], history[np.newaxis])[0][0]
    return forecasts


def check_every_forecast(file: Path, model: Model, *arguments: str) -> list[Forecast]:
    """Play a file through simulator and forecaster as fast as they go; every forecast must come, and be the model's own."""
    spectra: list[Decoded] = []
    forecasts: dict[int, Decoded] = {}
    source = ("replay", str(file), "--speed", "max", *arguments)
    with Stop() as stop, Rig(source, stop=stop, kinds=("forecast",), model=model.path) as rig:
        while not rig.is_over:
            for decoded in rig.hear(50):
                if isinstance(decoded.message, Spectrum):
                    spectra.append(decoded)
                elif isinstance(decoded.message, Forecast):
                    forecasts[decoded.message.from_seq] = decoded
            rig.check()
        assert (rig.tally.missed, rig.malformed, len(rig.tally.sessions)) == (0, 0, 1)
        start = rig.tally.start
    assert start is not None
    headers = [decoded.message for decoded in spectra if isinstance(decoded.message, Spectrum)]
    expected = by_hand(model, start, headers, [decoded.payload for decoded in spectra])
    assert list(forecasts) == list(range(model.metadata.window - 1, len(spectra)))
    for from_seq, decoded in forecasts.items():
        np.testing.assert_allclose(decoded.payload, expected[from_seq], rtol=1e-4)
    return [decoded.message for decoded in forecasts.values() if isinstance(decoded.message, Forecast)]


# Every spectrum gets its forecast


@pytest.mark.parametrize("number", range(3))
def test_every_spectrum_of_the_papers_recordings_gets_the_models_forecast(
    paper_recordings: list[Path], model: Model, number: int
) -> None:
    headers = check_every_forecast(paper_recordings[number], model)
    for header in headers:
        assert (header.horizons, header.window, header.model_name) == ((1, 8), WINDOW, "mean-of-window")
        assert (header.model_sha256, header.energy_axis) == (model.sha256, model.metadata.energy_axis)
        assert (header.simulated, header.trained_on) == (False, model.metadata.trained_on)
        assert [round((t - header.valid_at[0]).total_seconds(), 6) for t in header.valid_at] == [0, 2.8]
        assert {flag.flag for flag in header.quality} == {"dose_is_relative"}
    came_true = [outcome for header in headers for outcome in header.came_true]
    assert len(came_true) == (len(headers) - 1) + (len(headers) - 8)
    skill = headers[-1].skill
    assert skill is not None
    assert skill.matured == len(came_true)
    assert skill.rmse == pytest.approx(float(np.sqrt(np.mean([o.rmse**2 for o in came_true]))))


def test_the_shipped_model_is_served_as_it_is(paper_recordings: list[Path]) -> None:
    shipped = open_model(SHIPPED_MODEL)
    headers = check_every_forecast(paper_recordings[0], shipped)
    assert all(header.simulated is False for header in headers)
    assert "simulat" in headers[0].trained_on


@pytest.mark.real
def test_every_spectrum_of_a_real_line_scan_gets_its_forecast(real_data: Path, model: Model) -> None:
    headers = check_every_forecast(real_data / "linescan_100x2048_high-loss.dm3", model)
    assert len(headers) == 93
    assert {"resampled", "dwell_differs_from_training"} <= {flag.flag for flag in headers[-1].quality}


def test_none_is_missed_where_many_short_sessions_follow_each_other(tmp_path: Path, model_file: Path) -> None:
    write_dm(tmp_path / "short.dm4", frames=12)
    source = ("replay", str(tmp_path / "short.dm4"), "--speed", "max", "--loop", "--spectra", "360")
    with Stop() as stop, Rig(source, stop=stop, kinds=("summary",), model=model_file) as rig:
        while not rig.is_over:
            for _ in rig.hear(50):
                pass
            rig.check()
        assert (rig.tally.spectra, rig.tally.forecasts, rig.tally.missed) == (360, 30 * 5, 0)


# Statuses


def test_the_status_counts_down_how_many_spectra_the_window_needs(served: Served) -> None:
    start = served.instrument.open()
    needed = [served.ears.status(lambda s: s.session == start.session).needed]
    for seq in range(WINDOW):
        served.instrument.expose(seq)
        status = served.ears.status(lambda s: s.needed != needed[-1])
        needed.append(status.needed)
    assert needed == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert (status.state, status.counters.spectra, status.counters.forecasts) == ("forecasting", 8, 1)
    assert (status.model_name, status.window, status.sender) == ("mean-of-window", WINDOW, "forecaster")
    served.instrument.end()
    status = served.ears.status(lambda s: s.state == "waiting")
    assert status.session == start.session
    assert "finished after 8 spectra" in status.text


def test_a_session_on_an_axis_that_does_not_cover_the_models_is_refused_by_name(served: Served, model: Model) -> None:
    start = served.instrument.open(EnergyAxis(offset_eV=440.0, dispersion_eV=0.1, size=2048), source_name="late.dm4")
    status = served.ears.status(lambda s: s.state == "refused")
    assert status.session == start.session
    for part in ("late.dm4", "440.0 to 644.7 eV", "435.0 to 624.9 eV at 0.1 eV"):
        assert part in status.text
    served.instrument.expose(*range(10))
    status = served.ears.status(lambda s: s.counters.refused == 10)
    assert (status.state, status.counters.forecasts) == ("refused", 0)
    check_a_session(served, model)  # and the daemon goes on to the next


def check_a_session(served: Served, model: Model, spectra: int = 10, **changes: Any) -> None:
    """A session from its start on, forecast as the model by hand does it."""
    start = served.instrument.open(**changes)
    served.instrument.expose(*range(spectra))
    expected = sent_by_hand(served, model)
    for from_seq in range(model.metadata.window - 1, spectra):
        heard = served.ears.forecast(from_seq, start.session)
        np.testing.assert_allclose(heard.payload, expected[from_seq], rtol=1e-4)


def sent_by_hand(served: Served, model: Model, *without: int) -> dict[int, np.ndarray]:
    """What the model says by hand on what the instrument has sent in its session, without some."""
    start, sent = served.instrument.start, served.instrument.sent
    assert start is not None
    decoded = [decode(frames) for seq, frames in sorted(sent.items()) if seq not in without]
    return by_hand(model, start, [d.message for d in decoded], [d.payload for d in decoded])  # type: ignore[misc]


def ended(served: Served) -> Counters:
    """What the forecaster has counted in the session that the instrument ends now."""
    served.instrument.end()
    start = served.instrument.start
    assert start is not None
    return served.ears.status(lambda s: s.state == "waiting" and s.session == start.session).counters


def test_a_silent_instrument_is_said_to_be_and_heard_again(served: Served) -> None:
    start = served.instrument.open(dwell_s=0.05)
    served.instrument.expose(*range(8), dwell_s=0.05)
    status = served.ears.status(lambda s: s.state == "silent")
    assert status.session == start.session
    served.instrument.expose(8, dwell_s=0.05)
    served.ears.forecast(8, start.session)
    assert served.ears.status(lambda s: s.state == "forecasting").counters.spectra == 9


# What the model wants, and what the camera gives


def test_another_axis_that_covers_the_models_is_resampled_and_its_counts_conserved(
    served: Served, model: Model
) -> None:
    axis = EnergyAxis(offset_eV=400.0, dispersion_eV=0.25, size=2048)
    start = served.instrument.open(axis)
    counts = [noisy_spectrum(seq, axis) * 2.5 for seq in range(WINDOW)]
    for seq in range(WINDOW):
        served.instrument.expose(seq, counts=counts[seq].astype(np.float32))
    heard = served.ears.forecast(WINDOW - 1, start.session)
    assert isinstance(heard.message, Forecast)
    assert "resampled" in {flag.flag for flag in heard.message.quality}
    low_eV, high_eV = edges_eV(model.metadata.energy_axis)[[0, -1]]
    cumulative = np.concatenate([[0.0], np.cumsum(np.mean(counts, axis=0, dtype=np.float64))])
    expected = np.diff(np.interp([low_eV, high_eV], edges_eV(axis), cumulative))[0]
    assert heard.payload is not None
    for horizon in heard.payload:  # the mean of the window; aligning may have moved some counts over either end
        assert horizon.sum(dtype=np.float64) == pytest.approx(expected, rel=1e-3)
    np.testing.assert_allclose(heard.payload, sent_by_hand(served, model)[WINDOW - 1], rtol=1e-4)


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<f4"])
def test_counts_of_every_type_on_the_wire_give_the_same_forecast(served: Served, model: Model, dtype: str) -> None:
    start = served.instrument.open()
    for seq in range(WINDOW):
        served.instrument.expose(seq, counts=noisy_spectrum(seq).astype(dtype))
    heard = served.ears.forecast(WINDOW - 1, start.session)
    whole = [np.floor(noisy_spectrum(seq)) if dtype != "<f4" else noisy_spectrum(seq) for seq in range(WINDOW)]
    headers = [decode(frames).message for frames in served.instrument.sent.values()]
    expected = by_hand(model, start, headers, whole)[WINDOW - 1]  # type: ignore[arg-type]
    np.testing.assert_allclose(heard.payload, expected, rtol=1e-4)


def test_a_frame_of_half_the_dwell_counts_twice(served: Served) -> None:
    start = served.instrument.open()
    for seq in range(WINDOW):
        served.instrument.expose(seq, counts=noisy_spectrum(seq) / 2, dwell_s=0.2)
    heard = served.ears.forecast(WINDOW - 1, start.session)
    assert heard.payload is not None
    assert heard.payload.mean() == pytest.approx(noisy_spectrum(0)[110:2010].mean(), rel=0.01)
    assert isinstance(heard.message, Forecast)
    assert "dwell_differs_from_training" in {flag.flag for flag in heard.message.quality}


# What a stranger may send, and the rules of the window


def test_a_spectrum_sent_twice_is_counted_and_ignored(served: Served, model: Model) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(9))
    served.instrument.out.send_multipart(served.instrument.sent[8])
    served.instrument.expose(9)
    np.testing.assert_allclose(
        served.ears.forecast(9, start.session).payload, sent_by_hand(served, model)[9], rtol=1e-4
    )
    counters = ended(served)
    assert (counters.spectra, counters.duplicate, counters.late, counters.lost) == (10, 1, 0, 0)


def test_a_spectrum_that_comes_late_is_dropped_and_counted(served: Served) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(9), 10)
    late = served.instrument.frames(9)
    served.instrument.out.send_multipart(late)
    served.instrument.expose(11)
    served.ears.forecast(11, start.session)
    counters = ended(served)
    assert (counters.spectra, counters.late, counters.lost) == (11, 1, 1)


@pytest.mark.parametrize("said", [False, True])
def test_a_short_gap_stays_in_the_window_and_is_flagged_until_it_has_passed(
    served: Served, model: Model, said: bool
) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(8))
    if said:
        served.instrument.lose(8, 9)
    served.instrument.expose(*range(10, 18))
    flagged = []
    for from_seq in range(10, 18):
        heard = served.ears.forecast(from_seq, start.session)
        assert isinstance(heard.message, Forecast)
        flagged.append("gap_in_window" in {flag.flag for flag in heard.message.quality})
    assert flagged == [True] * 7 + [False]
    np.testing.assert_allclose(heard.payload, sent_by_hand(served, model)[17], rtol=1e-4)


@pytest.mark.parametrize("said", [False, True])
def test_a_long_gap_empties_the_window(served: Served, model: Model, said: bool) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(8))
    served.ears.forecast(7, start.session)
    if said:
        served.instrument.lose(8, 10)
    served.instrument.expose(*range(11, 19))
    status = served.ears.status(lambda s: s.needed == WINDOW)
    assert "spectra 8 to 10 lost" in status.text
    forecasts = [d for d in served.ears.until(lambda m: isinstance(m, Forecast)) if isinstance(d.message, Forecast)]
    assert [d.message.seq for d in forecasts if isinstance(d.message, Forecast)]
    assert [getattr(d.message, "from_seq", None) for d in forecasts] == [18]
    np.testing.assert_allclose(forecasts[0].payload, sent_by_hand(served, model)[18], rtol=1e-4)


NOT_A_NUMBER = np.where(np.arange(CAMERA.size) == 99, np.nan, 1e4).astype("<f4")
INFINITE = np.where(np.arange(CAMERA.size) == 99, np.inf, 1e4).astype("<f4")
NEGATIVE = np.where(np.arange(CAMERA.size) == 99, -1.0, 1e4).astype("<f4")
ABSURD = np.full(CAMERA.size, 3e38, "<f4")


def corrupted(served: Served, kind: str) -> list[bytes]:
    """A spectrum of number 8 with something wrong in it, made from a good one where the codec would not make it."""
    topic, header, payload = served.instrument.frames(8)
    fields = json.loads(header)
    swapped = {"not a number": NOT_A_NUMBER, "infinite": INFINITE, "negative": NEGATIVE, "absurd": ABSURD}
    return {
        **{name: [topic, header, counts.tobytes()] for name, counts in swapped.items()},
        "truncated payload": [topic, header, payload[:-1]],
        "no payload": [topic, header, b""],
        "truncated header": [topic, header[:-20], payload],
        "no header": [topic, b"", payload],
        "topic alone": [topic],
        "a frame too many": [topic, header, payload, b"more"],
        "another version": [topic, json.dumps(fields | {"schema": "eelstm.spectrum/2"}).encode(), payload],
        "another kind": [topic, json.dumps(fields | {"schema": "eelstm.forecast/1"}).encode(), payload],
        "number too large": [topic, json.dumps(fields | {"seq": 2**60}).encode(), payload],
        "a negative number": [topic, json.dumps(fields | {"seq": -1}).encode(), payload],
        "a dwell that is not a number": [topic, header.replace(b'"dwell_s":0.4', b'"dwell_s":NaN'), payload],
        "a dwell of nothing": [topic, json.dumps(fields | {"dwell_s": 0}).encode(), payload],
        "a header of megabytes": [topic, json.dumps(fields | {"x": "y" * 3_000_000}).encode(), payload],
        "nested without end": [topic, b"[" * 60_000, payload],
        "pickle": [topic, b"\x80\x04\x95cos\nsystem\n(S'touch /tmp/pwned'\ntR.", payload],
        "too few channels": served.instrument.frames(8, noisy_spectrum(8)[:-1]),
        "one channel": served.instrument.frames(8, noisy_spectrum(8)[:1]),
        "no counts": served.instrument.frames(8, np.zeros(CAMERA.size, "<f4")),
        "saturated": served.instrument.frames(8, np.full(CAMERA.size, 65_535, "<u2")),
        "frozen": served.instrument.frames(8, noisy_spectrum(7)),
    }[kind]


REFUSED = ("negative", "absurd", "too few channels", "one channel")  # decoded, and against the contract
INVALID = ("no counts", "saturated", "frozen")  # within the contract, and no measurement
MALFORMED = (
    *("not a number", "infinite", "truncated payload", "no payload", "truncated header", "no header", "topic alone"),
    *("a frame too many", "another version", "another kind", "number too large", "a negative number"),
    *("a dwell that is not a number", "a dwell of nothing", "a header of megabytes", "nested without end", "pickle"),
)


@pytest.mark.parametrize("kind", [*REFUSED, *INVALID, *MALFORMED])
def test_a_bad_spectrum_is_counted_and_no_forecast_comes_from_it(served: Served, model: Model, kind: str) -> None:
    start = served.instrument.open()
    before = served.ears.status(lambda s: s.session == start.session).counters.malformed
    served.instrument.expose(*range(8))
    served.instrument.out.send_multipart(corrupted(served, kind))
    served.instrument.expose(9)
    heard = served.ears.until(lambda m: isinstance(m, Forecast) and m.session == start.session and m.from_seq == 9)
    assert [m.from_seq for d in heard if isinstance(m := d.message, Forecast) and m.session == start.session] == [7, 9]
    np.testing.assert_allclose(heard[-1].payload, sent_by_hand(served, model)[9], rtol=1e-4)
    counters = ended(served)
    counted = (counters.refused, counters.invalid, counters.malformed - before)
    assert counted == (kind in REFUSED, kind in INVALID, kind in MALFORMED)
    assert (counters.spectra, counters.forecasts, counters.lost) == (9, 2, kind not in INVALID)


def test_after_a_bad_copy_the_good_one_still_enters_the_window(served: Served, model: Model) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(8))
    for kind in ("negative", "truncated payload", "too few channels", "not a number"):
        served.instrument.out.send_multipart(corrupted(served, kind))
    served.instrument.expose(8)
    np.testing.assert_allclose(
        served.ears.forecast(8, start.session).payload, sent_by_hand(served, model)[8], rtol=1e-4
    )


def test_random_bytes_on_its_topics_leave_it_unmoved(served: Served, model: Model) -> None:
    random = np.random.default_rng(5)
    start = served.instrument.open()
    served.instrument.expose(*range(4))
    before = served.ears.status(lambda s: s.session == start.session).counters.malformed
    for number in range(300):
        kind = (b"microscope.spectrum.", b"microscope.session.", b"microscope.spectrum.extra")[number % 3]
        frames = [random.bytes(int(random.integers(0, 300))) for _ in range(int(random.integers(0, 5)))]
        served.instrument.out.send_multipart([kind, *frames])
    served.instrument.expose(*range(4, 9))
    np.testing.assert_allclose(
        served.ears.forecast(8, start.session).payload, sent_by_hand(served, model)[8], rtol=1e-4
    )
    counters = ended(served)
    assert (counters.malformed, counters.refused, counters.lost) == (before + 300, 0, 0)


def test_a_strangers_spectra_of_another_session_do_not_enter_the_window(served: Served, model: Model) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(8))
    for seq in range(8):
        served.instrument.out.send_multipart(served.instrument.frames(seq, session="stranger"))
    served.instrument.expose(8)
    np.testing.assert_allclose(
        served.ears.forecast(8, start.session).payload, sent_by_hand(served, model)[8], rtol=1e-4
    )
    counters = ended(served)
    assert (counters.refused, counters.spectra) == (8, 9)


def raw_subscriber(port: int) -> socket.socket:
    """A subscriber of the forecaster that speaks ZMTP 3.0 by hand, so that it can say what libzmq would not."""
    connection = socket.create_connection(("127.0.0.1", port), WITHIN_S)
    connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    greeting = b""
    while len(greeting) < 64:
        greeting += connection.recv(64 - len(greeting))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"SUB"
    connection.sendall(bytes([4, len(ready)]) + ready)
    assert connection.recv(2)[0] == 4  # its READY: it has taken this one for a subscriber
    return connection


def test_a_strangers_end_of_a_subscription_takes_forecasts_from_nobody(model_file: Path, model: Model) -> None:
    with Served(model_file) as served, raw_subscriber(int(served.endpoint.rsplit(":", 1)[1])) as stranger:
        for prefix in (b"microscope.forecast.", b"", b"\xff" * 50):
            notice = b"\0" + prefix
            stranger.sendall(bytes([0, len(notice)]) + notice)
        check_a_session(served, model)


def test_bytes_that_are_no_zeromq_at_all_harm_no_port(served: Served, model: Model) -> None:
    random = np.random.default_rng(6)
    port = int(served.endpoint.rsplit(":", 1)[1])
    for content in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", random.bytes(5000), b"\xff" + bytes(63), b""):
        with socket.create_connection(("127.0.0.1", port), WITHIN_S) as connection:
            connection.sendall(content)
    check_a_session(served, model)


# Restarts


def test_a_forecaster_that_joins_in_mid_session_is_warm_at_once(model_file: Path, model: Model) -> None:
    instrument = Instrument()
    instrument.open()
    instrument.expose(*range(30))
    try:
        with (
            Child("serve", "--model", str(model_file), "--publish", ANY_PORT, *instrument.arguments) as forecaster,
            Ears(("forecast", "status"), forecaster.wait_until_ready()["publish"]) as ears,
        ):
            ears.status(lambda _: True)
            instrument.wait_for_reader()
            instrument.expose(30)  # of a session whose start it has not heard: it asks
            assert instrument.snapshots.poll(WITHIN_S * 1000)
            asker, *request = instrument.snapshots.recv_multipart()
            # Short frames need more than WINDOW.
            assert decode_snapshot_request(request).spectra == MAX_SNAPSHOT_SPECTRA
            newest = [instrument.sent[seq] for seq in range(31)]  # of which it takes no more than it needs
            instrument.snapshots.send_multipart([asker, *encode_snapshot([instrument.started, *newest])])
            heard = ears.until(lambda m: isinstance(m, Forecast))[-1]
            assert isinstance(heard.message, Forecast)
            assert heard.message.from_seq == 30
            np.testing.assert_allclose(heard.payload, last_window_by_hand(instrument, model), rtol=1e-4)
            instrument.expose(31)
            np.testing.assert_allclose(ears.forecast(31).payload, last_window_by_hand(instrument, model), rtol=1e-4)
    finally:
        instrument.close()


def last_window_by_hand(instrument: Instrument, model: Model) -> np.ndarray:
    decoded = [decode(instrument.sent[seq]) for seq in sorted(instrument.sent)[-WINDOW:]]
    assert instrument.start is not None
    spectra = [d.message for d in decoded if isinstance(d.message, Spectrum)]
    [forecast] = by_hand(model, instrument.start, spectra, [d.payload for d in decoded]).values()
    return forecast


@pytest.mark.parametrize(
    "answer",
    [
        [b""],
        [b"garbage"],
        [b'{"schema":"eelstm.snapshot_reply/1","messages":5}'],
        [b'{"schema":"eelstm.snapshot_reply/1","messages":1}', b"a", b"b", b"c"],
        [b'{"schema":"eelstm.snapshot_reply/1","messages":0,"refused":"no"}'],
        [b'{"schema":"eelstm.snapshot_reply/9","messages":0}'],
    ],
)
def test_a_bad_answer_to_a_late_joiner_is_counted_and_the_next_session_served(
    served: Served, model: Model, answer: list[bytes]
) -> None:
    while served.instrument.snapshots.poll(0):  # what earlier tests left unanswered
        served.instrument.snapshots.recv_multipart()
    served.instrument.open()
    before = ended(served).malformed
    while not served.instrument.snapshots.poll(500):  # it asks once a second at most
        served.instrument.out.send_multipart(served.instrument.frames(0, session="unknown"))
    asker, *_ = served.instrument.snapshots.recv_multipart()
    served.instrument.snapshots.send_multipart([asker, *answer])
    assert served.ears.status(lambda s: s.counters.malformed > before).counters.malformed == before + 1
    check_a_session(served, model)


def test_killed_in_mid_session_and_started_again_it_goes_on_with_the_same_session(
    paper_recordings: list[Path], model_file: Path
) -> None:
    source = ("sim", "replay", str(paper_recordings[1]), "--speed", "20", "--loop", "--wait-readers", "1")
    with Child(*source, "--publish", ANY_PORT, "--snapshot", ANY_PORT) as simulator:
        at = simulator.wait_until_ready()
        serve = ("serve", "--model", str(model_file), "--spectra", at["publish"], "--snapshot", at["snapshot"])
        with Child(*serve, "--publish", ANY_PORT) as first:
            endpoint = first.wait_until_ready()["publish"]
            with Ears(("forecast",), endpoint) as ears:
                heard = ears.until(lambda m: isinstance(m, Forecast))[-1].message
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(WITHIN_S)
        with Child(*serve, "--publish", endpoint) as second:  # on the port that the first one left
            assert second.wait_until_ready()["publish"] == endpoint
            with Ears(("forecast",), endpoint) as ears:
                again = ears.until(lambda m: isinstance(m, Forecast) and m.skill is not None)[-1].message
        assert isinstance(heard, Forecast)
        assert isinstance(again, Forecast)
        assert again.session != heard.session or again.from_seq > heard.from_seq


def test_an_instrument_that_is_killed_and_started_again_begins_a_clean_session(
    paper_recordings: list[Path], model_file: Path, model: Model
) -> None:
    source = ("sim", "replay", str(paper_recordings[2]), "--wait-readers", "2", "--speed", "20")
    with Child(*source, "--publish", ANY_PORT, "--snapshot", ANY_PORT) as first:
        at = first.wait_until_ready()
        places = ("--publish", at["publish"], "--snapshot", at["snapshot"])
        serve = ("serve", "--model", str(model_file), "--spectra", at["publish"], "--snapshot", at["snapshot"])
        with (
            Child(*serve, "--publish", ANY_PORT) as forecaster,
            Ears(("forecast", "session", "spectrum"), forecaster.wait_until_ready()["publish"], at["publish"]) as ears,
        ):
            old = ears.until(lambda m: isinstance(m, Forecast) and m.from_seq == 12)[-1].message
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(WITHIN_S)
            with Child(*source, *places) as second:
                assert second.wait_until_ready()["publish"] == at["publish"]
                heard = ears.until(lambda m: isinstance(m, SessionStart) and m.session != old.session)
                start = heard[-1].message
                heard += ears.until(lambda m: isinstance(m, Forecast) and m.session == start.session)
    new = [decoded for decoded in heard if decoded.message.session == start.session]
    assert isinstance(start, SessionStart)
    forecast = new[-1]
    assert isinstance(forecast.message, Forecast)
    assert forecast.message.from_seq == WINDOW - 1  # of the new session's own spectra, from its first on
    spectra = [decoded for decoded in new if isinstance(decoded.message, Spectrum)][:WINDOW]
    expected = by_hand(model, start, [d.message for d in spectra], [d.payload for d in spectra])  # type: ignore[misc]
    np.testing.assert_allclose(forecast.payload, expected[WINDOW - 1], rtol=1e-4)


# Ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_says_so_and_exits_with_0(model_file: Path, number: signal.Signals) -> None:
    arguments = ("--publish", ANY_PORT, "--spectra", NOWHERE, "--snapshot", NOWHERE)
    with (
        Child("serve", "--model", str(model_file), *arguments) as forecaster,
        Ears(("status",), forecaster.wait_until_ready()["publish"]) as ears,
    ):
        assert ears.status(lambda _: True).state == "waiting"
        forecaster.process.send_signal(number)
        assert ears.status(lambda s: s.state != "waiting").state == "ended"
        assert forecaster.process.wait(WITHIN_S) == 0
        assert forecaster.process.stdout is not None
        assert forecaster.process.stdout.read() == b""  # one JSON object on stdout, and nothing else


def test_it_dies_with_the_program_that_started_it(model_file: Path) -> None:
    parent = (
        "import sys; from eelstm_stream.io.children import Child\n"
        "child = Child(*sys.argv[1:])\n"
        "child.wait_until_ready(); print(child.process.pid, flush=True); sys.stdin.read()"
    )
    arguments = ("serve", "--model", str(model_file), "--publish", ANY_PORT, "--spectra", NOWHERE)
    with subprocess.Popen(
        [sys.executable, "-c", parent, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=marked_environment("parent"),
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with watched([child]) as descriptors:
            os.kill(process.pid, signal.SIGKILL)
            wait_until_gone(descriptors)


def test_a_queue_that_nobody_reads_does_not_hold_it_up(served: Served, model: Model) -> None:
    """A subscriber that never reads loses forecasts; the others lose none."""
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.setsockopt(zmq.SUBSCRIBE, b"microscope.")
        deaf.connect(served.endpoint)
        assert deaf.poll(WITHIN_S * 1000)  # it is connected: a status has come
        check_a_session(served, model, spectra=40)


def test_the_end_of_a_session_empties_the_window(served: Served) -> None:
    served.instrument.open()
    served.instrument.expose(*range(9))
    served.instrument.end()
    start = served.instrument.open()
    served.instrument.expose(*range(7))
    status = served.ears.status(lambda s: s.session == start.session and s.needed == 1)
    assert (status.state, status.counters.forecasts) == ("filling", 0)


def test_what_comes_after_the_end_of_its_session_is_late(served: Served) -> None:
    start = served.instrument.open()
    served.instrument.expose(*range(8))
    frames = served.instrument.frames(8)
    served.instrument.end()
    served.instrument.out.send_multipart(frames)
    served.ears.status(lambda s: s.session == start.session and s.state == "waiting" and s.counters.late == 1)


def test_statuses_come_while_nothing_happens(served: Served) -> None:
    first, second = (served.ears.status(lambda _: True).seq for _ in range(2))
    assert second == first + 1


# Messages at the ends of what the wire allows


def test_texts_and_numbers_at_their_limits_do_not_end_it(served: Served, model: Model) -> None:
    """What it says of them quotes them, and a status has limits of its own."""
    longest = "x" * MAX_TEXT
    served.instrument.open(EnergyAxis(offset_eV=440.0, dispersion_eV=0.1, size=2048), source_name=longest)
    served.ears.status(lambda s: s.state == "refused" and s.text.startswith("xxx"))
    start = served.instrument.open(source_name=longest, specimen=longest)
    served.instrument.lose(0, MAX_SEQ)
    served.ears.status(lambda s: s.session == start.session and s.counters.lost == MAX_SEQ)
    end = SessionEnd(session=start.session, seq=9, sent_mono_ns=0, reason="failed", text=longest, spectra=0)
    served.instrument.out.send_multipart(encode("microscope", end))
    served.ears.status(lambda s: s.session == start.session and s.state == "waiting" and "failed" in s.text)
    check_a_session(served, model)
