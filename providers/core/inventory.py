"""All VMs as they are now, kept up to date by the adapter's one subscription.

It is also the one place that reconnects: a watch that breaks is started anew with back-off and jitter.
An operation that met an unavailable hypervisor waits here until it is back.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from common.backoff import Backoff
from providers.core.adapter import VM, Adapter, Change, Changed, Listed, PowerState, Removed
from providers.core.errors import AmbiguousName, HypervisorError, HypervisorUnavailable, VMNotFound
from providers.core.names import canonical

FIRST_RETRY = 0.2
"""Seconds before the first reconnection; doubled each time."""
LAST_RETRY = 30.0
"""Seconds between reconnections at the most: a hypervisor that is coming up is not hammered."""
SOONEST_RETRY = 1.0
"""Seconds after which it is tried again at the soonest because somebody has begun to wait for it."""
MOST_READS = 3
"""How often a VM is read in one look, where events of it keep coming meanwhile."""

log = structlog.get_logger()

Observer = Callable[[str, VM | None], None]
"""Is told a VM's id and the VM, or None if it is gone. Must not block or raise."""


class Inventory:
    """All VMs of one hypervisor endpoint, by id."""

    def __init__(self, adapter: Adapter) -> None:
        self.connected = asyncio.Event()
        self._wanted = asyncio.Event()
        """Somebody has begun to wait for the hypervisor since it was tried last."""
        self.failure: HypervisorError | None = None
        """Why the hypervisor does not answer, as far as it is known; None while it does."""
        self.vms: dict[str, VM] = {}
        self._by_name: dict[str, set[str]] = {}
        """The ids of the VMs of each name and alias."""
        self._adapter = adapter
        self._observers: dict[str, dict[Observer, None]] = {}
        """By VM, in the order in which they came."""
        self.on_connection: list[Callable[[bool], None]] = []
        """Told of each loss of the hypervisor, and of each return."""

    async def run(self) -> None:
        """Follow the hypervisor until cancelled."""
        backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        while True:
            self._wanted.clear()
            try:
                async for change in self._adapter.watch(self.active_vms):
                    backoff.reset()
                    self._apply(change)
                    self.failure = None
                    self._set_connected(True)
            except HypervisorError as error:
                self.failure = error
                log.warning("hypervisor unavailable", error=error.message)
            except Exception:
                log.exception("the watch broke; this is a bug in the adapter")
            self._set_connected(False)
            await self._pause(backoff.next())

    async def reconnected(self) -> None:
        """Wait until the hypervisor is followed. Who begins to wait has something to do by now, such as a cut that is
        due: it is tried again without waiting for the end of the pause, which may be long."""
        self._wanted.set()
        await self.connected.wait()

    def resolve(self, name: str) -> VM:
        """The VM of this id, in whichever form it is written, or of this name or alias if only one bears it.

        An id comes first: the owner of a VM, who names it, must not catch what is meant for another one.

        Raises:
            VMNotFound, AmbiguousName
            HypervisorUnavailable: what is known may be out of date.
        """
        self.require_connected()
        if vm := self.vms.get(name) or self.vms.get(canonical(name)):
            return vm
        found = [self.vms[vm_id] for vm_id in self._by_name.get(name, ())]
        if not found:
            raise VMNotFound(f"No VM has the id or name {name!r}; name one that ListVMs shows.", {"vm": name})
        if len(found) > 1:
            ids = sorted(vm.id for vm in found)
            message = f"{len(found)} VMs are named {name!r}; use one of the ids {', '.join(ids)}."
            raise AmbiguousName(message, {"ids": ",".join(ids)})
        return found[0]

    def require_connected(self) -> None:
        """Raise HypervisorUnavailable unless the hypervisor is followed at this moment."""
        if not self.connected.is_set():
            raise HypervisorUnavailable(
                f"The hypervisor {self._adapter.endpoint} does not answer; the provider keeps trying, ask again later."
            )

    async def refresh(self, vm_id: str) -> VM | None:
        """Read one VM from the hypervisor itself, now; None if there is none.

        Raises:
            HypervisorUnavailable
        """
        for _ in range(MOST_READS):
            known = self.vms.get(vm_id)
            try:
                vm = await self._adapter.get(vm_id)
            except VMNotFound:
                self._apply(Removed(vm_id))
                return None
            # Else an event came meanwhile, which may be newer than the answer or older.
            if self.vms.get(vm_id) is known:
                if vm != known:
                    self._apply(Changed(vm))
                return vm
        return self.vms.get(vm_id)

    @contextmanager
    def observed(self, observer: Observer, vm_id: str = "") -> Iterator[None]:
        """Tell `observer` of every change of one VM, or of all, while the context lasts."""
        observers = self._observers.setdefault(vm_id, {})
        observers[observer] = None
        try:
            yield
        finally:
            observers.pop(observer, None)
            if not observers:
                self._observers.pop(vm_id, None)

    @contextmanager
    def followed(self, listener: Callable[[bool], None]) -> Iterator[None]:
        """Tell `listener` of each loss of the hypervisor and of each return, while the context lasts."""
        self.on_connection.append(listener)
        try:
            yield
        finally:
            self.on_connection.remove(listener)

    def active_vms(self) -> frozenset[str]:
        """The ids of the VMs that are observed one by one: those with an active operation."""
        return frozenset(self._observers) - {""}

    def touch(self, vm_id: str) -> None:
        """Tell the observers of all VMs that something beside this VM has changed: its active operation."""
        for observer in tuple(self._observers.get("", ())):
            observer(vm_id, self.vms.get(vm_id))

    async def _pause(self, seconds: float) -> None:
        """Between two attempts; cut short by `_wanted`."""
        at_least = min(seconds, SOONEST_RETRY)
        await asyncio.sleep(at_least)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), seconds - at_least)

    def _set_connected(self, connected: bool) -> None:
        if connected == self.connected.is_set():
            return
        if connected:
            self.connected.set()
        else:
            self.connected.clear()
        for listener in tuple(self.on_connection):
            listener(connected)

    def _apply(self, change: Change) -> None:
        match change:
            case Listed(vms):
                self._replace_all({vm.id: vm for vm in vms})
            case Changed(vm):
                self._put(vm)
                self._tell(vm.id, vm)
            case Removed(vm_id) if vm_id in self.vms:
                self._drop(vm_id)
                self._tell(vm_id, None)

    def _replace_all(self, listed: dict[str, VM]) -> None:
        before = dict(self.vms)
        gone = before.keys() - listed.keys()
        for vm_id in gone:
            self._drop(vm_id)
        for vm in listed.values():
            self._put(vm)
        for vm_id in gone:
            self._tell(vm_id, None)
        for vm_id, vm in listed.items():
            if before.get(vm_id) != vm:
                self._tell(vm_id, vm)

    def _put(self, vm: VM) -> None:
        known = self.vms.get(vm.id)
        self.vms[vm.id] = vm
        if known is None or (known.name, known.aliases) != (vm.name, vm.aliases):
            if known:
                self._forget_names(known)
            for name in (vm.name, *vm.aliases):
                self._by_name.setdefault(name, set()).add(vm.id)

    def _drop(self, vm_id: str) -> None:
        self._forget_names(self.vms.pop(vm_id))

    def _forget_names(self, vm: VM) -> None:
        for name in {vm.name, *vm.aliases}:
            ids = self._by_name[name]
            ids.discard(vm.id)
            if not ids:
                del self._by_name[name]

    def _tell(self, vm_id: str, vm: VM | None) -> None:
        for key in (vm_id, ""):
            for observer in tuple(self._observers.get(key, ())):
                observer(vm_id, vm)


def is_off(vm: VM | None) -> bool:
    """Whether it is known to run no longer; of a VM that is not here nothing is known."""
    return vm is not None and vm.power_state is PowerState.OFF
