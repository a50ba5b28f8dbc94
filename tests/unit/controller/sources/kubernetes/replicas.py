"""Controllers that share a Lease, in virtual time, and what may befall the API meanwhile."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest
from kubernetes.aio import client

from controller.sources.kubernetes.lease import Lease, Terms
from tests.unit.controller.sources.kubernetes.lease_api import Connection, LeaseServer

DURATION = 15.0
RETRY = 2.0


async def hang() -> None:
    await asyncio.Event().wait()


async def refuse() -> None:
    raise aiohttp.ClientConnectionError("refused")


async def internal_error() -> None:
    raise client.ApiException(500, "Internal Server Error", body='{"code": 500}')


async def bad_gateway() -> None:
    raise client.ApiException(502, "Bad Gateway", body="<html></html>")


async def unreadable() -> None:
    raise ValueError("not JSON")


async def succeed() -> None:
    """A call that goes well."""


OUTAGES = [hang, refuse, internal_error, bad_gateway, unreadable]
in_every_outage = pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)


def now() -> float:
    return asyncio.get_running_loop().time()


class Replicas:
    """Controllers, each with the lease as it sees it, and the clock on the wall."""

    def __init__(self) -> None:
        self.server = LeaseServer()
        self.wall_offset = 1_900_000_000.0
        self.connections: dict[str, Connection] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def wall(self) -> float:
        return self.wall_offset + now()

    def lease(self, identity: str, seconds: float = DURATION) -> Lease:
        self.connections[identity] = self.server.connect()
        return Lease(self.connections[identity], Terms("lab", "vmpower", identity, timedelta(seconds=seconds)))

    async def leading(self, identity: str) -> tuple[Lease, "asyncio.Task[None]"]:
        """One that leads."""
        lease = self.lease(identity)
        return lease, self.keep(await lease.acquire())

    def standing_by(self, lease: Lease) -> "asyncio.Task[asyncio.Task[None]]":
        return asyncio.create_task(lease.acquire())

    def keep(self, task: "asyncio.Task[None]") -> "asyncio.Task[None]":
        self._tasks.append(task)
        return task

    async def kill(self, task: "asyncio.Task[None]") -> None:
        """It stops without a word."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks:
            await self.kill(task)
