"""The API server is away for 20 s while guests go down: they do so all the same, and their statuses catch up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, virtual_machine

VMS = ("quick", "deaf", "slow")
SCRIPT = """
guests:
  quick: {shutdown_time: 3s}
  deaf: {agent: none, acpi: ignores}
  slow: {shutdown_time: 22s}
"""
TIMEOUTS = {"quick": "1m", "deaf": "8s", "slow": "1m"}
Away = Callable[[Cluster], None]
AWAY: dict[str, Away] = {
    "stopped": Cluster.stop_api,
    "killed": lambda cluster: cluster.stop_api(kill=True),
    "frozen": Cluster.freeze_api,
}

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Outage:
    """Statuses before and after it, and what the provider had to say while it lasted."""

    began: datetime
    ended: datetime
    caught_up: datetime
    before: dict[str, Object]
    meanwhile: dict[str, pb.Operation]
    after: dict[str, Object]
    operations: dict[str, list[pb.Operation]]


@pytest.fixture(scope="module", params=AWAY)
def outage(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Outage]:
    with open_lab(cluster, SCRIPT) as lab:
        yield go_through(lab, AWAY[request.param])


def go_through(lab: Lab, away: Away) -> Outage:
    """It lasts as long as the slowest guest takes."""
    lab.vms.apply(*(virtual_machine(vm, "OffGraceful", {"gracefulShutdownTimeout": TIMEOUTS[vm]}) for vm in VMS))
    before = {vm: lab.vms.wait_status(vm, begun) for vm in VMS}
    away(lab.cluster)
    began = datetime.now(UTC)
    meanwhile = {vm: lab.calls.end(lab.operations(vm)[0]) for vm in VMS}
    lab.cluster.start_api()
    ended = datetime.now(UTC)
    after = {vm: lab.vms.wait_status(vm, went_down) for vm in VMS}
    caught_up = datetime.now(UTC)
    return Outage(began, ended, caught_up, before, meanwhile, after, {vm: lab.operations(vm) for vm in VMS})


def begun(status: Object) -> bool:
    return "forceAfter" in status.get("operation", {})


def went_down(status: Object) -> bool:
    return status.get("phase") == "Off" and "lastPowerOff" in status


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_it_lasts_for_20_s(outage: Outage) -> None:
    assert outage.ended - outage.began >= timedelta(seconds=20)


def test_guests_go_down_meanwhile(outage: Outage) -> None:
    verdicts = {vm: operation.verdict for vm, operation in outage.meanwhile.items()}
    assert verdicts["quick"].outcome == verdicts["slow"].outcome == pb.OUTCOME_GRACEFUL


def test_a_deaf_guest_is_forced_on_time_meanwhile(outage: Outage) -> None:
    verdict = outage.meanwhile["deaf"].verdict
    late = verdict.end_time.ToDatetime(UTC) - moment(outage.before["deaf"]["operation"]["forceAfter"])
    assert (verdict.outcome, verdict.reason) == (pb.OUTCOME_FORCED, pb.REASON_TIMEOUT)
    assert timedelta(0) <= late < timedelta(seconds=1)


def test_statuses_catch_up(outage: Outage) -> None:
    records = {vm: status["lastPowerOff"] for vm, status in outage.after.items()}
    assert {vm: record["outcome"] for vm, record in records.items()} == {
        "quick": "GRACEFUL",
        "deaf": "FORCED",
        "slow": "GRACEFUL",
    }


def test_statuses_catch_up_within_seconds(outage: Outage) -> None:
    assert outage.caught_up - outage.ended < timedelta(seconds=10)


def test_operations_and_their_deadlines_stay(outage: Outage) -> None:
    kept = {vm: (status["operation"]["id"], status["operation"]["forceAfter"]) for vm, status in outage.before.items()}
    assert {
        vm: (status["operation"]["id"], status["operation"]["forceAfter"]) for vm, status in outage.after.items()
    } == kept


def test_no_operation_is_begun_anew(outage: Outage) -> None:
    assert {vm: len(operations) for vm, operations in outage.operations.items()} == dict.fromkeys(VMS, 1)
