"""A provider as the controller follows it: its client, all that it reports, and whether it answers."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from client.channel import Tls
from client.errors import ProviderError
from client.power import PowerClient
from controller.models import Runtime
from controller.vm_cache import VMCache
from protos.power.v1 import power_pb2 as pb

GIVE_UP_AFTER = 5.0
"""Seconds without a connection after which a provider, or its hypervisor, is unreachable: a restart is shorter."""
HYPERVISOR_AWAY = "HYPERVISOR_UNAVAILABLE"
"""The reason by which a provider says that it is there, and its hypervisor is not."""
SEARCHED = 100
"""How many of a VM's latest operations are searched for one of ours."""
UNREACHABLE = "ProviderUnreachable"
NO_ENDPOINT = "NoEndpoint"
NOWHERE = "unix:"
"""The address of a provider without one; it is never opened."""
WITHOUT_ENDPOINT = (
    "spec.runtime.endpoint is not written, so it is not known where its vmpower provider is: start one for this "
    "hypervisor, and write its gRPC target there, as in runtime: {endpoint: kvm1.example:9443, tls: {...}}."
)
Changed = Callable[[set[str] | None], None]
"""Told the ids and names of VMs that changed, or None: all of them, and whether the provider answers."""


class ProviderClient(PowerClient):
    """A client that tells `changed` what it hears.

    Attributes:
        reachable: whether the provider answers and knows its VMs; None until it first did or was given up on.
        problem: why it is not reachable, for people; `reason` is the word for programs.
        hypervisor_problem: why the provider, which answers, does not reach its hypervisor; empty while it does.
    """

    def __init__(self, runtime: Runtime, changed: Changed) -> None:
        files = runtime.tls.files if runtime.tls and runtime.endpoint else None
        tls = Tls(Path(files[0]), Path(files[1]), Path(files[2])) if files else None
        super().__init__(runtime.endpoint or NOWHERE, tls)
        self._has_endpoint = runtime.endpoint is not None
        self.cache = VMCache()
        self.info = pb.GetProviderInfoResponse()
        self.reachable: bool | None = None
        self.problem = ""
        self.reason = UNREACHABLE
        self.hypervisor_problem = ""
        self._changed = changed
        self._incoming = self.cache  # another one while a snapshot arrives
        self._giving_up: asyncio.TimerHandle | None = None
        self._doubting: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Keep `cache`, `info` and `reachable` true until cancelled, or for ever where there is nothing to follow."""
        if not self._has_endpoint:
            self.reachable, self.problem, self.reason = False, WITHOUT_ENDPOINT, NO_ENDPOINT
            self._changed(None)
            return
        async with aclosing(self.watch_vms(self._missed)) as messages:
            async for message in messages:
                self._take_in(message)

    async def close(self) -> None:
        self._stop_giving_up()
        self._stop_doubting()
        await super().close()

    async def refresh(self, vm: str) -> None:
        """Read the VM of this id anew; one that is gone is no error."""
        try:
            self.cache.put(await self.call(pb.GetVMRequest(vm=vm)))
        except ProviderError as error:
            if error.code != "NOT_FOUND":
                raise
            self.cache.remove(vm)

    async def find_operation(self, vm: str, request_id: str) -> pb.Operation | None:
        latest = await self.list_operations(vm, limit=SEARCHED)
        return next((each for each in latest if each.request_id == request_id), None)

    def _take_in(self, message: pb.GetProviderInfoResponse | pb.WatchVMsResponse) -> None:
        if isinstance(message, pb.GetProviderInfoResponse):
            self.info, self._incoming = message, VMCache()
            return
        match message.WhichOneof("event"):
            case "snapshot_complete" if self._incoming is not self.cache:
                self.cache = self._incoming
                self._connected()
            case "changed":
                self._incoming.put(message.changed)
                self._tell(message.changed.id, message.changed.name)
            case "removed" if gone := self._incoming.remove(message.removed):
                self._tell(gone.id, gone.name)
            case "hypervisor_connected":
                self._hear_of_hypervisor(message.hypervisor_connected)

    def _hear_of_hypervisor(self, connected: bool) -> None:
        self._stop_doubting()
        if not connected:
            self._doubting = asyncio.get_running_loop().call_later(GIVE_UP_AFTER, self._doubt)
        elif self.hypervisor_problem:
            self.hypervisor_problem = ""
            self._changed(None)

    def _doubt(self) -> None:
        self._doubting = None
        self.hypervisor_problem = (
            f"The hypervisor {self.info.endpoint} does not answer its provider, which keeps trying."
        )
        self._changed(None)

    def _stop_doubting(self) -> None:
        if self._doubting is not None:
            self._doubting.cancel()
            self._doubting = None

    def _tell(self, *names: str) -> None:
        if self._incoming is self.cache:
            self._changed(set(names))

    def _connected(self) -> None:
        self._stop_giving_up()
        self._stop_doubting()
        self.reachable, self.problem, self.hypervisor_problem = True, "", ""
        self._changed(None)

    def _missed(self, error: ProviderError) -> None:
        self._stop_doubting()
        before = self.hypervisor_problem
        self.problem = f"{self.address}: {error.message}"
        self.hypervisor_problem = error.message if error.reason == HYPERVISOR_AWAY else ""
        if self.reachable is False and bool(before) != bool(self.hypervisor_problem):
            self._changed(None)
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
