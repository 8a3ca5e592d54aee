"""Whatever the microscope behind an adapter does, the beam is blanked when its lease is over, and it's told why."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eelstm_stream.io import clock
from eelstm_stream.wire.messages import Acknowledgement, Gap, InstrumentStatus, SessionEnd, Spectrum
from tests.bench_microscope import FRAME
from tests.commanding import Commanding
from tests.programs import WITHIN_S, let_pass, pause

ON = {"blanked": False, "dwell_s": 0.05, "beam_current_pA": 100.0}


@contextmanager
def microscope_that(fault: str) -> Iterator[tuple[Commanding, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench_microscope", fault],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            with Commanding(json.loads(process.stdout.readline())) as commanding:
                yield commanding, process
        finally:
            process.kill()


def test_one_without_a_fault_counts_what_it_gives():
    with microscope_that("works") as (microscope, process):
        assert microscope.first.text == "the beam is blanked: nothing was commanded yet"
        assert microscope.first.beam.dose_pC < 1.0  # what it found on, it blanked at once
        assert microscope.tell(**ON, lease_s=5.0).beam.readback.blanked is False
        for seq in range(10):  # of 0.05 s: 5 s are not enough if it only looks once a second
            heard = microscope.spectrum()
            assert heard.message.seq == seq
            assert heard.payload.tolist() == [50.0] * 16
        assert microscope.status().notes == ("on the bench",)
        faster = microscope.tell(
            dwell_s=0.02, beam_current_pA=200.0
        ).beam.holds_from_seq  # it is set with the beam blanked
        assert microscope.spectrum(from_seq=faster).payload.tolist() == [40.0] * 16
        process.terminate()
        heard = [d.message for d in microscope.ears.until(lambda m: isinstance(m, SessionEnd))]
        assert heard[-1].reason == "stopped"
        assert [m for m in heard if isinstance(m, InstrumentStatus)][-1].beam.readback.blanked
        assert process.wait(WITHIN_S) == 0


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("raises", "the camera's cable is out"),
        ("not a number", "not finite"),
    ],
)
def test_a_camera_that_fails_ends_the_session_with_its_words_and_the_beam_blanked(fault, says):
    with microscope_that(fault) as (microscope, process):
        microscope.tell(**ON, lease_s=20.0)
        heard = [d.message for d in microscope.ears.until(lambda m: isinstance(m, SessionEnd))]
        assert [m.seq for m in heard if isinstance(m, Spectrum)] == list(range(FRAME))
        assert heard[-1].reason == "failed"
        assert says in heard[-1].text
        _, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 1
        assert says in err.splitlines()[-1]
        assert "Traceback" not in err


def test_a_camera_that_does_not_come_back_holds_up_neither_commands_nor_the_end_of_the_lease_and_is_given_up():
    with microscope_that("hangs") as (microscope, process):
        microscope.tell(**ON, lease_s=1.5)
        heard = [d.message for d in microscope.ears.until(lambda m: isinstance(m, Gap))]
        assert "before the camera was done" in heard[-1].reason
        assert heard[-1].first_seq == FRAME
        assert microscope.tell(blanked=True).beam.readback.blanked
        end = microscope.ears.until(lambda m: isinstance(m, SessionEnd))[-1].message
        assert end.reason == "failed"
        assert f"has not given back frame {FRAME}" in end.text
        assert process.wait(WITHIN_S) == 1


def test_the_end_of_the_lease_cuts_a_frame_that_takes_too_long_and_the_session_goes_on():
    with microscope_that("hangs until it is cut") as (microscope, _):
        microscope.tell(**ON, lease_s=1.5)
        microscope.ears.until(lambda m: isinstance(m, Gap))
        blanked = microscope.status(blanked=True)
        assert "before the camera was done" in blanked.text
        assert blanked.beam.dose_pC >= 1.3 * 100.0  # the frame that came to nothing, too
        assert microscope.tell(**ON, lease_s=0.5).outcome == "accepted"
        assert microscope.status(blanked=True).beam.next_seq == FRAME + 2


def test_a_dose_that_is_given_cuts_a_frame_that_takes_too_long():
    with microscope_that("hangs until it is cut") as (microscope, _):
        microscope.tell(**ON, lease_s=30.0, lease_until_dose_pC=40.0)
        blanked = microscope.status(blanked=True)
        assert 34.0 <= blanked.beam.dose_pC < 1000.0  # a busy machine may notice late: not by 10 s


def test_a_late_camera_gets_no_more_than_the_lease_unless_the_machine_stands_still():
    with microscope_that("hangs until it is cut") as (microscope, _):
        over_pC = []  # which is above zero each time, if the beam is only then blanked when its dose is given
        while not over_pC or (min(over_pC) > 0 and len(over_pC) < 100):
            until_pC = microscope.status(blanked=True).beam.dose_pC + 30.0
            assert microscope.tell(**ON, lease_s=20.0, lease_until_dose_pC=until_pC).outcome == "accepted"
            microscope.status(blanked=False)
            over_pC.append(microscope.status(blanked=True).beam.dose_pC - until_pC)
        assert min(over_pC) <= 0


def test_an_adapter_that_says_its_beam_is_off_in_no_time_does_not_start():
    command = [sys.executable, "-m", "tests.bench_microscope", "blanks in no time"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "eelstm: the limits of this adapter say blank_delay_s = 0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_blanker_that_does_not_move_ends_the_session_and_the_program_says_so():
    with microscope_that("stuck blanker") as (microscope, process):
        microscope.tell(**ON, lease_s=1.5)
        end = microscope.ears.until(lambda m: isinstance(m, SessionEnd))[-1].message
        assert end.reason == "failed"
        assert "the blanker was told to blank the beam, and did not" in end.text
        assert process.wait(WITHIN_S) == 1


def test_another_current_than_was_ordered_is_read_back_counted_and_told():
    with microscope_that("another current") as (microscope, _):
        told = microscope.tell(**ON, lease_s=20.0).beam
        assert told.ordered.beam_current_pA == 100.0
        assert told.readback.beam_current_pA == pytest.approx(110.0)
        spectra = [microscope.spectrum().message for _ in range(3)]
        assert spectra[0].beam_current_pA == pytest.approx(110.0)
        assert spectra[2].dose_before_pC >= 2 * 0.05 * 110.0


def test_a_beam_that_somebody_lets_on_by_hand_is_blanked_again_and_its_dose_counted():
    with microscope_that("works") as (microscope, process):
        before = microscope.status(blanked=True)
        let_pass(0.5)
        process.send_signal(signal.SIGUSR1)
        heard = [
            d.message
            for d in microscope.ears.until(lambda m: isinstance(m, InstrumentStatus) and "somebody else" in m.text)
        ]
        assert heard[-1].beam.readback.blanked
        assert heard[-1].beam.dose_pC - before.beam.dose_pC > 0.4 * 100.0  # it may have been on since that status
        assert not any(isinstance(message, Spectrum) for message in heard)


def test_an_adapter_that_stood_still_finds_its_lease_over_and_counts_the_time():
    with microscope_that("works") as (microscope, process):
        microscope.tell(**ON, lease_s=2.0)
        on = microscope.status(blanked=False)
        microscope.spectrum()
        pause(process)
        held_up = microscope.command(**ON, lease_s=2.0, expires_mono_ns=clock.monotonic_ns() + 100_000_000)
        assert microscope.client.submit(held_up)
        let_pass(2.2)
        process.send_signal(signal.SIGCONT)
        heard = [
            d.message
            for d in microscope.ears.until(lambda m: isinstance(m, InstrumentStatus) and m.beam.readback.blanked)
        ]
        assert (
            heard[-1].beam.dose_pC - on.beam.dose_pC > 2.1 * 100.0
        )  # its beam was on all the time: nobody could blank it
        assert microscope.client.socket.poll(WITHIN_S * 1000)
        late = microscope.client.receive()
        assert (late.seq, late.outcome, late.limit) == (held_up.seq, "refused", "expired")
        assert microscope.status(blanked=True).beam.next_seq == heard[-1].beam.next_seq


def test_where_nothing_can_be_read_back_the_beam_is_blanked_before_that_is_tried_again():
    with microscope_that("no readback") as (microscope, process):
        microscope.client.submit(microscope.command(**ON, lease_s=20.0))
        end = microscope.ears.until(lambda m: isinstance(m, SessionEnd))[-1].message
        assert end.reason == "failed"
        assert "can't be read back" in end.text
        _, err = process.communicate(timeout=WITHIN_S)
        done = [line.removeprefix("bench: ") for line in err.splitlines() if line.startswith("bench: ")]
        assert done[done.index("let on") :][:3] == ["let on", "read back", "blanked"]
        assert "Traceback" not in err


def test_what_the_lease_does_not_cover_as_it_is_measured_is_refused_and_undone():
    with microscope_that("another current") as (microscope, _):
        before = microscope.first.beam
        on = ON | {"lease_s": 20.0, "lease_until_dose_pC": 0.105 * 105.0}  # a frame until the beam is off, at 105 pA
        told = microscope.tell(**on)
        assert (told.outcome, told.limit) == ("refused", "lease_until_dose_pC")
        assert "as it was measured" in told.reason
        assert (told.beam.ordered, told.beam.lease) == (before.ordered, None)
        assert microscope.tell(dwell_s=0.05, beam_current_pA=100.0).outcome == "accepted"
        on.pop("beam_current_pA")  # it is set already, so what it will be is known
        told = microscope.tell(**on)
        assert (told.outcome, told.limit) == ("refused", "lease_until_dose_pC")
        assert (told.beam.next_seq, told.beam.readback.blanked) == (0, True)


def test_of_commands_that_come_together_blanking_is_done_first_and_the_rest_once():
    with microscope_that("commands in threes") as (microscope, process):

        def tell(*orders: dict[str, object]) -> list[Acknowledgement]:
            for order in orders:
                assert microscope.client.submit(microscope.command(**order))
            answers = []
            for _ in orders:
                assert microscope.client.socket.poll(WITHIN_S * 1000)
                answers.append(microscope.client.receive())
            return answers

        on = {"blanked": False, "lease_s": 20.0}
        never_on = tell({**on, "dwell_s": 0.2}, {**on, "dwell_s": 0.3}, {"blanked": True})
        assert [answer.outcome for answer in never_on] == ["accepted"] * 3
        assert (never_on[0].beam.readback.blanked, never_on[0].beam.next_seq) == (True, 0)
        again = tell({**on, "dwell_s": 10.0}, {**on, "dwell_s": 99.0}, {"dwell_s": 0.4})
        assert [answer.limit for answer in again] == [None, "max_dwell_s", None]
        assert not again[0].beam.readback.blanked
        cut = tell({"dwell_s": 0.5}, {"dwell_s": 0.6}, {"blanked": True})
        assert cut[0].beam.readback.blanked
        process.terminate()
        _, err = process.communicate(timeout=WITHIN_S)
        done = [line.removeprefix("bench: ") for line in err.splitlines() if line.startswith("bench: ")]
        moves = [move for move, _ in itertools.groupby(move for move in done if move != "read back")]
        assert moves == ["blanked", "set 0.3 s", "blanked", "set 0.4 s", "let on", "blanked", "set 0.6 s", "blanked"]
