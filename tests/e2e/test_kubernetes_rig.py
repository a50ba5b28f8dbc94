"""The Kubernetes rig itself: its API refuses what it should, comes back as it was, and logs who sent each request."""

import json
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.rigs.kubernetes import binaries
from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.server import Server, free_port
from tests.rigs.process import pidfd

POD = """
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec: {containers: [{name: c, image: none, securityContext: {privileged: true}}]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def account(cluster: Cluster) -> Path:
    """The kubeconfig of default/robot, which may read ConfigMaps and nothing else."""
    cluster.kubectl("create", "serviceaccount", "robot")
    cluster.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=configmaps")
    cluster.kubectl("create", "rolebinding", "robot", "--role=reader", "--serviceaccount=default:robot")
    return cluster.service_account("default", "robot")


@pytest.fixture(autouse=True)
def _up(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves the API stopped or frozen to the next."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").start_api()


def note(cluster: Cluster, name: str) -> None:
    cluster.kubectl("create", "configmap", name, "--from-literal=said=yes")


def noted(cluster: Cluster, name: str) -> str:
    return cluster.kubectl("get", "configmap", name, "--output", "jsonpath={.data.said}")


def writes(events: list[AuditEvent]) -> list[tuple[str, str, str]]:
    return [(event.verb, event.resource, event.name) for event in events if event.is_write]


def test_kubectl_is_the_administrator(cluster: Cluster) -> None:
    assert cluster.kubectl("auth", "whoami", "--output", "jsonpath={.status.userInfo.username}") == "admin"
    assert cluster.kubectl("auth", "can-i", "*", "*", "--all-namespaces") == "yes\n"


def test_all_programs_know_their_versions(cluster: Cluster) -> None:
    kubernetes, helm = binaries.versions()
    command = ["bash", "-c", "kubectl version; helm version --template '{{.Version}}'"]
    said = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=True).stdout
    assert f"Client Version: {kubernetes}\n" in said
    assert f"Server Version: {kubernetes}\n" in said
    assert said.endswith(f"\n{helm}")


def test_helm_reaches_the_api(cluster: Cluster) -> None:
    assert cluster.helm("list", "--short") == ""


def test_what_kubectl_refuses_is_an_error_in_its_own_words(cluster: Cluster) -> None:
    with pytest.raises(RuntimeError, match=r'kubectl get nonsense: exit code 1\n.*have a resource type "nonsense"'):
        cluster.kubectl("get", "nonsense")


def test_the_api_is_not_trusted_by_whom_its_authority_is_unknown(cluster: Cluster, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    refused = cluster.try_kubectl("get", "namespaces", "--certificate-authority", str(tmp_path / "ca.pem"))
    assert "certificate signed by unknown authority" in refused.stderr


def test_a_service_account_is_itself(cluster: Cluster, account: Path) -> None:
    said = cluster.kubectl("--kubeconfig", str(account), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert said == "system:serviceaccount:default:robot"


def test_a_service_account_may_do_what_its_role_says(cluster: Cluster, account: Path) -> None:
    note(cluster, "for-the-robot")
    assert "for-the-robot" in cluster.kubectl("--kubeconfig", str(account), "get", "configmaps")


def test_a_service_account_may_do_nothing_else(cluster: Cluster, account: Path) -> None:
    refused = cluster.try_kubectl("--kubeconfig", str(account), "create", "configmap", "from-the-robot")
    assert 'User "system:serviceaccount:default:robot" cannot create resource "configmaps"' in refused.stderr


def test_a_privileged_pod_is_refused_in_a_restricted_namespace(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    refused = cluster.try_kubectl("apply", "--namespace", "strict", "--filename", "-", input=POD)
    assert 'violates PodSecurity "restricted:latest": privileged' in refused.stderr


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_an_api_comes_back_as_it_was(cluster: Cluster, kill: bool) -> None:
    note(cluster, f"before-{kill}".lower())
    cluster.stop_api(kill)
    cluster.start_api()
    assert noted(cluster, f"before-{kill}".lower()) == "yes"


def test_nobody_is_there_while_the_api_is_stopped(cluster: Cluster) -> None:
    cluster.stop_api()
    with pytest.raises(RuntimeError, match=r"connection refused|was refused(.|\n)*the API server is down:"):
        cluster.kubectl("get", "namespaces")


def test_a_frozen_api_says_nothing_until_it_is_thawed(cluster: Cluster) -> None:
    ask = ("get", "namespace", "default", "--request-timeout", "2s")
    cluster.freeze_api()
    assert re.search("(Client.Timeout|context deadline) exceeded", cluster.try_kubectl(*ask).stderr)
    cluster.thaw_api()
    cluster.kubectl(*ask)


def test_a_frozen_api_can_be_stopped(cluster: Cluster) -> None:
    cluster.freeze_api()
    cluster.stop_api()
    cluster.start_api()
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_watch_does_not_hold_up_a_stop(cluster: Cluster) -> None:
    mark = cluster.mark()
    command = ["kubectl", "get", "configmaps", "--watch"]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.DEVNULL) as watcher:
        cluster.wait_audit(lambda events: any(event.stage == "ResponseStarted" for event in events), since=mark)
        cluster.stop_api()  # fails after 30 s
        assert watcher.wait(30) == 0


def test_a_watch_can_begin_with_all_there_is(cluster: Cluster) -> None:
    note(cluster, "listed")
    begin = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    seen = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/default/configmaps?{begin}&timeoutSeconds=1")
    events = [json.loads(line) for line in seen.splitlines()]
    assert "listed" in [event["object"]["metadata"].get("name") for event in events]
    assert events[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_the_audit_log_names_who_wrote_what(cluster: Cluster, account: Path) -> None:
    mark = cluster.mark()
    note(cluster, "audited")
    cluster.try_kubectl("--kubeconfig", str(account), "create", "configmap", "denied")
    robot = "system:serviceaccount:default:robot"
    cluster.wait_audit(lambda events: ("create", "configmaps", "audited") in writes(events), "admin", since=mark)
    cluster.wait_audit(lambda events: any(event.code == 403 for event in events), robot, since=mark)


def test_what_was_before_a_mark_is_left_out(cluster: Cluster) -> None:
    before = cluster.mark()
    note(cluster, "first")
    cluster.wait_audit(lambda events: ("create", "configmaps", "first") in writes(events), since=before)
    mark = cluster.mark()
    note(cluster, "second")
    cluster.wait_audit(lambda events: ("create", "configmaps", "second") in writes(events), since=mark)
    assert writes(cluster.audit("admin", since=mark)) == [("create", "configmaps", "second")]


def test_our_resources_can_be_used_at_once_when_their_crds_are_installed(cluster: Cluster) -> None:
    cluster.install_crds()
    assert cluster.kubectl("get", "vm,vmprov", "--output", "name") == ""


def test_a_controller_leads_by_its_identity_in_the_lease_namespace(cluster: Cluster) -> None:
    cluster.install_crds()
    cluster.kubectl("create", "namespace", "leases")
    leads = ("--for=jsonpath={.spec.holderIdentity}=one", "--namespace", "leases", "--timeout=30s")
    with KubernetesController(cluster.kubeconfig, namespace="default", lease_namespace="leases", identity="one"):
        cluster.kubectl("wait", "lease/vmpower", "--for=create", *leads[1:])
        said = cluster.kubectl("wait", "lease/vmpower", *leads)
    assert said == "lease.coordination.k8s.io/vmpower condition met\n"


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver"])
def test_a_server_that_cannot_start_says_why(program: str, tmp_path: Path) -> None:
    server = Server([str(binaries.programs() / program), "--no-such-flag"], tmp_path / "log", free_port(), "/")
    with pytest.raises(RuntimeError, match=r"ended with \d+:\n(.|\n)*no-such-flag"):
        server.start()


def test_nothing_is_left_of_a_cluster() -> None:
    with ExitStack() as stack:
        with Cluster() as cluster:
            servers = [stack.enter_context(pidfd(pid)) for pid in pids(cluster)]
            assert len(servers) == 2
        assert select.select(servers, [], [], 30)[0] == servers
    assert not cluster.folder.exists()


def pids(cluster: Cluster) -> list[int]:
    """Of all processes that have the cluster's folder in their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(cluster.folder) in (process / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mine:
            found.append(int(process.name))
    return found
