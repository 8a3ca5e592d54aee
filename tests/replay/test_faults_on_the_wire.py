"""Each fault of a script, flown by the simulator, and what the forecaster does about it on the wire.

The rule behind all: a forecast that says of no gap is the one of an undisturbed run, whatever has happened before.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eelstm_stream.core.frame_window import MAX_GAP_SPECTRA
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.io.instrument_client import InstrumentClient
from eelstm_stream.wire.codec import Decoded
from eelstm_stream.wire.messages import (
    Command,
    Counters,
    Forecast,
    InstrumentStatus,
    Message,
    SessionEnd,
    SessionStart,
    Spectrum,
    Status,
)
from tests.model_files import WINDOW, write_model
from tests.programs import ANY_PORT, WITHIN_S, Ears, pause, run, run_all

FRAMES = 100
AT = 20  # where the faults fall
SIMULATED = ("sim", "run", "--seed", "3", "--frames", str(FRAMES))


@dataclass(frozen=True)
class Flown:
    """What came from the forecaster while a session was played."""

    heard: list[Decoded]

    @property
    def statuses(self) -> list[Status]:
        return [d.message for d in self.heard if isinstance(d.message, Status)]

    @property
    def counters(self) -> Counters:
        """At the end of the session."""
        return self.statuses[-1].counters

    @property
    def said(self) -> str:
        """Texts of all statuses."""
        return "\n".join(status.text for status in self.statuses)

    @property
    def states(self) -> set[str]:
        return {status.state for status in self.statuses}

    def forecasts(self, session: str | None = None) -> dict[int, tuple[Forecast, np.ndarray]]:
        """By the spectrum that they were made from; of the session that ended last, if not of another."""
        wanted = session or self.statuses[-1].session
        return {
            message.from_seq: (message, decoded.payload)
            for decoded in self.heard
            if isinstance(message := decoded.message, Forecast)
            and decoded.payload is not None
            and message.session == wanted
        }


def same_forecast(one: np.ndarray, other: np.ndarray) -> None:
    """To a few last bits, which depend on the batch that a window was in."""
    np.testing.assert_allclose(one, other, rtol=1e-6)


def over_a_gap(forecast: Forecast) -> bool:
    return "gap_in_window" in {flag.flag for flag in forecast.quality}


class Line:
    """A forecaster between a simulator, of which there's another for each session, and the test's ears."""

    def __init__(self, folder: Path, forecaster: Child) -> None:
        self.publish, self.snapshot = f"ipc://{folder}/spectra", f"ipc://{folder}/snapshots"
        self.folder, self.forecaster = folder, forecaster
        self.ears = Ears(("forecast", "status"), forecaster.wait_until_ready()["publish"])
        self.ears.status(lambda _: True)
        self.malformed = 0  # counted since the forecaster began
        self.ended = ""  # session that ended last, of which statuses go on to tell

    @property
    def places(self) -> tuple[str, ...]:
        return "--publish", self.publish, "--snapshot", self.snapshot

    def script(self, faults: str) -> str:
        file = self.folder / "faults.toml"
        file.write_text(faults, encoding="utf-8")
        return str(file)

    def simulator(self, faults: str, *arguments: str) -> Child:
        """A simulated instrument that waits for the forecaster to subscribe."""
        how = ("--wait-readers", "1", *arguments, *(("--faults", self.script(faults)) if faults else ()))
        return Child(*SIMULATED, *self.places, *how)

    def fly(self, faults: str, *arguments: str) -> Flown:
        """Play a session with these faults to its end."""
        with self.simulator(faults, *(arguments or ("--speed", "max"))) as simulator:
            flown = Flown(self.ears.until(self.is_the_end))
            assert simulator.process.wait(WITHIN_S) == 0, simulator.last_words()
        self.ended = flown.statuses[-1].session
        assert self.forecaster.is_running
        return flown

    def is_the_end(self, message: Message) -> bool:
        if not isinstance(message, Status) or message.session == self.ended:
            return False
        return message.text.startswith("session finished after")

    def newly_malformed(self, flown: Flown) -> int:
        new, self.malformed = flown.counters.malformed - self.malformed, flown.counters.malformed
        return new


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    model = write_model(folder / "mean.onnx")
    at = ("--spectra", f"ipc://{folder}/spectra", "--snapshot", f"ipc://{folder}/snapshots")
    with Child("serve", "--model", str(model), "--publish", ANY_PORT, *at) as forecaster:
        line = Line(folder, forecaster)
        yield line
        line.ears.close()


@pytest.fixture(scope="module")
def undisturbed(line: Line) -> dict[int, np.ndarray]:
    """Forecasts of the run without faults, by the spectrum that they were made from."""
    flown = line.fly("")
    forecasts = flown.forecasts()
    assert list(forecasts) == list(range(WINDOW - 1, FRAMES))
    assert flown.counters.model_copy(update={"malformed": 0}) == Counters(spectra=FRAMES, forecasts=FRAMES - WINDOW + 1)
    assert flown.states == {"filling", "forecasting", "waiting"}
    return {from_seq: counts for from_seq, (_, counts) in forecasts.items()}


def check_forecasts(flown: Flown, undisturbed: dict[int, np.ndarray], expected: list[int], gap: int = 0) -> None:
    """These forecasts came and no others; `gap` of them say of a gap, and the others are those of the undisturbed run."""
    forecasts = flown.forecasts()
    assert list(forecasts) == expected
    flagged = [from_seq for from_seq, (forecast, _) in forecasts.items() if over_a_gap(forecast)]
    assert len(flagged) == gap
    for from_seq in set(forecasts) - set(flagged):
        same_forecast(forecasts[from_seq][1], undisturbed[from_seq])


def without(first: int, last: int) -> list[int]:
    """Spectra with a forecast, where these have none."""
    return [seq for seq in range(WINDOW - 1, FRAMES) if not first <= seq <= last]


@dataclass(frozen=True)
class Row:
    """A fault of AT and on, and what becomes of it."""

    fault: str
    counted: dict[str, int]
    gone: int = 0  # spectra that don't enter the window, from AT on
    said: str = ""
    state: str = "forecasting"

    @property
    def empties(self) -> bool:
        return self.gone > MAX_GAP_SPECTRA


NEW_WINDOW = "the window starts anew"
ROWS = {
    "random bytes": Row("kind='random_bytes'\nframes=3\nmessages=20", {"malformed": 60}),
    "truncated counts": Row("kind='truncated'", {"malformed": 1, "lost": 1}, 1),
    "a type that no payload has": Row("kind='wrong_dtype'", {"malformed": 1, "lost": 1}, 1),
    "another type of that length": Row(
        "kind='wrong_dtype'\ndtype='<u4'", {"refused": 1, "lost": 1}, 1, "refused: spectrum 20 has 1.", "invalid"
    ),
    "shape": Row(
        "kind='wrong_shape'\nchannels=2000",
        {"refused": 1, "lost": 1},
        1,
        "refused: spectrum 20 has 2000 channels, and its session 2048",
        "invalid",
    ),
    "axis": Row(
        "kind='wrong_axis'\nframes=2\nenergy_axis={offset_eV=400.0,dispersion_eV=0.1,size=2048}",
        {"refused": 2, "lost": 2},
        2,
        "its session began on 424.0 to 628.7 eV at 0.1 eV, and was announced again on 400.0 to 604.7 eV at 0.1 eV",
        "invalid",
    ),
    "NaN": Row("kind='bad_counts'", {"malformed": 1, "lost": 1}, 1),
    "negative": Row(
        "kind='bad_counts'\nvalue='negative'",
        {"refused": 1, "lost": 1},
        1,
        "spectrum 20 has negative counts",
        "invalid",
    ),
    "saturated": Row(
        "kind='saturated'\nframes=2", {"invalid": 2}, 2, "saturated: 2048 channels at 65535 counts", "invalid"
    ),
    "zero": Row("kind='zero'", {"invalid": 1}, 1, "no counts in any channel", "invalid"),
    "duplicate": Row("kind='duplicated'\nframes=2\ncopies=2", {"duplicate": 4}),
    "late": Row("kind='late'\nby_frames=3", {"lost": 1, "late": 1}, 1),
    "gap within the policy": Row("kind='dropped'\nframes=2", {"lost": 2}, 2),
    "gap over it": Row("kind='dropped'\nframes=3", {"lost": 3}, 3, f"spectra 20 to 22 lost; {NEW_WINDOW}"),
    "gap that is said": Row("kind='dropped'\nframes=9\nsaid=true", {"lost": 9}, 9, NEW_WINDOW, "filling"),
    "frozen": Row("kind='frozen'\nframes=6", {"invalid": 6}, 6, "the camera is frozen", "invalid"),
    "burst": Row("kind='burst'\nframes=50", {}),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_fault_is_counted_and_forecasts_go_on(line: Line, undisturbed: dict[int, np.ndarray], name: str) -> None:
    row = ROWS[name]
    flown = line.fly(f"[[fault]]\nframe = {AT}\n{row.fault}")
    counted = flown.counters.model_copy(update={"malformed": line.newly_malformed(flown)}).model_dump()
    silent = row.gone + WINDOW - 1 if row.empties else row.gone
    assert {key: count for key, count in counted.items() if count} == {
        "spectra": FRAMES - row.gone,
        "forecasts": FRAMES - WINDOW + 1 - silent,
        **row.counted,
    }
    gap = WINDOW - 1 if row.gone and not row.empties else 0
    check_forecasts(flown, undisturbed, without(AT, AT + silent - 1), gap)
    assert row.said in flown.said
    assert row.state in flown.states


def test_of_reordered_spectra_those_that_were_overtaken_are_late(
    line: Line, undisturbed: dict[int, np.ndarray]
) -> None:
    flown = line.fly(f"[[fault]]\nkind = 'reordered'\nframe = {AT}\nframes = 4")
    counters = flown.counters
    assert counters.late == counters.lost == FRAMES - counters.spectra > 0
    forecasts = flown.forecasts()
    for from_seq, (forecast, counts) in forecasts.items():
        if not over_a_gap(forecast):
            same_forecast(counts, undisturbed[from_seq])
    assert set(without(AT, AT + 3 + WINDOW)) <= set(forecasts)


def test_a_restart_is_a_clean_start(line: Line, undisturbed: dict[int, np.ndarray]) -> None:
    flown = line.fly(f"seed = 1\n[[fault]]\nkind = 'restart'\nframe = {AT}")
    first = next(d.message.session for d in flown.heard if isinstance(d.message, Forecast))
    old, new = flown.forecasts(first), flown.forecasts()
    assert (list(old), list(new)) == ([*range(WINDOW - 1, AT)], [*range(WINDOW - 1, FRAMES - AT)])
    for from_seq, (_, counts) in old.items():
        same_forecast(counts, undisturbed[from_seq])
    for from_seq, (forecast, counts) in new.items():
        assert not over_a_gap(forecast)
        same_forecast(counts, undisturbed[AT + from_seq])
    assert flown.statuses[-1].text.startswith(f"session finished after {FRAMES - AT} spectra")
    assert {status.alarm for status in flown.statuses} == {None}  # a restart is no second publisher
    assert (flown.counters.spectra, flown.counters.lost, flown.counters.late) == (FRAMES - AT, 0, 0)


def test_of_two_publishers_with_one_name_no_window_holds_both(line: Line, undisturbed: dict[int, np.ndarray]) -> None:
    faults = f"[[fault]]\nkind = 'second_publisher'\nframe = {AT}\nframes = 20"
    flown = line.fly(faults, "--speed", "40")
    assert "asking the instrument for the start of session" in flown.said
    assert flown.counters.refused > 0
    alarms = [status.alarm for status in flown.statuses]
    during = [alarm for alarm, _ in groupby(alarms)]
    assert (
        len(during) == 3
    )  # none; the same one, also when the other was heard no more; and none after our session's end
    assert (during[0], during[2]) == (None, None)
    assert "under this instrument's name: sessions" in (during[1] or "")
    forecasts = flown.forecasts()
    assert FRAMES - 1 in forecasts  # it has found back to the instrument's own
    for from_seq, (forecast, counts) in forecasts.items():
        if not over_a_gap(forecast):
            same_forecast(counts, undisturbed[from_seq])


def test_a_silence_is_said_and_its_end_is_a_gap(line: Line, undisturbed: dict[int, np.ndarray]) -> None:
    flown = line.fly("[[fault]]\nkind = 'silence'\nat_s = 8.2\nfor_s = 24.0", "--speed", "6")  # 4 s by the clock
    states = [status.state for status in flown.statuses]
    assert "silent" in states
    assert f"spectra 20 to 79 lost; {NEW_WINDOW}" in flown.said
    assert states.index("silent") < next(n for n, s in enumerate(flown.statuses) if NEW_WINDOW in s.text)
    assert flown.counters.lost == 60
    check_forecasts(flown, undisturbed, [*range(WINDOW - 1, 20), *range(80 + WINDOW - 1, FRAMES)])


def test_many_faults_in_one_session_each_have_their_outcome(line: Line, undisturbed: dict[int, np.ndarray]) -> None:
    faults = (
        "kind='duplicated'\nframe=10",
        "kind='zero'\nframe=20",
        "kind='truncated'\npart='header'\nframe=30",
        "kind='late'\nframe=45",
        "kind='bad_counts'\nvalue='inf'\nin_channels=9\nframe=60",
    )
    flown = line.fly("".join(f"[[fault]]\n{fault}\n" for fault in faults))
    counters = flown.counters
    counted = (counters.duplicate, counters.invalid, line.newly_malformed(flown), counters.late, counters.lost)
    assert counted == (1, 1, 2, 1, 3)
    gone = {20, 30, 45, 60}
    check_forecasts(flown, undisturbed, [seq for seq in without(0, 0) if seq not in gone], 4 * (WINDOW - 1))


def test_a_reader_that_stands_still_through_a_burst_loses_some_and_counts_them(line: Line) -> None:
    """Queues are bounded: what goes beyond them is lost, seen by its numbers, and the window starts anew."""
    burst = 3000  # more than the queues of both sides hold
    faults = f"[[fault]]\nkind = 'burst'\nframe = {AT}\nframes = {burst}"
    how = ("--frames", "1000000", "--speed", "300", "--wait-readers", "2")
    with line.simulator(faults, *how) as simulator, Ears(("spectrum",), line.publish) as others:
        line.ears.until(lambda m: isinstance(m, Forecast) and m.from_seq >= WINDOW)
        pause(line.forecaster.process)
        others.until(lambda m: isinstance(m, Spectrum) and m.seq >= AT + burst)
        line.forecaster.process.send_signal(signal.SIGCONT)
        lost = line.ears.status(lambda s: s.text.endswith(NEW_WINDOW))
        forecast = line.ears.until(lambda m: isinstance(m, Forecast) and m.from_seq > AT + burst)[-1].message
        assert isinstance(forecast, Forecast)
        assert forecast.session == lost.session
        assert lost.counters.lost > 0
        assert simulator.is_running


# The instrument


def test_what_a_replay_sends_goes_wrong_too(paper_recordings: list[Path], line: Line) -> None:
    faults = "[[fault]]\nkind='restart'\nat_s=8.0\n[[fault]]\nkind='dropped'\nframe=30\nsaid=true"
    replay = ("sim", "replay", str(paper_recordings[0]), "--publish", ANY_PORT, "--snapshot", ANY_PORT)
    how = ("--speed", "max", "--spectra", "50", "--wait-readers", "1", "--faults", line.script(faults))
    with (
        Child(*replay, *how) as simulator,
        Ears(("session", "spectrum", "status"), simulator.wait_until_ready()["publish"]) as ears,
    ):
        heard = ears.until(lambda m: isinstance(m, SessionEnd))
        assert simulator.process.wait(WITHIN_S) == 0
    first, second = (d.message for d in heard if isinstance(d.message, SessionStart))
    assert second.model_copy(update={"session": first.session}).energy_axis == first.energy_axis
    assert (first.expected_spectra, second.expected_spectra) == (120, 101)
    spectra = [d for d in heard if isinstance(d.message, Spectrum)]
    assert [(d.message.session, d.message.seq) for d in spectra] == [
        *((first.session, seq) for seq in range(19)),
        *((second.session, seq) for seq in range(31) if seq != 11),
    ]
    [notes] = {d.message.notes for d in heard if isinstance(d.message, InstrumentStatus)}
    assert notes == ("FAULTS BY SCRIPT: faults.toml",)


@dataclass
class Commander:
    """Commands an instrument, each with a number of its own."""

    client: InstrumentClient
    ears: Ears
    seq: int = 0

    def order(self, session: str, **what: Any) -> Any:
        self.seq += 1
        now_ns = clock.monotonic_ns()
        command = Command(
            session=session, seq=self.seq, sent_mono_ns=now_ns, expires_mono_ns=now_ns + 9_000_000_000, **what
        )
        answer = self.client.command(command, WITHIN_S).acknowledgement
        assert answer is not None
        return answer

    def start(self) -> SessionStart:
        message = self.ears.until(lambda m: isinstance(m, SessionStart))[-1].message
        assert isinstance(message, SessionStart)
        return message


def test_an_instrument_that_does_other_than_ordered_says_so_and_after_a_restart_it_is_blanked(line: Line) -> None:
    faults = """
    [[fault]]
    kind = "other_than_ordered"
    frame = 0
    frames = 100000
    dwell_factor = 2.0
    current_factor = 0.5
    [[fault]]
    kind = "restart"
    at_s = 20.0
    """
    sim = ("sim", "run", "--obey", "--speed", "50", "--wait-readers", "1", "--faults", line.script(faults))
    anywhere = ("--publish", ANY_PORT, "--snapshot", ANY_PORT, "--command", ANY_PORT)
    with Child(*sim, *anywhere) as simulator:
        at = simulator.wait_until_ready()
        with Ears(("session", "spectrum", "status"), at["publish"]) as ears, InstrumentClient(at["command"]) as client:
            commander = Commander(client, ears)
            assert client.wait_until_connected(WITHIN_S)
            first = commander.start()
            answer = commander.order(first.session, dwell_s=0.1, beam_current_pA=100.0, blanked=False, lease_s=60.0)
            assert answer.outcome == "accepted", answer.reason
            assert (answer.outcome, answer.beam.ordered.dwell_s, answer.beam.ordered.beam_current_pA) == (
                "accepted",
                0.2,
                50.0,
            )
            spectrum = ears.until(lambda m: isinstance(m, Spectrum))[-1].message
            assert isinstance(spectrum, Spectrum)
            assert (spectrum.dwell_s, spectrum.beam_current_pA) == (0.2, 50.0)
            heard = ears.until(lambda m: isinstance(m, SessionStart))
            second = heard[-1].message
            assert not any(isinstance(d.message, SessionEnd) for d in heard)
            old = commander.order(first.session, blanked=False, lease_s=5.0)
            assert (old.outcome, old.limit, old.running_session) == ("refused", "session", second.session)
            assert old.beam.readback.blanked
            assert (old.beam.next_seq, old.beam.dose_pC) == (0, 0.0)
            commander.order(second.session, blanked=False, lease_s=5.0)
            again = ears.until(lambda m: isinstance(m, Spectrum) and m.session == second.session)[-1].message
            assert isinstance(again, Spectrum)
            assert (again.seq, again.dose_before_pC, again.dwell_s) == (0, 0.0, 0.4)


# Scripts


def test_a_script_that_cannot_be_flown_is_refused_in_one_line(tmp_path: Path, paper_recordings: list[Path]) -> None:
    scripts = {
        "an unknown fault": "[[fault]]\nkind='droped'\nframe=3",
        "an overlap": "[[fault]]\nkind='zero'\nframe=3\nframes=4\n[[fault]]\nkind='dropped'\nat_s=2.4",
        "an unreachable frame": "[[fault]]\nkind='zero'\nframe=120",
    }
    lines: dict[str, list[str | Path]] = {}
    for name, script in scripts.items():
        (tmp_path / f"{name}.toml").write_text(script, encoding="utf-8")
        lines[name] = [
            "sim",
            "replay",
            paper_recordings[0],
            "--faults",
            tmp_path / f"{name}.toml",
            "--publish",
            ANY_PORT,
        ]
    finished = run_all(lines)
    said = {name: done.err for name, done in finished.items()}
    assert {
        name: (done.code, done.out, len(done.err.splitlines())) for name, done in finished.items()
    } == dict.fromkeys(lines, (2, "", 1))
    assert "fault 1: there is no fault 'droped'; known are" in said["an unknown fault"]
    assert "fault 2 (dropped): frame 5 overlaps with fault 1 (zero), which takes frames 3 to 6." in said["an overlap"]
    assert "fault 1 (zero): it takes frame 120, and the session's last is 119." in said["an unreachable frame"]


def test_a_script_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    done = run("sim", "run", "--faults", tmp_path / "none.toml", "--publish", ANY_PORT, "--snapshot", ANY_PORT)
    assert (done.code, done.err) == (2, f"eelstm: {tmp_path / 'none.toml'} can't be read: No such file or directory.\n")
