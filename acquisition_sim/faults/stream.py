"""A session's messages led through the faults of a script: what really goes out. No clock, no sockets.

Each message passes the faults one after the other, in the order of the script. Where two fall on the same frame, the second
falls on what the first has made of it; a spectrum that can't be read any more is let through.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from acquisition_sim.faults import Fault, OtherThanOrdered, Restart
from acquisition_sim.faults.fault import SAME_TIME, Memory, Sent
from acquisition_sim.faults.script import FaultScript
from eelstm_stream.wire.codec import encode
from eelstm_stream.wire.messages import Command, Gap, Message, SessionEnd, SessionStart, Spectrum
from eelstm_stream.wire.topics import split_topic


class FaultyStream:
    """One session, and those that its restarts make of it. Frames and times count on over a restart."""

    def __init__(self, script: FaultScript) -> None:
        self._acting = [
            _Acting(fault, (script.seed, number), f"fault {number + 1} ({fault.KIND})")
            for number, fault in enumerate(script.faults)
        ]
        restarts = (acting.fault for acting in self._acting if isinstance(acting.fault, Restart))
        self._restarts = sorted(restarts, key=lambda restart: (restart.frame or 0, restart.at_s or 0.0))
        self._frames_before = 0  # taken before the last restart
        self._s_before = 0.0
        self._session = ""
        self._session_seq = -1  # last number that the instrument gave to a message about its session
        self._added = 0  # messages about the session that faults have added

    def take(self, message: Message, frames: list[bytes], now_s: float) -> list[Sent]:
        """What goes out when the instrument sends a message. now_s: the instrument's time, s since its session began."""
        if isinstance(message, SessionStart):
            self._session, self._session_seq, self._added = message.session, -1, 0
            for acting in self._acting:
                acting.memory.start = message
        frame = self._frames_before + message.seq if isinstance(message, Spectrum) else None
        passing = [Sent(frames, message, frame)]
        for acting in self._acting:
            acting.memory.now_s = self._s_before + now_s
            passing = [after for before in passing for after in acting.take(before)]
        return [self._numbered(sent, frames[0]) for sent in passing]

    def _numbered(self, sent: Sent, any_topic: bytes) -> Sent:
        """Messages about the session count up by one, those that faults have added too."""
        message = sent.message
        if not isinstance(message, SessionStart | Gap | SessionEnd) or message.session != self._session:
            return sent
        if sent.added:
            self._added += 1
        else:
            self._session_seq = message.seq
        seq = self._session_seq + self._added
        if seq == message.seq and sent.frames:
            return sent
        numbered = message.model_copy(update={"seq": seq})
        return replace(sent, message=numbered, frames=encode(split_topic(any_topic)[0], numbered))

    def begun(self) -> list[str]:
        """What to say of the faults that have come into force since this was asked last."""
        return [line for acting in self._acting for line in acting.news()]

    # What the instrument itself does wrong

    @property
    def restart_frame(self) -> int | None:
        """Number that the session's frame would have before which the instrument restarts next, if a frame says when."""
        frame = self._restarts[0].frame if self._restarts else None
        return None if frame is None else frame - self._frames_before

    @property
    def restart_s(self) -> float | None:
        """When it restarts next, s since its session began, if a time says when."""
        at_s = self._restarts[0].at_s if self._restarts else None
        return None if at_s is None else at_s - self._s_before

    def restarted(self, frames: int, now_s: float) -> None:
        """The instrument has restarted: after so many frames, and so much time, of the session that is broken off."""
        self._restarts.pop(0)
        self._frames_before += frames
        self._s_before += now_s
        for acting in self._acting:
            acting.memory.held.clear()  # nobody is left to send it

    def misheard(self, command: Command, next_seq: int, now_s: float) -> Command:
        """The command that the instrument obeys in place of this one. next_seq: of the next frame to begin."""
        for acting in self._acting:
            fault = acting.fault
            if not isinstance(fault, OtherThanOrdered):
                continue
            place = acting.place(self._frames_before + next_seq, self._s_before + now_s)
            if place is None or not 0 <= place < fault.frames:
                continue
            dwell_s, current_pA = command.dwell_s, command.beam_current_pA
            other = {
                "dwell_s": None if dwell_s is None else dwell_s * fault.dwell_factor,
                "beam_current_pA": None if current_pA is None else current_pA * fault.current_factor,
            }
            command = command.model_copy(update=other)
        return command


@dataclass(slots=True)
class _Acting:
    """A fault, where it has come to fall, and what it remembers."""

    fault: Fault
    seed: tuple[int, int]
    name: str
    memory: Memory = field(default_factory=Memory)
    first: int | None = None  # frame; None where no frame has come yet that is late enough
    unsaid: bool = True

    def place(self, frame: int, now_s: float) -> int | None:
        """How many frames after the first that it falls on; negative before it, None while that is open."""
        if self.first is None:
            if self.fault.frame is not None:
                self.first = self.fault.frame
            elif self.fault.at_s is not None and now_s >= self.fault.at_s * SAME_TIME:
                self.first = frame
        return None if self.first is None else frame - self.first

    def take(self, sent: Sent) -> list[Sent]:
        """What goes out in place of a message."""
        memory = self.memory
        if sent.frame is None or not isinstance(sent.message, Spectrum):
            if isinstance(sent.message, SessionEnd):
                held, memory.held = memory.held, []
                return [*held, *self.fault.on_other(sent, memory)]
            return self.fault.on_other(sent, memory)
        place = self.place(sent.frame, memory.now_s)
        if place is None or place < 0:
            memory.before = sent
            return [sent]
        if memory.began_s is None:
            memory.began_s = memory.now_s
        if place >= self.fault.reach and not memory.held and not memory.holds:
            return [sent]  # it's over
        return self.fault.on(sent, place, memory, np.random.default_rng((*self.seed, place)))

    def news(self) -> list[str]:
        if self.memory.began_s is None or not self.unsaid:
            return []
        self.unsaid = False
        return [f"{self.name}: from frame {self.first} on"]
