"""Every command of docs/kubernetes.md, typed from top to bottom: it does what the page shows.

No pod runs here, so after the page has installed the chart its two programs are started as processes: the controller
with the flags and the ServiceAccount that its Deployment names, the sim as the provider.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.page import Example, examples
from tests.rigs.polling import poll
from tests.rigs.process import ROOT, Provider

PAGE = ROOT / "docs" / "kubernetes.md"
GUESTS = """
guests:
  my-vm: {shutdown_time: 1s, boot_time: 500ms}
  my-vm-hooks: {shutdown_time: 1s, hooks: [{match: systemctl stop, takes: 500ms, output: "saved\\n"}]}
  deaf: {agent: none, acpi: ignores}
"""
LOOKS = ("kubectl get", "kubectl events", "kubectl describe")
"""Commands that only look: who is quicker than what they look for looks again."""
PATIENCE = 20.0
"""Seconds until what they look for is there."""
Result = tuple[str, int]


@cache
def page() -> list[Example]:
    return examples(PAGE)


@pytest.fixture(scope="module")
def results(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Result]]:
    """What each command printed, and its exit code."""
    with ExitStack() as stack:
        stack.callback(put_away, cluster)
        install, *others = page()
        found = [result(install, cluster)]
        start_programs(cluster, stack, tmp_path_factory.mktemp("sim"))
        yield found + [result(example, cluster) for example in others]


def start_programs(cluster: Cluster, stack: ExitStack, folder: Path) -> None:
    script = folder / "guests.yaml"
    script.write_text(GUESTS)
    world = str(folder / "world.db")
    provider = stack.enter_context(Provider("sim", "--allow-guest-exec", "--script", str(script), "--world", world))
    endpoint = json.dumps({"spec": {"runtime": {"endpoint": provider.address}}})
    cluster.kubectl("patch", "vmprov", "lab", "--type", "merge", "--patch", endpoint)
    account = cluster.service_account("vmpower", "vmpower")
    stack.enter_context(KubernetesController(account, *flags(cluster, provider.address), identity="vmpower-0"))


def flags(cluster: Cluster, socket: str) -> list[str]:
    """Those of the chart, but for what every start has anyway, the port, which may be somebody's here, and the socket,
    which is in no pod."""
    deployment = json.loads(cluster.kubectl("get", "deployment", "vmpower", "-n", "vmpower", "-o", "json"))
    (container,) = (one for one in deployment["spec"]["template"]["spec"]["containers"] if one["name"] == "controller")
    chosen = [flag for flag in container["args"] if not flag.startswith(("--kubernetes", "--health-listen"))]
    return [flag.replace("unix:///run/vmpower/lab/grpc.sock", socket) for flag in chosen]


def result(example: Example, cluster: Cluster) -> Result:
    results: list[Result] = []

    def done() -> bool:
        results.append(run(example.command, cluster))
        return not example.command.startswith(LOOKS) or example.is_matched_by(results[-1][0])

    with suppress(TimeoutError):
        poll(done, PATIENCE)
    return results[-1]


def run(command: str, cluster: Cluster) -> Result:
    shell = ["bash", "-c", f"{{ {command}\n}} 2>&1"]
    done = subprocess.run(shell, cwd=ROOT, env=cluster.environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout, done.returncode


def put_away(cluster: Cluster) -> None:
    """Also what a page leaves that stops half-way."""
    ours = json.dumps({"metadata": {"finalizers": None}})
    for left in cluster.kubectl("get", "vm", "-o", "name").split():
        cluster.kubectl("patch", left, "--type", "merge", "--patch", ours)
        cluster.kubectl("delete", left)
    cluster.try_kubectl("delete", "secret", "web-guest", "--ignore-not-found")
    for release, namespace in (("vmpower", "vmpower"), ("beside", "beside")):
        if cluster.helm("list", "--namespace", namespace, "--short"):
            cluster.helm("uninstall", release, "--namespace", namespace)
    names = ("virtualmachines.infra.vmpower", "providers.infra.vmpower")
    cluster.try_kubectl("delete", "crd", *names, "--ignore-not-found")


def _title(number: int) -> str:
    return f"{number + 1}-{'-'.join(page()[number].command.split()[:3])}"


@pytest.mark.parametrize("number", range(len(page())), ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(number: int, results: list[Result]) -> None:
    example, (printed, status) = page()[number], results[number]
    assert example.is_matched_by(printed), printed
    assert (status == 0) is ("is invalid" not in example.shown)
