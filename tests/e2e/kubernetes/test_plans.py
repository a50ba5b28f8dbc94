"""Plans on a cluster: PowerPlan and PowerRun by kubectl on a real API server, carried out by the controller that leads.
Real processes, and guests of the sim."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, condition, made, virtual_machine
from tests.rigs.polling import poll

SCRIPT = "guests: {app: {shutdown_time: 4s}, db: {shutdown_time: 4s}}"
APPS: Object = {"name": "apps", "members": [{"selector": {"matchLabels": {"tier": "app"}}}]}
DATABASES: Object = {"name": "databases", "members": [{"vms": ["lab/db"]}]}
SPEC: Object = {"budget": {"total": "120s", "reserve": "5s"}, "tiers": [APPS, DATABASES], "others": "Ignore"}
PLAN, UP = made("PowerPlan", "night", SPEC), made("PowerPlan", "night", SPEC | {"bringUp": {}})
SHUTDOWN, POWER_ON = pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_KIND_POWER_ON

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Lab]:
    """Its VMs run, and their resources want that."""
    with open_lab(cluster, SCRIPT) as lab:
        app, database = virtual_machine("app", "On"), virtual_machine("db", "On")
        app["metadata"]["labels"] = {"tier": "app"}
        lab.vms.apply(PLAN, app, database)
        for name in ("app", "db"):
            lab.vms.wait_status(name, lambda status: status.get("powerState") == "On")
        yield lab


def run(name: str = "tonight", **spec: Any) -> Object:
    return made("PowerRun", name, {"planRef": {"name": "night"}} | spec)


def create(lab: Lab, run: Object) -> None:
    lab.vms.kubectl("create", "--filename", "-", input=json.dumps(run))


def status(lab: Lab, *phases: str, name: str = "tonight") -> Object:
    """That of a run that is in one of these phases."""
    return lab.vms.wait_status(name, lambda status: status.get("phase") in phases, "powerrun")


def tier_begun(number: int) -> Callable[[Object], bool]:
    """Whether so many tiers have begun, the last of them just now."""
    return lambda status: len([tier for tier in status.get("tiers", []) if "beganAt" in tier]) == number


def wait_asked(lab: Lab, vm: str) -> None:
    """Until its shutdown is under way: one that was not asked yet is given up when the run is."""
    poll(lambda: bool(lab.operations(vm)), 30)
    lab.calls.until_state(lab.operations(vm)[0], pb.OPERATION_STATE_WAITING_FOR_GUEST)


def came_up_again(status: Object) -> bool:
    return "lastPowerOff" in status and status["powerState"] == "On" and "heldBy" not in status


def vms(status: Object) -> list[tuple[str, str]]:
    return [(vm["vm"], vm["outcome"]) for tier in status["tiers"] for vm in tier["vms"]]


def kinds(lab: Lab, vm: str) -> list[pb.OperationKind.ValueType]:
    """Of the operations that a VM has had, newest first."""
    return [operation.kind for operation in lab.operations(vm)]


def moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


DOWN = [("lab/app", "GRACEFUL"), ("lab/db", "GRACEFUL")]


def test_the_tiers_go_down_in_order_and_the_status_is_the_record(lab: Lab) -> None:
    create(lab, run(reason="new UPS"))
    held = status(lab, "Held")
    apps, databases = held["tiers"]
    (asked,) = lab.operations("db")
    assert vms(held) == DOWN
    assert moment(apps["overAt"]) <= moment(databases["beganAt"]) <= asked.create_time.ToDatetime(UTC)
    assert asked.reason == "plan night: new UPS"
    assert {"RunRunning", "RunHeld"} <= {event["reason"] for event in lab.vms.events("tonight")}


def test_what_it_holds_is_not_started_again_and_says_so(lab: Lab) -> None:
    create(lab, run())
    status(lab, "Held")
    held = lab.vms.wait("app", lambda state: state["status"].get("powerState") == "Off")
    ready = condition(held, "Ready")
    assert (held["spec"]["powerState"], held["status"]["heldBy"]) == ("On", "tonight")
    assert (ready["status"], ready["reason"]) == ("False", "HeldByPlan")
    lab.vms.annotate("app", "vmpower/reason=look-again")
    lab.vms.kubectl("label", "vm", "db", "look=again")
    assert kinds(lab, "app") == kinds(lab, "db") == [SHUTDOWN]


def test_a_run_that_is_over_and_deleted_lets_its_vms_go(lab: Lab) -> None:
    create(lab, run())
    status(lab, "Held")
    lab.vms.kubectl("delete", "powerrun", "tonight")
    for name in ("app", "db"):
        lab.vms.wait_status(name, came_up_again)
    assert kinds(lab, "app") == [POWER_ON, SHUTDOWN]


def test_a_run_that_is_deleted_under_way_begins_no_further_tier(lab: Lab) -> None:
    lab.vms.apply(UP)
    create(lab, run())
    wait_asked(lab, "app")
    lab.vms.kubectl("delete", "powerrun", "tonight")
    lab.vms.wait_status("app", came_up_again)
    assert kinds(lab, "app") == [POWER_ON, SHUTDOWN]
    assert kinds(lab, "db") == []


def test_the_spec_of_a_run_cannot_change(lab: Lab) -> None:
    create(lab, run())
    patch = ("--type", "merge", "--patch", '{"spec": {"emergency": true}}')
    refused = lab.cluster.try_kubectl("--namespace", lab.namespace, "patch", "powerrun", "tonight", *patch)
    assert "a run is carried out once, so its spec cannot change; make another PowerRun" in refused.stderr


def test_kubectl_shows_where_plans_and_runs_stand(lab: Lab) -> None:
    create(lab, run())
    held = status(lab, "Held")
    plans = [line.split() for line in lab.vms.kubectl("get", "powerplans").splitlines()]
    runs = [line.split() for line in lab.vms.kubectl("get", "powerruns").splitlines()]
    assert (plans[0], plans[1][:3]) == (["NAME", "TOTAL", "OTHERS", "AGE"], ["night", "120s", "Ignore"])
    assert runs[0] == ["NAME", "PLAN", "PHASE", "SLACK", "ENDS", "AGE"]
    assert runs[1][:-1] == ["tonight", "night", "Held", held["slack"], held["ends"]]


def test_a_second_run_is_refused_by_its_field(lab: Lab) -> None:
    create(lab, run())
    status(lab, "Running")
    create(lab, run("second"))
    assert [refusal["field"] for refusal in status(lab, "Refused", name="second")["refusals"]] == ["spec.emergency"]


def test_a_plan_that_waits_for_itself_is_told_and_refuses_its_runs(lab: Lab) -> None:
    circle = [APPS | {"after": ["databases"]}, DATABASES]
    lab.vms.apply(made("PowerPlan", "night", SPEC | {"tiers": circle}))
    assert "wait for one another" in lab.vms.wait_event("night", "InvalidSpec")["message"]
    create(lab, run())
    assert "wait for one another" in status(lab, "Refused")["message"]
    assert kinds(lab, "app") == []


# Without an API server


@pytest.mark.parametrize("away", [Cluster.stop_api, Cluster.freeze_api], ids=["stopped", "frozen"])
def test_without_an_api_server_it_goes_on_and_its_status_catches_up(lab: Lab, away: Callable[[Cluster], None]) -> None:
    create(lab, run())
    lab.vms.wait_status("tonight", tier_begun(2), "powerrun")
    away(lab.cluster)
    assert lab.calls.end(lab.operations("db")[0]).verdict.outcome == pb.OUTCOME_GRACEFUL
    lab.controller.wait_output("lead lost")
    lab.cluster.start_api()
    assert vms(status(lab, "Held")) == DOWN
    held = lab.vms.wait_status("app", lambda status: status.get("heldBy") == "tonight")
    assert held["powerState"] == "Off"
    assert kinds(lab, "app") == kinds(lab, "db") == [SHUTDOWN]


# The next controller


@pytest.mark.parametrize("tier", [1, 2])
def test_a_controller_that_is_killed_in_a_tier_goes_on(lab: Lab, tier: int) -> None:
    create(lab, run())
    began = lab.vms.wait_status("tonight", tier_begun(tier), "powerrun")
    lab.controller.kill()
    lab.controller.start()
    assert_same_run(lab, began, tier)


@pytest.mark.parametrize("tier", [1, 2])
def test_another_controller_on_another_disk_goes_on_by_the_status(lab: Lab, tier: int) -> None:
    create(lab, run())
    began = lab.vms.wait_status("tonight", tier_begun(tier), "powerrun")
    with lab.another_controller("second") as second:
        lab.controller.kill()
        assert_same_run(lab, began, tier)
        assert_held_by_both(lab)
        assert "run taken up again" in second.output()


def test_a_controller_that_was_frozen_gives_the_run_up_to_the_one_that_leads(lab: Lab) -> None:
    create(lab, run())
    began = lab.vms.wait_status("tonight", tier_begun(1), "powerrun")
    with lab.another_controller("second") as second:
        lab.controller.freeze()
        second.wait_output("run taken up again")
        lab.controller.thaw()
        lab.controller.wait_output("another controller goes on with the runs")
        assert_same_run(lab, began, 1)
        assert_held_by_both(lab)


def delete_unseen(lab: Lab) -> None:
    """A run that is asking its first VM is deleted while there is no controller."""
    lab.vms.apply(UP)
    create(lab, run())
    wait_asked(lab, "app")
    lab.controller.kill()
    lab.vms.kubectl("delete", "powerrun", "tonight")


def test_a_run_that_is_deleted_while_there_is_no_controller_is_aborted_by_the_next_one(lab: Lab) -> None:
    delete_unseen(lab)
    lab.controller.start()
    lab.vms.wait_status("app", came_up_again)
    assert kinds(lab, "db") == []


def test_what_a_run_brought_down_while_there_was_no_controller_is_told_by_the_next_one(lab: Lab) -> None:
    delete_unseen(lab)
    lab.calls.until_state(lab.operations("app")[0], pb.OPERATION_STATE_SUCCEEDED)
    lab.controller.start()
    assert lab.vms.wait_status("app", came_up_again)["lastPowerOff"]["outcome"] == "GRACEFUL"


def assert_same_run(lab: Lab, began: Object, tier: int) -> None:
    """It ends with the moments that it had, and each VM was asked once."""
    ended = status(lab, "Held")
    begun = [each["tiers"][tier - 1]["beganAt"] for each in (ended, began)]
    assert (ended["ends"], begun[0]) == (began["ends"], begun[1])
    assert vms(ended) == DOWN
    assert kinds(lab, "app") == kinds(lab, "db") == [SHUTDOWN]


def assert_held_by_both(lab: Lab) -> None:
    for name in ("app", "db"):
        lab.vms.wait_status(name, lambda status: status.get("heldBy") == "tonight" and status["powerState"] == "Off")
    assert kinds(lab, "app") == kinds(lab, "db") == [SHUTDOWN]
