"""All that a VM's affairs take, in a namespace of its own: the sim, a controller with the chart's rights, kubectl.

with open_lab(cluster, "guests: {web: {shutdown_time: 3s}}") as lab:
    lab.vms.declare("web", "OffGraceful")
    lab.vms.wait_status("web", lambda status: "lastPowerOff" in status)
    lab.console("web")
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from protos.power.v1 import power_pb2 as pb
from providers.sim.guest import Guest
from providers.sim.world import World
from tests.rigs import sim
from tests.rigs.calls import Calls, calls
from tests.rigs.kubernetes.account import controller_account, user_of
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Resources
from tests.rigs.process import Provider

LEASE = 4
"""Seconds: the shortest that the controller takes, so that tests of a vanished leader are short."""


@dataclass(frozen=True)
class Lab:
    """`controller` is the first one; `calls` are for looking at the provider past it, `world` at its hypervisor."""

    cluster: Cluster
    vms: Resources
    provider: Provider
    controller: KubernetesController
    calls: Calls
    world: World
    kubeconfig: Path

    @property
    def namespace(self) -> str:
        """Where it all is."""
        return self.vms.namespace

    @property
    def user(self) -> str:
        """The controllers' name in the audit log."""
        return user_of(self.namespace)

    def another_controller(self, identity: str) -> KubernetesController:
        """One that shares the Lease, not yet started."""
        return _controller(self.kubeconfig, self.namespace, identity)

    def operations(self, vm: str) -> list[pb.Operation]:
        """Those of one VM at the provider, newest first."""
        return list(self.calls.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)

    def control(self, *words: str) -> str:
        """Change the sim's world from outside: docs/sim.md."""
        return sim.control(_world_of(self.provider), *words)

    def console(self, vm: str) -> str:
        """What a guest has printed."""
        return self.control("console", vm)

    def guest(self, vm: str) -> Guest:
        """A guest as the sim keeps it."""
        (found,) = self.world.named(vm)
        return found


@contextmanager
def open_lab(cluster: Cluster, script: str, secrets: Sequence[str] = (), identity: str = "first") -> Iterator[Lab]:
    """A lab with the guests of this script and the Provider `lab`; its controller may read these secrets."""
    with ExitStack() as stack:
        namespace = stack.enter_context(fresh_namespace(cluster))
        provider = stack.enter_context(_provider(script))
        kubeconfig = controller_account(cluster, namespace, secrets)
        controller = _controller(kubeconfig, namespace, identity)
        vms = Resources(cluster, namespace, controller.output)
        vms.declare_provider("lab", provider.address)
        stack.enter_context(controller)
        client = stack.enter_context(calls(provider.address))
        world = stack.enter_context(closing(World(_world_of(provider))))
        yield Lab(cluster, vms, provider, controller, client, world, kubeconfig)


def _provider(script: str) -> Provider:
    """The script and the world are in the provider's own folder."""
    provider = Provider("sim", "--allow-guest-exec")
    (provider.folder / "script.yaml").write_text(script)
    provider.command += ["--script", str(provider.folder / "script.yaml"), "--world", str(_world_of(provider))]
    return provider


def _world_of(provider: Provider) -> Path:
    return provider.folder / "world.db"


def _controller(kubeconfig: Path, namespace: str, identity: str) -> KubernetesController:
    """Each on a disk of its own, as pods are."""
    controller = KubernetesController(
        kubeconfig,
        f"--lease-duration={LEASE}s",
        namespace=namespace,
        lease_namespace=namespace,
        identity=identity,
    )
    controller.command += ["--state-dir", str(controller.folder / "state")]
    return controller
