import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from providers.core.errors import HypervisorUnavailable
from providers.core.inventory import Inventory
from providers.server.health import SERVICE, Health
from tests.unit.providers.fakes import OneVM

Status = health_pb2.HealthCheckResponse.ServingStatus


class Disk:
    """A journal on a disk that fills up and is freed."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.hangs, self.reaches = False, True
        self.on_failure: list[Callable[[str], None]] = []

    async def answers(self) -> bool:
        """A disk that refuses has answered; one that hangs has not."""
        if self.hangs:
            await asyncio.Event().wait()
        return self.reaches

    def tell(self, reason: str) -> None:
        self.failure = reason
        for listener in self.on_failure:
            listener(reason)


FULL = "database or disk is full"


def connected() -> Inventory:
    inventory = Inventory(OneVM())
    inventory.connected.set()
    return inventory


class Probe:
    """A server that has a Health, asked over its socket."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def check(self, service: str) -> str:
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=service))
        return Status.Name(answer.status)

    async def watch(self, service: str) -> AsyncIterator[str]:
        async for answer in self._stub.Watch(health_pb2.HealthCheckRequest(service=service)):
            yield Status.Name(answer.status)


@pytest.fixture
async def health() -> Health:
    return Health()


@pytest.fixture
async def probe(health: Health) -> AsyncIterator[Probe]:
    server = grpc.aio.server()
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Probe(health_pb2_grpc.HealthStub(channel))
    await server.stop(None)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_hypervisor_that_does_not_answer_is_not_serving(health: Health, probe: Probe, service: str) -> None:
    health.follow(Inventory(OneVM()), Disk())
    assert await probe.check(service) == "NOT_SERVING"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_hypervisor_that_answers_is_serving(health: Health, probe: Probe, service: str) -> None:
    health.follow(connected(), Disk())
    assert await probe.check(service) == "SERVING"


async def test_liveness_does_not_ask_for_the_hypervisor(health: Health, probe: Probe) -> None:
    health.follow(Inventory(OneVM()), Disk())
    assert await probe.check("liveness") == "SERVING"


async def test_a_hypervisor_that_comes_and_goes_is_told_as_it_happens(health: Health, probe: Probe) -> None:
    hypervisor = OneVM()
    inventory = Inventory(hypervisor)
    health.follow(inventory, Disk())
    told = probe.watch("")
    assert await anext(told) == "NOT_SERVING"
    following = asyncio.create_task(inventory.run())
    assert await anext(told) == "SERVING"
    hypervisor.news.put_nowait(HypervisorUnavailable("It is away."))
    assert await anext(told) == "NOT_SERVING"
    following.cancel()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_journal_that_cannot_be_written_is_not_serving(health: Health, probe: Probe, service: str) -> None:
    disk = Disk()
    health.follow(connected(), disk)
    told = probe.watch(service)
    assert await anext(told) == "SERVING"
    disk.tell(FULL)
    assert await anext(told) == "NOT_SERVING"
    disk.tell("")
    assert await anext(told) == "SERVING"


async def test_a_journal_that_could_not_be_written_from_the_start_is_not_serving(health: Health, probe: Probe) -> None:
    health.follow(connected(), Disk(FULL))
    assert await probe.check("") == "NOT_SERVING"


async def test_a_hypervisor_that_comes_back_does_not_make_up_for_a_journal(health: Health, probe: Probe) -> None:
    inventory, disk = Inventory(OneVM()), Disk()
    health.follow(inventory, disk)
    disk.tell(FULL)
    for listener in inventory.on_connection:
        listener(True)
    await asyncio.sleep(0)
    assert await probe.check("") == "NOT_SERVING"


async def test_a_process_whose_journal_cannot_be_written_lives(health: Health, probe: Probe) -> None:
    disk = Disk()
    health.follow(connected(), disk)
    disk.tell(FULL)
    await asyncio.sleep(0)
    assert await probe.check("liveness") == "SERVING"


async def test_why_the_journal_cannot_be_written_is_logged(health: Health) -> None:
    disk = Disk()
    health.follow(connected(), disk)
    with capture_logs() as logs:
        disk.tell(FULL)
        disk.tell("")
    assert [(line["log_level"], line.get("reason", "")) for line in logs] == [("error", FULL), ("info", "")]


async def test_nothing_lives_before_it_serves(probe: Probe) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await probe.check("liveness")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("hangs", "reaches"), [(True, True), (False, False)])
async def test_a_process_in_which_no_write_passes_does_not_live(
    health: Health, probe: Probe, monkeypatch: pytest.MonkeyPatch, hangs: bool, reaches: bool
) -> None:
    monkeypatch.setattr("providers.server.health.WRITE_WITHIN", 0.01)
    monkeypatch.setattr("providers.server.health.WRITE_EVERY", 0.01)
    disk = Disk()
    health.follow(connected(), disk)
    watching = asyncio.create_task(health.watch_life(disk))
    told = probe.watch("liveness")
    assert await anext(told) == "SERVING"
    disk.hangs, disk.reaches = hangs, reaches
    assert await anext(told) == "NOT_SERVING"
    disk.hangs, disk.reaches = False, True
    assert await anext(told) == "SERVING"
    watching.cancel()
