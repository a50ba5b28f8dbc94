"""`make run-k8s`: the four guests of `make run`, on a Kubernetes API, as people see it: with kubectl.

Everything is real: etcd and kube-apiserver of our own, the chart's rights and no others for the controller, guests of
a libvirtd of our own (or of the sim, with `--hypervisor sim`). What it leaves is in `.run/`; nothing keeps running.
"""

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console

from examples.report import Verdict, report
from examples.stage import GUESTS, MANIFESTS, RUN, controller, provider, set_up
from examples.story import follow_shutdowns, tell_forecast
from tests.rigs.kubernetes.account import controller_account
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.resources import Resources
from tests.rigs.process import ROOT

NAMESPACE = "default"


def main() -> None:
    """Show it all; exit with 1 if a guest got no verdict."""
    chosen, console = set_up(__doc__)
    with chosen(console) as hypervisor, provider(hypervisor, console) as address, _cluster(console) as cluster:
        hypervisor.boot()
        asyncio.run(tell_forecast(address, console))
        vms, shell = Resources(cluster, NAMESPACE), partial(_shell, cluster, console)
        with controller(_controller(cluster), "--kubernetes", console):
            shell(f"kubectl apply {' '.join(f'-f examples/{name}.yaml' for name in MANIFESTS)}")
            recorded = asyncio.to_thread(vms.wait_all, GUESTS, lambda vm: "lastPowerOff" in vm.get("status", {}))
            asyncio.run(follow_shutdowns(address, recorded, console))
            console.print()
            verdicts: dict[str, Verdict | None] = {name: vms.status(name)["lastPowerOff"] for name in GUESTS}
            consoles = {name: hypervisor.console(name).splitlines() for name in GUESTS}
            _look_around(shell)
    sys.exit(report(RUN, verdicts, consoles, console))


@contextmanager
def _cluster(console: Console) -> Iterator[Cluster]:
    with Cluster() as cluster:
        cluster.install_crds()
        console.print("kubernetes  our own etcd and kube-apiserver, with our CRDs")
        yield cluster


def _controller(cluster: Cluster) -> KubernetesController:
    account = controller_account(cluster, NAMESPACE)
    return KubernetesController(account, namespace=NAMESPACE, lease_namespace=NAMESPACE, identity="controller-0")


def _shell(cluster: Cluster, console: Console, command: str) -> None:
    """Type a command as a person who has kubectl would, and print what it says; CalledProcessError if it fails."""
    console.print(f"$ {command}", style="bold", markup=False, soft_wrap=True)
    done = subprocess.run(  # noqa: S603 - our own commands, as the transcript shows them
        ["/bin/sh", "-c", command], cwd=ROOT, env=cluster.environment, check=True, capture_output=True, text=True
    )
    console.print(done.stdout.rstrip(), markup=False, soft_wrap=True)
    console.print()


def _look_around(shell: Callable[[str], None]) -> None:
    """What there is to see, and one that is started again."""
    shell("kubectl get vm,vmprov")
    events = "kubectl get events --sort-by=.metadata.name -o custom-columns="
    shell(f"{events}TYPE:.type,REASON:.reason,VM:.involvedObject.name,MESSAGE:.message")
    shell("kubectl get vm web -o jsonpath='{.status.lastPowerOff}' | python3 -m json.tool")
    start = shlex.quote('{"spec": {"powerState": "On"}}')
    shell(f"kubectl patch vm legacy --type merge -p {start}")
    shell("kubectl wait vm legacy --for=jsonpath='{.status.powerState}'=On --timeout=60s")
    shell("kubectl get vm legacy")


if __name__ == "__main__":
    main()
