"""Which commands an instrument looks at: of its session, numbered above all before, and not too late. Pure.

Three things keep an old command from acting. Its session: commands of another one are refused, and each session has a name of
its own. Its number: one that was used, or a lower one, is refused, also where the command that used it was. And its expiry,
which is a time of the instrument's own clock, so that no clock is shared: the sender adds what it allows to the newest
`sent_mono_ns` that it has heard from this instrument. A command that was held up, by a network or by a process that stood
still, is refused, and so is one that was decided on by what the instrument said long ago.

A command that only blanks is exempt from the last two: it can do no harm, and whoever must blank may not know the numbers. And a number
far ahead is refused without being used, so that no stray command uses up all that are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eelstm_stream.wire.messages import Command

# Whoever gives a command longer than this to arrive has read another clock, or wants one that never expires.
LONGEST_TIME_TO_LIVE_S = 10.0
FURTHEST_AHEAD = 1_000_000  # of the highest number that was used


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that was not taken."""

    limit: str  # what it broke, such as max_current_pA; "finite" for what is no number; "empty"
    reason: str  # one sentence


@dataclass(frozen=True, slots=True)
class CommandGate:
    """What an instrument remembers of the commands of its session."""

    session: str
    taken_seq: int | None = None  # the highest so far, accepted or not

    def admit(self, command: Command, now_mono_ns: int) -> tuple[CommandGate, Refused | None]:
        """The gate after this command, and why it goes no further, or None. now_mono_ns: by the instrument's clock."""
        if command.session != self.session:
            reason = f"the command is for session {command.session}, and this is {self.session}."
            return self, Refused("session", reason)
        taken_seq = -1 if self.taken_seq is None else self.taken_seq
        is_far_ahead = command.seq > taken_seq + FURTHEST_AHEAD
        if only_blanks(command):
            return self if is_far_ahead or command.seq <= taken_seq else replace(self, taken_seq=command.seq), None
        if is_far_ahead:
            reason = f"command {command.seq} is more than {FURTHEST_AHEAD} ahead of {taken_seq}, the highest so far."
            return self, Refused("seq", reason)
        if command.seq <= taken_seq:
            reason = f"command {command.seq} comes after {self.taken_seq}: numbers rise, and none acts twice."
            return self, Refused("seq", reason)
        gate = replace(self, taken_seq=command.seq)
        left_s = (command.expires_mono_ns - now_mono_ns) / 1e9
        if left_s < 0:
            return gate, Refused("expired", f"the command expired {-left_s:.3f} s ago by this instrument's clock.")
        if left_s > LONGEST_TIME_TO_LIVE_S:
            reason = f"the command expires in {left_s:.0f} s by this instrument's clock, and {LONGEST_TIME_TO_LIVE_S:g} s are the most."
            return gate, Refused("expires_mono_ns", reason)
        return gate, None


def only_blanks(command: Command) -> bool:
    """Whether it blanks the beam and orders nothing else."""
    return command.blanked is True and command.dwell_s is None and command.beam_current_pA is None
