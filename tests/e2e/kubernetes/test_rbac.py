"""Least privilege: the controller uses each right that the chart grants, and is refused nothing."""

from collections.abc import Iterator
from itertools import product

import pytest

from controller.plan_host import KEPT
from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.account import grants
from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, made
from tests.rigs.nut.site import Site
from tests.rigs.polling import poll

SCRIPT = """
guests:
  web: {shutdown_time: 500ms}
  deaf: {agent: none, acpi: ignores}
"""
SECRET, UPS = "web-admin", "ups"
WITH_LOGIN = {"preStop": {"exec": {"command": ["save"]}}, "guestCredentialsSecretRef": {"name": SECRET}}
PLAN = {
    "budget": {"total": "1m"},
    "tiers": [{"name": "apps", "members": [{"vms": ["lab/deaf"]}]}],
    "others": "Ignore",
}
Right = tuple[str, str, str]
"""An API group, a resource (of its subresource: resource/subresource), a verb."""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT, secrets=[SECRET, UPS]) as lab:
        yield lab


@pytest.fixture(scope="module")
def requests(lab: Lab) -> list[AuditEvent]:
    """All that the controllers asked of the API while they did everything that they can do."""
    shut_down_with_a_login(lab)
    decide(lab)
    lab.vms.wait("lab", lambda state: bool(state["metadata"].get("finalizers")), kind="vmprov")
    bring_down_what_is_deleted(lab)
    carry_a_plan_out(lab)
    follow_a_ups(lab)
    hand_over(lab)
    return lab.cluster.audit(lab.user)


def shut_down_with_a_login(lab: Lab) -> None:
    login = ("--from-literal=username=root", "--from-literal=password=secret")
    lab.vms.kubectl("create", "secret", "generic", SECRET, *login)
    lab.vms.declare("web", "OffGraceful", WITH_LOGIN)
    lab.vms.wait_event("web", "GracefulShutdown")


def decide(lab: Lab) -> None:
    lab.vms.declare("deaf", "OffGraceful", {"gracefulShutdownTimeout": "1h"})
    lab.vms.wait_status("deaf", lambda status: "forceAfter" in status.get("operation", {}))
    lab.vms.annotate("deaf", "vmpower/decision=force")
    lab.vms.wait_event("deaf", "ForcedOff")


def bring_down_what_is_deleted(lab: Lab) -> None:
    lab.vms.annotate("web", "vmpower/on-delete=OffGraceful")
    lab.vms.wait("web", lambda state: bool(state["metadata"].get("finalizers")))
    lab.vms.kubectl("delete", "vm", "web")


def carry_a_plan_out(lab: Lab) -> None:
    lab.vms.apply(made("PowerPlan", "night", PLAN), made("PowerRun", "tonight", {"planRef": {"name": "night"}}))
    lab.vms.wait_event("tonight", "RunHeld")


def follow_a_ups(lab: Lab) -> None:
    """Which begins a run, so that the oldest of those that triggers began is deleted."""
    old = [f"old-{number}" for number in range(KEPT + 1)]
    lab.vms.apply(*(made("PowerRun", name, {"planRef": {"name": "night"}, "trigger": "none"}) for name in old))
    lab.vms.wait_all(old, lambda state: state.get("status", {}).get("phase") == "Refused", "powerrun")
    with Site() as site:
        login = ("--from-literal=username=vmpower", f"--from-literal=password={site.password_file.read_text().strip()}")
        lab.vms.kubectl("create", "secret", "generic", UPS, "--type=vmpower/nut", *login)
        trigger = {"nut": {"ups": [{"name": site.ups}], "secretRef": {"name": UPS}, "pollEvery": "100ms"}}
        site.says("OB LB")
        lab.vms.apply(made("PowerPlan", "night", PLAN | {"triggers": [trigger]}))
        lab.vms.wait_event("night", "AllDown")
    poll(lambda: len(lab.vms.kubectl("get", "powerruns", "--output", "name").split()) == KEPT + 2, 30)


def hand_over(lab: Lab) -> None:
    with lab.another_controller("second") as second:
        lab.controller.stop()
        lab.vms.wait("vmpower", lambda lease: lease["spec"].get("holderIdentity") == "second", kind="lease")
        second.stop()


def used(requests: list[AuditEvent]) -> set[Right]:
    """Of resources; what there is in the API every account may ask."""
    about = [one for one in requests if one.resource]
    return {(one.group, "/".join(filter(None, (one.resource, one.subresource))), one.verb) for one in about}


def granted(objects: list[Object]) -> set[Right]:
    rules = [rule for role in chart.of_kind(objects, "Role", "ClusterRole") for rule in role["rules"]]
    return {right for rule in rules for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def test_every_right_that_is_granted_is_used_and_no_other(lab: Lab, requests: list[AuditEvent]) -> None:
    assert used(requests) == granted(grants(lab.cluster, lab.namespace, [SECRET, UPS]))


def test_nothing_is_refused(requests: list[AuditEvent]) -> None:
    assert [one for one in requests if one.code in {401, 403}] == []


def test_nodes_may_be_read_where_plans_may_bring_them_down_and_nowhere_else(cluster: Cluster, namespace: str) -> None:
    with_it = granted(grants(cluster, namespace, values=["controller.selfLast=true"]))
    assert with_it - granted(grants(cluster, namespace)) == {("", "nodes", "list")}


@pytest.mark.parametrize("values", chart.VALUES)
def test_every_form_of_the_chart_grants_the_same(cluster: Cluster, namespace: str, values: str) -> None:
    login = "guestCredentials[0].namespace=machines,guestCredentials[0].secrets={web}"
    objects = chart.render(cluster, namespace, values, "--set", login)
    watches_one = values == "ci/values-separate.yaml"
    labels = set() if watches_one else {("", "namespaces", verb) for verb in ("list", "watch")}
    assert granted(objects) == granted(grants(cluster, namespace, [SECRET, UPS])) | labels
