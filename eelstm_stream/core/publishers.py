"""Who publishes under the instrument's name: one program, or two at once. Pure.

Operations: `heard` takes every message that came from the instrument's socket; `alarm` says what is wrong, until it is over.

A program that was started again begins a new session, and the old one is never heard again, or only what was held up on the
way. So two are at work where a session goes on although another has begun since, and neither has ended. Which came first is
told by the clock that both name, as on one machine; where they name none in common, several messages tell.

The alarm is latched: it stays, however quiet one of the two becomes, until one of them says that its session has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eelstm_stream.wire.messages import Gap, InstrumentStatus, Message, SessionEnd, SessionStart, Spectrum

KEPT = 8  # sessions that have not ended, and as many that have: one that was killed never ends
ENOUGH = 3  # messages of a session that should be over, where no clock tells when they were sent


@dataclass(frozen=True, slots=True)
class _Session:
    uid: str
    since_ns: int  # when the first message heard of it was sent, by its sender's clock
    clock_id: str | None = None  # names that clock; None where its start was not heard
    outlived: int = 0  # messages heard of it after those of a newer one


@dataclass(frozen=True, slots=True)
class Publishers:
    """The sessions that have not ended, in the order in which they were first heard."""

    sessions: tuple[_Session, ...] = ()
    ended: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None  # that were heard at once

    @property
    def alarm(self) -> str | None:
        """One sentence, for a person; None where one program publishes, or none."""
        if self.pair is None:
            return None
        return f"two programs publish under this instrument's name: sessions {self.pair[0]} and {self.pair[1]} go on at once"

    def heard(self, message: Message) -> Publishers:
        """After a message from the instrument's socket, of whatever kind."""
        if not isinstance(message, SessionStart | SessionEnd | Spectrum | Gap | InstrumentStatus):
            return self
        uid = message.session
        if isinstance(message, SessionEnd):
            left = tuple(session for session in self.sessions if session.uid != uid)
            pair = None if self.pair is not None and uid in self.pair else self.pair
            return Publishers(left, (*self.ended, uid)[-KEPT:], pair)
        if uid in self.ended:
            return self
        clock_id = message.clock_id if isinstance(message, SessionStart | InstrumentStatus) else None
        known = next((session for session in self.sessions if session.uid == uid), None)
        if known is None:
            return replace(self, sessions=(*self.sessions, _Session(uid, message.sent_mono_ns, clock_id))[-KEPT:])
        newest = self.sessions[-1]
        if known.clock_id is None and clock_id is not None:
            return self._with(replace(known, clock_id=clock_id))
        if known is newest or self.pair is not None:
            return self
        known = replace(known, outlived=known.outlived + 1)
        goes_on = known.outlived >= ENOUGH
        if known.clock_id is not None and known.clock_id == newest.clock_id:
            goes_on = message.sent_mono_ns > newest.since_ns
        return replace(self._with(known), pair=(uid, newest.uid) if goes_on else None)

    def _with(self, changed: _Session) -> Publishers:
        sessions = tuple(changed if session.uid == changed.uid else session for session in self.sessions)
        return replace(self, sessions=sessions)
