"""What a listener has heard of a controlled flight: frames, estimates, the guard's modes, and how soon it acted. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eelstm_stream.core.dose import frame_dose_pC
from eelstm_stream.wire.messages import (
    ControllerStatus,
    Decision,
    GuardStatus,
    InstrumentStatus,
    Interval,
    Message,
    Proposal,
    SessionEnd,
    SessionStart,
    Spectrum,
)

MODES_THAT_END = ("disarmed", "blank_latched")  # once armed, only a person leads out of these


@dataclass(frozen=True, slots=True)
class FlownFrame:
    """One frame, when it ended."""

    ended_s: float  # of the instrument's own time, since the session began
    dwell_s: float
    current_pA: float
    dose_before_pC: float  # what the specimen had received by its beginning

    @property
    def dose_pC(self) -> float:
        """Of this frame."""
        return frame_dose_pC(self.current_pA, self.dwell_s)


@dataclass(slots=True)
class FlightLog:
    """Of the first session heard: a flight is one. speed: how many seconds of the instrument's own time pass in one of the clock."""

    speed: float = 1.0
    start: SessionStart | None = None
    end: SessionEnd | None = None
    beam: InstrumentStatus | None = None
    controller: ControllerStatus | None = None
    guard: GuardStatus | None = None
    was_on: bool = False
    was_armed: bool = False
    blanked_since_ns: int | None = None  # by the instrument's clock
    frames: list[FlownFrame] = field(default_factory=list)
    estimates: list[tuple[float, Interval]] = field(default_factory=list)  # (s of the instrument's time, phase)
    modes: list[tuple[float, str]] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)  # spectrum published to command acknowledged
    _published_ns: dict[int, int] = field(default_factory=dict)  # by proposal, the spectrum's that it follows from

    def take(self, message: Message) -> None:
        """Count one message in; those of other sessions are passed over."""
        if isinstance(message, SessionStart) and self.start is None:
            self.start = message
        if self.start is None or message.session != self.start.session:
            return
        match message:
            case SessionEnd():
                self.end = message
            case Spectrum():
                self._take_spectrum(message, self.start)
            case InstrumentStatus():
                self._take_beam(message)
            case ControllerStatus():
                self.controller = message
                if message.phase is not None:
                    self.estimates.append((self._at_s(message), message.phase))
            case GuardStatus():
                self._take_guard(message)
            case Proposal() if message.spectrum_sent_mono_ns is not None:
                self._published_ns[message.seq] = message.spectrum_sent_mono_ns
            case Decision():
                self._take_decision(message)
            case _:
                pass

    def _at_s(self, message: Message) -> float:
        """When it was sent, s of the instrument's time; all clocks are one here."""
        assert self.start is not None  # noqa: S101 - the caller has seen it
        return (message.sent_mono_ns - self.start.sent_mono_ns) / 1e9 * self.speed

    def _take_spectrum(self, message: Spectrum, start: SessionStart) -> None:
        if message.beam_current_pA is None:
            return
        ended_s = (message.acquired_until - start.started_at).total_seconds()
        before_pC = self.dose_pC if message.dose_before_pC is None else message.dose_before_pC
        self.frames.append(FlownFrame(ended_s, message.dwell_s, message.beam_current_pA, before_pC))

    def _take_beam(self, message: InstrumentStatus) -> None:
        self.beam = message
        if message.beam is None or message.beam.readback.blanked:
            self.blanked_since_ns = self.blanked_since_ns or message.sent_mono_ns
        else:
            self.was_on, self.blanked_since_ns = True, None

    def _take_guard(self, message: GuardStatus) -> None:
        self.guard = message
        self.was_armed = self.was_armed or message.mode not in MODES_THAT_END
        if not self.modes or self.modes[-1][1] != message.mode:
            self.modes.append((self._at_s(message), message.mode))

    def _take_decision(self, message: Decision) -> None:
        if message.proposal_seq is None or message.acknowledged_mono_ns is None:
            return
        published_ns = self._published_ns.get(message.proposal_seq)
        if published_ns is not None:
            self.latencies_ms.append((message.acknowledged_mono_ns - published_ns) / 1e6)

    @property
    def can_be_armed(self) -> bool:
        """The guard knows this session and its beam."""
        return self.guard is not None and self.guard.readback is not None and not self.was_armed

    @property
    def is_blanked(self) -> bool:
        """As the instrument says."""
        return self.beam is not None and self.beam.state == "blanked"

    @property
    def dose_pC(self) -> float:
        """What the specimen received, as far as it was heard: what the instrument says, or by the last frame."""
        by_frames = self.frames[-1].dose_before_pC + self.frames[-1].dose_pC if self.frames else 0.0
        told = None if self.beam is None or self.beam.beam is None else self.beam.beam.dose_pC
        return by_frames if told is None else max(told, by_frames)

    def over(self, now_ns: int, patience_s: float) -> str | None:
        """Why no frame will follow, in words for a person; None while one may.

        patience_s: how long the beam may be off, for no reason of those, before that is the end as well.
        """
        if self.end is not None:
            return "the session has ended"
        if not self.was_on or self.blanked_since_ns is None:
            return None
        if self.guard is not None and self.was_armed and self.guard.mode in MODES_THAT_END:
            return self.guard.text
        if self.controller is not None and self.controller.state == "blanking":
            return self.controller.text
        if (now_ns - self.blanked_since_ns) / 1e9 > patience_s:
            why = self.controller if self._nothing_is_proposed else self.guard
            said = "" if why is None else f": {why.text}"
            return f"the beam has been off for {patience_s:g} s{said}"
        return None

    @property
    def _nothing_is_proposed(self) -> bool:
        """The controller waits, and it's the one that says for what; else the guard says why the beam is off."""
        return self.controller is not None and self.controller.state == "waiting"

    def latency_percentile_ms(self, percent: float) -> float | None:
        """From a spectrum's publication to the acknowledgement of the command that followed from it, ms."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None
