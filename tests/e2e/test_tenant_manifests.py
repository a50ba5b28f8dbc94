"""Whose VM it is, in a directory: namespaces and `spec.access` count there too, and so does a list of Providers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.controller import Controller
from tests.rigs.process import Provider

SCRIPT = "guests: {web: {shutdown_time: 500ms}, db: {shutdown_time: 500ms}}"
VM = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: NAME}
spec:
  providerRef: {name: lab, namespace: ops}
  powerState: OffGraceful
  lifecycle: {preStop: {exec: {command: [become-root]}}, guestCredentialsSecretRef: {name: guest}}
"""
LAB = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: Provider
metadata: {name: lab, namespace: ops}
spec:
  type: sim
  runtime: {endpoint: "ENDPOINT"}
"""
ACCESS = """
  access:
  - {namespaces: {names: [default]}, vms: {names: [web]}, allow: [power, exec]}
"""


@pytest.fixture
def lab() -> Iterator[Provider]:
    provider = Provider("sim", "--allow-guest-exec")
    (provider.folder / "script.yaml").write_text(SCRIPT)
    provider.command += ["--script", str(provider.folder / "script.yaml")]
    with provider:
        yield provider


@pytest.fixture
def client(lab: Provider) -> Iterator[Calls]:
    with calls(lab.address) as client:
        yield client


@pytest.fixture
def controller(tmp_path: Path, lab: Provider) -> Iterator[Controller]:
    """Not yet started; it has the secret default/guest."""
    controller = Controller(tmp_path)
    folder = tmp_path / "secrets" / "default" / "guest"
    folder.mkdir(parents=True)
    (folder / "username").write_text("root")
    (folder / "password").write_text("hunter2")
    controller.command += ["--secrets-dir", str(tmp_path / "secrets")]
    controller.write("lab", LAB.replace("ENDPOINT", lab.address))
    for name in ("web", "db"):
        controller.write(name, VM.replace("NAME", name))
    yield controller
    controller.close()


def ready(controller: Controller, name: str, reason: str) -> dict[str, Any]:
    """The condition Ready once this is its reason."""

    def found(status: dict[str, Any]) -> dict[str, Any]:
        return next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})

    return found(controller.wait_status(name, lambda status: found(status).get("reason") == reason))


def operations(client: Calls, vm: str) -> list[pb.Operation]:
    return list(client.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)


def test_a_provider_of_another_namespace_does_nothing_until_its_access_says_so(
    controller: Controller, lab: Provider, client: Calls
) -> None:
    controller.start()
    ready(controller, "web", "NotAllowed")
    assert operations(client, "web") == []
    controller.write("lab", LAB.replace("ENDPOINT", lab.address) + ACCESS)
    ready(controller, "web", "Off")
    ready(controller, "db", "NotAllowed")
    assert operations(client, "db") == []


def test_a_socket_of_no_provider_that_is_named_is_not_connected_to(
    controller: Controller, lab: Provider, client: Calls
) -> None:
    controller.command += ["--trusted-providers", "ops/lab=unix:///run/another.sock"]
    controller.write("lab", LAB.replace("ENDPOINT", lab.address) + ACCESS)
    controller.start()
    controller.wait_output("is for Providers of the controller's namespace")
    assert operations(client, "web") == []
