"""A provider, a source and a clock in memory, for tests in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from client.errors import ProviderError
from controller.enums import Kind, PowerState, State
from controller.models import Hook, Lifecycle, Resource, Runtime, Status
from controller.provider_api import VM, GuestCredentials, Info, Operation, Verdict, VMCache
from controller.source import Applied, Change, Decided, Deleted, Event, Key, SecretUnavailable, Synced, key_of
from controller.status_models import VirtualMachineStatus
from tests.unit.controller.builders import NOW, vm


def clock() -> datetime:
    """NOW at the loop's time 0."""
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class FakeClient:
    """A provider whose guests do nothing by themselves: a test ends each operation."""

    def __init__(self, *vms: VM) -> None:
        self.cache = VMCache(vms or [vm()])
        self.info = Info("sim", "1", ("ACPI",))
        self.logins: list[GuestCredentials | None] = []
        self.reachable: bool | None = True
        self.problem = ""
        self.changed: Callable[[set[str] | None], None] = lambda _: None
        self.operations: dict[str, Operation] = {}
        self.requests: list[tuple[Any, ...]] = []
        self.failure: ProviderError | None = None
        self.watchers = 0
        self.busy = 0
        self.busiest = 0
        self.call_time = 0.0
        self._news = asyncio.Condition()
        self._broken = 0

    def connect(self, runtime: Runtime, changed: Callable[[set[str] | None], None]) -> "FakeClient":
        self.changed = changed
        return self

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass

    async def refresh(self, vm: str) -> None:
        await self._take_time()

    def turn(self, power: PowerState, name: str = "web", active: str = "") -> None:
        """The hypervisor reports another power state."""
        self.cache.put(vm(power, name=name, active=active))
        self.changed({name, f"id-{name}"})

    def set_reachable(self, reachable: bool, problem: str = "") -> None:
        self.reachable, self.problem = reachable, problem
        self.changed(None)

    async def power_on(
        self, vm: str, post_start: tuple[Hook, ...], request_id: str, login: GuestCredentials | None = None
    ) -> Operation:
        self.logins.append(login)
        return await self._begin(Kind.POWER_ON, vm, request_id, post_start)

    async def power_off(self, vm: str, request_id: str) -> Operation:
        return await self._begin(Kind.POWER_OFF, vm, request_id)

    async def shutdown(
        self,
        vm: str,
        lifecycle: Lifecycle,
        request_id: str,
        force_after: datetime | None,
        login: GuestCredentials | None = None,
    ) -> Operation:
        self.logins.append(login)
        wanted = lifecycle.escalation.name if lifecycle.escalation else "FORCE"
        return await self._begin(Kind.SHUTDOWN, vm, request_id, lifecycle, force_after, escalation=wanted)

    async def extend(self, operation: str, timeout: timedelta) -> Operation:
        self.requests.append(("extend", operation, timeout))
        known = self.operations[operation]
        return await self.tell(operation, force_after=known.create_time + timeout, state=State.WAITING_FOR_GUEST)

    async def extend_by(self, operation: str, extension: timedelta) -> Operation:
        self.requests.append(("extend_by", operation, extension))
        if self.failure is not None:
            raise self.failure
        known = self.operations[operation]
        if known.state is State.RUNNING_HOOKS:  # the grace period that grows has not begun
            return await self.tell(operation, timeout=(known.timeout or timedelta(0)) + extension)
        return await self.tell(operation, force_after=clock() + extension, state=State.WAITING_FOR_GUEST)

    async def force(self, operation: str) -> Operation:
        self.requests.append(("force", operation))
        return await self.tell(operation, state=State.FORCING)

    async def cancel(self, operation: str) -> Operation:
        self.requests.append(("cancel", operation))
        return await self.end(operation, "STILL_RUNNING", state=State.CANCELLED)

    async def find_operation(self, vm: str, request_id: str) -> Operation | None:
        self.requests.append(("find", vm, request_id))
        return next((each for each in self.operations.values() if each.request_id == request_id), None)

    async def watch_operation(self, operation: str) -> AsyncIterator[Operation]:
        if operation not in self.operations:
            raise ProviderError("NOT_FOUND", "no such operation", "OPERATION_NOT_FOUND")
        told, unbroken = None, self._broken
        self.watchers += 1
        try:
            while True:
                known = self.operations[operation]
                if known != told:
                    told = known
                    yield known
                if known.state.final:
                    return
                if unbroken != self._broken:
                    raise ProviderError("UNAVAILABLE", "the stream broke")
                async with self._news:
                    await self._news.wait()
        finally:
            self.watchers -= 1

    async def break_watches(self) -> None:
        self._broken += 1
        await self._notify()

    async def tell(self, operation: str, **news: Any) -> Operation:
        """The operation makes a step."""
        self.operations[operation] = known = replace(self.operations[operation], **news)
        await self._notify()
        return known

    async def end(
        self, operation: str, outcome: str = "GRACEFUL", state: State = State.SUCCEEDED, **news: Any
    ) -> Operation:
        """The operation ends and, unless it was in vain, its VM is off (on)."""
        known = self.operations[operation]
        if state is State.SUCCEEDED:
            name = known.vm.removeprefix("id-")
            self.cache.put(vm(PowerState.ON if known.kind is Kind.POWER_ON else PowerState.OFF, name=name))
        end = Verdict(outcome, known.create_time, clock(), **news)
        told = await self.tell(operation, state=state, verdict=end, error=end.message)
        self.changed({known.vm})
        return told

    async def _begin(self, kind: Kind, vm: str, request_id: str, *rest: Any, escalation: str = "") -> Operation:
        self.requests.append((kind.lower(), vm, request_id, *rest))
        await self._take_time()
        if self.failure is not None:
            raise self.failure
        for known in self.operations.values():
            if known.request_id == request_id:
                return known
        begun = Operation(f"op-{len(self.operations) + 1}", vm, kind, State.PENDING, clock(), request_id)
        self.operations[begun.id] = replace(begun, escalation=escalation)
        return self.operations[begun.id]

    async def _take_time(self) -> None:
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        await asyncio.sleep(self.call_time)
        self.busy -= 1

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()


@dataclass
class FakeSource:
    """Resources by hand; remembers every status that was written."""

    changes: asyncio.Queue[Change] = field(default_factory=asyncio.Queue)
    statuses: dict[Key, list[Status]] = field(default_factory=dict)
    events: list[tuple[Key, Event]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    taken: list[Decided] = field(default_factory=list)
    released: list[Key] = field(default_factory=list)
    secrets: dict[tuple[str, str], GuestCredentials] = field(default_factory=dict)

    def apply(self, *resources: Resource) -> None:
        for resource in resources:
            self.changes.put_nowait(Applied(resource))

    def sync(self) -> None:
        self.changes.put_nowait(Synced())

    def delete(self, resource: Resource) -> None:
        self.changes.put_nowait(Deleted(key_of(resource)))

    async def watch(self) -> AsyncIterator[Change]:
        while True:
            yield await self.changes.get()

    async def write_status(self, key: Key, status: Status) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.statuses.setdefault(key, []).append(status)

    async def emit_event(self, key: Key, event: Event) -> None:
        self.events.append((key, event))

    async def acknowledge(self, decided: Decided) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(decided)

    async def remove_finalizer(self, key: Key) -> None:
        self.released.append(key)

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        if (namespace, name) not in self.secrets:
            raise SecretUnavailable(f"There is no secret {namespace}/{name}.")
        return self.secrets[namespace, name]

    async def close(self) -> None:
        pass

    def decide(self, text: str, name: str = "web", by: str = "kubectl-annotate") -> None:
        self.changes.put_nowait(Decided(Key("VirtualMachine", "default", name), text, by))

    def reasons(self, name: str = "web") -> list[str]:
        """The reasons of what people were told of a VM."""
        return [event.reason for key, event in self.events if key.name == name]

    def written(self, name: str = "web") -> list[VirtualMachineStatus]:
        found = self.statuses.get(Key("VirtualMachine", "default", name), [])
        return [status for status in found if isinstance(status, VirtualMachineStatus)]

    def last(self, name: str = "web") -> VirtualMachineStatus:
        return self.written(name)[-1]

    def ready(self, name: str = "web") -> tuple[str, str]:
        """The status and reason of Ready as last written."""
        found = next(condition for condition in self.last(name).conditions if condition.type == "Ready")
        return found.status, found.reason
