"""The contract's and the manifests' words, as enumerations.

Those of the specs are spelled as people write them in manifests; those that come from providers bear the
short names of the contract (`SIGNAL_ACPI` is `ACPI`). What a newer provider says and this controller does
not know is UNSPECIFIED, and never taken for Off or for an end.
"""

from enum import StrEnum


class DesiredPower(StrEnum):
    """What an owner wants. OFF_GRACEFUL is a way to go down; the power state that satisfies it is OFF."""

    ON = "On"
    OFF = "Off"
    OFF_GRACEFUL = "OffGraceful"


class Escalation(StrEnum):
    """What happens at force_after to a VM that still runs."""

    FORCE = "Force"
    NEVER = "Never"
    ASK = "Ask"


class FailurePolicy(StrEnum):
    """What a hook's failure does to the operation."""

    CONTINUE = "Continue"
    ABORT = "Abort"


class Signal(StrEnum):
    """One way of asking the guest."""

    GUEST_AGENT = "GUEST_AGENT"
    VMWARE_TOOLS = "VMWARE_TOOLS"
    ACPI = "ACPI"
    INIT = "INIT"


class PowerState(StrEnum):
    """A VM's power as its hypervisor reports it; the values are what status shows."""

    UNSPECIFIED = "Unknown"
    ON = "On"
    OFF = "Off"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"


class Kind(StrEnum):
    """What was asked for."""

    UNSPECIFIED = "UNSPECIFIED"
    POWER_ON = "POWER_ON"
    POWER_OFF = "POWER_OFF"
    SHUTDOWN = "SHUTDOWN"
    REBOOT = "REBOOT"


class State(StrEnum):
    """Where an operation stands."""

    UNSPECIFIED = "UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING_HOOKS = "RUNNING_HOOKS"
    WAITING_FOR_GUEST = "WAITING_FOR_GUEST"
    AWAITING_DECISION = "AWAITING_DECISION"
    FORCING = "FORCING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether the operation has ended."""
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}
