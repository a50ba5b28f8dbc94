"""With `-n`, what mostly waits runs beside what computes: real guests one after the other, for there may be no more
than two cores; beside them what uses a real API server, and unit tests and simulated hypervisors, file by file."""

from typing import Any

from xdist.scheduler import LoadScopeScheduling

CLUSTER = ("tests/e2e/kubernetes/", "tests/e2e/test_kubernetes_rig.py")
"""The tests that use an API server."""
GUESTS = (
    "tests/e2e/libvirt_adapter/",
    "tests/e2e/test_pages.py",
    "tests/e2e/test_plan_on_all.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_real_guests.py",
    "tests/e2e/test_rig.py",
    "tests/e2e/test_run.py",
    "tests/e2e/test_run_k8s.py",
    "tests/conformance/",
)
"""The tests that boot guests, or show in `.run/` what those do: there is place for one at a time."""
SIMULATED = ("sim", "vsphere", "proxmox")
"""The conformance suite's rigs without real guests; each is started once."""


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Hands groups of tests to workers, in the order in which they are collected."""

    def __init__(self, config: Any, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """The tests that one worker runs one after the other."""
    file, _, test = nodeid.partition("::")
    rig = test.partition("[")[2].rstrip("]").partition("-")[0]
    if file.startswith("tests/conformance/") and rig in SIMULATED:
        return rig
    if file.startswith(CLUSTER):
        return "cluster"
    return "guests" if file.startswith(GUESTS) else file
