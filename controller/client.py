"""One provider over gRPC: the only place that speaks it. Errors come out as `ProviderError`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from common.backoff import Backoff
from controller import convert
from controller.models import Hook, Lifecycle, Runtime, Tls
from controller.provider_api import VM, GuestCredentials, Info, Operation, Picture, ProviderError
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub

if TYPE_CHECKING:  # a class of the type stubs only
    from protos.power.v1.power_pb2_grpc import PowerServiceAsyncStub

CALL_TIMEOUT = 10.0
"""Seconds a call may take; every call returns at once, whatever the operation takes."""
GIVE_UP_AFTER = 5.0
"""Seconds without a connection after which a provider counts as unreachable: a restart is shorter."""
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),  # gRPC's own 2 min would keep a provider that is back waiting
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 30_000),  # a host that vanished without a word is noticed within 40 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # watches are silent for hours
]

T = TypeVar("T")
Changed = Callable[[set[str] | None], None]


class GrpcClient:
    """A connection to one provider that keeps itself alive. `changed` is told the ids and names of VMs
    that changed, or None when reachability did, and with it everything."""

    def __init__(self, runtime: Runtime, changed: Changed) -> None:
        self.picture = Picture()
        self.info = Info()
        self.reachable: bool | None = None
        self.problem = ""
        self._runtime, self._changed = runtime, changed
        self._backoff = Backoff(0.2, 3.0)
        self._giving_up: asyncio.TimerHandle | None = None
        self._certificates: list[tuple[int, int]] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._open_stub: PowerServiceAsyncStub | None = None

    async def run(self) -> None:
        """Follow all VMs, connecting anew whenever that breaks, until cancelled."""
        while True:
            try:
                await self._connect()
                await self._learn_info()
                await self._follow_vms()
            except ProviderError as error:
                self._missed(error)
            await asyncio.sleep(self._backoff.next())

    async def close(self) -> None:
        """Give back the connection."""
        self._stop_giving_up()
        if self._channel is not None:
            await self._channel.close()

    async def refresh(self, vm: str) -> None:
        """Read one VM anew and put it into `picture`; a VM that is gone is no error."""
        try:
            self.picture.put(convert.vm(await self._call(self._stub.GetVM, pb.GetVMRequest(vm=vm))))
        except ProviderError as error:
            if error.code != "NOT_FOUND":
                raise
            self.picture.remove(vm)

    async def power_on(
        self, vm: str, post_start: tuple[Hook, ...], request_id: str, login: GuestCredentials | None = None
    ) -> Operation:
        """Start the VM and then run the hooks; calls off an active shutdown."""
        request = pb.PowerOnRequest(
            vm=vm,
            post_start=convert.hooks(post_start),
            request_id=request_id,
            guest_credentials=convert.credentials(login),
        )
        return convert.operation(await self._call(self._stub.PowerOn, request))

    async def power_off(self, vm: str, request_id: str) -> Operation:
        """Cut the power; pre-empts whatever else is active."""
        request = pb.PowerOffRequest(vm=vm, request_id=request_id)
        return convert.operation(await self._call(self._stub.PowerOff, request))

    async def shutdown(
        self,
        vm: str,
        lifecycle: Lifecycle,
        request_id: str,
        force_after: datetime | None,
        login: GuestCredentials | None = None,
    ) -> Operation:
        """Bring the VM down gracefully; `force_after` counts instead of the timeout where it is known."""
        request = convert.shutdown_request(vm, lifecycle, request_id, force_after, login)
        return convert.operation(await self._call(self._stub.Shutdown, request))

    async def extend(self, operation: str, timeout: timedelta) -> Operation:
        """Give it a new grace period, counted from its beginning."""
        request = pb.ExtendOperationRequest(id=operation, timeout=convert.duration(timeout))
        return convert.operation(await self._call(self._stub.ExtendOperation, request))

    async def extend_by(self, operation: str, extension: timedelta) -> Operation:
        """Move its force_after by so much, counted from now where that has passed."""
        request = pb.ExtendOperationRequest(id=operation, extension=convert.duration(extension))
        return convert.operation(await self._call(self._stub.ExtendOperation, request))

    async def force(self, operation: str) -> Operation:
        """End the waiting now."""
        request = pb.ForceOperationRequest(id=operation)
        return convert.operation(await self._call(self._stub.ForceOperation, request))

    async def cancel(self, operation: str) -> Operation:
        """Give it up."""
        request = pb.CancelOperationRequest(id=operation)
        return convert.operation(await self._call(self._stub.CancelOperation, request))

    async def find_operation(self, vm: str, request_id: str) -> Operation | None:
        """The operation among this VM's latest that bears this request_id."""
        request = pb.ListOperationsRequest(vm=vm)
        found = await self._call(self._stub.ListOperations, request)
        ours = (each for each in found.operations if each.request_id == request_id)
        return next(map(convert.operation, ours), None)

    async def watch_operation(self, operation: str) -> AsyncIterator[Operation]:
        """The operation as it is, then at each change, to its end."""
        with _translated():
            async for message in self._stub.WatchOperation(pb.WatchOperationRequest(id=operation)):
                yield convert.operation(message)

    async def _call(self, method: Callable[..., Awaitable[T]], request: object) -> T:
        with _translated():
            return await method(request, timeout=CALL_TIMEOUT)

    async def _learn_info(self) -> None:
        info = await self._call(self._stub.GetProviderInfo, pb.GetProviderInfoRequest())
        self.info = convert.info(info)

    async def _follow_vms(self) -> None:
        snapshot: dict[str, VM] | None = {}
        with _translated():
            async for message in self._stub.WatchVMs(pb.WatchVMsRequest()):
                match message.WhichOneof("event"):
                    case "snapshot_complete" if snapshot is not None:
                        self.picture.replace(snapshot.values())
                        snapshot = None
                        self._connected()
                    case "changed" if snapshot is not None:
                        snapshot[message.changed.id] = convert.vm(message.changed)
                    case "removed" if snapshot is not None:
                        snapshot.pop(message.removed, None)
                    case "changed":
                        self._put(convert.vm(message.changed))
                    case "removed":
                        self._remove(message.removed)
        raise ProviderError("UNAVAILABLE", "The provider ended the watch; it is asked again.")

    def _put(self, vm: VM) -> None:
        self.picture.put(vm)
        self._changed({vm.id, vm.name})

    def _remove(self, vm_id: str) -> None:
        gone = self.picture.remove(vm_id)
        if gone is not None:
            self._changed({gone.id, gone.name})

    def _connected(self) -> None:
        self._stop_giving_up()
        self._backoff.reset()
        self.reachable, self.problem = True, ""
        self._changed(None)

    def _missed(self, error: ProviderError) -> None:
        self.problem = f"{self._runtime.endpoint}: {error.message}"
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

    async def _connect(self) -> None:
        """Open the channel; open it anew when a certificate has been renewed."""
        stamps = _stamps(self._runtime.tls)
        if self._channel is not None and stamps != self._certificates:
            await self._channel.close()
            self._channel = None
        if self._channel is None:
            self._channel = _channel(self._runtime)
            self._certificates = stamps
            self._open_stub = PowerServiceStub(self._channel)

    @property
    def _stub(self) -> "PowerServiceAsyncStub":
        if self._open_stub is None:
            raise ProviderError("UNAVAILABLE", self.problem or "There is no connection yet.")
        return self._open_stub


def _channel(runtime: Runtime) -> grpc.aio.Channel:
    if runtime.tls is None:
        return grpc.aio.insecure_channel(runtime.endpoint, CHANNEL_OPTIONS)
    try:
        ca, key, cert = (
            Path(file).read_bytes() for file in (runtime.tls.ca_file, runtime.tls.key_file, runtime.tls.cert_file)
        )
    except OSError as error:
        raise ProviderError("FAILED_PRECONDITION", f"{error}; the operator of the controller provides it.") from error
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.aio.secure_channel(runtime.endpoint, credentials, CHANNEL_OPTIONS)


def _stamps(tls: Tls | None) -> list[tuple[int, int]]:
    """Change whenever one of the files does; a file that is missing now may be there later."""
    files = [Path(file) for file in (tls.ca_file, tls.key_file, tls.cert_file)] if tls else []
    return [(stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in files if file.exists())]


@contextmanager
def _translated() -> Iterator[None]:
    """gRPC cancels the calls of a channel that is closed: to the caller that is no cancellation of its own."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _translate(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ProviderError("UNAVAILABLE", "The connection was closed meanwhile.") from None


def _translate(error: grpc.aio.AioRpcError) -> ProviderError:
    code, message = error.code().name, error.details() or error.code().name
    info = _error_info(error)
    return ProviderError(code, message, info.reason, dict(info.metadata))


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    info = ErrorInfo()
    with suppress(ValueError):  # details that contradict the status: nothing of them can be trusted
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
        any(detail.Unpack(info) for detail in (status.details if status else ()))
    return info
