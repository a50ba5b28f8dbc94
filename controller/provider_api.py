"""Providers as the controller sees them: VMs, operations, verdicts and calls, free of gRPC."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from client.errors import ProviderError
from controller.enums import Kind, PowerState, State
from controller.models import Hook, Lifecycle


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a Shutdown would do now; `problems` are sentences for people, `reason` is the first one's."""

    graceful: bool = False
    signals: tuple[str, ...] = ()
    reason: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VM:
    """A virtual machine. `active_operation` is an operation's id, or empty."""

    id: str
    name: str
    power_state: PowerState
    forecast: Forecast = Forecast()
    active_operation: str = ""


@dataclass(frozen=True, slots=True)
class HookResult:
    """What a hook did."""

    name: str
    state: str
    exit_code: int = 0
    output: str = ""
    duration: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an operation ended. `reason` and `signal` are empty where there is none."""

    outcome: str
    start_time: datetime
    end_time: datetime
    reason: str = ""
    signal: str = ""
    hooks: tuple[HookResult, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One PowerOn, PowerOff, Shutdown or Reboot of one VM. `timeout` is the grace period
    that counts, `error` why it failed, for people."""

    id: str
    vm: str
    kind: Kind
    state: State
    create_time: datetime
    request_id: str = ""
    force_after: datetime | None = None
    escalation: str = "UNSPECIFIED"
    timeout: timedelta | None = None
    verdict: Verdict | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Info:
    """What a provider says about itself."""

    type: str = ""
    version: str = ""
    signals: tuple[str, ...] = ()
    guest_exec: bool = False
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class GuestCredentials:
    """A login in the guest. Read at use, kept nowhere."""

    username: str
    password: str = field(repr=False)


class VMCache:
    """The VMs of one provider as last reported, found by id or by name."""

    def __init__(self, vms: Iterable[VM] = ()) -> None:
        self._vms: dict[str, VM] = {}
        self._ids: dict[str, set[str]] = {}
        for vm in vms:
            self.put(vm)

    def __len__(self) -> int:
        return len(self._vms)

    def put(self, vm: VM) -> None:
        """Add one VM, in place of what was known under its id."""
        self.remove(vm.id)
        self._vms[vm.id] = vm
        self._ids.setdefault(vm.name, set()).add(vm.id)

    def remove(self, vm_id: str) -> VM | None:
        """Forget one VM and return it."""
        vm = self._vms.pop(vm_id, None)
        if vm is not None:
            self._ids[vm.name].discard(vm_id)
            if not self._ids[vm.name]:
                del self._ids[vm.name]
        return vm

    def find(self, name: str) -> VM | None:
        """The VM whose id is `name`, else the only VM of that name.

        Raises:
            ProviderError: AMBIGUOUS_NAME: several VMs have it; the resource's owner writes an id.
        """
        ids = {name} if name in self._vms else self._ids.get(name, set())
        if len(ids) > 1:
            raise ProviderError(
                "FAILED_PRECONDITION",
                f"Several VMs are named {name!r}: {', '.join(sorted(ids))}. Write one of these ids as vmName.",
                "AMBIGUOUS_NAME",
            )
        return next((self._vms[vm_id] for vm_id in ids), None)


Changed = Callable[[set[str] | None], None]
"""Told the ids and names of VMs that changed, or None: all of them, and whether the provider answers."""


class Client(Protocol):
    """One provider. Every call raises `ProviderError`; every `vm` is a VM's id, every `operation` an operation's."""

    cache: VMCache
    info: Info
    reachable: bool | None
    """None until it first answered or was given up on."""
    problem: str
    """Why it is not reachable, for people."""

    async def run(self) -> None:
        """Keep `cache`, `info` and `reachable` true until cancelled."""

    async def close(self) -> None:
        """Give back the connection."""

    async def refresh(self, vm: str) -> None:
        """Read one VM anew and put it into `cache`; a VM that is gone is no error."""

    async def power_on(
        self, vm: str, post_start: tuple[Hook, ...], request_id: str, login: GuestCredentials | None = None
    ) -> Operation:
        """Start the VM and then run the hooks; calls off an active shutdown."""

    async def power_off(self, vm: str, request_id: str) -> Operation:
        """Cut the power; pre-empts whatever else is active."""

    async def shutdown(
        self,
        vm: str,
        lifecycle: Lifecycle,
        request_id: str,
        force_after: datetime | None,
        login: GuestCredentials | None = None,
    ) -> Operation:
        """Bring the VM down gracefully; `force_after` counts instead of the timeout where it is known."""

    async def extend(self, operation: str, timeout: timedelta) -> Operation:
        """Set the grace period, counted from its beginning."""

    async def extend_by(self, operation: str, extension: timedelta) -> Operation:
        """Move force_after by so much, or from now where it has passed."""

    async def force(self, operation: str) -> Operation:
        """Power the VM off hard now."""

    async def cancel(self, operation: str) -> Operation:
        """Give the operation up; the VM is left as it is."""

    async def find_operation(self, vm: str, request_id: str) -> Operation | None:
        """The operation of this VM that bears this request_id."""

    def watch_operation(self, operation: str) -> AsyncIterator[Operation]:
        """The operation as it is, then at each change, until it has ended; raises when the connection breaks."""
