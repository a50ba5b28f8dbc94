"""Resources of other namespaces than their Provider's: what is done, and what they are told."""

from typing import Any

import pytest

from controller.models import VirtualMachine
from controller.source import GuestCredentials, Key, Labelled
from controller.status_models import VirtualMachineStatus
from controller.trust import Trust
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine, provider, vm
from tests.unit.controller.conftest import Controller, Make
from tests.unit.controller.fakes import FakeClient

pytestmark = pytest.mark.looptime
EXEC = {"exec": {"command": ["save"]}}
REF = {"providerRef": {"name": "local", "namespace": "ops"}}


def tenant(
    namespace: str = "team-a", name: str = "web", power: str = "OffGraceful", **lifecycle: Any
) -> VirtualMachine:
    meta = {"namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    return machine(power, name=name, spec=REF, meta=meta, **lifecycle)


def shared(*allow: str, **vms: Any) -> Any:
    rule = {"namespaces": {"names": ["team-a"]}, "allow": allow or ("power",)} | ({"vms": vms} if vms else {})
    return provider(namespace="ops", access=[rule])


def calls(controller: Controller) -> list[str]:
    return [request[0] for request in controller.client.requests]


def last(controller: Controller, namespace: str = "team-a", name: str = "web") -> VirtualMachineStatus:
    found = controller.source.statuses[Key("VirtualMachine", namespace, name)][-1]
    assert isinstance(found, VirtualMachineStatus)
    return found


def reason(controller: Controller, condition: str = "Ready", namespace: str = "team-a") -> str:
    return next(each.reason for each in last(controller, namespace).conditions if each.type == condition)


async def start(make: Make, *resources: Any, trust: Trust | None = None) -> Controller:
    controller = make(trust=trust) if trust else make()
    await controller.start(*resources, declare_provider=False)
    await controller.settle(60)
    return controller


async def test_somebody_elses_provider_does_nothing_and_the_resource_says_so(make_controller: Make) -> None:
    controller = await start(make_controller, provider(namespace="ops"), tenant())
    assert calls(controller) == []
    assert (reason(controller), reason(controller, "Bound")) == ("NotAllowed", "NotAllowed")
    assert "NotAllowed" in controller.source.reasons()


async def test_a_namespace_that_is_granted_power_has_it(make_controller: Make) -> None:
    assert calls(await start(make_controller, shared(), tenant())) == ["shutdown"]


async def test_a_hook_that_is_not_granted_runs_in_nobodys_guest(make_controller: Make) -> None:
    controller = await start(make_controller, shared(), tenant(preStop=EXEC))
    assert (calls(controller), reason(controller)) == ([], "NotAllowed")


async def test_a_vm_that_is_not_granted_is_not_described(make_controller: Make) -> None:
    controller = await start(make_controller, shared("power", names=["db"]), tenant())
    status = last(controller)
    assert (status.power_state, status.id, status.vm) == ("Unknown", "", None)


async def test_ids_of_vms_of_a_name_are_not_told_to_who_may_use_none(make_controller: Make) -> None:
    controller = make_controller(vm(), pb.VM(id="id-2", name="web"))
    await controller.start(shared("power", names=["db"]), tenant(), declare_provider=False)
    await controller.settle(60)
    assert "id-2" not in str(last(controller))


async def test_where_a_provider_is_and_why_it_does_not_answer_is_not_told_to_strangers(make_controller: Make) -> None:
    controller = await start(make_controller, provider(namespace="ops"), tenant())
    controller.client.set_reachable(reachable=False, problem="secret.internal:9443: refused")
    await controller.settle(60)
    assert (reason(controller), "secret.internal" in str(last(controller))) == ("NotAllowed", False)


async def test_who_may_not_use_a_vm_does_not_keep_it_from_its_owner(make_controller: Make) -> None:
    squatter, owner = tenant("team-b"), tenant("team-a")
    controller = await start(make_controller, shared(), squatter, owner)
    assert (calls(controller), reason(controller, namespace="team-b")) == (["shutdown"], "NotAllowed")


async def test_access_that_is_taken_back_ends_what_the_resource_decides_and_follows(make_controller: Make) -> None:
    controller = await start(make_controller, shared(), tenant(gracefulShutdownTimeout="1h"))
    await controller.apply(provider(namespace="ops"))
    await controller.apply(tenant(power="Off", gracefulShutdownTimeout="1h"))
    await controller.settle(60)
    assert (calls(controller), reason(controller), controller.client.watchers) == (["shutdown"], "NotAllowed", 0)


async def test_a_vm_whose_user_lost_access_is_anothers_to_own(make_controller: Make) -> None:
    controller = await start(make_controller, shared(), tenant(power="On"))
    await controller.apply(provider(namespace="ops"))
    own = machine(meta={"namespace": "ops", "uid": "uid-own"})
    await controller.apply(own)
    await controller.settle(10)
    assert calls(controller) == ["shutdown"]


async def test_access_that_is_granted_later_counts_at_once(make_controller: Make) -> None:
    controller = await start(make_controller, provider(namespace="ops"), tenant())
    await controller.apply(shared())
    assert calls(controller) == ["shutdown"]


async def test_labels_of_a_namespace_count_as_they_change(make_controller: Make) -> None:
    rule = {"namespaces": {"selector": {"matchLabels": {"tenant": "yes"}}}, "allow": ["power"]}
    controller = await start(make_controller, provider(namespace="ops", access=[rule]), tenant(power="On"))
    assert reason(controller) == "NotAllowed"
    controller.source.changes.put_nowait(Labelled("team-a", {"tenant": "yes"}))
    await controller.settle()
    assert reason(controller) == "On"
    controller.source.changes.put_nowait(Labelled("team-a", {}))
    await controller.settle()
    assert reason(controller) == "NotAllowed"


async def test_a_decision_about_somebody_elses_vm_is_refused(make_controller: Make) -> None:
    controller = await start(make_controller, provider(namespace="ops"), tenant())
    controller.source.decide("force", namespace="team-a")
    await controller.settle()
    assert (calls(controller), "DecisionRefused" in controller.source.reasons()) == ([], True)


async def test_a_resource_that_is_deleted_and_may_do_nothing_goes(make_controller: Make) -> None:
    leaving = tenant()
    leaving = leaving.model_copy(update={"metadata": leaving.metadata.model_copy(update={"leaving": True})})
    controller = await start(make_controller, provider(namespace="ops"), leaving)
    assert (calls(controller), len(controller.source.released)) == ([], 1)


# Whose Provider it is

OPS = Trust("ops")
FAKE = provider("mine", "fake.example:443", namespace="team-a", tls={"secretRef": {"name": "tls"}})


def with_login(namespace: str, name: str) -> VirtualMachine:
    lifecycle: dict[str, Any] = {"preStop": EXEC, "guestCredentialsSecretRef": {"name": "guest"}}
    return machine(
        spec={"providerRef": {"name": name}}, meta={"namespace": namespace, "uid": f"uid-{namespace}"}, **lifecycle
    )


async def test_a_guests_password_goes_to_no_provider_that_the_operator_does_not_trust(make_controller: Make) -> None:
    controller = make_controller(trust=OPS)
    controller.source.secrets["team-a", "guest"] = GuestCredentials("root", "hunter2")
    await controller.start(FAKE, with_login("team-a", "mine"), declare_provider=False)
    await controller.settle(600)
    assert (controller.client.logins, reason(controller)) == ([], "GuestCredentialsUnavailable")


async def test_a_guests_password_goes_to_a_provider_of_the_operators(make_controller: Make) -> None:
    controller = make_controller(trust=OPS)
    login = controller.source.secrets["ops", "guest"] = GuestCredentials("root", "hunter2")
    await controller.start(provider(namespace="ops"), with_login("ops", "local"), declare_provider=False)
    assert controller.client.logins == [login]


async def test_a_socket_in_the_controllers_pod_is_not_connected_to_for_a_tenant(make_controller: Make) -> None:
    controller = make_controller(trust=OPS)
    own = machine(spec={"providerRef": {"name": "mine"}}, meta={"namespace": "team-a"})
    await controller.start(provider("mine", namespace="team-a"), own, declare_provider=False)
    await controller.settle(60)
    assert calls(controller) == []
    status = controller.source.statuses[Key("Provider", "team-a", "mine")]
    assert [(each.conditions[0].reason, each.conditions[0].status) for each in status] == [("NotTrusted", "False")]
    assert [event.reason for key, event in controller.source.events if key.kind == "Provider"] == ["NotTrusted"]


async def test_an_edit_that_leads_a_provider_into_the_pod_leaves_it_as_it_was(make_controller: Make) -> None:
    controller = make_controller(trust=OPS)
    in_the_pod = controller.elsewhere["unix:///run/p.sock"] = FakeClient()
    spec, meta = {"providerRef": {"name": "mine"}}, {"namespace": "team-a"}
    await controller.start(FAKE, machine("On", spec=spec, meta=meta), declare_provider=False)
    await controller.apply(provider("mine", namespace="team-a"))
    await controller.apply(machine("Off", generation=2, spec=spec, meta=meta))
    assert (in_the_pod.requests, calls(controller)) == ([], ["power_off"])


async def test_a_provider_that_is_not_connected_to_is_not_kept_from_being_deleted(make_controller: Make) -> None:
    controller = make_controller(trust=OPS)
    await controller.start(provider("mine", namespace="team-a"), tenant(), declare_provider=False)
    await controller.settle(10)
    assert controller.source.held == {Key("Provider", "team-a", "mine"): False}


# Plans


async def test_a_plan_reaches_no_vm_of_a_shared_provider_that_another_resource_owns(make_controller: Make) -> None:
    both = provider(namespace="ops", access=[{"namespaces": {"names": ["team-a", "team-b"]}, "allow": ["power"]}])
    owner, other = tenant("team-a", power="On"), tenant("team-b", power="On")
    controller = await start(make_controller, both, owner, other)
    assert reason(controller, "Bound", "team-b") == "Conflict"
    reached = {name: [each.vm for each in controller.runner.scope(name).declared] for name in ("team-a", "team-b")}
    assert reached == {"team-a": [last(controller).vm.id], "team-b": []}  # type: ignore[union-attr]
