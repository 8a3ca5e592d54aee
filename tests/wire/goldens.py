"""Golden messages: what each schema version looks like in bytes, and what those bytes mean. `golden/README.md` says how to add one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from eelstm_stream.wire.codec import (
    encode,
    encode_acknowledgement,
    encode_command,
    encode_operator_command,
    encode_operator_reply,
    encode_snapshot,
    encode_snapshot_request,
)
from eelstm_stream.wire.messages import (
    MAX_SEQ,
    Acknowledgement,
    BeamReport,
    CameTrue,
    Command,
    CommandLimits,
    ControllerStatus,
    Counters,
    Decision,
    EnergyAxis,
    Forecast,
    Gap,
    GuardStatus,
    InstrumentStatus,
    Interval,
    LeaseReport,
    LedgerReport,
    LiveSkill,
    Message,
    OperatorCommand,
    OperatorReply,
    Payload,
    Proposal,
    QualityFlag,
    Readback,
    SessionEnd,
    SessionStart,
    Spectrum,
    StageLatency,
    Status,
    Summary,
)

FOLDER = Path(__file__).parent / "golden"
INSTRUMENT = "sto-1"
ENVELOPE = {"session": "a1b2c3", "seq": 7, "sent_mono_ns": 123_456_789_012}
STARTED = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
SHA256 = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Golden:
    """One message on the wire, and its meaning."""

    case: str  # what is special about it
    message: Message
    payload: Payload | None = None
    still_written: bool = True  # False: an older program wrote these bytes; today's still reads them, and writes others

    @property
    def name(self) -> str:
        """File name without its ending: schema, version and case."""
        return f"{self.message.SCHEMA.replace('/', '.')}.{self.case}"

    def encoded(self) -> list[bytes]:
        """The frames as today's encoder writes them."""
        return encode(INSTRUMENT, self.message, self.payload)


SESSION_START = SessionStart(
    **ENVELOPE,
    instrument=INSTRUMENT,
    source="instrument",
    source_name="SI-007 0.4 s dwell.dm4",
    specimen="SrTiO₃, 300 kV 🔬",
    energy_axis=EnergyAxis(offset_eV=424.05, dispersion_eV=0.1, size=2048),
    dwell_s=0.4,
    frame_period_s=0.41,
    beam_energy_keV=300.0,
    beam_current_pA=230.0,
    convergence_mrad=30.0,
    collection_mrad=48.0,
    probe_area_A2=1.5,
    dose_is_relative=False,
    saturation_counts=65_535.0,
    expected_spectra=160,
    started_at=STARTED,
    clock_id="boot-1",
)
SPECTRUM = Spectrum(
    **ENVELOPE,
    dtype="<f4",
    shape=(4,),
    dwell_s=0.4,
    beam_current_pA=230.0,
    dose_pC=92.0,
    acquired_at=STARTED,
    acquired_until=STARTED + timedelta(seconds=0.4),
)
LIMITS = {"min_dwell_s": 0.005, "max_dwell_s": 10.0, "max_lease_s": 60.0}
AS_ORDERED = {"readback": Readback(dwell_s=0.4, beam_current_pA=0.0, blanked=True), "next_seq": 0, "holds_from_seq": 0}
BEAM = BeamReport(
    readback=Readback(dwell_s=0.4, beam_current_pA=230.0, blanked=False),
    ordered=Readback(dwell_s=0.1, beam_current_pA=115.0, blanked=False),
    holds_from_seq=14,
    next_seq=12,
    taken_seq=7,
    dose_pC=1104.0,
    lease=LeaseReport(left_s=2.0, ends_mono_ns=123_458_789_012, until_dose_pC=1500.5),
)
SUMMARY_FIELDS = {
    "from_seq": 41,
    "spectrum_sent_mono_ns": 123_000_000_000,
    "clock_id": "boot-1",
    "model_name": "sto-sim.1",
    "model_sha256": SHA256,
    "window": 8,
    "horizons": (1, 8),
    "valid_at": (STARTED + timedelta(seconds=0.4), STARTED + timedelta(seconds=3.2)),
    "window_domain": "frame",
    "reference_dose_pC": 92.0,
    "reference_dwell_s": 0.4,
    "simulated": True,
    "phase": (Interval(value=0.25, low=0.2, high=0.3), Interval(value=0.5, low=0.375, high=0.625)),
    "latency": StageLatency(queued_ns=1000, prepared_ns=2000, inferred_ns=3000, batch=1),
}
TOLD_IN_FULL = {
    "trained_on": "simulated SrTiO₃",
    "phase_now": Interval(value=0.125, low=-0.125, high=0.375),
    "came_true": (CameTrue(horizon=8, rmse=182.5, rmse_persistence=295.25, rmse_window_mean=199.0),),
    "skill": LiveSkill(
        matured=16,
        rmse=182.5,
        rmse_persistence=295.25,
        rmse_window_mean=199.0,
        noise_floor=175.0,
        skill=0.625,
        skill_against_mean=0.125,
    ),
    "quality": (
        QualityFlag(flag="resampled", reason="from 0.2 eV"),
        QualityFlag(flag="gap_in_window", reason="1 spectrum is missing inside the window"),
    ),
}
FORECAST_COUNTS = np.array([[1.5, 2.5, 1e6], [0.0, -3.25, 16_777_216.0]], np.float32)
FORECAST_AXIS = {"energy_axis": EnergyAxis(offset_eV=435.0, dispersion_eV=0.1, size=3), "shape": (2, 3)}

GOLDENS = (
    Golden("full", SESSION_START),
    Golden(
        "least",
        SessionStart(
            **ENVELOPE,
            instrument=INSTRUMENT,
            source="replay",
            energy_axis=EnergyAxis(offset_eV=-5.0, dispersion_eV=1.0, size=1),
            dwell_s=1.0,
            dose_is_relative=True,
            started_at=datetime(1970, 1, 1, tzinfo=UTC),
            clock_id="b",
        ),
    ),
    Golden(
        "obeying",
        SESSION_START.model_copy(
            update={
                "commands": CommandLimits(
                    **LIMITS,
                    min_current_pA=1.0,
                    max_current_pA=500.0,
                    delay_frames=1,
                    delay_s=0.1,
                    blank_delay_s=0.005,
                )
            }
        ),
    ),
    Golden(
        "obeying-in-dwell",
        SESSION_START.model_copy(update={"commands": CommandLimits(**LIMITS), "dose_is_relative": True}),
    ),
    Golden("full", SessionEnd(**ENVELOPE, reason="failed", text="the camera's “cable”\n\tfell out \\", spectra=160)),
    Golden("least", SessionEnd(**ENVELOPE, reason="finished", spectra=0)),
    Golden("full", Gap(**ENVELOPE, first_seq=3, last_seq=MAX_SEQ, reason="")),
    Golden("f4", SPECTRUM, np.array([0.0, 1.5, 16_777_216.0, 1e9], np.float32)),
    Golden("u2", SPECTRUM.model_copy(update={"dtype": "<u2"}), np.array([0, 1, 256, 65_535], np.uint16)),
    Golden("u4", SPECTRUM.model_copy(update={"dtype": "<u4"}), np.array([0, 1, 65_536, 2**32 - 1], np.uint32)),
    Golden(
        "least",
        Spectrum(
            session="A",
            seq=0,
            sent_mono_ns=0,
            dtype="<f4",
            shape=(1,),
            dwell_s=0.08,
            acquired_at=datetime(2026, 3, 4, 7, 6, 7, tzinfo=timezone(timedelta(hours=2))),
            acquired_until=STARTED,
        ),
        np.array([7.0], np.float32),
    ),
    Golden("after-dose", SPECTRUM.model_copy(update={"dose_before_pC": 3680.5}), np.ones(4, np.float32)),
    Golden("full", Forecast(**ENVELOPE, **SUMMARY_FIELDS, **TOLD_IN_FULL, **FORECAST_AXIS), FORECAST_COUNTS),
    Golden("least", Forecast(**ENVELOPE, **SUMMARY_FIELDS, **FORECAST_AXIS), FORECAST_COUNTS),
    Golden("full", Summary(**ENVELOPE, **SUMMARY_FIELDS, **TOLD_IN_FULL)),
    Golden("least", Summary(**ENVELOPE, **SUMMARY_FIELDS)),
    Golden(
        "full",
        Status(
            **ENVELOPE,
            sender="forecaster",
            state="filling",
            text="the window needs 3 more spectra",
            needed=3,
            model_name="sto-sim.1",
            model_sha256=SHA256,
            window=8,
            counters=Counters(
                spectra=1, forecasts=2, refused=3, invalid=4, lost=5, duplicate=6, late=7, malformed=MAX_SEQ
            ),
        ),
    ),
    Golden("least", Status(**ENVELOPE, sender="simulator", state="waiting", text="")),
    Golden(
        "full",
        InstrumentStatus(
            **ENVELOPE,
            sender="simulator",
            state="exposing",
            text="the beam is on",
            clock_id="boot-1",
            obeys=True,
            beam=BEAM,
            accepted=3,
            refused=MAX_SEQ,
            notes=("simulated SrTiO₃",),
        ),
    ),
    Golden("least", InstrumentStatus(**ENVELOPE, state="blanked", text="", clock_id="b", obeys=False)),
    Golden(
        "full",
        Proposal(
            **ENVELOPE,
            from_seq=41,
            preset="resolve",
            blank=False,
            dwell_s=0.1,
            beam_current_pA=115.0,
            plan_dose_pC=(11.5, 0.0),
            lease_s=2.0,
            expires_mono_ns=2**63 - 1,
            reason="the transition is near",
        ),
        still_written=False,  # before the plan's dwells and phases
    ),
    Golden(
        "with-plan",
        Proposal(
            **ENVELOPE,
            from_seq=41,
            preset="preserve",
            blank=False,
            dwell_s=0.1,
            beam_current_pA=115.0,
            plan_dose_pC=(11.5, 5.75),
            lease_s=2.0,
            expires_mono_ns=123_457_000_000,
            reason="the ceiling is 16 frames ahead",
            clock_id="boot-1",
            spectrum_sent_mono_ns=123_400_000_000,
            plan_dwell_s=(0.1, 0.05),
            plan_phase=(0.25, 0.28125),
        ),
    ),
    Golden(
        "full",
        Decision(
            **ENVELOPE,
            proposal_seq=6,
            outcome="clamped",
            reason="over the rate",
            mode="auto",
            dwell_s=0.1,
            beam_current_pA=0.0,
            lease_dose_pC=23.0,
            lease_s=2.0,
            spent_dose_pC=1000.5,
            budget_dose_pC=4000.0,
            readback=Readback(dwell_s=0.1, beam_current_pA=0.0, blanked=True),
        ),
        still_written=False,  # before `action` and what the lease reaches
    ),
    Golden(
        "least",
        Decision(**ENVELOPE, outcome="refused", reason="", mode="blank_latched", spent_dose_pC=0.0, budget_dose_pC=1.0),
        still_written=False,
    ),
    Golden(
        "with-lease",
        Decision(
            **ENVELOPE,
            proposal_seq=6,
            outcome="clamped",
            reason="the current wanted, 900 pA, is above the 500 pA allowed now, and was cut to that.",
            mode="auto",
            dwell_s=0.1,
            beam_current_pA=500.0,
            lease_dose_pC=1002.5,
            lease_s=2.0,
            spent_dose_pC=2002.5,
            budget_dose_pC=4000.0,
            readback=Readback(dwell_s=0.1, beam_current_pA=230.0, blanked=False),
            limit="max_current_pA",
            action="proposal",
            command_seq=12,
            until_dose_pC=2000.0,
            proposal_sent_mono_ns=123_456_700_000,
            decided_mono_ns=123_456_750_000,
            acknowledged_mono_ns=123_456_789_000,
        ),
    ),
    Golden(
        "of-the-operator",
        Decision(
            **ENVELOPE,
            outcome="refused",
            reason="arm: the guard is latched",
            mode="blank_latched",
            spent_dose_pC=0.0,
            budget_dose_pC=1.0,
            limit="latched",
            action="operator",
        ),
    ),
    Golden(
        "full",
        GuardStatus(
            **ENVELOPE,
            clock_id="boot-1",
            mode="blank_latched",
            text="BLANKED AND LATCHED: 100 pA was ordered, and the instrument reads back 150 pA",
            latched_by="100 pA was ordered, and the instrument reads back 150 pA",
            ledger=LedgerReport(budget_pC=4000.0, charged_pC=2002.5, reported_pC=1104.0, left_pC=1997.5),
            approval="each",
            awaiting_approval=41,
            taken_operator_seq=3,
            taken_proposal_seq=42,
            accepted=30,
            clamped=4,
            refused=MAX_SEQ,
            refused_by={"max_current_pA": 1, "expired": 2},
            readback=Readback(dwell_s=0.4, beam_current_pA=150.0, blanked=True),
        ),
        still_written=False,
    ),
    Golden("least", GuardStatus(**ENVELOPE, clock_id="b", mode="disarmed", text=""), still_written=False),
    Golden(
        "beam_is_off",
        GuardStatus(**ENVELOPE, clock_id="b", mode="blank_latched", text="", latched_by="me", beam_is_off=True),
    ),
    Golden("beam_may_be_on", GuardStatus(**ENVELOPE, clock_id="b", mode="disarmed", text="")),
    Golden(
        "full",
        ControllerStatus(
            **ENVELOPE,
            clock_id="boot-1",
            state="controlling",
            text="the ceiling is 16 frames ahead",
            preset="preserve",
            phase=Interval(value=0.25, low=0.2, high=0.3),
            phase_ceiling=0.5,
            dose_to_ceiling_pC=Interval(value=1840.0, low=1500.0, high=2100.0),
            plan_dose_pC=(92.0, 46.0),
            plan_dwell_s=(0.4, 0.2),
            proposals=12,
            fallbacks=1,
            discarded=2,
            discarded_by={"stale": 2},
            solve_ns=400_000,
        ),
    ),
    Golden("least", ControllerStatus(**ENVELOPE, clock_id="b", state="waiting", text="", preset="advise")),
)

# Documents that travel alone, in one frame.
ALONE: dict[str, Command | Acknowledgement | OperatorCommand | OperatorReply] = {
    "eelstm.command.1.full": Command(
        **ENVELOPE,
        expires_mono_ns=123_457_000_000,
        dwell_s=0.1,
        beam_current_pA=115.0,
        blanked=False,
        lease_s=2.0,
        lease_until_dose_pC=1500.5,
    ),
    "eelstm.command.1.dwell": Command(**ENVELOPE, expires_mono_ns=2**63 - 1, dwell_s=0.1),
    "eelstm.command.1.blank": Command(session="A", seq=0, sent_mono_ns=0, expires_mono_ns=0, blanked=True),
    "eelstm.acknowledgement.1.accepted": Acknowledgement(
        **ENVELOPE, running_session="a1b2c3", clock_id="boot-1", outcome="accepted", beam=BEAM
    ),
    "eelstm.acknowledgement.1.refused": Acknowledgement(
        **ENVELOPE,
        running_session="d4e5f6",
        clock_id="boot-1",
        outcome="refused",
        limit="max_current_pA",
        reason="the current ordered, 900 pA, is above the limit of 500 pA.",
        beam=BeamReport(**AS_ORDERED, ordered=AS_ORDERED["readback"], lease=LeaseReport(left_s=0.0)),
    ),
    "eelstm.acknowledgement.1.least": Acknowledgement(sent_mono_ns=0, clock_id="b", outcome="refused"),
    "eelstm.operator_command.1.override": OperatorCommand(
        **ENVELOPE,
        action="override",
        expires_mono_ns=123_459_000_000,
        operator="Ada",
        reason="to find the grain again",
        dwell_s=0.1,
        beam_current_pA=50.0,
    ),
    "eelstm.operator_command.1.approve": OperatorCommand(
        **ENVELOPE, action="approve", expires_mono_ns=123_459_000_000, proposal_seq=41
    ),
    "eelstm.operator_command.1.blank": OperatorCommand(
        action="blank", session="unknown", seq=0, sent_mono_ns=0, expires_mono_ns=0
    ),
    "eelstm.operator_reply.1.accepted": OperatorReply(
        seq=7,
        session="a1b2c3",
        sent_mono_ns=123_456_789_012,
        clock_id="boot-1",
        outcome="accepted",
        reason="armed: the next proposal that is admitted lets the beam on.",
        mode="auto",
        taken_operator_seq=7,
    ),
    "eelstm.operator_reply.1.refused": OperatorReply(
        sent_mono_ns=0, clock_id="b", outcome="refused", limit="malformed", reason="not a header", mode="disarmed"
    ),
}

SNAPSHOT_REQUEST = "eelstm.snapshot_request.1.eight"
SNAPSHOT_REPLY = "eelstm.snapshot_reply.1.two-messages"
SNAPSHOT_REFUSED = "eelstm.snapshot_reply.1.refused"


def named(name: str) -> Golden:
    """A golden by the name of its file."""
    return next(golden for golden in GOLDENS if golden.name == name)


def in_snapshot() -> tuple[Golden, Golden]:
    """The messages in SNAPSHOT_REPLY: a session start and a spectrum."""
    return named("eelstm.session_start.1.full"), named("eelstm.spectrum.1.f4")


def written_today() -> dict[str, list[bytes]]:
    """Name of every golden to its frames as today's encoder writes them."""
    return {golden.name: golden.encoded() for golden in GOLDENS if golden.still_written} | {
        SNAPSHOT_REQUEST: [encode_snapshot_request(8)],
        SNAPSHOT_REPLY: encode_snapshot([golden.encoded() for golden in in_snapshot()]),
        SNAPSHOT_REFUSED: encode_snapshot([], refused="not a request that this program knows"),
        **{name: [_encode_alone(alone)] for name, alone in ALONE.items()},
    }


def _encode_alone(alone: Command | Acknowledgement | OperatorCommand | OperatorReply) -> bytes:
    match alone:
        case Command():
            return encode_command(alone)
        case Acknowledgement():
            return encode_acknowledgement(alone)
        case OperatorCommand():
            return encode_operator_command(alone)
        case OperatorReply():
            return encode_operator_reply(alone)


def header(name: str) -> bytes:
    """The frame of a golden in its file that is a JSON header: the second, unless a document travels alone or leads."""
    return next(frame for frame in read(name) if frame.startswith(b"{"))


def to_text(frames: list[bytes]) -> str:
    """One line a frame, readable where the frame is text."""
    return "".join(f"{_line(frame)}\n" for frame in frames)


def _line(frame: bytes) -> str:
    try:
        text = frame.decode()
    except UnicodeDecodeError:
        text = ""
    return f"text {text}" if text.isprintable() and text else f"hex {frame.hex(' ', -4)}".rstrip()


def read(name: str) -> list[bytes]:
    """The frames of a golden as they stand in its file."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    kinds = {"text": str.encode, "hex": bytes.fromhex}
    return [kinds[kind](content) for kind, _, content in (line.partition(" ") for line in lines)]


def add_missing() -> list[Path]:
    """Write the goldens that have no file yet; those that have one are never touched."""
    missing = {FOLDER / f"{name}.txt": frames for name, frames in written_today().items()}
    added = [path for path in missing if not path.exists()]
    for path in added:
        path.write_text(to_text(missing[path]), encoding="utf-8")
    return added


if __name__ == "__main__":
    for path in add_missing():
        print(f"added {path}")  # noqa: T201
