"""Manifests as people have them, written for another controller of the same resources, do here what they say."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.rigs.controller import Controller
from tests.rigs.process import Provider

SCRIPT = """
guests:
  drained: {shutdown_time: 1s, addresses: [127.0.0.1]}
  web:
    shutdown_time: 1s
    hooks: [{match: save all, takes: 1s, console: saved, output: "saved\\n"}]
"""
ELSEWHERE = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: Provider
metadata: {name: lab}
spec:
  type: libvirt
  endpoint: qemu+ssh://kvm1.example/system
  credentialSecretRef: {name: login}
  runtime: {mode: Remote, image: "registry.example/provider:v1", service: {port: 9443}}
"""
THREE = '{preStop: {snapshot: {name: before}, httpGet: {port: 1}, exec: {command: [save, all]}, timeout: "5s"}}'


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    with Provider("sim", "--allow-guest-exec", "--script", str(tmp_path / "script.yaml")) as provider:
        yield provider


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with Controller(tmp_path) as controller:
        yield controller


def ready(status: dict[str, Any]) -> dict[str, str]:
    return next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})


def test_a_provider_that_does_not_say_where_it_is_says_what_to_write(controller: Controller) -> None:
    controller.write("provider", ELSEWHERE)
    status = controller.wait_status("lab", lambda status: bool(ready(status)), "Provider")
    assert (status["phase"], ready(status)["reason"]) == ("NoEndpoint", "NoEndpoint")
    assert "runtime: {endpoint: kvm1.example:9443" in ready(status)["message"]


def test_a_vm_of_such_a_provider_says_so_too(controller: Controller) -> None:
    controller.write("provider", ELSEWHERE)
    controller.vm("web", "OffGraceful")
    assert ready(controller.wait_status("web", lambda status: bool(ready(status))))["reason"] == "NoEndpoint"


def test_such_a_provider_works_once_its_endpoint_is_written(controller: Controller, provider: Provider) -> None:
    controller.write("provider", ELSEWHERE)
    controller.vm("web", "OffGraceful")
    controller.wait_status("web", lambda status: bool(ready(status)))
    controller.write("provider", ELSEWHERE.replace("{mode:", f'{{endpoint: "{provider.address}", mode:'))
    assert controller.wait_status("web", lambda status: "lastPowerOff" in status)["phase"] == "Off"


def test_several_handlers_in_one_hook_run_in_the_order_exec_http_get_snapshot(
    controller: Controller, provider: Provider
) -> None:
    controller.provider(provider.address)
    controller.vm("web", "OffGraceful", THREE)
    verdict = controller.wait_status("web", lambda status: "lastPowerOff" in status)["lastPowerOff"]
    ran, called, taken = verdict["hooks"]
    assert (ran["state"], ran["output"]) == ("SUCCEEDED", "saved\n")
    assert (called["state"], "no address" in called["output"]) == ("FAILED", True)
    assert (taken["state"], verdict["outcome"]) == ("SUCCEEDED", "GRACEFUL")


class Drain(BaseHTTPRequestHandler):
    """Answers 204 to every GET, and notes its path."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_http_hook_without_a_host_calls_the_vm(controller: Controller, provider: Provider) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Drain) as server:
        threading.Thread(target=server.serve_forever).start()
        controller.provider(provider.address)
        controller.vm(
            "drained", "OffGraceful", f"{{preStop: {{httpGet: {{port: {server.server_port}, path: /drain}}}}}}"
        )
        verdict = controller.wait_status("drained", lambda status: "lastPowerOff" in status)["lastPowerOff"]
        server.shutdown()
    (hook,) = verdict["hooks"]
    assert (hook["state"], hook["exitCode"], Drain.paths) == ("SUCCEEDED", 204, ["/drain"])


def test_an_empty_hook_is_none(controller: Controller, provider: Provider) -> None:
    controller.provider(provider.address)
    controller.vm("web", "OffGraceful", "{preStop: {}, postStart: {}}")
    assert not controller.wait_status("web", lambda status: "lastPowerOff" in status)["lastPowerOff"].get("hooks")
