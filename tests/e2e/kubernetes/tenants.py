"""A cluster with an operator, who runs one controller for all namespaces, and people with rights in their own alone."""

import json
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from protos.power.v1 import power_pb2 as pb
from providers.sim.world import World
from tests.rigs.calls import Calls, calls
from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.account import KINDS
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object, Resources
from tests.rigs.process import Provider

LEASE = "--lease-duration=4s"


@dataclass(frozen=True)
class Person:
    """Somebody with a token: `kubeconfig` is hers, `vms` are for looking at her namespace as the administrator."""

    cluster: Cluster
    vms: Resources
    kubeconfig: Path

    def try_kubectl(self, *args: str, document: Object | None = None) -> "subprocess.CompletedProcess[str]":
        """kubectl with her token, in her namespace."""
        as_her = ("--kubeconfig", str(self.kubeconfig), "--namespace", self.vms.namespace)
        return self.cluster.try_kubectl(*as_her, *args, input=json.dumps(document) if document else None)

    def kubectl(self, *args: str, document: Object | None = None) -> str:
        """The same, which succeeds."""
        done = self.try_kubectl(*args, document=document)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, document: Object) -> None:
        """Create it, or make it what it is here, with her token."""
        self.kubectl("apply", "--filename", "-", document=document)


@dataclass(frozen=True)
class Ops:
    """The operator's side. `calls` are for looking at the provider past the controller."""

    cluster: Cluster
    vms: Resources
    provider: Provider
    controller: KubernetesController
    calls: Calls
    world: World

    @property
    def user(self) -> str:
        """The controller's name in the audit log."""
        return f"system:serviceaccount:{self.vms.namespace}:vmpower"

    def operations(self, vm: str) -> list[pb.Operation]:
        """Those of one VM at the operator's provider, newest first."""
        return list(self.calls.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)


@contextmanager
def operators(
    cluster: Cluster, script: str, *values: str, access: Sequence[Object] = (), self_last: bool = False
) -> Iterator[Ops]:
    """The operator with a provider `lab` in a namespace that others may not write to, and a controller that has the
    rights of the chart with these values; with `self_last` plans of this namespace may bring the nodes down."""
    with ExitStack() as stack:
        namespace = stack.enter_context(fresh_namespace(cluster))
        provider = Provider("sim", "--allow-guest-exec")
        (provider.folder / "script.yaml").write_text(script)
        world = provider.folder / "world.db"
        provider.command += ["--script", str(provider.folder / "script.yaml"), "--world", str(world)]
        stack.enter_context(provider)
        values += ("controller.selfLast=true",) if self_last else ()
        given = [word for value in values for word in ("--set", value)]
        rights = chart.of_kind(chart.render(cluster, namespace, "values.yaml", *given), *KINDS)
        cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(rights))
        stack.callback(cluster.kubectl, "delete", "-f", "-", input=yaml.safe_dump_all(rights))
        account = cluster.service_account(namespace, "vmpower")
        flags = [f"--self-namespace={namespace}"] if self_last else []
        controller = KubernetesController(account, LEASE, *flags, lease_namespace=namespace, identity="ops")
        controller.command += ["--state-dir", str(controller.folder / "state")]
        vms = Resources(cluster, namespace, controller.output)
        spec = {"type": "sim", "runtime": {"endpoint": provider.address}, "access": list(access)}
        vms.apply({"apiVersion": API, "kind": "Provider", "metadata": {"name": "lab"}, "spec": spec})
        stack.enter_context(controller)
        client = stack.enter_context(calls(provider.address))
        seen = stack.enter_context(closing(World(world)))
        yield Ops(cluster, vms, provider, controller, client, seen)


API = "infra.virtrigaud.io/v1beta1"
WRITES = ["get", "list", "create", "patch", "update"]


def person(
    cluster: Cluster, namespace: str, *rules: tuple[str, str, Sequence[str]], explain: Ops | None = None
) -> Person:
    """Somebody who may do these things in this namespace: API group, resource, verbs."""
    name = f"person-{secrets.token_hex(3)}"
    role = [{"apiGroups": [group], "resources": [resource], "verbs": [*verbs]} for group, resource, verbs in rules]
    meta = {"name": name, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": role},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    output = explain.controller.output if explain else str
    return Person(cluster, Resources(cluster, namespace, output), cluster.service_account(namespace, name))


def machine(name: str, power: str, provider: Object, lifecycle: Object | None = None, **spec: object) -> Object:
    """A VirtualMachine of any provider."""
    wanted = {"providerRef": provider, "powerState": power, "lifecycle": lifecycle or {}, **spec}
    return {"apiVersion": API, "kind": "VirtualMachine", "metadata": {"name": name}, "spec": wanted}
