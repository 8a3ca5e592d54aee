"""`eelstm listen`: what is on the wire, as a live view, or a line a message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from rich.console import Console, RenderableType
from rich.live import Live

from eelstm_stream import screen
from eelstm_stream.core.tally import Tally
from eelstm_stream.io import clock
from eelstm_stream.io.config import Settings
from eelstm_stream.io.listener import Listener
from eelstm_stream.io.sockets import (
    CONTROL_PUBLISH,
    DEFAULT_INSTRUMENT,
    FORECAST_PUBLISH,
    GUARD_PUBLISH,
    INSTRUMENT_PUBLISH,
    Peer,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.codec import Decoded
from eelstm_stream.wire.messages import Forecast, InstrumentName
from eelstm_stream.wire.topics import TOPICS

FRAMES_PER_S = 8
# Who publishes a kind, and so where to listen if nobody says.
PUBLISHERS: Mapping[str, tuple[str, ...]] = {
    "session": (INSTRUMENT_PUBLISH,),
    "spectrum": (INSTRUMENT_PUBLISH,),
    "forecast": (FORECAST_PUBLISH,),
    "summary": (FORECAST_PUBLISH,),
    "proposal": (CONTROL_PUBLISH,),
    "decision": (GUARD_PUBLISH,),
    "status": (FORECAST_PUBLISH, CONTROL_PUBLISH, GUARD_PUBLISH, INSTRUMENT_PUBLISH),
}
FOR_THE_VIEW: Mapping[str, tuple[str, ...]] = {
    FORECAST_PUBLISH: ("forecast", "status"),
    CONTROL_PUBLISH: ("status",),
    GUARD_PUBLISH: ("status",),
}


class ListenSettings(Settings):
    """Settings of `eelstm listen`, table `[listen]`."""

    TABLE: ClassVar[str] = "listen"

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="whose messages to hear")
    kind: str | None = Field(None, description="one kind of message; all that the view needs, if not given")
    connect: Peer | None = Field(None, description="whom to listen to; chosen by the kind, if not given")
    count: PositiveInt | None = Field(None, description="end after this many messages")
    timeout: PositiveFloat | None = Field(None, description="end when nothing has come for this long, s")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in TOPICS:
            raise ValueError(f"{kind!r} is no kind of message; known are {', '.join(TOPICS)}")
        return kind


@dataclass(slots=True)
class View:
    """The state behind the live view: a tally, and the newest forecast with its spectra."""

    tally: Tally
    forecast: Forecast | None = None
    counts: NDArray[np.float32] | None = None

    def show(self, decoded: Decoded) -> None:
        """Keep a forecast for drawing."""
        if isinstance(decoded.message, Forecast) and decoded.payload is not None:
            self.forecast = decoded.message
            self.counts = np.asarray(decoded.payload, dtype=np.float32)

    def draw(self, malformed: int, now_ns: int) -> RenderableType:
        """The view as it stands."""
        return screen.draw(self.tally, self.forecast, self.counts, malformed, now_ns)


def listen(settings: ListenSettings, *, as_json: bool) -> int:
    """Listen until told to stop. Returns 0, or 1 where a timeout ended it before `count` messages, or any, had come."""
    kinds = (settings.kind,) if settings.kind else ("forecast", "status")
    where = _where(settings, kinds)
    in_lines = as_json or settings.kind is not None or not sys.stdout.isatty()
    with Stop() as stop:
        listener = Listener(settings.instrument, stop)
        try:
            for endpoint, heard_there in where.items():
                listener.subscribe(endpoint, heard_there)
            sys.stderr.write(f"eelstm listen: {', '.join(kinds)} of {settings.instrument} on {', '.join(where)}\n")
            if in_lines:
                return _in_lines(settings, listener, stop, as_json=as_json)
            return _on_screen(settings, listener, stop)
        finally:
            listener.close()


def _where(settings: ListenSettings, kinds: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Endpoints, and what to hear from each."""
    if settings.connect is not None:
        return {settings.connect: kinds}
    if settings.kind is None:
        return FOR_THE_VIEW
    return dict.fromkeys(PUBLISHERS[settings.kind], kinds)


def _in_lines(settings: ListenSettings, listener: Listener, stop: Stop, *, as_json: bool) -> int:
    def show(decoded: Decoded, _recv_mono_ns: int) -> None:
        header = decoded.message.model_dump_json(by_alias=True, exclude_none=True)
        line = header if as_json else f"{decoded.instrument}.{decoded.message.KIND} {header}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return _hear(settings, listener, stop, show)


def _on_screen(settings: ListenSettings, listener: Listener, stop: Stop) -> int:
    view = View(Tally(clock.clock_id()))

    def take(decoded: Decoded, recv_mono_ns: int) -> None:
        view.tally.take(decoded.message, recv_mono_ns)
        view.show(decoded)

    with Live(console=Console(), auto_refresh=False) as live:

        def redraw() -> None:
            live.update(view.draw(listener.malformed, clock.monotonic_ns()), refresh=True)

        code = _hear(settings, listener, stop, take, redraw)
        redraw()
    return code


def _hear(
    settings: ListenSettings,
    listener: Listener,
    stop: Stop,
    take: Callable[[Decoded, int], None],
    redraw: Callable[[], None] | None = None,
) -> int:
    """Hear until count, timeout or stop."""
    heard = 0
    last_ns = drawn_ns = clock.monotonic_ns()
    while not stop.requested:
        for decoded, recv_mono_ns in listener.hear(1000 // FRAMES_PER_S):
            take(decoded, recv_mono_ns)
            last_ns = recv_mono_ns
            heard += 1
            if heard == settings.count:
                return 0
        now_ns = clock.monotonic_ns()
        if redraw is not None and now_ns - drawn_ns >= 1e9 / FRAMES_PER_S:
            redraw()
            drawn_ns = now_ns
        if settings.timeout is not None and now_ns - last_ns > settings.timeout * 1e9:
            sys.stderr.write(f"eelstm listen: nothing came for {settings.timeout:g} s; {heard} messages in all\n")
            return 1 if settings.count is not None or heard == 0 else 0
    return 0
