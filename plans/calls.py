"""How a run speaks to providers: each request until it is answered, so many begun at once, operations to their ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Protocol, TypeVar

from client.errors import ProviderError
from client.power import PowerClient, WorkRequest, raise_refusal
from client.times import timestamp
from common.backoff import Backoff
from protos.power.v1 import power_pb2 as pb

T = TypeVar("T")
Changed = Callable[[pb.Operation], Awaitable[None]]
"""Is told each state of an operation."""
ROOM = 20
"""Operations that are being begun, or given another moment, at once at one provider. One that has begun takes no room:
it may wait for hours."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds before a request that was not answered is sent again."""
RECENT = 20
"""Of how many of a VM's newest operations one is looked for."""


class Named(Protocol):
    """A VM, by its provider's name and its id there."""

    @property
    def provider(self) -> str: ...
    @property
    def vm(self) -> str: ...


class Calls:
    """The providers of a run."""

    def __init__(self, clients: Mapping[str, PowerClient], room: int = ROOM) -> None:
        self._clients = clients
        self._room = {name: asyncio.Semaphore(room) for name in clients}

    async def begin(
        self, vm: Named, request: WorkRequest, given_up: Callable[[], bool], in_the_way: Changed | None = None
    ) -> pb.Operation | None:
        """The operation that the request begins, or began before, through outages; after another one that is active on
        the VM, whose states `in_the_way` is told. None: it was given up, and has begun none as far as the provider
        knows.

        Raises:
            ProviderError: it is refused.
        """
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not given_up():
            try:
                async with self._room[vm.provider]:
                    return await self._clients[vm.provider].call(request)
            except ProviderError as error:
                if error.reason == "OPERATION_ACTIVE":
                    await self.follow(vm, error.metadata["operation_id"], in_the_way)
                    continue
                raise_refusal(error)
            await asyncio.sleep(pauses.next())
        return await self.find(vm, request.request_id)

    async def follow(self, vm: Named, operation: str, changed: Changed | None = None) -> pb.Operation:
        """The operation as it ended; `changed` is told each state of it, also the last.

        Raises:
            ProviderError: the provider does not know it any more.
        """
        now = pb.Operation(id=operation)
        async with aclosing(self._clients[vm.provider].watch_operation(operation)) as changes:
            async for now in changes:
                if changed is not None:
                    await changed(now)
        return now

    async def find(self, vm: Named, request_id: str) -> pb.Operation | None:
        """The operation that this request began, if it did, through outages.

        Raises:
            ProviderError: it may not be asked for.
        """
        client = self._clients[vm.provider]
        try:
            return await _through_outages(lambda: client.find_operation(vm.vm, request_id, RECENT))
        except ProviderError as error:
            if error.reason == "VM_NOT_FOUND":
                return None
            raise

    async def running(self, provider: str) -> set[str]:
        """The ids of a provider's VMs that run now.

        Raises:
            ProviderError: it does not answer.
        """
        return {vm.id for vm in await self._clients[provider].list_vms() if vm.power_state == pb.POWER_STATE_ON}

    def watch(self, provider: str) -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
        """All VMs of a provider, then each change, without end."""
        return self._clients[provider].watch_vms()

    async def bring_forward(self, vm: Named, operation: str, force_after: Callable[[], datetime], reason: str) -> None:
        """Give its guest until this moment, which is sooner, through outages: each attempt has its own moment, as a
        provider takes none that has passed.

        Raises:
            ProviderError: it is refused; an operation that has ended is.
        """
        client = self._clients[vm.provider]

        async def ask() -> None:
            async with self._room[vm.provider]:
                moment = timestamp(force_after())
                await client.call(pb.ExtendOperationRequest(id=operation, reason=reason, force_after=moment))

        await _through_outages(ask)

    async def cancel(self, vm: Named, operation: str) -> None:
        """Give an operation up, if that is possible still.

        Raises:
            ProviderError
        """
        await self._clients[vm.provider].call(pb.CancelOperationRequest(id=operation))


async def _through_outages(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once there is one.

    Raises:
        ProviderError: it is refused.
    """
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        try:
            return await ask()
        except ProviderError as error:
            raise_refusal(error)
        await asyncio.sleep(pauses.next())
