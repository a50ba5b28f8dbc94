"""`vmpower plan run` killed in each of its tiers, and what else may happen meanwhile: real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.durations import parse
from tests.rigs.polling import poll
from tests.rigs.process import ROOT, Program, Provider, interruptible
from tests.rigs.sim import control

SCRIPT = """
guests:
  app: {shutdown_time: 3s, addresses: [127.0.0.1]}
  deaf: {agent: none, acpi: ignores}
  db: {shutdown_time: 3s, addresses: [127.0.0.1]}
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


Start = Callable[..., Program]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return tmp_path / "world.db"


@pytest.fixture
def lab(tmp_path: Path, world: Path) -> Iterator[Provider]:
    script = tmp_path / "guests.yaml"
    script.write_text(SCRIPT)
    with Provider("sim", "--script", str(script), "--world", str(world), "--default-timeout", "10s") as provider:
        yield provider


@pytest.fixture
def starting(lab: Provider, tmp_path: Path) -> Iterator[Start]:
    """`vmpower plan run` of a plan."""
    (tmp_path / "config.yaml").write_text(f"providers: {{lab: {{address: '{lab.address}'}}}}\n")
    environment = {"VMPOWER_CONFIG": str(tmp_path / "config.yaml"), "XDG_STATE_HOME": str(tmp_path)}
    with ExitStack() as stack:

        def start(text: str) -> Program:
            (tmp_path / "night.yaml").write_text(text)
            plan = Program("cli", "plan", "run", str(tmp_path / "night.yaml"), env=environment)
            plan.command = interruptible(plan.command)
            return stack.enter_context(plan)

        yield start


@pytest.fixture
def plan(starting: Start) -> Program:
    return starting(PLAN)


def told(plan: Program, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", "plan", *words, "-o", "json"]
    environment = os.environ | plan.env
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    return dict(json.loads(printed))


def record(plan: Program) -> dict[str, Any]:
    return told(plan, "report")


def ends(plan: Program) -> dict[str, Any]:
    """The events in which VMs ended, by their names."""
    return {each["vm"]: each for each in record(plan)["events"] if each["event"] == "vm ended"}


def report(plan: Program) -> dict[str, str]:
    """How each VM ended."""
    return {vm: event["outcome"] for vm, event in ends(plan).items()}


def operations(lab: Provider) -> Counter[str]:
    """How many each VM has had."""
    command = [sys.executable, "-m", "cli", "operations", "-p", lab.address, "-o", "json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Counter(operation["vmName"] for operation in json.loads(printed))


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


def test_a_tier_comes_up_when_a_port_of_those_behind_it_takes_a_connection(
    lab: Provider, starting: Start, world: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    ready = f"others: Ignore\n  bringUp: {{ready: {{tcp: {{port: {port}}}, timeout: 60s}}}}"
    plan = starting(PLAN.replace("bringUp: {}", ready).replace(", lab/deaf", ""))
    plan.start()
    assert plan.wait() == 0
    (command := Program("cli", "plan", "up", env=plan.env)).start()
    with command:
        poll(lambda: "hook ready started" in steps(lab, "db"), 30)
        assert operations(lab)["app"] == 1
        with socket.create_server(("127.0.0.1", port)):
            poll(lambda: operations(lab)["app"] == 2, 30)
            assert command.wait() == 0
        assert "lab/db: Up again." in command.output()


def steps(lab: Provider, vm: str) -> list[str]:
    """Of a VM's newest operation."""
    command = [sys.executable, "-m", "cli", "operations", vm, "-p", lab.address, "-o", "json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [step["message"] for step in json.loads(printed)[0]["steps"]]


def has_had_its_time(plan: Program, vm: str) -> bool:
    """Whether a VM was forced no sooner after its tier began than the forecast had named."""
    tiers = told(plan, "forecast", plan.command[-1])["tiers"]
    (has,) = (each["has"] for tier in tiers for each in tier["vms"] if each["vm"] == f"lab/{vm}")
    names = {target["vm"]: target["name"] for tier in record(plan)["start"]["tiers"] for target in tier["targets"]}
    (ended,) = (event for key, event in ends(plan).items() if names[key.removeprefix("lab/")] == vm)
    begins = {event["tier"]: event["at"] for event in record(plan)["events"] if event["event"] == "tier began"}
    took = datetime.fromisoformat(ended["at"]) - datetime.fromisoformat(begins[ended["tier"]])
    assert (ended["outcome"], ended["reason"]) == ("FORCED", "TIMEOUT")
    return took >= parse(has) - timedelta(milliseconds=100)


def test_a_deaf_database_has_the_time_that_the_forecast_named_and_is_forced_then(starting: Start, world: Path) -> None:
    control(world, "set", "db", "agent=none", "acpi=ignores")
    plan = starting(PLAN)
    assert plan.wait() == 3
    control(world, "on", "db")
    assert has_had_its_time(plan, "db")


def test_a_budget_that_is_too_small_squeezes_and_keeps_its_end(starting: Start, world: Path) -> None:
    control(world, "set", "db", "shutdown_time=1h")
    plan = starting(PLAN.replace("total: 120s", "total: 25s"))
    plan.wait_output("tier apps began")
    assert told(plan, "forecast", plan.command[-1])["slack"].startswith("-")
    assert plan.wait() == 3
    over = datetime.fromisoformat(record(plan)["start"]["ends"])
    assert all(datetime.fromisoformat(each["at"]) <= over for each in ends(plan).values())


def test_a_member_that_is_removed_meanwhile_is_gone_and_keeps_nobody_waiting(plan: Program, world: Path) -> None:
    plan.start()
    plan.wait_output("tier apps began")
    control(world, "remove", "db")
    assert plan.wait() != 0
    assert sorted(report(plan).values()) == ["FORCED", "GONE", "GRACEFUL"]
    assert "the run is over" in plan.output()
