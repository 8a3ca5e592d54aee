"""A microscope on the bench, whose faults are ours to choose: `python -m tests.bench_microscope FAULT`.

It stands behind the same `LeasedInstrument` as a real adapter's, in a process of its own, on real sockets.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from eelstm_stream.adapters import leased, program
from eelstm_stream.adapters.program import AdapterSettings, run_adapter
from eelstm_stream.errors import EelstmError
from eelstm_stream.io.instrument_server import InstrumentServer, Received
from eelstm_stream.wire.messages import CommandLimits, EnergyAxis, Payload, Readback
from tests.programs import ANY_PORT

LIMITS = CommandLimits(
    min_dwell_s=0.01, max_dwell_s=10.0, min_current_pA=1.0, max_current_pA=500.0, max_lease_s=30.0, blank_delay_s=0.05
)
FRAME = 2  # the one with which a fault begins
LOGGED = ("no readback", "commands in threes")  # faults that say on stderr what was done to the microscope


class InThrees(InstrumentServer):
    """Commands that come in threes, as from a program that was held up."""

    _came: tuple[Received, ...] = ()

    def commands(self) -> list[Received]:
        self._came = (*self._came, *super().commands())
        if len(self._came) < 3:
            return []
        came, self._came = self._came, ()
        return list(came)


class BenchMicroscope:
    """Counts 10 in each of 16 channels for each pC, unless its fault is another."""

    readout_s = 0.005
    notes = ("on the bench",)

    def __init__(self, fault: str) -> None:
        self.limits = LIMITS if fault != "blanks in no time" else LIMITS.model_copy(update={"blank_delay_s": 0.0})
        self._fault = fault
        self._frames = 0
        self._dwell_s, self._current_pA, self._blanked = 0.05, 100.0, False
        self._cut = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: self.blank(False))  # somebody's hand on the blanker

    def context(self) -> Mapping[str, Any]:
        return {"source": "simulation", "energy_axis": EnergyAxis(offset_eV=400, dispersion_eV=1, size=16)}

    def _log(self, what: str) -> None:
        if self._fault in LOGGED:
            sys.stderr.write(f"bench: {what}\n")

    def readback(self) -> Readback:
        self._log("read back")
        if self._fault == "no readback" and not self._blanked:
            raise RuntimeError("the beam can't be read back while it is on")
        factor = 1.1 if self._fault == "another current" else 1.0
        return Readback(dwell_s=self._dwell_s, beam_current_pA=self._current_pA * factor, blanked=self._blanked)

    def set(self, dwell_s: float, current_pA: float) -> None:
        assert self._blanked
        self._log(f"set {dwell_s:g} s")
        self._dwell_s, self._current_pA = dwell_s, current_pA

    def blank(self, blanked: bool) -> None:
        if self._fault == "stuck blanker" and self._frames > FRAME:
            return
        self._blanked = blanked
        self._log("blanked" if blanked else "let on")
        self._cut.clear()

    def expose(self) -> Payload:
        self._frames += 1
        counts = np.full(16, 10 * self._current_pA * self._dwell_s, np.float32)
        if self._frames <= FRAME:
            self._cut.wait(self._dwell_s)
            return counts
        match self._fault:
            case "raises":
                raise RuntimeError("the camera's cable is out")
            case "hangs":
                threading.Event().wait()
            case "hangs until it is cut":
                self._cut.wait()
                raise RuntimeError("the camera was cut")
            case "not a number":
                counts[3] = np.nan
        self._cut.wait(self._dwell_s)
        return counts

    def cut(self) -> None:
        self._cut.set()

    def close(self) -> None:
        self._blanked = True


def main(fault: str) -> int:
    """Serve until told to stop, as an adapter's program does. Returns its exit code."""
    if fault == "hangs":
        leased.GIVE_UP_AFTER_S = 5.0
    if fault == "commands in threes":
        program.InstrumentServer = InThrees  # type: ignore[misc]
    settings = AdapterSettings(publish=ANY_PORT, snapshot=ANY_PORT, command=ANY_PORT)
    try:
        run_adapter("bench", settings, lambda: BenchMicroscope(fault), as_json=True, with_parent=True)
    except EelstmError as error:
        sys.stderr.write(f"eelstm: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
