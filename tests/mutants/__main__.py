"""`python -m tests.mutants [FILE[:LINE] …] [-k TESTS]`: break the guard's code, each check in turn. Exit 1 where no test notices."""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.mutants.operators import Mutant, mutants, mutated
from tests.mutants.trial import Trials

ROOT = Path(__file__).parents[2]
RULES = ["ledger", "limits", "modes", "recovery", "guard", "guard_*"]
NO_RULES = {"guard_cli", "guard_events", "guard_report"}  # the program, what is said, and how it is said
TESTS = ROOT / "tests" / "invariants"
WIDEST = 400  # a changed line is shown whole up to this
EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def main(arguments: list[str]) -> int:
    """Run, print, and say whether all were noticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Break the guard's code, each check in turn."
    )
    parser.add_argument("wanted", nargs="*", metavar="FILE[:LINE]", help="only what is in this file of controller/")
    parser.add_argument("-k", default="", metavar="TESTS", help="only tests of such names, as pytest takes it")
    asked = parser.parse_args(arguments)
    wanted = asked.wanted
    began = time.monotonic()
    console = Console(stderr=True, highlight=False)
    say = Console(highlight=False, markup=False, soft_wrap=True).print
    names = [file.stem for rule in RULES for file in sorted((ROOT / "controller").glob(f"{rule}.py"))]
    modules = {f"{name}.py": import_module(f"controller.{name}") for name in names if name not in NO_RULES}
    sources = {file: Path(module.__file__ or "").read_text() for file, module in modules.items()}
    every = [mutant for file, source in sources.items() for mutant in mutants(file, source)]
    known = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    stale = [entry for entry in known if not any(_is(mutant, entry) for mutant in every)]
    chosen = [mutant for mutant in every if _wanted(mutant, wanted)]
    equivalent = [mutant for mutant in chosen if any(_is(mutant, entry) for entry in known)]
    if not chosen:
        console.print(f"none of {', '.join(wanted)} has anything to break: {', '.join(sources)} have.")
        return 2

    columns = (
        TextColumn("breaking the guard"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(chosen), text="")

        def tell(done: int, left: int) -> None:
            progress.update(bar, completed=done, text=f"{left} unnoticed" if left else "")
            if not console.is_terminal and done % 200 == 0:
                console.print(f"{done} of {len(chosen)} broken, {left} unnoticed, {time.monotonic() - began:.0f} s")

        trials = Trials(modules, chosen, equivalent, tell)
        options = [
            "-q",
            "-s",
            "--no-header",
            "--no-summary",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-m",
            "not slow",
        ]
        pytest.main([*options, "-k", asked.k, str(TESTS)], plugins=[trials])
    if trials.failed:
        console.print("the tests must pass before anything is broken.")
        return 2

    survivors = [mutant for mutant in trials.survivors if mutant not in equivalent]
    noticed = [mutant for mutant in equivalent if mutant not in trials.survivors]
    for mutant in survivors:
        say(f"\ncontroller/{mutant.file}:{mutant.line}: no test notices: {mutant.change}")
        say(_diff(mutant, sources[mutant.file]))
    for mutant in noticed:
        say(
            f"\ncontroller/{mutant.file}:{mutant.line}: {mutant.change}: a test notices it, so it isn't equivalent: take it out of {EQUIVALENT.name}"
        )
    for entry in stale:
        say(f"\n{EQUIVALENT.name} speaks of what is no more in {entry['file']}: {entry['source']} ({entry['change']})")
    say(
        f"\n{len(chosen)} mutants of the guard: {len(chosen) - len(trials.survivors)} killed, {len(survivors)} survived, "
        f"{len(equivalent)} change nothing (each with its reason); {time.monotonic() - began:.0f} s"
    )
    return 1 if survivors or noticed or stale else 0


def _wanted(mutant: Mutant, wanted: list[str]) -> bool:
    return not wanted or bool({mutant.file, f"{mutant.file}:{mutant.line}"} & {Path(w).name for w in wanted})


def _is(mutant: Mutant, entry: dict[str, str]) -> bool:
    """Whether an entry of the list of equivalents speaks of this mutant: by the text of the line, so that it may move."""
    return (mutant.file, mutant.source, mutant.change) == (entry["file"], entry["source"], entry["change"])


def _diff(mutant: Mutant, source: str) -> str:
    before, after = ast.unparse(ast.parse(source)), ast.unparse(mutated(mutant, source))
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    changed = [line for line in lines if not line.startswith("@@")]
    if any(len(line) > WIDEST for line in changed):  # a table in one line
        changed = [f"  {mutant.source}"]
    return "\n".join(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
