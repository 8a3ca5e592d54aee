"""The Python client: forecasts in a loop, from a forecaster that may come, go and come back."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import zmq

from eelstm_stream.client import ForecastClient, ReceivedForecast
from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.errors import UsageError
from eelstm_stream.io.children import Child
from tests.model_files import AXIS, WINDOW, write_model
from tests.programs import ANY_PORT, NOWHERE, WITHIN_S, Ears, Instrument, Served


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mean.onnx")


@pytest.fixture(scope="module")
def served(model_file: Path) -> Iterator[Served]:
    """A forecaster with a full window."""
    with Served(model_file) as served:
        served.instrument.open()
        served.instrument.expose(*range(WINDOW))
        served.ears.forecast(WINDOW - 1)
        yield served


def expose_until_heard(instrument: Instrument, client: ForecastClient) -> ReceivedForecast:
    """A client is connected when a forecast has reached it, and before that nobody knows: so one spectrum after the other."""
    while True:
        instrument.expose(max(instrument.sent) + 1)
        try:
            return client.receive(timeout_s=0.2)
        except TimeoutError:
            continue


@pytest.fixture
def client(served: Served) -> Iterator[ForecastClient]:
    """A client that has heard its first forecast, and the last one under way."""
    with ForecastClient(served.endpoint, timeout_s=WITHIN_S) as client:
        heard = expose_until_heard(served.instrument, client)
        while heard.header.from_seq < max(served.instrument.sent):
            heard = client.receive(WITHIN_S)
        yield client


def test_a_loop_over_it_hears_every_forecast(served: Served, client: ForecastClient) -> None:
    first = max(served.instrument.sent) + 1
    served.instrument.expose(*range(first, first + 20))
    heard = list(islice(client, 20))
    assert [forecast.header.from_seq for forecast in heard] == list(range(first, first + 20))
    assert (client.missed, client.malformed) == (0, 0)
    for forecast in heard:
        assert forecast.counts.shape == (2, AXIS.size)
        assert forecast.counts.dtype == np.float32
        assert not forecast.counts.flags.writeable
        np.testing.assert_array_equal(forecast.energies_eV, energies_eV(AXIS))
        assert forecast.latency_s is not None
        assert forecast.latency_s > 0


def test_an_asynchronous_loop_hears_every_forecast(served: Served) -> None:
    async def hear() -> list[int]:
        heard: list[int] = []
        async with ForecastClient(served.endpoint, timeout_s=0.2) as client:
            forecasts = aiter(client)
            while not heard:
                served.instrument.expose(max(served.instrument.sent) + 1)
                try:
                    heard.append((await anext(forecasts)).header.from_seq)
                except TimeoutError:
                    continue
            client.timeout_s = WITHIN_S
            last = max(served.instrument.sent) + 10
            served.instrument.expose(*range(last - 9, last + 1))
            async for forecast in client:
                heard.append(forecast.header.from_seq)
                if heard[-1] == last:
                    break
            assert (client.missed, client.malformed) == (0, 0)
        return heard

    heard = asyncio.run(hear())
    assert heard == list(range(heard[0], heard[0] + len(heard)))
    assert len(heard) >= 11


def test_asyncio_goes_on_while_it_waits() -> None:
    async def wait_beside_another() -> list[str]:
        order: list[str] = []

        async def wait() -> None:
            async with ForecastClient(NOWHERE) as client:
                with pytest.raises(TimeoutError):
                    await client.receive_async(timeout_s=0.2)
            order.append("waited")

        async def work() -> None:
            order.append("worked")

        await asyncio.gather(wait(), work())
        return order

    assert asyncio.run(wait_beside_another()) == ["worked", "waited"]


def test_a_wait_may_be_cancelled_and_the_client_used_again(served: Served) -> None:
    async def cancel_and_hear() -> int:
        async with ForecastClient(served.endpoint) as client:
            waiting = asyncio.create_task(client.receive_async())
            while client._async_socket is None:  # it has begun
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while True:
                served.instrument.expose(max(served.instrument.sent) + 1)
                try:
                    return (await client.receive_async(timeout_s=0.2)).header.from_seq
                except TimeoutError:
                    continue

    assert asyncio.run(cancel_and_hear()) <= max(served.instrument.sent)


def test_where_none_comes_it_says_from_where_and_how_long_it_waited() -> None:
    with ForecastClient(NOWHERE) as client, pytest.raises(TimeoutError, match=rf"{NOWHERE} within 0.05 s"):
        client.receive(timeout_s=0.05)


def test_after_a_timeout_the_same_iterator_goes_on(served: Served) -> None:
    with ForecastClient(served.endpoint, timeout_s=0.2) as client:
        forecasts = iter(client)
        with pytest.raises(TimeoutError):
            next(forecasts)
        expose_until_heard(served.instrument, client)
        served.instrument.expose(max(served.instrument.sent) + 1)
        client.timeout_s = WITHIN_S
        assert next(forecasts).header.from_seq <= max(served.instrument.sent)


def test_it_goes_on_when_the_forecaster_is_killed_and_comes_back(model_file: Path) -> None:
    instrument = Instrument()
    serve = ("serve", "--model", str(model_file), *instrument.arguments)
    try:
        with Child(*serve, "--publish", ANY_PORT) as first:
            endpoint = first.wait_until_ready()["publish"]
            with ForecastClient(endpoint) as client:
                instrument.wait_for_reader()
                before = instrument.open()
                instrument.expose(*range(WINDOW))
                heard = expose_until_heard(instrument, client)
                assert heard.header.session == before.session
                while heard.header.from_seq < max(instrument.sent):
                    heard = client.receive(WITHIN_S)
                first.process.send_signal(signal.SIGKILL)
                first.process.wait(WITHIN_S)
                with Child(*serve, "--publish", endpoint) as second:
                    second.wait_until_ready()
                    instrument.wait_for_reader()
                    after = instrument.open()
                    instrument.expose(*range(WINDOW))
                    heard = expose_until_heard(instrument, client)
                    assert heard.header.session == after.session
                    assert client.malformed == 0
    finally:
        instrument.close()


@pytest.fixture
def captured(served: Served) -> list[bytes]:
    """The frames of a real forecast."""
    with Ears(("forecast",), served.endpoint) as ears:
        while True:
            served.instrument.expose(max(served.instrument.sent) + 1)
            try:
                return ears.next_frames(within_s=0.2)
            except AssertionError:
                continue


@pytest.fixture
def impostor() -> Iterator[tuple[zmq.Socket[bytes], ForecastClient]]:
    """A publisher that the test plays itself, and its client."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as out:
        out.setsockopt(zmq.LINGER, 0)
        out.bind(ANY_PORT)
        with ForecastClient(out.getsockopt_string(zmq.LAST_ENDPOINT), timeout_s=0.01) as client:
            with pytest.raises(TimeoutError):
                client.receive(0.01)  # it subscribes with the first wait
            assert out.poll(WITHIN_S * 1000)
            assert out.recv() == b"\1microscope.forecast."
            client.timeout_s = WITHIN_S
            yield out, client


def numbered(frames: list[bytes], seq: int) -> list[bytes]:
    topic, header, payload = frames
    return [topic, json.dumps(json.loads(header) | {"seq": seq}).encode(), payload]


def test_what_it_cannot_decode_is_skipped_and_counted(
    captured: list[bytes], impostor: tuple[zmq.Socket[bytes], ForecastClient]
) -> None:
    out, client = impostor
    topic, header, payload = captured
    not_finite = payload[:-4] + b"\x00\x00\xc0\x7f"
    for malformed in (
        [topic],
        [topic, b"", b""],
        [topic, header, payload[:-4]],
        [topic, header, not_finite],
        [topic, header.replace(b"eelstm.forecast/1", b"eelstm.forecast/2"), payload],
        [topic, header, payload, b""],
        [topic + b"more", header, payload],
    ):
        out.send_multipart(malformed)
    out.send_multipart(numbered(captured, 7))
    assert client.receive(WITHIN_S).header.seq == 7
    assert (client.malformed, client.missed) == (7, 0)


def test_a_jump_in_the_numbers_is_counted_as_missed_and_a_restart_is_not(
    captured: list[bytes], impostor: tuple[zmq.Socket[bytes], ForecastClient]
) -> None:
    out, client = impostor
    missed = []
    for seq in (40, 41, 45, 46, 0, 1, 3):
        out.send_multipart(numbered(captured, seq))
        assert next(client).header.seq == seq
        missed.append(client.missed)
    assert missed == [0, 0, 3, 3, 3, 3, 4]


def test_fields_that_it_does_not_know_are_ignored(
    captured: list[bytes], impostor: tuple[zmq.Socket[bytes], ForecastClient]
) -> None:
    out, client = impostor
    topic, header, payload = captured
    out.send_multipart([topic, json.dumps(json.loads(header) | {"from_the_future": [1]}).encode(), payload])
    assert client.receive(WITHIN_S).counts.shape == (2, AXIS.size)


@pytest.mark.parametrize(
    "endpoint", ["tcp://192.168.1.7:17812", "tcp://0.0.0.0:17812", "tcp://example.org:17812", "tcp://127.0.0.1:*", "x"]
)
def test_an_endpoint_that_is_not_on_this_machine_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        ForecastClient(endpoint)
    assert endpoint in str(refusal.value)


def test_closed_twice_or_never_used_it_leaves_nothing_open() -> None:
    client = ForecastClient(NOWHERE)
    client.close()
    with client, pytest.raises(TimeoutError):
        client.receive(0.01)
    client.close()
