"""Forecasts for your own program: `for forecast in ForecastClient(): …`, or `async for`.

The client connects to a forecaster that need not be there yet, and reconnects when it comes back. It skips what it can't
decode and counts it; a jump in the numbers is counted as missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import zmq
import zmq.asyncio
from numpy.typing import NDArray

from eelstm_stream.core.energy_axis import energies_eV
from eelstm_stream.errors import UsageError
from eelstm_stream.io import clock
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    FORECAST_PUBLISH,
    peer_endpoint,
    prepare_subscriber,
    subscriber,
)
from eelstm_stream.wire.codec import WireError, decode
from eelstm_stream.wire.messages import Forecast


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedForecast:
    """A forecast as it arrived."""

    header: Forecast
    counts: NDArray[np.float32]  # (horizon, channel), counts at the reference dose; read-only
    recv_mono_ns: int

    @property
    def energies_eV(self) -> NDArray[np.float64]:
        """Energy loss of each channel, `(channel,)`, eV."""
        return energies_eV(self.header.energy_axis)

    @property
    def latency_s(self) -> float | None:
        """From the spectrum's publication to this forecast's arrival, s; None where the two clocks do not compare."""
        if self.header.clock_id != clock.clock_id():
            return None
        return (self.recv_mono_ns - self.header.spectrum_sent_mono_ns) / 1e9


class ForecastClient:
    """Subscribes to an instrument's forecasts. Use it as a context manager, or call `close`.

    Iterating waits for the next forecast. `timeout_s` bounds each wait: then TimeoutError is raised, and iterating may go
    on. Use one client either from threads or from asyncio, and from one of them at a time.
    """

    def __init__(
        self,
        endpoint: str = FORECAST_PUBLISH,
        *,
        instrument: str = DEFAULT_INSTRUMENT,
        timeout_s: float | None = None,
    ) -> None:
        """Raises UsageError for an endpoint that is not on this machine."""
        try:
            self.endpoint = peer_endpoint(endpoint)
        except ValueError as error:
            raise UsageError(f"{error}.") from None
        self.instrument = instrument
        self.timeout_s = timeout_s
        self.malformed = 0  # messages that could not be decoded
        self.missed = 0  # forecasts lost on the way, by their numbers
        self._last_seq: int | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._async_context: zmq.asyncio.Context | None = None
        self._async_socket: zmq.asyncio.Socket | None = None

    def receive(self, timeout_s: float | None = None) -> ReceivedForecast:
        """The next forecast. Raises TimeoutError after `timeout_s`; without one it waits for as long as it takes."""
        if self._socket is None:
            self._context = zmq.Context()
            self._socket = subscriber(self._context, self.endpoint, self.instrument, ("forecast",))
        until_ns = None if timeout_s is None else clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            left_ms = None if until_ns is None else max(0, (until_ns - clock.monotonic_ns()) // 1_000_000)
            if not self._socket.poll(left_ms):
                raise TimeoutError(f"no forecast from {self.endpoint} within {timeout_s:g} s")
            forecast = self._decoded(self._socket.recv_multipart())
            if forecast is not None:
                return forecast

    async def receive_async(self, timeout_s: float | None = None) -> ReceivedForecast:
        """As `receive`, in asyncio."""
        if self._async_socket is None:
            self._async_context = zmq.asyncio.Context()
            self._async_socket = self._async_context.socket(zmq.SUB)
            prepare_subscriber(self._async_socket, self.endpoint, self.instrument, ("forecast",))
        until_ns = None if timeout_s is None else clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            left_ms = None if until_ns is None else max(0, (until_ns - clock.monotonic_ns()) // 1_000_000)
            if not await self._async_socket.poll(left_ms):
                raise TimeoutError(f"no forecast from {self.endpoint} within {timeout_s:g} s")
            forecast = self._decoded(await self._async_socket.recv_multipart())
            if forecast is not None:
                return forecast

    # Iterators of their own, since a generator would be over after the first TimeoutError.

    def __iter__(self) -> Iterator[ReceivedForecast]:
        return self

    def __next__(self) -> ReceivedForecast:
        return self.receive(self.timeout_s)

    def __aiter__(self) -> AsyncIterator[ReceivedForecast]:
        return self

    async def __anext__(self) -> ReceivedForecast:
        return await self.receive_async(self.timeout_s)

    def _decoded(self, frames: list[bytes]) -> ReceivedForecast | None:
        recv_mono_ns = clock.monotonic_ns()
        try:
            decoded = decode(frames)
        except WireError:
            self.malformed += 1
            return None
        header = decoded.message
        if not isinstance(header, Forecast) or decoded.payload is None:
            return None
        if (
            self._last_seq is not None and header.seq > self._last_seq
        ):  # a number that falls is a forecaster that restarted
            self.missed += header.seq - self._last_seq - 1
        self._last_seq = header.seq
        return ReceivedForecast(header, np.asarray(decoded.payload, dtype=np.float32), recv_mono_ns)

    def close(self) -> None:
        """Close the sockets; nothing waits."""
        for context in (self._context, self._async_context):
            if context is not None:
                context.destroy(linger=0)
        self._context = self._socket = self._async_context = self._async_socket = None

    def __enter__(self) -> ForecastClient:
        return self

    async def __aenter__(self) -> ForecastClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
