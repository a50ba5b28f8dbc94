"""With the chart's policy, hooks, decisions and the rest of a spec are a right each: real tokens, a real API."""

from collections.abc import Iterator, Sequence

import pytest
import yaml

from tests.e2e.kubernetes.tenants import Ops, Person, machine, operators, person
from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object
from tests.rigs.polling import poll

SCRIPT = "guests: {web: {shutdown_time: 500ms, count: 9}, deaf: {agent: none, acpi: ignores}}"
EXEC = {"exec": {"command": ["save"]}}
GROUP = "infra.virtrigaud.io"
VMS = (GROUP, "virtualmachines", ["get", "list", "create", "patch", "update"])
PLANS = (GROUP, "powerplans", ["get", "create", "patch", "update"])
SPEC, HOOKS, DECISION = ((GROUP, f"virtualmachines/{part}", ["update"]) for part in ("spec", "hooks", "decision"))
Right = tuple[str, str, Sequence[str]]


@pytest.fixture(scope="module")
def team(cluster: Cluster) -> Iterator[str]:
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def ops(cluster: Cluster, team: str) -> Iterator[Ops]:
    access = [{"namespaces": {"names": [team]}, "allow": ["power", "exec"]}]
    with operators(cluster, SCRIPT, access=access) as ops:
        yield ops


@pytest.fixture(scope="module")
def policy(cluster: Cluster, ops: Ops, team: str) -> Iterator[None]:
    """That of the chart, once the API server asks it."""
    values = ("--set", f"policy.enabled=true,watchNamespace={team}")
    objects = chart.render(cluster, ops.vms.namespace, "values.yaml", *values)
    text = yaml.safe_dump_all(chart.of_kind(objects, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"))
    cluster.kubectl("apply", "-f", "-", input=text)
    nobody = person(cluster, team, VMS)
    try:
        probe = machine("probe", "On", {"name": "lab"})
        asking = ("create", "--dry-run=server", "--filename", "-")
        poll(lambda: nobody.try_kubectl(*asking, document=probe).returncode != 0, 60)
        yield
    finally:
        cluster.kubectl("delete", "-f", "-", input=text)


@pytest.fixture(scope="module")
def provider(ops: Ops) -> Object:
    return {"name": "lab", "namespace": ops.vms.namespace}


pytestmark = pytest.mark.usefixtures("policy")


def denied(who: Person, document: Object) -> str:
    """What kubectl says of a manifest that the API does not take from her; empty where it does."""
    done = who.try_kubectl("apply", "--filename", "-", document=document)
    return done.stderr if done.returncode else ""


def somebody(cluster: Cluster, team: str, ops: Ops, *rights: Right) -> Person:
    return person(cluster, team, VMS, *rights, explain=ops)


@pytest.mark.parametrize("what", ["", "-plans"])
def test_the_policy_has_no_mistake(cluster: Cluster, ops: Ops, what: str) -> None:
    name = f"{ops.vms.namespace}-vmpower{what}"
    (found,) = yaml.safe_load_all(cluster.kubectl("get", "validatingadmissionpolicy", name, "-o", "yaml"))
    assert found.get("status", {}).get("typeChecking", {}).get("expressionWarnings", []) == []


def test_who_may_edit_specs_edits_no_hooks(cluster: Cluster, team: str, ops: Ops, provider: Object) -> None:
    editor = somebody(cluster, team, ops, SPEC)
    assert denied(editor, machine("web-0001", "On", provider)) == ""
    for hooked in ({"preStop": EXEC}, {"postStart": EXEC}, {"guestCredentialsSecretRef": {"name": "guest"}}):
        assert "virtualmachines/hooks" in denied(editor, machine("web-0001", "On", provider, hooked))
    assert denied(editor, machine("web-0001", "OffGraceful", provider)) == ""
    assert "virtualmachines/hooks" in denied(editor, machine("web-0002", "On", provider, {"preStop": EXEC}))


def test_who_may_edit_specs_may_edit_those_with_hooks_of_others(
    cluster: Cluster, team: str, ops: Ops, provider: Object
) -> None:
    owner, editor = somebody(cluster, team, ops, SPEC, HOOKS), somebody(cluster, team, ops, SPEC)
    assert denied(owner, machine("web-0003", "On", provider, {"preStop": EXEC})) == ""
    patch = '{"spec": {"powerState": "OffGraceful"}}'
    editor.kubectl("patch", "vm", "web-0003", "--type=merge", "--patch", patch)
    assert "virtualmachines/hooks" in denied(editor, machine("web-0003", "On", provider))  # takes the hook away


def test_who_may_decide_decides_and_edits_nothing(cluster: Cluster, team: str, ops: Ops, provider: Object) -> None:
    owner, decider = somebody(cluster, team, ops, SPEC, HOOKS), somebody(cluster, team, ops, DECISION)
    owner.apply(machine("deaf", "OffGraceful", provider, {"gracefulShutdownTimeout": "1h"}))
    owner.vms.wait_status("deaf", lambda status: "forceAfter" in status.get("operation", {}))
    power = decider.try_kubectl("patch", "vm", "deaf", "--type=merge", "--patch", '{"spec": {"powerState": "On"}}')
    assert "virtualmachines/spec" in power.stderr
    for wish in ("vmpower/rebind=other", "vmpower/paused=true", "vmpower/on-delete=OffGraceful"):
        assert "virtualmachines/spec" in decider.try_kubectl("annotate", "vm", "deaf", wish).stderr
    decider.kubectl("annotate", "vm", "deaf", "vmpower/decision=force")
    owner.vms.wait_event("deaf", "ForcedOff")
    owner.vms.wait("deaf", lambda state: "vmpower/decision" not in state["metadata"].get("annotations", {}))


def test_who_may_edit_specs_and_hooks_does_not_decide(cluster: Cluster, team: str, ops: Ops, provider: Object) -> None:
    editor = somebody(cluster, team, ops, SPEC, HOOKS)
    editor.apply(machine("web-0004", "On", provider))
    done = editor.try_kubectl("annotate", "vm", "web-0004", "vmpower/decision=force")
    assert "virtualmachines/decision" in done.stderr


def plan(name: str, bring_up: Object, ready: Object | None = None) -> Object:
    tier = {"name": "apps", "members": [{"vms": ["lab/web-0001"]}]} | ({"ready": ready} if ready else {})
    spec = {"budget": {"total": "5m"}, "tiers": [tier], "bringUp": bring_up}
    return {"apiVersion": f"{GROUP}/v1beta1", "kind": "PowerPlan", "metadata": {"name": name}, "spec": spec}


def test_who_may_write_plans_runs_no_programs_in_guests(cluster: Cluster, team: str, ops: Ops) -> None:
    writer, owner = somebody(cluster, team, ops, PLANS), somebody(cluster, team, ops, PLANS, HOOKS)
    asked = {"ready": EXEC}
    assert "virtualmachines/hooks" in denied(writer, plan("asked", asked))
    assert "virtualmachines/hooks" in denied(writer, plan("asked", {}, EXEC))
    assert denied(writer, plan("asked", {"ready": {"tcp": {"port": 22}}})) == ""
    assert denied(owner, plan("asked", asked)) == ""
    patch = '{"spec": {"budget": {"total": "6m"}}}'
    writer.kubectl("patch", "powerplan", "asked", "--type=merge", "--patch", patch)
    assert "virtualmachines/hooks" in denied(writer, plan("asked", {"ready": {"exec": {"command": ["rm"]}}}))


def test_another_namespace_is_asked_nothing(cluster: Cluster, ops: Ops, provider: Object) -> None:
    with fresh_namespace(cluster) as elsewhere:
        writer = somebody(cluster, elsewhere, ops)
        assert denied(writer, machine("web-0005", "On", provider, {"preStop": EXEC})) == ""


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", [("get", "virtualmachines"), ("list", "providers")], [("patch", "virtualmachines")]),
        (
            "edit",
            [("patch", "virtualmachines"), ("update", "virtualmachines/spec"), ("update", "virtualmachines/decision")],
            [("update", "virtualmachines/hooks"), ("create", "providers"), ("patch", "virtualmachines/status")],
        ),
        (
            "admin",
            [("update", "virtualmachines/hooks"), ("create", "providers")],
            [("patch", "virtualmachines/status"), ("patch", "providers/status")],
        ),
    ],
)
def test_roles_for_people_are_added_to_the_clusters_own(
    cluster: Cluster, ops: Ops, role: str, may: list[tuple[str, str]], may_not: list[tuple[str, str]]
) -> None:
    objects = chart.render(cluster, ops.vms.namespace, "values.yaml", "--set", "roles.aggregate=true")
    (found,) = (
        one
        for one in chart.of_kind(objects, "ClusterRole")
        if one["metadata"]["labels"].get(f"rbac.authorization.k8s.io/aggregate-to-{role}") == "true"
    )
    granted = {(verb, each) for rule in found["rules"] for each in rule["resources"] for verb in rule["verbs"]}
    assert set(may) <= granted
    assert not granted & set(may_not)
