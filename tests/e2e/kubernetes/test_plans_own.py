"""Plans that bring down what the controller runs on: the nodes of a real API server, which are VMs of a sim."""

import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.kubernetes.tenants import Ops, operators
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object, Resources, made

NODES = {
    "node1": "4c4c4544-0042-3510-8051-b8c04f4e3131",
    "node2": "4c4c4544-0042-3510-8051-b8c04f4e3132",
}
SCRIPT = f"""
guests:
  app: {{shutdown_time: 3s}}
  mail: {{shutdown_time: 3s}}
  node1: {{shutdown_time: 4s, id: {NODES["node1"]}}}
  node2: {{shutdown_time: 4s, id: {NODES["node2"]}}}
"""
TIERS = [{"name": "apps", "members": [{"vms": ["lab/app"]}]}]
SPEC: Object = {"budget": {"total": "2m", "reserve": "30s"}, "tiers": TIERS, "others": "Last"}
PLAN = made("PowerPlan", "night", SPEC | {"self": "Last"})
RUN = made("PowerRun", "tonight", {"planRef": {"name": "night"}})
ALL = ["app", "mail", *NODES]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[None]:
    """As kubelets tell of them: with the UUIDs of the sim's guests, one of them in capitals, and one of no guest."""
    told = {name: uuid.upper() if name == "node1" else uuid for name, uuid in NODES.items()}
    told["metal"] = "00000000-0000-4000-8000-000000000001"
    for name, uuid in told.items():
        cluster.kubectl("create", "--filename", "-", input=json.dumps(node(name)))
        patch = json.dumps({"status": {"nodeInfo": node_info(uuid)}})
        cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "--patch", patch)
    yield
    cluster.kubectl("delete", "nodes", *told)


def node(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def node_info(uuid: str) -> Object:
    """All its fields are required."""
    rest = ("machineID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion")
    more = ("kubeProxyVersion", "operatingSystem", "architecture")
    return dict.fromkeys(rest + more, "x") | {"systemUUID": uuid}


@pytest.fixture
def ops(cluster: Cluster, nodes: None) -> Iterator[Ops]:
    """The operator, who lets plans of this namespace bring the nodes down."""
    with operators(cluster, SCRIPT, self_last=True) as ops:
        yield ops


@pytest.fixture
def lab(cluster: Cluster, nodes: None) -> Iterator[Lab]:
    """Of an operator who lets no plan do so."""
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def ended(vms: Resources, *phases: str) -> Object:
    return vms.wait_status("tonight", lambda status: status.get("phase") in phases, "powerrun")


def last_tier_begun(status: Object) -> bool:
    tiers = status.get("tiers", [])
    return bool(tiers) and "beganAt" in tiers[-1]


def asked(ops: Ops | Lab) -> set[str]:
    return {name for name in ALL if ops.operations(name)}


def test_the_nodes_go_down_when_all_others_are_off(ops: Ops) -> None:
    ops.vms.apply(PLAN, RUN)
    held = ended(ops.vms, "Held")
    tiers: dict[str, Any] = {tier["name"]: tier for tier in held["tiers"]}
    assert [*tiers] == ["apps", "(others)", "(self)"]
    assert [(vm["vm"], vm["outcome"]) for vm in tiers["(self)"]["vms"]] == [
        ("lab/node1", "GRACEFUL"),
        ("lab/node2", "GRACEFUL"),
    ]
    before = [ops.operations(name)[0].verdict.end_time.ToDatetime(UTC) for name in ("app", "mail")]
    after = [ops.operations(name)[0].create_time.ToDatetime(UTC) for name in NODES]
    assert max(before) <= min(after)
    assert {one.code for one in ops.cluster.audit(ops.user) if one.resource == "nodes"} == {200}


def test_a_controller_that_goes_down_with_its_node_ends_the_run_when_it_is_back(ops: Ops) -> None:
    ops.vms.apply(PLAN, RUN)
    began = ops.vms.wait_status("tonight", last_tier_begun, "powerrun")
    ops.controller.kill()
    for name in NODES:
        assert ops.calls.end(ops.operations(name)[0]).verdict.outcome == pb.OUTCOME_GRACEFUL
    ops.controller.start()
    held = ended(ops.vms, "Held")
    assert (held["ends"], [len(ops.operations(name)) for name in NODES]) == (began["ends"], [1, 1])
    assert [vm["outcome"] for vm in held["tiers"][-1]["vms"]] == ["GRACEFUL", "GRACEFUL"]


def test_a_plan_that_does_not_say_so_takes_nodes_for_vms_like_others(ops: Ops) -> None:
    ops.vms.apply(made("PowerPlan", "night", SPEC), RUN)
    apps, others = ended(ops.vms, "Held")["tiers"]
    assert (apps["name"], {vm["vm"] for vm in others["vms"]}) == ("apps", {"lab/mail", "lab/node1", "lab/node2"})


def test_a_plan_of_another_namespace_is_refused_by_the_field(cluster: Cluster, ops: Ops) -> None:
    with fresh_namespace(cluster) as namespace:
        tenant = Resources(cluster, namespace, ops.controller.output)
        tenant.declare_provider("lab", ops.provider.address)
        tenant.apply(PLAN, RUN)
        (refusal,) = ended(tenant, "Refused")["refusals"]
        assert (refusal["field"], asked(ops)) == ("spec.self", set())
        assert "the controller's operator names this namespace" in refusal["message"]


def test_where_the_operator_lets_no_plan_it_is_refused_and_nothing_asks_for_nodes(cluster: Cluster, lab: Lab) -> None:
    lab.vms.apply(PLAN, RUN)
    (refusal,) = ended(lab.vms, "Refused")["refusals"]
    assert (refusal["field"], asked(lab)) == ("spec.self", set())
    seen = cluster.wait_audit(lambda seen: any(one.subresource == "status" for one in seen), lab.user)
    assert not [one for one in seen if one.resource == "nodes"]
