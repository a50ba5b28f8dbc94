"""Probes of ports against real sockets on loopback; nothing here is in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from providers.core.adapter import VM, PowerState
from providers.core.errors import CommandFailed
from providers.core.inventory import Inventory
from providers.core.model import Kind, Operation, Request, TcpHook
from providers.core.run import Context, Run
from providers.core.settings import Settings
from providers.core.tcp_hook import connect
from tests.unit.providers.fakes import OneVM
from tests.unit.providers.world import EPOCH


class Door:
    """Something that listens, and what came over the connections that it took."""

    def __init__(self) -> None:
        self.port = 0
        self.came: list[bytes] = []
        self.ended = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.append(await reader.read())
        writer.close()
        self.ended.set()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    server = await asyncio.start_server(door.take, "127.0.0.1", 0)
    door.port = server.sockets[0].getsockname()[1]
    yield door
    server.close()
    await server.wait_closed()


async def probe(port: int, addresses: tuple[str, ...] = (), claimed: tuple[str, ...] = ()) -> None:
    """That of a VM with these addresses, and these that its guest claims."""
    adapter = OneVM(VM("1", "web", PowerState.ON, addresses=addresses, guest_addresses=claimed))
    inventory = Inventory(adapter)
    following = asyncio.create_task(inventory.run())
    await inventory.connected.wait()
    known = {"listen": "unix:///nowhere", "state_dir": Path("/nowhere"), "guest_networks": "127.0.0.0/8"}
    context = Context(adapter, inventory, None, Settings.model_validate(known))  # type: ignore[arg-type] # no journal
    request = Request(kind=Kind.POWER_ON, vm_id="1", vm_name="web")
    run = Run(Operation(id="op", request=request, create_time=EPOCH, timeout=timedelta(seconds=60)), context)
    try:
        await connect(run, TcpHook(port=port))
    finally:
        following.cancel()


async def test_a_port_that_takes_a_connection_is_ready_and_nothing_is_sent(door: Door) -> None:
    await probe(door.port, ("127.0.0.1",))
    await door.ended.wait()
    assert door.came == [b""]


async def test_another_address_is_tried_when_one_does_not_answer(door: Door) -> None:
    await probe(door.port, ("127.0.0.2", "127.0.0.1"))
    await door.ended.wait()


async def test_where_nothing_listens_that_is_told(door: Door) -> None:
    with pytest.raises(CommandFailed, match=f"Nothing takes a connection at port {door.port} of 127.0.0.2"):
        await probe(door.port, ("127.0.0.2",))


async def test_without_an_address_the_operator_is_named() -> None:
    with pytest.raises(CommandFailed, match="VMPOWER_GUEST_NETWORKS"):
        await probe(22)


async def test_a_guest_that_claims_the_provider_s_own_address_leads_nowhere(door: Door) -> None:
    with pytest.raises(CommandFailed, match="no address"):
        await probe(door.port, claimed=("127.0.0.1",))
    assert door.came == []
