"""The Adapter protocol: what one hypervisor must be able to say and do, and the VM as the rest of the provider sees it.

An adapter speaks one hypervisor's dialect and nothing more. It never sleeps, retries, escalates or
judges: `shutdown.py` does, once, for all of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn, Protocol, runtime_checkable

from providers.core.errors import Unsupported
from providers.core.lanes import Lanes


class PowerState(StrEnum):
    """A VM's power. Whatever a hypervisor reports beyond these raises `UnknownNativeState`.

    UNKNOWN: neither on nor off, as far as can be told here: the VM's host does not answer, or the VM was migrated to
    a host that this provider does not see.
    """

    ON = "ON"
    OFF = "OFF"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    UNKNOWN = "UNKNOWN"


class OffCause(StrEnum):
    """Who ended the last run of a VM that is off, where the hypervisor knows."""

    GUEST = "GUEST"
    HOST = "HOST"
    CRASHED = "CRASHED"


class Signal(StrEnum):
    """One way of asking the guest."""

    GUEST_AGENT = "GUEST_AGENT"
    VMWARE_TOOLS = "VMWARE_TOOLS"
    ACPI = "ACPI"
    INIT = "INIT"
    """A container's first process is told to halt."""


class Escalation(StrEnum):
    """What happens at force_after to a VM that still runs."""

    FORCE = "FORCE"
    NEVER = "NEVER"
    ASK = "ASK"
    SAVE = "SAVE"
    """Its memory is saved, and it is stopped."""


class Reason(StrEnum):
    """Why power was cut, or why it would have been."""

    TIMEOUT = "TIMEOUT"
    TOOLS_UNAVAILABLE = "TOOLS_UNAVAILABLE"
    COMMAND_FAILED = "COMMAND_FAILED"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    LOCKED = "LOCKED"
    QUESTION_PENDING = "QUESTION_PENDING"
    PREEMPTED = "PREEMPTED"
    REQUESTED = "REQUESTED"
    HOOK_FAILED = "HOOK_FAILED"


class Cause(StrEnum):
    """What a problem comes from; power.proto says of each what it means."""

    AGENT_MISSING = "AGENT_MISSING"
    AGENT_STOPPED = "AGENT_STOPPED"
    AGENT_BUSY = "AGENT_BUSY"
    AGENT_UNKNOWN = "AGENT_UNKNOWN"
    AGENT_OUTDATED = "AGENT_OUTDATED"
    ACPI_MISSING = "ACPI_MISSING"
    RESTARTS = "RESTARTS"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    LOCKED = "LOCKED"
    HA = "HA"
    MANAGED = "MANAGED"
    QUESTION = "QUESTION"
    UNREACHED = "UNREACHED"


@dataclass(frozen=True, slots=True)
class Problem:
    """One obstacle to a graceful shutdown.

    `reason` None is a warning: a shutdown would still be graceful. `passing` marks what is expected
    to end by itself (a backup's lock, tools that are still starting) and is waited for until
    force_after; any other obstacle that leaves the guest deaf escalates at once. `causes`: all that it
    comes from.
    """

    message: str
    reason: Reason | None = None
    passing: bool = False
    causes: tuple[Cause, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Ended:
    """How the last run of a VM that is off ended, as far as the hypervisor tells.

    `by`: who ended it. `reason`: why the hypervisor cut the power by itself, as `send_signal` had told it to; `by` is
    HOST then. `after`: how long after the guest was asked, by the hypervisor's clock, where it does not tell by whom.
    """

    by: OffCause | None = None
    reason: Reason | None = None
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a `DelegatingAdapter` does for one VM.

    `revocable`: it keeps the deadline that it is handed, and gives it back. `always_forced`: why it cuts the power at
    the deadline whatever the escalation is, and gives nothing back; empty: it does not. `own_timeout`: how long it lets
    the guest take where the request names no timeout; None: it has none.
    """

    revocable: bool = True
    always_forced: str = ""
    own_timeout: timedelta | None = None

    @property
    def keeps_deadline(self) -> bool:
        """Whether the hypervisor cuts this VM's power at the deadline, if it is told so."""
        return self.revocable or bool(self.always_forced)


@dataclass(frozen=True, slots=True)
class VM:
    """A virtual machine as the hypervisor reports it now.

    `signals` is what the guest can hear at this moment, best first; empty unless `power_state` is ON.
    `ended` is None while the VM runs and where the hypervisor does not tell. `refused` is why
    this VM takes no operations at all (a template, a fault tolerance secondary); empty: it does.
    `delegation` is None where the hypervisor keeps no deadlines. `run_id` tells its present run (from its start until
    it is off) from every other run of it, also after the provider or the hypervisor was restarted; a reboot by the
    guest is the same run. Empty: it does not run, or the hypervisor does not tell. `crashed`: the guest of this run has
    panicked, though the VM is kept, or was reset, by its hypervisor. `system_uuid` is what its virtual firmware gives
    its guest; empty: it has none, or the hypervisor does not tell. `saved`: its memory is on disk and it runs nowhere;
    `power_state` is SUSPENDED then. `save_problems`: what keeps its memory from being saved, as far as the hypervisor
    tells beforehand.
    """

    id: str
    name: str
    power_state: PowerState
    ended: Ended | None = None
    signals: tuple[Signal, ...] = ()
    problems: tuple[Problem, ...] = ()
    refused: str = ""
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    """Its IP addresses, as far as its hypervisor has assigned them itself."""
    guest_addresses: tuple[str, ...] = ()
    """Those that its guest says it has, as far as `get` learns them without asking the guest."""
    aliases: tuple[str, ...] = ()
    """What else it may be called by, beside id and name: its path in the hypervisor's inventory."""
    runs_programs: bool = True
    """Whether an agent that hears signals runs programs too; one that just starts may not yet."""
    delegation: Delegation | None = None
    run_id: str = ""
    crashed: bool = False
    system_uuid: str = ""
    saved: bool = False
    save_problems: tuple[Problem, ...] = ()

    @property
    def graceful(self) -> bool:
        """Whether a shutdown now would go by the guest's own will, as far as is known. What is off, or refuses
        operations, has no such shutdown before it."""
        return bool(self.signals) and not self.refused and not any(problem.reason for problem in self.problems)

    @property
    def off_cause(self) -> OffCause | None:
        """Who ended its last run; None while it runs and where the hypervisor does not tell."""
        return self.ended.by if self.ended else None

    @property
    def always_forced(self) -> str:
        """Why a shutdown, once it was asked for, ends with force at its deadline whatever is decided; empty: it does
        not."""
        return self.delegation.always_forced if self.delegation else ""


@dataclass(frozen=True, slots=True)
class Listed:
    """Every VM there is; the first thing a watch yields, and again after it lost track."""

    vms: tuple[VM, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One VM, new or different."""

    vm: VM


@dataclass(frozen=True, slots=True)
class Removed:
    """A VM that is not here any more, which says nothing of whether it runs: it may have been taken out of the
    inventory, or moved. An adapter that knows that it went off (a transient domain) yields `Changed` with it first."""

    vm_id: str


Change = Listed | Changed | Removed


@dataclass(frozen=True, slots=True)
class Grace:
    """How long the guest has, for a hypervisor that keeps the deadline by itself: then it carries out `escalation`.

    `timeout` is what is left until `force_after`; None: the request names none, and the hypervisor's own
    (`Delegation.own_timeout`) holds.
    """

    force_after: datetime
    escalation: Escalation
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GuestCredentials:
    """A login in the guest; never logged, never written to disk."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class GuestExit:
    """How a program in the guest ended. `output` is stdout followed by stderr."""

    exit_code: int
    output: bytes = b""


LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
"""The exit codes that there are: 32 bits with a sign."""


def exit_code(code: int) -> int:
    """In 32 bits with a sign. A Windows status, which has none (0xC0000005), is the same number as %ERRORLEVEL% there;
    what has more bits is no exit code, and must not look like success either."""
    signed = code - (1 << 32) if HIGHEST < code < 1 << 32 else code
    return max(LOWEST, min(signed, HIGHEST))


@dataclass(frozen=True, slots=True)
class GuestProcess:
    """A program that runs in the guest.

    `pid` is the guest's own word for it. `poll` returns its end, or None while it runs; the end may be told only once.
    It raises a HypervisorError if the guest or its agent cannot be asked.
    """

    pid: str
    poll: Callable[[], Awaitable[GuestExit | None]]


ActiveVMs = Callable[[], frozenset[str]]
"""The ids of the VMs with an active operation at this moment."""


def none_active() -> frozenset[str]:
    return frozenset()


class Adapter(Protocol):
    """One hypervisor's dialect. `vm_id` is always the hypervisor's own identifier.

    Every method may raise `HypervisorUnavailable` (the connection is lost; asking again later is
    right) and `UnknownNativeState`.
    """

    type: str
    version: str
    endpoint: str
    """The hypervisor's address without credentials."""
    signals: tuple[Signal, ...]
    """Every signal it could ever offer, best first."""
    lanes: Lanes
    """What its calls to the hypervisor wait in."""
    tells_late: bool
    """Whether a change may be told after `get` has shown what followed it."""

    async def get(self, vm_id: str) -> VM:
        """Read one VM from the hypervisor itself.

        A VM that was only left out of a list is looked for where it is, or was last.

        Raises:
            VMNotFound: the hypervisor itself, asked for this VM, says that there is none.
        """

    async def list(self) -> Sequence[VM]:
        """Read all VMs in scope."""

    async def power_on(self, vm_id: str) -> None:
        """Start it (resume it, if paused or suspended); return once the hypervisor has done so.
        A VM that is on already is no error.

        Raises:
            VMNotFound, CommandFailed
        """

    async def power_off(self, vm_id: str) -> bool:
        """Cut its power; return once the hypervisor has done so. Whether this call did it: False where it was off
        already, or went off by other means meanwhile, which is no error.

        Raises:
            VMNotFound, CommandFailed
        """

    async def save(self, vm_id: str) -> bool:
        """Save its memory to disk and stop it; return once the hypervisor has done so. Whether this call did it: False
        where it is saved or off already, or went off by other means meanwhile, which is no error.

        Asked again while that is under way, it joins it, or raises Locked.

        Raises:
            Locked: something holds the VM, such as a save that is under way.
            VMNotFound, CommandFailed, Unsupported
        """

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Ask the guest once, in this one way; return when the request is accepted.

        A `DelegatingAdapter` hands `grace` to the hypervisor, and returns when the hypervisor has done with the guest.
        Asked again while that is under way, it joins it.

        Raises:
            VMNotFound: it is gone.
            Locked: something holds the VM; what `get` then tells shows it as a passing problem.
            CommandFailed: refused, or the guest cannot hear this signal after all.
        """

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program in the guest, without a shell; return as soon as it runs.

        Raises:
            VMNotFound, CommandFailed, Unsupported
        """

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        """Take a snapshot; return when it is complete.

        Raises:
            VMNotFound, CommandFailed, Unsupported
        """

    def watch(self, active_vms: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        """One subscription for all VMs: `Listed` first, then every change of power, agent, name or existence.

        Changes come in the order in which they happened, and where the adapter `tells_late` some of them late: one may
        be told after `get` has shown what followed it. An end is then read again by the core (`Run.surely_off`).

        A hypervisor that sends no events is polled: more often while there are `active_vms`, whose tasks are read, too.

        Ends only by raising `HypervisorUnavailable`; the caller starts a new one.
        """

    async def close(self) -> None:
        """Give back connections and threads."""


@runtime_checkable
class AsksAddresses(Protocol):
    """An adapter that asks a guest for its addresses when they are needed, since its hypervisor does not tell them."""

    async def guest_addresses(self, vm_id: str) -> Sequence[str]:
        """The IP addresses that the guest says it has.

        Raises:
            VMNotFound, CommandFailed
        """


@dataclass(frozen=True, slots=True)
class MissingPrivilege:
    """A privilege, in the hypervisor's own words, that the provider's account does not have in a place there.

    `required`: no VM there can be shut down without it.
    """

    privilege: str
    place: str
    purpose: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an adapter found about its account and its hypervisor's clock when it logged in.

    `clock_ahead`: by how much that clock is ahead of this machine's, to a second or two; None: it is not known.
    """

    missing: tuple[MissingPrivilege, ...] = ()
    clock_ahead: timedelta | None = None


@runtime_checkable
class DiagnosingAdapter(Protocol):
    """An adapter that tells more of its connection than whether there is one; asks nobody."""

    def diagnosis(self) -> Diagnosis:
        """What is known now."""


class DelegatingAdapter(Adapter, Protocol):
    """Of a hypervisor that waits for a guest by itself: with FORCE it cuts the power at the deadline it was handed,
    also if we are gone by then. Adapters that have these two are asked to do so."""

    margin: timedelta
    """How long after the deadline it may take to cut the power before we do so ourselves."""

    async def withdraw(self, vm_id: str) -> None:
        """Take back the deadline that `send_signal` handed over: the hypervisor cuts no power any more. The guest
        stays asked.

        Raises:
            CommandFailed: it cannot be taken back.
        """


async def unsupported(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Declares in one visible line what a hypervisor cannot do: `guest_exec = unsupported`."""
    raise Unsupported("This hypervisor cannot do that; the caller must leave it out.")


def supports(adapter: Adapter, method: str) -> bool:
    return getattr(type(adapter), method) is not unsupported
