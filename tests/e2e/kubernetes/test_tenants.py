"""Whose VM it is: an attacker with `create` in her own namespace, a tenant, the operator, each with a real token."""

import base64
from collections.abc import Iterator

import pytest
import trustme

from protos.power.v1 import power_pb2 as pb
from tests.e2e.kubernetes.tenants import API, WRITES, Ops, Person, machine, operators, person
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object, condition
from tests.rigs.kubernetes.server import free_port
from tests.rigs.process import Program

SCRIPT = """
guests:
  web: {shutdown_time: 500ms, count: 9, labels: {team: a}}
  db: {shutdown_time: 500ms, count: 3, labels: {team: b}}
"""
EXEC = {"exec": {"command": ["become-root"]}}
GROUP = "infra.virtrigaud.io"
VMS, PROVIDERS = (GROUP, "virtualmachines", WRITES), (GROUP, "providers", WRITES)


@pytest.fixture(scope="module")
def team_a(cluster: Cluster) -> Iterator[str]:
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def team_b(cluster: Cluster) -> Iterator[str]:
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def ops(cluster: Cluster, team_a: str, team_b: str) -> Iterator[Ops]:
    """Team A may have power over VMs that are labelled as its own; so may namespaces that are labelled as tenants.
    The controller may read two Secrets of team B, where the attacker is."""
    granted = [
        f"{key}[0].namespace={team_b},{key}[0].secrets={{{name}}}"
        for key, name in (("guestCredentials", "guest"), ("tlsSecrets", "mine"))
    ]
    access = [
        {"namespaces": {"names": [team_a]}, "vms": {"labels": {"team": "a"}}, "allow": ["power"]},
        {
            "namespaces": {"selector": {"matchLabels": {"tenant": "yes"}}},
            "vms": {"names": ["db-0003"]},
            "allow": ["power"],
        },
    ]
    with operators(cluster, SCRIPT, *granted, access=access) as ops:
        yield ops


@pytest.fixture(scope="module")
def tenant(cluster: Cluster, ops: Ops, team_a: str) -> Person:
    return person(cluster, team_a, VMS, explain=ops)


@pytest.fixture(scope="module")
def attacker(cluster: Cluster, ops: Ops, team_b: str) -> Person:
    """She may write VirtualMachines, Providers and Secrets of her namespace, and read no Secret."""
    return person(cluster, team_b, VMS, PROVIDERS, ("", "secrets", ["create"]), explain=ops)


def of(ops: Ops) -> Object:
    """The operator's provider, as others name it."""
    return {"name": "lab", "namespace": ops.vms.namespace}


def ready(who: Person, vm: str, reason: str) -> Object:
    return condition(who.vms.wait(vm, lambda state: condition(state, "Ready").get("reason") == reason), "Ready")


def refused(who: Person, provider: str) -> str:
    """Why the controller does not connect to it."""
    state = who.vms.wait(provider, lambda state: condition(state, "Ready").get("reason") == "NotTrusted", kind="vmprov")
    return str(condition(state, "Ready")["message"])


def provider_at(name: str, endpoint: str, tls: Object | None = None) -> Object:
    runtime = {"endpoint": endpoint} | ({"tls": tls} if tls else {})
    return {
        "apiVersion": API,
        "kind": "Provider",
        "metadata": {"name": name},
        "spec": {"type": "sim", "runtime": runtime},
    }


# Somebody else's VMs


def test_who_writes_vms_of_her_own_namespace_becomes_root_in_no_guest_of_somebody_elses_provider(
    ops: Ops, attacker: Person
) -> None:
    attacker.apply(machine("web-0001", "OffGraceful", of(ops), {"preStop": EXEC}))
    assert f"allows namespace {attacker.vms.namespace} nothing" in ready(attacker, "web-0001", "NotAllowed")["message"]
    assert attacker.vms.wait_event("web-0001", "NotAllowed")["type"] == "Warning"
    assert (ops.operations("web-0001"), ops.calls.vm("web-0001").power_state) == ([], pb.POWER_STATE_ON)


@pytest.mark.parametrize("power", ["Off", "OffGraceful", "On"])
def test_who_is_granted_nothing_has_no_power_over_somebody_elses_vms(ops: Ops, attacker: Person, power: str) -> None:
    name = f"of-{power.lower()}"
    attacker.apply(machine(name, power, of(ops), vmName="web-0002"))
    ready(attacker, name, "NotAllowed")
    assert (ops.operations("web-0002"), ops.calls.vm("web-0002").power_state) == ([], pb.POWER_STATE_ON)
    assert "vm" not in attacker.vms.status(name)


def test_a_tenant_has_the_power_that_she_is_granted(ops: Ops, tenant: Person) -> None:
    tenant.apply(machine("web-0003", "OffGraceful", of(ops)))
    ready(tenant, "web-0003", "Off")
    assert [one.verdict.outcome for one in ops.operations("web-0003")] == [pb.OUTCOME_GRACEFUL]


def test_the_operators_provider_knows_for_whom_and_why(ops: Ops, tenant: Person) -> None:
    wanted = machine("web-0008", "OffGraceful", of(ops))
    wanted["metadata"]["annotations"] = {"vmpower/reason": "kernel update"}
    tenant.apply(wanted)
    ready(tenant, "web-0008", "Off")
    (done,) = ops.operations("web-0008")
    resource = f"VirtualMachine {tenant.vms.namespace}/web-0008 (kubectl-client-side-apply)"
    assert (done.requested_by, done.on_behalf_of, done.reason) == ("unix socket", resource, "kernel update")
    verdict = tenant.vms.status("web-0008")["lastPowerOff"]
    assert (verdict["requestedBy"], verdict["onBehalfOf"]) == (done.requested_by, done.on_behalf_of)
    assert verdict["requestReason"] == "kernel update"
    assert tenant.vms.wait_event("web-0008", "GracefulShutdown")["message"].endswith("Reason: kernel update")
    listed = ops.calls.stub.ListOperations(pb.ListOperationsRequest(requested_by=resource))
    assert [one.id for one in listed.operations] == [done.id]


def test_a_tenant_who_is_granted_power_runs_no_program_in_a_guest(ops: Ops, tenant: Person) -> None:
    tenant.apply(machine("web-0004", "OffGraceful", of(ops), {"preStop": EXEC}))
    assert "not exec" in ready(tenant, "web-0004", "NotAllowed")["message"]
    assert ops.operations("web-0004") == []


def test_a_hook_that_is_edited_in_later_runs_neither(ops: Ops, tenant: Person) -> None:
    tenant.apply(machine("web-0005", "On", of(ops)))
    ready(tenant, "web-0005", "On")
    tenant.apply(machine("web-0005", "OffGraceful", of(ops), {"preStop": EXEC}))
    ready(tenant, "web-0005", "NotAllowed")
    assert (ops.operations("web-0005"), ops.calls.vm("web-0005").power_state) == ([], pb.POWER_STATE_ON)


def test_a_tenant_has_no_power_over_vms_of_another_team_and_learns_nothing_of_them(ops: Ops, tenant: Person) -> None:
    tenant.apply(machine("db-0001", "Off", of(ops)))
    tenant.apply(machine("not-there", "Off", of(ops)))
    there, not_there = (ready(tenant, name, "NotAllowed")["message"] for name in ("db-0001", "not-there"))
    assert there.replace("db-0001", "not-there") == not_there
    assert (tenant.vms.status("db-0001")["powerState"], ops.operations("db-0001")) == ("Unknown", [])


def test_a_decision_about_somebody_elses_vm_is_refused(ops: Ops, attacker: Person) -> None:
    attacker.apply(machine("web-0006", "On", of(ops)))
    ready(attacker, "web-0006", "NotAllowed")
    attacker.kubectl("annotate", "vm", "web-0006", "vmpower/decision=force")
    attacker.vms.wait_event("web-0006", "DecisionRefused")
    assert ops.calls.vm("web-0006").power_state == pb.POWER_STATE_ON


def test_a_namespace_is_granted_access_by_its_labels_and_loses_it_with_them(ops: Ops, cluster: Cluster) -> None:
    with fresh_namespace(cluster) as namespace:
        newcomer = person(cluster, namespace, VMS, explain=ops)
        newcomer.apply(machine("db-0003", "On", of(ops)))
        ready(newcomer, "db-0003", "NotAllowed")
        cluster.kubectl("label", "namespace", namespace, "tenant=yes")
        ready(newcomer, "db-0003", "On")
        cluster.kubectl("label", "namespace", namespace, "tenant-")
        ready(newcomer, "db-0003", "NotAllowed")
        newcomer.apply(machine("db-0003", "Off", of(ops)))
        newcomer.vms.wait("db-0003", lambda state: condition(state, "Ready").get("observedGeneration") == 2)
        assert ops.calls.vm("db-0003").power_state == pb.POWER_STATE_ON


def test_tenants_write_no_status(tenant: Person) -> None:
    patch = '{"status": {"vm": {"id": "stolen"}}}'
    done = tenant.try_kubectl("patch", "vm", "web-0003", "--subresource=status", "--type=merge", "--patch", patch)
    assert "forbidden" in done.stderr


# Somebody's own Provider


def test_a_socket_of_the_operators_is_not_reached_through_somebody_elses_provider(ops: Ops, attacker: Person) -> None:
    attacker.apply(provider_at("door", ops.provider.address))
    attacker.apply(machine("web-0007", "Off", {"name": "door"}))
    assert "is in the controller's own pod or host" in refused(attacker, "door")
    ready(attacker, "web-0007", "ProviderNotFound")
    assert ops.calls.vm("web-0007").power_state == pb.POWER_STATE_ON
    assert attacker.vms.wait_event("door", "NotTrusted")["type"] == "Warning"


def test_files_of_the_controllers_prove_nothing_for_somebody_elses_provider(attacker: Person) -> None:
    files = {f"{part}File": f"/etc/vmpower/tls/{part}" for part in ("ca", "cert", "key")}
    done = attacker.try_kubectl("apply", "--filename", "-", document=provider_at("files", "kvm.ops.svc:9443", files))
    assert "files are for manifests in a directory" in done.stderr


def test_the_controllers_certificate_is_not_shown_for_somebody_elses_provider(attacker: Person) -> None:
    attacker.apply(provider_at("borrowed", "kvm.ops.svc:9443", {"controllerCertificate": True}))
    assert "the controller's certificate is for Providers that it trusts" in refused(attacker, "borrowed")


@pytest.fixture(scope="module")
def fake(attacker: Person) -> Iterator[Program]:
    """A gRPC server of the attacker's, with a certificate of her own authority, which the controller connects to."""
    authority, port = trustme.CA(), free_port()
    server, client = authority.issue_cert("0.0.0.0"), authority.issue_cert(common_name="controller")
    values = {
        "ca.crt": authority.cert_pem.bytes(),
        "tls.crt": client.cert_chain_pems[0].bytes(),
        "tls.key": client.private_key_pem.bytes(),
    }
    data = {name: base64.b64encode(value).decode() for name, value in values.items()}
    attacker.kubectl("create", "--filename", "-", document={
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": data,
    })  # fmt: skip
    program = Program("providers.sim", "--allow-guest-exec", "--listen", f"0.0.0.0:{port}")
    files = {"ca": values["ca.crt"], "cert": server.cert_chain_pems[0].bytes(), "key": server.private_key_pem.bytes()}
    for name, value in files.items():
        (program.folder / name).write_bytes(value)
    (program.folder / "script.yaml").write_text("guests: {bait: {shutdown_time: 500ms, count: 2}}")
    program.command += [f"--tls-{flag}={program.folder / name}"
                        for flag, name in (("client-ca", "ca"), ("cert", "cert"), ("key", "key"))]  # fmt: skip
    program.command += ["--operators=cn:controller", f"--state-dir={program.folder / 'state'}",
                        f"--script={program.folder / 'script.yaml'}"]  # fmt: skip
    with program:
        program.wait_output('"serving"')
        attacker.apply(provider_at("fake", f"0.0.0.0:{port}", {"secretRef": {"name": "mine"}}))
        attacker.vms.wait_status("fake", lambda status: status.get("phase") == "Ready", kind="vmprov")
        yield program


@pytest.mark.usefixtures("fake")
def test_a_provider_of_ones_own_is_reached_by_a_secret_beside_it(attacker: Person) -> None:
    attacker.apply(machine("bait-0001", "OffGraceful", {"name": "fake"}, {"preStop": EXEC}))
    ready(attacker, "bait-0001", "Off")


@pytest.mark.usefixtures("fake")
def test_a_secret_that_somebody_may_not_read_is_not_sent_to_a_server_of_hers(attacker: Person) -> None:
    attacker.vms.kubectl(
        "create", "secret", "generic", "guest", "--from-literal=username=root", "--from-literal=password=hunter2"
    )
    assert "forbidden" in attacker.try_kubectl("get", "secret", "guest").stderr
    lifecycle = {"preStop": EXEC, "guestCredentialsSecretRef": {"name": "guest"}}
    attacker.apply(machine("bait-0002", "OffGraceful", {"name": "fake"}, lifecycle))
    said = ready(attacker, "bait-0002", "GuestCredentialsUnavailable")["message"]
    assert "is not one that guests' passwords are given to" in said
    assert attacker.vms.status("bait-0002")["powerState"] == "On"


# The operator's rights


def test_the_controller_is_refused_nothing_that_it_needs_to_see(ops: Ops) -> None:
    denied = [one for one in ops.cluster.audit(ops.user) if one.code in {401, 403}]
    assert denied == []


def test_namespaces_are_watched_and_not_polled(ops: Ops) -> None:
    asked = [one.verb for one in ops.cluster.audit(ops.user) if one.resource == "namespaces"]
    assert (asked.count("list"), "watch" in asked) == (1, True)
