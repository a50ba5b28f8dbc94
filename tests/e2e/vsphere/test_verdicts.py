"""Shutdowns by the whole provider, as its callers see them end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.e2e.vsphere.conftest import Guest
from tests.rigs.calls import Calls, calls, was_accepted
from tests.rigs.polling import poll
from tests.rigs.process import Provider
from tests.rigs.vsphere.client import client, machine
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

WAITING = pb.OPERATION_STATE_WAITING_FOR_GUEST


@dataclass
class Served:
    provider: Provider
    vcenter: VCenter
    calls: Calls

    def shutdown(self, vm: str, seconds: int = 60, **fields: Any) -> pb.Operation:
        return self.calls.stub.Shutdown(pb.ShutdownRequest(vm=vm, timeout=Duration(seconds=seconds), **fields))

    def ask(self, vm: str, seconds: int = 60, **fields: Any) -> pb.Operation:
        """The operation when its guest is being asked."""
        operation = self.shutdown(vm, seconds, **fields)
        return self.calls.until(operation, lambda seen: any("asking" in step.message for step in seen.steps))

    def ending(self, operation: pb.Operation) -> str:
        verdict = self.calls.end(operation).verdict
        reason = f"/{pb.Reason.Name(verdict.reason).removeprefix('REASON_')}" if verdict.reason else ""
        return pb.Outcome.Name(verdict.outcome).removeprefix("OUTCOME_") + reason


@pytest.fixture(scope="module")
def served(vcenter: VCenter) -> Iterator[Served]:
    with on(vcenter) as provider, calls(provider.address) as client:
        yield Served(provider, vcenter, client)


@pytest.fixture
def web(served: Served, guest: Guest) -> Guest:
    """Adds a VM that the provider knows with its behaviour by the time its id is returned: the rig makes one that is
    off first, and then that of it."""
    served.provider.start()  # whatever became of it in the test before

    def add(key: str = "web", **behaviour: object) -> str:
        vm_id = guest(key, **behaviour)
        power = pb.PowerState.Value(f"POWER_STATE_{behaviour.get('power', 'on')}".upper())
        name = str(behaviour.get("name", key))
        served.calls.wait_vm(name, lambda vm: (vm.id, vm.power_state) == (vm_id, power))
        return vm_id

    return add


def test_a_guest_that_shuts_itself_down_is_graceful(served: Served, web: Guest) -> None:
    vm_id = web()
    operation = served.calls.end(served.shutdown(vm_id))
    assert (operation.verdict.outcome, operation.verdict.signal) == (pb.OUTCOME_GRACEFUL, pb.SIGNAL_VMWARE_TOOLS)


def test_a_vm_may_be_named_by_its_path(served: Served, web: Guest) -> None:
    vm_id = web(folder="prod")
    assert served.shutdown("/DC0/vm/prod/web").vm == vm_id


def test_a_name_that_two_bear_is_no_name_but_their_paths_are(served: Served, web: Guest) -> None:
    web("one", name="twin", folder="a")
    second = web("two", name="twin", folder="b")
    with pytest.raises(grpc.RpcError) as refused:
        served.shutdown("twin")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert served.shutdown("/DC0/vm/b/twin").vm == second


def test_a_deaf_guest_is_forced_at_its_deadline(served: Served, web: Guest) -> None:
    vm_id = web(ignores=True)
    operation = served.ask(vm_id, 1)
    assert served.ending(operation) == "FORCED/TIMEOUT"
    assert served.vcenter.show("web")["off_cause"] == "power_off"


def test_a_guest_that_restarts_instead_is_forced(served: Served, web: Guest) -> None:
    vm_id = web(on_shutdown="reboot")
    assert served.ending(served.ask(vm_id, 2)) == "FORCED/TIMEOUT"


@pytest.mark.parametrize(("hand", "outcome"), [("off", "OUT_OF_BAND"), ("crash", "CRASHED")])
def test_what_ended_it_instead_of_its_guest_is_told(served: Served, web: Guest, hand: str, outcome: str) -> None:
    vm_id = web(ignores=True)
    operation = served.ask(vm_id)
    served.vcenter.power("web", hand)
    assert served.ending(operation) == outcome


def test_a_guest_that_panics_and_keeps_its_power_has_crashed_at_once(served: Served, web: Guest) -> None:
    operation = served.ask(web(ignores=True), 600)
    served.vcenter.power("web", "panic")
    assert served.ending(operation) == "CRASHED"


def test_a_guest_that_panics_while_it_goes_down_has_crashed_at_once(served: Served, web: Guest) -> None:
    assert served.ending(served.ask(web(on_shutdown="panic"), 600)) == "CRASHED"


def test_a_guest_that_panicked_is_not_cut_against_its_owners_wish(served: Served, web: Guest) -> None:
    operation = served.ask(web(ignores=True), 600, escalation=pb.ESCALATION_NEVER)
    served.vcenter.power("web", "panic")
    assert served.ending(operation) == "STILL_RUNNING/COMMAND_FAILED"


@pytest.mark.parametrize(
    ("behaviour", "ending"),
    [
        ({"tools": "not_running"}, "FORCED/TOOLS_UNAVAILABLE"),
        ({"power": "suspended"}, "FORCED/SUSPENDED"),
        ({"refuses": True}, "FORCED/COMMAND_FAILED"),
        ({"question": {"text": "Moved?", "choices": ["yes"]}}, "FORCED/QUESTION_PENDING"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_guest_that_cannot_hear_is_not_waited_for(
    served: Served, web: Guest, behaviour: dict[str, Any], ending: str
) -> None:
    vm_id = web(**behaviour)
    assert served.ending(served.shutdown(vm_id, 600)) == ending


def test_tools_that_start_are_waited_for_and_then_asked(served: Served, web: Guest) -> None:
    vm_id = web(tools="executing_scripts")
    operation = served.calls.until_state(served.shutdown(vm_id), WAITING)
    served.vcenter.set("web", tools="running")
    assert served.ending(operation) == "GRACEFUL"


def test_tools_that_are_updated_are_waited_for_and_then_asked(served: Served, web: Guest) -> None:
    vm_id = web()
    served.vcenter.set("web", tools="not_running")
    served.calls.wait_vm("web", lambda vm: bool(vm.forecast.problems))
    operation = served.calls.until_state(served.shutdown(vm_id), WAITING)
    served.vcenter.set("web", tools="running")
    assert served.ending(operation) == "GRACEFUL"


@pytest.mark.parametrize("fault", ["ResourceInUse", "ToolsUnavailable", "HostNotConnected", "Timedout"])
def test_a_refusal_that_passes_is_waited_for(served: Served, web: Guest, fault: str) -> None:
    vm_id = web(faults={"ShutdownGuest": [fault]})
    assert served.ending(served.shutdown(vm_id)) == "GRACEFUL"
    assert [call["method"] for call in served.vcenter.show("web")["asked_at"]] == ["ShutdownGuest", "ShutdownGuest"]


def test_a_vm_of_the_clusters_own_services_takes_no_operations(served: Served, web: Guest) -> None:
    vm_id = web(managed_by={"extension": "VirtualCenter", "type": "vcls-entity"})
    with pytest.raises(grpc.RpcError, match="retreat mode"):
        served.shutdown(vm_id)


def test_a_vm_that_a_backup_holds_is_asked_when_that_is_done(served: Served, web: Guest) -> None:
    vm_id = web(snapshot_time="1s", faults={"ShutdownGuest": ["TaskInProgress"]})
    with client(served.vcenter) as content:
        machine(content, served.vcenter, "web").CreateSnapshot("backup", "", False, False)
        operation = served.calls.end(served.shutdown(vm_id))
    assert operation.verdict.outcome == pb.OUTCOME_GRACEFUL
    assert any("must wait" in step.message and "TaskInProgress" in step.message for step in operation.steps)


def test_a_vm_that_is_held_beyond_its_deadline_cannot_be_forced_either_and_says_why(served: Served, web: Guest) -> None:
    vm_id = web(snapshot_time="8s", faults={"ShutdownGuest": ["TaskInProgress"]})
    with client(served.vcenter) as content:
        machine(content, served.vcenter, "web").CreateSnapshot("backup", "", False, False)
        operation = served.calls.end(served.shutdown(vm_id, 1))
    assert (operation.state, operation.error.reason) == (pb.OPERATION_STATE_FAILED, "LOCKED")


def test_a_reboot_ends_with_the_vm_on(served: Served, web: Guest) -> None:
    vm_id = web()
    operation = served.calls.stub.Reboot(pb.RebootRequest(vm=vm_id, timeout=Duration(seconds=60)))
    assert served.ending(operation) == "GRACEFUL"
    assert served.vcenter.show("web")["power"] == "poweredOn"


def test_an_expired_session_goes_unnoticed(served: Served, web: Guest) -> None:
    vm_id = web(shutdown_time="2s")
    operation = served.ask(vm_id)
    served.vcenter.expire_sessions()
    assert served.ending(operation) == "GRACEFUL"


# Hooks


def hook(*command: str, **fields: Any) -> pb.Hook:
    return pb.Hook(name="save", exec=pb.ExecHook(command=command), **fields)


def test_a_hook_runs_in_the_guest_before_it_is_asked(served: Served, web: Guest) -> None:
    vm_id = web()
    operation = served.calls.end(served.shutdown(vm_id, pre_stop=[hook("/bin/echo", "grüße ☕")]))
    [result] = operation.verdict.hooks
    assert (result.state, result.exit_code, result.output) == (pb.HOOK_STATE_SUCCEEDED, 0, "grüße ☕\n")
    shown = served.vcenter.show("web")
    assert shown["processes"][-1]["ended_at"] <= shown["asked_at"][-1]["time"]


def test_a_hook_that_takes_too_long_is_timed_out_and_the_guest_asked(served: Served, web: Guest) -> None:
    vm_id = web()
    slow = hook("/bin/sleep", "60", timeout=Duration(seconds=1))
    operation = served.calls.end(served.shutdown(vm_id, pre_stop=[slow]))
    assert operation.verdict.hooks[0].state == pb.HOOK_STATE_TIMED_OUT
    assert operation.verdict.outcome == pb.OUTCOME_GRACEFUL


def test_a_wrong_login_is_reported_and_kept_nowhere(served: Served, web: Guest) -> None:
    vm_id = web()
    login = pb.GuestCredentials(username="web-admin", password="streng-geheim")
    operation = served.calls.end(served.shutdown(vm_id, pre_stop=[hook("true")], guest_credentials=login))
    [result] = operation.verdict.hooks
    assert (result.state, "refuses the login" in result.output) == (pb.HOOK_STATE_FAILED, True)
    kept = b"".join(file.read_bytes() for file in (served.provider.folder / "state").iterdir()).decode(errors="replace")
    assert vm_id in kept
    for secret in ("streng-geheim", served.vcenter.password):
        assert secret not in served.provider.output() + kept + str(operation)


def test_a_hook_after_the_start_waits_for_the_guest_to_run_programs(served: Served, web: Guest) -> None:
    vm_id = web(power="off", boot_time="500ms")
    operation = served.calls.stub.PowerOn(pb.PowerOnRequest(vm=vm_id, post_start=[hook("true")]))
    assert [result.state for result in served.calls.end(operation).verdict.hooks] == [pb.HOOK_STATE_SUCCEEDED]


# What is not seen, or not answered


def test_what_ended_unseen_and_is_told_by_no_record_has_an_end_that_is_not_known(served: Served, web: Guest) -> None:
    operation = served.calls.until(served.shutdown(web(ignores=True), 600), was_accepted)
    served.provider.kill()
    served.vcenter.power("web", "off")
    served.vcenter.forget_tasks()
    served.vcenter.faults(QueryEvents=["NoPermission"])
    served.provider.start()
    assert served.ending(operation) == "UNKNOWN"


def test_a_vm_that_a_colleague_started_again_meanwhile_is_not_cut_for_its_last_run(served: Served, web: Guest) -> None:
    operation = served.calls.until(served.shutdown(web(), 2), was_accepted)
    served.provider.kill()
    poll(lambda: served.vcenter.show("web")["power"] == "poweredOff")
    off_at = served.vcenter.show("web")["off_at"]
    served.vcenter.power("web", "on")
    served.provider.start()
    ended = served.calls.end(operation)
    assert (ended.verdict.outcome, "started again" in ended.verdict.message) == (pb.OUTCOME_UNKNOWN, True)
    shown = served.vcenter.show("web")
    assert (shown["power"], shown["off_at"]) == ("poweredOn", off_at)


@pytest.mark.parametrize("fault", ["lost", "cut"])
def test_a_guest_of_which_it_is_not_known_whether_it_was_asked_is_asked_unless_it_goes_down(
    served: Served, web: Guest, fault: str
) -> None:
    vm_id = web(faults={"ShutdownGuest": [fault]}, shutdown_time="4s")
    operation = served.calls.end(served.shutdown(vm_id))
    assert operation.verdict.outcome == pb.OUTCOME_GRACEFUL
    assert any("is not known" in step.message for step in operation.steps)
    assert len(served.vcenter.show("web")["asked_at"]) == 1


def test_a_vm_that_is_taken_out_of_the_inventory_is_not_taken_for_off(served: Served) -> None:
    served.vcenter.add("leaves", ignores=True)
    served.calls.wait_vm("leaves", lambda vm: bool(vm.forecast.signals))
    operation = served.ask("leaves", 600)
    served.vcenter.remove("leaves")
    ended = served.calls.end(operation)
    assert (ended.state, ended.verdict.outcome) == (pb.OPERATION_STATE_FAILED, pb.OUTCOME_UNKNOWN)
