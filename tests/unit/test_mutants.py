"""The mutator that breaks the guard: what it finds to break, and that what it breaks is broken for everybody."""

from __future__ import annotations

import ast
import importlib
import sys

import pytest

from tests.mutants.graft import graft
from tests.mutants.operators import Mutant, change, mutants, mutated

SOURCE = """
from dataclasses import dataclass

LARGEST = 3
TWICE = 2 * LARGEST

@dataclass(frozen=True, slots=True)
class Sum:
    of: int = 0

    @property
    def is_small(self) -> bool:
        return not self.of > LARGEST

    def with_one(self, effects: list[str]) -> "Sum | None":
        if self.of >= LARGEST and not effects:
            return None
        effects.append(Write("it"))
        effects.append("sent")
        return Sum(of=self.of + 1)

def Write(what: str) -> str:
    return "written " + what
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "broken_on_purpose.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("broken_on_purpose")
    del sys.modules["broken_on_purpose"]


def one(source: str, change: str, file: str = "a.py") -> Mutant:
    [found] = [mutant for mutant in mutants(file, source) if mutant.change == change]
    return found


def after(source: str, change: str, file: str = "a.py") -> str:
    return ast.unparse(mutated(one(source, change, file), source))


@pytest.mark.parametrize(
    ("source", "change", "broken"),
    [
        ("a <= b", "`<` for `<=`", "a < b"),
        ("a <= b", "`>` for `<=`", "a > b"),
        ("a is None", "`is not` for `is`", "a is not None"),
        ("not a", "`not` removed", "a"),
        ("a and b", "`or` for `and`", "a or b"),
        ("a or b or c", "condition 2 forgotten", "a or c"),
        ("a + b", "`-` for `+`", "a - b"),
        ("max(a, b)", "min for max", "min(a, b)"),
        ("max(a, b)", "argument 2 instead of max", "b"),
        ("x = a if b else c", "never", "x = a if False else c"),
        ("if a:\n    b", "always", "if True:\n    b"),
        ("f(a, b=c)", "b left out", "f(a)"),
        ("x[:3]", "not cut", "x"),
        ("x = 0", "1 for 0", "x = 1"),
        ("x = 0.5", "1 for 0.5", "x = 1.0"),
        ("x = True", "False for True", "x = False"),
        ("Broken('budget', why)", "another limit named", "Broken('another', why)"),
        ("def f():\n    return refused", "None returned", "def f():\n    return None"),
        ("def f():\n    return", "goes on", "def f():\n    pass"),
        ("f(x for x in y if x)", "filter forgotten", "f((x for x in y))"),
    ],
)
def test_what_is_broken(source, change, broken):
    assert after(source, change) == broken


def test_a_nan_passes_only_where_that_was_promised_to_be_refused():
    assert after("not a <= b", "a NaN passes", "limits.py") == "a > b"
    assert "a NaN passes" not in {mutant.change for mutant in mutants("guard.py", "not a <= b")}


def test_modes_go_to_a_lower_priority():
    assert after("T = {x: (L, B)}", "B for L, entry 0", "modes.py") == "T = {x: (B, B)}"


def test_a_write_is_left_out_or_comes_after_what_it_should_precede():
    source = "def f(self):\n    e.append(Write(x))\n    send()\n    return None"
    assert after(source, "done last") == "def f(self):\n    send()\n    e.append(Write(x))\n    return None"
    left_out = next(mutant for mutant in mutants("a.py", source) if (mutant.line, mutant.change) == (2, "left out"))
    assert "Write" not in ast.unparse(mutated(left_out, source))


def test_words_are_no_checks():
    assert not mutants("a.py", 'def f():\n    """Text."""\nx = "text"\n')


def put(module, what: str, line: int) -> None:
    found = next(m for m in mutants("a.py", SOURCE) if (m.line, m.change) == (line, what))
    tree = ast.parse(SOURCE)
    graft(module, tree, change(found, tree))


def test_a_broken_method_is_broken_for_objects_and_classes_that_are_known_already(module):
    known = module.Sum(2)
    put(module, "`-` for `+`", 20)
    assert known.with_one([]) == module.Sum(1)
    assert type(known) is module.Sum


def test_a_broken_property_and_a_broken_default(module):
    put(module, "`not` removed", 13)
    assert not module.Sum(2).is_small


def test_a_default_of_another_size(module):
    put(module, "1 for 0", 9)
    assert module.Sum() == module.Sum(1)


def test_a_constant_is_exchanged_wherever_it_was_imported_to_and_in_what_was_made_of_it(module, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LARGEST", module.LARGEST, raising=False)
    put(module, "6 for 3", 4)
    assert (module.LARGEST, module.TWICE, globals()["LARGEST"]) == (6, 12, 6)
    assert module.Sum(5).is_small
