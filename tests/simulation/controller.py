"""The real controller on a machine of its own, between a simulated API server and the simulated network."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from google.protobuf.message import Message

from controller.client import Changed, ProviderClient
from controller.models import PowerRun, PowerRunSpec, Provider, Runtime, Status, VirtualMachine
from controller.runner import Runner
from controller.source import (
    Applied,
    Change,
    Decided,
    Event,
    GuestCredentials,
    Key,
    SecretUnavailable,
    SourceError,
    Synced,
    TlsSecret,
    UpsSecret,
    key_of,
)
from controller.status_models import VirtualMachineStatus
from tests.simulation.network import Network
from tests.simulation.provider import EPOCH
from tests.simulation.universe import Loop, Universe

ENDPOINT = "unix:///simulated.sock"
WORKERS = 4


class Cluster:
    """The API server: what is declared, and each status as last written. It outlives controllers. A controller's
    `Source`."""

    shared = True

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self.away = False
        self.writes: list[tuple[float, Key]] = []
        self._resources: dict[Key, VirtualMachine | Provider] = {}
        self._watcher: asyncio.Queue[Change] | None = None
        self._put(Provider.model_validate(_document("Provider", "local", 0, _PROVIDER)))

    def declare(self, vm: str, spec: dict[str, Any]) -> None:
        """A new spec of a VM's resource, of the next generation."""
        key = Key("VirtualMachine", "default", vm)
        known = self._resources.get(key)
        document = _document("VirtualMachine", vm, known.metadata.generation if known else 0, spec)
        resource = VirtualMachine.model_validate(document)
        self._put(resource.model_copy(update={"status": known.status}) if known else resource)

    def of(self, vm: str) -> VirtualMachine | None:
        found = self._resources.get(Key("VirtualMachine", "default", vm))
        return found if isinstance(found, VirtualMachine) else None

    def _put(self, resource: VirtualMachine | Provider) -> None:
        self._resources[key_of(resource)] = resource
        if self._watcher is not None:
            self._watcher.put_nowait(Applied(resource))

    async def watch(self) -> AsyncIterator[Change]:
        self._watcher = asyncio.Queue()
        for resource in tuple(self._resources.values()):
            yield Applied(resource)
        yield Synced()
        while True:
            yield await self._watcher.get()

    async def write_status(self, key: Key, status: Status) -> None:
        await self._take_time()
        self._resources[key] = self._resources[key].model_copy(update={"status": status})
        if isinstance(status, VirtualMachineStatus):
            self.writes.append((self._universe.now, key))
        await self._take_time()

    async def _take_time(self) -> None:
        """A kill, or an outage, may come before what was asked for takes effect, or after."""
        await asyncio.sleep(self._universe.random.uniform(0, 0.01))
        if self.away:
            raise SourceError("The API server does not answer.")

    async def emit_event(self, key: Key, event: Event) -> None:
        pass

    async def acknowledge(self, decided: Decided) -> None:
        pass

    async def remove_finalizer(self, key: Key) -> None:
        pass

    def is_gone(self, key: Key) -> bool:
        return False

    async def hold_provider(self, key: Key, held: bool) -> None:
        pass

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        raise SecretUnavailable("There are none here.")

    async def tls_secret(self, namespace: str, name: str) -> TlsSecret:
        raise SecretUnavailable("There are none here.")

    async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
        raise SecretUnavailable("There are none here.")

    async def delete_run(self, key: Key) -> None:
        pass

    async def own_machines(self) -> list[str]:
        raise SourceError("No plan may bring them down here.")

    async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
        raise SourceError("No plan has a trigger here.")

    async def close(self) -> None:
        pass


class SimulatedClient(ProviderClient):
    """The real client, over the simulated network."""

    def __init__(self, network: Network, runtime: Runtime, changed: Changed) -> None:
        super().__init__(runtime, changed)
        self._network = network

    def _method(self, request: Message) -> Any:
        name = type(request).__name__.removesuffix("Request")
        if name.startswith("Watch"):
            return partial(self._network.stream, name)
        return partial(self._network.call, name)


class ControllerMachine:
    """The machine that the controller runs on, with its clock."""

    def __init__(self, universe: Universe, cluster: Cluster, network: Network) -> None:
        self._universe, self._cluster, self._network = universe, cluster, network
        self.clock_is_off = timedelta(0)
        self._loop: Loop | None = None
        self._loops: list[Loop] = []

    def start(self) -> None:
        """Start a process, if none runs."""
        if self._loop is not None:
            return
        self._loop = Loop(self._universe)  # type: ignore[abstract]  # nothing else of it is used
        self._universe.loops.append(self._loop)
        self._loops.append(self._loop)
        asyncio._set_running_loop(self._loop)
        try:
            runner = Runner(self._cluster, partial(SimulatedClient, self._network), WORKERS, self._wall)
            self._loop.create_task(runner.run()).add_done_callback(self._ended)
        finally:
            asyncio._set_running_loop(None)

    def kill(self) -> None:
        """SIGKILL."""
        if self._loop is not None:
            self._loop.kill()
            self._loop = None
            self._cluster._watcher = None
            self._network.cut()

    def bury(self) -> None:
        """After all: end what every process left, so that Python has nothing to tidy up."""
        for loop in self._loops:
            loop.end()

    def _wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._universe.now) + self.clock_is_off

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self._universe.complain(f"the controller ended: {task}")


_PROVIDER = {"type": "sim", "runtime": {"endpoint": ENDPOINT}}


def _document(kind: str, name: str, generation: int, spec: dict[str, Any]) -> dict[str, Any]:
    uid = f"00000000-0000-4000-8000-{int.from_bytes(name.encode()[-6:]):012x}"
    metadata = {"name": name, "uid": uid, "generation": generation + 1}
    return {"apiVersion": "infra.virtrigaud.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}
