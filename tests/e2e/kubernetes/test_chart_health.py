"""`helm test`: a pod of the chart's own image asks every program of the release for its health.

Its command runs as a process, and so do the programs that it asks; the verdict is Helm's own.
"""

import json
from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.chart import CHART, VALUES, containers, of_kind, pods, render, selects
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.release import Release


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Release]:
    with fresh_namespace(cluster) as namespace:
        values = f"watchNamespace={namespace},providerDefaults.state.ephemeral=true"
        cluster.helm("install", "vmpower", str(CHART), "--namespace", namespace, "--set", values)
        with Release(cluster, namespace) as release:
            yield release
        cluster.helm("uninstall", "vmpower", "--namespace", namespace)


def helm_test(release: Release) -> str:
    """What `helm test` says."""
    with release.test_pod():
        return release.cluster.helm("test", "vmpower", "--namespace", release.namespace, "--timeout=60s")


@pytest.mark.parametrize("values", VALUES)
def test_it_asks_each_program_at_the_port_where_it_tells_its_health(cluster: Cluster, values: str) -> None:
    objects = render(cluster, "default", values)
    (test,) = of_kind(objects, "Pod")
    services = {f"{one['metadata']['name']}.default.svc": one["spec"] for one in of_kind(objects, "Service")}
    asked = []
    for address in test["spec"]["containers"][0]["args"]:
        host, _, number = address.partition(":")
        (port,) = (port for port in services[host]["ports"] if port["port"] == int(number))
        (pod,) = (pod for pod in pods(objects) if selects({"matchLabels": services[host]["selector"]}, pod))
        (program,) = (
            one for one in pod["spec"]["containers"] if one["readinessProbe"]["grpc"]["port"] == port["targetPort"]
        )
        asked.append(program["name"])
    assert sorted(asked) == sorted(one["name"] for one in containers(objects))


@pytest.mark.parametrize("values", VALUES)
def test_its_pod_may_reach_them_where_all_else_is_forbidden(cluster: Cluster, values: str) -> None:
    objects = render(cluster, "default", values)
    (test,) = of_kind(objects, "Pod")
    (policy,) = (one["spec"] for one in of_kind(objects, "NetworkPolicy") if selects(one["spec"]["podSelector"], test))
    (rule,) = (rule for rule in policy["egress"] if "to" in rule)
    let = {port["port"] for port in rule["ports"]}
    assert {int(address.partition(":")[2]) for address in test["spec"]["containers"][0]["args"]} == let
    assert all(selects(rule["to"][0]["podSelector"], pod) for pod in pods(objects))


def test_a_release_that_serves_passes(release: Release) -> None:
    assert "Phase:          Succeeded" in helm_test(release)


def test_a_release_with_a_provider_that_does_not_fails_and_its_pod_says_which(release: Release) -> None:
    release.programs["provider-sim"].kill()
    with pytest.raises(RuntimeError, match="vmpower-test failed"):
        helm_test(release)
    pod = json.loads(release.cluster.kubectl("get", "pod", "vmpower-test", "-n", release.namespace, "--output=json"))
    said = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    assert f"{release.places[f'vmpower.{release.namespace}.svc:9441']}: UNAVAILABLE" in said
    assert said.count("\n") == 1
