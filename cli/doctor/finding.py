"""One thing that is wrong, or deserves a look."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cli.errors import ExitCode


class Level(StrEnum):
    """Whether a shutdown would not go as wanted for it."""

    PROBLEM = "PROBLEM"
    WARNING = "WARNING"


class Check(StrEnum):
    """What was found, for programs. Those of VMs that are not here are the contract's causes (`power.v1.Cause`)."""

    # the way to the provider
    SOCKET_MISSING = "SOCKET_MISSING"
    SOCKET_PERMISSION = "SOCKET_PERMISSION"
    FOLDER_PERMISSION = "FOLDER_PERMISSION"
    NOT_LISTENING = "NOT_LISTENING"
    HOST_UNKNOWN = "HOST_UNKNOWN"
    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    NO_ANSWER = "NO_ANSWER"
    REFUSED = "REFUSED"
    # TLS
    TLS_MISSING = "TLS_MISSING"
    TLS_FILES = "TLS_FILES"
    TLS_KEY = "TLS_KEY"
    TLS_FAILED = "TLS_FAILED"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    CERTIFICATE_NOT_YET_VALID = "CERTIFICATE_NOT_YET_VALID"
    CERTIFICATE_NAME = "CERTIFICATE_NAME"
    CERTIFICATE_CA = "CERTIFICATE_CA"
    CERTIFICATE_ENDS_SOON = "CERTIFICATE_ENDS_SOON"
    OWN_CERTIFICATE_EXPIRED = "OWN_CERTIFICATE_EXPIRED"
    OWN_CERTIFICATE_REFUSED = "OWN_CERTIFICATE_REFUSED"
    # the provider
    READER_ONLY = "READER_ONLY"
    GUEST_EXEC_DISABLED = "GUEST_EXEC_DISABLED"
    JOURNAL_FAILED = "JOURNAL_FAILED"
    CLOCK = "CLOCK"
    # its hypervisor
    HYPERVISOR_UNREACHABLE = "HYPERVISOR_UNREACHABLE"
    HYPERVISOR_LOGIN = "HYPERVISOR_LOGIN"
    HYPERVISOR_CERTIFICATE = "HYPERVISOR_CERTIFICATE"
    HYPERVISOR_PERMISSION = "HYPERVISOR_PERMISSION"
    HYPERVISOR_CLOCK = "HYPERVISOR_CLOCK"
    PRIVILEGE_MISSING = "PRIVILEGE_MISSING"
    # its VMs
    VM_UNKNOWN = "VM_UNKNOWN"
    VM_UNCLEAR = "VM_UNCLEAR"
    NOT_GRACEFUL = "NOT_GRACEFUL"
    AGENT_MISSING = "AGENT_MISSING"
    ACPI_MISSING = "ACPI_MISSING"


@dataclass(frozen=True)
class Finding:
    """`what` is wrong, `why` it matters, `who` acts, by which `commands`. `vm` is a VM's name; empty: it is about the
    provider. `provider` is empty where there is only one."""

    check: str
    level: Level
    what: str
    why: str
    who: str
    commands: tuple[str, ...] = ()
    provider: str = ""
    vm: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"commands": list(self.commands)}


def exit_code(findings: list[Finding]) -> ExitCode:
    """FOUND if there is a problem; warnings alone are as wanted."""
    return ExitCode.FOUND if any(each.level is Level.PROBLEM for each in findings) else ExitCode.WANTED
