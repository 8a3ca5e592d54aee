"""What docker/ starts, checked without an engine: `make image` really builds and runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
PROGRAMS = ("simulator", "forecaster", "controller", "guard", "listener")
UNITS = ("serve", "control", "guard")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return services


def health_check() -> list[str]:
    found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert found, "the Dockerfile has no health check in the exec form"
    words: list[str] = json.loads(found[1])
    return words


def unit_command(name: str) -> list[str]:
    found = re.search(r"^ExecStart=(.*)$", (DOCKER / f"eelstm-{name}.service").read_text(encoding="utf-8"), re.M)
    assert found
    return found[1].split()


def accepted(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """`--help` behind a command line: the options before it are parsed, and nothing is started."""
    command = [sys.executable, "-m", "eelstm_stream", *arguments, "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_knows_what_compose_starts_it_with(services: dict[str, Any], name: str) -> None:
    answer = accepted(services[name]["command"])
    assert answer.returncode == 0, answer.stderr


def test_the_program_knows_the_health_check_and_what_the_units_start() -> None:
    for program, *arguments in (health_check(), *map(unit_command, UNITS)):
        assert Path(program).name == "eelstm"
        answer = accepted(arguments)
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_container_can_neither_write_nor_gain_rights_nor_reach_a_network(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == "service:loopback"
    assert services["loopback"]["network_mode"] == "none"


def test_the_guards_journal_outlives_its_container_and_its_unit(services: dict[str, Any]) -> None:
    composed = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    [(volume, folder)] = [mount.split(":") for mount in services["guard"]["volumes"]]
    assert volume in composed["volumes"]
    [journal] = [word for word in services["guard"]["command"] if word.startswith("--journal=")]
    assert journal.startswith(f"--journal={folder}/")
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"install --directory --owner 10001 .*{folder}$", dockerfile, re.M), "the volume would be root's"
    unit = (DOCKER / "eelstm-guard.service").read_text(encoding="utf-8")
    [state] = re.findall(r"^StateDirectory=(.*)$", unit, re.M)
    assert f"--journal %S/{state}/" in unit


def test_the_simulator_of_compose_obeys_and_the_guard_has_a_budget(services: dict[str, Any]) -> None:
    assert "--obey" in services["simulator"]["command"]
    assert any(re.fullmatch(r"--budget=\d+", word) for word in services["guard"]["command"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_the_unit_and_little_that_it_exposes(name: str, tmp_path: Path) -> None:
    unit = tmp_path / f"eelstm-{name}.service"
    text = (DOCKER / unit.name).read_text(encoding="utf-8")
    unit.write_text(
        text.replace(unit_command(name)[0], sys.executable), encoding="utf-8"
    )  # verify wants it to be there
    analyze = ["systemd-analyze", "--no-pager"]
    verified = subprocess.run([*analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    exposed = [*analyze, "security", "--offline=true", "--threshold=20", unit]  # 20 is 2.0 of 10: "OK"
    subprocess.run(exposed, capture_output=True, timeout=60, check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on this machine")
def test_shellcheck_finds_no_fault_in_the_scripts() -> None:
    command = ["shellcheck", "--external-sources", *sorted(DOCKER.glob("*.sh"))]
    checked = subprocess.run(command, cwd=DOCKER.parent, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout
