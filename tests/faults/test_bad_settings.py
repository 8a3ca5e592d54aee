"""Numbers that make no controller and no guard: exit 2 with one line, before anything is bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import NOWHERE, Finished, run_all

FALLING = "time_s,phase\n0,0.2\n10,0.1\n"
GUARD = ("guard", "--spectra", NOWHERE, "--publish", "tcp://127.0.0.1:*", "--operator", "tcp://127.0.0.1:*")
CONTROL = ("control", "--publish", "tcp://127.0.0.1:*")
SETTINGS = {
    "contradicting": "[guard]\nbudget_pC = 5000.0\nmin_dwell_s = 2.0\n",
    "lease": "[guard]\nbudget_pC = 5000.0\nmax_lease_s = 0.5\n",
    "dwells": "[control]\nmin_dwell_s = 2.0\nmax_dwell_s = 1.0\n",
    "unknown": "[control]\nceilling = 0.3\n",
}
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no budget": (GUARD, "budget_pC is not given"),
    "a budget of NaN": ((*GUARD, "--budget", "nan"), "nan"),
    "a budget of zero": ((*GUARD, "--budget", "0"), "budget_pC: Input should be greater than 0"),
    "a negative budget": ((*GUARD, "--budget", "-5"), "budget_pC: Input should be greater than 0"),
    "an infinite budget": ((*GUARD, "--budget", "inf"), "inf"),
    "limits that contradict each other": ((*GUARD, "--config", "contradicting.toml"), "min_dwell_s, 2 s, is above"),
    "a lease that covers no frame": ((*GUARD, "--config", "lease.toml"), "no lease would cover a frame"),
    "a ceiling of NaN": ((*CONTROL, "--ceiling", "nan"), "ceiling: Input should be a finite number"),
    "a ceiling below zero": ((*CONTROL, "--ceiling", "-0.1"), "a phase ceiling lies above 0"),
    "a track without a trajectory": ((*CONTROL, "--preset", "track"), "give --track FILE"),
    "a trajectory that isn't there": ((*CONTROL, "--preset", "track", "--track", "nowhere.csv"), "can't be read"),
    "a trajectory that falls": ((*CONTROL, "--preset", "track", "--track", "falling.csv"), "its phases don't fall"),
    "no preset": ((*CONTROL, "--preset", "save"), "'save' was given"),
    "dwells that leave nothing": ((*CONTROL, "--config", "dwells.toml"), "is above max_dwell_s"),
    "a key that nobody knows": ((*CONTROL, "--config", "unknown.toml"), "no setting of this name"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    folder: Path = tmp_path_factory.mktemp("settings")
    for name, content in SETTINGS.items():
        (folder / f"{name}.toml").write_text(content, encoding="utf-8")
    (folder / "falling.csv").write_text(FALLING, encoding="utf-8")

    def there(word: str) -> str:
        return str(folder / word) if word.endswith((".toml", ".csv")) else word

    journal = ("--journal", str(folder / "journal"))
    lines = {name: tuple(map(there, line)) + (journal if line[0] == "guard" else ()) for name, (line, _) in BAD.items()}
    done = run_all(lines)
    assert not (folder / "journal").exists()
    return done


@pytest.mark.parametrize("name", BAD)
def test_it_is_one_line_and_exit_2(finished: dict[str, Finished], name: str) -> None:
    done, words = finished[name], BAD[name][1]
    assert done.code == 2
    [line] = done.err.splitlines()
    assert line.startswith(f"eelstm: {BAD[name][0][0]}: ")
    assert words in line
    assert "ready" not in done.out
    assert done.left_behind == []
