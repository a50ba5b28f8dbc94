"""The words of manifests, as people write them there."""

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
    SAVE = "Save"


class SaveFallback(StrEnum):
    """What happens instead to a VM whose memory cannot be saved."""

    FORCE = "Force"
    NEVER = "Never"


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
