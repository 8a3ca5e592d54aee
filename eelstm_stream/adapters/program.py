"""The program around an adapter: its settings, its sockets, and its end."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from eelstm_stream.adapters.leased import LeasedInstrument
from eelstm_stream.adapters.microscope import Microscope
from eelstm_stream.io.announce import ready, say
from eelstm_stream.io.config import Settings
from eelstm_stream.io.instrument_server import InstrumentServer
from eelstm_stream.io.sockets import (
    DEFAULT_INSTRUMENT,
    INSTRUMENT_COMMAND,
    INSTRUMENT_PUBLISH,
    INSTRUMENT_SNAPSHOT,
    Endpoint,
)
from eelstm_stream.io.stopping import Stop
from eelstm_stream.wire.messages import InstrumentName


class AdapterSettings(Settings):
    """What the settings of every adapter begin with."""

    instrument: InstrumentName = Field(DEFAULT_INSTRUMENT, description="name in every topic")
    publish: Endpoint = Field(INSTRUMENT_PUBLISH, description="where to publish")
    snapshot: Endpoint = Field(INSTRUMENT_SNAPSHOT, description="where to answer late joiners")
    command: Endpoint = Field(INSTRUMENT_COMMAND, description="where to take commands")


def run_adapter(
    name: str,
    settings: AdapterSettings,
    connect: Callable[[], Microscope],
    *,
    as_json: bool = False,
    with_parent: bool = False,
) -> None:
    """Put a microscope on the wire until told to stop. name: of the program. connect: makes the microscope.

    Raises what `connect` raises, and EelstmError where a port is taken or the microscope fails. It is closed in any case.
    """
    with Stop(with_parent=with_parent) as stop:
        microscope = connect()
        try:
            server = InstrumentServer(
                settings.instrument,
                stop,
                publish=settings.publish,
                snapshot=settings.snapshot,
                command=settings.command,
            )
            try:
                flight = LeasedInstrument(name, microscope, server, stop)
                ready(name, as_json, **server.endpoints)
                flight.fly()
            finally:
                _blank(name, microscope)  # before the sockets, whose last messages may take their time
                server.close()
        finally:
            microscope.close()


def _blank(name: str, microscope: Microscope) -> None:
    """Blank the beam as the last thing, whatever went before; where that fails, a person has to."""
    try:
        microscope.blank(True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the end goes on
        say(name, f"THE BEAM COULD NOT BE BLANKED: {error!r}")
