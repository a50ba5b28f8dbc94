"""The two manifests of the feature's description, and the promises that it makes beside them."""

from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object
from tests.rigs.process import ROOT

EXAMPLES = ROOT / "deploy" / "examples"
SCRIPT = """
guests:
  my-vm: {shutdown_time: 1s}
  my-vm-hooks:
    shutdown_time: 1s
    hooks: [{match: systemctl stop (\\S+), takes: 1s, console: 'stopped \\1', output: "application state saved\\n"}]
  deaf: {agent: none, acpi: ignores}
  drifting: {shutdown_time: 500ms, boot_time: 500ms}
"""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def apply(lab: Lab, example: str) -> None:
    lab.vms.kubectl("apply", "--filename", str(EXAMPLES / example))


def went_down(status: Object) -> bool:
    return status.get("phase") == "Off" and "lastPowerOff" in status


def test_the_basic_example_goes_down_gracefully(lab: Lab) -> None:
    apply(lab, "basic.yaml")
    verdict = lab.vms.wait_status("my-vm", went_down)["lastPowerOff"]
    assert (verdict["outcome"], verdict["signal"]) == ("GRACEFUL", "GUEST_AGENT")
    assert lab.console("my-vm").endswith("guest my-vm: powering off\n")


def test_the_advanced_example_runs_its_hook_and_goes_down_gracefully(lab: Lab) -> None:
    apply(lab, "advanced.yaml")
    verdict = lab.vms.wait_status("my-vm-hooks", went_down)["lastPowerOff"]
    assert (verdict["outcome"], verdict["timeoutSeconds"]) == ("GRACEFUL", 120)
    assert [(hook["state"], hook["exitCode"], hook["output"]) for hook in verdict["hooks"]] == [
        ("SUCCEEDED", 0, "application state saved\n")
    ]


def test_the_hook_of_the_advanced_example_runs_before_the_guest_is_asked(lab: Lab) -> None:
    apply(lab, "advanced.yaml")
    lab.vms.wait_status("my-vm-hooks", went_down)
    assert lab.console("my-vm-hooks").splitlines()[1:] == [
        "stopped my-application",
        "guest my-vm-hooks: agent asked for shutdown",
        "guest my-vm-hooks: powering off",
    ]


def test_kubectl_get_vm_shows_them(lab: Lab) -> None:
    for name, example in (("my-vm", "basic.yaml"), ("my-vm-hooks", "advanced.yaml")):
        apply(lab, example)
        lab.vms.wait_status(name, went_down)
    table = [line.split()[:-1] for line in lab.vms.kubectl("get", "vm", "my-vm", "my-vm-hooks").splitlines()]
    assert table == [
        ["NAME", "DESIRED", "STATE", "PHASE", "VERDICT", "REASON", "READY", "PAUSED"],
        ["my-vm", "OffGraceful", "Off", "Off", "GRACEFUL", "True"],
        ["my-vm-hooks", "OffGraceful", "Off", "Off", "GRACEFUL", "True"],
    ]


def test_a_deaf_guest_is_forced_at_the_timeout_that_was_written(lab: Lab) -> None:
    lab.vms.declare("deaf", "OffGraceful", {"gracefulShutdownTimeout": "5s"})
    verdict = lab.vms.wait_status("deaf", went_down)["lastPowerOff"]
    assert (verdict["outcome"], verdict["reason"], verdict["timeoutSeconds"]) == ("FORCED", "TIMEOUT", 5)
    assert 5 <= verdict["durationSeconds"] < 6


def test_a_vm_that_somebody_switches_on_by_hand_is_brought_down_again(lab: Lab) -> None:
    lab.vms.declare("drifting", "OffGraceful")
    first = lab.vms.wait_status("drifting", went_down)
    lab.control("on", "drifting")
    second = lab.vms.wait_status(
        "drifting", lambda status: went_down(status) and status["lastPowerOff"] != first["lastPowerOff"]
    )
    assert (second["lastPowerOff"]["outcome"], second["operation"]["attempt"]) == ("GRACEFUL", 2)
