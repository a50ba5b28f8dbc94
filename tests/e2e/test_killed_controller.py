"""A controller killed in the middle of a shutdown finds the same operation again. Real processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.controller import Controller
from tests.rigs.process import Provider
from tests.rigs.sim import console

SCRIPT = """
guests:
  hooked:
    shutdown_time: 1s
    hooks: [{match: save, takes: 2s, console: "guest hooked: saving"}]
  slow: {shutdown_time: 4s}
  deaf: {agent: none, acpi: ignores, power_off_time: 2s}
"""
HOOKED = '{gracefulShutdownTimeout: "20s", preStop: {exec: {command: [save]}}}'


@dataclass
class Rig:
    controller: Controller
    provider: Provider
    calls: Calls
    world: Path

    def kill_and_start(self) -> None:
        self.controller.kill()
        self.controller.start()

    def operations(self, vm: str) -> list[pb.Operation]:
        return list(self.calls.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    script, world = tmp_path / "script.yaml", tmp_path / "world.db"
    script.write_text(SCRIPT)
    arguments = ("--script", str(script), "--world", str(world), "--allow-guest-exec")
    with Provider("sim", *arguments) as provider, calls(provider.address) as client:
        controller = Controller(tmp_path)
        controller.provider(provider.address)
        with controller:
            yield Rig(controller, provider, client, world)


def test_killed_while_the_guest_goes_down_it_finds_the_same_operation(rig: Rig) -> None:
    rig.controller.vm("slow", "OffGraceful", '{gracefulShutdownTimeout: "20s"}')
    before = rig.controller.wait_status("slow", lambda status: "forceAfter" in (status.get("operation") or {}))
    rig.kill_and_start()
    after = rig.controller.wait_status("slow", lambda status: "lastPowerOff" in status)
    assert after["lastPowerOff"]["outcome"] == "GRACEFUL"
    assert after["operation"]["forceAfter"] == before["operation"]["forceAfter"]
    assert [operation.id for operation in rig.operations("slow")] == [before["operation"]["id"]]


def test_killed_while_a_hook_runs_the_hook_runs_once(rig: Rig) -> None:
    rig.controller.vm("hooked", "OffGraceful", HOOKED)
    rig.controller.wait_status("hooked", lambda status: bool(status.get("operation")))
    rig.kill_and_start()
    after = rig.controller.wait_status("hooked", lambda status: "lastPowerOff" in status)
    assert [hook["state"] for hook in after["lastPowerOff"]["hooks"]] == ["SUCCEEDED"]
    assert console(rig.world, "hooked").count("guest hooked: saving") == 1


def test_killed_while_force_is_used_the_verdict_is_written_down(rig: Rig) -> None:
    rig.controller.vm("deaf", "OffGraceful", '{gracefulShutdownTimeout: "1s"}')
    rig.controller.wait_status("deaf", lambda status: bool(status.get("operation")))
    rig.calls.until_state(rig.operations("deaf")[0], pb.OPERATION_STATE_FORCING)
    rig.kill_and_start()
    after = rig.controller.wait_status("deaf", lambda status: "lastPowerOff" in status)
    assert (after["lastPowerOff"]["outcome"], after["lastPowerOff"]["reason"]) == ("FORCED", "TIMEOUT")
    assert len(rig.operations("deaf")) == 1


def test_both_killed_the_shutdown_goes_on(rig: Rig) -> None:
    rig.controller.vm("slow", "OffGraceful", '{gracefulShutdownTimeout: "20s"}')
    before = rig.controller.wait_status("slow", lambda status: "forceAfter" in (status.get("operation") or {}))
    rig.controller.kill()
    rig.provider.kill()
    rig.controller.start()
    rig.provider.start()
    after = rig.controller.wait_status("slow", lambda status: "lastPowerOff" in status)
    assert after["lastPowerOff"]["outcome"] == "GRACEFUL"
    assert after["lastPowerOff"]["operation"] == before["operation"]["id"]
