"""An adapter that needs pyzmq and numpy, and nothing of this project: written from docs/reference/instrument-protocol.md.

Run it, and command it as any other instrument. To make it yours, replace `Microscope` and `AXIS`, and look at `LIMITS`.
"""

import json
import math
import re
import signal
import time
import uuid
from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import zmq

AXIS = {"offset_eV": 400.0, "dispersion_eV": 0.5, "size": 512}
BLANK_S = 0.05  # what the blanker takes, and this program on a busy computer until it moves it
LIMITS = {"min_dwell_s": 0.01, "max_dwell_s": 10.0, "min_current_pA": 1.0, "max_current_pA": 500.0, "max_lease_s": 30.0}
LIMITS["blank_delay_s"] = BLANK_S
READOUT_S = 0.002  # what a frame takes beyond its dwell
LONGEST_TIME_TO_LIVE_S = 10.0
FURTHEST_AHEAD = 1_000_000  # of the highest number that was taken
PORTS = {"publish": 17810, "snapshot": 17811, "command": 17813}


class Microscope:
    """Stands for the library that drives yours. It counts 100 for each pC in every channel."""

    dwell_s, current_pA, blanked = 0.1, 100.0, True

    def start_exposure(self):
        self._ready_s = time.monotonic() + self.dwell_s

    def is_exposed(self):
        return time.monotonic() >= self._ready_s

    def read_out(self):
        return np.random.default_rng().poisson(100 * self.dwell_s * self.current_pA, AXIS["size"]).astype("<f4")


class Refused(Exception):  # noqa: N818 - it is an answer
    def __init__(self, limit, reason):
        super().__init__(reason)
        self.limit = limit


class Adapter:
    def __init__(self, microscope):
        self.microscope = microscope
        microscope.blanked = True
        self.context = zmq.Context()
        self.sockets = {}
        for name, kind in (("publish", zmq.PUB), ("snapshot", zmq.ROUTER), ("command", zmq.ROUTER)):
            self.sockets[name] = socket = self.context.socket(kind)
            socket.setsockopt(zmq.MAXMSGSIZE, 64 * 1024)  # nobody has more than that to say to an instrument
            socket.setsockopt(zmq.SNDTIMEO, 0)  # who does not read loses it, and nobody waits
            socket.bind(f"tcp://127.0.0.1:{PORTS[name]}")
        self.session = uuid.uuid4().hex
        self.clock_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self.began_ns, self.began_at = time.monotonic_ns(), datetime.now(UTC)
        self.sent = {"session": 0, "status": 0}
        self.newest = deque(maxlen=256)
        self.spectra = self.next_seq = 0
        self.taken_seq = self.lease = self.frame = None
        self.ordered = {"dwell_s": microscope.dwell_s, "beam_current_pA": microscope.current_pA, "blanked": True}
        self.why_blanked = "nothing was commanded yet"
        self.dose_pC, self.looked_ns = 0.0, self.began_ns
        self.stopped = False

    # What it sends

    def publish(self, kind, schema, payload=b"", **fields):
        header = {"schema": schema, "session": self.session, "sent_mono_ns": time.monotonic_ns(), **fields}
        if kind in self.sent:
            header["seq"], self.sent[kind] = self.sent[kind], self.sent[kind] + 1
        frames = [f"microscope.{kind}.".encode(), json.dumps(header, allow_nan=False).encode(), payload]
        self.sockets["publish"].send_multipart(frames)
        return frames

    def moment(self, mono_ns):
        return (self.began_at + timedelta(microseconds=(mono_ns - self.began_ns) / 1000)).isoformat()

    def begin_session(self):
        self.start = self.publish(
            "session",
            "eelstm.session_start/1",
            instrument="microscope",
            source="instrument",
            energy_axis=AXIS,
            dwell_s=self.microscope.dwell_s,
            frame_period_s=self.microscope.dwell_s + READOUT_S,
            beam_current_pA=self.microscope.current_pA,
            dose_is_relative=False,
            commands=LIMITS,
            started_at=self.moment(self.began_ns),
            clock_id=self.clock_id,
        )

    def answer_late_joiner(self, sender, request, *_):
        try:
            asked = json.loads(request)["spectra"]
            wanted = asked if type(asked) is int and 0 <= asked <= 256 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            wanted = None
        if wanted is None:
            reply = {"schema": "eelstm.snapshot_reply/1", "messages": 0, "refused": "ask for 0 to 256 spectra"}
            self.sockets["snapshot"].send_multipart([sender, json.dumps(reply).encode()])
            return
        messages = [self.start, *list(self.newest)[max(0, len(self.newest) - wanted) :]]
        reply = {"schema": "eelstm.snapshot_reply/1", "messages": len(messages)}
        self.sockets["snapshot"].send_multipart([sender, json.dumps(reply).encode(), *chain(*messages)])

    def report(self):
        self.look()
        read = self.microscope
        report = {
            "readback": {"dwell_s": read.dwell_s, "beam_current_pA": read.current_pA, "blanked": read.blanked},
            "ordered": self.ordered,
            "holds_from_seq": self.next_seq,
            "next_seq": self.next_seq,
            "taken_seq": self.taken_seq,
            "dose_pC": self.committed_pC(),
        }
        if self.lease is not None:
            report["lease"] = {**self.lease, "left_s": max(0, self.lease["ends_mono_ns"] - self.looked_ns) / 1e9}
        return report

    def say_status(self):
        self.status_due_ns = time.monotonic_ns() + 1_000_000_000
        blanked = self.said_blanked = self.microscope.blanked
        self.publish(
            "status",
            "eelstm.instrument_status/1",
            state="blanked" if blanked else "exposing",
            text=f"the beam is blanked: {self.why_blanked}" if blanked else "the beam is on",
            clock_id=self.clock_id,
            obeys=True,
            beam=self.report(),
        )

    # Dose

    def look(self, on=None):
        """Add up the dose until now. on: whether the beam was, where that has just changed."""
        now_ns = time.monotonic_ns()
        if on or (on is None and not self.microscope.blanked):
            self.dose_pC += self.microscope.current_pA * (now_ns - self.looked_ns) / 1e9
        self.looked_ns = now_ns

    def committed_pC(self):
        frame = self.frame
        return self.dose_pC if frame is None else max(self.dose_pC, frame["dose_before_pC"] + frame["dose_pC"])

    # Commands

    def obey(self, sender, *told):
        command, answer = {}, {"schema": "eelstm.acknowledgement/1", "clock_id": self.clock_id}
        try:
            command = understood(told)
            self.take(command)
            answer["outcome"] = "accepted"
        except Refused as refused:
            answer |= {"outcome": "refused", "limit": refused.limit, "reason": str(refused)}
        answer |= named(told) | {"running_session": self.session, "beam": self.report()}
        answer["sent_mono_ns"] = time.monotonic_ns()
        self.sockets["command"].send_multipart([sender, json.dumps(answer).encode()])

    def take(self, command):
        if command["session"] != self.session:
            raise Refused("session", f"this is session {self.session}.")
        is_next = self.takes_number(command["seq"])
        if command.get("blanked") and not command.keys() & {"dwell_s", "beam_current_pA"}:
            self.blank("it was commanded")  # whatever its number and expiry: it can do no harm
            return
        self.check_stamps(command, is_next)
        for field, limit in (("dwell_s", "dwell_s"), ("beam_current_pA", "current_pA"), ("lease_s", "lease_s")):
            ordered = command.get(field)
            if ordered is not None and ordered < LIMITS.get(f"min_{limit}", -math.inf):
                raise Refused(f"min_{limit}", f"{field} {ordered:g} is below the limit of {LIMITS[f'min_{limit}']:g}.")
            if ordered is not None and ordered > LIMITS[f"max_{limit}"]:
                raise Refused(f"max_{limit}", f"{field} {ordered:g} is above the limit of {LIMITS[f'max_{limit}']:g}.")
        ordered, lease = self.ordered | {k: v for k, v in command.items() if k in self.ordered}, self.lease
        if "lease_s" in command:
            lease = {"ends_mono_ns": time.monotonic_ns() + round(command["lease_s"] * 1e9)}
            if "lease_until_dose_pC" in command:
                lease["until_dose_pC"] = command["lease_until_dose_pC"]
            self.look()
            if broken := self.not_covered(ordered, lease):
                raise Refused(broken, "the lease covers no frame.")
        self.ordered, self.lease = ordered, lease
        if ordered["blanked"]:
            self.blank("it was commanded")
        if self.frame is None:
            self.begin_or_blank()

    def takes_number(self, seq):
        """Use a number, if it's above all that were used, and not far above."""
        taken_seq = -1 if self.taken_seq is None else self.taken_seq
        is_next = taken_seq < seq <= taken_seq + FURTHEST_AHEAD
        self.taken_seq = seq if is_next else self.taken_seq
        return is_next

    def check_stamps(self, command, is_next):
        """Refuse what was used, comes too late, or will for too long not be late."""
        if not is_next:
            raise Refused("seq", f"{self.taken_seq} was taken already, or is more than {FURTHEST_AHEAD} less.")
        left_s = (command["expires_mono_ns"] - time.monotonic_ns()) / 1e9
        if left_s < 0:
            raise Refused("expired", f"the command expired {-left_s:.3f} s ago.")
        if left_s > LONGEST_TIME_TO_LIVE_S:
            raise Refused("expires_mono_ns", f"{left_s:.0f} s are too long to live.")

    # Frames under a lease

    def not_covered(self, ordered, lease):
        """What of a frame that begins now the lease would not cover; None where it covers all of it."""
        takes_s = ordered["dwell_s"] + READOUT_S + BLANK_S
        if self.looked_ns + takes_s * 1e9 > lease["ends_mono_ns"]:
            return "lease_s"
        after_pC = self.committed_pC() + takes_s * ordered["beam_current_pA"]
        return "lease_until_dose_pC" if after_pC > lease.get("until_dose_pC", math.inf) else None

    def begin_or_blank(self):
        self.look()
        microscope, ordered = self.microscope, self.ordered
        if (microscope.dwell_s, microscope.current_pA) != (ordered["dwell_s"], ordered["beam_current_pA"]):
            microscope.blanked = True
            microscope.dwell_s, microscope.current_pA = ordered["dwell_s"], ordered["beam_current_pA"]
        if ordered["blanked"]:
            return
        if broken := self.not_covered(ordered, self.lease):
            self.blank(f"the lease covers no other frame ({broken})")
            return
        microscope.blanked = False
        self.frame = {
            "seq": self.next_seq,
            "dwell_s": microscope.dwell_s,
            "beam_current_pA": microscope.current_pA,
            "dose_pC": microscope.dwell_s * microscope.current_pA,
            "dose_before_pC": self.dose_pC,
        }
        self.next_seq += 1
        self.frame_began_ns = self.looked_ns  # until when dose_before_pC is counted
        microscope.start_exposure()

    def take_frame(self):
        counts, frame, ended_ns = self.microscope.read_out(), self.frame, time.monotonic_ns()
        moments = {"acquired_at": self.moment(self.frame_began_ns), "acquired_until": self.moment(ended_ns)}
        self.frame = None
        self.begin_or_blank()
        shape = {"dtype": "<f4", "shape": counts.shape}
        frames = self.publish("spectrum", "eelstm.spectrum/1", counts.tobytes(), **frame, **moments, **shape)
        self.newest.append(frames)
        self.spectra += 1

    def off_by_ns(self):
        """When blanking must begin, whatever the camera does, for the beam to be off where its lease ends."""
        left_pC = self.lease.get("until_dose_pC", math.inf) - self.dose_pC
        ends_ns = min(self.lease["ends_mono_ns"], self.looked_ns + left_pC / self.microscope.current_pA * 1e9)
        return ends_ns - BLANK_S * 1e9

    def blank(self, why):
        was_on, self.microscope.blanked = not self.microscope.blanked, True  # before all that could fail
        self.look(was_on)
        self.ordered, self.lease, self.why_blanked = self.ordered | {"blanked": True}, None, why
        if self.frame is not None:
            seq, self.frame = self.frame["seq"], None
            self.publish("session", "eelstm.gap/1", first_seq=seq, last_seq=seq, reason="the beam was blanked")

    # The program

    def run(self):
        self.begin_session()
        self.say_status()
        print(
            json.dumps({name: s.getsockopt_string(zmq.LAST_ENDPOINT) for name, s in self.sockets.items()}), flush=True
        )
        poller = zmq.Poller()
        for name in ("snapshot", "command"):
            poller.register(self.sockets[name], zmq.POLLIN)
        try:
            while not self.stopped:
                arrived = dict(poller.poll(1 if self.frame else 100))
                if self.sockets["snapshot"] in arrived:
                    self.answer_late_joiner(*self.sockets["snapshot"].recv_multipart())
                if self.sockets["command"] in arrived:
                    self.obey(*self.sockets["command"].recv_multipart())
                if self.frame is not None and self.microscope.is_exposed():
                    self.take_frame()
                elif self.frame is not None and self.lease and time.monotonic_ns() >= self.off_by_ns():
                    self.blank("the lease was over before the camera was done")
                changed = self.sockets["command"] in arrived or self.microscope.blanked != self.said_blanked
                if changed or time.monotonic_ns() >= self.status_due_ns:
                    self.say_status()
        finally:  # whatever ends the loop, the beam does not outlive it
            self.blank("the program ends")
        self.say_status()
        self.publish("session", "eelstm.session_end/1", reason="stopped", spectra=self.spectra)
        self.context.destroy(linger=1000)


TYPES = {
    "schema": str,
    "session": str,
    "seq": int,
    "sent_mono_ns": int,
    "expires_mono_ns": int,
    "dwell_s": float,
    "beam_current_pA": float,
    "blanked": bool,
    "lease_s": float,
    "lease_until_dose_pC": float,
}
REQUIRED = {"schema", "session", "seq", "sent_mono_ns", "expires_mono_ns"}


NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
MOST = {"seq": 2**53 - 1, "sent_mono_ns": 2**63 - 1, "expires_mono_ns": 2**63 - 1}


def fits(field, value):
    """Whether this can stand in this field. Bounds keep out NaN, infinity, and integers that are no float any more."""
    if TYPES[field] is float:
        return type(value) in (int, float) and 0 < value < 1e300
    if TYPES[field] is int:
        return type(value) is int and 0 <= value <= MOST[field]
    return type(value) is TYPES[field] and (field != "session" or NAME.fullmatch(value) is not None)


def once(pairs):
    """A JSON object; a field that stands twice in it is said two ways, and readers differ in which they believe."""
    if len(fields := dict(pairs)) < len(pairs):
        raise Refused("malformed", "a field stands twice.")
    return fields


def understood(told):
    """A command, checked for all that can be checked without an instrument. JSON knows no NaN, but Python reads it."""
    try:
        [frame] = told
        command = json.loads(frame, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise Refused("malformed", "a command is one frame of JSON.") from None
    if not isinstance(command, dict) or command.get("schema") != "eelstm.command/1":
        raise Refused("malformed", "this program speaks eelstm.command/1.")
    if strange := set(command) - set(TYPES) or REQUIRED - set(command):
        raise Refused("malformed", f"not understood, or missing: {ascii(sorted(strange))[:200]}.")
    for field, value in command.items():
        if not fits(field, value):
            raise Refused("malformed", f"{field} is not what it must be.")
    if not command.keys() & {"dwell_s", "beam_current_pA", "blanked"}:
        raise Refused("malformed", "the command orders nothing.")
    if (command.get("blanked") is False) > ("lease_s" in command) or (command.get("blanked") and "lease_s" in command):
        raise Refused("malformed", "a beam that is let on needs lease_s, and one that is blanked none.")
    if "lease_until_dose_pC" in command and "lease_s" not in command:
        raise Refused("malformed", "lease_until_dose_pC needs lease_s.")
    return command


def named(told):
    """Session and number of a command, as far as they can be read: so that its sender knows which one is answered."""
    try:
        command = json.loads(told[0])
        return {key: command[key] for key in ("session", "seq") if key in command and fits(key, command[key])}
    except (ValueError, TypeError, IndexError, RecursionError):
        return {}


if __name__ == "__main__":
    adapter = Adapter(Microscope())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(adapter, "stopped", True))
    adapter.run()
