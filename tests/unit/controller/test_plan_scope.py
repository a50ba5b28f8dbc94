from typing import Any

import pytest

from controller.models import Provider, VirtualMachine
from controller.plan_scope import Scope, called, full_name, scope, violations
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine, provider
from tests.unit.controller.plan_world import declared
from tests.unit.plans.builders import plan, tier

LAB = provider("lab")
ELSEWHERE = provider("lab", namespace="infra")
OPEN = provider("lab", namespace="infra", access=[{"namespaces": {"names": ["default"]}, "allow": ["power"]}])
SELECTED: Any = {"name": "a", "members": [{"selector": {"matchLabels": {"tier": "web"}}}]}


def of(providers: list[Provider], *machines: VirtualMachine) -> Scope:
    def find(resource: VirtualMachine) -> tuple[Provider, pb.VM | None] | None:
        named = {f"{each.metadata.namespace}/{each.metadata.name}": each for each in providers}
        found = named.get(resource.provider_name)
        return (found, pb.VM(id="app", name="app")) if found else None

    return scope("default", providers, machines, {}, find)


def at_infra(**meta: Any) -> VirtualMachine:
    return machine(
        "On",
        name="app",
        spec={"providerRef": {"name": "lab", "namespace": "infra"}},
        meta={"labels": {"tier": "web"}} | meta,
    )


def test_the_providers_beside_a_plan_are_called_by_their_names() -> None:
    assert set(of([LAB, ELSEWHERE]).providers) == {"lab"}


def test_a_provider_has_a_full_name_too() -> None:
    assert (called("default", ELSEWHERE), full_name("default", "lab"), full_name("default", "infra/lab")) == (
        "infra/lab",
        "default/lab",
        "infra/lab",
    )


def test_a_resource_is_declared_with_its_lifecycle_and_the_vm_that_it_is_bound_to() -> None:
    (found,) = of([LAB], declared("app", meta={"labels": {"tier": "web"}}, escalation="Never")).declared
    assert (found.resource, found.provider, found.vm, found.labels) == ("default/app", "lab", "app", {"tier": "web"})
    assert found.request.escalation == pb.ESCALATION_NEVER


def test_a_resource_of_another_namespace_is_not_chosen() -> None:
    assert not of([ELSEWHERE], at_infra(namespace="other")).declared


def test_another_namespaces_provider_is_reached_by_resources_that_it_serves() -> None:
    found = of([OPEN], at_infra())
    assert [each.provider for each in found.declared] == ["infra/lab"]
    assert set(found.providers) == {"infra/lab"}


def test_a_resource_that_its_provider_does_not_serve_reaches_nothing() -> None:
    found = of([ELSEWHERE], at_infra())
    assert (found.declared, found.providers) == ((), {})


def test_a_plan_may_not_name_vms_of_another_namespaces_provider() -> None:
    wrong = violations(plan(tier("a", "infra/lab/db")), of([OPEN], at_infra()))
    assert [each.field for each in wrong] == ["tiers.0.members.0.vms.0"]


def test_nor_choose_them_by_the_providers_labels() -> None:
    members = {"providerRef": {"name": "lab", "namespace": "infra"}, "labels": {"tags": "x"}}
    wrong = violations(plan({"name": "a", "members": [members]}), of([OPEN], at_infra()))
    assert [each.field for each in wrong] == ["tiers.0.members.0.providerRef"]


def test_nor_bring_down_what_else_runs_there() -> None:
    spec = plan(SELECTED, others="Last")
    assert [each.field for each in violations(spec, of([OPEN], at_infra()))] == ["others"]
    assert not list(violations(plan(SELECTED), of([OPEN], at_infra())))


def test_what_is_beside_the_plan_is_its_own() -> None:
    assert not list(violations(plan(tier("a", "lab/app"), others="Last"), of([LAB], declared("app"))))


def test_whose_vms_may_be_the_controllers_own_say_the_providers_beside_the_plan() -> None:
    assert of([LAB, OPEN], at_infra(), declared("app")).own_providers == ["lab"]


@pytest.mark.parametrize("probe", [{"exec": {"command": ["true"]}}, {"tcp": {"port": 22}}])
def test_guests_of_another_namespaces_provider_are_asked_nothing_by_plans(probe: Any) -> None:
    within = of([OPEN], at_infra())
    spec = plan(SELECTED, others="Ignore", bringUp={"ready": probe})
    assert [each.path for each in violations(spec, within)] == ["spec.tiers[0].members[0].selector"]
    assert list(violations(plan(SELECTED, others="Ignore", bringUp={}), within)) == []
