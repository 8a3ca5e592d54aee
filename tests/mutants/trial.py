"""The tests, run on each mutant in a process of its own.

Pytest collects once and runs all tests on the whole code, while it is noted which functions each test enters. Then, for each mutant, the
process forks; the child puts the mutant in place and runs the tests that enter the broken function until one fails, first those that noticed
most so far for the time that they take. Two children at a time.
"""

from __future__ import annotations

import ast
import gc
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from types import FrameType, ModuleType

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.graft import graft
from tests.mutants.operators import Mutant, change

AT_A_TIME = 2
LONGEST_S = 60  # a mutant that takes longer goes round in circles, and somebody would notice
EQUIVALENT_S = 1.0  # as many of the tests as fit
SURVIVED, KILLED, NOT_RUN = 0, 1, 2


@dataclass
class Trials:
    """A pytest plugin that runs the collected tests on mutants. `survivors` and `failed` are the verdict."""

    modules: dict[str, ModuleType]  # by file name
    mutants: list[Mutant]
    equivalent: list[Mutant]  # that should survive: tried for EQUIVALENT_S only, since nothing ends them
    tell: Callable[[int, int], None]  # how many are done, how many survived
    survivors: list[Mutant] = field(default_factory=list)
    failed: bool = True  # until the tests have passed on the whole code

    def __post_init__(self) -> None:
        sources = {file: Path(module.__file__ or "").read_text() for file, module in self.modules.items()}
        self._whole = {file: ast.parse(source) for file, source in sources.items()}
        self._paths = {str(module.__file__): file for file, module in self.modules.items()}
        self._entered: dict[int, set[tuple[str, int]]] = {}
        self._took_s: dict[int, float] = {}
        self._noticed: Counter[int] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """That a test fails is all that is asked: no smallest example. Hypothesis must not be imported before pytest has begun."""
        from hypothesis import Phase, settings

        settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests once."""
        items = session.items
        for i, item in enumerate(items):
            self._note(i, item, items[i + 1] if i + 1 < len(items) else None)
        if session.testsfailed or not items:
            return True
        self.failed = False
        gc.freeze()  # so that a child copies no more memory than it changes
        gc.disable()
        running: dict[int, tuple[Mutant, int]] = {}
        done = 0
        waiting = iter(self.mutants)
        while True:
            for mutant in _first(waiting, AT_A_TIME - len(running)):
                told, tells = os.pipe()
                running[self._start(mutant, items, tells)] = mutant, told
                os.close(tells)
            if not running:
                return True
            pid, status = os.wait()
            mutant, told = running.pop(pid)
            self._noticed.update([int(os.read(told, 16) or -1)])
            os.close(told)
            done += 1
            code = os.waitstatus_to_exitcode(status)
            if code == NOT_RUN:
                self.failed = True
                raise RuntimeError(f"{mutant.file}:{mutant.line}, {mutant.change}: can't be put in place")
            if code == SURVIVED:
                self.survivors.append(mutant)
            self.tell(done, len(self.survivors))

    def _note(self, number: int, item: pytest.Item, following: pytest.Item | None) -> None:
        """Run a test on the whole code, and note what it enters."""
        entered: set[tuple[str, int]] = set()

        def enter(frame: FrameType, _event: str, _arg: object) -> None:
            file = self._paths.get(frame.f_code.co_filename)
            if file is not None:
                entered.add((file, frame.f_code.co_firstlineno))

        began = time.perf_counter()
        sys.settrace(enter)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        finally:
            sys.settrace(None)
        self._took_s[number] = time.perf_counter() - began
        self._entered[number] = entered

    def _start(self, mutant: Mutant, items: list[pytest.Item], tells: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code, terminal = NOT_RUN, os.dup(2)
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST_S)
            chosen = self._chosen(mutant)
            tree = self._whole[mutant.file]  # whole in the parent: this is a copy
            graft(self.modules[mutant.file], tree, change(mutant, tree))
            failing = _first_that_fails([items[i] for i in chosen])
            if failing is not None:
                os.write(tells, str(chosen[failing]).encode())
            code = SURVIVED if failing is None else KILLED
        finally:
            if code == NOT_RUN:
                os.write(terminal, traceback.format_exc().encode())
            os._exit(code)

    def _chosen(self, mutant: Mutant) -> list[int]:
        """The tests that enter the function that is broken, or all for what is not in a function."""
        inside = [
            (mutant.file, min([node.lineno, *(d.lineno for d in node.decorator_list)]))
            for node in ast.walk(self._whole[mutant.file])
            if isinstance(node, ast.FunctionDef) and node.lineno <= mutant.line <= (node.end_lineno or 0)
        ]
        worth = sorted(self._took_s, key=lambda i: self._took_s[i] / (1 + self._noticed[i]))
        chosen = [i for i in worth if not inside or not self._entered[i].isdisjoint(inside)]
        if mutant in self.equivalent:
            until_s = accumulate(self._took_s[i] for i in chosen)
            chosen = [i for i, s in zip(chosen, until_s, strict=True) if s < EQUIVALENT_S]
        return chosen


def _first_that_fails(items: list[pytest.Item]) -> int | None:
    """Its place among these."""
    for i, (item, following) in enumerate(zip(items, [*items, None][1:], strict=True)):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return i
    return None


def _first(waiting: Iterator[Mutant], count: int) -> Iterable[Mutant]:
    return list(islice(waiting, count))
