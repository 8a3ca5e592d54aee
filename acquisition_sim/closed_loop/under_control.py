"""One specimen flown by the controller under its guard: every piece of the real loop but its sockets, and no wall clock.

Time is the instrument's own. What reaches whom, and when, is as between the processes: a spectrum comes at the end of its
frame, and the command that follows from it COMMAND_S later, when the next frame has begun.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquisition_sim import instrument
from acquisition_sim.beam import lets_on
from acquisition_sim.beam_report import report
from acquisition_sim.closed_loop.forecasting import Forecasting
from acquisition_sim.closed_loop.session import CLOCK, beam_of, instrument_status, session_start, spectrum_of
from acquisition_sim.closed_loop.specimens import Specimen
from acquisition_sim.instrument import InstrumentParameters, Rested, Taken, Unread
from acquisition_sim.microscope import Microscope
from controller import control, control_events, guard, guard_events, guard_report, mpc
from controller.aim import Aim
from controller.control_state import ControlState
from controller.guard_state import start as start_guard
from controller.ledger import Ledger
from controller.limits import Limits
from controller.mpc import Plan
from controller.problem import Problem
from eelstm_stream.io.model_file import Model
from eelstm_stream.wire.messages import Acknowledgement, Command, OperatorCommand, Spectrum

COMMAND_S = 0.005  # from a spectrum's publication to the instrument's having taken the command; see `eelstm bench loop`
SAID_EVERY_S = 1.0  # status of each program
LONGEST_LEASE_S = 60.0  # latencies of 32 frames are 13 s, and a lease must reach beyond
ENDS_AFTER_REST_S = 3.0  # of a beam that was blanked, and that nobody lets on again
MOST_S = 600.0


@dataclass(frozen=True, slots=True)
class Flown:
    """One flight."""

    dose_pC: float  # that the specimen received
    phase: float  # of the specimen in the end, its true one
    time_s: float  # from the first frame's start until the beam was off
    frame_dose_pC: NDArray[np.float64]  # (frame,)
    frame_phase: NDArray[np.float64]  # (frame,): true phase at the end of each
    keeps_to_budget: bool  # what the specimen received, and at every step what the ledger had charged
    solve_ms: tuple[float, ...]
    fallbacks: int
    refused: int  # by the guard
    ended_by: str  # the last reason that the controller gave


def fly_under_control(
    specimen: Specimen,
    model: Model,
    aim: Aim,
    *,
    latency_frames: int,
    budget_pC: float,
    until_phase: float = 1.0,
) -> Flown:
    """Fly a specimen until the beam stays blanked, or the true phase has passed `until_phase`."""
    flight = _Flight(specimen, model, aim, latency_frames, budget_pC)
    return flight.fly(until_phase)


@dataclass(slots=True)
class _Trace:
    """What is kept of a flight."""

    frame_dose_pC: list[float] = field(default_factory=list)
    frame_phase: list[float] = field(default_factory=list)
    solve_ms: list[float] = field(default_factory=list)
    began_ns: int | None = None
    blanked_ns: int = 0
    fallbacks: int = 0
    refused: int = 0
    keeps_to_budget: bool = True
    reason: str = "never let on"


class _Flight:
    """All programs of one session, each in its state, and who tells whom."""

    def __init__(self, specimen: Specimen, model: Model, aim: Aim, latency_frames: int, budget_pC: float) -> None:
        beam = beam_of(specimen, latency_frames)
        self.specimen = specimen
        self.budget_pC = budget_pC
        self.microscope = Microscope(specimen.preset)
        self.under_the_beam = self.microscope.start(specimen.seed)
        self.parameters = InstrumentParameters(beam)
        self.start = session_start(specimen, beam)
        self.session = self.start.session
        self.instrument = instrument.start(self.parameters, self.session)
        self.forecasting = Forecasting(model, self.start)
        self.control = ControlState(aim, CLOCK)
        limits = Limits(
            budget_pC=budget_pC,
            max_current_pA=beam.max_current_pA,
            min_dwell_s=beam.min_dwell_s,
            max_dwell_s=beam.max_dwell_s,
            max_lease_s=LONGEST_LEASE_S,
        )
        self.guard = start_guard(limits, Ledger(budget_pC), clock_id=CLOCK, now_ns=0)
        self.sent = 0  # messages so far: their numbers
        self.said_ns = 0
        self.trace = _Trace()

    @property
    def now_ns(self) -> int:
        return self.instrument.now_ns

    def fly(self, until_phase: float) -> Flown:
        self.to_control(self.start)
        self.to_guard(self.start)
        self.say_statuses()
        arm = OperatorCommand(
            action="arm", session=self.session, seq=0, sent_mono_ns=0, expires_mono_ns=round(1e9), operator="benchmark"
        )
        self.to_guard(arm)
        self.say_statuses()
        while not self.is_over(until_phase):
            self.one_event()
        trace = self.trace
        began_ns = self.now_ns if trace.began_ns is None else trace.began_ns
        ended_ns = trace.blanked_ns if self.instrument.beam.blanked else self.now_ns
        dose_pC = self.under_the_beam.specimen.dose_pC
        return Flown(
            dose_pC=dose_pC,
            phase=float(self.specimen.phase_at(dose_pC)),
            time_s=max(0, ended_ns - began_ns) / 1e9,
            frame_dose_pC=np.array(trace.frame_dose_pC),
            frame_phase=np.array(trace.frame_phase),
            keeps_to_budget=trace.keeps_to_budget and dose_pC <= self.budget_pC,
            solve_ms=tuple(trace.solve_ms),
            fallbacks=trace.fallbacks,
            refused=self.guard.refused,
            ended_by=trace.reason,
        )

    def is_over(self, until_phase: float) -> bool:
        if self.now_ns > MOST_S * 1e9 or self.specimen.phase_at(self.under_the_beam.specimen.dose_pC) >= until_phase:
            return True
        beam = self.instrument.beam
        rested_s = (self.now_ns - self.trace.blanked_ns) / 1e9
        return beam.blanked and not lets_on(beam) and rested_s > ENDS_AFTER_REST_S

    # Time

    def one_event(self) -> None:
        """Up to the end of the next frame, or a second of rest."""
        to_ns = self.now_ns + round(SAID_EVERY_S * 1e9)
        if not self.instrument.beam.blanked:
            to_ns = instrument.FOREVER.ends_ns
        taken = self.advance(to_ns, at_most=1)
        if taken is None:
            if self.now_ns >= self.said_ns + SAID_EVERY_S * 1e9 or self.instrument.beam.blanked:
                self.say_statuses()
            return
        spectrum, counts = taken
        summary = self.forecasting.take(spectrum, counts, self.now_ns)
        cut = self.advance(self.now_ns + round(COMMAND_S * 1e9))  # the next frame has begun by now
        assert cut is None  # noqa: S101 - no frame is as short as that
        if summary is None or self.now_ns >= self.said_ns + SAID_EVERY_S * 1e9:
            self.say_statuses()
        if summary is not None:
            self.to_control(summary)

    def advance(self, to_ns: int, at_most: int | None = None) -> tuple[Spectrum, NDArray[np.float32]] | None:
        """The instrument at a later time; the spectrum of a frame that ended."""
        was_blanked = self.instrument.beam.blanked
        self.instrument, events = instrument.advance(self.instrument, self.parameters, to_ns, at_most)
        spectrum = None
        for event in events:
            match event:
                case Taken(frame):
                    self.under_the_beam, seen = self.microscope.expose(
                        self.under_the_beam, frame.dwell_s, frame.current_pA
                    )
                    self.trace.frame_dose_pC.append(frame.dose_pC)
                    self.trace.frame_phase.append(float(self.specimen.phase_at(frame.dose_after_pC)))
                    spectrum = spectrum_of(self.session, frame, seen.counts), seen.counts
                    if self.trace.began_ns is None:
                        self.trace.began_ns = frame.began_ns
                case Unread(began_ns, ended_ns, current_pA):
                    self.pass_over((ended_ns - began_ns) / 1e9, current_pA)
                case Rested(began_ns, ended_ns):
                    self.pass_over((ended_ns - began_ns) / 1e9, 0.0)
                case _:
                    pass
        if self.instrument.beam.blanked and not was_blanked:
            self.trace.blanked_ns = self.instrument.since_ns
        return spectrum

    def pass_over(self, duration_s: float, current_pA: float) -> None:
        if duration_s > 0:
            self.under_the_beam, _ = self.microscope.expose(
                self.under_the_beam, duration_s, current_pA, blanked=current_pA == 0
            )

    # Who tells whom

    def number(self) -> int:
        self.sent += 1
        return self.sent

    def say_statuses(self) -> None:
        self.said_ns = self.now_ns
        self.say_instrument()
        self.to_control(guard_report.status(self.guard, self.number(), self.now_ns))
        self.to_control(self.forecasting.status(self.now_ns))
        self.to_control(control_events.Tick())
        self.to_guard(guard_events.Tick())

    def say_instrument(self) -> None:
        said = instrument_status(self.session, self.number(), self.instrument, self.parameters)
        self.to_control(said)
        self.to_guard(said)

    def to_control(self, event: control_events.Event) -> None:
        self.control, outputs = control.step(self.control, event, self.now_ns, self.timed_solve)
        for output in outputs:
            if isinstance(output, control_events.Propose):
                self.trace.reason = output.reason
                self.to_guard(output.message(self.number(), self.now_ns))

    def timed_solve(self, problem: Problem, previous: Plan | None) -> Plan:
        began_s = time.perf_counter()
        plan = mpc.solve(problem, previous)
        self.trace.solve_ms.append(1e3 * (time.perf_counter() - began_s))
        self.trace.fallbacks += plan.status == "fallback"
        return plan

    def to_guard(self, event: guard_events.Event) -> None:
        self.guard, effects = guard.step(self.guard, event, self.now_ns)
        self.trace.keeps_to_budget &= self.guard.ledger.charged_pC <= self.budget_pC
        for effect in effects:
            match effect:
                case guard_events.Send(command):
                    self.obey(command)
                case guard_events.Decide():
                    self.to_control(effect.message(self.number(), self.now_ns))
                case _:
                    pass  # nothing here can fail to be written, and nobody reads what is said

    def obey(self, command: Command) -> None:
        """The instrument takes a command, and answers."""
        self.instrument, refused = instrument.command(self.instrument, self.parameters, command, mono_ns=self.now_ns)
        lease = self.instrument.lease
        answer = Acknowledgement(
            session=command.session,
            seq=command.seq,
            running_session=self.session,
            sent_mono_ns=self.now_ns,
            clock_id=CLOCK,
            outcome="accepted" if refused is None else "refused",
            limit=None if refused is None else refused.limit,
            reason="" if refused is None else refused.reason,
            beam=report(self.instrument, self.parameters, ends_mono_ns=None if lease is None else lease.ends_ns),
        )
        self.to_guard(guard_events.Acknowledged(command.seq, answer.outcome, answer))
        self.say_instrument()
