"""A source around a fake API and a fake lease, and what it yields."""

import asyncio
from typing import Any

import pytest
from structlog.typing import EventDict

from controller.models import VirtualMachine
from controller.source import Applied, Change, Decided, Deleted, Labelled, Rejected, Standby, Synced
from controller.sources.kubernetes import source as module
from controller.sources.kubernetes.lease import Terms
from controller.sources.kubernetes.source import KubernetesSource
from tests.unit.controller.sources.kubernetes.fakes import FakeApi


class FakeLease:
    """It is free, unless a test takes it."""

    def __init__(self) -> None:
        self.free, self.lost, self.another_led = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.free.set()
        self.acquired, self.released = 0, 0

    async def acquire(self) -> "asyncio.Task[bool]":
        await self.free.wait()
        self.acquired += 1
        self.lost.clear()
        return asyncio.create_task(self.lost.wait())

    async def release(self) -> None:
        self.released += 1


class FakeConnection:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Watched:
    """`start` watches; `told` is what came of it since the last look, in short."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api, self.lease = FakeApi(), FakeLease()
        self.connections: list[FakeConnection] = []
        self.namespaces: list[str] = []
        monkeypatch.setattr(module, "connect", self._connect)
        monkeypatch.setattr(module, "Api", self._make_api)
        monkeypatch.setattr(module, "Lease", lambda connection, terms: self.lease)
        self.source = KubernetesSource(None, "lab", Terms("vmpower", "vmpower", "controller-1"))
        self.changes: list[Change] = []
        self.task: asyncio.Task[None] | None = None

    async def _connect(self, kubeconfig: object) -> FakeConnection:
        self.connections.append(FakeConnection())
        return self.connections[-1]

    def _make_api(self, connection: object, namespace: str, group: str) -> FakeApi:
        self.namespaces.append(namespace)
        return self.api

    async def start(self, *objects: Any) -> None:
        """Watch an API that has these objects."""
        for found in objects:
            self.api.put(found)
        self.task = asyncio.create_task(self._follow())
        await self.settle()

    async def _follow(self) -> None:
        async for change in self.source.watch():
            self.changes.append(change)

    async def settle(self, seconds: float = 0.0) -> None:
        """Let happen what needs no more time than that, and a short pause."""
        await asyncio.sleep(seconds + 0.3)

    async def put(self, changed: Any) -> list[str]:
        """What comes of a change."""
        self.told()
        self.api.put(changed)
        await self.settle()
        return self.told()

    def told(self) -> list[str]:
        said = [_short(change) for change in self.changes]
        self.changes.clear()
        return said

    def applied(self) -> VirtualMachine:
        """The VM that was applied last."""
        found = [change.resource for change in self.changes if isinstance(change, Applied)][-1]
        assert isinstance(found, VirtualMachine)
        return found

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of each that people were told."""
        return [(event.type, event.reason) for _, event in self.api.events]

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.source.close()


def _short(change: Change) -> str:
    if isinstance(change, Synced | Standby):
        return type(change).__name__.lower()
    match change:
        case Applied(resource):
            leaving = " leaving" if resource.metadata.leaving else ""
            return f"applied {resource.metadata.name} {resource.metadata.generation}{leaving}"
        case Rejected(key, generation):
            return f"rejected {key.name} {generation}"
        case Deleted(key):
            return f"deleted {key.name}"
        case Decided(_, text, by):
            return f"decided {text} by {by}"
        case Labelled(namespace, labels):
            return f"labelled {namespace} {dict(labels)}"


def warnings(logs: list[EventDict]) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] == "warning"]
