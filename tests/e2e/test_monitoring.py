"""What is in deploy/monitoring: each query and each alert, by a real Prometheus that scrapes real processes."""

import json
import math
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import calls
from tests.rigs.controller import Controller
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT, Provider
from tests.rigs.prometheus import Prometheus, programs

FOLDER = ROOT / "deploy" / "monitoring"
ALERTS = FOLDER / "alerts.yaml"
GUESTS = "{guests: {web: {}, deaf: {agent: none, acpi: ignores}, bare: {agent: none, acpi: none}}}"
VARIABLES = {"$namespace": ".*", "$instance": ".*", "$__range": "5m", "$__rate_interval": "1m"}
"""What Grafana puts into a query."""
AGGREGATION = re.compile(r"\b(?:sum|min|max|avg|count|quantile)\s*(?:by\s*\((.*?)\))?\s*\(")
PLACE = {"cluster", "namespace", "job"}
"""Where a process runs; alerts are routed by it."""
WHOSE = {"instance", "app_kubernetes_io_instance"}
"""A process, or a release on a cluster: what an operator looks after."""


def queries() -> list[str]:
    """All of the dashboard's."""
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def aggregations(query: str) -> list[set[str]]:
    """The labels that each aggregation of a query keeps."""
    return [set(re.findall(r"\w+", labels)) for labels in AGGREGATION.findall(query)]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@dataclass
class Site:
    """A provider, a controller, and a Prometheus that has scraped both before and after VMs went down."""

    targets: dict[str, str]
    prometheus: Prometheus


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    targets = {"provider": f"127.0.0.1:{free_port()}", "controller": f"127.0.0.1:{free_port()}"}
    script = tmp_path_factory.mktemp("sim") / "script.yaml"
    script.write_text(GUESTS)
    with (
        Provider(
            "sim", f"--script={script}", "--allow-guest-exec", f"--metrics-listen={targets['provider']}"
        ) as provider,
        Controller(tmp_path_factory.mktemp("controller")) as controller,
    ):
        controller.kill()
        controller.command.append(f"--metrics-listen={targets['controller']}")
        controller.start()
        with Prometheus(*targets.values(), rules=ALERTS) as prometheus:
            controller.provider(provider.address)
            controller.vm("web", "OffGraceful", '{gracefulShutdownTimeout: "60s"}')
            controller.wait_status("web", lambda status: "lastPowerOff" in status)
            with calls(provider.address) as client:
                request = pb.ShutdownRequest(vm="deaf", timeout=Duration(seconds=1), pre_stop=[hook()])
                client.end(client.stub.Shutdown(request))
            poll(lambda: prometheus.query('vmpower_shutdowns_total{outcome="FORCED", reason="TIMEOUT"} == 1'))
            poll(lambda: prometheus.query('vmpower_controller_virtual_machines{ready="True"} == 1'))
            yield Site(targets, prometheus)


def hook() -> pb.Hook:
    return pb.Hook(exec=pb.ExecHook(command=["true"]))


@pytest.mark.parametrize("query", queries())
def test_a_query_of_the_dashboard_has_data(site: Site, query: str) -> None:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    series = site.prometheus.query(query)
    assert any(not math.isnan(float(one["value"][1])) for one in series)


@pytest.mark.parametrize("process", ["provider", "controller"])
def test_metrics_are_named_as_prometheus_wants_them(site: Site, process: str) -> None:
    with urllib.request.urlopen(f"http://{site.targets[process]}/metrics", timeout=10) as answer:
        checked = promtool("check", "metrics", given=answer.read())
    assert checked.stdout == b""


def test_a_vm_that_was_forced_is_an_increase(site: Site) -> None:
    [series] = site.prometheus.query('sum(increase(vmpower_shutdowns_total{outcome="FORCED"}[5m]))')
    assert float(series["value"][1]) > 0


def test_an_alert_is_about_metrics_that_there_are(site: Site) -> None:
    known = {series["metric"]["__name__"] for series in site.prometheus.query('{__name__=~"vmpower_.+"}')}
    named = {name for rule in alerts() for name in re.findall(r"\bvmpower_\w+", rule["expr"])}
    assert named <= known


def test_a_vm_that_would_be_forced_is_pending(site: Site) -> None:
    """The rules are evaluated: this one holds in the site, and waits for its hour."""
    pending = poll(lambda: site.prometheus.query('ALERTS{alertname="VmpowerWouldBeForced"}'))
    assert {series["metric"]["alertstate"] for series in pending} == {"pending"}


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    tests = Path(__file__).with_name("alerts_test.yaml")
    covered = {
        case["alertname"] for test in yaml.safe_load(tests.read_text())["tests"] for case in test["alert_rule_test"]
    }
    assert covered == {rule["alert"] for rule in alerts()}
    assert promtool("test", "rules", str(tests)).returncode == 0


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_one_process_or_one_release_and_says_where_it_is(rule: dict[str, Any]) -> None:
    for kept in aggregations(rule["expr"]):
        assert kept >= PLACE
        assert len(kept & WHOSE) == 1


@pytest.mark.parametrize("query", [one for one in queries() if re.search("histogram_quantile|max", one)])
def test_no_slow_or_leaderless_one_is_hidden_by_the_others_of_the_dashboard(query: str) -> None:
    assert all(kept & WHOSE for kept in aggregations(query))


@pytest.mark.parametrize("query", queries())
def test_what_is_chosen_on_the_dashboard_counts_in_each_of_its_queries(query: str) -> None:
    selectors = re.findall(r"vmpower_\w+(\{.*?\})?", query)
    assert all('namespace=~"$namespace",instance=~"$instance"' in selector for selector in selectors)


def test_the_configuration_is_one_that_prometheus_takes() -> None:
    assert promtool("check", "config", str(FOLDER / "prometheus.yml")).returncode == 0


def promtool(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([programs() / "promtool", *words], input=given, capture_output=True, check=False)
    print((done.stdout + done.stderr).decode())
    return done
