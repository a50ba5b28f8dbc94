"""What goes wrong in manifests and between the parts is said by file, line and field; the others go on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.controller import Controller
from tests.rigs.process import Provider

SCRIPT = "guests: {web: {shutdown_time: 1s}, deaf: {agent: none, acpi: ignores}}"


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    with Provider("sim", "--script", str(script)) as provider:
        controller = Controller(tmp_path)
        controller.provider(provider.address)
        with controller:
            yield controller


def shut_down(controller: Controller, name: str = "web") -> str:
    controller.vm(name, "OffGraceful")
    status = controller.wait_status(name, lambda status: "lastPowerOff" in status)
    return str(status["lastPowerOff"]["outcome"])


def condition(controller: Controller, name: str, kind: str) -> dict[str, str]:
    status = controller.wait_status(name, lambda status: bool(status.get("conditions")))
    return next(condition for condition in status["conditions"] if condition["type"] == kind)


def test_a_manifest_that_is_not_yaml_is_reported_and_the_others_go_on(controller: Controller) -> None:
    controller.write("torn", "kind: VirtualMachine\nspec: {powerState: [\n")
    assert shut_down(controller) == "GRACEFUL"
    assert "torn.yaml" in controller.output()


def test_a_bad_field_is_reported_by_file_line_and_field(controller: Controller) -> None:
    controller.vm("web", "OffGraceful", '{gracefulShutdownTimeout: "-5s"}')
    controller.vm("deaf", "On")
    controller.wait_status("deaf", lambda status: bool(status.get("conditions")))
    log = controller.output()
    assert "web.yaml" in log
    assert "spec.lifecycle.gracefulShutdownTimeout" in log


def test_a_provider_that_does_not_exist_is_named(controller: Controller) -> None:
    controller.write(
        "web",
        "apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata: {name: web}\n"
        "spec: {providerRef: {name: nowhere}, powerState: OffGraceful}\n",
    )
    reachable = condition(controller, "web", "ProviderReachable")
    assert (reachable["status"], reachable["reason"]) == ("False", "ProviderNotFound")
    assert "nowhere" in reachable["message"]


def test_a_socket_nobody_listens_on_is_named(controller: Controller) -> None:
    controller.provider("unix:///nothing/listens.sock")
    controller.vm("web", "OffGraceful")
    reachable = condition(controller, "web", "ProviderReachable")
    assert reachable["status"] == "False"
    assert "unix:///nothing/listens.sock" in reachable["message"]


def test_an_unknown_vm_is_named(controller: Controller) -> None:
    controller.vm("wbe", "OffGraceful")
    ready = condition(controller, "wbe", "Ready")
    assert ready["status"] == "False"
    assert "wbe" in ready["message"]


def test_a_longer_timeout_extends_the_running_shutdown(controller: Controller) -> None:
    controller.vm("deaf", "OffGraceful", '{gracefulShutdownTimeout: "60s"}')
    before = controller.wait_status("deaf", lambda status: "forceAfter" in (status.get("operation") or {}))
    controller.vm("deaf", "OffGraceful", '{gracefulShutdownTimeout: "90s"}')
    after = controller.wait_status(
        "deaf", lambda status: status["operation"].get("forceAfter") != before["operation"]["forceAfter"]
    )
    assert after["operation"]["id"] == before["operation"]["id"]


def test_off_forces_the_running_shutdown(controller: Controller) -> None:
    controller.vm("deaf", "OffGraceful", '{gracefulShutdownTimeout: "600s"}')
    controller.wait_status("deaf", lambda status: bool(status.get("operation")))
    controller.vm("deaf", "Off")
    after = controller.wait_status("deaf", lambda status: "lastPowerOff" in status)
    assert (after["powerState"], after["lastPowerOff"]["outcome"]) == ("Off", "FORCED")


def test_on_calls_the_running_shutdown_off(controller: Controller) -> None:
    controller.vm("deaf", "OffGraceful", '{gracefulShutdownTimeout: "6s"}')
    controller.wait_status("deaf", lambda status: bool(status.get("operation")))
    controller.vm("deaf", "On")
    after = controller.wait_status("deaf", powered_on)
    assert after["powerState"] == "On"


def powered_on(status: dict[str, Any]) -> bool:
    operation = status.get("operation") or {}
    return bool(operation.get("kind") == "POWER_ON" and operation.get("state") == "SUCCEEDED")


def is_ready(status: dict[str, Any], reason: str) -> bool:
    return any(
        (one["type"], one["status"], one["reason"]) == ("Ready", "True", reason) for one in status.get("conditions", ())
    )


def test_what_is_saved_as_its_manifest_says_is_ready_and_on_resumes_it(controller: Controller) -> None:
    lifecycle = '{gracefulShutdownTimeout: "1s", escalation: Save}'
    controller.vm("deaf", "OffGraceful", lifecycle)
    saved = controller.wait_status("deaf", lambda status: is_ready(status, "Saved"))
    assert (saved["lastPowerOff"]["outcome"], saved["powerState"]) == ("SAVED", "Suspended")
    controller.vm("deaf", "On", lifecycle)
    resumed = controller.wait_status("deaf", lambda status: is_ready(status, "On"))
    assert (resumed["powerState"], resumed["operation"]["kind"]) == ("On", "POWER_ON")
