"""`eelstm adapter usim`: frames of the simulator's camera, and a program that ends well. What holds for every adapter is in
`test_adapter_protocol.py`, which flies this one too.
"""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eelstm_stream.core.energy_axis import channel_range, energies_eV
from eelstm_stream.wire.messages import Gap, InstrumentStatus, SessionEnd
from tests.commanding import Commanding
from tests.programs import ANY_PORT, WITHIN_S, run, running

try:
    importlib.metadata.version("nionswift-usim")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("nionswift-usim is not installed: pip install 'eelstm-stream[usim]'", allow_module_level=True)

ADAPTER = ("adapter", "usim", "--publish", ANY_PORT, "--snapshot", ANY_PORT, "--command", ANY_PORT)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Commanding, Path]]:
    """The adapter's process, a hand on it, and the folder in which it was started. It takes seconds to start."""
    folder = tmp_path_factory.mktemp("empty")
    with running(*ADAPTER, "--json", cwd=folder) as (process, _):
        assert process.stdout is not None
        endpoints = json.loads(process.stdout.readline())
        assert endpoints.pop("ready") == "usim"
        with Commanding(endpoints) as commanding:
            yield process, commanding, folder


def test_its_spectra_lie_on_the_axis_that_it_announces_and_show_the_edge_of_carbon(adapter):
    _, microscope, _ = adapter
    start = microscope.start()
    assert start.source == "simulation"
    assert start.specimen == "Amorphous (simulated)"
    assert (start.beam_energy_keV, start.convergence_mrad) == (100.0, 40.0)
    axis = start.energy_axis
    assert (axis.offset_eV, axis.dispersion_eV, axis.size) == (250.0, 0.5, 1024)
    microscope.tell(blanked=False, lease_s=5.0, dwell_s=0.1, beam_current_pA=200.0)
    heard = microscope.spectrum()
    assert heard.payload.shape == (axis.size,)
    before, behind, far = (heard.payload[channel_range(axis, low, low + 10)].mean() for low in (251.0, 340.0, 700.0))
    assert behind > 4 * before  # C K at 284 eV, which the simulator draws 30 eV wide
    assert behind > 1.5 * far
    assert 284 < energies_eV(axis)[heard.payload.argmax()] < 400
    another = microscope.spectrum()
    assert (heard.payload != another.payload).mean() > 0.9  # each is a frame of its own


def test_channels_below_zero_are_raised_to_it_and_it_is_told(adapter):
    _, microscope, _ = adapter
    microscope.tell(blanked=True)
    microscope.tell(blanked=False, lease_s=5.0, dwell_s=0.08, beam_current_pA=1.0)
    heard = microscope.spectrum()
    assert heard.payload.min() == 0.0
    assert 0.2 < np.count_nonzero(heard.payload == 0) / heard.payload.size < 0.6  # noise about little more than nothing
    assert "channels below zero were raised to zero" in microscope.status().notes[0]


def test_sigterm_ends_the_session_with_the_beam_blanked_and_nothing_of_the_simulator_is_printed(adapter):
    process, microscope, folder = adapter
    microscope.tell(blanked=True)
    microscope.tell(blanked=False, lease_s=60.0, dwell_s=10.0)
    exposing = microscope.status(blanked=False).beam.next_seq - 1
    process.send_signal(signal.SIGTERM)
    heard = [d.message for d in microscope.ears.until(lambda m: isinstance(m, SessionEnd))]
    out, err = process.communicate(timeout=WITHIN_S)
    end = heard[-1]
    assert (end.reason, end.text) == ("stopped", "the program was told to stop")
    last = [message for message in heard if isinstance(message, InstrumentStatus)][-1]
    assert last.beam.readback.blanked
    assert [(gap.first_seq, gap.last_seq) for gap in heard if isinstance(gap, Gap)] == [(exposing, exposing)]
    assert process.returncode == 0
    assert out == ""
    assert all(line.startswith("eelstm usim: ") for line in err.splitlines())
    assert len(err.splitlines()) == 2
    assert (
        list(folder.iterdir()) == []
    )  # left to itself, the simulator makes a folder, and deletes what is in its place


def test_an_offset_beyond_the_spectrometer_is_refused_before_anything_is_bound():
    done = run(*ADAPTER, "--offset", "1e9")
    assert done.code == 2
    assert done.err.startswith("eelstm: usim: offset: ")


def test_without_the_simulator_it_says_what_to_install(monkeypatch):
    from eelstm_stream.adapters.usim import Usim
    from eelstm_stream.errors import UsageError

    monkeypatch.setitem(sys.modules, "nion.instrumentation", None)
    with pytest.raises(UsageError, match=r"install eelstm-stream\[usim\]"):
        Usim(250.0)


def test_the_simulator_is_imported_when_it_is_wanted():
    program = "import sys, eelstm_stream.adapters.cli, eelstm_stream.adapters.usim; print('nion' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
