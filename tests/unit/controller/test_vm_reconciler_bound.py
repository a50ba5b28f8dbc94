"""A resource decides about the one VM that it is bound to, and about no other one."""

from datetime import timedelta
from typing import Any

import pytest

from client.errors import ProviderError
from controller.models import Provider, VirtualMachine
from controller.source import Key
from controller.status_models import VirtualMachineStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    NOW,
    POWER_ON,
    SUCCEEDED,
    WAITING,
    binding,
    machine,
    operation,
    provider,
    record,
    seconds,
    vm,
    with_status,
)
from tests.unit.controller.conftest import Begin, Controller, Make
from tests.unit.controller.fakes import FakeClient, clock

pytestmark = pytest.mark.looptime
ELSEWHERE = "unix:///run/elsewhere.sock"
OTHER = pb.VM(id="id-other", name="web", power_state=pb.POWER_STATE_ON)
GONE = "11111111-2222-4333-8444-555555555555"
"""The uid of a resource that was deleted."""


def calls(controller: Controller) -> list[str]:
    return [request[0] for request in controller.client.requests]


def elsewhere(controller: Controller, *vms: pb.VM) -> FakeClient:
    """The client of another hypervisor."""
    client = FakeClient(*vms)
    client.info = pb.GetProviderInfoResponse(type="sim", endpoint="sim:///elsewhere")
    controller.elsewhere[ELSEWHERE] = client
    return client


def in_namespace(resource: VirtualMachine, namespace: str, uid: str) -> VirtualMachine:
    meta = resource.metadata.model_copy(update={"namespace": namespace, "uid": uid})
    return resource.model_copy(update={"metadata": meta})


def last(controller: Controller, namespace: str = "default", name: str = "web") -> VirtualMachineStatus:
    found = controller.source.statuses[Key("VirtualMachine", namespace, name)][-1]
    assert isinstance(found, VirtualMachineStatus)
    return found


def condition(status: VirtualMachineStatus, name: str = "Ready") -> tuple[str, str, str]:
    found = next(each for each in status.conditions if each.type == name)
    return found.status, found.reason, found.message


def replace_vm(controller: Controller, new: pb.VM = OTHER) -> None:
    """The VM is deleted at its hypervisor, and another one is made under its name."""
    controller.client.cache.remove("id-web")
    controller.client.cache.put(new)
    controller.client.changed({"web", new.id})


async def test_a_resource_is_bound_to_the_vm_that_is_found(begin: Begin) -> None:
    controller = await begin(machine("On"))
    assert controller.source.last().vm == binding(since=controller.source.last().vm.since)  # type: ignore[union-attr]
    assert condition(controller.source.last(), "Bound")[:2] == ("True", "Bound")


# Another VM


async def test_an_edit_of_the_provider_in_mid_shutdown_touches_no_vm_of_the_other_one(begin: Begin) -> None:
    controller = await begin(machine(gracefulShutdownTimeout="2s"))
    other = elsewhere(controller, vm())
    await controller.client.tell("op-1", state=WAITING, force_after=NOW + seconds(2))
    await controller.apply(provider("other", ELSEWHERE))
    edited = machine(gracefulShutdownTimeout="2s", generation=2, spec={"providerRef": {"name": "other"}})
    await controller.apply(edited)
    await controller.settle(24 * 3600)
    assert other.requests == []
    assert controller.source.ready() == ("False", "Replaced")


async def test_an_edit_of_the_providers_endpoint_in_mid_shutdown_touches_no_vm_behind_it(begin: Begin) -> None:
    controller = await begin(machine(gracefulShutdownTimeout="2s"))
    other = elsewhere(controller, vm())
    await controller.client.tell("op-1", state=WAITING, force_after=NOW + seconds(2))
    await controller.settle()
    await controller.apply(provider(endpoint=ELSEWHERE))
    await controller.settle(24 * 3600)
    assert other.requests == []
    assert controller.source.ready() == ("False", "Replaced")


async def test_a_shutdown_goes_on_when_the_endpoint_leads_back_to_its_hypervisor(begin: Begin) -> None:
    controller = await begin(machine())
    elsewhere(controller, vm())
    await controller.apply(provider(endpoint=ELSEWHERE))
    await controller.settle(60)
    await controller.apply(provider())
    await controller.client.end("op-1")
    await controller.settle(10)
    assert (calls(controller), controller.source.ready()) == (["shutdown"], ("True", "Off"))


async def test_an_edit_of_the_name_in_mid_shutdown_touches_no_other_vm(make_controller: Make) -> None:
    controller = make_controller(vm(), vm(name="db"))
    await controller.start(machine())
    await controller.apply(machine("Off", generation=2, spec={"vmName": "db"}))
    await controller.settle(24 * 3600)
    assert [request[:2] for request in controller.client.requests] == [("shutdown", "id-web")]


async def test_another_vm_under_the_same_name_is_left_alone(begin: Begin) -> None:
    controller = await begin(machine("On"))
    replace_vm(controller)
    await controller.apply(machine(generation=2))
    await controller.settle(24 * 3600)
    assert (calls(controller), controller.source.ready()) == ([], ("False", "Replaced"))


async def test_a_rebind_lets_the_resource_decide_about_the_new_vm_and_carries_nothing_over(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.end("op-1")
    await controller.settle(10)
    replace_vm(controller)
    await controller.settle()
    await controller.apply(machine(meta={"annotations": {"vmpower/rebind": "id-other"}}))
    await controller.settle(2)
    assert controller.client.requests[-1][:3] == ("shutdown", "id-other", "uid-web-1-2")
    status = controller.source.last()
    assert (status.vm.id, status.id, status.last_power_off) == ("id-other", "id-other", None)  # type: ignore[union-attr]


async def test_a_running_shutdown_of_the_old_vm_is_not_taken_for_one_of_the_new(begin: Begin) -> None:
    controller = await begin(machine(gracefulShutdownTimeout="10m"))
    replace_vm(controller)
    await controller.apply(machine(meta={"annotations": {"vmpower/rebind": "id-other"}}, gracefulShutdownTimeout="10m"))
    assert [request[:2] for request in controller.client.requests] == [("shutdown", "id-web"), ("shutdown", "id-other")]
    await controller.settle(2)
    assert controller.source.last().operation.id == "op-2"  # type: ignore[union-attr]


async def test_a_vm_that_was_renamed_is_still_the_same_one(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.cache.put(pb.VM(id="id-web", name="web-old", power_state=pb.POWER_STATE_ON))
    controller.client.changed({"web-old", "id-web"})
    await controller.apply(machine(generation=2))
    assert controller.client.requests[0][:2] == ("shutdown", "id-web")


async def test_one_of_two_vms_of_a_name_is_known_by_its_binding(make_controller: Make) -> None:
    controller = make_controller(OTHER, vm())
    await controller.start(with_status(machine(), vm=binding()))
    assert controller.client.requests[0][:2] == ("shutdown", "id-web")


async def test_a_decision_about_another_vm_is_refused(begin: Begin) -> None:
    controller = await begin(machine("On"))
    replace_vm(controller)
    controller.source.decide("force")
    await controller.settle()
    assert "DecisionRefused" in controller.source.reasons()
    assert len(controller.source.taken) == 1


# Two resources


async def test_two_resources_that_name_one_vm_do_not_fight(make_controller: Make) -> None:
    controller = make_controller()
    rival = in_namespace(machine("OffGraceful"), "other", "uid-rival")
    rival = rival.model_copy(
        update={"spec": machine(spec={"providerRef": {"name": "local", "namespace": "default"}}).spec}
    )
    shared = provider(access=[{"namespaces": {"names": ["other"]}, "allow": ["power"]}])
    await controller.start(shared, machine("On"), rival, declare_provider=False)
    await controller.settle(24 * 3600)
    assert calls(controller) == []
    status, reason, message = condition(last(controller, "other"))
    assert (status, reason, "default/web" in message) == ("False", "Conflict", True)


async def test_the_older_binding_keeps_the_vm_after_a_restart(make_controller: Make) -> None:
    controller = make_controller()
    newer, older = (
        machine("OffGraceful", name="a", spec={"vmName": "web"}),
        machine("On", name="b", spec={"vmName": "id-web"}),
    )
    await controller.start(newer, with_status(older, vm=binding(name="id-web", since=NOW - seconds(60))))
    await controller.settle(3600)
    assert (calls(controller), controller.source.ready("a")) == ([], ("False", "Conflict"))


async def test_a_resource_that_lost_a_conflict_decides_when_the_owner_is_gone(make_controller: Make) -> None:
    controller = make_controller()
    owner, rival = machine("On", name="a", spec={"vmName": "web"}), machine(name="b", spec={"vmName": "id-web"})
    await controller.start(owner, rival)
    controller.source.delete(owner)
    await controller.settle()
    assert controller.client.requests[0][:3] == ("shutdown", "id-web", "uid-b-1-1")


async def test_a_resource_that_lost_a_conflict_may_be_mended(make_controller: Make) -> None:
    controller = make_controller(vm(), vm(name="db"))
    owner, rival = machine("On", name="a", spec={"vmName": "web"}), machine(name="b", spec={"vmName": "id-web"})
    await controller.start(owner, rival)
    await controller.apply(machine(name="b", generation=2, spec={"vmName": "db"}))
    assert controller.client.requests[0][:2] == ("shutdown", "id-db")


# Deletion


async def test_deleting_a_resource_in_mid_shutdown_gives_the_shutdown_up(begin: Begin) -> None:
    controller = await begin(machine())
    controller.source.delete(machine())
    await controller.settle(1000)
    assert calls(controller) == ["shutdown", "cancel"]
    assert controller.client.watchers == 0


async def test_what_is_left_of_a_status_claims_nothing_that_goes_on(begin: Begin) -> None:
    """Also where the operation is not given up, such as a start."""
    controller = await begin(machine("On"))
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle(3)
    assert controller.source.last().phase == "PoweringOn"
    controller.source.delete(machine("On"))
    await controller.settle(1000)
    assert (controller.source.last().phase, controller.source.ready()) == ("Unknown", ("Unknown", "NotDeclared"))


async def test_what_is_left_after_a_shutdown_was_given_up_says_so(begin: Begin) -> None:
    controller = await begin(machine())
    controller.source.delete(machine())
    await controller.settle(1000)
    assert (controller.source.last().phase, controller.source.ready()) == ("Running", ("Unknown", "NotDeclared"))


async def test_a_resource_that_comes_back_is_looked_after_again(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.delete(machine("On"))
    await controller.settle(10)
    await controller.apply(machine("On"))
    assert controller.source.ready() == ("True", "On")


async def test_deleting_a_resource_leaves_a_start_and_other_clients_operations_alone(make_controller: Make) -> None:
    controller = make_controller(vm(active="op-9"))
    controller.client.operations["op-9"] = operation(state=WAITING, id="op-9", create_time=clock())
    await controller.start(machine(None))
    controller.source.delete(machine())
    await controller.settle(1000)
    assert calls(controller) == []


async def test_a_shutdown_whose_provider_is_away_is_given_up_when_it_is_back(begin: Begin) -> None:
    controller = await begin(machine())
    cancel, refused = controller.client.call, 2

    async def answer(request: Any, timeout: float = 0) -> Any:
        nonlocal refused
        if refused:
            refused -= 1
            raise controller.client.lost
        return await cancel(request, timeout)

    controller.client.call = answer  # type: ignore[method-assign]
    controller.source.delete(machine())
    await controller.settle(60)
    assert calls(controller) == ["shutdown", "cancel"]


async def test_a_resource_that_comes_back_is_shut_down_again(begin: Begin) -> None:
    controller = await begin(machine())
    controller.source.delete(machine())
    await controller.settle()
    kept = with_status(machine(), **dict(controller.source.last()))
    await controller.apply(kept)
    await controller.settle(60)
    assert calls(controller) == ["shutdown", "cancel", "shutdown"]


async def test_an_orphan_that_waits_for_a_decision_is_adopted_and_decided(make_controller: Make) -> None:
    controller = make_controller(vm(active="op-9"))
    orphan = operation(
        state=AWAITING_DECISION, id="op-9", request_id=f"{GONE}-1-1", escalation="ASK", create_time=clock()
    )
    controller.client.operations["op-9"] = orphan
    await controller.start(machine(escalation="Force"))
    await controller.settle(10)
    assert calls(controller) == ["force"]
    assert controller.source.last().operation.id == "op-9"  # type: ignore[union-attr]


async def test_an_operation_that_waits_for_its_guest_is_left_to_its_own_time(make_controller: Make) -> None:
    """Its resource may be another controller's, and a person may give a request_id of any form."""
    controller = make_controller(vm(active="op-9"))
    theirs = operation(
        id="op-9", request_id=f"{GONE}-1-1", escalation="FORCE", timeout=timedelta(minutes=15), create_time=clock()
    )
    controller.client.operations["op-9"] = theirs
    await controller.start(machine(escalation="Force", gracefulShutdownTimeout="4s"))
    await controller.settle(10)
    assert calls(controller) == []


async def test_the_operation_of_a_resource_that_is_there_is_not_adopted(make_controller: Make) -> None:
    controller = make_controller(vm(active="op-9"), vm(name="db"))
    theirs = operation(
        state=AWAITING_DECISION, id="op-9", request_id=f"{GONE}-1-1", escalation="ASK", create_time=clock()
    )
    controller.client.operations["op-9"] = theirs
    await controller.start(machine(escalation="Force"), machine("On", name="db", meta={"uid": GONE}))
    await controller.settle(10)
    assert calls(controller) == []


async def test_a_leaving_resource_whose_vm_was_never_found_goes_without_a_provider(make_controller: Make) -> None:
    controller = make_controller()
    leaving = machine("On", spec={"providerRef": {"name": "nowhere"}}, meta={"leaving": True})
    await controller.start(leaving)
    assert len(controller.source.released) == 1


async def test_a_leaving_resource_that_does_not_own_the_vm_goes_at_once(make_controller: Make) -> None:
    controller = make_controller()
    owner = machine("On", name="a", spec={"vmName": "web"})
    await controller.start(owner, machine("On", name="b", spec={"vmName": "web"}, meta={"leaving": True}))
    assert (calls(controller), [key.name for key in controller.source.released]) == ([], ["b"])


async def test_a_leaving_vm_goes_down_without_a_secret_that_is_gone(make_controller: Make) -> None:
    controller = make_controller()
    hook = {"exec": {"command": ["/bin/save"]}}
    leaving = machine("On", preStop=hook, guestCredentialsSecretRef={"name": "gone"}, meta={"leaving": True})
    await controller.start(leaving)
    assert (calls(controller), controller.client.logins) == (["shutdown"], [None])


# Providers in use


async def test_a_provider_is_held_while_a_resource_is_bound_to_one_of_its_vms(begin: Begin) -> None:
    controller = await begin(machine("On"))
    await controller.settle(10)
    local = Key("Provider", "default", "local")
    assert controller.source.held[local]
    controller.source.delete(machine("On"))
    await controller.settle(10)
    assert not controller.source.held[local]


async def test_a_deleted_provider_serves_its_vms_and_says_how_many_it_waits_for(begin: Begin) -> None:
    controller = await begin(machine("On"))
    meta = provider().metadata.model_copy(update={"leaving": True})
    leaving: Provider = provider().model_copy(update={"metadata": meta})
    await controller.apply(leaving)
    status = controller.source.statuses[Key("Provider", "default", "local")][-1]
    in_use = next(each for each in status.conditions if each.type == "InUse")
    assert (in_use.status, "1 VirtualMachine" in in_use.message) == ("True", True)


# What is seen is so


async def test_a_vm_that_drifts_is_told(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle(2)
    assert controller.source.reasons()[0] == "Drifted"


async def test_a_vm_that_crashes_is_told(begin: Begin) -> None:
    controller = await begin(machine("On"))
    crashed = vm(pb.POWER_STATE_OFF)
    crashed.off_cause = pb.OFF_CAUSE_CRASHED
    controller.client.cache.put(crashed)
    controller.client.changed({"web", "id-web"})
    await controller.settle(2)
    assert controller.source.reasons()[0] == "Crashed"


async def test_an_edit_is_no_drift(begin: Begin) -> None:
    controller = await begin(machine("On"))
    await controller.apply(machine(generation=2))
    await controller.settle(2)
    assert controller.source.reasons() == ["ShutdownStarted"]


async def test_a_start_that_follows_another_is_told_too(begin: Begin) -> None:
    before = with_status(machine("On"), operation=record(POWER_ON, SUCCEEDED, id="op-0"), observed_generation=1)
    controller = await begin(before)
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle(2)
    await controller.client.end("op-1", "STARTED")
    controller.client.turn(pb.POWER_STATE_ON)
    await controller.settle(10)
    assert controller.source.reasons().count("PowerOnSucceeded") == 1


async def test_an_edited_vm_is_not_ready_while_its_provider_does_not_answer(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.failure = controller.client.lost
    await controller.apply(machine(generation=2))
    assert controller.source.ready() == ("Unknown", "ProviderUnreachable")


async def test_a_vm_is_not_ready_while_its_hypervisor_does_not_answer(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.hypervisor_problem = "The hypervisor sim does not answer."
    controller.client.changed(None)
    await controller.settle()
    assert controller.source.ready() == ("Unknown", "HypervisorUnreachable")
    assert condition(controller.source.last(), "HypervisorReachable")[0] == "False"
    assert condition(controller.source.last(), "ProviderReachable")[0] == "True"


async def test_a_vm_says_that_its_hypervisor_is_away_and_not_its_provider(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.hypervisor_problem = "The hypervisor sim does not answer."
    controller.client.set_reachable(False, "sim does not answer")
    await controller.settle()
    said = [condition(controller.source.last(), name)[0] for name in ("ProviderReachable", "HypervisorReachable")]
    assert said == ["True", "False"]


# Annotations


async def test_a_paused_resource_leaves_its_vm_alone_and_says_so(begin: Begin) -> None:
    controller = await begin(machine("OffGraceful", meta={"annotations": {"vmpower/paused": "true"}}))
    await controller.settle(24 * 3600)
    assert (calls(controller), controller.source.ready()) == ([], ("Unknown", "LeftAlone"))
    assert condition(controller.source.last(), "Paused")[0] == "True"


async def test_a_resource_that_is_no_longer_paused_goes_on(begin: Begin) -> None:
    controller = await begin(machine("OffGraceful", meta={"annotations": {"vmpower/paused": "true"}}))
    await controller.apply(machine())
    await controller.settle(2)
    assert calls(controller) == ["shutdown"]
    assert condition(controller.source.last(), "Paused")[0] == "False"


async def test_a_shutdown_that_is_under_way_goes_on_while_its_resource_is_paused(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.apply(machine("Off", generation=2, meta={"annotations": {"vmpower/paused": "true"}}))
    await controller.client.end("op-1")
    await controller.settle()
    assert (calls(controller), controller.source.last().last_power_off is not None) == (["shutdown"], True)


async def test_one_that_was_not_read_since_its_memory_was_saved_is_not_taken_for_resumed(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = await begin(machine("OffGraceful", escalation="Save"))

    async def refresh(vm: str) -> None:
        raise ProviderError("DEADLINE_EXCEEDED", "no answer", "ProviderUnreachable")

    (saving,) = controller.client.operations.values()
    monkeypatch.setattr(controller.client, "refresh", refresh)
    monkeypatch.setattr(controller.client.cache, "put", lambda vm: None)  # what its watch tells comes a moment later
    await controller.client.end(saving.id, outcome="SAVED")
    await controller.settle()
    monkeypatch.undo()
    controller.client.turn(pb.POWER_STATE_SUSPENDED)
    await controller.settle(1)
    await controller.apply(machine("On", generation=2, escalation="Save"))
    await controller.settle(3600)
    assert calls(controller)[-1] == "power_on"


async def test_a_suspended_vm_is_not_resumed(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.turn(pb.POWER_STATE_SUSPENDED)
    await controller.settle(3600)
    assert (calls(controller), controller.source.ready()) == ([], ("False", "Suspended"))


async def test_an_annotation_without_effect_is_a_condition_and_an_event(begin: Begin) -> None:
    controller = await begin(machine("On", meta={"annotations": {"vmpower/on-delete": "Delete"}}))
    assert condition(controller.source.last(), "AnnotationsValid")[:2] == ("False", "InvalidAnnotation")
    assert controller.source.reasons() == ["InvalidAnnotation"]
    await controller.apply(machine("On"))
    assert condition(controller.source.last(), "AnnotationsValid")[0] == "True"
