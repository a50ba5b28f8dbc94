"""The declared providers, a connection to each, and the VMs that name them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from controller.client import Changed, ProviderClient
from controller.last_known import LastKnown
from controller.models import Provider, Runtime, VirtualMachine
from controller.source import Key, TlsSecret, key_of
from controller.trust import EVERYBODY, Trust

log = structlog.get_logger()

Connect = Callable[[Runtime, Changed], ProviderClient]
ReadTls = Callable[[str, str], Awaitable[TlsSecret]]
"""Reads a Secret by its namespace and name."""


@dataclass(slots=True)
class Connection:
    """A provider and the client that follows it."""

    provider: Provider
    client: ProviderClient
    task: asyncio.Task[None]


class Pool:
    """Finds the client of a VM, and queues VMs when their provider reports a change."""

    def __init__(
        self,
        connect: Connect,
        wake: Callable[[Key], None],
        wake_soon: Callable[[Key], None],
        *,
        trust: Trust = EVERYBODY,
        read_tls: ReadTls | None = None,
    ) -> None:
        self._connect, self._wake, self._wake_soon = connect, wake, wake_soon
        self._trust, self._read_tls = trust, read_tls
        self._connections: dict[Key, Connection] = {}
        self._dependents: defaultdict[Key, defaultdict[str, set[Key]]] = defaultdict(lambda: defaultdict(set))
        self._named: dict[Key, tuple[Key, str]] = {}
        self._certificates: dict[tuple[str, str], LastKnown[TlsSecret]] = {}

    def __len__(self) -> int:
        """How many providers are declared."""
        return len(self._connections)

    def unreachable(self) -> int:
        """How many of them do not answer, or their hypervisors do not."""
        return sum(connection.client.reachable is False for connection in self._connections.values())

    def get(self, key: Key) -> Connection | None:
        return self._connections.get(key)

    def connection_of(self, vm: Key) -> Connection | None:
        """That of a VM's provider, or None where no such provider is declared."""
        return self._connections.get(self._named[vm][0]) if vm in self._named else None

    async def apply(self, provider: Provider) -> None:
        """Connect to a provider, anew if its address or TLS changed."""
        key = key_of(provider)
        known = self._connections.get(key)
        if known and known.provider.spec.runtime == provider.spec.runtime:
            status = known.provider.status if known.provider.metadata.uid == provider.metadata.uid else provider.status
            changed = known.provider.spec.access != provider.spec.access
            known.provider = provider.model_copy(update={"status": status})
            if changed:
                self._tell(key, None)
            return
        await self.remove(key)
        client = self.open(provider, lambda names: self._tell(key, names))
        task = asyncio.create_task(client.run())
        task.add_done_callback(_tell_of_a_bug)
        self._connections[key] = Connection(provider, client, task)

    def open(self, provider: Provider, changed: Changed = lambda _: None) -> ProviderClient:
        """Another connection to a provider, which the caller closes."""
        client, tls = self._connect(provider.spec.runtime, changed), provider.spec.runtime.tls
        client.trusted = self._trust.covers(provider)
        if tls and tls.secret_ref and self._read_tls:
            namespace, name = provider.metadata.namespace, tls.secret_ref.name
            known = self._certificates.setdefault((namespace, name), LastKnown(f"Secret {namespace}/{name}"))
            client.read_tls = partial(known.read, partial(self._read_tls, namespace, name))
        return client

    def providers(self) -> list[Provider]:
        """Those that are declared."""
        return [connection.provider for connection in self._connections.values()]

    async def remove(self, key: Key) -> None:
        """Disconnect; its VMs are queued."""
        connection = self._connections.pop(key, None)
        if connection is not None:
            await _disconnect(connection)
            self._tell(key, None)

    async def close(self) -> None:
        """Follow none of them any more. What they are stays known: a plan may be begun by that while the lead is
        lost."""
        for connection in self._connections.values():
            await _disconnect(connection)

    def declare(self, key: Key, vm: VirtualMachine) -> None:
        """Note which provider and VM this resource names."""
        self.withdraw(key)
        reference = vm.spec.provider_ref
        provider = Key("Provider", reference.namespace or vm.metadata.namespace, reference.name)
        self._named[key] = (provider, vm.vm_name)
        self._dependents[provider][vm.vm_name].add(key)
        self._wake_soon(provider)

    def withdraw(self, key: Key) -> None:
        """This resource is gone. A provider that only waited for it need not wait longer."""
        if key in self._named:
            provider, name = self._named.pop(key)
            self._dependents[provider][name].discard(key)
            self.note_use(provider)

    def note_use(self, provider: Key) -> None:
        """How many resources use this provider may have changed."""
        known = self._connections.get(provider)
        leaving = known is not None and known.provider.metadata.leaving
        (self._wake if leaving else self._wake_soon)(provider)

    def declared(self, provider: Key) -> int:
        return sum(map(len, self._dependents[provider].values()))

    def _tell(self, provider: Key, names: set[str] | None) -> None:
        dependents = self._dependents[provider]
        if names is None:
            self._wake(provider)
        elif self._count_is_old(provider):
            self._wake_soon(provider)
        for name in dependents if names is None else names & dependents.keys():
            for key in dependents[name]:
                self._wake(key)

    def _count_is_old(self, provider: Key) -> bool:
        known = self._connections.get(provider)
        return known is not None and len(known.client.cache) != known.provider.status.vm_count


async def _disconnect(connection: Connection) -> None:
    connection.task.cancel()
    await asyncio.gather(connection.task, return_exceptions=True)
    await connection.client.close()


def _tell_of_a_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("a bug in vmpower; this provider is no longer followed", exc_info=task.exception())
