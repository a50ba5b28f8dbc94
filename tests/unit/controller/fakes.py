"""A provider, a source and a clock in memory, for tests in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from client.errors import ProviderError
from client.power import has_ended
from client.times import moment
from client.words import short
from controller.client import ProviderClient
from controller.models import API_VERSION, PowerRun, PowerRunSpec, Resource, Runtime, Status
from controller.source import (
    Applied,
    Change,
    Decided,
    Deleted,
    Event,
    GuestCredentials,
    Key,
    Rejected,
    SecretUnavailable,
    Synced,
    TlsSecret,
    UpsSecret,
    key_of,
)
from controller.status_models import VirtualMachineStatus
from controller.vm_cache import VMCache
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    CANCELLED,
    FORCING,
    NOW,
    PENDING,
    POWER_ON,
    RUNNING_HOOKS,
    SUCCEEDED,
    WAITING,
    changed,
    operation,
    verdict,
    vm,
)


def clock() -> datetime:
    """NOW at the loop's time 0."""
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


class FakeClient(ProviderClient):
    """A provider whose guests do nothing by themselves: a test ends each operation."""

    def __init__(self, *vms: pb.VM) -> None:
        super().__init__(Runtime(endpoint="unix:///nowhere.sock"), lambda _: None)
        self.cache = VMCache(vms or [vm()])
        self.info = pb.GetProviderInfoResponse(type="sim", version="1", signals=[pb.SIGNAL_ACPI])
        self.reachable = True
        self.changed: Callable[[set[str] | None], None] = lambda _: None
        self.operations: dict[str, pb.Operation] = {}
        self.requests: list[tuple[Any, ...]] = []
        self.logins: list[GuestCredentials | None] = []
        self.asked: list[tuple[str, str]] = []
        """For whom, and why, each working call was."""
        self.failure: ProviderError | None = None
        self.lost = ProviderError("UNAVAILABLE", "connection reset")
        self.watchers = 0
        self.busy = 0
        self.busiest = 0
        self.call_time = 0.0
        self.answer_time = 0.0
        """Seconds that an answer takes after the provider has done what was asked."""
        self.answer_lost = False
        self.news_time = 0.0
        """Seconds that what a stream tells takes."""
        self.ahead = timedelta(0)
        """By how much its clock is ahead of the controller's."""
        self._news = asyncio.Condition()
        self._broken = 0

    def connect(self, runtime: Runtime, changed: Callable[[set[str] | None], None]) -> "FakeClient":
        self.changed = changed
        return self

    def clock(self) -> datetime:
        return clock() + self.ahead

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def refresh(self, vm: str) -> None:
        await self._take_time()

    def turn(self, power: "pb.PowerState.ValueType", name: str = "web", active: str = "") -> None:
        """The hypervisor reports another power state."""
        self.cache.put(vm(power, name=name, active=active))
        self.changed({name, f"id-{name}"})

    def set_reachable(self, reachable: bool, problem: str = "") -> None:
        self.reachable, self.problem = reachable, problem
        self.changed(None)

    async def ask(self, request: Any, on_behalf_of: str, reason: str = "") -> Any:
        self.asked.append((on_behalf_of, reason))
        answer = await self.call(request)
        if self.answer_time:
            await asyncio.sleep(self.answer_time)
        if self.answer_lost:
            raise self.lost
        return answer

    async def call(self, request: Any, timeout: float = 0) -> Any:
        match request:
            case pb.PowerOnRequest():
                self._note_login(request)
                return await self._begin("power_on", request, list(request.post_start))
            case pb.PowerOffRequest():
                return await self._begin("power_off", request)
            case pb.ShutdownRequest():
                self._note_login(request)
                force_after = moment(request.force_after) if request.HasField("force_after") else None
                wanted = short(pb.Escalation, request.escalation) or "FORCE"
                return await self._begin("shutdown", request, request, force_after, escalation=wanted)
            case pb.ExtendOperationRequest():
                return await self._extend(request)
            case pb.ForceOperationRequest():
                self.requests.append(("force", request.id))
                return await self.tell(request.id, state=FORCING)
            case _:
                return await self.cancel(request.id)

    def _note_login(self, request: pb.PowerOnRequest | pb.ShutdownRequest) -> None:
        login = request.guest_credentials
        given = request.HasField("guest_credentials")
        self.logins.append(GuestCredentials(login.username, login.password) if given else None)

    async def _extend(self, request: pb.ExtendOperationRequest) -> pb.Operation:
        if request.HasField("extension"):
            return await self._extend_by(request.id, request.extension.ToTimedelta())
        operation, timeout = request.id, request.timeout.ToTimedelta()
        self.requests.append(("extend", operation, timeout))
        force_after = moment(self.operations[operation].create_time) + timeout
        return await self.tell(operation, force_after=force_after, state=WAITING)

    async def _extend_by(self, operation: str, extension: timedelta) -> pb.Operation:
        self.requests.append(("extend_by", operation, extension))
        if self.failure is not None:
            raise self.failure
        known = self.operations[operation]
        if known.state == RUNNING_HOOKS:  # the grace period that grows has not begun
            return await self.tell(operation, timeout=known.timeout.ToTimedelta() + extension)
        later = self.clock() + extension
        return await self.tell(operation, force_after=later, state=WAITING)

    async def cancel(self, operation: str) -> pb.Operation:
        self.requests.append(("cancel", operation))
        return await self.end(operation, "STILL_RUNNING", state=CANCELLED)

    async def list_operations(
        self, vm: str = "", *, active_only: bool = False, requested_by: str = "", limit: int
    ) -> list[pb.Operation]:
        found = [each for each in self.operations.values() if each.vm == vm]
        return sorted(found, key=lambda each: each.create_time.ToNanoseconds(), reverse=True)[:limit]

    async def stream(self, request: Any) -> Any:
        if request.id not in self.operations:
            raise ProviderError("NOT_FOUND", "no such operation", "OPERATION_NOT_FOUND")
        told, unbroken = None, self._broken
        self.watchers += 1
        try:
            while True:
                known = self.operations[request.id]
                if known != told:
                    told = known
                    if self.news_time:
                        await asyncio.sleep(self.news_time)
                    yield known
                if has_ended(known):
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

    async def tell(self, operation: str, **news: Any) -> pb.Operation:
        """The operation makes a step."""
        self.operations[operation] = known = changed(self.operations[operation], **news)
        await self._notify()
        return known

    async def end(
        self,
        operation: str,
        outcome: str = "GRACEFUL",
        state: "pb.OperationState.ValueType" = SUCCEEDED,
        **news: Any,
    ) -> pb.Operation:
        """The operation ends and, unless it was in vain, its VM is off (on)."""
        known = self.operations[operation]
        if state == SUCCEEDED:
            on = known.kind == POWER_ON
            name = known.vm.removeprefix("id-")
            down = pb.POWER_STATE_SUSPENDED if outcome == "SAVED" else pb.POWER_STATE_OFF
            self.cache.put(vm(pb.POWER_STATE_ON if on else down, name=name))
        began = moment(known.create_time)
        end = verdict(outcome, (self.clock() - began).total_seconds(), began=began, **news)
        told = await self.tell(operation, state=state, verdict=end, error=end.message)
        self.changed({known.vm})
        return told

    async def _begin(self, kind: str, request: Any, *rest: Any, escalation: str = "UNSPECIFIED") -> pb.Operation:
        self.requests.append((kind, request.vm, request.request_id, *rest))
        await self._take_time()
        if self.failure is not None:
            raise self.failure
        for known in self.operations.values():
            if known.request_id == request.request_id:
                return known
        begun = operation(
            pb.OperationKind.Value(f"OPERATION_KIND_{kind.upper()}"),
            PENDING,
            id=f"op-{len(self.operations) + 1}",
            vm=request.vm,
            create_time=self.clock(),
            request_id=request.request_id,
            escalation=escalation,
        )
        self.operations[begun.id] = begun
        return begun

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
    write_time: float = 0.0
    """Seconds that a write of a status takes."""
    taken: list[Decided] = field(default_factory=list)
    released: list[Key] = field(default_factory=list)
    held: dict[Key, bool] = field(default_factory=dict)
    secrets: dict[tuple[str, str], GuestCredentials] = field(default_factory=dict)
    tls_secrets: dict[tuple[str, str], TlsSecret] = field(default_factory=dict)
    shared: bool = False
    gone: set[Key] = field(default_factory=set)
    ups: UpsSecret | None = None
    """The login at upsd, whichever is asked for."""
    deleted: list[Key] = field(default_factory=list)
    made: dict[Key, PowerRun] = field(default_factory=dict)
    make_failures: list[Exception] = field(default_factory=list)
    machines: list[str] | Exception = field(default_factory=list)
    """Those that the controller runs on, or what comes instead of an answer; TimeoutError: none does."""
    machines_asked: int = 0
    """How often they were asked for."""

    def apply(self, *resources: Resource) -> None:
        for resource in resources:
            self.changes.put_nowait(Applied(resource))

    def sync(self) -> None:
        self.changes.put_nowait(Synced())

    def delete(self, resource: Resource) -> None:
        self.changes.put_nowait(Deleted(key_of(resource)))

    def reject(self, resource: Resource, generation: int, message: str) -> None:
        self.changes.put_nowait(Rejected(key_of(resource), generation, message, resource.status))

    async def watch(self) -> AsyncIterator[Change]:
        while True:
            yield await self.changes.get()

    def is_gone(self, key: Key) -> bool:
        return key in self.gone

    async def write_status(self, key: Key, status: Status) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if self.write_time:
            await asyncio.sleep(self.write_time)
        self.statuses.setdefault(key, []).append(status)

    async def emit_event(self, key: Key, event: Event) -> None:
        self.events.append((key, event))

    async def acknowledge(self, decided: Decided) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(decided)

    async def remove_finalizer(self, key: Key) -> None:
        self.released.append(key)

    async def hold_provider(self, key: Key, held: bool) -> None:
        self.held[key] = held

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        if (namespace, name) not in self.secrets:
            raise SecretUnavailable(f"There is no secret {namespace}/{name}.")
        return self.secrets[namespace, name]

    async def tls_secret(self, namespace: str, name: str) -> TlsSecret:
        if (namespace, name) not in self.tls_secrets:
            raise SecretUnavailable(f"There is no secret {namespace}/{name}.")
        return self.tls_secrets[namespace, name]

    async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
        if self.ups is None:
            raise SecretUnavailable(f"There is no secret {namespace}/{name}.")
        return self.ups

    async def delete_run(self, key: Key) -> None:
        if self.make_failures:
            raise self.make_failures.pop(0)
        self.deleted.append(key)

    async def own_machines(self) -> list[str]:
        self.machines_asked += 1
        if isinstance(self.machines, TimeoutError):
            await asyncio.Event().wait()
        if isinstance(self.machines, Exception):
            raise self.machines
        return self.machines

    async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
        if self.make_failures:
            raise self.make_failures.pop(0)
        meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1}
        written = {"apiVersion": API_VERSION, "kind": "PowerRun", "metadata": meta, "spec": spec}
        made = self.made[Key("PowerRun", namespace, name)] = PowerRun.model_validate(written)
        return made

    async def close(self) -> None:
        pass

    def decide(self, text: str, name: str = "web", by: str = "kubectl-annotate", namespace: str = "default") -> None:
        self.changes.put_nowait(Decided(Key("VirtualMachine", namespace, name), text, by))

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
