"""A provider as the controller follows it: its client, all that it reports, and whether it answers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from client.channel import Pem, Tls
from client.errors import ProviderError
from client.power import AskingRequest, PowerClient
from controller import models
from controller.config import Settings
from controller.models import Runtime
from controller.source import SecretUnavailable, SourceError, TlsSecret
from controller.vm_cache import VMCache
from protos.power.v1 import power_pb2 as pb

GIVE_UP_AFTER = 5.0
"""Seconds without a connection after which a provider, or its hypervisor, is unreachable: a restart is shorter."""
HYPERVISOR_AWAY = "HYPERVISOR_UNAVAILABLE"
"""The reason by which a provider says that it is there, and its hypervisor is not."""
TLS_AGE, TLS_RETRY = 60.0, 10.0
"""Seconds for which what a Secret held serves new connections, and after which one that could not be read is asked for
again."""
UNREACHABLE = "ProviderUnreachable"
NO_ENDPOINT = "NoEndpoint"
NOWHERE = "unix:nowhere"
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
        trusted: whether it is the operator's: guests' passwords are for such alone.
        read_tls: reads the Secret by which both sides prove who they are, where the Provider names one.
    """

    def __init__(self, runtime: Runtime, changed: Changed, own: Tls | None = None) -> None:
        """`own` are the controller's own certificate and authorities."""
        super().__init__(runtime.endpoint or NOWHERE, _tls(runtime.tls, own) if runtime.endpoint else None)
        self._has_endpoint = runtime.endpoint is not None
        self.trusted = False
        self.read_tls: Callable[[], Awaitable[TlsSecret]] | None = None
        self._tls_read: tuple[float, ProviderError | None] | None = None
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

    async def prepare(self) -> None:
        """Read the Secret again, where that is due."""
        now = asyncio.get_running_loop().time()
        when, failure = self._tls_read or (-TLS_AGE, None)
        if self.read_tls is None or now - when < (TLS_RETRY if failure else TLS_AGE):
            if failure:
                raise failure
            return
        try:
            found = await self.read_tls()
        except (SecretUnavailable, SourceError) as error:
            refused = ProviderError("FAILED_PRECONDITION", str(error), "TLS_SECRET_UNAVAILABLE")
            self._tls_read = now, refused
            raise refused from error
        self._tls_read = now, None
        self.use(Pem(found.ca, found.cert, found.key))

    async def close(self) -> None:
        self._stop_giving_up()
        self._stop_doubting()
        await super().close()

    async def ask(self, request: AskingRequest, on_behalf_of: str, reason: str = "") -> pb.Operation:
        """Send a request for a resource, and say so where the provider lets this controller say it."""
        request.reason = reason
        request.on_behalf_of = on_behalf_of if self.info.on_behalf_of else ""
        return await self.call(request)

    async def refresh(self, vm: str) -> None:
        """Read the VM of this id anew; one that is gone is no error."""
        try:
            self.cache.put(await self.call(pb.GetVMRequest(vm=vm)))
        except ProviderError as error:
            if error.code != "NOT_FOUND":
                raise
            self.cache.remove(vm)

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


def _tls(declared: models.Tls | None, own: Tls | None) -> Tls | Pem | None:
    """That of a Secret is empty until it is read."""
    if declared is None:
        return None
    if files := declared.files:
        return Tls(Path(files[0]), Path(files[1]), Path(files[2]))
    return own if declared.controller_certificate and own else Pem()


def own_certificate(settings: Settings) -> Tls | None:
    """The controller's own, where it has one."""
    ca, cert, key = settings.tls_ca, settings.tls_cert, settings.tls_key
    return Tls(ca, cert, key) if ca and cert and key else None
