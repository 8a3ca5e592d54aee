"""The guard as a process, between a simulated instrument and a controller that the test plays; its operator; its journal."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import zmq

from controller.operating import Operator, OperatorSettings
from eelstm_stream.io import clock
from eelstm_stream.io.children import Child
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import (
    Decision,
    GuardStatus,
    InstrumentStatus,
    Message,
    OperatorCommand,
    OperatorReply,
    Proposal,
)
from tests.programs import ANY_PORT, WITHIN_S, Ears, Finished, run, run_all

# A busy machine must not end what a test looks at: only leases end by themselves here.
SETTINGS = """
[guard]
budget_pC = 20000
max_current_pA = 300
increase_pA_per_s = 10000
healthy_within_s = 60
silent_after_s = 60
spectrum_within_s = 60
command_within_s = 5
"""


class Rig:
    """An instrument and a guard, and the test in the place of controller and operator."""

    def __init__(
        self, folder: Path, settings: str = SETTINGS, *flags: str, follow: bool = True, stderr: int | None = None
    ) -> None:
        self.folder = folder
        self.journal = folder / "guard.journal"
        self.config = folder / "settings.toml"
        self.config.write_text(settings)
        self._flags = flags
        self._stderr = stderr  # of its guards
        self._seq = -1
        with ExitStack() as stack:
            self.sim = stack.enter_context(Child("sim", "run", "--obey", "--fixed", *self._sockets("command")))
            self.instrument = self.sim.wait_until_ready()
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            stack.callback(self._context.destroy, linger=0)
            self.proposals = self._context.socket(zmq.XPUB)
            self.proposals.setsockopt(zmq.XPUB_VERBOSER, 1)
            self.proposals.bind(ANY_PORT)
            self.beam_ears = stack.enter_context(Ears(("status", "session"), self.instrument["publish"]))
            self._guards = stack.enter_context(ExitStack())
            self.start_guard(follow=follow)
            self._stack = stack.pop_all()

    def _sockets(self, third: str) -> list[str]:
        return ["--publish", ANY_PORT, f"--{third}", ANY_PORT] + (
            ["--snapshot", ANY_PORT] if third == "command" else []
        )

    @property
    def guard_line(self) -> list[str]:
        """How the guard is started."""
        proposals = self.proposals.getsockopt_string(zmq.LAST_ENDPOINT)
        at = self.instrument
        places = ["--spectra", at["publish"], "--snapshot", at["snapshot"], "--command", at["command"]]
        line = ["guard", "--config", str(self.config), "--journal", str(self.journal), *places]
        return [*line, "--proposals", proposals, *self._sockets("operator"), *self._flags]

    def start_guard(self, *, follow: bool = True) -> GuardStatus:
        """A guard, and its first status, or the first in which it can guard the instrument's session."""
        self.guard = self._guards.enter_context(Child(*self.guard_line, stderr=self._stderr))
        self.at = self.guard.wait_until_ready()
        self.ears = self._guards.enter_context(Ears(("status", "decision"), self.at["publish"]))
        while self.proposals.recv() != b"\1microscope.proposal.":
            pass
        self.person = self._guards.enter_context(
            Operator(OperatorSettings(guard=self.at["publish"], operator=self.at["operator"]))
        )
        status = self.status(lambda s: not follow or (s.readback is not None and "can't be controlled" not in s.text))
        self.session = status.session
        return status

    def status(self, wanted: Callable[[GuardStatus], bool] = lambda _: True) -> GuardStatus:
        return self._until(self.ears, GuardStatus, wanted)

    def decision(self, wanted: Callable[[Decision], bool] = lambda _: True) -> Decision:
        return self._until(self.ears, Decision, wanted)

    def beam(self, *, blanked: bool) -> InstrumentStatus:
        """The instrument's next status of this sort."""
        return self._until(
            self.beam_ears, InstrumentStatus, lambda s: s.beam is not None and s.beam.readback.blanked is blanked
        )

    @staticmethod
    def _until(ears: Ears, kind: type[Message], wanted: Callable[[Any], bool]) -> Any:
        return ears.until(lambda m: isinstance(m, kind) and wanted(m))[-1].message

    def propose(self, **changes: Any) -> int:
        """A proposal under the next number."""
        self._seq += 1
        now_ns = clock.monotonic_ns()
        fields: dict[str, Any] = {
            "session": self.session,
            "seq": self._seq,
            "sent_mono_ns": now_ns,
            "from_seq": 0,
            "preset": "preserve",
            "blank": False,
            "dwell_s": 0.1,
            "beam_current_pA": 230.0,
            "plan_dose_pC": (23.0,),
            "lease_s": 2.0,
            "expires_mono_ns": now_ns + 9_000_000_000,
            "reason": "a test",
            "clock_id": clock.clock_id(),
        }
        self.proposals.send_multipart(encode("microscope", Proposal(**(fields | changes))))
        return self._seq

    def tell(self, action: str, **fields: Any) -> OperatorReply:
        """A command of the operator, by the guard's own socket."""
        now_ns = clock.monotonic_ns()
        told = OperatorCommand(
            action=action,
            session=self.session,
            seq=now_ns // 1000,  # above all before, as an operator's own program counts on from what it hears
            sent_mono_ns=now_ns,
            expires_mono_ns=now_ns + 9_000_000_000,
            **fields,
        )
        reply = self.person.send(told)
        assert reply is not None
        return reply

    def operator_line(self, action: str, *arguments: str) -> list[str]:
        where = ["--guard", self.at["publish"]]
        if action != "status":
            where += ["--operator", self.at["operator"]]
        return ["operator", action, *arguments, *where]

    def fly(self) -> Decision:
        """Arm, propose, and see the beam on."""
        assert self.tell("arm").outcome == "accepted"
        seq = self.propose()
        decided = self.decision(lambda d: d.proposal_seq == seq)
        assert decided.outcome == "accepted"
        self.beam(blanked=False)
        return decided

    def kill_guard(self) -> None:
        self.guard.process.kill()
        self.guard.process.wait(WITHIN_S)

    def end_guard(self) -> int:
        self.guard.process.send_signal(signal.SIGTERM)
        return self.guard.process.wait(WITHIN_S)

    def entries(self) -> list[dict[str, Any]]:
        """The journal's."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as started:
        yield started


# The beam


def test_nothing_acts_before_an_operator_arms_and_then_a_lease_is_written_before_it_is_sent(rig: Rig):
    before = rig.propose()
    refused = rig.decision(lambda d: d.proposal_seq == before)
    assert (refused.outcome, refused.limit) == ("refused", "disarmed")
    decided = rig.fly()
    assert decided.readback is not None
    assert decided.acknowledged_mono_ns is not None
    assert decided.until_dose_pC is not None
    assert decided.spent_dose_pC >= decided.until_dose_pC
    sent = [entry for entry in rig.entries() if any(effect["type"] == "Send" for effect in entry.get("effects", ()))]
    assert [effect["type"] for effect in sent[0]["effects"]][:2] == ["Write", "Send"]
    shown = rig.status(lambda s: s.accepted == 1)
    assert shown.refused_by == {"disarmed": 1}


def test_a_killed_guard_leaves_a_beam_that_blanks_itself_and_the_next_charges_the_whole_lease(rig: Rig):
    decided = rig.fly()
    rig.kill_guard()
    blanked = rig.beam(blanked=True)  # by the instrument alone, at the end of its lease
    assert blanked.beam is not None
    assert blanked.beam.dose_pC is not None
    assert 0 < blanked.beam.dose_pC <= decided.until_dose_pC * (1 + 1e-9)
    again = rig.start_guard()
    assert again.mode == "disarmed"
    assert again.ledger is not None
    assert again.ledger.charged_pC == pytest.approx(decided.spent_dose_pC)
    seq = rig.propose()
    assert rig.decision(lambda d: d.proposal_seq == seq).limit == "disarmed"


def test_a_guard_that_is_stopped_blanks_first(tmp_path: Path):
    with Rig(tmp_path, SETTINGS + "max_lease_s = 60\n") as rig:
        rig.fly()
        rig.propose(lease_s=60.0)
        rig.decision(lambda d: d.lease_s == 60.0)
        assert rig.end_guard() == 0
        blanked = rig.beam(blanked=True)  # long before the lease ends
        assert blanked.beam is not None
        assert blanked.beam.lease is None or blanked.beam.lease.left_s == 0


def test_an_operator_blanks_while_the_controller_goes_on(tmp_path: Path):
    with Rig(tmp_path, SETTINGS + "max_lease_s = 60\n") as rig:
        rig.fly()
        for _ in range(50):
            rig.propose(lease_s=60.0)
        done = run(*rig.operator_line("blank", "--reason", "the grain is lost"))
        assert done.code == 0, done.err
        assert "blanked, as the instrument says, and latched" in done.out
        rig.beam(blanked=True)
        seq = rig.propose()
        refused = rig.decision(lambda d: d.proposal_seq == seq)
        assert (refused.limit, refused.mode) == ("blank_latched", "blank_latched")
        said = run(*rig.operator_line("status"))
        assert "the grain is lost" in said.out
        assert "eelstm operator clear" in said.out
        assert run(*rig.operator_line("arm")).code == 1
        assert run(*rig.operator_line("clear")).code == 0
        assert rig.status(lambda s: s.mode != "blank_latched").mode == "disarmed"


def test_a_blank_is_not_confirmed_by_what_the_instrument_said_before_it(rig: Rig):
    assert rig.tell("arm").outcome == "accepted"
    rig.sim.process.send_signal(signal.SIGSTOP)  # the last that it said: blanked
    rig.propose()
    rig.status(lambda s: not s.beam_is_off)
    unsure = run(*rig.operator_line("blank"))
    assert unsure.code == 1, unsure.out
    assert "BLANK BY HAND" in unsure.err
    rig.sim.process.send_signal(signal.SIGCONT)
    assert rig.status(lambda s: s.beam_is_off).mode == "blank_latched"
    assert run(*rig.operator_line("blank")).code == 0


def test_a_terminal_that_is_not_read_or_gone_hangs_nothing(tmp_path: Path):
    """75 lines fill a pipe of one page; then its reader goes."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with Rig(tmp_path, SETTINGS, stderr=write) as rig:
            for _ in range(60):
                assert rig.tell("arm").outcome == "accepted"
                assert rig.tell("disarm").outcome == "accepted"
            assert rig.tell("blank").outcome == "accepted"
            assert rig.tell("clear").outcome == "accepted"
            assert b"lines were not said" not in os.read(read, 65536)
            assert rig.tell("arm").outcome == "accepted"
            assert b"lines were not said" in os.read(read, 65536)
            os.close(write)
            write = -1
            os.close(read)
            read = -1
            rig.fly()
            assert rig.tell("blank").outcome == "accepted"
            rig.beam(blanked=True)
            assert rig.end_guard() == 0
    finally:
        for end in (read, write):
            if end >= 0:
                os.close(end)


def test_an_override_renews_its_leases_until_it_is_ended(rig: Rig):
    refused = run(*rig.operator_line("override", "--dwell", "0.1", "--current", "900"))
    assert refused.code == 1
    assert "max_current_pA" in refused.err
    assert run(*rig.operator_line("override", "--dwell", "0.1", "--current", "100")).code == 0
    first = rig.status(lambda s: s.mode == "override")
    assert first.ledger is not None
    later = rig.status(lambda s: s.ledger is not None and s.ledger.reported_pC > 100.0 * 2.0)  # beyond the first lease
    assert later.mode == "override"
    assert rig.tell("disarm").outcome == "accepted"
    rig.status(lambda s: s.readback is not None and s.readback.blanked)


def test_proposals_wait_for_their_approval(tmp_path: Path):
    with Rig(tmp_path, SETTINGS, "--approve", "each") as rig:
        assert rig.tell("arm").outcome == "accepted"
        seq = rig.propose()
        assert rig.status(lambda s: s.awaiting_approval is not None).awaiting_approval == seq
        other = rig.propose()
        assert rig.decision(lambda d: d.proposal_seq == other).limit == "approval"
        assert run(*rig.operator_line("approve")).code == 0
        assert rig.decision(lambda d: d.proposal_seq == seq).outcome == "accepted"
        rig.beam(blanked=False)
        none = run(*rig.operator_line("approve"))
        assert (none.code, "no proposal waits" in none.err) == (1, True)


def test_a_number_that_is_none_latches_and_garbage_is_counted(rig: Rig):
    rig.fly()
    rig.proposals.send_multipart([b"microscope.proposal.", b"\xff\x00{", b""])
    rig.status(lambda s: s.refused_by.get("malformed") == 1)
    topic, header, payload = encode(
        "microscope",
        Proposal(
            session=rig.session, seq=9, sent_mono_ns=0, from_seq=0, preset="preserve", blank=False, dwell_s=0.1,
            beam_current_pA=230.0, plan_dose_pC=(), lease_s=2.0, expires_mono_ns=0, reason="",
        ),
    )  # fmt: skip
    rig.proposals.send_multipart([topic, header.replace(b"230.0", b"NaN"), payload])
    latched = rig.status(lambda s: s.mode == "blank_latched")
    assert "not finite" in (latched.latched_by or "")
    rig.beam(blanked=True)


# The journal


def test_while_the_disk_refuses_there_is_no_lease_and_once_it_takes_again_nothing_is_missing(rig: Rig):
    rig.fly()
    full = rig.journal.stat().st_size + 100
    unlimited = resource.prlimit(rig.guard.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    seq = rig.propose()
    latched = rig.status(lambda s: s.mode == "blank_latched")
    assert "journal" in (latched.latched_by or "")
    rig.beam(blanked=True)
    resource.prlimit(rig.guard.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert rig.tell("clear").outcome == "accepted"
    rig.fly()
    assert rig.end_guard() == 0
    proposals = [e["event"]["what"]["seq"] for e in rig.entries() if e.get("event", {}).get("type") == "Proposal"]
    assert seq in proposals
    replayed = run("journal", "replay", rig.journal, "--json")
    assert (replayed.code, replayed.figures()["differences"]) == (0, [])


def test_a_torn_journal_is_recovered_and_charged_and_a_changed_one_refused(rig: Rig):
    decided = rig.fly()
    rig.kill_guard()
    whole = rig.journal.read_bytes()
    rig.journal.write_bytes(whole[:-40])
    again = rig.start_guard()
    assert again.ledger is not None
    assert again.ledger.charged_pC >= decided.spent_dose_pC + 300 * 2.0  # a longest lease at the highest current
    torn = rig.journal.with_name("guard.journal.torn").read_bytes()
    assert torn
    assert whole[:-40].endswith(torn)
    other = run(*rig.guard_line)
    assert other.code == 1
    assert "in use by another guard" in other.err
    assert rig.end_guard() == 0
    lines = rig.journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"charged_pC":0.0', b'"charged_pC":0.5')
    rig.journal.write_bytes(b"".join(lines))
    for line in (rig.guard_line, ["journal", "verify", str(rig.journal)]):
        refused = run(*line)
        assert refused.code == 3
        assert "entry 1 is not what its hash says" in refused.err


def test_a_journal_is_verified_replayed_and_exported(rig: Rig):
    rig.fly()
    rig.tell("override", dwell_s=0.2, beam_current_pA=100.0)
    rig.tell("blank")
    assert rig.end_guard() == 0
    done = run_all(
        {
            "verify": ["journal", "verify", rig.journal, "--json"],
            "replay": ["journal", "replay", rig.journal, "--json"],
            "export": ["journal", "export", rig.journal],
            "nowhere": ["journal", "verify", rig.folder / "nothing"],
            "other": ["journal", "verify", rig.config],
        }
    )
    assert done["verify"].figures()["entries"] == len(rig.entries())
    replayed = done["replay"].figures()
    assert replayed["differences"] == []
    assert replayed["decisions"] > 3
    rows = list(csv.DictReader(io.StringIO(done["export"].out)))
    assert len(rows) == replayed["decisions"]
    assert {row["action"] for row in rows} >= {"proposal", "operator"}
    assert (done["nowhere"].code, done["other"].code) == (3, 3)
    changed = [json.loads(line) for line in rig.journal.read_text().splitlines()]
    assert changed[-1]["previous"] == changed[-2]["sha256"]


# What can't be


def test_bad_settings_are_said_before_anything_is_bound(tmp_path: Path):
    def config(name: str, text: str) -> list[str]:
        file = tmp_path / f"{name}.toml"
        file.write_text(text)
        return ["guard", "--config", str(file), "--journal", str(tmp_path / "journal")]

    lines = {
        "missing": config("missing", "[guard]\n"),
        "nan": config("nan", "[guard]\nbudget_pC = nan\n"),
        "zero": ["guard", "--budget", "0", "--journal", str(tmp_path / "journal")],
        "negative": config("negative", "[guard]\nbudget_pC = -5\n"),
        "unknown": config("unknown", "[guard]\nbudget_pC = 5000\nmax_curent_pA = 1\n"),
        "contradiction": config("contradiction", "[guard]\nbudget_pC = 5000\nmax_dwell_s = 5\nmax_lease_s = 2\n"),
        "abroad": config("abroad", '[guard]\nbudget_pC = 5000\noperator = "tcp://192.0.2.1:1"\n'),
    }
    done: dict[str, Finished] = run_all(lines)
    words = {
        "missing": "budget_pC is not given",
        "nan": "budget_pC",
        "zero": "budget_pC",
        "negative": "budget_pC",
        "unknown": "max_curent_pA",
        "contradiction": "max_dwell_s",
        "abroad": "loopback",
    }
    for name, finished in done.items():
        assert finished.code == 2, (name, finished.err)
        assert words[name] in finished.err
        assert len(finished.err.splitlines()) == 1
    environment = run("guard", "--journal", tmp_path / "journal", EELSTM_GUARD_BUDGET_PC="-5")
    assert (environment.code, "budget_pC: Input should be greater than 0" in environment.err) == (2, True)
    assert not (tmp_path / "journal").exists()


def test_limits_that_contradict_the_instruments_refuse_the_session(tmp_path: Path):
    with Rig(tmp_path, SETTINGS.replace("max_current_pA = 300", "max_current_pA = 0.5"), follow=False) as rig:
        refused = rig.status(lambda s: s.refused_by == {"max_current_pA": 1})
        assert "below what the instrument can go down to, 1 pA" in refused.text
        rig.session = refused.session
        reply = rig.tell("arm")
        assert (reply.outcome, reply.limit) == ("refused", "max_current_pA")


def test_without_a_guard_an_operator_is_told_what_to_do_by_hand():
    nowhere = ["--guard", "tcp://127.0.0.1:9", "--operator", "tcp://127.0.0.1:9"]
    done = run_all({action: ["operator", action, *nowhere] for action in ("blank", "arm")})
    assert done["blank"].code == 1
    assert "NO GUARD ANSWERS" in done["blank"].err
    assert "BLANK BY HAND" in done["blank"].err
    assert done["arm"].code == 1
    assert "eelstm guard" in done["arm"].err
