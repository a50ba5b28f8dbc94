"""`make run` and `make run-k8s`, on real guests and the sim: each verdict, and the guest's own console that agrees."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.process import ROOT


@pytest.fixture(scope="module", params=["run libvirt", "run sim", "run_k8s libvirt"])
def shown(request: pytest.FixtureRequest) -> str:
    what, hypervisor = request.param.split()
    command = (sys.executable, "-m", f"examples.{what}", "--hypervisor", hypervisor)
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=180).stdout


@pytest.fixture
def verdicts(shown: str) -> dict[str, dict[str, Any]]:
    lines = (ROOT / ".run" / "verdicts.jsonl").read_text().splitlines()
    return {line["vm"]: line for line in map(json.loads, lines)}


def console(name: str) -> str:
    return (ROOT / ".run" / f"{name}.console.log").read_text()


def test_web_goes_down_by_its_agent_after_its_hook(verdicts: dict[str, dict[str, Any]]) -> None:
    web = verdicts["web"]
    assert (web["outcome"], web["signal"]) == ("GRACEFUL", "GUEST_AGENT")
    assert [(hook["state"], hook["output"]) for hook in web["hooks"]] == [("SUCCEEDED", "application state saved\n")]
    said = console("web")
    assert said.index("saving application state") < said.index("guest web: agent asked for shutdown")


def test_legacy_goes_down_by_acpi(verdicts: dict[str, dict[str, Any]]) -> None:
    assert (verdicts["legacy"]["outcome"], verdicts["legacy"]["signal"]) == ("GRACEFUL", "ACPI")
    assert "guest legacy: power button pressed" in console("legacy")


def test_deaf_is_forced_when_its_time_is_over(verdicts: dict[str, dict[str, Any]]) -> None:
    deaf = verdicts["deaf"]
    assert (deaf["outcome"], deaf["reason"], deaf["timeoutSeconds"]) == ("FORCED", "TIMEOUT", 8)
    assert 8.0 <= deaf["elapsedSeconds"] <= 12.0
    assert "powering off" not in console("deaf")


def test_broken_goes_down_gracefully_with_its_failed_hook(verdicts: dict[str, dict[str, Any]]) -> None:
    broken = verdicts["broken"]
    assert broken["outcome"] == "GRACEFUL"
    assert [(hook["state"], hook["exitCode"]) for hook in broken["hooks"]] == [("FAILED", 3)]
    assert "guest broken: powering off" in console("broken")


def test_the_terminal_shows_the_verdicts(shown: str) -> None:
    assert "FORCED" in shown
    assert shown.count("GRACEFUL") >= 3


def test_nothing_is_left_running(shown: str) -> None:
    ours = (".run/controller", "controller-0")
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if any(word in _read(path) for word in ours)]
    assert left == []


def test_a_second_one_beside_it_is_refused_before_it_touches_anything() -> None:
    with (ROOT / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = (sys.executable, "-m", "examples.run", "--hypervisor", "sim")
        second = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert "Another `make run` or `make run-k8s` is under way" in second.stderr
    assert (ROOT / ".run" / "verdicts.jsonl").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
