"""Plans carried out by a controller on a directory, over two providers. Real processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.controller import PROVIDER, Controller
from tests.rigs.process import Provider

APPS = "guests: {app: {shutdown_time: 3s}, other: {shutdown_time: 1s}}"
DATABASES = "guests: {db: {shutdown_time: 2s}}"
HEAD = "apiVersion: infra.virtrigaud.io/v1beta1\n"
PLAN = (
    HEAD
    + """\
kind: PowerPlan
metadata: {name: night}
spec:
  budget: {total: 120s, reserve: 5s}
  tiers:
  - {name: apps, members: [{selector: {matchLabels: {tier: app}}}]}
  - {name: databases, members: [{vms: [db/db]}]}
  others: Ignore
"""
)


APP = (
    HEAD
    + """\
kind: VirtualMachine
metadata: {{name: app, labels: {{tier: app}}}}
spec: {{providerRef: {{name: lab}}, powerState: On, lifecycle: {{gracefulShutdownTimeout: {timeout}}}}}
"""
)


def run(name: str, spec: str = "") -> str:
    return HEAD + f"kind: PowerRun\nmetadata: {{name: {name}}}\nspec: {{planRef: {{name: night}}{spec}}}\n"


@dataclass
class Rig:
    controller: Controller
    apps: Calls
    databases: Calls

    def status(self, name: str, *phases: str) -> dict[str, Any]:
        """The status of a run that is in one of these phases."""
        return self.controller.wait_status(name, lambda status: status.get("phase") in phases, "PowerRun")

    def kinds(self, at: Calls, vm: str) -> list[pb.OperationKind.ValueType]:
        """Of the operations that a VM has had."""
        return [each.kind for each in at.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    for name, script in (("apps", APPS), ("databases", DATABASES)):
        (tmp_path / name).write_text(script)
    with (
        Provider("sim", "--script", str(tmp_path / "apps")) as apps,
        Provider("sim", "--script", str(tmp_path / "databases")) as databases,
        calls(apps.address) as of_apps,
        calls(databases.address) as of_databases,
    ):
        controller = Controller(tmp_path)
        controller.provider(apps.address)
        controller.write("db", PROVIDER.format(address=databases.address).replace("name: lab", "name: db"))
        controller.write("app", APP.format(timeout="20s"))
        controller.write("night", PLAN)
        with controller:
            controller.wait_status("app", lambda status: status.get("powerState") == "On")
            yield Rig(controller, of_apps, of_databases)


def vms(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(vm["vm"], vm["outcome"]) for tier in status["tiers"] for vm in tier["vms"]]


def moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


def test_the_tiers_go_down_in_order_and_stay_down(rig: Rig) -> None:
    rig.controller.write("run", run("tonight"))
    status = rig.status("tonight", "Held")
    assert vms(status) == [("lab/app", "GRACEFUL"), ("db/db", "GRACEFUL")]
    apps, databases = status["tiers"]
    (asked,) = rig.databases.stub.ListOperations(pb.ListOperationsRequest(vm="db")).operations
    assert (
        moment(apps["overAt"])
        <= moment(databases["beganAt"])
        <= asked.create_time.ToDatetime(moment(apps["overAt"]).tzinfo)
    )
    held = rig.controller.wait_status("app", lambda status: status.get("powerState") == "Off")
    assert held["heldBy"] == "tonight"
    assert rig.kinds(rig.apps, "app") == [pb.OPERATION_KIND_SHUTDOWN]  # its spec wants it On


def test_a_run_that_is_taken_away_releases_what_it_held(rig: Rig) -> None:
    rig.controller.write("run", run("tonight"))
    rig.status("tonight", "Held")
    (rig.controller.manifests / "run.yaml").unlink()
    released = rig.controller.wait_status(
        "app", lambda status: not status.get("heldBy") and status["powerState"] == "On"
    )
    assert rig.kinds(rig.apps, "app") == [pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_SHUTDOWN]
    assert released["phase"] == "Running"


@pytest.mark.parametrize("tier", [0, 1])
def test_a_controller_that_is_killed_in_a_tier_goes_on_and_holds_what_it_held(rig: Rig, tier: int) -> None:
    rig.controller.write("run", run("tonight"))
    began = rig.controller.wait_status(
        "tonight",
        lambda status: len([each for each in status.get("tiers", []) if each.get("beganAt")]) > tier,
        "PowerRun",
    )
    rig.controller.kill()
    rig.controller.start()
    ended = rig.status("tonight", "Held")
    assert (ended["ends"], ended["tiers"][tier]["beganAt"]) == (began["ends"], began["tiers"][tier]["beganAt"])
    assert vms(ended) == [("lab/app", "GRACEFUL"), ("db/db", "GRACEFUL")]
    assert rig.kinds(rig.apps, "app") == [pb.OPERATION_KIND_SHUTDOWN]
    assert rig.kinds(rig.databases, "db") == [pb.OPERATION_KIND_SHUTDOWN]


def test_a_second_run_is_refused_by_its_field(rig: Rig) -> None:
    rig.controller.write("run", run("tonight"))
    rig.status("tonight", "Running")
    rig.controller.write("second", run("second"))
    status = rig.status("second", "Refused")
    assert [refusal["field"] for refusal in status["refusals"]] == ["spec.emergency"]
    assert rig.status("tonight", "Held")["tiers"]


def test_a_plan_that_cannot_be_meant_is_refused_by_its_field(rig: Rig) -> None:
    rig.controller.write("night", PLAN.replace("db/db", "db/wiki"))
    rig.controller.write("run", run("tonight"))
    status = rig.status("tonight", "Refused")
    assert [refusal["field"] for refusal in status["refusals"]] == ["spec.tiers[1].members[0].vms[0]"]
    assert rig.kinds(rig.apps, "app") == []


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_run_has_saved_is_resumed_once_it_is_released(rig: Rig, killed: bool) -> None:
    """Also where that was done while no controller ran."""
    rig.controller.write("night", PLAN.replace("{tier: app}}}]}", "{tier: app}}}], atDeadline: Save}"))
    rig.controller.write("app", APP.format(timeout="1s"))
    rig.controller.wait_status("app", lambda status: status.get("observedGeneration") == 2)
    rig.controller.write("run", run("tonight"))
    rig.apps.wait_vm("app", lambda vm: bool(vm.active_operation))
    if killed:
        rig.controller.kill()
        rig.apps.wait_vm("app", lambda vm: vm.power_state == pb.POWER_STATE_SUSPENDED)
        rig.controller.start()
    assert vms(rig.status("tonight", "Held")) == [("lab/app", "SAVED"), ("db/db", "GRACEFUL")]
    rig.controller.wait_status("app", lambda status: status.get("lastPowerOff", {}).get("outcome") == "SAVED")
    (rig.controller.manifests / "run.yaml").unlink()
    rig.apps.wait_vm("app", lambda vm: vm.power_state == pb.POWER_STATE_ON)
    rig.controller.wait_status("app", lambda status: bool(status["lastPowerOff"].get("resumed")))
    assert rig.kinds(rig.apps, "app") == [pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_SHUTDOWN]
