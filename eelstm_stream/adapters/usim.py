"""Nion Swift's simulated microscope (nionswift-usim) on the wire: spectra out; dwell, current and blanker in.

It's somebody else's: what it does is asked of it as it would be of a microscope, by the names of its controls, and its camera
is read out frame by frame. Whatever goes through `nion.instrumentation` would work alike with other cameras of Nion Swift.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from eelstm_stream.adapters.program import AdapterSettings
from eelstm_stream.errors import EelstmError, UsageError
from eelstm_stream.wire.messages import CommandLimits, EnergyAxis, Payload, Readback

CAMERA = "usim_eels_camera"
AMORPHOUS = 1  # the simulator's second specimen: a carbon film
PA = 1e12  # the simulator speaks of amperes
START_DWELL_S = 0.1
NEGATIVE = "channels below zero were raised to zero: the simulator's noise doesn't shrink with the signal"


class UsimSettings(AdapterSettings):
    """Settings of `eelstm adapter usim`, table `[usim]`."""

    TABLE: ClassVar[str] = "usim"

    offset: float = Field(250.0, ge=-100, le=2000, description="energy loss of the camera's first channel, eV")


class Usim:
    """The simulator, its EELS camera, and the two controls that matter. Its beam is blanked from the start."""

    # It refuses nothing by itself, not even a negative current. A shorter exposure would end before its frame is computed.
    limits = CommandLimits(
        min_dwell_s=0.08,
        max_dwell_s=10.0,
        min_current_pA=1.0,
        max_current_pA=1000.0,
        max_lease_s=60.0,
        blank_delay_s=0.05,  # its blanker takes no time, but this program does, beside a simulator that computes frames
    )
    readout_s = 0.01

    def __init__(self, offset_eV: float) -> None:
        """Start it. Raises UsageError where it isn't installed. `close` it: its threads would outlive the program."""
        self.notes: tuple[str, ...] = ()
        self._is_cut = threading.Event()
        with _hushed():
            self._start(offset_eV)

    def _start(self, offset_eV: float) -> None:
        try:
            self._hardware = importlib.import_module("nion.instrumentation.HardwareSource")
            self._cameras = importlib.import_module("nion.instrumentation.camera_base")
            configuration = importlib.import_module("nion.usim_device.DeviceConfiguration")
        except ModuleNotFoundError as error:
            raise UsageError(f"Nion's simulator needs {error.name}: install eelstm-stream[usim].") from None
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # the camera asks for one
        self._hardware.run()
        self._cameras.run(None)  # no folder: it would keep settings there
        # Unless it's told otherwise, it deletes ./test_data.
        self._devices = configuration.AcquisitionContextConfiguration(
            sample_index=AMORPHOUS, set_configuration_location=False
        )
        self._devices.run()
        try:
            self._set_up(offset_eV)
        except BaseException:
            self.close()
            raise

    def _set_up(self, offset_eV: float) -> None:
        self._controls = self._devices.instrument
        self._camera = self._hardware.HardwareSourceManager().get_hardware_source_for_hardware_source_id(CAMERA)
        self.blank(True)
        self._order("EELS_MagneticShift_Offset", offset_eV)
        self.set(START_DWELL_S, self.readback().beam_current_pA)
        self.expose()  # the first frame takes three times as long as the others: not under the beam

    def close(self) -> None:
        """Blank the beam, and end the simulator with its threads."""
        with _hushed():
            try:
                self.blank(True)
            finally:
                self._devices.stop()
                self._cameras.stop()
                self._hardware.stop()
                self._loop.close()

    def _ask(self, control: str) -> float:
        known, value = self._controls.TryGetVal(control)
        if not known:
            raise EelstmError(f"the simulator knows no control {control}.")
        return float(value)

    def _order(self, control: str, value: float) -> None:
        if not self._controls.SetVal(control, value):
            raise EelstmError(f"the simulator did not set {control} to {value:g}.")

    def context(self) -> Mapping[str, Any]:
        """What the session's start says of the simulator."""
        [calibration] = self._camera.get_camera_calibrations(self._parameters())
        channels = self._camera.get_expected_dimensions(1)[1]
        return {
            "source": "simulation",
            "source_name": f"{self._camera.display_name} of nionswift-usim",
            "specimen": f"{self._controls.scan_data_generator.sample.title} (simulated)",
            "energy_axis": EnergyAxis(offset_eV=calibration.offset, dispersion_eV=calibration.scale, size=channels),
            "beam_energy_keV": self._ask("EHT") / 1e3,
            "convergence_mrad": self._ask("ConvergenceAngle") * 1e3,
        }

    def _parameters(self) -> Any:
        return self._camera.get_current_frame_parameters()

    def readback(self) -> Readback:
        """What holds now, to 12 digits: more are of the conversion of units."""
        return Readback(
            dwell_s=_rounded(self._parameters().exposure_ms / 1e3),
            beam_current_pA=_rounded(self._ask("BeamCurrent") * PA),
            blanked=self._ask("C_Blank") != 0,
        )

    def set(self, dwell_s: float, current_pA: float) -> None:
        """Set dwell and current."""
        self._order("BeamCurrent", current_pA / PA)
        wanted = {"exposure_ms": dwell_s * 1e3, "binning": 1, "processing": "sum_project"}
        self._camera.set_current_frame_parameters(self._cameras.CameraFrameParameters(wanted))

    def blank(self, blanked: bool) -> None:
        """Move the blanker. The EELS camera of this version counts under a blanked beam, too: no frame is taken then."""
        self._order("C_Blank", float(blanked))
        if not blanked:
            self._is_cut.clear()

    def expose(self) -> Payload:
        """One frame, `(channel,)` float32 counts, summed over the camera's rows."""
        self._camera.acquire_sequence_begin(self._parameters(), 1)  # which forgets a cut that came before it
        try:
            if self._is_cut.is_set():
                self.cut()
            frame = self._camera.acquire_sequence_continue().xdata.data[0]
        finally:
            self._camera.acquire_sequence_end()
        counts: Payload = np.maximum(frame, 0).astype(np.float32)
        if (frame < 0).any():
            self.notes = (NEGATIVE,)
        return counts

    def cut(self) -> None:
        """End the exposure; what it returns may be the frame before."""
        self._is_cut.set()
        self._camera.acquire_sequence_cancel()


@contextmanager
def _hushed() -> Iterator[None]:
    """Let nothing through that the simulator says while it starts or ends, nor what it logs. Exceptions pass."""
    logging.getLogger().addHandler(logging.NullHandler())  # it logs to the root, which would make a handler of its own
    warnings.filterwarnings("ignore", module=r"nion\.")
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")
