"""libvirt's states and ours: states, reasons, and what a domain's XML says about shutting it down.

Numbers and their meaning: https://libvirt.org/html/libvirt-libvirt-domain.html (states, reasons, events).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from xml.etree import ElementTree as ET

import libvirt

from providers.core.adapter import VM, Cause, Ended, OffCause, PowerState, Problem, Reason, Signal
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
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: OffCause.HOST,
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: OffCause.CRASHED,
}
"""Why a domain is off, which `Heard` completes. The other reasons (unknown, failed to start, libvirtd's own trouble)
name no cause."""

ENDED_HERE = (
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT,
)
"""Why a domain is off that last ran here. One that is migrated to here may be destroyed or crash before it does."""

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

CRASHES = (libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)
"""The details of a crash that libvirtd was there to see."""

MIGRATED: tuple[int, int] = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
CHANGING_HOSTS: tuple[int, int] = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
PANICS = frozenset[tuple[int, int]](
    {
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_CRASHED),
    }
)
"""States and reasons of a guest that has panicked, and is kept halted or was reset (on_crash)."""

SHUTDOWN_FLAGS = {
    Signal.GUEST_AGENT: libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    Signal.ACPI: libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
}

AGENT_CHANNEL = "org.qemu.guest_agent.0"

RUN_NAMESPACE = "https://vmpower/run/"
"""Of the mark that tells a run, followed by the mark: the namespace of an element in the live domain's metadata, which
libvirt keeps in the state of the running domain alone. Of several, the first counts: libvirt appends."""

JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "it is being started",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "its memory is being saved",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "its memory is being restored",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "it is being migrated to this host",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "it is being migrated to another host",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "a snapshot is being taken",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "a snapshot is being reverted to",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE: "a snapshot is being deleted",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "its memory is being dumped",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "",
}
"""What refuses ACPI while it lasts (VIR_JOB_DEFAULT_MASK in src/hypervisor/domain_job.h); a backup does not
(qemuBackupBegin in src/qemu/qemu_backup.c), nor does a block job. Agents are asked in spite of any of them."""

TIES = {
    "devices/hostdev": "a device of the host's",
    "devices/interface[@type='hostdev']": "a network device of the host's",
    "devices/filesystem/driver[@type='virtiofs']": "a file system of the host's (virtiofs)",
    "devices/shmem": "memory that it shares with others (shmem)",
}
"""What QEMU refuses to save a domain with, and what that is (src/qemu/qemu_migration.c, qemuMigrationSrcIsAllowed)."""

ANOTHER_JOB = "libvirt holds it for another call"

MOVED = (
    "It was moved to another host (migrated, its definition kept here), where it may run; nothing is done to it here. "
    "Its owner acts there, or undefines it here, or starts it here by hand if it runs nowhere."
)
COMING = "It is being migrated to this host, and runs on another one until it is here; ask again then."

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
    run: str = ""
    """Its run: libvirt's number, which libvirtd counts from anew when it starts, and the mark. Empty: it is off, or has
    no mark yet."""
    job: str = ""
    """What refuses ACPI at the moment; empty: nothing does, or it was not asked about."""
    copying: tuple[str, ...] = ()
    """The disks that a block job copies or commits to."""
    tied_by: str = ""
    """The first of its devices whose state is not in its memory (passthrough), so that it cannot be saved; if any."""
    addresses: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        return NATIVE_STATES.get(self.state) is not PowerState.OFF

    def is_as(self, name: str, state: int, reason: int, persistent: bool, saved: bool) -> bool:
        """Whether it is as these facts say, which libvirt tells of all domains at once."""
        own = (self.name, self.state, self.reason, self.persistent, self.saved)
        return own == (name, state, reason, persistent, saved)

    @property
    def moved(self) -> bool:
        """Whether it was migrated to another host, and its definition was kept here."""
        return (self.state, self.reason) == MIGRATED

    @property
    def changing_hosts(self) -> bool:
        """Whether it is halted in a migration, from here or to here."""
        return (self.state, self.reason) == CHANGING_HOSTS

    @property
    def is_here(self) -> bool:
        """Whether it runs here, or libvirt knows that its last run ended here."""
        return not self.changing_hosts if self.runs else self.reason in ENDED_HERE

    @property
    def panicked(self) -> bool:
        """Whether its guest has panicked in this run."""
        return (self.state, self.reason) in PANICS

    @property
    def unmarked(self) -> bool:
        """Whether it runs without a mark and can be given one, which a job that halts it refuses."""
        halted = self.state == libvirt.VIR_DOMAIN_PAUSED and self.reason in _PAUSES and _PAUSES[self.reason][1]
        return self.runs and not (self.run or self.job or halted)


@dataclass(frozen=True, slots=True)
class Heard:
    """What events told of a domain's present run, or of its last one, and no state tells.

    `shutdown`: the detail of its SHUTDOWN event; a QEMU that was ended from the host (SIGTERM) is to the state a guest
    that shut down. `crash`: libvirtd was there when its QEMU crashed; one that starts says the same of every QEMU that
    it does not find again, whatever has become of it. `agent`: its agent was there. `agent_busy`: the agent has another
    command to answer first. `elsewhere`: it was migrated from here, or a migration to here began, and it was not seen
    here since.
    """

    shutdown: int | None = None
    crash: bool = False
    panic: bool = False
    agent: bool = False
    agent_busy: bool = False
    elsewhere: bool = False


NOTHING = Heard()


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
        run=_run(root),
        tied_by=next((what for path, what in TIES.items() if root.find(path) is not None), ""),
        copying=tuple(target.get("dev", "") for target in root.iterfind("devices/disk[mirror]/target")),
    )


def to_vm(domain: Domain, heard: Heard = NOTHING) -> VM:
    """A domain as the VM of the adapter protocol.

    Raises:
        UnknownNativeState
    """
    state = power_state(domain, heard)
    return VM(
        id=domain.id,
        name=domain.name,
        power_state=state,
        ended=_ended(domain, heard) if state is PowerState.OFF else None,
        signals=_signals(domain, heard) if state is PowerState.ON else (),
        problems=_problems(domain, heard, state),
        node=domain.host.node,
        labels={} if domain.persistent else {"persistent": "false"},
        addresses=domain.addresses,
        run_id=domain.run if domain.runs else "",
        crashed=domain.runs and (domain.panicked or heard.panic),
        system_uuid=domain.id,
        saved=state is PowerState.SUSPENDED and domain.saved,
        save_problems=tuple(_save_problems(domain)),
    )


def _save_problems(domain: Domain) -> Iterator[Problem]:
    if not domain.persistent:
        yield Problem("Its memory cannot be saved: libvirt keeps no definition of it (transient) to resume it by.")
    if domain.tied_by:
        yield Problem(f"Its memory cannot be saved: it has {domain.tied_by}, whose state QEMU does not save.")


def power_state(domain: Domain, heard: Heard = NOTHING) -> PowerState:
    """A domain's power; one with a managed save image is suspended to disk, one that was migrated runs elsewhere.

    Raises:
        UnknownNativeState
    """
    try:
        state = NATIVE_STATES[domain.state]
    except KeyError:
        message = f"libvirt reports the state {domain.state} for {domain.name}; vmpower's makers must add it."
        raise UnknownNativeState(message) from None
    if domain.moved or (heard.elsewhere and (domain.changing_hosts or not domain.runs)):
        return PowerState.UNKNOWN
    return PowerState.SUSPENDED if state is PowerState.OFF and domain.saved else state


def agent_of(xml: str) -> Agent:
    """The guest agent's channel in a domain's XML."""
    return _agent(ET.fromstring(xml))  # noqa: S314 - libvirt's own output


def run_of(xml: str) -> str:
    """The run in a domain's XML; empty if it has no mark."""
    return _run(ET.fromstring(xml))  # noqa: S314 - libvirt's own output


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


def _run(root: ET.Element) -> str:
    """Its number, which it has while it runs, and its mark."""
    for element in root.iterfind("metadata/*") if root.get("id") else ():
        namespace = element.tag.removeprefix("{").partition("}")[0]
        if namespace.startswith(RUN_NAMESPACE):
            return f"{root.get('id')}.{namespace.removeprefix(RUN_NAMESPACE)}"
    return ""


def _ended(domain: Domain, heard: Heard) -> Ended | None:
    match OFF_CAUSES.get(domain.reason):
        case OffCause.GUEST if heard.shutdown == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
            return Ended(OffCause.HOST)
        case OffCause.HOST if heard.shutdown == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST:
            return Ended(OffCause.GUEST)  # it had shut down when it was cut
        case OffCause.CRASHED if not heard.crash:
            return None
        case cause:
            return Ended(cause) if cause else None


def _signals(domain: Domain, heard: Heard) -> tuple[Signal, ...]:
    if domain.restarts:
        return ()
    hears = {
        Signal.GUEST_AGENT: domain.agent is Agent.CONNECTED and not heard.agent_busy,
        Signal.ACPI: domain.acpi and not domain.job,
    }
    return tuple(signal for signal in SHUTDOWN_FLAGS if hears[signal])


def _problems(domain: Domain, heard: Heard, state: PowerState) -> tuple[Problem, ...]:
    match state:
        case PowerState.ON:
            return tuple(_obstacles(domain, heard))
        case PowerState.PAUSED:
            return (_pause(domain),)
        case PowerState.SUSPENDED:
            return (_suspension(domain),)
        case PowerState.UNKNOWN:
            if domain.runs:
                return (Problem(COMING, Reason.COMMAND_FAILED, passing=True, causes=(Cause.UNREACHED,)),)
            return (Problem(MOVED, Reason.COMMAND_FAILED, causes=(Cause.UNREACHED,)),)
        case _:
            return ()


def _obstacles(domain: Domain, heard: Heard) -> Iterator[Problem]:
    if domain.restarts:
        message = (
            "Its on_poweroff is restart: a guest that shuts down is started again, so no signal brings it down; "
            "its owner sets on_poweroff to destroy."
        )
        yield Problem(message, Reason.TOOLS_UNAVAILABLE, causes=(Cause.RESTARTS,))
        return
    deaf = not _signals(domain, heard)
    if domain.job and deaf:
        message = f"It cannot be asked while {domain.job}; it is asked when that ends."
        yield Problem(message, Reason.LOCKED, passing=True, causes=(Cause.LOCKED,))
    elif domain.job:
        yield Problem(f"It cannot be asked by ACPI while {domain.job}.", causes=(Cause.LOCKED,))
    if domain.host.qemu:
        yield from _agent_problems(domain, heard)
    for disk in domain.copying:
        message = f"Its disk {disk} is being copied (a block job), which ends with its shutdown."
        yield Problem(message, causes=(Cause.LOCKED,))


def _agent_problems(domain: Domain, heard: Heard) -> Iterator[Problem]:
    match domain.agent:
        case Agent.CONNECTED if not heard.agent_busy:
            return
        case Agent.CONNECTED if not domain.acpi:
            message = "Its guest agent is busy with another command, and it has no ACPI; it is asked when that ends."
            yield Problem(message, Reason.LOCKED, passing=True, causes=(Cause.AGENT_BUSY, Cause.ACPI_MISSING))
            return
        case Agent.CONNECTED:
            missing, cause = "Its guest agent is busy with another command", Cause.AGENT_BUSY
        case Agent.DISCONNECTED if heard.agent and not domain.acpi:
            message = "Its guest agent has left, and it has no ACPI; it is asked when its agent is back."
            causes = (Cause.AGENT_STOPPED, Cause.ACPI_MISSING)
            yield Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True, causes=causes)
            return
        case Agent.DISCONNECTED:
            missing, cause = "Its guest agent is not running", Cause.AGENT_STOPPED
        case _:
            missing, cause = f"It has no channel for a guest agent ({AGENT_CHANNEL})", Cause.AGENT_MISSING
    if domain.acpi:
        yield Problem(f"{missing}; it can be asked by ACPI only.", causes=(cause,))
    else:
        message, causes = f"{missing}, and it has no ACPI: it hears no signal.", (cause, Cause.ACPI_MISSING)
        yield Problem(message, Reason.TOOLS_UNAVAILABLE, causes=causes)


def _pause(domain: Domain) -> Problem:
    if domain.state == libvirt.VIR_DOMAIN_CRASHED:
        message = "It is halted: its guest crashed; its owner looks into it."
        return Problem(message, Reason.PAUSED, causes=(Cause.PAUSED,))
    why, passing = _PAUSES.get(domain.reason, ("its owner resumes it", False))
    return Problem(f"It is paused: {why}.", Reason.PAUSED, passing, causes=(Cause.PAUSED,))


def _suspension(domain: Domain) -> Problem:
    if domain.saved:
        message = "Its memory is saved on disk (managed save); a hard power-off discards it, a start resumes it."
    else:
        message = "Its guest sleeps (suspended to RAM); a start wakes it."
    return Problem(message, Reason.SUSPENDED, causes=(Cause.SUSPENDED,))
