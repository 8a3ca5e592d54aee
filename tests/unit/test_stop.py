"""A program ends when it is asked to, however it is asked, and wakes up to do so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
import zmq

from eelstm_stream.io.stopping import Stop

FOREVER_S = 250  # waiting so long would be stopped by pytest's own limit

# A child that ends with its parent: it waits on nothing but its Stop.
CHILD = """
import sys, zmq
from eelstm_stream.io.stopping import Stop
with Stop(with_parent=True) as stop:
    poller = zmq.Poller()
    stop.register(poller)
    print("ready", flush=True)
    woken = 0
    while not stop.check(dict(poller.poll())):
        woken += 1
        print("woken", flush=True)
print("ended", woken, flush=True)
"""


def polled(stop: Stop, timeout_ms: int) -> dict[object, int]:
    poller = zmq.Poller()
    stop.register(poller)
    return dict(poller.poll(timeout_ms))


def test_nothing_is_asked_for_at_first():
    with Stop() as stop:
        ready = polled(stop, 0)
        assert ready == {}
        assert not stop.check(ready)
        assert not stop.wait(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_wakes_a_poll_up_and_raises_nothing(number):
    with Stop() as stop:
        os.kill(os.getpid(), number)
        assert stop.wait(FOREVER_S)
        assert stop.check(polled(stop, FOREVER_S * 1000))
        assert stop.requested


def test_waiting_ends_when_something_else_is_readable():
    one, other = socket.socketpair()
    with one, other, Stop() as stop:
        other.send(b".")
        assert not stop.wait(FOREVER_S, one)


def test_a_request_from_inside_is_the_same_and_may_be_made_twice():
    with Stop() as stop:
        stop.request()
        stop.request()
        assert stop.wait(FOREVER_S)
        assert stop.check(polled(stop, FOREVER_S * 1000))


def test_afterwards_signals_are_handled_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Stop():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with Stop() as stop:
            stop.request()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def child():
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_child_ends_when_the_program_that_started_it_is_gone(child):
    child.stdin.close()  # what the kernel does to a pipe whose holder has died
    assert child.stdout.readline() == "ended 0\n"
    assert child.wait() == 0


def test_a_child_does_not_end_because_something_is_written_to_it(child):
    child.stdin.write("still here\n")
    child.stdin.flush()
    assert child.stdout.readline() == "woken\n"
    child.terminate()
    assert child.stdout.readline() == "ended 1\n"
    assert child.wait() == 0
