"""What the chart writes for Prometheus' operator and Grafana: the files of deploy/monitoring, and real ports."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.rigs.kubernetes.chart import Object, containers, of_kind, pods, render, selects
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT, Provider
from tests.rigs.prometheus import Prometheus

FOLDER = ROOT / "deploy" / "monitoring"
ALL = "metrics.enabled=true,metrics.podMonitor.enabled=true,metrics.rules.enabled=true,metrics.dashboard.enabled=true"
SEPARATE = ",form=separate,certManager.enabled=true"
SEVERAL = "".join(f",providers[{n}].name=lab{n},providers[{n}].type=sim" for n in range(3))
forms = pytest.mark.parametrize("form", ["", SEPARATE], ids=["sidecar", "separate"])


def rendered(cluster: Cluster, values: str) -> list[Object]:
    return render(cluster, "default", "values.yaml", "--set", values)


def discovered(objects: list[Object]) -> Iterator[dict[str, str]]:
    """What Prometheus' operator has it know of each container: labels of its own, and what the PodMonitor asks for."""
    asked = only(objects, "PodMonitor")["spec"]["podTargetLabels"]
    for pod in pods(objects):
        labels, name = pod["metadata"]["labels"], f"{pod['metadata']['name']}-5f7c9"
        wanted = {re.sub(r"\W", "_", label): labels[label] for label in asked}
        found = {f"pod_label_{re.sub(r'[^a-zA-Z0-9]', '_', label)}": value for label, value in labels.items()}
        for container in pod["spec"]["containers"]:
            known = {
                "namespace": pod["metadata"]["namespace"],
                "pod_name": name,
                "pod_container_name": container["name"],
            }
            hidden = {f"__meta_kubernetes_{label}": value for label, value in (found | known).items()}
            yield wanted | hidden | {"namespace": known["namespace"], "pod": name, "container": container["name"]}


def relabelings(objects: list[Object]) -> list[dict[str, Any]]:
    """Those of the PodMonitor, as the operator writes them into Prometheus' configuration."""
    endpoints = only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    (rules,) = {json.dumps(endpoint["relabelings"]) for endpoint in endpoints}
    return [
        {re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", key): rule[key] for key in rule} for rule in json.loads(rules)
    ]


def only(objects: list[Object], kind: str) -> Any:
    (found,) = of_kind(objects, kind)
    return found


def test_nothing_of_it_is_there_by_default(cluster: Cluster) -> None:
    objects = render(cluster, "default")
    assert of_kind(objects, "PodMonitor", "PrometheusRule") == []
    assert [one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")] == ["vmpower-cli"]


@forms
def test_each_program_is_scraped_at_the_port_where_it_serves_metrics(cluster: Cluster, form: str) -> None:
    objects = rendered(cluster, ALL + SEVERAL + form)
    monitor = only(objects, "PodMonitor")["spec"]
    scraped = {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]}
    assert all(selects(monitor["selector"], pod) for pod in pods(objects))
    for container in containers(objects):
        (port,) = (port for port in container["ports"] if port["name"] in scraped)
        (listen,) = (flag for flag in container["args"] if flag.startswith("--metrics-listen="))
        assert listen.endswith(f":{port['containerPort']}")


@forms
def test_a_provider_is_one_instance_wherever_its_pod_is_and_a_release_can_be_told(cluster: Cluster, form: str) -> None:
    objects = rendered(cluster, ALL + SEVERAL + form)
    address = f"127.0.0.1:{free_port()}"
    prometheus = Prometheus(
        address, rules=FOLDER / "alerts.yaml", labels=list(discovered(objects)), relabel=relabelings(objects)
    )
    with Provider("sim", f"--metrics-listen={address}"), prometheus:
        found = [series["metric"] for series in prometheus.query("up")]
    by_container = {one["container"]: one["instance"] for one in found}
    providers = {f"provider-lab{n}": f"default/vmpower/lab{n}" for n in range(3)}
    assert by_container == providers | {"controller": address}
    assert {one["app_kubernetes_io_instance"] for one in found} == {"vmpower"}


@forms
def test_no_two_programs_of_a_pod_share_a_port(cluster: Cluster, form: str) -> None:
    for pod in pods(rendered(cluster, ALL + SEVERAL + form)):
        ports = [port["containerPort"] for container in pod["spec"]["containers"] for port in container["ports"]]
        assert len(set(ports)) == len(ports)


def test_the_job_has_the_name_that_the_alerts_ask_for_whatever_the_release_is_called(cluster: Cluster) -> None:
    objects = rendered(cluster, f"{ALL},fullnameOverride=power")
    job = {pod["metadata"]["labels"][only(objects, "PodMonitor")["spec"]["jobLabel"]] for pod in pods(objects)}
    asked = re.findall(r'job=~"(.*?)"', (FOLDER / "alerts.yaml").read_text())
    assert asked
    assert all(re.fullmatch(pattern, name) for pattern in asked for name in job)


def test_the_rules_are_those_of_prometheus_on_one_host(cluster: Cluster) -> None:
    rule = only(rendered(cluster, ALL), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((FOLDER / "alerts.yaml").read_text())


def test_the_dashboard_is_the_one_that_is_imported_by_hand(cluster: Cluster) -> None:
    (found,) = (one for one in of_kind(rendered(cluster, ALL), "ConfigMap") if "vmpower.json" in one["data"])
    assert json.loads(found["data"]["vmpower.json"]) == json.loads((FOLDER / "dashboard.json").read_text())


def test_the_dashboard_has_the_label_that_grafanas_sidecar_looks_for(cluster: Cluster) -> None:
    (found,) = (one for one in of_kind(rendered(cluster, ALL), "ConfigMap") if "vmpower.json" in one["data"])
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize(("key", "kind"), [("podMonitor", "PodMonitor"), ("rules", "PrometheusRule")])
def test_a_prometheus_that_selects_by_label_finds_it(cluster: Cluster, key: str, kind: str) -> None:
    objects = rendered(cluster, f"{ALL},metrics.{key}.labels.release=kube-prometheus-stack")
    assert only(objects, kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_only_those_that_are_named_may_scrape(cluster: Cluster) -> None:
    peer = "metrics.from[0].namespaceSelector.matchLabels.team=monitoring"
    for policy in of_kind(rendered(cluster, f"{ALL}{SEPARATE},{peer}"), "NetworkPolicy"):
        rules = [
            rule for rule in policy["spec"].get("ingress", ()) if {"port": 9100, "protocol": "TCP"} in rule["ports"]
        ]
        assert all(rule["from"] == [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}] for rule in rules)
