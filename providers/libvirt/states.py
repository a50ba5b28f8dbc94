"""libvirt's states and ours: states, reasons, and what a domain's XML says about shutting it down.

Numbers and their meaning: https://libvirt.org/html/libvirt-libvirt-domain.html (states, reasons, events).
"""

import re
from dataclasses import dataclass
from enum import Enum
from xml.etree import ElementTree as ET

import libvirt

from providers.core.adapter import VM, Ended, OffCause, PowerState, Problem, Reason, Signal
from providers.core.errors import UnknownNativeState

NATIVE_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.ON,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.ON,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.ON,  # on its way down, not off yet
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.PAUSED,  # on_crash=preserve: the machine is there, halted
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.OFF,
}

OFF_CAUSES = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: OffCause.GUEST,
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: OffCause.CRASHED,
}
"""Why a domain is off; the other reasons (unknown, failed to start) name no cause."""

STOP_REASONS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
    # QEMU went without a word (src/qemu/qemu_process.c, end of file on the monitor).
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT,
}
"""A STOPPED event's detail as the reason that the domain's state has from then on."""

SHUTDOWN_FLAGS = {
    Signal.GUEST_AGENT: libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    Signal.ACPI: libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
}

AGENT_CHANNEL = "org.qemu.guest_agent.0"

_RESTARTS = ("restart", "rename-restart")

_PAUSES = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: ("it is being migrated", True),
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: ("it is being migrated", True),
    libvirt.VIR_DOMAIN_PAUSED_SAVE: ("it is being saved", True),
    libvirt.VIR_DOMAIN_PAUSED_DUMP: ("its memory is being dumped", True),
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: ("a snapshot is being taken", True),
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: ("it is starting", True),
    libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN: ("it is shutting down", True),
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: (
        "its disk reports I/O errors; the hypervisor's operator mends the storage and resumes it",
        False,
    ),
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: ("its watchdog fired; its owner looks into it and resumes it", False),
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: ("its guest crashed; its owner looks into it", False),
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: ("its migration failed; the hypervisor's operator recovers it", False),
}
"""Why it is paused, and whether that is expected to end by itself."""


class Agent(Enum):
    """The guest agent's channel."""

    ABSENT = 1
    DISCONNECTED = 2
    CONNECTED = 3


@dataclass(frozen=True, slots=True)
class Host:
    """The host and its driver. `library` is libvirt's version.

    `qemu`: the driver knows guest agents and shutdown flags; others have neither.
    """

    node: str
    library: str
    qemu: bool


@dataclass(frozen=True, slots=True)
class Domain:
    """The properties of a libvirt domain that a shutdown depends on. `state` and `reason` are libvirt's numbers."""

    id: str
    name: str
    state: int
    reason: int
    host: Host
    persistent: bool = True
    saved: bool = False
    acpi: bool = True
    agent: Agent = Agent.ABSENT
    restarts: bool = False
    """Whether a guest that shuts down is started again at once (on_poweroff)."""
    addresses: tuple[str, ...] = ()


def domain(xml: str, state: int, reason: int, *, persistent: bool, saved: bool, host: Host) -> Domain:
    """Read a domain's XML (https://libvirt.org/formatdomain.html)."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    return Domain(
        id=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        state=state,
        reason=reason,
        host=host,
        persistent=persistent,
        saved=saved,
        acpi=not host.qemu or root.find("features/acpi") is not None,
        agent=_agent(root),
        restarts=root.findtext("on_poweroff") in _RESTARTS,
    )


def to_vm(domain: Domain, asked_by_host: bool = False) -> VM:
    """A domain as the VM of the adapter protocol.

    `asked_by_host`: its last SHUTDOWN event said that QEMU was ended from the host (SIGTERM), which the domain's
    own state reports as a shutdown by the guest.

    Raises:
        UnknownNativeState
    """
    state = power_state(domain)
    return VM(
        id=domain.id,
        name=domain.name,
        power_state=state,
        ended=_ended(domain, asked_by_host) if state is PowerState.OFF else None,
        signals=_signals(domain) if state is PowerState.ON else (),
        problems=_problems(domain, state),
        node=domain.host.node,
        labels={} if domain.persistent else {"persistent": "false"},
        addresses=domain.addresses,
    )


def power_state(domain: Domain) -> PowerState:
    """A domain's power; one with a managed save image is suspended to disk.

    Raises:
        UnknownNativeState
    """
    try:
        state = NATIVE_STATES[domain.state]
    except KeyError:
        message = f"libvirt reports the state {domain.state} for {domain.name}; vmpower's makers must add it."
        raise UnknownNativeState(message) from None
    return PowerState.SUSPENDED if state is PowerState.OFF and domain.saved else state


def without_credentials(uri: str) -> str:
    return re.sub("//[^/?#]*@", "//", uri, count=1)


def dotted(version: int) -> str:
    """libvirt's way of packing a version: 9000000 is 9.0.0."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


def _agent(root: ET.Element) -> Agent:
    for target in root.iterfind("devices/channel/target"):
        if target.get("name") == AGENT_CHANNEL:
            return Agent.CONNECTED if target.get("state") == "connected" else Agent.DISCONNECTED
    return Agent.ABSENT


def _ended(domain: Domain, asked_by_host: bool) -> Ended | None:
    cause = OFF_CAUSES.get(domain.reason)
    by = OffCause.HOST if cause is OffCause.GUEST and asked_by_host else cause
    return Ended(by) if by else None


def _signals(domain: Domain) -> tuple[Signal, ...]:
    if domain.restarts:
        return ()
    heard = {Signal.GUEST_AGENT: domain.agent is Agent.CONNECTED, Signal.ACPI: domain.acpi}
    return tuple(signal for signal in SHUTDOWN_FLAGS if heard[signal])


def _problems(domain: Domain, state: PowerState) -> tuple[Problem, ...]:
    match state:
        case PowerState.ON:
            return _obstacles(domain)
        case PowerState.PAUSED:
            return (_pause(domain),)
        case PowerState.SUSPENDED:
            return (_suspension(domain),)
        case _:
            return ()


def _obstacles(domain: Domain) -> tuple[Problem, ...]:
    if domain.restarts:
        message = (
            "Its on_poweroff is restart: a guest that shuts down is started again, so no signal brings it down; "
            "its owner sets on_poweroff to destroy."
        )
        return (Problem(message, Reason.TOOLS_UNAVAILABLE),)
    if domain.agent is Agent.CONNECTED or not domain.host.qemu:
        return ()
    missing = (
        f"It has no channel for a guest agent ({AGENT_CHANNEL})"
        if domain.agent is Agent.ABSENT
        else "Its guest agent is not running"
    )
    if domain.acpi:
        return (Problem(f"{missing}; it can be asked by ACPI only."),)
    return (Problem(f"{missing}, and it has no ACPI: it hears no signal.", Reason.TOOLS_UNAVAILABLE),)


def _pause(domain: Domain) -> Problem:
    if domain.state == libvirt.VIR_DOMAIN_CRASHED:
        return Problem("It is halted: its guest crashed; its owner looks into it.", Reason.PAUSED)
    why, passing = _PAUSES.get(domain.reason, ("its owner resumes it", False))
    return Problem(f"It is paused: {why}.", Reason.PAUSED, passing)


def _suspension(domain: Domain) -> Problem:
    if domain.saved:
        message = "Its memory is saved on disk (managed save); a hard power-off discards it, a start resumes it."
    else:
        message = "Its guest sleeps (suspended to RAM); a start wakes it."
    return Problem(message, Reason.SUSPENDED)
