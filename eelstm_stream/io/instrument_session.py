"""One session of an instrument on the wire: its messages, numbered, stamped and sent. For adapters."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from eelstm_stream.core.command_gate import Refused
from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.io import clock
from eelstm_stream.io.instrument_server import InstrumentServer, Received
from eelstm_stream.wire.messages import (
    Acknowledgement,
    BeamReport,
    Gap,
    InstrumentStatus,
    Payload,
    PayloadDtype,
    SessionEnd,
    SessionStart,
    Spectrum,
)

STATUS_EVERY_S = 1.0
ON_THE_WIRE: Mapping[str, PayloadDtype] = {"float32": "<f4", "uint16": "<u2", "uint32": "<u4"}


class InstrumentSession:
    """Begins when it is made, and ends with `end`. Dates are reckoned from its start by the monotonic clock."""

    def __init__(self, server: InstrumentServer, sender: str, **context: Any) -> None:
        """Publish the start. sender: of its status. context: what the start says of instrument and specimen."""
        self.uid = uuid.uuid4().hex[:16]
        self.status_due_ns = 0
        self._server = server
        self._sender = sender
        self._sent = {"session": 0, "status": 0}  # messages of these kinds: their seq
        self._spectra = self._accepted = self._refused = 0
        self._started_ns, self._started_at = clock.monotonic_ns(), clock.utc_now()
        server.publish(
            SessionStart(
                **self._envelope("session"),
                instrument=server.instrument,
                started_at=self._started_at,
                clock_id=clock.clock_id(),
                **context,
            )
        )

    def _envelope(self, kind: str) -> dict[str, Any]:
        seq = self._sent[kind]
        self._sent[kind] += 1
        return {"session": self.uid, "seq": seq, "sent_mono_ns": clock.monotonic_ns()}

    def _moment(self, mono_ns: int) -> datetime:
        return self._started_at + timedelta(microseconds=(mono_ns - self._started_ns) / 1e3)

    def publish_spectrum(
        self,
        seq: int,
        counts: Payload,
        *,
        began_ns: int,
        ended_ns: int,
        dwell_s: float,
        current_pA: float,
        dose_before_pC: float,
    ) -> None:
        """Send a spectrum, `(channel,)` counts in float32, uint16 or uint32. began_ns, ended_ns: of the exposure, by the monotonic clock."""
        spectrum = Spectrum(
            session=self.uid,
            seq=seq,
            sent_mono_ns=clock.monotonic_ns(),
            dtype=ON_THE_WIRE[counts.dtype.name],
            shape=(len(counts),),
            dwell_s=dwell_s,
            beam_current_pA=current_pA,
            dose_pC=frame_dose_pC(current_pA, dwell_s),
            dose_before_pC=dose_before_pC,
            acquired_at=self._moment(began_ns),
            acquired_until=self._moment(ended_ns),
        )
        self._server.publish(spectrum, counts)
        self._spectra += 1

    def publish_gap(self, first_seq: int, last_seq: int, reason: str) -> None:
        """Say that spectra are lost."""
        gap = Gap(**self._envelope("session"), first_seq=first_seq, last_seq=last_seq, reason=reason)
        self._server.publish(gap)

    def publish_status(self, text: str, beam: BeamReport, notes: tuple[str, ...] = ()) -> None:
        """Say how the beam is; due again at `status_due_ns`."""
        self.status_due_ns = clock.monotonic_ns() + round(STATUS_EVERY_S * 1e9)
        self._server.publish(
            InstrumentStatus(
                **self._envelope("status"),
                sender=self._sender,
                state="blanked" if beam.readback.blanked else "exposing",
                text=text,
                clock_id=clock.clock_id(),
                obeys=True,
                beam=beam,
                accepted=self._accepted,
                refused=self._refused,
                notes=notes,
            )
        )

    def acknowledge(self, received: Received, refused: Refused | None, beam: BeamReport) -> None:
        """Answer a command, and count it."""
        self._accepted += refused is None
        self._refused += refused is not None
        self._server.acknowledge(
            received,
            Acknowledgement(
                session=received.session,
                seq=received.seq,
                running_session=self.uid,
                sent_mono_ns=clock.monotonic_ns(),
                clock_id=clock.clock_id(),
                outcome="accepted" if refused is None else "refused",
                limit=None if refused is None else refused.limit,
                reason="" if refused is None else refused.reason,
                beam=beam,
            ),
        )

    def end(self, reason: Literal["finished", "stopped", "failed"], text: str) -> None:
        """Publish the end. text: one sentence on the reason."""
        self._server.publish(SessionEnd(**self._envelope("session"), reason=reason, text=text, spectra=self._spectra))
