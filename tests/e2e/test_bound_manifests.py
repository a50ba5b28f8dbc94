"""A manifest decides about its own VM and about no other one, whatever is edited in the directory."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs import sim
from tests.rigs.calls import Calls, calls
from tests.rigs.controller import Controller
from tests.rigs.process import Provider

SCRIPT = "guests: {web: {shutdown_time: 1s}, deaf: {agent: none, acpi: ignores}}"
LONG = '{gracefulShutdownTimeout: "1h"}'


@dataclass(frozen=True)
class Here:
    """A controller with the Provider `lab`, and another hypervisor with VMs of the same names and ids."""

    controller: Controller
    provider: Provider
    calls: Calls
    elsewhere: Calls
    world: Path

    def lead(self, vm: str, provider: str, power: str = "OffGraceful", name: str = "") -> None:
        """Write a manifest for `vm` whose providerRef stands in line 6."""
        self.controller.write(
            name or vm,
            f"apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata:\n  name: {name or vm}\nspec:\n"
            f"  providerRef: {{name: {provider}}}\n  vmName: {vm}\n  powerState: {power}\n"
            '  lifecycle: {gracefulShutdownTimeout: "2s"}\n',
        )

    def operations(self, vm: str) -> list[pb.Operation]:
        return list(self.calls.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    providers = [Provider("sim", "--world", str(tmp_path / f"{name}.db")) for name in ("lab", "other")]
    for each in providers:
        (each.folder / "script.yaml").write_text(SCRIPT)
        each.command += ["--script", str(each.folder / "script.yaml")]
    lab, other = providers
    controller = Controller(tmp_path)
    with lab, other, calls(lab.address) as client, calls(other.address) as elsewhere:
        controller.provider(lab.address)
        text = (controller.manifests / "provider.yaml").read_text()
        controller.write("other", text.replace("name: lab", "name: other").replace(lab.address, other.address))
        with controller:
            yield Here(controller, lab, client, elsewhere, tmp_path / "lab.db")


def ready(controller: Controller, name: str, reason: str) -> dict[str, Any]:
    """The condition Ready once this is its reason."""

    def found(status: dict[str, Any]) -> dict[str, Any]:
        return next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})

    return found(controller.wait_status(name, lambda status: found(status).get("reason") == reason))


def test_an_edit_of_the_provider_in_mid_shutdown_is_refused_and_cuts_no_other_machine(here: Here) -> None:
    here.lead("deaf", "lab")
    here.controller.wait_status("deaf", lambda status: "vm" in status and status["phase"] == "ShuttingDown")
    here.lead("deaf", "other")
    here.controller.wait_status("deaf", lambda status: "lastPowerOff" in status)
    here.controller.wait_output('"field": "spec.providerRef"')
    assert '"line": 6' in here.controller.output()
    assert here.elsewhere.vm("deaf").power_state == pb.POWER_STATE_ON


def test_a_provider_that_is_led_elsewhere_in_mid_shutdown_cuts_no_machine_there(here: Here) -> None:
    here.lead("deaf", "lab")
    here.controller.wait_status("deaf", lambda status: "forceAfter" in (status.get("operation") or {}))
    text = (here.controller.manifests / "other.yaml").read_text()
    here.controller.write("provider", text.replace("name: other", "name: lab"))
    ready(here.controller, "deaf", "Replaced")
    assert here.elsewhere.vm("deaf").power_state == pb.POWER_STATE_ON


def test_two_files_that_name_one_vm_do_not_power_cycle_it(here: Here) -> None:
    here.lead("web", "lab", "On")
    ready(here.controller, "web", "On")
    here.lead("web", "lab", "OffGraceful", name="rival")
    assert "default/web" in ready(here.controller, "rival", "Conflict")["message"]
    assert here.operations("web") == []


def test_another_vm_under_the_same_name_is_left_alone_until_it_is_rebound(here: Here) -> None:
    here.controller.vm("web", "On")
    ready(here.controller, "web", "On")
    sim.control(here.world, "remove", "web")
    sim.control(here.world, "add", "web", "id=another", "power=off")
    ready(here.controller, "web", "Replaced")
    assert here.operations("another") == []
    manifest = (here.controller.manifests / "web.yaml").read_text()
    here.controller.write("web", manifest.replace("{name: web}", "{name: web, annotations: {vmpower/rebind: another}}"))
    ready(here.controller, "web", "On")


def test_removing_a_manifest_in_mid_shutdown_gives_the_shutdown_up(here: Here) -> None:
    here.controller.vm("deaf", "OffGraceful", LONG)
    here.controller.wait_status("deaf", lambda status: status.get("phase") == "ShuttingDown")
    (here.controller.manifests / "deaf.yaml").unlink()
    (operation,) = here.operations("deaf")
    assert here.calls.end(operation).state == pb.OPERATION_STATE_CANCELLED
    assert here.calls.vm("deaf").power_state == pb.POWER_STATE_ON


def test_a_paused_manifest_leaves_its_vm_alone(here: Here) -> None:
    here.controller.vm("web", "On")
    text = (here.controller.manifests / "web.yaml").read_text()
    paused = text.replace("{name: web}", '{name: web, annotations: {vmpower/paused: "true"}}')
    here.controller.write("web", paused.replace("powerState: On", "powerState: OffGraceful"))
    ready(here.controller, "web", "LeftAlone")
    assert here.operations("web") == []


def test_a_frozen_provider_is_noticed_within_ten_seconds(here: Here) -> None:
    here.controller.vm("web", "On")
    ready(here.controller, "web", "On")
    began = time.monotonic()
    here.provider.freeze()
    try:
        ready(here.controller, "web", "ProviderUnreachable")
        noticed = time.monotonic() - began
    finally:
        here.provider.thaw()
    assert noticed <= 10
