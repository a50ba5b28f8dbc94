"""What resources of other namespaces may have done, as a table."""

from typing import Any

import pytest

from common.grants import Right
from controller.access import granted, needed, refusal, serves
from controller.models import VirtualMachine
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine, provider

EXEC = {"exec": {"command": ["save"]}}
HTTP = {"httpGet": {"url": "http://192.0.2.1/"}}
SNAPSHOT: dict[str, Any] = {"snapshot": {}}
VM = pb.VM(id="id-web", name="web", labels={"team": "a", "pool": "gold", "path": "/dc/vm/a/web"})
ALL = frozenset(Right)
NONE = frozenset[Right]()
POWER = frozenset({Right.POWER})


def rule(namespaces: Any = None, allow: Any = ("power",), **vms: Any) -> dict[str, Any]:
    return {"namespaces": namespaces or {"names": ["team-a"]}, "allow": list(allow)} | ({"vms": vms} if vms else {})


def labelled(**labels: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": labels}}


def of_tenant(namespace: str = "team-a", **lifecycle: Any) -> VirtualMachine:
    spec = {"providerRef": {"name": "local", "namespace": "ops"}}
    return machine(spec=spec, meta={"namespace": namespace}, **lifecycle)


@pytest.mark.parametrize(
    ("access", "namespace", "labels", "expected"),
    [
        ([], "ops", {}, ALL),
        ([], "team-a", {}, NONE),
        ([rule()], "ops", {}, ALL),
        ([rule()], "team-a", {}, POWER),
        ([rule()], "team-b", {}, NONE),
        ([rule()], "team", {}, NONE),
        ([rule(labelled(tenant="yes"))], "team-a", {"tenant": "yes"}, POWER),
        ([rule(labelled(tenant="yes"))], "team-a", {"tenant": "no"}, NONE),
        ([rule(labelled(tenant="yes"))], "team-a", {}, NONE),
        ([rule(labelled(tenant="yes", tier="1"))], "team-a", {"tenant": "yes"}, NONE),
        ([rule({"selector": {}})], "anybody", {}, POWER),
        ([rule({"selector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}})], "team-a", {}, POWER),
        ([rule(labelled(**{"kubernetes.io/metadata.name": "ops"}))], "b", {"kubernetes.io/metadata.name": "ops"}, NONE),
        ([rule(names=["web"])], "team-a", {}, POWER),
        ([rule(names=["id-web"])], "team-a", {}, POWER),
        ([rule(names=["db"])], "team-a", {}, NONE),
        ([rule(labels={"team": "a"})], "team-a", {}, POWER),
        ([rule(labels={"team": "b"})], "team-a", {}, NONE),
        ([rule(pool="gold")], "team-a", {}, POWER),
        ([rule(folder="/dc/vm/a")], "team-a", {}, POWER),
        ([rule(folder="/dc/vm/b")], "team-a", {}, NONE),
        ([rule(), rule(allow=["exec"], names=["web"])], "team-a", {}, {Right.POWER, Right.EXEC}),
        ([rule(), rule(allow=["exec"], names=["db"])], "team-a", {}, POWER),
        ([rule(), rule({"names": ["team-b"]}, ["exec"])], "team-a", {}, POWER),
    ],
)
def test_rights_are_those_of_all_rules_that_cover_namespace_and_vm(
    access: Any, namespace: str, labels: dict[str, str], expected: set[Right]
) -> None:
    assert granted(provider(namespace="ops", access=access), namespace, labels, VM) == expected


@pytest.mark.parametrize(
    ("lifecycle", "expected"),
    [
        ({}, POWER),
        ({"preStop": EXEC}, {Right.POWER, Right.EXEC}),
        ({"postStart": EXEC}, {Right.POWER, Right.EXEC}),
        ({"preStop": {"hooks": [HTTP, SNAPSHOT]}}, {Right.POWER, Right.HTTP, Right.SNAPSHOT}),
    ],
)
def test_a_resource_needs_a_right_for_each_kind_of_hook_that_it_declares(lifecycle: Any, expected: set[Right]) -> None:
    assert needed(machine(**lifecycle)) == expected


def test_a_hook_that_is_not_allowed_refuses_the_whole_resource_and_is_named() -> None:
    refused = refusal(provider(namespace="ops", access=[rule()]), of_tenant(preStop=EXEC), {}, VM)
    assert refused is not None
    assert refused.reason == "NotAllowed"
    assert "Provider ops/local allows namespace team-a not exec for VM 'web'" in refused.message


def test_all_that_is_needed_may_come_from_several_rules() -> None:
    access = [rule(), rule(allow=["exec"], labels={"team": "a"})]
    assert refusal(provider(namespace="ops", access=access), of_tenant(preStop=EXEC), {}, VM) is None


def test_without_power_hooks_are_worth_nothing() -> None:
    refused = refusal(provider(namespace="ops", access=[rule(allow=["exec"])]), of_tenant(), {}, VM)
    assert refused is not None
    assert "allows namespace team-a nothing" in refused.message


def test_of_a_vm_that_may_not_be_used_it_is_not_told_whether_there_is_one() -> None:
    it = provider(namespace="ops", access=[rule(labels={"team": "b"})])
    assert refusal(it, of_tenant(), {}, VM) == refusal(it, of_tenant(), {}, None)


def test_of_a_vm_that_may_be_used_by_its_name_it_is_told_that_there_is_none() -> None:
    assert refusal(provider(namespace="ops", access=[rule(names=["web"])]), of_tenant(), {}, None) is None


@pytest.mark.parametrize(("namespace", "expected"), [("ops", True), ("team-a", True), ("team-b", False)])
def test_a_namespace_is_served_that_has_any_rule(namespace: str, expected: bool) -> None:
    assert serves(provider(namespace="ops", access=[rule(names=["db"])]), namespace, {}) is expected
