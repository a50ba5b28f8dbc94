"""Every command of docs/kubernetes.md, typed from top to bottom: it does what the page shows.

No container runs here, so after the page has installed the chart its programs are started as processes, with the flags
that the Deployment names: tests/rigs/kubernetes/release.py.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from functools import cache

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.release import Release
from tests.rigs.page import Example, examples
from tests.rigs.polling import poll
from tests.rigs.process import ROOT

pytestmark = pytest.mark.timeout(300)  # CRDS_GO_WITHIN, and what each page takes
PAGE = ROOT / "docs" / "kubernetes.md"
GUESTS = """
guests:
  my-vm: {shutdown_time: 1s, boot_time: 500ms}
  my-vm-hooks: {shutdown_time: 1s, hooks: [{match: systemctl stop, takes: 500ms, output: "saved\\n"}]}
  deaf: {agent: none, acpi: ignores}
"""
LOOKS = ("kubectl get", "kubectl events", "kubectl describe", "kubectl wait --for=condition=Established")
"""Commands that only look: who is quicker than what they look for looks again."""
DECIDES = "kubectl annotate vm deaf"
"""Refused, and typed again, while the decision before has not been taken: people type more slowly."""
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
        script = tmp_path_factory.mktemp("sim") / "guests.yaml"
        script.write_text(GUESTS)
        more = {"controller": ["--identity=vmpower-0"], "provider-lab": ["--allow-guest-exec", f"--script={script}"]}
        release = stack.enter_context(Release(cluster, "vmpower", more))
        for example in others:
            with release.test_pod() if example.command.startswith("helm test") else nullcontext():
                found.append(result(example, cluster))
        yield found


def result(example: Example, cluster: Cluster) -> Result:
    results: list[Result] = []

    def done() -> bool:
        results.append(run(example.command, cluster))
        return not example.command.startswith((*LOOKS, DECIDES)) or example.is_matched_by(results[-1][0])

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
    cluster.kubectl("delete", "powerruns.infra.virtrigaud.io,powerplans.infra.virtrigaud.io", "--all")
    for left in cluster.kubectl("get", "vm", "-o", "name").split():
        cluster.kubectl("patch", left, "--type", "merge", "--patch", ours)
        cluster.kubectl("delete", left)
    cluster.try_kubectl("delete", "secret", "web-guest", "--ignore-not-found")
    for release, namespace in (("vmpower", "vmpower"), ("beside", "beside")):
        if cluster.helm("list", "--namespace", namespace, "--short"):
            cluster.helm("uninstall", release, "--namespace", namespace)
    names = (f"{each}.infra.vmpower" for each in ("virtualmachines", "providers", "powerplans", "powerruns"))
    cluster.delete_crds(*names)


def _title(number: int) -> str:
    return f"{number + 1}-{'-'.join(page()[number].command.split()[:3])}"


@pytest.mark.parametrize("number", range(len(page())), ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(number: int, results: list[Result]) -> None:
    example, (printed, status) = page()[number], results[number]
    assert example.is_matched_by(printed), printed
    assert (status == 0) is ("is invalid" not in example.shown)
