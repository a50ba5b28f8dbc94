"""Containers: asked by their init, without programs and without memory."""

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, ending

CONTAINER: dict[str, object] = {"kind": "lxc"}


def snapshot(**fields: object) -> list[pb.Hook]:
    return [pb.Hook(name="keep", snapshot=pb.SnapshotHook(name="before", **fields))]  # type: ignore[arg-type]


def test_a_container_is_listed_with_its_kind_and_its_one_signal(it: Served, guest: NewGuest) -> None:
    vm = it.calls.vm(guest(**CONTAINER))
    assert (vm.labels["kind"], list(vm.forecast.signals)) == ("lxc", [pb.SIGNAL_INIT])
    assert (vm.forecast.graceful, list(vm.forecast.problems)) == (True, [])


def test_it_is_asked_by_its_init(it: Served, guest: NewGuest) -> None:
    web = guest(shutdown_secs=1, **CONTAINER)
    operation = it.calls.end(it.shutdown(web))
    assert (ending(operation), operation.verdict.signal) == ("GRACEFUL", pb.SIGNAL_INIT)
    assert [signal for _, signal in it.cluster.show(web)["heard"]] == ["init"]


def test_a_program_in_it_fails_with_the_reason_and_keeps_nothing_up(it: Served, guest: NewGuest) -> None:
    web = guest(**CONTAINER)
    hook = pb.Hook(name="save", exec=pb.ExecHook(command=["true"]))
    operation = it.calls.end(it.shutdown(web, pre_stop=[hook]))
    [result] = operation.verdict.hooks
    assert (ending(operation), result.state) == ("GRACEFUL", pb.HOOK_STATE_FAILED)
    assert "no programs in containers" in result.output


def test_a_program_in_it_that_must_not_fail_keeps_it_running(it: Served, guest: NewGuest) -> None:
    web = guest(**CONTAINER)
    hook = pb.Hook(name="save", exec=pb.ExecHook(command=["true"]), failure_policy=pb.FAILURE_POLICY_ABORT)
    assert it.ending(it.shutdown(web, pre_stop=[hook])) == "STILL_RUNNING/HOOK_FAILED"
    assert it.asked(web) == []


def test_its_snapshot_is_taken(it: Served, guest: NewGuest) -> None:
    web = guest(**CONTAINER)
    operation = it.calls.end(it.shutdown(web, pre_stop=snapshot(description="Grüße")))
    assert [result.state for result in operation.verdict.hooks] == [pb.HOOK_STATE_SUCCEEDED]
    assert "before" in str(it.cluster.show(web)["snapshots"])


def test_its_snapshot_keeps_no_memory_and_says_so(it: Served, guest: NewGuest) -> None:
    web = guest(**CONTAINER)
    operation = it.calls.end(it.shutdown(web, pre_stop=snapshot(include_memory=True)))
    [result] = operation.verdict.hooks
    assert (ending(operation), result.state) == ("GRACEFUL", pb.HOOK_STATE_FAILED)
    assert "cannot keep its memory" in result.output


@pytest.mark.parametrize("how", ["PowerOn", "PowerOff"])
def test_what_it_is_already_is_no_error(it: Served, guest: NewGuest, how: str) -> None:
    web = guest(power="on" if how == "PowerOn" else "off", **CONTAINER)
    request = pb.PowerOnRequest(vm=web) if how == "PowerOn" else pb.PowerOffRequest(vm=web)
    assert it.ending(getattr(it.calls.stub, how)(request)).startswith("ALREADY_")
