"""power.v1.PowerService: reads from the inventory, work through the operations.

Handlers raise the exceptions of `errors.py`; `interceptor.py` turns them into RPC statuses. A long answer is put
together in slices, so that it delays other calls by no more than one.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import grpc.aio

from common.grants import Right
from common.text import clean, encodable
from protos.power.v1 import power_pb2 as pb
from protos.power.v1 import power_pb2_grpc
from providers.core.adapter import VM, DiagnosingAdapter, Diagnosis, Escalation, PowerState, supports
from providers.core.errors import Disabled, InvalidRequest, NotAllowed, Unsupported, Violation, VMRefused
from providers.core.model import Asked, Hook, Kind, Operation, Request
from providers.core.operations import Operations
from providers.core.run import Context
from providers.core.settings import Settings
from providers.core.store import moment
from providers.server import convert, validation
from providers.server.clients import CLIENT
from providers.server.validation import Find

Call = grpc.aio.ServicerContext[Any, Any]
VMS_AT_ONCE, OPERATIONS_AT_ONCE = 50, 10
"""How many are converted before other calls have a turn: 1 to 2 ms of work."""
MOST_LOOKED_AT = 1_000
"""Operations that are read for one page where not all of them are asked for."""
RIGHTS = {"exec": Right.EXEC, "http_get": Right.HTTP, "tcp": Right.HTTP, "snapshot": Right.SNAPSHOT}
PAGE_BYTES = 3 << 20
"""A page of operations, with what their hooks printed, ends when it is so long: clients receive 4 MiB at the most."""

M = TypeVar("M", pb.PowerOnRequest, pb.PowerOffRequest, pb.ShutdownRequest, pb.RebootRequest)


class Service(power_pb2_grpc.PowerServiceServicer):
    """The contract, for one adapter."""

    def __init__(self, context: Context, operations: Operations) -> None:
        self._adapter, self._inventory = context.adapter, context.inventory
        self._settings, self._journal, self._operations = context.settings, context.journal, operations
        self._sequence = count(time.time_ns())  # also greater than what the process before this one told

    async def GetProviderInfo(self, request: pb.GetProviderInfoRequest, _: Call) -> pb.GetProviderInfoResponse:
        """Answers while the hypervisor does not."""
        adapter, settings = self._adapter, self._settings
        return pb.GetProviderInfoResponse(
            type=adapter.type,
            version=adapter.version,
            endpoint=adapter.endpoint,
            connected=self._inventory.connected.is_set(),
            signals=convert.signals(adapter.signals),
            guest_exec=settings.allow_guest_exec and supports(adapter, "guest_exec"),
            snapshot=supports(adapter, "snapshot"),
            default_timeout=convert.duration(settings.default_timeout),
            default_escalation=convert.enum(pb.Escalation, settings.default_escalation),
            vm_count=len(self._inventory.vms),
            caller=CLIENT.get().shown,
            on_behalf_of=CLIENT.get().delegates,
            connection_error=convert.connection_error(self._inventory.failure),
            time=convert.timestamp(datetime.now(UTC)),
            role=pb.ROLE_OPERATOR if CLIENT.get().operates else pb.ROLE_READER,
            journal_error=encodable(self._journal.failure),
            save=supports(adapter, "save"),
            **convert.diagnosis(adapter.diagnosis() if isinstance(adapter, DiagnosingAdapter) else Diagnosis()),
        )

    async def GetVM(self, request: pb.GetVMRequest, _: Call) -> pb.VM:
        """From the inventory, without a call to the hypervisor."""
        return self._numbered(self._inventory.resolve(validation.required(request.vm, "vm")))

    async def ListVMs(self, request: pb.ListVMsRequest, _: Call) -> pb.ListVMsResponse:
        """Ordered by name and id; the token is where the last page ended."""
        self._inventory.require_connected()
        size = validation.page_size(request.page_size, 500)
        after = _token(request.page_token) if request.page_token else ("", "")
        found = sorted((vm for vm in self._inventory.vms.values() if _key(vm) > after), key=_key)
        more = _make_token(*_key(found[size - 1])) if len(found) > size else ""
        return pb.ListVMsResponse(vms=await self._vms(found[:size]), next_page_token=more)

    async def WatchVMs(self, request: pb.WatchVMsRequest, _: Call) -> AsyncIterator[pb.WatchVMsResponse]:
        """A slow reader gets the latest state of each VM, and of the connection, not each state."""
        changed: dict[str, None] = dict.fromkeys(self._inventory.vms)
        more = asyncio.Event()
        connected = told = True

        def note(vm_id: str, _vm: VM | None) -> None:
            changed[vm_id] = None
            more.set()

        def note_connection(now: bool) -> None:
            nonlocal connected
            connected = now
            more.set()

        with self._inventory.observed(note), self._inventory.followed(note_connection):
            self._inventory.require_connected()
            for vm_id in sorted(changed, key=lambda vm_id: _key(self._inventory.vms[vm_id])):
                changed.pop(vm_id, None)
                yield self._change(vm_id)
            yield pb.WatchVMsResponse(snapshot_complete=True)
            while True:
                if connected != told:
                    told = connected
                    yield pb.WatchVMsResponse(hypervisor_connected=told)
                while changed:
                    yield self._change(changed.popitem()[0])
                more.clear()
                await more.wait()

    async def ForecastShutdown(self, request: pb.ForecastShutdownRequest, _: Call) -> pb.ForecastShutdownResponse:
        """From the inventory: nothing is asked of a guest."""
        if request.vm:
            found = [self._inventory.resolve(validation.bounded(request.vm, "vm"))]
        else:
            self._inventory.require_connected()
            found = sorted(self._inventory.vms.values(), key=_key)
        return pb.ForecastShutdownResponse(vms=await self._vms(found))

    async def PowerOn(self, request: pb.PowerOnRequest, _: Call) -> pb.Operation:
        return await self._begin(request, Kind.POWER_ON, validation.power_on)

    async def PowerOff(self, request: pb.PowerOffRequest, _: Call) -> pb.Operation:
        return await self._begin(request, Kind.POWER_OFF, validation.power_off)

    async def Shutdown(self, request: pb.ShutdownRequest, _: Call) -> pb.Operation:
        return await self._begin(request, Kind.SHUTDOWN, validation.shutdown)

    async def Reboot(self, request: pb.RebootRequest, _: Call) -> pb.Operation:
        return await self._begin(request, Kind.REBOOT, validation.reboot)

    async def GetOperation(self, request: pb.GetOperationRequest, _: Call) -> pb.Operation:
        return convert.operation(await self._operations.get(validation.required(request.id, "id")))

    async def ListOperations(self, request: pb.ListOperationsRequest, _: Call) -> pb.ListOperationsResponse:
        size = validation.page_size(request.page_size, 100)
        vm_id = self._inventory.resolve(validation.bounded(request.vm, "vm")).id if request.vm else ""
        before = _token(request.page_token) if request.page_token else None
        by = validation.bounded(request.requested_by, "requested_by")
        told, length, more, looked_at = list[pb.Operation](), 0, "", 0
        async for record in self._newest_first(before, vm_id, request.active_only):
            if len(told) == size or length > PAGE_BYTES or looked_at == MOST_LOOKED_AT:
                return pb.ListOperationsResponse(operations=told, next_page_token=more)
            if by and not record.request.asked.is_by(by):
                looked_at, more = looked_at + 1, _make_token(*_place(record))
                continue
            now = record if record.state.final else await self._operations.get(record.id)
            told.append(convert.operation(now))
            length, more = length + told[-1].ByteSize(), _make_token(*_place(record))
        return pb.ListOperationsResponse(operations=told)

    async def _newest_first(
        self, before: tuple[str, str] | None, vm_id: str, active_only: bool
    ) -> AsyncIterator[Operation]:
        """Operations older than `before` as the journal has them, whose order is by its times; read a few at a time."""
        while found := await self._journal.page(OPERATIONS_AT_ONCE, before, vm_id, active_only):
            for record in found:
                yield record
            before = _place(found[-1])
            await asyncio.sleep(0)

    async def WatchOperation(self, request: pb.WatchOperationRequest, _: Call) -> AsyncIterator[pb.Operation]:
        async for operation in self._operations.watch(validation.required(request.id, "id")):
            yield convert.operation(operation)

    async def ExtendOperation(self, request: pb.ExtendOperationRequest, _: Call) -> pb.Operation:
        operation_id, extension = validation.required(request.id, "id"), validation.extension(request)
        asked = await self._may_decide(request)
        return convert.operation(await self._operations.extend(operation_id, extension, asked))

    async def ForceOperation(self, request: pb.ForceOperationRequest, _: Call) -> pb.Operation:
        operation_id, asked = validation.required(request.id, "id"), await self._may_decide(request)
        return convert.operation(await self._operations.force(operation_id, asked))

    async def CancelOperation(self, request: pb.CancelOperationRequest, _: Call) -> pb.Operation:
        operation_id, asked = validation.required(request.id, "id"), await self._may_decide(request)
        return convert.operation(await self._operations.cancel(operation_id, asked))

    async def _may_decide(self, request: Any) -> Asked:
        """Who decides, once that is known to be allowed.

        Raises:
            NotAllowed: for the operation's VM, or in another's name.
            OperationNotFound
        """
        validation.bound_words(request)
        client, asked = CLIENT.get(), _asked(request)
        if client.rules is not None:
            about = (await self._operations.get(request.id)).request
            known = self._inventory.vms.get(about.vm_id)
            client.require(known or VM(about.vm_id, about.vm_name, PowerState.UNKNOWN))
        return asked

    async def _vms(self, found: Iterable[VM]) -> list[pb.VM]:
        told = list[pb.VM]()
        for vm in found:
            told.append(self._vm(vm))
            if len(told) % VMS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return told

    def _vm(self, vm: VM) -> pb.VM:
        return convert.vm(vm, self._operations.active_on(vm.id))

    def _numbered(self, vm: VM) -> pb.VM:
        told = self._vm(vm)
        told.sequence = next(self._sequence)
        return told

    def _change(self, vm_id: str) -> pb.WatchVMsResponse:
        vm = self._inventory.vms.get(vm_id)
        return pb.WatchVMsResponse(changed=self._numbered(vm)) if vm else pb.WatchVMsResponse(removed=vm_id)

    def _target(self, name: str) -> VM:
        """The VM to work on.

        Raises:
            VMRefused: it takes no operations.
        """
        vm = self._inventory.resolve(validation.required(name, "vm"))
        if vm.refused:
            raise VMRefused(f"{vm.name}: {vm.refused}; name another VM.")
        return vm

    async def _begin(self, message: M, kind: Kind, read: Callable[[M, Find, Settings], Request]) -> pb.Operation:
        """Join the operation of this request_id, even if its VM is gone by now, or begin one."""
        validation.bounded(message.vm, "vm")
        validation.bounded(message.request_id, "request_id", validation.MAX_REQUEST_ID)
        given, client = validation.credentials(message), CLIENT.get()
        if client.rules is not None:  # also to join an operation, which hands it credentials
            client.require(self._inventory.resolve(validation.required(message.vm, "vm")))
        known = await self._operations.join(message.request_id, kind, message.vm, given)
        if known is None:
            request = read(message, self._target, self._settings)
            if client.rules is not None:
                rights = {RIGHTS[hook.handler.type] for hook in request.hooks}
                client.require(self._inventory.resolve(request.vm_id), *rights)
            request = request.model_copy(update={"asked": _asked(message)})
            for i, hook in enumerate(request.hooks):
                self._require_possible(hook, i)
            if request.escalation is Escalation.SAVE and not supports(self._adapter, "save"):
                raise Unsupported(f"escalation SAVE: {self._adapter.type} saves no VM's memory; name another one.")
            known = await self._operations.start(request)
        return convert.operation(known)

    def _require_possible(self, hook: Hook, index: int) -> None:
        """A hook that can never run here is refused at once, rather than recorded as failed later."""
        method = {"exec": "guest_exec", "snapshot": "snapshot"}.get(hook.handler.type)
        if method and not supports(self._adapter, method):
            raise Unsupported(f"Hook {hook.name} ({index + 1}): {self._adapter.type} has no {method}; leave it out.")
        if method == "guest_exec" and not self._settings.allow_guest_exec:
            raise Disabled(
                f"Hook {hook.name} ({index + 1}): programs in guests are turned off here; leave it out, or the "
                "provider's operator sets --allow-guest-exec (VMPOWER_ALLOW_GUEST_EXEC=true)."
            )


def _asked(message: Any) -> Asked:
    """Who asked, as the connection tells, and what the request adds.

    Raises:
        NotAllowed: it speaks for another, and may not.
    """
    client = CLIENT.get()
    if message.on_behalf_of and not client.delegates:
        raise NotAllowed(
            f"{client.shown} may not ask on behalf of others; leave on_behalf_of out, or the provider's operator adds "
            "it to --delegates."
        )
    whom, reason = clean(message.on_behalf_of), clean(message.reason)
    return Asked(requested_by=client.shown, on_behalf_of=whom, reason=reason)


def _key(vm: VM) -> tuple[str, str]:
    return (vm.name, vm.id)


def _place(operation: Operation) -> tuple[str, str]:
    """Where it is among all, newest first."""
    return moment(operation.create_time), operation.id


def _make_token(*parts: str) -> str:
    return base64.urlsafe_b64encode("\0".join(parts).encode()).decode()


def _token(token: str) -> tuple[str, str]:
    try:
        first, second = base64.urlsafe_b64decode(validation.bounded(token, "page_token")).decode().split("\0")
    except ValueError as error:
        raise InvalidRequest(Violation("page_token", "is not one that an earlier page returned")) from error
    return first, second
