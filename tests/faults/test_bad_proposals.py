"""Proposals that no good controller makes, from one that the test plays; guard and instrument are real. Row 25 of section 13."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from eelstm_stream.io import clock
from eelstm_stream.io.sockets import publisher
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import Decision, InstrumentStatus, Proposal
from tests.flying import SETTINGS, Flying
from tests.programs import WITHIN_S

RATE = {"dwell_s": 0.4, "beam_current_pA": 230.0}


class Played:
    """A controller that says what the test wants."""

    def __init__(self, flying: Flying) -> None:
        self.flying = flying
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.out = publisher(self._context, flying.at["proposals"])
        self.seq = -1
        self.session = ""

    def wait_for_guard(self) -> None:
        """Until the guard has subscribed; the ears have, too."""
        heard = 0
        while heard < 2:
            assert self.out.poll(WITHIN_S * 1000)
            heard += b".proposal." in self.out.recv()

    def proposal(self, **changes: Any) -> Proposal:
        self.seq += 1
        now_ns = clock.monotonic_ns()
        fields: dict[str, Any] = {
            "session": self.session,
            "seq": self.seq,
            "sent_mono_ns": now_ns,
            "from_seq": 0,
            "preset": "preserve",
            "blank": False,
            "plan_dose_pC": (),
            "lease_s": 15.0,
            "expires_mono_ns": now_ns + 500_000_000,
            "reason": "a test",
            "clock_id": clock.clock_id(),
        }
        return Proposal(**(fields | RATE | changes))

    def say(self, proposal: Proposal) -> Decision:
        """Publish a proposal, and wait for what the guard makes of it."""
        self.out.send_multipart(encode("microscope", proposal))
        return self.flying.until(
            Decision, lambda m: m.proposal_seq == proposal.seq and m.proposal_sent_mono_ns == proposal.sent_mono_ns
        )

    def propose(self, **changes: Any) -> Decision:
        return self.say(self.proposal(**changes))

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    settings = SETTINGS.replace("[guard]", "[guard]\nmax_current_pA = 240.0")
    with (
        tempfile.TemporaryDirectory(prefix="fly") as folder,
        Flying(Path(folder), settings=settings, without=("serve", "control")) as flying,
        flying.instrument(),
    ):
        played = Played(flying)
        played.wait_for_guard()
        yield played
        played.close()


@pytest.fixture
def armed(played: Played) -> Played:
    """The beam is on, after a proposal as it should be."""
    played.session = played.flying.arm()
    assert played.propose().outcome == "accepted"
    played.flying.beam(blanked=False)
    return played


def test_what_is_no_number_latches(armed: Played) -> None:
    topic, header, payload = encode("microscope", armed.proposal())
    armed.out.send_multipart([topic, header.replace(b'"dwell_s":0.4', b'"dwell_s":NaN'), payload])
    status = armed.flying.mode("blank_latched")
    assert status.latched_by is not None
    assert "not finite" in status.latched_by
    assert status.refused_by["finite"] > 0
    armed.flying.until(InstrumentStatus, lambda m: m.session == armed.session and m.state == "blanked")


def test_an_expired_one_is_refused_and_counted(armed: Played) -> None:
    decision = armed.propose(expires_mono_ns=clock.monotonic_ns() - 1)
    assert (decision.outcome, decision.limit) == ("refused", "expired")
    assert decision.command_seq is None
    assert armed.propose().outcome == "accepted"


def test_a_replayed_one_is_refused(armed: Played) -> None:
    good = armed.proposal()
    assert armed.say(good).outcome == "accepted"
    again = armed.say(good)
    assert (again.outcome, again.limit) == ("refused", "seq")
    assert again.command_seq is None


def test_one_that_wants_too_much_is_cut_to_the_limit(armed: Played) -> None:
    decision = armed.propose(beam_current_pA=400.0)
    assert (decision.outcome, decision.limit) == ("clamped", "max_current_pA")
    assert decision.beam_current_pA == 240.0
    armed.flying.until(
        InstrumentStatus,
        lambda m: m.beam is not None and m.beam.ordered.beam_current_pA == 240.0 and m.session == armed.session,
    )


def test_one_of_another_session_is_refused(armed: Played) -> None:
    decision = armed.propose(session="another")
    assert (decision.outcome, decision.limit) == ("refused", "session")


def test_advice_commands_nothing(armed: Played) -> None:
    decision = armed.propose(preset="advise")
    assert (decision.outcome, decision.limit) == ("refused", "advise")
    assert decision.command_seq is None


def test_what_is_refused_stands_in_the_journal_with_its_reason(armed: Played) -> None:
    armed.propose(expires_mono_ns=1)
    refused_seq = armed.seq
    armed.propose()  # what leaves no lease is written down after it is said, and before the next is decided
    entries = [json.loads(line) for line in armed.flying.journal.read_text(encoding="utf-8").splitlines()]
    said: list[dict[str, Any]] = [
        effect["what"] for entry in entries for effect in entry.get("effects", ()) if effect["type"] == "Decide"
    ]
    newest = next(what for what in reversed(said) if what.get("proposal_seq") == refused_seq)
    assert (newest["outcome"], newest["limit"], newest["proposal_seq"]) == ("refused", "expired", refused_seq)
    assert "expired" in newest["reason"]
