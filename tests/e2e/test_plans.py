"""`vmpower plan run` killed in each of its tiers, and a provider killed meanwhile: real processes."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.process import ROOT, Program, Provider, interruptible

SCRIPT = """
guests:
  app: {shutdown_time: 3s}
  deaf: {agent: none, acpi: ignores}
  db: {shutdown_time: 3s}
"""
PLAN = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: PowerPlan
metadata: {name: night}
spec:
  budget: {total: 120s, reserve: 5s}
  tiers:
  - {name: apps, members: [{vms: [lab/app, lab/deaf]}], minimum: 5s}
  - {name: databases, members: [{vms: [lab/db]}], minimum: 10s}
  bringUp: {}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "guests.yaml").write_text(SCRIPT)
    with Provider("sim", "--script", str(tmp_path / "guests.yaml"), "--default-timeout", "10s") as provider:
        yield provider


@pytest.fixture
def plan(lab: Provider, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "night.yaml").write_text(PLAN)
    (tmp_path / "config.yaml").write_text(f"providers: {{lab: {{address: '{lab.address}'}}}}\n")
    environment = {"VMPOWER_CONFIG": str(tmp_path / "config.yaml"), "XDG_STATE_HOME": str(tmp_path)}
    with Program("cli", "plan", "run", str(tmp_path / "night.yaml"), env=environment) as plan:
        plan.command = interruptible(plan.command)
        yield plan


def report(plan: Program) -> dict[str, str]:
    """How each VM ended."""
    command = [sys.executable, "-m", "cli", "plan", "report", "-o", "json"]
    told = subprocess.run(
        command, cwd=ROOT, env=os.environ | plan.env, capture_output=True, text=True, check=False
    ).stdout
    return {event["vm"]: event["outcome"] for event in json.loads(told)["events"] if event["event"] == "vm ended"}


def operations(lab: Provider) -> Counter[str]:
    """How many each VM has had."""
    command = [sys.executable, "-m", "cli", "operations", "-p", lab.address, "-o", "json"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Counter(operation["vmName"] for operation in json.loads(told))


@pytest.mark.parametrize("when", ["tier apps began", "lab/app: GRACEFUL", "tier databases began"])
def test_a_run_that_is_killed_is_taken_up_again_and_takes_each_step_once(
    lab: Provider, plan: Program, when: str
) -> None:
    plan.start()
    plan.wait_output(when)
    plan.kill()
    plan.start()
    assert plan.wait() == 3  # the deaf one was forced
    assert "is taken up again" in plan.output()
    assert sorted(report(plan).values()) == ["FORCED", "GRACEFUL", "GRACEFUL"]
    assert operations(lab) == {"app": 1, "deaf": 1, "db": 1}


def test_a_provider_that_is_killed_in_a_tier_goes_on_where_it_was(lab: Provider, plan: Program) -> None:
    plan.start()
    plan.wait_output("tier apps began")
    lab.kill()
    lab.start()
    assert plan.wait() == 3
    assert sorted(report(plan).values()) == ["FORCED", "GRACEFUL", "GRACEFUL"]
    assert operations(lab) == {"app": 1, "deaf": 1, "db": 1}


def test_ctrl_c_aborts_and_what_was_stopped_comes_up_again(lab: Provider, plan: Program) -> None:
    plan.start()
    plan.wait_output("lab/app: GRACEFUL")
    plan.process.send_signal(signal.SIGINT)
    assert plan.wait() == 4
    assert "lab/app: Up again." in plan.output()
    assert operations(lab)["db"] == 0
