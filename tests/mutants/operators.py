"""What is broken, and how: every mutant of a module, as changes to its syntax tree. Pure.

Operations: `mutants` lists them, `mutated` makes the tree of one.

The list is of what a guard can get wrong: a bound moved or turned round, a `not` lost, one of two conditions forgotten, a refusal that never or
always comes, an effect or a change of state left out, a limit of another size, a mode of lower priority.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
SIGN: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not",
    ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.And: "and", ast.Or: "or",
}  # fmt: skip
OTHER_CALL = {"min": "max", "max": "min", "any": "all", "all": "any"}
# The modes' table by its letters: each to the next of lower priority, and the lowest, which is disarmed, to armed.
LOWER_MODE = {"L": "B", "B": "O", "O": "H", "H": "A", "A": "D", "D": "A"}

# Where the module promises that a NaN breaks every limit.
NAN_IS_REFUSED = ("limits.py", "ledger.py")


@dataclass(frozen=True)
class Mutant:
    """One change. number: among those of its file."""

    file: str
    number: int
    line: int
    source: str  # the line as it stands in the file
    change: str


@dataclass
class _Site:
    """A place to break, in a tree that was parsed for it."""

    node: ast.AST
    change: str
    do: Callable[[], None]


def mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of a module. file: its name, without folders."""
    lines = source.splitlines()
    return [
        Mutant(file, number, _line(site.node), lines[_line(site.node) - 1].strip(), site.change)
        for number, site in enumerate(_sites(file, ast.parse(source)))
    ]


def mutated(mutant: Mutant, source: str) -> ast.Module:
    """The module's tree with this change."""
    tree = ast.parse(source)
    change(mutant, tree)
    return tree


def change(mutant: Mutant, tree: ast.Module) -> ast.stmt:
    """Make this change in a tree of the whole module. Returns the top-level statement that was changed."""
    site = next(site for number, site in enumerate(_sites(mutant.file, tree)) if number == mutant.number)
    [statement] = [part for part in tree.body if any(node is site.node for node in ast.walk(part))]
    site.do()
    ast.fix_missing_locations(tree)
    return statement


def _line(node: ast.AST) -> int:
    line: int = getattr(node, "lineno", 1)
    return line


def _sites(file: str, tree: ast.Module) -> Iterator[_Site]:
    """In a fixed order. None of them is done before the iterator is asked for the next, so the tree is whole while it is walked."""
    for parent, field, node in _walk(tree):
        yield from _of_node(file, parent, field, node)


Place = tuple[ast.AST, tuple[str, int | None], ast.AST]  # the parent, where in it, the node


def _walk(tree: ast.AST) -> Iterator[Place]:
    """Every node but annotations and docstrings, parents first."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_text(child):
                yield tree, (name, index), child
                yield from _walk(child)


def _is_text(node: ast.AST) -> bool:
    """A docstring, or what a sentence is made of: what it says is no check."""
    if isinstance(node, ast.Expr):
        node = node.value
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _of_node(file: str, parent: ast.AST, field: tuple[str, int | None], node: ast.AST) -> Iterator[_Site]:
    def instead(other: ast.AST, change: str) -> _Site:
        return _Site(node, change, lambda: _put(parent, field, other))

    match node:
        case ast.Compare(ops=ops):
            yield from _comparisons(node, ops, negated=isinstance(parent, ast.UnaryOp))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield instead(operand, "`not` removed")
            if file in NAN_IS_REFUSED and isinstance(operand, ast.Compare) and type(operand.ops[0]) in BOUNDARY:
                turned = ast.Compare(operand.left, [OPPOSITE[type(operand.ops[0])]()], operand.comparators)
                yield instead(turned, "a NaN passes")
        case ast.BoolOp(op=op, values=values):
            other: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield instead(ast.BoolOp(other, values), f"`{SIGN[type(other)]}` for `{SIGN[type(op)]}`")
            for i, value in enumerate(values):
                rest = [v for v in values if v is not value]
                yield instead(rest[0] if len(rest) == 1 else ast.BoolOp(op, rest), f"condition {i + 1} forgotten")
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield _set(node, "op", ARITHMETIC[type(op)](), f"`{SIGN[ARITHMETIC[type(op)]]}` for `{SIGN[type(op)]}`")
        case ast.Call():
            yield from _calls(node, instead)
        case ast.Subscript(value=value, slice=ast.Slice()):
            yield instead(value, "not cut")
        case ast.Constant(value=value):
            yield from _constants(node, value)
        case _:
            yield from _of_other_node(file, parent, field, node)


def _of_other_node(file: str, parent: ast.AST, field: tuple[str, int | None], node: ast.AST) -> Iterator[_Site]:
    match node:
        case ast.Name(id=name) if file == "modes.py" and isinstance(parent, ast.Tuple) and name in LOWER_MODE:
            if isinstance(node.ctx, ast.Load):
                yield _set(node, "id", LOWER_MODE[name], f"{LOWER_MODE[name]} for {name}, entry {field[1]}")
        case ast.comprehension(ifs=ifs) if ifs:
            yield _Site(ifs[0], "filter forgotten", lambda: _put(node, ("ifs", None), []))
        case ast.stmt():
            yield from _statements(parent, field, node)
        case ast.IfExp(test=test):
            yield _set(node, "test", ast.Constant(False), "never", at=test)
            yield _set(node, "test", ast.Constant(True), "always", at=test)
        case ast.match_case():
            if node.guard is not None:
                yield _set(node, "guard", None, "case always", at=node.pattern)
            if not _is_one_call(node.body):
                yield _set(node, "body", [ast.Pass()], "case does nothing", at=node.pattern)


def _comparisons(node: ast.Compare, ops: list[ast.cmpop], *, negated: bool) -> Iterator[_Site]:
    """A bound that is moved by the least there is, and one that is turned round (which `not` removed does too)."""
    tables = [BOUNDARY] if negated else [BOUNDARY, OPPOSITE]
    for i, op in enumerate(ops):
        for table in tables:
            other = table.get(type(op))
            if other is not None:
                changed = [other() if j == i else o for j, o in enumerate(ops)]
                yield _set(node, "ops", changed, f"`{SIGN[other]}` for `{SIGN[type(op)]}`")


def _calls(node: ast.Call, instead: Callable[[ast.AST, str], _Site]) -> Iterator[_Site]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in OTHER_CALL:
        yield instead(
            ast.Call(ast.Name(OTHER_CALL[name], ast.Load()), node.args, node.keywords), f"{OTHER_CALL[name]} for {name}"
        )
    if name in ("min", "max") and len(node.args) > 1:
        for i, arg in enumerate(node.args):
            if not isinstance(arg, (ast.Starred, ast.Constant)):
                yield instead(arg, f"argument {i + 1} instead of {name}")
    if name in ("abs", "round"):
        yield instead(node.args[0], f"no {name}")
    if name in ("Broken", "latch", "count_refusal") and node.args and _is_text(node.args[0]):
        others = [ast.Constant("another"), *node.args[1:]]
        yield _set(node, "args", others, "another limit named")
    for keyword in node.keywords:
        rest = [k for k in node.keywords if k is not keyword]
        if keyword.arg is not None and len(node.args) + len(rest) > 0:
            yield _set(node, "keywords", rest, f"{keyword.arg} left out", at=keyword)


def _constants(node: ast.Constant, value: object) -> Iterator[_Site]:
    if isinstance(value, bool):
        yield _set(node, "value", not value, f"{not value} for {value}")
    elif isinstance(value, int | float):
        other = value * 2 if value else 1
        yield _set(node, "value", other, f"{other:g} for {value:g}")


def _statements(parent: ast.AST, field: tuple[str, int | None], node: ast.stmt) -> Iterator[_Site]:
    def nothing(change: str) -> _Site:
        return _Site(node, change, lambda: _put(parent, field, ast.Pass()))

    match node:
        case ast.If(test=test):
            yield _set(node, "test", ast.Constant(False), "never", at=test)
            yield _set(node, "test", ast.Constant(True), "always", at=test)
        case ast.Return(value=None) | ast.Continue():
            yield nothing("goes on")
        case ast.Return(value=value) if not _is_nothing(value):
            yield _set(node, "value", ast.Constant(None), "None returned")
        case ast.Expr(value=ast.Call(args=[ast.Call(func=ast.Name(id="Write"))])) if field[1] is not None:
            yield nothing("left out")
            yield _Site(node, "done last", lambda: _move_to_end(parent, field, node))
        case ast.Expr(value=ast.Call()):
            yield nothing("left out")
        case ast.For(body=body) if not _is_one_call(body):
            yield _set(node, "body", [ast.Pass()], "loop does nothing", at=body[0])
        case ast.AugAssign(op=op) if type(op) in ARITHMETIC:
            yield _set(node, "op", ARITHMETIC[type(op)](), f"`{SIGN[ARITHMETIC[type(op)]]}=`")


def _is_one_call(body: list[ast.stmt]) -> bool:
    """Which is left out anyway, or `pass`."""
    return len(body) == 1 and isinstance(body[0], ast.Expr | ast.Pass)


def _is_nothing(value: ast.AST | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _set(node: ast.AST, name: str, value: object, change: str, at: ast.AST | None = None) -> _Site:
    return _Site(node if at is None else at, change, lambda: setattr(node, name, value))


def _put(parent: ast.AST, field: tuple[str, int | None], other: object) -> None:
    name, index = field
    if index is None:
        setattr(parent, name, other)
    else:
        getattr(parent, name)[index] = other


def _move_to_end(parent: ast.AST, field: tuple[str, int | None], node: ast.stmt) -> None:
    """Last of its block, before a `return`."""
    block: list[ast.stmt] = getattr(parent, field[0])
    block.remove(node)
    block.insert(len(block) - isinstance(block[-1], ast.Return), node)
