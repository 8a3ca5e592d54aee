"""Who works on a trial, and whether it still lives: what a killed worker leaves behind must be told from work at hand."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

UNSIGNED = timedelta(minutes=10)  # a worker signs a trial right after it took it; clocks may be apart


def signature() -> dict[str, Any]:
    """Of this process, told from every other: also from one that gets its number later, or has it on another machine."""
    return {"host": socket.gethostname(), **_system(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_dead(owner: dict[str, Any] | None, since: datetime | None) -> bool:
    """Whether the process that signed a trial has ended. False where that can't be known from here.

    owner: as signed; None where nobody signed. since: when the trial was taken, in this machine's time.
    """
    if owner is None:
        return since is None or datetime.now() - since > UNSIGNED  # local, as Optuna has it
    if owner.get("host") != socket.gethostname():
        return False
    here = _system()
    if owner.get("boot") != here["boot"]:
        return True
    if owner.get("namespace") != here["namespace"]:
        return False  # a container beside this one, whose numbers of processes are others
    return _started(int(owner["pid"])) != owner.get("started")


def _system() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "namespace": os.readlink("/proc/self/ns/pid")}
    except OSError:
        return {"boot": "unknown", "namespace": "unknown"}


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since boot; None where there is none, or it is only not yet buried."""
    try:
        # The name, in brackets, may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
