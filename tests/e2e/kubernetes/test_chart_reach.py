"""How people reach a cluster's providers: `vmpower` in the controller's pod, and a port that kubectl forwards.

The chart's programs run as processes; kubectl, the API and the streams are real.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.rigs.kubernetes.chart import CHART, of_kind, pods, render, selects
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.release import ENVIRONMENT, Release
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT
from tests.rigs.watching import wait_for_change

GUESTS = "guests: {web: {shutdown_time: 500ms, count: 3}}"
LAB = "providers[0].name=lab,providers[0].type=sim,providerDefaults.state.ephemeral=true"
FORMS = {"sidecar": LAB, "separate": f"{LAB},form=separate,certManager.enabled=true,providers[0].operators={{alice}}"}
PAGE = ROOT / "docs" / "kubernetes.md"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sim") / "guests.yaml"
    file.write_text(GUESTS)
    return file


@pytest.fixture(scope="module", params=FORMS)
def release(request: pytest.FixtureRequest, cluster: Cluster, script: Path) -> Iterator[Release]:
    """One in each form."""
    request.getfixturevalue("third_party_crds")
    with fresh_namespace(cluster) as namespace:
        values = ("--set", f"watchNamespace={namespace},{FORMS[request.param]}")
        cluster.helm("install", "vmpower", str(CHART), "--namespace", namespace, *values)
        with Release(cluster, namespace, {"provider-lab": [f"--script={script}"]}) as release:
            yield release
        cluster.helm("uninstall", "vmpower", "--namespace", namespace)


def execute(release: Release, *words: str) -> str:
    """What `vmpower WORDS` prints in the controller's container."""
    where = ("--namespace", release.namespace, "deploy/vmpower", "--container=controller")
    return release.cluster.kubectl("exec", *where, "--", "vmpower", *words)


def test_the_command_line_in_the_controllers_pod_lists_the_vms_of_all_providers(release: Release) -> None:
    vms = [row.split()[0] for row in execute(release, "list").splitlines()[1:]]
    assert vms == ["web-0001", "web-0002", "web-0003"]


def test_the_command_line_in_the_controllers_pod_may_change_power(release: Release) -> None:
    assert "web-0001: GRACEFUL" in execute(release, "shutdown", "web-0001")


def test_an_exit_code_there_is_kubectls(release: Release) -> None:
    where = ("--namespace", release.namespace, "deploy/vmpower", "--container=controller")
    done = release.cluster.try_kubectl("exec", *where, "--", "vmpower", "shutdown", "nowhere")
    assert (done.returncode, "nowhere" in done.stderr) == (2, True)


@pytest.mark.parametrize("form", FORMS)
def test_the_network_policies_let_the_controllers_pod_reach_what_the_command_line_there_knows(
    cluster: Cluster, form: str
) -> None:
    objects = render(cluster, "default", "values.yaml", "--set", FORMS[form])
    (config,) = (one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == "vmpower-cli")
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "NetworkPolicy")}
    for name, endpoint in yaml.safe_load(config["data"]["config.yaml"])["providers"].items():
        if endpoint["address"].startswith("unix:"):
            continue
        (pod,) = (pod for pod in pods(objects) if pod["metadata"]["name"] == f"vmpower-{name}")
        let_out = [rule for rule in policies["vmpower"]["egress"] if _leads_to(rule.get("to", ()), pod)]
        assert [port["port"] for rule in let_out for port in rule["ports"]] == [9443]
        (controller,) = (pod for pod in pods(objects) if pod["metadata"]["name"] == "vmpower")
        let_in = [
            rule for rule in policies[f"vmpower-{name}"]["ingress"] if _leads_to(rule.get("from", ()), controller)
        ]
        assert [port["port"] for rule in let_in for port in rule["ports"]] == [9443]


def _leads_to(peers: list[dict[str, dict[str, dict[str, str]]]], pod: dict[str, dict[str, dict[str, str]]]) -> bool:
    return any("podSelector" in peer and selects(peer["podSelector"], pod) for peer in peers)


def recipe(language: str) -> list[str]:
    """The blocks of this language in the page's section about it."""
    section = PAGE.read_text().partition("\n### From your own machine\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def forwarded(release: Release, tmp_path: Path) -> Iterator[list[str]]:
    """The recipe's commands for the provider `lab`, all but the last typed by alice, who has her certificate."""
    port, namespace = free_port(), release.namespace

    def hers(text: str) -> str:
        text = text.replace("kvm1", "lab").replace("--namespace vmpower", f"--namespace {namespace}")
        return text.replace("lab.vmpower.svc", f"lab.{namespace}.svc").replace("9443", str(port), 1)

    files = [f"--from-file={file}" for file in release.certificate("alice").iterdir()]
    release.cluster.kubectl("create", "secret", "generic", "alice", "--namespace", namespace, *files)
    home = tmp_path / ".config" / "vmpower"
    home.mkdir(parents=True)
    _, config = recipe("yaml")
    (home / "config.yaml").write_text(hers(config))
    (commands,) = recipe("sh")
    *first, forward, last = hers(commands).strip().splitlines()
    environment = release.cluster.environment | {"HOME": str(tmp_path)}
    subprocess.run(["bash", "-ec", "\n".join(first)], env=environment, check=True)
    log = tmp_path / "log"
    with log.open("w") as output:
        command = forward.removesuffix(" &").split()
        forwarding = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for_change(tmp_path, lambda: "Forwarding from" in log.read_text(), log.read_text, 30)
        yield last.split()
    finally:
        forwarding.kill()
        forwarding.wait()


@pytest.mark.parametrize("release", ["separate"], indirect=True)
def test_a_forwarded_port_leads_a_person_with_a_certificate_to_a_provider(
    release: Release, forwarded: list[str], tmp_path: Path
) -> None:
    here = ENVIRONMENT | {"HOME": str(tmp_path)}
    done = subprocess.run(forwarded, env=here, capture_output=True, text=True, check=False)
    assert (done.returncode, "web-0002" in done.stdout) == (0, True), done.stderr


@pytest.mark.usefixtures("third_party_crds")
def test_the_pages_certificate_is_one_that_cert_manager_takes(cluster: Cluster, namespace: str) -> None:
    certificate, _ = recipe("yaml")
    text = certificate.replace("namespace: vmpower", f"namespace: {namespace}")
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
