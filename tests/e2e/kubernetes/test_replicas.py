"""Two controllers share a Lease: one acts, and when it is gone the other goes on with the same operation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.lab import LEASE, Lab, open_lab
from tests.rigs.kubernetes.resources import Object
from tests.rigs.watching import wait_for_change

SCRIPT = """
guests:
  web: {shutdown_time: 7s, hooks: [{match: save, takes: 1s, console: saving}]}
  hooked: {shutdown_time: 500ms, hooks: [{match: save, takes: 6s, console: saving}]}
"""
HOOKED = {"gracefulShutdownTimeout": "1m", "preStop": {"exec": {"command": ["save"]}}}
RETRY = timedelta(seconds=1)
"""How often each looks at the Lease, which is `LEASE` seconds long."""


@dataclass(frozen=True)
class TakenOver:
    """A shutdown that another controller brought to its end: its status before and after."""

    after: timedelta
    before: Object
    status: Object
    operations: list[pb.Operation]
    console: str


@contextmanager
def pair(cluster: Cluster) -> Iterator[tuple[Lab, KubernetesController]]:
    """A lab whose controller leads, and another one that stands by."""
    with open_lab(cluster, SCRIPT) as lab:
        wait_led_by(lab, "first")
        with lab.another_controller("second") as second:
            wait_for_change(second.folder, lambda: "standing by" in second.output(), second.output, timeout=60)
            yield lab, second


def wait_led_by(lab: Lab, identity: str) -> datetime:
    """Since when it leads."""
    lease = lab.vms.wait("vmpower", lambda lease: lease["spec"].get("holderIdentity") == identity, kind="lease")
    return datetime.fromisoformat(lease["spec"]["acquireTime"])


def begin(lab: Lab, vm: str) -> Object:
    """Its status once it is known how long the guest has."""
    lab.vms.declare(vm, "OffGraceful", HOOKED)
    return lab.vms.wait_status(vm, lambda status: "forceAfter" in status.get("operation", {}))


def finish(lab: Lab, vm: str) -> Object:
    return lab.vms.wait_status(vm, lambda status: status.get("phase") == "Off" and "lastPowerOff" in status)


def take_over(cluster: Cluster, end: Callable[[KubernetesController], object]) -> TakenOver:
    """End the leader while a guest goes down."""
    with pair(cluster) as (lab, _):
        before = begin(lab, "web")
        ended = datetime.now(UTC)
        end(lab.controller)
        after = wait_led_by(lab, "second") - ended
        status = finish(lab, "web")
        lab.vms.wait_event("web", "GracefulShutdown")
        return TakenOver(after, before, status, lab.operations("web"), lab.console("web"))


@pytest.fixture(scope="module")
def killed(cluster: Cluster) -> TakenOver:
    return take_over(cluster, KubernetesController.kill)


@pytest.fixture(scope="module")
def stopped(cluster: Cluster) -> TakenOver:
    return take_over(cluster, KubernetesController.stop)


@pytest.fixture(params=["killed", "stopped"])
def taken_over(request: pytest.FixtureRequest) -> TakenOver:
    found: TakenOver = request.getfixturevalue(request.param)
    return found


def test_one_that_is_killed_is_replaced_within_the_lease(killed: TakenOver) -> None:
    assert killed.after <= timedelta(seconds=LEASE) + 2 * RETRY


def test_one_that_is_stopped_hands_over_at_once(stopped: TakenOver) -> None:
    assert stopped.after <= 2 * RETRY


def test_the_other_goes_on_with_the_same_operation(taken_over: TakenOver) -> None:
    assert taken_over.status["operation"]["id"] == taken_over.before["operation"]["id"]


def test_the_deadline_stays(taken_over: TakenOver) -> None:
    assert taken_over.status["operation"]["forceAfter"] == taken_over.before["operation"]["forceAfter"]


def test_there_is_one_verdict(taken_over: TakenOver) -> None:
    assert taken_over.status["lastPowerOff"]["operation"] == taken_over.before["operation"]["id"]
    assert taken_over.status["lastPowerOff"]["outcome"] == "GRACEFUL"


def test_the_provider_has_one_operation(taken_over: TakenOver) -> None:
    assert [operation.id for operation in taken_over.operations] == [taken_over.before["operation"]["id"]]


def test_the_hook_runs_once(taken_over: TakenOver) -> None:
    assert taken_over.console.count("saving") == 1


def test_the_guest_is_asked_once(taken_over: TakenOver) -> None:
    assert taken_over.console.count("agent asked for shutdown") == 1


def test_one_of_two_acts(cluster: Cluster) -> None:
    with pair(cluster) as (lab, second):
        begin(lab, "web")
        finish(lab, "web")
        assert "standing by" in second.output()
        assert "leading" not in second.output()
        assert len(lab.operations("web")) == 1


def test_one_killed_while_a_hook_runs_and_started_again_runs_it_once(cluster: Cluster) -> None:
    with open_lab(cluster, SCRIPT) as lab:
        lab.vms.declare("hooked", "OffGraceful", HOOKED)
        lab.vms.wait_status("hooked", lambda status: bool(status.get("operation")))
        lab.calls.until_state(lab.operations("hooked")[0], pb.OPERATION_STATE_RUNNING_HOOKS)
        lab.controller.kill()
        lab.controller.start()
        verdict = finish(lab, "hooked")["lastPowerOff"]
        assert [hook["state"] for hook in verdict["hooks"]] == ["SUCCEEDED"]
        assert lab.console("hooked").count("saving") == 1
        assert len(lab.operations("hooked")) == 1
