"""With `-n`, what mostly waits runs beside what computes: real guests and a real API server one after the other, for
there may be no more than two cores; beside them unit tests and simulated hypervisors, file by file."""

from typing import Any

from xdist.scheduler import LoadScopeScheduling

WAITING = ("tests/unit/", "tests/e2e/vsphere/", "tests/e2e/proxmox/", "tests/soak/")
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
    return file if file.startswith(WAITING) else "real"
