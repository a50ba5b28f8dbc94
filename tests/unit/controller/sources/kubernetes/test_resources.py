from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from controller.models import PowerPlan, Provider, VirtualMachine
from controller.source import Decided
from controller.sources.kubernetes import resources
from controller.sources.kubernetes.api import Object
from controller.sources.kubernetes.resources import Invalid, resource_of
from controller.status_models import VirtualMachineStatus
from tests.unit.controller.sources.kubernetes.fakes import WEB, raw

HELD: Object = {"finalizers": ["vmpower/on-delete"]}
WANTED: Object = {"annotations": {"vmpower/on-delete": "OffGraceful"}}
DELETED: Object = {"deletionTimestamp": "2030-01-01T12:00:00Z"}
FIELDS = st.sampled_from(
    ["providerRef", "name", "powerState", "lifecycle", "preStop", "exec", "command", "hooks", "timeout", "phase",
     "operation", "conditions", "runtime", "endpoint", "type", "id", "x"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


def vm_of(found: Object) -> VirtualMachine:
    resource = resource_of("VirtualMachine", found)
    assert isinstance(resource, VirtualMachine)
    return resource


def decision(text: str = "force", uid: str = "u", **entry: Any) -> Object:
    """An object with a decision, and with an entry of its managed fields if one is given."""
    fields: Object = {"fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:vmpower/decision": {}}}}}
    others = {"manager": "kubectl-create", "time": "2030-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}}
    managed: Object = {"managedFields": [others, entry | fields]} if entry else {}
    return raw(uid=uid, annotations={"vmpower/decision": text}, **managed)


# What an object declares


def test_an_object_is_the_resource_that_it_declares() -> None:
    resource = vm_of(raw(uid="u", generation=7, namespace="lab"))
    meta = resource.metadata
    assert (meta.name, meta.namespace, meta.uid, meta.generation, meta.leaving) == ("web", "lab", "u", 7, False)
    assert (resource.spec.power_state, resource.spec.provider_ref.name) == ("OffGraceful", "local")


def test_a_provider_is_one_too() -> None:
    resource = resource_of("Provider", raw("local", kind="Provider"))
    assert isinstance(resource, Provider)
    assert resource.spec.runtime.endpoint == "unix:///run/p.sock"


def test_what_belongs_to_others_is_not_remembered() -> None:
    found = raw(labels={"a": "b"}, spec={"providerRef": {"name": "local"}, "disks": ["a" * 100]})
    resource = vm_of(found)
    assert (resource.spec.model_extra, resource.metadata.model_extra) == ({}, {})


def test_its_status_is_what_was_last_written() -> None:
    assert vm_of(raw(status={"phase": "Off", "observedGeneration": 3})).status == VirtualMachineStatus(
        phase="Off", observed_generation=3
    )


def test_without_a_status_it_begins_anew() -> None:
    assert vm_of(raw()).status == VirtualMachineStatus()


@pytest.mark.parametrize("written", [None, [], "Off", {"phase": 3}, {"operation": {"id": "op-1"}}, {"conditions": [7]}])
def test_a_status_that_cannot_be_read_begins_anew(written: Any) -> None:
    assert vm_of(raw(status=written)).status == VirtualMachineStatus()


def test_a_status_that_cannot_be_read_is_logged_by_field_and_not_quoted() -> None:
    with capture_logs() as logs:
        vm_of(raw(status={"operation": {"id": ["hunter2"]}}))
    assert "operation.id: " in logs[0]["error"]
    assert "hunter2" not in str(logs)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.providerRef: is missing"),
        ({"providerRef": {}}, "spec.providerRef.name: is missing"),
        ({"providerRef": {"name": "a"}, "powerState": "Sideways"}, "spec.powerState: "),
        ({"providerRef": {"name": "a"}, "lifecycle": {"gracefulShutdownTimeout": "0s"}},
         "spec.lifecycle.gracefulShutdownTimeout: must be more than 0s"),
        ({"providerRef": {"name": "a"}, "lifecycle": {"preStop": [{"exec": {"command": ["x"]}}]}},
         "spec.lifecycle.preStop: write several hooks as {hooks: [...]}"),
        (None, "spec: "),
        ([], "spec: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_spec_is_told_by_field(spec: Any, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        vm_of(raw(spec=spec))
    assert field in str(raised.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(Invalid, match=r"spec\.providerRef: .*; spec\.powerState: "):
        vm_of(raw(spec={"powerState": "Sideways"}))


def test_an_object_without_a_spec_is_told_so() -> None:
    found = raw()
    del found["spec"]
    with pytest.raises(Invalid, match=r"spec\.providerRef: is missing"):
        vm_of(found)


def test_a_header_that_holds_a_secret_is_not_quoted() -> None:
    hook = {"httpGet": {"url": "http://web", "headers": {"Authorization": ["hunter2"]}}}
    with pytest.raises(Invalid) as raised:
        vm_of(raw(spec={"providerRef": {"name": "a"}, "lifecycle": {"preStop": hook}}))
    assert "hunter2" not in str(raised.value)


@given(kind=st.sampled_from(["VirtualMachine", "Provider"]), spec=JSON, status=JSON)
def test_whatever_a_foreign_crd_lets_through_is_a_resource_or_told_to_be_none(
    kind: str, spec: Any, status: Any
) -> None:
    try:
        resource = resource_of(kind, raw(kind=kind, spec=spec, status=status))
    except Invalid as invalid:
        assert str(invalid)
    else:
        assert resource.kind == kind


# Leaving


@pytest.mark.parametrize(
    ("parts", "leaving"),
    [
        ({**DELETED, **HELD, **WANTED}, True),
        ({**HELD, **WANTED}, False),
        ({**DELETED, **WANTED}, False),
        ({**DELETED, **HELD}, False),
        ({**DELETED, **HELD, "annotations": {"vmpower/on-delete": "Leave"}}, False),
        ({**DELETED, **WANTED, "finalizers": ["somebody/else"]}, False),
        ({**DELETED, **WANTED, "finalizers": ["somebody/else", "vmpower/on-delete"]}, True),
    ],
)
def test_it_is_leaving_when_it_is_deleted_and_held_and_its_owner_wants_that(
    parts: dict[str, Any], leaving: bool
) -> None:
    assert vm_of(raw(**parts)).metadata.leaving is leaving


@given(
    finalizers=st.lists(st.sampled_from(["vmpower/on-delete", "a/b"]), unique=True),
    annotations=st.dictionaries(st.sampled_from(["vmpower/on-delete", "vmpower/decision", "c"]), st.text(max_size=3)),
    deleted=st.booleans(),
)
def test_the_essence_tells_what_the_whole_object_tells(
    finalizers: list[str], annotations: dict[str, str], deleted: bool
) -> None:
    whole = raw(finalizers=finalizers, annotations=annotations, **(DELETED if deleted else {}))
    essence = resources.essence(whole)
    for question in (resources.is_leaving, resources.is_deleted, resources.is_held, resources.wants_hold):
        assert question(essence) == question(whole)


def test_the_essence_leaves_out_what_is_large() -> None:
    essence = resources.essence(decision(manager="kubectl-annotate") | {"status": {"phase": "Off"}})
    assert set(essence) == {"metadata"}
    assert set(essence["metadata"]) == {"uid", "generation", "resourceVersion", "annotations", "labels"}


# Decisions


def test_who_decided_is_the_manager_of_the_annotation() -> None:
    found = decision("extend=5m", manager="kubectl-annotate", time="2030-01-01T12:00:00Z")
    assert resources.decided(WEB, found) == Decided(WEB, "extend=5m", "kubectl-annotate")


def test_who_decided_is_left_open_where_the_api_does_not_tell() -> None:
    assert resources.decided(WEB, decision()) == Decided(WEB, "force", "")


@pytest.mark.parametrize("annotations", [{}, {"vmpower/on-delete": "OffGraceful"}])
def test_without_the_annotation_nobody_decided(annotations: dict[str, str]) -> None:
    found = raw(annotations=annotations)
    assert (resources.decided(WEB, found), resources.decision_id(found)) == (None, None)


def test_an_empty_decision_is_one() -> None:
    assert resources.decided(WEB, decision("")) == Decided(WEB, "", "")


FIRST = decision(manager="kubectl-annotate", time="2030-01-01T12:00:00Z")


@pytest.mark.parametrize(
    "other",
    [
        decision("cancel", manager="kubectl-annotate", time="2030-01-01T12:00:00Z"),
        decision(uid="another", manager="kubectl-annotate", time="2030-01-01T12:00:00Z"),
    ],
)
def test_decisions_differ_by_words_and_object(other: Object) -> None:
    assert resources.decision_id(other) != resources.decision_id(FIRST)


def test_a_decision_stays_the_same_while_its_object_changes() -> None:
    later = decision(manager="kubectl-annotate", time="2030-01-01T12:05:00Z")
    later["metadata"] |= {"generation": 9, "resourceVersion": "99"}
    assert resources.decision_id(later) == resources.decision_id(FIRST)


def written_by(*entries: tuple[str, str, str]) -> Object:
    found = raw()
    found["metadata"]["managedFields"] = [
        {"manager": manager, "time": time, "fieldsV1": {part: {}}} for manager, time, part in entries
    ]
    return found


def test_who_wrote_a_spec_is_its_latest_manager() -> None:
    entries = (
        ("argocd", "2030-01-01T00:00:00Z", "f:spec"),
        ("kubectl-edit", "2030-01-02T00:00:00Z", "f:spec"),
        ("vmpower", "2030-01-03T00:00:00Z", "f:status"),
    )
    assert vm_of(written_by(*entries)).metadata.manager == "kubectl-edit"


def test_where_the_api_server_names_nobody_there_is_no_manager() -> None:
    assert vm_of(raw()).metadata.manager == ""


# Plans and runs


def plan_of(**spec: Any) -> Object:
    tiers = [{"name": "apps", "members": [{"vms": ["lab/app"]}]}]
    return raw("night", kind="PowerPlan", spec={"budget": {"total": "10m"}, "tiers": tiers} | spec)


def test_a_plan_is_a_resource() -> None:
    resource = resource_of("PowerPlan", plan_of())
    assert isinstance(resource, PowerPlan)
    assert [tier.name for tier in resource.spec.tiers] == ["apps"]


def test_a_field_of_a_plan_that_is_not_known_is_refused() -> None:
    with pytest.raises(Invalid, match=r"spec\.other: is not known here"):
        resource_of("PowerPlan", plan_of(other="Last"))


def test_labels_of_a_vm_are_kept_as_plans_select_by_them() -> None:
    assert vm_of(raw(labels={"tier": "web"})).metadata.labels == {"tier": "web"}


@pytest.mark.parametrize("kind", ["VirtualMachine", "Provider", "PowerPlan", "PowerRun"])
def test_each_kind_has_a_status_where_none_is_written(kind: str) -> None:
    written = resources.written_status(kind, raw(kind=kind))
    assert type(written).__name__ == f"{kind}Status"
    assert resources.written_status(kind, raw(kind=kind, status={"conditions": 7})) == written
