"""Manifests that were written for another controller of these resources do on a cluster what they say."""

from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

SCRIPT = """
guests:
  web: {shutdown_time: 1s, hooks: [{match: save all, output: "saved\\n"}]}
  db: {shutdown_time: 1s}
"""
RUNTIME: Object = {"mode": "Remote", "image": "registry.example/provider:v1", "service": {"port": 9443}}
ELSEWHERE: Object = {
    "apiVersion": "infra.virtrigaud.io/v1beta1",
    "kind": "Provider",
    "metadata": {"name": "kvm"},
    "spec": {
        "type": "libvirt",
        "endpoint": "qemu+ssh://kvm1.example/system",
        "credentialSecretRef": {"name": "login"},
        "runtime": RUNTIME,
    },
}
SEVERAL: Object = {
    "preStop": {
        "snapshot": {"name": "before"},
        "httpGet": {"port": 1, "path": "/drain"},
        "exec": {"command": ["save", "all"]},
    },
    "postStart": {},
}


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def ready(status: Object) -> Object:
    return next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})


def test_a_provider_without_an_endpoint_says_what_to_write_and_keeps_its_fields(lab: Lab) -> None:
    lab.vms.apply(ELSEWHERE)
    told = ready(lab.vms.wait_status("kvm", lambda status: bool(ready(status)), kind="vmprov"))
    assert (told["status"], told["reason"]) == ("False", "NoEndpoint")
    assert "write its gRPC target there, as in runtime: {endpoint: kvm1.example:9443" in told["message"]
    assert lab.vms.get("kvm", "vmprov")["spec"]["runtime"] == RUNTIME


def test_a_vm_of_a_provider_without_an_endpoint_says_so_too(lab: Lab) -> None:
    lab.vms.apply(ELSEWHERE)
    spec = {"providerRef": {"name": "kvm"}, "powerState": "OffGraceful", "classRef": {"name": "small"}}
    lab.vms.apply(ELSEWHERE | {"kind": "VirtualMachine", "metadata": {"name": "db"}, "spec": spec})
    lab.vms.wait_status("db", lambda status: ready(status).get("reason") == "NoEndpoint")


def test_several_handlers_in_one_hook_run_in_order(lab: Lab) -> None:
    lab.vms.declare("web", "OffGraceful", SEVERAL)
    verdict = lab.vms.wait_status("web", lambda status: "lastPowerOff" in status)["lastPowerOff"]
    assert [(hook["name"], hook["state"]) for hook in verdict["hooks"]] == [
        ("hook-1", "SUCCEEDED"),
        ("hook-2", "FAILED"),
        ("hook-3", "SUCCEEDED"),
    ]
    assert (verdict["hooks"][0]["output"], verdict["outcome"]) == ("saved\n", "GRACEFUL")
