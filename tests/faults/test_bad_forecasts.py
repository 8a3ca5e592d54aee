"""Forecasts that can't be believed, from a forecaster that the test plays; controller, guard and instrument are real. Row 23."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.sockets import publisher
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import (
    ControllerStatus,
    InstrumentStatus,
    Interval,
    Message,
    Proposal,
    QualityFlag,
    Spectrum,
    StageLatency,
    Status,
    Summary,
)
from tests.flying import Flying
from tests.programs import WITHIN_S, Ears

REFERENCE_PC = 92.0
HORIZONS = tuple(range(1, 9))


def interval(value: float, deviation: float = 0.02) -> Interval:
    return Interval(value=value, low=value - 1.96 * deviation, high=value + 1.96 * deviation)


class Played:
    """A forecaster that says of each spectrum what the test wants: a phase that rises slowly with dose, or something worse."""

    def __init__(self, flying: Flying) -> None:
        self.flying = flying
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.out = publisher(self._context, flying.at["forecasts"])
        self.spectra = Ears(("spectrum",), flying.at["publish"])
        self.seq = 0
        self.per_pC = 1e-5  # phase

    def wait_for_controller(self) -> None:
        """Until the controller has subscribed; the ears have, too."""
        heard = 0
        while heard < 2:
            assert self.out.poll(WITHIN_S * 1000)
            heard += b".summary." in self.out.recv()

    def say(self, session: str, state: str = "filling") -> None:
        """The status that a forecaster says once a second."""
        status = Status(
            session=session,
            seq=self.seq,
            sent_mono_ns=clock.monotonic_ns(),
            sender="forecaster",
            state=state,  # type: ignore[arg-type]
            text=f"{state}, says the test",
        )
        self.seq += 1
        self.out.send_multipart(encode("microscope", status))

    def of(self, spectrum: Spectrum, **changes: Any) -> Summary:
        """A good forecast from a spectrum, but for the changes."""
        assert spectrum.dose_pC is not None
        assert spectrum.dose_before_pC is not None
        at_pC = spectrum.dose_before_pC + spectrum.dose_pC
        self.seq += 1
        fields: dict[str, Any] = {
            "session": spectrum.session,
            "seq": self.seq,
            "sent_mono_ns": clock.monotonic_ns(),
            "from_seq": spectrum.seq,
            "spectrum_sent_mono_ns": spectrum.sent_mono_ns,
            "clock_id": clock.clock_id(),
            "model_name": "played",
            "model_sha256": "0" * 64,
            "window": 8,
            "horizons": HORIZONS,
            "valid_at": (spectrum.acquired_at,) * len(HORIZONS),
            "window_domain": "dose",
            "reference_dose_pC": REFERENCE_PC,
            "reference_dwell_s": 0.4,
            "simulated": True,
            "at_dose_pC": at_pC,
            "phase_now": interval(self.per_pC * at_pC),
            "phase": tuple(interval(self.per_pC * (at_pC + h * REFERENCE_PC)) for h in HORIZONS),
            "latency": StageLatency(queued_ns=0, prepared_ns=0, inferred_ns=0, batch=1),
        }
        return Summary(**(fields | changes))

    def next_spectrum(self, session: str) -> Spectrum:
        """The next one, and none that has waited to be heard."""
        now_ns = clock.monotonic_ns()

        def is_it(message: Message) -> bool:
            return isinstance(message, Spectrum) and message.session == session and message.sent_mono_ns > now_ns

        message = self.spectra.until(is_it)[-1].message
        assert isinstance(message, Spectrum)
        return message

    def forecast(self, session: str, **changes: Any) -> Summary:
        """Forecast from the next spectrum."""
        summary = self.of(self.next_spectrum(session), **changes)
        self.send(summary)
        return summary

    def send(self, summary: Summary) -> None:
        self.out.send_multipart(encode("microscope", summary))

    def take_off(self) -> ControllerStatus:
        """From disarmed until the controller controls by the forecasts that are played here; how it stands then."""
        self.start()
        flying, session = self.flying, self.flying.session
        self.forecast(session)
        return flying.until(ControllerStatus, lambda m: m.session == session and m.state == "controlling")

    def start(self) -> None:
        """From disarmed until the beam is on at the start rate."""
        flying, session = self.flying, self.flying.session
        assert flying.tell("disarm", session).outcome == "accepted"
        flying.until(ControllerStatus, lambda m: m.session == session and "must arm it" in m.text)
        flying.arm()
        self.say(session)
        flying.beam(blanked=False)

    def close(self) -> None:
        self.spectra.close()
        self._context.destroy(linger=0)


@contextmanager
def playing() -> Iterator[Played]:
    """Controller, guard and an instrument, with a forecaster that the test plays."""
    with (
        tempfile.TemporaryDirectory(prefix="fly") as folder,
        Flying(Path(folder), without=("serve",)) as flying,
        flying.instrument(),
    ):
        played = Played(flying)
        played.wait_for_controller()
        try:
            yield played
        finally:
            played.close()


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with playing() as played:
        yield played


def stale(played: Played, session: str) -> Summary:
    return played.forecast(session, spectrum_sent_mono_ns=clock.monotonic_ns() - 5_000_000_000)


def of_another_session(played: Played, session: str) -> Summary:
    return played.forecast(session).model_copy(update={"session": "another"})


def phase(value: float, **changes: Any) -> Callable[[Played, str], Summary]:
    wrong = interval(value).model_copy(update=changes)
    return lambda played, session: played.forecast(session, phase_now=wrong)


def changed(**changes: Any) -> Callable[[Played, str], Summary]:
    return lambda played, session: played.forecast(session, **changes)


BAD: dict[str, tuple[str, Callable[[Played, str], Summary], str]] = {
    "stale": ("stale", stale, "is stale: its spectrum is 5."),
    "a phase of 7": ("absurd", phase(7.0), "0 is pristine and 1 transformed"),
    "an inverted interval": ("absurd", phase(0.1, low=0.3, high=-0.1), "outside its own interval"),
    "no interval": ("absurd", phase(0.1, low=0.1, high=0.1), "which no measurement has"),
    "an interval of 6": ("absurd", phase(0.1, low=-3.0, high=3.0), "which no measurement has"),
    "a jump": ("jump", phase(0.9), "jumps: phase 0.9"),
    "no dose": ("dose_is_relative", changed(at_dose_pC=None), "does not say at which dose"),
    "a relative dose": (
        "dose_is_relative",
        changed(quality=(QualityFlag(flag="dose_is_relative", reason="the current is unknown"),)),
        "is of a relative dose",
    ),
    "a specimen that does not align": (
        "alignment_uncertain",
        changed(quality=(QualityFlag(flag="alignment_uncertain", reason="correlation -0.28"),)),
        "is flagged alignment_uncertain (correlation -0.28)",
    ),
    "counts that were never trained on": (
        "outside_training_range",
        changed(quality=(QualityFlag(flag="outside_training_range", reason="15% of the channels"),)),
        "is flagged outside_training_range (15% of the channels)",
    ),
    "steps of frames that differ": (
        "window_domain",
        changed(window_domain="frame", quality=(QualityFlag(flag="dwell_differs_from_training", reason="0.1 s"),)),
        "counts its steps in frames",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_forecast_that_cant_be_believed_is_discarded_with_its_reason(played: Played, name: str) -> None:
    by, make, words = BAD[name]
    before, session = played.take_off(), played.flying.session
    bad = make(played, session)
    told = played.flying.until(ControllerStatus, lambda m: m.discarded > before.discarded)
    assert told.discarded_by[by] == before.discarded_by.get(by, 0) + 1
    assert words in told.discarded_why
    good = played.forecast(session)  # and the next good one is used again
    proposal = played.flying.until(Proposal, lambda m: m.from_seq >= bad.from_seq)
    assert proposal.from_seq == good.from_seq


def test_one_of_another_session_is_discarded(played: Played) -> None:
    before, session = played.take_off(), played.flying.session
    played.send(played.of(played.next_spectrum(session), session="another"))
    told = played.flying.until(ControllerStatus, lambda m: m.discarded > before.discarded)
    assert told.discarded_by["session"] == 1
    assert "is of session another" in told.discarded_why


def test_one_that_is_not_finite_is_discarded(played: Played) -> None:
    before, session = played.take_off(), played.flying.session
    topic, header, payload = encode("microscope", played.of(played.next_spectrum(session)))
    spoilt = header.replace(b'"reference_dwell_s":0.4', b'"reference_dwell_s":NaN')
    assert spoilt != header
    played.out.send_multipart([topic, spoilt, payload])
    told = played.flying.until(ControllerStatus, lambda m: m.discarded > before.discarded)
    assert told.discarded_by["malformed"] == 1


def test_a_specimen_that_the_model_never_knew_is_blanked_and_the_status_says_what_to_do() -> None:
    flagged = QualityFlag(flag="alignment_uncertain", reason="correlation -0.28")
    with playing() as played:
        flying, session = played.flying, played.flying.session
        played.start()
        played.forecast(session, quality=(flagged,))
        flying.mode("hold", session=session)
        flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
        flying.mode("blank", session=session)
        played.say(session, "silent")
        status = flying.until(ControllerStatus, lambda m: "were of no use" in m.text)
        assert (status.state, status.phase) == ("waiting", None)
        assert "--accept-flagged" in status.text
        assert all(not proposal.plan_dose_pC for proposal in flying.of(Proposal, session))


def test_row_23_where_no_forecast_is_any_good_the_guard_holds_and_then_blanks(played: Played) -> None:
    played.take_off()
    session = played.flying.session
    absurd = played.forecast(session, phase_now=interval(7.0))
    played.flying.mode("hold", session=session)
    told = played.flying.until(InstrumentStatus, lambda m: m.session == session and m.state == "blanked")
    assert "lease" in told.text
    played.flying.mode("blank", session=session)
    played.say(session, "silent")  # as a forecaster says that sees no spectra; it doesn't make the controller try again
    status = played.flying.until(ControllerStatus, lambda m: m.session == session and "were of no use" in m.text)
    assert status.state == "waiting"
    assert all(m.from_seq < absurd.from_seq for m in played.flying.of(Proposal, session))
