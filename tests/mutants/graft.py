"""A broken piece put into the process that runs the tests, in place of the whole one.

Only the top-level statement that a mutant changes is executed again, in a copy of its module's names. Functions keep their identity and take
over the code, so that whoever imported them has the broken one; constants are exchanged wherever they were imported to. Enums and
dataclasses stay the classes that they are. So nothing has to be imported again, and a mutant costs one fork.
"""

from __future__ import annotations
import __future__

import ast
import sys
from types import FunctionType, ModuleType
from typing import Any


def graft(module: ModuleType, broken: ast.Module, statement: ast.stmt) -> None:
    """Make this module the broken one. statement: the one of its top-level statements that was changed."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        names = _executed(module, [statement])
        _take_over(getattr(module, statement.name), names[statement.name])
        return
    later: list[ast.stmt] = [
        s for s in broken.body[broken.body.index(statement) :] if isinstance(s, ast.Assign | ast.AnnAssign)
    ]
    _exchange(module, _executed(module, later))


def _executed(module: ModuleType, statements: list[ast.stmt]) -> dict[str, Any]:
    names = dict(vars(module))
    tree = ast.Module(body=statements, type_ignores=[])
    code = compile(tree, module.__file__ or "?", "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    exec(code, names)  # noqa: S102 - our own source, broken by ourselves
    return names


def _take_over(old: Any, new: Any) -> None:
    """Functions, properties and the methods of a class."""
    if isinstance(old, FunctionType):
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    elif isinstance(old, property):
        _take_over(old.fget, new.fget)
    elif isinstance(old, type):
        for name, method in vars(old).items():
            if isinstance(method, FunctionType | property):
                _take_over(method, vars(new)[name])


def _exchange(module: ModuleType, names: dict[str, Any]) -> None:
    for name, old in list(vars(module).items()):
        new = names[name]
        if new is old or name.startswith("__"):
            continue
        for other in [m for m in sys.modules.values() if isinstance(m, ModuleType)]:
            if vars(other).get(name) is old:
                setattr(other, name, new)
