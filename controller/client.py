"""`provider_api.Client`, which has its methods' documentation, by the client that all of vmpower shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path

from client.channel import Tls
from client.errors import ProviderError
from client.power import OperationRequest, PowerClient
from controller import convert
from controller.models import Hook, Lifecycle, Runtime
from controller.provider_api import Changed, GuestCredentials, Info, Operation, VMCache
from protos.power.v1 import power_pb2 as pb

GIVE_UP_AFTER = 5.0
"""Seconds without a connection after which a provider counts as unreachable: a restart is shorter."""
SEARCHED = 100
"""How many of a VM's latest operations are searched for one of ours."""


class GrpcClient:
    """A connection to one provider that keeps itself alive and tells `changed` what it hears."""

    def __init__(self, runtime: Runtime, changed: Changed) -> None:
        self.cache = VMCache()
        self.info = Info()
        self.reachable: bool | None = None
        self.problem = ""
        self._changed = changed
        self._incoming = self.cache  # another one while a snapshot arrives
        self._giving_up: asyncio.TimerHandle | None = None
        tls = runtime.tls
        files = Tls(Path(tls.ca_file), Path(tls.cert_file), Path(tls.key_file)) if tls else None
        self._power = PowerClient(runtime.endpoint, files)

    async def run(self) -> None:
        async with aclosing(self._power.watch_vms(self._missed)) as messages:
            async for message in messages:
                self._take_in(message)

    async def close(self) -> None:
        self._stop_giving_up()
        await self._power.close()

    async def refresh(self, vm: str) -> None:
        try:
            self.cache.put(convert.vm(await self._power.call(pb.GetVMRequest(vm=vm))))
        except ProviderError as error:
            if error.code != "NOT_FOUND":
                raise
            self.cache.remove(vm)

    async def power_on(
        self, vm: str, post_start: tuple[Hook, ...], request_id: str, login: GuestCredentials | None = None
    ) -> Operation:
        hooks, credentials = convert.hooks(post_start), convert.credentials(login)
        return await self._call(
            pb.PowerOnRequest(vm=vm, post_start=hooks, request_id=request_id, guest_credentials=credentials)
        )

    async def power_off(self, vm: str, request_id: str) -> Operation:
        return await self._call(pb.PowerOffRequest(vm=vm, request_id=request_id))

    async def shutdown(
        self,
        vm: str,
        lifecycle: Lifecycle,
        request_id: str,
        force_after: datetime | None,
        login: GuestCredentials | None = None,
    ) -> Operation:
        return await self._call(convert.shutdown_request(vm, lifecycle, request_id, force_after, login))

    async def extend(self, operation: str, timeout: timedelta) -> Operation:
        return await self._call(pb.ExtendOperationRequest(id=operation, timeout=convert.duration(timeout)))

    async def extend_by(self, operation: str, extension: timedelta) -> Operation:
        return await self._call(pb.ExtendOperationRequest(id=operation, extension=convert.duration(extension)))

    async def force(self, operation: str) -> Operation:
        return await self._call(pb.ForceOperationRequest(id=operation))

    async def cancel(self, operation: str) -> Operation:
        return await self._call(pb.CancelOperationRequest(id=operation))

    async def find_operation(self, vm: str, request_id: str) -> Operation | None:
        latest = await self._power.list_operations(vm, limit=SEARCHED)
        return next((convert.operation(each) for each in latest if each.request_id == request_id), None)

    async def watch_operation(self, operation: str) -> AsyncIterator[Operation]:
        async with aclosing(self._power.stream(pb.WatchOperationRequest(id=operation))) as changes:
            async for changed in changes:
                yield convert.operation(changed)

    async def _call(self, request: OperationRequest) -> Operation:
        return convert.operation(await self._power.call(request))

    def _take_in(self, message: pb.GetProviderInfoResponse | pb.WatchVMsResponse) -> None:
        if isinstance(message, pb.GetProviderInfoResponse):
            self.info, self._incoming = convert.info(message), VMCache()
            return
        match message.WhichOneof("event"):
            case "snapshot_complete" if self._incoming is not self.cache:
                self.cache = self._incoming
                self._connected()
            case "changed":
                vm = convert.vm(message.changed)
                self._incoming.put(vm)
                self._tell(vm.id, vm.name)
            case "removed" if gone := self._incoming.remove(message.removed):
                self._tell(gone.id, gone.name)

    def _tell(self, *names: str) -> None:
        if self._incoming is self.cache:
            self._changed(set(names))

    def _connected(self) -> None:
        self._stop_giving_up()
        self.reachable, self.problem = True, ""
        self._changed(None)

    def _missed(self, error: ProviderError) -> None:
        self.problem = f"{self._power.address}: {error.message}"
        if self.reachable is not False and self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(GIVE_UP_AFTER, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        self.reachable = False
        self._changed(None)

    def _stop_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
